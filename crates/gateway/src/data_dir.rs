//! The directory that holds everything of one gateway: who may read it, who uses it.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A shared place such as /tmp is not taken over.
const WRITABLE_BY_OTHERS: u32 = 0o002;

/// The data directory, held by this process until it is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// The system releases the lock with the process, however it ends.
    _lock: File,
}

impl DataDir {
    /// Makes the directory (mode 0700) when it is missing, and takes it for this process.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data directory {shown}"))?;
        let mode = fs::metadata(path).map(|found| found.permissions().mode());
        if mode.with_context(|| format!("cannot read {shown}"))? & WRITABLE_BY_OTHERS != 0 {
            bail!("everybody may write in {shown}; give the gateway a directory of its own");
        }
        fs::set_permissions(path, Permissions::from_mode(0o700))
            .with_context(|| format!("cannot set the mode of {shown} to 0700"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .with_context(|| format!("cannot write in {shown}"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_path_buf(), _lock: lock }),
            Err(TryLockError::WouldBlock) => bail!(
                "another gateway uses {shown}; stop it, or give this one a directory of its own \
                 with --data"
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {shown}"))
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file of mode 0600 so that readers see the old or the new one, never half of it.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.file(name);
        let draft = self.file(&format!(".{name}.draft"));
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&draft)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// The file's content; None when it is missing.
    pub(crate) fn read(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let path = self.file(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    pub(crate) fn remove(&self, name: &str) {
        // Missing is what is wanted; a file that cannot be removed is told apart by its pid.
        let _ = fs::remove_file(self.file(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_gateways_cannot_use_the_same_directory() {
        let parent = tempfile::tempdir().expect("directory");
        let path = parent.path().join("data");
        let first = DataDir::open(&path).expect("free");
        let error = DataDir::open(&path).expect_err("taken");
        assert!(error.to_string().contains("another gateway"), "{error}");
        drop(first);
        DataDir::open(&path).expect("free again");
    }

    #[test]
    fn a_place_that_everybody_may_write_in_is_not_taken_over() {
        let parent = tempfile::tempdir().expect("directory");
        fs::set_permissions(parent.path(), Permissions::from_mode(0o1777)).expect("mode");
        let error = DataDir::open(parent.path()).expect_err("shared");
        assert!(error.to_string().contains("directory of its own"), "{error}");
        let mode = fs::metadata(parent.path()).expect("exists").permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777);
    }

    #[test]
    fn only_the_owner_may_read_what_is_written() {
        let parent = tempfile::tempdir().expect("directory");
        let path = parent.path().join("data");
        let directory = DataDir::open(&path).expect("free");
        directory.replace("admin.token", b"x").expect("written");
        let mode = |path: &Path| fs::metadata(path).expect("exists").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("admin.token")), 0o600);
        assert_eq!(directory.read("admin.token").expect("readable"), Some(b"x".to_vec()));
        assert_eq!(directory.read("absent").expect("readable"), None);
    }
}
