//! A copy of a whole record that `verify` accepts, also of one that is being written.

use std::fs;
use std::io;
use std::path::Path;

use crate::format::{EntryKind, FileKind};
use crate::layout;
use crate::link::OpenedLink;
use crate::read::{ReadError, Reader};
use crate::scan::Entries;
use crate::sink::make_folder;

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bundled {
    pub files: u64,
    pub bytes: u64,
}

/// Copies a record into `to`, which must not exist: the gateway's chain first, then the sessions
/// that the copy names, each up to its last whole entry.
///
/// # Errors
/// [`ReadError`]: the record's files or `to` are to blame; what was copied so far stays.
pub fn bundle(reader: &Reader, to: &Path) -> Result<Bundled, ReadError> {
    if to.exists() {
        return Err(ReadError::io(to)(io::ErrorKind::AlreadyExists.into()));
    }
    make_folder(&layout::gateway_dir(to))
        .and_then(|()| make_folder(&layout::sessions_dir(to)))
        .map_err(ReadError::io(to))?;
    let mut bundled = Bundled::default();
    let mut sessions = Vec::new();
    for path in reader.segments()? {
        let name = path.file_name().unwrap_or_default();
        let copy = layout::gateway_dir(to).join(name);
        bundled.add(copy_whole_entries(&path, &copy, FileKind::Gateway, &mut |kind, payload| {
            if kind == EntryKind::SessionOpened
                && let Ok(link) = serde_json::from_slice::<OpenedLink>(payload)
                && layout::is_day(&link.day)
            {
                sessions.push(link);
            }
        })?);
    }
    for link in sessions {
        let from = layout::session_path(&reader.record_dir, &link.day, &link.session);
        if !from.exists() {
            // It never began, or `verify` will say that it is missing, as it should.
            continue;
        }
        let copy = layout::session_path(to, &link.day, &link.session);
        let folder = copy.parent().unwrap_or(to);
        make_folder(folder).map_err(ReadError::io(folder))?;
        bundled.add(copy_whole_entries(&from, &copy, FileKind::Session, &mut |_, _| {})?);
    }
    Ok(bundled)
}

impl Bundled {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// Copies a file up to its last whole entry; what is damaged is copied as it is.
fn copy_whole_entries(
    from: &Path,
    to: &Path,
    kind: FileKind,
    seen: &mut dyn FnMut(EntryKind, &[u8]),
) -> Result<u64, ReadError> {
    let mut bytes = fs::metadata(from).map_err(ReadError::io(from))?.len();
    if let Ok(mut entries) = Entries::open(from, kind).map_err(ReadError::io(from))? {
        loop {
            match entries.next() {
                Ok(Some(entry)) => seen(entry.kind, entry.payload),
                Ok(None) => {
                    bytes = entries.offset();
                    break;
                }
                Err(fault) => {
                    if fault.is_torn {
                        bytes = fault.offset;
                    }
                    break;
                }
            }
        }
    }
    copy_start(from, to, bytes).map_err(ReadError::io(to))
}

fn copy_start(from: &Path, to: &Path, bytes: u64) -> io::Result<u64> {
    let mut reader = io::Read::take(fs::File::open(from)?, bytes);
    let mut copy = fs::File::create_new(to)?;
    let copied = io::copy(&mut reader, &mut copy)?;
    copy.sync_all()?;
    Ok(copied)
}
