//! The files below a chain, small enough that a test can make each call fail.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One open file of the record.
pub trait Sink: Send + Sync {
    /// Writes some of `bytes` at `offset`; returns how many.
    ///
    /// # Errors
    /// The device's.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes the file `bytes` long.
    ///
    /// # Errors
    /// The device's.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// Returns when everything written so far survives a loss of power.
    ///
    /// # Errors
    /// The device's; what was written may be lost.
    fn sync(&self) -> io::Result<()>;
}

/// Makes and opens the files of the record.
pub trait Disk: Send + Sync {
    /// Makes a file that must not exist yet, and the folder that it is in.
    ///
    /// # Errors
    /// The device's.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Sink>>;

    /// Opens an existing file for writing.
    ///
    /// # Errors
    /// The device's.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Sink>>;
}

/// Real files, readable by the owner only.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileDisk;

impl Disk for FileDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Sink>> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = match options.open(path) {
            // The first session of a day.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_folder(folder)?;
                options.open(path)?
            }
            other => other?,
        };
        Ok(Arc::new(FileSink {
            file,
            folder: folder.to_owned(),
            is_named_durably: AtomicBool::new(false),
            is_doubtful: AtomicBool::new(false),
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn Sink>> {
        let file = OpenOptions::new().write(true).open(path)?;
        let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(Arc::new(FileSink {
            file,
            folder,
            is_named_durably: AtomicBool::new(true),
            is_doubtful: AtomicBool::new(false),
        }))
    }
}

/// Makes a folder of the record, readable by the owner only.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes all of `bytes` at `offset`.
///
/// # Errors
/// The device's; some of it may be written.
pub(crate) fn write_all(sink: &dyn Sink, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match sink.write_at(rest, offset + written as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

struct FileSink {
    file: File,
    folder: PathBuf,
    /// A file's name survives a loss of power only once its folder is synced.
    is_named_durably: AtomicBool,
    /// A sync failed. The kernel may have dropped what was written, and would say yes to another
    /// sync all the same; so this file never counts as synced again.
    is_doubtful: AtomicBool,
}

impl Sink for FileSink {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        if self.is_doubtful.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier sync of this file failed"));
        }
        let result = self.sync_now();
        if result.is_err() {
            self.is_doubtful.store(true, Ordering::Release);
        }
        result
    }
}

impl FileSink {
    fn sync_now(&self) -> io::Result<()> {
        self.file.sync_data()?;
        if !self.is_named_durably.load(Ordering::Acquire) {
            File::open(&self.folder)?.sync_all()?;
            if let Some(parent) = self.folder.parent() {
                File::open(parent)?.sync_all()?;
            }
            self.is_named_durably.store(true, Ordering::Release);
        }
        Ok(())
    }
}
