//! Reading events back. It trusts nothing but lengths and hashes; whether anything is missing is
//! [`crate::verify()`]'s to say.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use corral_model::Event;
use corral_model::event::{EventBody, Origin};
use corral_model::ids::{RunId, SessionId};
use corral_model::limits;

use crate::format::{EntryKind, FileKind};
use crate::layout;
use crate::link::peek_checkpoint;
use crate::render::stream::len_of;
use crate::scan::Entries;

/// What an event takes beside its content: names, ids, a text of usual length.
const EVENT_BYTES: u64 = 1024;

/// Why events cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} at byte {offset}, entry {seq}: {what}", path.display())]
    Bad { path: PathBuf, offset: u64, seq: u64, what: String },
    #[error("more than {max} events; ask for a part of them")]
    TooMany { max: usize },
    #[error("more than {max} bytes of events; ask for a part of them")]
    TooLarge { max: u64 },
    #[error("cannot write")]
    Write(#[source] io::Error),
}

impl ReadError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Reads a record, also while it is written. Blocks on the disk.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(crate) record_dir: PathBuf,
}

impl Reader {
    /// A reader of the folder `record` (see [`crate::Recorder::record_dir`]).
    #[must_use]
    pub fn new(record_dir: impl Into<PathBuf>) -> Self {
        Self { record_dir: record_dir.into() }
    }

    /// The events of one session in order; None when there is no such recording.
    ///
    /// # Errors
    /// [`ReadError`]: the record's files are to blame.
    pub fn session(&self, session: &SessionId) -> Result<Option<Events>, ReadError> {
        for day in self.days()?.iter().rev() {
            let path = layout::session_path(&self.record_dir, day, session);
            match Events::open(&path, FileKind::Session) {
                Ok(events) => return Ok(Some(events)),
                Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// This run and every run below it, as far as the gateway's chain tells.
    ///
    /// # Errors
    /// [`ReadError`]: the record's files are to blame.
    pub fn runs_below(&self, run: &RunId) -> Result<BTreeSet<RunId>, ReadError> {
        let mut runs = BTreeSet::from([run.clone()]);
        for path in self.segments()? {
            for event in Events::open(&path, FileKind::Gateway)? {
                let event = event?;
                // A child starts after its parent.
                if let EventBody::RunStarted { parent: Some(parent), .. } = &event.body
                    && runs.contains(parent)
                    && let Some(child) = event.origin.run
                {
                    runs.insert(child);
                }
            }
        }
        Ok(runs)
    }

    pub(crate) fn days(&self) -> Result<Vec<String>, ReadError> {
        layout::days(&self.record_dir)
            .map_err(ReadError::io(&layout::sessions_dir(&self.record_dir)))
    }

    pub(crate) fn segments(&self) -> Result<Vec<PathBuf>, ReadError> {
        let numbers = layout::segments(&self.record_dir)
            .map_err(ReadError::io(&layout::gateway_dir(&self.record_dir)))?;
        Ok(numbers.iter().map(|number| layout::segment_path(&self.record_dir, *number)).collect())
    }
}

/// The events of one file in order. After an error there are no more.
pub struct Events {
    path: PathBuf,
    /// None after the end or an error.
    entries: Option<Entries>,
}

impl Events {
    pub(crate) fn open(path: &Path, kind: FileKind) -> Result<Self, ReadError> {
        let opened = Entries::open(path, kind).map_err(ReadError::io(path))?;
        match opened {
            Ok(entries) => Ok(Self { path: path.to_owned(), entries: Some(entries) }),
            // It is being made.
            Err(fault) if fault.is_torn => Ok(Self { path: path.to_owned(), entries: None }),
            Err(fault) => Err(ReadError::Bad {
                path: path.to_owned(),
                offset: fault.offset,
                seq: fault.seq,
                what: fault.what,
            }),
        }
    }

    fn step(&mut self) -> Result<Option<Event>, ReadError> {
        let Some(entries) = &mut self.entries else { return Ok(None) };
        loop {
            let offset = entries.offset();
            let bad = |seq, what| ReadError::Bad { path: self.path.clone(), offset, seq, what };
            match entries.next() {
                Ok(None) => return Ok(None),
                // It is being written, or a crash left it.
                Err(fault) if fault.is_torn => return Ok(None),
                Err(fault) => return Err(bad(fault.seq, fault.what)),
                Ok(Some(entry)) => {
                    let event = match entry.kind {
                        EntryKind::SessionOpened | EntryKind::SessionClosed => continue,
                        EntryKind::Event => {
                            serde_json::from_slice(entry.payload).map_err(|error| error.to_string())
                        }
                        EntryKind::Checkpoint => checkpoint_event(entry.seq, entry.payload),
                        EntryKind::Round => Err("a round of the journal".to_owned()),
                    };
                    return match event {
                        Ok(event) => Ok(Some(event)),
                        Err(what) => Err(bad(entry.seq, what)),
                    };
                }
            }
        }
    }
}

impl Iterator for Events {
    type Item = Result<Event, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.step() {
            Ok(Some(event)) => Some(Ok(event)),
            Ok(None) => {
                self.entries = None;
                None
            }
            Err(error) => {
                self.entries = None;
                Some(Err(error))
            }
        }
    }
}

/// A checkpoint is shown as the event that followers saw when it was made.
fn checkpoint_event(seq: u64, payload: &[u8]) -> Result<Event, String> {
    let checkpoint =
        peek_checkpoint(payload).ok_or_else(|| "the checkpoint cannot be read".to_owned())?;
    let entries = seq.saturating_sub(1);
    let sessions = checkpoint.sessions.len() as u64;
    Ok(Event {
        seq,
        id: format!("{}:{seq}", checkpoint.chain),
        time: checkpoint.time,
        gateway: checkpoint.gateway,
        origin: Origin::default(),
        body: EventBody::RecordCheckpointed { entries, sessions },
    })
}

/// Reads a session whole, for a replay.
///
/// # Errors
/// [`ReadError::TooMany`] above [`limits::RECORD_REPLAY_LEN_MAX`] events,
/// [`ReadError::TooLarge`] above [`limits::RECORD_REPLAY_BYTES_MAX`], or what the file has.
pub(crate) fn collect(events: Events) -> Result<Vec<Event>, ReadError> {
    let mut collected = Vec::new();
    let mut bytes = 0_u64;
    for event in events {
        let event = event?;
        bytes = bytes.saturating_add(weight(&event));
        if collected.len() >= limits::RECORD_REPLAY_LEN_MAX {
            return Err(ReadError::TooMany { max: limits::RECORD_REPLAY_LEN_MAX });
        }
        if bytes > limits::RECORD_REPLAY_BYTES_MAX {
            return Err(ReadError::TooLarge { max: limits::RECORD_REPLAY_BYTES_MAX });
        }
        collected.push(event);
    }
    Ok(collected)
}

/// About how much memory an event's content takes, in bytes: of those kinds that can be large.
pub(crate) fn weight(event: &Event) -> u64 {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are small")]
    let content = match &event.body {
        EventBody::StreamPassed { data, .. } => len_of(data),
        EventBody::StatementRows { rows, .. } => {
            let cells = rows.iter().flatten().flatten();
            cells.map(|cell| cell.len() as u64).sum()
        }
        EventBody::StatementDecided { parameters, .. } => {
            let values = parameters.iter().filter_map(|parameter| parameter.value.as_ref());
            values.map(|value| value.len() as u64).sum()
        }
        EventBody::ObjectChanged { diff, .. } => diff.iter().map(|line| line.len() as u64).sum(),
        _ => 0,
    };
    content.saturating_add(EVENT_BYTES)
}
