//! Where the files of a record are.
//!
//! ```text
//! DIR/record.key                            signs checkpoints (0600)
//! DIR/record.pub                            its public half
//! DIR/record/gateway/000001.rec …           segments of the gateway's chain
//! DIR/record/sessions/2026-11-23/ID.rec     one file for each session, by the day it began (UTC)
//! DIR/record/journal                        copies of entries that no sync of their file covers yet
//! DIR/record/cut/NAME.OFFSET                torn ends that a start cut off, kept as they were
//! DIR/record/lock                           held by the gateway that writes
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use corral_model::ids::SessionId;
use time::{OffsetDateTime, UtcOffset};

pub(crate) fn gateway_dir(record_dir: &Path) -> PathBuf {
    record_dir.join("gateway")
}

pub(crate) fn segment_path(record_dir: &Path, number: u64) -> PathBuf {
    gateway_dir(record_dir).join(format!("{number:06}.rec"))
}

pub(crate) fn sessions_dir(record_dir: &Path) -> PathBuf {
    record_dir.join("sessions")
}

pub(crate) fn session_path(record_dir: &Path, day: &str, session: &SessionId) -> PathBuf {
    sessions_dir(record_dir).join(day).join(format!("{session}.rec"))
}

pub(crate) fn journal_path(record_dir: &Path) -> PathBuf {
    record_dir.join("journal")
}

pub(crate) fn cut_dir(record_dir: &Path) -> PathBuf {
    record_dir.join("cut")
}

/// The folder's name for a time: `2026-11-23`, in UTC.
pub(crate) fn day_of(at: OffsetDateTime) -> String {
    let date = at.to_offset(UtcOffset::UTC).date();
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

/// Whether a text from a file may be used as a day's folder.
pub(crate) fn is_day(text: &str) -> bool {
    let is_shape = |(index, byte): (usize, u8)| match index {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    text.len() == 10 && text.bytes().enumerate().all(is_shape)
}

/// Numbers of the segments that exist, in order.
///
/// # Errors
/// The device's.
pub(crate) fn segments(record_dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for name in names_in(&gateway_dir(record_dir))? {
        let number = name.strip_suffix(".rec").and_then(|digits| digits.parse().ok());
        if let Some(number) = number {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The days that have a folder, in order.
///
/// # Errors
/// The device's.
pub(crate) fn days(record_dir: &Path) -> io::Result<Vec<String>> {
    let mut days = names_in(&sessions_dir(record_dir))?;
    days.retain(|name| is_day(name));
    Ok(days)
}

/// The sessions that have a file in a day's folder, in order.
///
/// # Errors
/// The device's.
pub(crate) fn sessions_of_day(record_dir: &Path, day: &str) -> io::Result<Vec<SessionId>> {
    let names = names_in(&sessions_dir(record_dir).join(day))?;
    let ids = names.iter().filter_map(|name| name.strip_suffix(".rec"));
    Ok(ids.filter_map(|id| SessionId::new(id).ok()).collect())
}

/// Names in a folder, sorted; none when it does not exist.
pub(crate) fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}
