//! A directory of a client's own files: private, gone with the process that made it, or kept.
//!
//! Its path needs no quoting in any format, and is short enough for a socket's name.

use std::fs::{self, DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use corral_model::native::FileKind;

use crate::failure::Failure;

/// Longest path of a directory with a socket, in bytes: the socket's whole name may have 107
/// (`sun_path`).
const SOCKET_DIR_BYTES_MAX: usize = 80;
/// Held as long as the directory's process lives.
const LOCK: &str = "lock";
const OF_PROCESS: &str = "run-";

/// The directory.
#[derive(Debug)]
pub(crate) struct ClientDir {
    path: PathBuf,
    life: Life,
}

#[derive(Debug)]
enum Life {
    /// Removed when this is dropped. When the process was killed, the next one that makes such a
    /// directory finds that nobody holds the lock, and removes it.
    Process(#[expect(dead_code, reason = "the lock is held by keeping the file open")] File),
    Kept,
}

impl ClientDir {
    /// A directory for this process.
    ///
    /// # Errors
    /// When no place is fit for one.
    pub(crate) fn of_process() -> Result<Self, Failure> {
        Self::of_process_in(&bases(None))
    }

    fn of_process_in(bases: &[PathBuf]) -> Result<Self, Failure> {
        let started = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map(|since| since.as_nanos())
            .unwrap_or_default();
        let name = format!("{OF_PROCESS}{}-{started:x}", std::process::id());
        let has_room = |base: &PathBuf| base.as_os_str().len() + name.len() < SOCKET_DIR_BYTES_MAX;
        let bases: Vec<PathBuf> = bases.iter().filter(|base| has_room(base)).cloned().collect();
        let base = usable(&bases)?;
        sweep(&base);
        let path = base.join(&name);
        let fail = |error: std::io::Error| Failure::io("make the directory", &path, &error);
        // Locked before it has its name: under that, a sweep would take it for a dead one's.
        let draft = base.join(format!("draft-{name}"));
        DirBuilder::new().mode(0o700).create(&draft).map_err(fail)?;
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let lock = options.open(draft.join(LOCK)).map_err(fail)?;
        lock.lock().map_err(fail)?;
        fs::rename(&draft, &path).map_err(fail)?;
        Ok(Self { path, life: Life::Process(lock) })
    }

    /// A directory that stays, by a name of its own. Files of an earlier one are replaced.
    ///
    /// # Errors
    /// When no place is fit for one.
    pub(crate) fn kept(name: &str, config: Option<PathBuf>) -> Result<Self, Failure> {
        let path = usable(&bases(config))?.join(name);
        private(&path).map_err(|error| Failure::io("make the directory", &path, &error))?;
        Ok(Self { path, life: Life::Kept })
    }

    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path as text; it was chosen to be one.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        self.path.display().to_string()
    }

    /// Where programs are.
    #[must_use]
    pub(crate) fn programs(&self) -> PathBuf {
        self.path.join("bin")
    }

    /// Writes a file, replacing an earlier one at once.
    ///
    /// # Errors
    /// When its name leads elsewhere, or it cannot be written.
    pub(crate) fn write(&self, name: &str, kind: FileKind, text: &str) -> Result<(), Failure> {
        let path = self.file(name)?;
        let fail = |error: std::io::Error| Failure::io("write", &path, &error);
        let mode = match kind {
            FileKind::Text => 0o600,
            FileKind::Program => 0o700,
        };
        let draft = path.with_extension("draft");
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&draft)
            .map_err(fail)?;
        file.write_all(text.as_bytes()).map_err(fail)?;
        drop(file);
        fs::rename(&draft, &path).map_err(fail)
    }

    /// Puts a program of this machine among the directory's own.
    ///
    /// # Errors
    /// When it cannot be linked to.
    pub(crate) fn link_program(&self, name: &str, program: &Path) -> Result<(), Failure> {
        let path = self.file(&format!("bin/{name}"))?;
        let fail = |error: std::io::Error| Failure::io("link", &path, &error);
        let draft = path.with_extension("draft");
        let _ = fs::remove_file(&draft);
        std::os::unix::fs::symlink(program, &draft).map_err(fail)?;
        fs::rename(&draft, &path).map_err(fail)
    }

    /// The path of a socket. Its name may begin with a dot, as some clients have it.
    ///
    /// # Errors
    /// When its name leads elsewhere.
    pub(crate) fn socket(&self, name: &str) -> Result<PathBuf, Failure> {
        let bare = name.strip_prefix('.').unwrap_or(name);
        self.file(bare)?;
        if bare.contains('/') {
            let text = format!("the gateway names a socket '{name}', which is no name for one");
            return Err(Failure::failed(text));
        }
        Ok(self.path.join(name))
    }

    fn file(&self, name: &str) -> Result<PathBuf, Failure> {
        let below = name.strip_prefix("bin/").unwrap_or(name);
        let is_own = is_plain(below) && !below.contains('/') && !below.starts_with('.');
        if !is_own || below == LOCK {
            let text = format!("the gateway names a file '{name}', which is no name for one");
            return Err(Failure::failed(text));
        }
        if below != name {
            let programs = self.programs();
            private(&programs)
                .map_err(|error| Failure::io("make the directory", &programs, &error))?;
        }
        Ok(self.path.join(name))
    }
}

impl Drop for ClientDir {
    fn drop(&mut self) {
        match self.life {
            // What cannot be removed holds no secret, and is swept by a later process.
            Life::Process(_) => drop(fs::remove_dir_all(&self.path)),
            Life::Kept => {}
        }
    }
}

/// Where such directories may be, the best first.
fn bases(config: Option<PathBuf>) -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let shared = format!("corral-{}", rustix::process::getuid().as_raw());
    runtime
        .map(|dir| dir.join("corral"))
        .into_iter()
        .chain(config)
        .chain([std::env::temp_dir(), PathBuf::from("/tmp")].map(|dir| dir.join(&shared)))
        .collect()
}

/// The first base that is ours alone (made where it is missing) and needs no quoting.
fn usable(bases: &[PathBuf]) -> Result<PathBuf, Failure> {
    let is_fit = |base: &&PathBuf| {
        base.is_absolute() && is_plain(&base.to_string_lossy()) && private(base).is_ok()
    };
    bases.iter().find(is_fit).cloned().ok_or_else(|| {
        let texts: Vec<String> = bases.iter().map(|base| base.display().to_string()).collect();
        Failure::failed(format!(
            "there is no place for the clients' files; tried {}",
            texts.join(", ")
        ))
        .with_hint("set XDG_RUNTIME_DIR to a short path of yours that nobody else can write to")
    })
}

/// Makes a directory for its owner alone, or finds that it is one.
fn private(path: &Path) -> std::io::Result<()> {
    match DirBuilder::new().recursive(false).mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    // Not followed: somebody else's link in a shared directory would lead elsewhere.
    let found = fs::symlink_metadata(path)?;
    let is_own = found.is_dir() && found.uid() == rustix::process::getuid().as_raw();
    if !is_own || found.mode() & 0o077 != 0 {
        return Err(std::io::Error::other("others may write there"));
    }
    Ok(())
}

/// Only what no format has to quote.
fn is_plain(text: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    !text.is_empty() && text.chars().all(is_fine)
}

/// Removes the directories of processes that were killed.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_of_process = entry.file_name().to_string_lossy().starts_with(OF_PROCESS);
        let lock = is_of_process.then(|| File::open(path.join(LOCK)));
        let is_dead = lock.is_some_and(|lock| lock.is_ok_and(|lock| lock.try_lock().is_ok()));
        if is_dead {
            // Two may sweep at once; the second finds nothing.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("is there").permissions().mode() & 0o777
    }

    #[test]
    fn files_are_their_owners_alone_and_go_with_the_process() {
        let base = tempfile::tempdir_in("/tmp").expect("a directory");
        let dir = ClientDir::of_process_in(&[base.path().join("c")]).expect("is made");
        dir.write("config", FileKind::Text, "a").expect("is written");
        dir.write("config", FileKind::Text, "b").expect("is replaced");
        dir.write("bin/tool", FileKind::Program, "#!/bin/sh\n").expect("is written");
        dir.link_program("corral", Path::new("/bin/true")).expect("is linked");
        let path = dir.path().to_owned();
        assert_eq!(fs::read_to_string(path.join("config")).expect("is read"), "b");
        let modes = ["", "config", "bin", "bin/tool"].map(|name| mode(&path.join(name)));
        assert_eq!(modes, [0o700, 0o600, 0o700, 0o700]);
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        let base = tempfile::tempdir_in("/tmp").expect("a directory");
        let dir = ClientDir::of_process_in(&[base.path().join("c")]).expect("is made");
        for name in ["../x", "/x", "a/b", "bin/../x", ".x", "", "bin/", "a b", "lock"] {
            assert!(dir.write(name, FileKind::Text, "").is_err(), "{name}");
        }
        for name in ["../x", "..", ".", ".lock", "lock", "bin/x", ".bin/x", "..x", "a/b", ""] {
            assert!(dir.socket(name).is_err(), "{name}");
        }
        assert_eq!(dir.socket(".s.1").expect("a socket"), dir.path().join(".s.1"));
    }

    #[test]
    fn the_directory_of_a_killed_process_is_swept_and_a_live_ones_is_not() {
        let base = tempfile::tempdir_in("/tmp").expect("a directory");
        let bases = [base.path().join("c")];
        let alive = ClientDir::of_process_in(&bases).expect("is made");
        let dead = bases[0].join("run-1-dead");
        fs::create_dir(&dead).expect("is made");
        fs::write(dead.join(LOCK), "").expect("is written");
        let next = ClientDir::of_process_in(&bases).expect("is made");
        assert!(!dead.exists());
        assert!(alive.path().exists() && next.path().exists());
    }

    #[test]
    fn a_place_that_is_not_ours_alone_is_not_used() {
        let base = tempfile::tempdir_in("/tmp").expect("a directory");
        let check = |place: &Path| ClientDir::of_process_in(&[place.to_owned()]).is_ok();
        let open = base.path().join("open");
        fs::create_dir(&open).expect("is made");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).expect("is changed");
        assert!(!check(&open), "others may look into it");
        let link = base.path().join("link");
        std::os::unix::fs::symlink(base.path(), &link).expect("is linked");
        assert!(!check(&link), "a link may lead anywhere");
        assert!(!check(&base.path().join("a b")), "it would have to be quoted");
        assert!(!check(&base.path().join("x".repeat(90))), "no socket fits into it");
        assert!(check(&base.path().join("fine")));
    }
}
