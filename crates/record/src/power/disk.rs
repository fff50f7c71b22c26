//! A disk whose power goes at a chosen call, and what is on it when the power comes back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::sink::{Disk, FileDisk, Sink};

const SECTOR_BYTES: usize = 512;

/// What of the bytes that no sync covered is on the disk when the power comes back.
#[derive(Debug, Clone, Copy)]
pub(super) enum Left {
    Nothing,
    Everything,
    /// As long as it was, but zeros.
    Zeros,
    /// Of the journal every second sector, from the first or from the second. Of a file that
    /// grows the first half, then zeros: others look like a change, and `verify` names them.
    Sectors(usize),
    /// The first half.
    Half,
}

pub(super) const ALL_LEFT: [Left; 6] =
    [Left::Nothing, Left::Everything, Left::Zeros, Left::Sectors(0), Left::Sectors(1), Left::Half];

/// A file as the kernel shows it, and as a sync left it on the disk (None: not even its name).
#[derive(Debug, Clone, Default)]
struct Image {
    shown: Vec<u8>,
    safe: Option<Vec<u8>>,
}

/// Real files, so that the record can read them, whose syncs are only noted.
#[derive(Clone, Default)]
pub(super) struct PowerDisk {
    world: Arc<Mutex<World>>,
}

#[derive(Default)]
pub(super) struct World {
    files: BTreeMap<PathBuf, Image>,
    pub(super) calls: u64,
    /// The call at which the power goes.
    off_at: Option<u64>,
    is_off: bool,
    /// Syncs of files with this in their names fail.
    pub(super) unsyncable: Option<&'static str>,
}

impl PowerDisk {
    pub(super) fn off_at(call: u64) -> Self {
        let disk = Self::default();
        disk.world().off_at = Some(call);
        disk
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("not poisoned")
    }

    pub(super) fn turn_off(&self) {
        self.world().is_off = true;
    }

    /// Knows the files below a folder as safe.
    pub(super) fn know(&self, folder: &Path) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                self.know(&path);
            } else {
                let bytes = fs::read(&path).expect("a file");
                let image = Image { shown: bytes.clone(), safe: Some(bytes) };
                self.world().files.insert(path, image);
            }
        }
    }

    /// Makes a folder as it is when the power comes back.
    pub(super) fn come_back(&self, from: &Path, to: &Path, left: Left) {
        let record = from.join("record");
        for name in ["record.key", "record.pub"] {
            fs::copy(from.join(name), to.join(name)).expect("copied");
        }
        let world = self.world();
        let of_record = world.files.iter().filter(|(path, _)| path.starts_with(&record));
        for (path, image) in of_record {
            let is_journal = path.file_name().is_some_and(|name| name == "journal");
            let Some(bytes) = image.come_back(left, is_journal) else { continue };
            let path = to.join(path.strip_prefix(from).expect("below"));
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, bytes).expect("written");
        }
    }
}

impl World {
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        self.is_off |= self.off_at.is_some_and(|off_at| self.calls >= off_at);
        if self.is_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }
}

impl Image {
    fn come_back(&self, left: Left, is_journal: bool) -> Option<Vec<u8>> {
        let safe = match (&self.safe, left) {
            (None, Left::Nothing) => return None,
            (safe, _) => safe.as_deref().unwrap_or_default(),
        };
        let half = safe.len() + self.shown.len().saturating_sub(safe.len()) / 2;
        let is_there = |sector: usize| match left {
            Left::Nothing | Left::Zeros => false,
            Left::Everything => true,
            Left::Sectors(first) if is_journal => sector % 2 == first,
            Left::Sectors(_) | Left::Half => sector * SECTOR_BYTES < half,
        };
        let mut bytes = safe.to_vec();
        bytes.resize(self.shown.len().max(safe.len()), 0);
        for (sector, shown) in self.shown.chunks(SECTOR_BYTES).enumerate() {
            if is_there(sector) {
                let start = sector * SECTOR_BYTES;
                bytes[start..start + shown.len()].copy_from_slice(shown);
            }
        }
        match left {
            Left::Nothing => bytes.truncate(safe.len()),
            Left::Half => bytes.truncate(half),
            Left::Everything | Left::Zeros | Left::Sectors(_) => {}
        }
        Some(bytes)
    }
}

struct PowerSink {
    path: PathBuf,
    disk: PowerDisk,
    file: Arc<dyn Sink>,
}

impl PowerSink {
    fn shown(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap_or_default()
    }
}

impl Disk for PowerDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Sink>> {
        self.world().call()?;
        let file = FileDisk.create(path)?;
        self.world().files.insert(path.to_owned(), Image::default());
        Ok(Arc::new(PowerSink { path: path.to_owned(), disk: self.clone(), file }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn Sink>> {
        self.world().call()?;
        let file = FileDisk.open(path)?;
        Ok(Arc::new(PowerSink { path: path.to_owned(), disk: self.clone(), file }))
    }
}

impl Sink for PowerSink {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut world = self.disk.world();
        let was_off = world.is_off;
        let result = world.call();
        // The power may go in the middle of a write.
        let count = if result.is_ok() { bytes.len() } else { bytes.len() / 2 };
        if !was_off {
            let _ = self.file.write_at(&bytes[..count], offset)?;
            world.files.entry(self.path.clone()).or_default().shown = self.shown();
        }
        result.map(|()| count)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        world.call()?;
        self.file.truncate(bytes)?;
        let image = world.files.entry(self.path.clone()).or_default();
        image.shown = self.shown();
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        world.call()?;
        let name = self.path.to_string_lossy().into_owned();
        if world.unsyncable.is_some_and(|part| name.contains(part)) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let image = world.files.entry(self.path.clone()).or_default();
        image.safe = Some(image.shown.clone());
        Ok(())
    }
}
