//! One session's chain, shared by the session that writes it and the signer that reads its head.
//!
//! The lock is the session's own; nobody holds it across a wait but for the session's own write.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use corral_gate::Decided;
use corral_model::Event;
use corral_model::event::{EventBody, Origin};
use corral_model::ids::SessionId;
use corral_model::limits;
use time::{OffsetDateTime, UtcOffset};
use tokio::sync::broadcast;

use crate::chain::{Chain, Written};
use crate::format::{EntryKind, Head};
use crate::line::{Place, Whence, write_decided, write_event};
use crate::sink::Sink;
use crate::unsynced::Due;

/// How events of one chain are named and shown to followers.
#[derive(Clone)]
pub(crate) struct Voice {
    pub(crate) gateway: Arc<str>,
    pub(crate) live: broadcast::Sender<Arc<Event>>,
    pub(crate) outlet: Arc<OnceLock<Box<dyn Outlet>>>,
}

/// Is told every event after it was written, on the thread that wrote it, which a session waits
/// for: it returns at once, and takes no lock that sessions share.
pub trait Outlet: Send + Sync {
    fn take(&self, at: OffsetDateTime, origin: &Origin, body: &EventBody);
}

impl Voice {
    /// Writes an event's JSON without making an [`Event`] first.
    pub(crate) fn encode(
        &self,
        buffer: &mut Vec<u8>,
        chain: &str,
        seq: u64,
        said: Said<'_>,
    ) -> io::Result<()> {
        let whence = Whence::new(&self.gateway, said.origin)?;
        let place = Place { chain, seq, at: said.at, whence: &whence };
        write_event(buffer, &place, said.body)
    }

    /// Whether anybody is told what is written.
    fn is_heard(&self) -> bool {
        self.outlet.get().is_some() || self.live.receiver_count() > 0
    }

    /// Shows a written event to the followers, if there are any. One whose entry is longer than
    /// [`limits::RECORD_FOLLOWED_BYTES_MAX`] is shown without what makes it long.
    pub(crate) fn publish(&self, chain: &str, written: Written, said: Said<'_>) {
        if let Some(outlet) = self.outlet.get() {
            outlet.take(said.at, said.origin, said.body);
        }
        if self.live.receiver_count() == 0 {
            return;
        }
        let Written { seq, bytes } = written;
        let mut body = said.body.clone();
        if bytes > limits::RECORD_FOLLOWED_BYTES_MAX {
            shorten(&mut body);
        }
        let event = Event {
            seq,
            id: format!("{chain}:{seq}"),
            time: said.at.to_offset(UtcOffset::UTC),
            gateway: self.gateway.to_string(),
            origin: said.origin.clone(),
            body,
        };
        // The last follower may have left in the meantime: nothing is lost by that.
        let _ = self.live.send(Arc::new(event));
    }
}

/// Takes out the two things that can be as long as a message of the protocol.
fn shorten(body: &mut EventBody) {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are bounded by short limits")]
    match body {
        EventBody::StatementRows { rows, truncated, .. } => {
            rows.clear();
            *truncated = true;
        }
        EventBody::StatementDecided { parameters, .. } => {
            for parameter in parameters {
                parameter.value = None;
                parameter.format = "omitted".into();
            }
        }
        _ => {}
    }
}

/// What an event says, apart from its place.
#[derive(Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) at: OffsetDateTime,
    pub(crate) origin: &'a Origin,
    pub(crate) body: &'a EventBody,
}

/// A session's file and what waits to be written to it.
pub(crate) struct SessionFile {
    pub(crate) id: SessionId,
    pub(crate) day: String,
    origin: Origin,
    whence: Whence,
    voice: Voice,
    writing: Mutex<Writing>,
}

struct Writing {
    chain: Chain,
    /// Entries about what already happened that the device refused, oldest first.
    notes: VecDeque<Note>,
    notes_bytes: usize,
    last_at: OffsetDateTime,
}

struct Note {
    at: OffsetDateTime,
    body: EventBody,
}

/// What the signer needs of a session.
pub(crate) struct Stand {
    pub(crate) head: Head,
    pub(crate) last_at: OffsetDateTime,
    pub(crate) sink: Arc<dyn Sink>,
}

impl SessionFile {
    pub(crate) fn new(place: SessionPlace, voice: Voice, chain: Chain, at: OffsetDateTime) -> Self {
        let SessionPlace { id, day, origin, whence } = place;
        let writing = Writing { chain, notes: VecDeque::new(), notes_bytes: 0, last_at: at };
        Self { id, day, origin, whence, voice, writing: Mutex::new(writing) }
    }

    pub(crate) fn stand(&self) -> Stand {
        let writing = self.lock();
        Stand {
            head: writing.chain.head(),
            last_at: writing.last_at,
            sink: Arc::clone(writing.chain.sink()),
        }
    }

    /// What has to be made durable for every entry so far to be so.
    pub(crate) fn take_due(&self) -> Due {
        self.lock().chain.take_due()
    }

    /// A sync of the file failed: nothing in it counts as synced again.
    pub(crate) fn doubt(&self) {
        self.lock().chain.doubt();
    }

    pub(crate) fn sink(&self) -> Arc<dyn Sink> {
        Arc::clone(self.lock().chain.sink())
    }

    /// Writes what waits, then this entry.
    ///
    /// # Errors
    /// The device's: the entry is not in the record. `InvalidInput` when it is too long.
    pub(crate) fn append(&self, at: OffsetDateTime, body: &EventBody) -> io::Result<u64> {
        let mut writing = self.lock();
        self.write_notes(&mut writing)?;
        self.write(&mut writing, at, body)
    }

    /// Writes what waits, then the entry of this decision; its event is made only when somebody
    /// is told of it.
    ///
    /// # Errors
    /// As for [`SessionFile::append`].
    pub(crate) fn append_decided(
        &self,
        at: OffsetDateTime,
        decided: &Decided<'_>,
    ) -> io::Result<u64> {
        let mut writing = self.lock();
        self.write_notes(&mut writing)?;
        let written = writing.chain.append(EntryKind::Event, &mut |buffer, head| {
            write_decided(buffer, &self.at_place(head.seq, at), decided)
        })?;
        writing.last_at = at;
        if self.voice.is_heard() {
            let said = Said { at, origin: &self.origin, body: &decided.event() };
            self.voice.publish(self.id.as_str(), written, said);
        }
        Ok(written.seq)
    }

    /// Writes this entry, or keeps it.
    ///
    /// # Errors
    /// When it can neither be written nor kept.
    pub(crate) fn note(&self, at: OffsetDateTime, body: EventBody) -> io::Result<()> {
        let mut writing = self.lock();
        let result = match self.write_notes(&mut writing) {
            Ok(()) => self.write(&mut writing, at, &body).map(|_| ()),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(error),
            Err(error) => keep(&mut writing, Note { at, body }, error),
        }
    }

    /// Writes the session's last entry, or keeps it whatever else is kept: there is no other
    /// after it.
    ///
    /// # Errors
    /// The device's: the entry waits for [`SessionFile::flush`].
    pub(crate) fn write_last(&self, at: OffsetDateTime, body: EventBody) -> io::Result<()> {
        let mut writing = self.lock();
        let result = match self.write_notes(&mut writing) {
            Ok(()) => self.write(&mut writing, at, &body).map(|_| ()),
            Err(error) => Err(error),
        };
        if result.is_err() {
            writing.notes.push_back(Note { at, body });
        }
        result
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// The device's; what is left waits on.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.write_notes(&mut self.lock())
    }

    fn write_notes(&self, writing: &mut Writing) -> io::Result<()> {
        while let Some(note) = writing.notes.pop_front() {
            if let Err(error) = self.write(writing, note.at, &note.body) {
                writing.notes.push_front(note);
                return Err(error);
            }
        }
        writing.notes_bytes = 0;
        Ok(())
    }

    fn write(
        &self,
        writing: &mut Writing,
        at: OffsetDateTime,
        body: &EventBody,
    ) -> io::Result<u64> {
        let said = Said { at, origin: &self.origin, body };
        let written = writing.chain.append(EntryKind::Event, &mut |buffer, head| {
            write_event(buffer, &self.at_place(head.seq, at), body)
        })?;
        writing.last_at = at;
        self.voice.publish(self.id.as_str(), written, said);
        Ok(written.seq)
    }

    fn at_place(&self, seq: u64, at: OffsetDateTime) -> Place<'_> {
        Place { chain: self.id.as_str(), seq, at, whence: &self.whence }
    }

    fn lock(&self) -> MutexGuard<'_, Writing> {
        // A panic of a writer leaves the chain at its last whole entry.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(writing: &mut Writing, note: Note, error: io::Error) -> io::Result<()> {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, &note.body)?;
    let bytes = length.0;
    let has_room = writing.notes.len() < limits::RECORD_NOTES_MAX
        && writing.notes_bytes + bytes <= limits::RECORD_NOTES_BYTES_MAX;
    if !has_room {
        return Err(error);
    }
    writing.notes_bytes += bytes;
    writing.notes.push_back(note);
    Ok(())
}

/// Counts what is written to it.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Which session it is, and the day's folder that its file is in.
pub(crate) struct SessionPlace {
    pub(crate) id: SessionId,
    pub(crate) day: String,
    pub(crate) origin: Origin,
    pub(crate) whence: Whence,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::chain::FirstEntry;
    use crate::format::{FileKind, Header};

    /// A session of durability `synced` that has its first entry.
    pub(crate) fn synced_file_on(sink: Arc<dyn Sink>, id: &str) -> Arc<SessionFile> {
        let at = OffsetDateTime::UNIX_EPOCH;
        let (live, _) = broadcast::channel(1);
        let voice = Voice { gateway: "gw".into(), live, outlet: Arc::default() };
        let origin = Origin::default();
        let whence = Whence::new("gw", &origin).expect("whence");
        let follows = Head { seq: 0, hash: [0; 32] };
        let header = Header { kind: FileKind::Session, follows, record: [7; 16] };
        let first = FirstEntry::encode(header, EntryKind::Event, &mut |_, _| Ok(()));
        let mut chain = Chain::start(sink, &first.expect("an entry")).expect("written");
        chain.count_unsynced();
        let id = SessionId::new(id).expect("an id");
        let place = SessionPlace { id, day: "2026-11-23".to_owned(), origin, whence };
        Arc::new(SessionFile::new(place, voice, chain, at))
    }
}
