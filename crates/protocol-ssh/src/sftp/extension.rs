//! The extensions that are decided: all that a client is told of.

/// Name, and the version of it that is known, as a target's VERSION has them.
const KNOWN: [(&str, &str); 11] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("copy-data", "1"),
    ("home-directory", "1"),
    ("users-groups-by-id@openssh.com", "1"),
];

/// Only this name's servers are known to take a symbolic link's content first.
const POSIX_RENAME: &str = "posix-rename@openssh.com";

/// What the target has of [`KNOWN`].
#[derive(Debug, Default)]
pub(crate) struct Extensions {
    offered: Vec<(&'static str, &'static str)>,
}

impl Extensions {
    /// Those of a target's VERSION that are known, in their own order.
    pub(crate) fn of(offered: &[(&[u8], &[u8])]) -> Self {
        let is_offered = |(name, version): &(&str, &str)| {
            offered.contains(&(name.as_bytes(), version.as_bytes()))
        };
        Self { offered: KNOWN.into_iter().filter(is_offered).collect() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.offered.iter().copied()
    }

    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.iter().any(|(offered, _)| offered.as_bytes() == name)
    }

    /// Whether SYMLINK's fields are in OpenSSH's order for certain.
    pub(crate) fn is_openssh(&self) -> bool {
        self.has(POSIX_RENAME.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_hears_of_known_extensions_in_known_versions() {
        let offered: [(&[u8], &[u8]); 4] = [
            (b"newline", b"\n"),
            (b"posix-rename@openssh.com", b"1"),
            (b"statvfs@openssh.com", b"3"),
            (b"copy-data", b"1"),
        ];
        let extensions = Extensions::of(&offered);
        let names: Vec<&str> = extensions.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["posix-rename@openssh.com", "copy-data"]);
        assert!(extensions.is_openssh());
        assert!(!Extensions::of(&[]).is_openssh());
    }
}
