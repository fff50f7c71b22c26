//! The end of a chain that no sync covers yet, kept so that a journal can take a copy of it.

use corral_model::limits;

/// What stands at the end of a file and is not known to survive a loss of power.
pub(crate) enum Unsynced {
    /// Nobody asks: the file is synced itself, when it is.
    Uncounted,
    /// More than a journal takes, or the file itself was never synced.
    File,
    /// These entries, the last of the file.
    Entries(Vec<u8>),
    /// A sync failed: the kernel may have dropped anything, and nothing counts as synced again.
    Doubtful,
}

/// What has to be made durable for a file to be so.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// The file itself has to be synced.
    File,
    /// Whole entries, the last ones of the file, that begin at `offset`.
    Entries {
        offset: u64,
        bytes: Vec<u8>,
    },
    /// It cannot be.
    Never,
}

impl Unsynced {
    /// An entry was written.
    pub(crate) fn add(&mut self, entry: &[u8]) {
        let Self::Entries(bytes) = self else { return };
        if bytes.len() + entry.len() > limits::RECORD_JOURNAL_PIECE_BYTES_MAX {
            *self = Self::File;
        } else {
            bytes.extend_from_slice(entry);
        }
    }

    /// What is due for a file of `file_bytes` bytes. Whoever takes it makes it durable or calls
    /// [`Unsynced::doubt`].
    pub(crate) fn take(&mut self, file_bytes: u64) -> Due {
        match self {
            Self::Uncounted => Due::File,
            Self::Doubtful => Due::Never,
            Self::File => {
                *self = Self::Entries(Vec::new());
                Due::File
            }
            Self::Entries(bytes) if bytes.is_empty() => Due::Nothing,
            Self::Entries(bytes) => {
                let bytes = std::mem::take(bytes);
                Due::Entries { offset: file_bytes.saturating_sub(bytes.len() as u64), bytes }
            }
        }
    }

    pub(crate) fn doubt(&mut self) {
        *self = Self::Doubtful;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_due_once_and_too_many_are_a_files_own() {
        let mut unsynced = Unsynced::File;
        unsynced.add(b"the file's own sync has this");
        assert_eq!(unsynced.take(100), Due::File);
        assert_eq!(unsynced.take(100), Due::Nothing);
        unsynced.add(b"one");
        unsynced.add(b"two");
        assert_eq!(unsynced.take(106), Due::Entries { offset: 100, bytes: b"onetwo".to_vec() });
        assert_eq!(unsynced.take(106), Due::Nothing);

        let long = vec![0; limits::RECORD_JOURNAL_PIECE_BYTES_MAX];
        unsynced.add(&long);
        let offset = 106;
        let file_bytes = offset + long.len() as u64;
        assert_eq!(unsynced.take(file_bytes), Due::Entries { offset, bytes: long.clone() });
        unsynced.add(&long);
        unsynced.add(b"x");
        unsynced.add(b"y");
        assert_eq!(unsynced.take(file_bytes + 2), Due::File);

        unsynced.doubt();
        unsynced.add(b"z");
        assert_eq!(unsynced.take(file_bytes + 3), Due::Never);
    }
}
