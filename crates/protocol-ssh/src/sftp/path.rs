//! Paths as they are decided and as they are sent: absolute, and without `.`, `..` and `//`.
//!
//! What is decided is what runs, because the target gets this form and not the client's. Symbolic
//! links are the target's business: no gateway can know where they lead when the target acts.

use crate::sftp::bounds;

/// Why a path cannot be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("the path is not UTF-8")]
    NotUtf8,
    #[error("the path has a NUL")]
    HasNul,
    #[error("the path is longer than {} bytes", bounds::PATH_BYTES_MAX)]
    TooLong,
    #[error("the path has more than {} directories", bounds::PATH_DEPTH_MAX)]
    TooDeep,
}

/// An absolute path in its only form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AbsolutePath(String);

impl AbsolutePath {
    pub(crate) fn root() -> Self {
        Self("/".to_owned())
    }

    /// What a client's path means that is relative to `self`, by its letters alone: `..` above the
    /// root is the root, an empty path is `self`.
    ///
    /// # Errors
    /// The client is to blame.
    pub(crate) fn join(&self, path: &[u8]) -> Result<Self, PathError> {
        if path.len() > bounds::PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        if path.contains(&0) {
            return Err(PathError::HasNul);
        }
        let path = std::str::from_utf8(path).map_err(|_| PathError::NotUtf8)?;
        let base = if path.starts_with('/') { "" } else { self.as_str() };
        let mut names: Vec<&str> = Vec::new();
        for name in base.split('/').chain(path.split('/')) {
            match name {
                "" | "." => {}
                ".." => {
                    names.pop();
                }
                name => names.push(name),
            }
        }
        if names.len() > bounds::PATH_DEPTH_MAX {
            return Err(PathError::TooDeep);
        }
        let joined = format!("/{}", names.join("/"));
        match joined.len() <= bounds::PATH_BYTES_MAX {
            true => Ok(Self(joined)),
            false => Err(PathError::TooLong),
        }
    }

    /// The directory that holds it; the root's is the root.
    pub(crate) fn parent(&self) -> Self {
        match self.0.rsplit_once('/') {
            Some(("", _)) | None => Self::root(),
            Some((parent, _)) => Self(parent.to_owned()),
        }
    }

    /// Whether it is `other` or lies in it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        match self.0.strip_prefix(other.0.trim_end_matches('/')) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// A path for a statement's text: as it is where that cannot be misread, else quoted.
pub(crate) fn quoted(path: &str) -> String {
    let quoted = format!("{path:?}");
    let is_escaped = quoted.len() != path.len() + 2;
    if is_escaped || path.is_empty() || path.contains([' ', '\'']) {
        quoted
    } else {
        path.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn home() -> AbsolutePath {
        AbsolutePath::root().join(b"/home/ada").expect("a path")
    }

    #[test]
    fn paths_become_absolute_by_their_letters() {
        let check = |path: &str, expect: &str| {
            assert_eq!(home().join(path.as_bytes()).expect("a path").as_str(), expect, "{path}");
        };
        check("", "/home/ada");
        check(".", "/home/ada");
        check("a.txt", "/home/ada/a.txt");
        check("./a//b/", "/home/ada/a/b");
        check("../bob/x", "/home/bob/x");
        check("../../../../etc/passwd", "/etc/passwd");
        check("/", "/");
        check("//", "/");
        check("/..", "/");
        check("/srv/./a/../b", "/srv/b");
        check("/srv/...", "/srv/...");
        check("/srv/..a", "/srv/..a");
        check("~/x", "/home/ada/~/x");
        check("/srv/a b\n", "/srv/a b\n");
        check("%2e%2e/x", "/home/ada/%2e%2e/x");
    }

    #[test]
    fn what_cannot_be_decided_is_refused() {
        let check = |path: &[u8], expect: PathError| {
            assert_eq!(home().join(path).expect_err("refused"), expect);
        };
        check(b"/a\0b", PathError::HasNul);
        check(b"/a\xff", PathError::NotUtf8);
        check(b"/\xc0\xae\xc0\xae/x", PathError::NotUtf8);
        check(&[b'a'; 4097], PathError::TooLong);
        check(&[b'a'; 4090], PathError::TooLong);
        check("/a".repeat(65).as_bytes(), PathError::TooDeep);
        assert!(home().join("/a".repeat(64).as_bytes()).is_ok());
        assert!(home().join("/a/..".repeat(800).as_bytes()).is_ok());
    }

    #[test]
    fn a_path_lies_in_itself_and_in_what_is_above_it() {
        let path = |text: &str| AbsolutePath::root().join(text.as_bytes()).expect("a path");
        assert!(path("/srv").is_within(&path("/srv")));
        assert!(path("/srv/a").is_within(&path("/srv")));
        assert!(path("/srv/a").is_within(&path("/")));
        assert!(!path("/srv2").is_within(&path("/srv")));
        assert!(!path("/srv").is_within(&path("/srv/a")));
        assert_eq!(path("/srv/a").parent(), path("/srv"));
        assert_eq!(path("/srv").parent(), path("/"));
        assert_eq!(path("/").parent(), path("/"));
    }

    #[test]
    fn a_text_cannot_be_misread() {
        assert_eq!(quoted("/srv/a.txt"), "/srv/a.txt");
        assert_eq!(quoted("/srv/a b"), "\"/srv/a b\"");
        assert_eq!(quoted("/srv/a\nremove"), "\"/srv/a\\nremove\"");
        assert_eq!(quoted("/srv/\"x"), "\"/srv/\\\"x\"");
        assert_eq!(quoted("/srv/\u{202e}txt"), "\"/srv/\\u{202e}txt\"");
        assert_eq!(quoted(""), "\"\"");
    }

    proptest! {
        #[test]
        fn normal_paths_stay_and_have_no_way_up(
            path in prop_oneof![
                "[a./~ \\\\-]{0,40}",
                "(\\.\\.?/|/|[a-c]{1,3}/?|\\PC){0,12}",
            ]
        ) {
            let Ok(joined) = home().join(path.as_bytes()) else { return Ok(()) };
            let text = joined.as_str();
            prop_assert!(text.starts_with('/'));
            prop_assert!(text == "/" || !text.ends_with('/'));
            prop_assert!(text == "/" || text[1..].split('/').all(|name| !["", ".", ".."].contains(&name)));
            prop_assert_eq!(&AbsolutePath::root().join(joined.as_bytes()).expect("normal"), &joined);
            prop_assert_eq!(&home().join(joined.as_bytes()).expect("normal"), &joined);
        }

        #[test]
        fn it_leads_where_a_naive_walk_leads(names in prop::collection::vec("\\.{0,3}|[ab]", 0..12)) {
            let path = names.join("/");
            let mut walked: Vec<&str> = match path.starts_with('/') {
                true => vec![],
                false => vec!["home", "ada"],
            };
            for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
                match name {
                    ".." => { walked.pop(); }
                    name => walked.push(name),
                }
            }
            let expect = format!("/{}", walked.join("/"));
            let joined = home().join(path.as_bytes()).expect("a path");
            prop_assert_eq!(joined.as_str(), expect);
        }
    }
}
