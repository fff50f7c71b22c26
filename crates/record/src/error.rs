//! What can go wrong with the record as a whole.

use std::io;
use std::path::{Path, PathBuf};

use crate::key::KeyError;

/// Why the record cannot be opened or written. Always the gateway's side: its disk, its files.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("cannot {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is in use by another process; one gateway writes one record", path.display())]
    InUse { path: PathBuf },
    /// The gateway's own chain was changed or lost. It is not continued, so that the evidence
    /// stays as it is; the folder has to be moved away by a person.
    #[error(
        "the record is damaged: {} at byte {offset}: {what}; keep a copy, run `corral audit \
         verify`, and move the folder away to start another record",
        path.display()
    )]
    Damaged { path: PathBuf, offset: u64, what: String },
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("{max} sessions are open in the record; no more can be opened")]
    TooManySessions { max: usize },
    #[error("an entry cannot be written")]
    Append(#[source] io::Error),
    #[error("the system gives no random bytes")]
    Random,
    #[error("cannot start a thread of the record")]
    Thread(#[source] io::Error),
}

impl RecordError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}
