//! What a start does with a record that a crash left: torn ends are cut (and kept aside), open
//! sessions are closed as `lost`. What was signed is never cut: damage stays for `verify` to name.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use aws_lc_rs::rand;
use corral_model::Event;
use corral_model::event::{CloseReason, EventBody, Origin, Outcome, StreamEnd};
use corral_model::ids::{SessionId, StatementSeq};
use time::OffsetDateTime;

use crate::chain::Chain;
use crate::error::RecordError;
use crate::format::{
    EntryKind, FileKind, HEADER_BYTES, Head, Header, RecordId, gateway_genesis, session_genesis,
};
use crate::key::PublicKey;
use crate::layout;
use crate::link::{ClosedLink, OpenedLink, decode_checkpoint};
use crate::render::stream::len_of;
use crate::replay::Place;
use crate::scan::{Entries, Fault, ends_in_zeros};
use crate::session::{Said, Voice};
use crate::sink::{Disk, Sink, make_folder, write_all};

/// What a start found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Sessions that were open and are now closed as `lost`.
    pub sessions_lost: u64,
    /// Sessions whose files are missing, changed, shorter than what was signed, or not continued
    /// by the journal. They were left as they are; `corral audit verify` names what is wrong.
    pub sessions_damaged: Vec<SessionId>,
    /// Bytes of torn ends that were cut off and kept in `record/cut`.
    pub bytes_cut: u64,
}

/// A record that is ready to be written.
pub(crate) struct Recovered {
    pub(crate) chain: Chain,
    pub(crate) segment: u64,
    pub(crate) record: RecordId,
    pub(crate) unsigned_entries: u64,
    pub(crate) recovery: Recovery,
}

/// A session that the gateway's chain left open.
struct Open {
    day: String,
    /// Up to where it was signed; number 0 and the first hash when it never was.
    signed: Head,
}

type OpenSessions = BTreeMap<SessionId, Open>;

struct Recoverer<'a> {
    disk: &'a dyn Disk,
    record_dir: &'a Path,
    key: &'a PublicKey,
    voice: &'a Voice,
    now: OffsetDateTime,
    /// Known once the gateway's chain is read.
    record: RecordId,
    recovery: Recovery,
}

/// # Errors
/// [`RecordError`]: the disk, or a gateway chain that was changed.
pub(crate) fn recover(
    disk: &dyn Disk,
    record_dir: &Path,
    key: &PublicKey,
    voice: &Voice,
    now: OffsetDateTime,
) -> Result<Recovered, RecordError> {
    let recovery = Recovery::default();
    let mut recoverer =
        Recoverer { disk, record_dir, key, voice, now, record: RecordId::default(), recovery };
    let (mut chain, segment, open) = recoverer.gateway_chain()?;
    let place = Place { disk, record_dir, key, record: recoverer.record };
    let replayed = place.replay()?;
    recoverer.recovery.bytes_cut += replayed.bytes_cut;
    recoverer.recovery.sessions_damaged = replayed.damaged;
    for (session, open) in open {
        let end = recoverer.close(&session, &open)?;
        chain
            .append(EntryKind::SessionClosed, &mut |buffer, _| {
                serde_json::to_writer(buffer, &end).map_err(io::Error::from)
            })
            .map_err(RecordError::Append)?;
        recoverer.recovery.sessions_lost += 1;
    }
    // Whatever stands behind the last checkpoint is signed by the next one.
    let Recoverer { record, recovery, .. } = recoverer;
    Ok(Recovered { chain, segment, record, unsigned_entries: 1, recovery })
}

impl Recoverer<'_> {
    fn gateway_chain(&mut self) -> Result<(Chain, u64, OpenSessions), RecordError> {
        let folder = layout::gateway_dir(self.record_dir);
        let mut segments =
            layout::segments(self.record_dir).map_err(RecordError::io("read", &folder))?;
        while let Some(segment) = segments.pop() {
            let path = layout::segment_path(self.record_dir, segment);
            let is_only = segments.is_empty();
            if let Some((chain, open)) = self.segment(&path, is_only)? {
                return Ok((chain, segment, open));
            }
            // The crash came while this segment was begun: the one before goes on.
            fs::remove_file(&path).map_err(RecordError::io("remove", &path))?;
        }
        self.first_segment()
    }

    fn first_segment(&mut self) -> Result<(Chain, u64, OpenSessions), RecordError> {
        let sessions = layout::days(self.record_dir)
            .map_err(RecordError::io("read", &layout::sessions_dir(self.record_dir)))?;
        let path = layout::segment_path(self.record_dir, 1);
        if !sessions.is_empty() {
            let what = "there are recordings of sessions, but no gateway chain".to_owned();
            return Err(RecordError::Damaged { path, offset: 0, what });
        }
        rand::fill(&mut self.record).map_err(|_| RecordError::Random)?;
        let hash = gateway_genesis(self.key.as_bytes(), &self.record);
        let genesis = Head { seq: 0, hash };
        let header = Header { kind: FileKind::Gateway, follows: genesis, record: self.record };
        let sink = self.disk.create(&path).map_err(RecordError::io("make", &path))?;
        write_all(sink.as_ref(), &header.encode(), 0).map_err(RecordError::io("write", &path))?;
        Ok((Chain::resume(sink, genesis, HEADER_BYTES as u64), 1, BTreeMap::new()))
    }

    /// Reads a segment and cuts its torn end; None when nothing whole is in it.
    fn segment(
        &mut self,
        path: &Path,
        is_only: bool,
    ) -> Result<Option<(Chain, OpenSessions)>, RecordError> {
        let damaged = |fault: Fault| RecordError::Damaged {
            path: path.to_owned(),
            offset: fault.offset,
            what: fault.what,
        };
        let opened =
            Entries::open(path, FileKind::Gateway).map_err(RecordError::io("read", path))?;
        let mut entries = match opened {
            Ok(entries) => entries,
            Err(fault) => {
                self.cut(path, &fault)?.ok_or_else(|| damaged(fault))?;
                return Ok(None);
            }
        };
        let mut open = BTreeMap::new();
        let start = entries.head();
        self.record = entries.record();
        let genesis = gateway_genesis(self.key.as_bytes(), &self.record);
        if is_only && start.seq == 0 && start.hash != genesis {
            let what = "it was begun with another key than record.key".to_owned();
            return Err(damaged(Fault { offset: 0, seq: 0, what, is_torn: false }));
        }
        let end = loop {
            let offset = entries.offset();
            match entries.next() {
                Ok(Some(entry)) => {
                    let at = Head { seq: entry.seq, hash: entry.follows };
                    follow(&mut open, entry.kind, entry.payload, at, self.key).map_err(|what| {
                        damaged(Fault { offset, seq: at.seq, what, is_torn: false })
                    })?;
                }
                Ok(None) => break offset,
                Err(fault) => break self.cut(path, &fault)?.ok_or_else(|| damaged(fault))?,
            }
        };
        let has_entries = entries.head() != start;
        if !has_entries && !is_only {
            return Ok(None);
        }
        let sink = self.disk.open(path).map_err(RecordError::io("open", path))?;
        Ok(Some((Chain::resume(sink, entries.head(), end), open)))
    }

    /// Cuts a file before a torn entry and keeps what was cut. Returns the file's length, or None
    /// when the entry is whole and wrong, which no crash does.
    fn cut(&mut self, path: &Path, fault: &Fault) -> Result<Option<u64>, RecordError> {
        let is_torn = fault.is_torn
            || ends_in_zeros(path, fault.offset).map_err(RecordError::io("read", path))?;
        if !is_torn {
            return Ok(None);
        }
        let sink = self.disk.open(path).map_err(RecordError::io("open", path))?;
        let bytes = cut_at(self.record_dir, path, sink.as_ref(), fault.offset)?;
        self.recovery.bytes_cut += bytes;
        Ok(Some(fault.offset))
    }

    /// Writes the last entry of a session that was open. Returns its end for the gateway's chain.
    fn close(&mut self, session: &SessionId, open: &Open) -> Result<ClosedLink, RecordError> {
        let path = layout::session_path(self.record_dir, &open.day, session);
        let end = |head: Head| ClosedLink {
            time: self.now,
            session: session.clone(),
            reason: CloseReason::Lost,
            entries: head.seq,
            hash: head.hash,
        };
        let damaged_end = end(open.signed);
        let never_began = open.signed.seq == 0 && is_missing_or_empty(&path);
        if never_began {
            // The crash came between the link and the file; nothing acted on the session.
            return Ok(damaged_end);
        }
        match self.session(session, &path, open)? {
            Some(head) => Ok(ClosedLink { entries: head.seq, hash: head.hash, ..damaged_end }),
            None => {
                tracing::warn!(%session, "a recording is damaged; it is left as it is");
                if !self.recovery.sessions_damaged.contains(session) {
                    self.recovery.sessions_damaged.push(session.clone());
                }
                Ok(damaged_end)
            }
        }
    }

    /// Cuts a session's torn end and writes its last entry; None when it is damaged.
    fn session(
        &mut self,
        session: &SessionId,
        path: &Path,
        open: &Open,
    ) -> Result<Option<Head>, RecordError> {
        let opened = match Entries::open(path, FileKind::Session) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RecordError::io("read", path)(error)),
        };
        let mut entries = match opened {
            Ok(entries) => entries,
            Err(fault) => return self.empty(path, open, &fault),
        };
        let genesis = session_genesis(self.key.as_bytes(), &self.record, session);
        let is_ours = entries.record() == self.record;
        if entries.head() != (Head { seq: 0, hash: genesis }) || !is_ours {
            return Ok(None);
        }
        let mut tally = Tally::default();
        let mut has_signed = open.signed.seq == 0;
        let fault = loop {
            match entries.next() {
                Ok(Some(entry)) => {
                    let is_signed = if open.signed.seq == 0 { 1 } else { open.signed.seq };
                    if entry.seq == is_signed {
                        has_signed = entry.hash == open.signed.hash;
                    }
                    tally.add(entry.payload);
                }
                Ok(None) => break None,
                Err(fault) => break Some(fault),
            }
        };
        let head = entries.head();
        if head.seq < open.signed.seq || !has_signed {
            return Ok(None);
        }
        let bytes = match fault {
            // The crash came with the first entry: an empty file says so.
            _ if head.seq == 0 => return self.empty(path, open, &Fault::start_is_torn()),
            Some(fault) => match self.cut(path, &fault)? {
                Some(bytes) => bytes,
                None => return Ok(None),
            },
            None => entries.offset(),
        };
        if tally.is_closed {
            return Ok(Some(head));
        }
        let sink = self.disk.open(path).map_err(RecordError::io("open", path))?;
        self.write_lost(session, Chain::resume(sink, head, bytes), &tally).map(Some)
    }

    /// A file without a whole entry: the crash came while it was made.
    fn empty(
        &mut self,
        path: &Path,
        open: &Open,
        fault: &Fault,
    ) -> Result<Option<Head>, RecordError> {
        if open.signed.seq > 0 || self.cut(path, fault)?.is_none() {
            return Ok(None);
        }
        Ok(Some(open.signed))
    }

    fn write_lost(
        &self,
        session: &SessionId,
        mut chain: Chain,
        tally: &Tally,
    ) -> Result<Head, RecordError> {
        let body = EventBody::SessionClosed {
            reason: CloseReason::Lost,
            statements: tally.statements,
            rows: tally.rows,
            bytes_to_client: tally.bytes_to_client(),
            bytes_to_target: tally.bytes_to_target,
            duration_ms: tally.duration_ms(),
        };
        let said = Said { at: self.now, origin: &tally.origin, body: &body };
        chain
            .append(EntryKind::Event, &mut |buffer, head| {
                self.voice.encode(buffer, session.as_str(), head.seq, said)
            })
            .map_err(RecordError::Append)?;
        Ok(chain.head())
    }
}

/// Keeps the set of open sessions while the gateway's chain is read.
fn follow(
    open: &mut OpenSessions,
    kind: EntryKind,
    payload: &[u8],
    at: Head,
    key: &PublicKey,
) -> Result<(), String> {
    let unreadable = |error: serde_json::Error| format!("the entry cannot be read: {error}");
    match kind {
        EntryKind::Event => {}
        EntryKind::Round => return Err("a round of the journal does not belong here".to_owned()),
        EntryKind::SessionOpened => {
            let link: OpenedLink = serde_json::from_slice(payload).map_err(unreadable)?;
            check_day(&link.day)?;
            let signed = Head { seq: 0, hash: link.hash };
            open.insert(link.session, Open { day: link.day, signed });
        }
        EntryKind::SessionClosed => {
            let link: ClosedLink = serde_json::from_slice(payload).map_err(unreadable)?;
            open.remove(&link.session);
        }
        EntryKind::Checkpoint => {
            let checkpoint = decode_checkpoint(payload, at, key)?;
            if checkpoint.full {
                open.clear();
            }
            for head in checkpoint.sessions {
                check_day(&head.day)?;
                let signed = Head { seq: head.entries, hash: head.hash };
                // A checkpoint may name a session that ended while the checkpoint was made.
                if checkpoint.full || open.contains_key(&head.session) {
                    open.insert(head.session, Open { day: head.day, signed });
                }
            }
        }
    }
    Ok(())
}

fn check_day(day: &str) -> Result<(), String> {
    if layout::is_day(day) { Ok(()) } else { Err(format!("'{day}' is not a day's folder")) }
}

/// What a lost session came to, as far as it is written.
#[derive(Default)]
struct Tally {
    origin: Origin,
    statements: u64,
    rows: u64,
    bytes: u64,
    bytes_to_target: u64,
    /// What the targets' ends of streams said that were not finished.
    open_streams: BTreeMap<StatementSeq, u64>,
    first_at: Option<OffsetDateTime>,
    last_at: Option<OffsetDateTime>,
    is_closed: bool,
}

impl Tally {
    fn add(&mut self, payload: &[u8]) {
        // An entry of a later version may be unknown here: the tally is less, the chain is whole.
        let Ok(event) = serde_json::from_slice::<Event>(payload) else { return };
        if self.first_at.is_none() {
            self.first_at = Some(event.time);
            self.origin = event.origin;
        }
        self.last_at = Some(event.time);
        #[expect(clippy::wildcard_enum_match_arm, reason = "only these are counted")]
        match event.body {
            EventBody::StatementDecided { outcome: Outcome::Allow, .. } => self.statements += 1,
            EventBody::StreamPassed { seq_in_session, from, data } => match from {
                StreamEnd::Client => {
                    self.bytes_to_target = self.bytes_to_target.saturating_add(len_of(&data));
                }
                StreamEnd::Target | StreamEnd::TargetError => {
                    let bytes = self.open_streams.entry(seq_in_session).or_default();
                    *bytes = bytes.saturating_add(len_of(&data));
                }
            },
            EventBody::StatementCompleted { seq_in_session, rows, bytes, .. } => {
                // Its own number has all of the stream, also what was not recorded.
                self.open_streams.remove(&seq_in_session);
                self.rows = self.rows.saturating_add(rows);
                self.bytes = self.bytes.saturating_add(bytes);
            }
            EventBody::SessionClosed { .. } => self.is_closed = true,
            _ => {}
        }
    }

    fn bytes_to_client(&self) -> u64 {
        self.open_streams.values().fold(self.bytes, |sum, bytes| sum.saturating_add(*bytes))
    }

    fn duration_ms(&self) -> u64 {
        let (Some(first), Some(last)) = (self.first_at, self.last_at) else { return 0 };
        u64::try_from((last - first).whole_milliseconds()).unwrap_or(0)
    }
}

fn is_missing_or_empty(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(metadata) => metadata.len() == 0,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Cuts a file at `offset` and keeps what stood behind. Returns how much that was, in bytes.
///
/// # Errors
/// The device's.
pub(crate) fn cut_at(
    record_dir: &Path,
    path: &Path,
    sink: &dyn Sink,
    offset: u64,
) -> Result<u64, RecordError> {
    let failed = || RecordError::io("cut the torn end of", path);
    let bytes = fs::metadata(path).map_err(failed())?.len().saturating_sub(offset);
    let folder = layout::cut_dir(record_dir);
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let aside = folder.join(format!("{name}.{offset}"));
    make_folder(&folder)
        .and_then(|()| keep_aside(path, offset, &aside))
        .map_err(RecordError::io("keep a torn end in", &aside))?;
    // Synced, so that what is written there next is never mixed with what was cut.
    sink.truncate(offset).and_then(|()| sink.sync()).map_err(failed())?;
    tracing::warn!(file = %path.display(), offset, bytes, "a torn end was cut");
    Ok(bytes)
}

/// Copies the end of a file from `offset` on.
fn keep_aside(path: &Path, offset: u64, aside: &Path) -> io::Result<()> {
    let from = fs::File::open(path)?;
    let mut to = fs::File::create(aside)?;
    let mut block = vec![0; 64 * 1024];
    let mut at = offset;
    loop {
        let count = from.read_at(&mut block, at)?;
        let Some(bytes) = block.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return to.sync_all();
        };
        io::Write::write_all(&mut to, bytes)?;
        at += count as u64;
    }
}
