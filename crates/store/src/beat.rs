//! Whether the store still is the store: it reads, it writes, and it is the file that was opened.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Doing, StoreError};
use crate::store::Store;

/// The file that was opened, so that another one in its place is noticed: SQLite goes on with a
/// file that was removed.
#[derive(Debug)]
pub(crate) struct StoreFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl StoreFile {
    pub(crate) fn at(path: &Path) -> Result<Self, StoreError> {
        let found = fs::metadata(path).map_err(|source| failed(path, source))?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    fn check(&self) -> Result<(), StoreError> {
        let found = fs::metadata(&self.path).map_err(|source| failed(&self.path, source))?;
        if (found.dev(), found.ino()) == (self.device, self.inode) {
            return Ok(());
        }
        let replaced = io::Error::other("another file stands in its place");
        Err(failed(&self.path, replaced))
    }
}

fn failed(path: &Path, source: io::Error) -> StoreError {
    StoreError::File { path: path.to_owned(), doing: "find the store that was opened", source }
}

impl Store {
    /// Writes a value and reads it back, over the connection that writes and over one that reads.
    ///
    /// # Errors
    /// [`StoreError::Database`] and [`StoreError::File`]: then nothing that this gateway believes
    /// may be taken for what holds.
    ///
    /// # Cancel safety
    /// Cancelled, it was written or not; nothing else depends on it.
    pub async fn beat(&self) -> Result<(), StoreError> {
        self.file.check()?;
        let written: i64 = sqlx::query_scalar(
            "INSERT INTO meta (name, value) VALUES ('beat', '1')
             ON CONFLICT (name) DO UPDATE
                 SET value = CAST(CAST(meta.value AS BIGINT) + 1 AS TEXT)
             RETURNING CAST(value AS BIGINT)",
        )
        .fetch_one(&self.write)
        .await
        .doing("be written")?;
        let read: i64 =
            sqlx::query_scalar("SELECT CAST(value AS BIGINT) FROM meta WHERE name = 'beat'")
                .fetch_one(&self.read)
                .await
                .doing("be read")?;
        if read < written {
            return Err(StoreError::corrupt("what was written is not there"));
        }
        Ok(())
    }
}
