//! Proof, with the files and the public key only, that nothing in a record was changed, reordered,
//! cut out or put in. A record that is being written may be verified too.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corral_model::ids::SessionId;

use crate::format::{EntryKind, FileKind, Hash, Head, RecordId, gateway_genesis, session_genesis};
use crate::key::PublicKey;
use crate::layout;
use crate::link::{Checkpoint, ClosedLink, OpenedLink, decode_checkpoint};
use crate::scan::{Entries, Fault};

/// A writer that is at work has finished an entry long before this.
const WRITER_PATIENCE: Duration = Duration::from_millis(10);
const WRITER_TRIES: u32 = 5;

/// What was verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Entries of the gateway's chain and of all sessions.
    pub entries: u64,
    pub sessions: u64,
    pub checkpoints: u64,
    /// Sessions without an end: they run, or the gateway crashed and was not started since.
    pub sessions_open: u64,
    /// Entries behind the last signature that covers their chain: chained, but whoever can write
    /// the files could have replaced them.
    pub entries_unsigned: u64,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ok: {} entries, {} sessions, {} checkpoints",
            self.entries, self.sessions, self.checkpoints
        )
    }
}

/// The first entry that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEntry {
    /// None: an entry of the gateway's chain.
    pub session: Option<SessionId>,
    /// Its number; 0 for a file's header.
    pub seq: u64,
    pub file: PathBuf,
    /// Where it starts, in bytes.
    pub offset: u64,
    pub what: String,
}

impl fmt::Display for BadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.session {
            Some(session) => write!(f, "session {session}, ")?,
            None => f.write_str("gateway chain, ")?,
        }
        let Self { seq, offset, what, .. } = self;
        write!(f, "entry {seq}, {} at byte {offset}: {what}", self.file.display())
    }
}

/// Why a record does not verify.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("bad: {0}")]
    Bad(Box<BadEntry>),
    #[error("{} is not a record: there is no folder `gateway` in it", path.display())]
    NotARecord { path: PathBuf },
    #[error("cannot read {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Checks every byte below `path`: a gateway's folder `record`, a copy of it, or a data folder
/// that holds one.
///
/// # Errors
/// [`VerifyError::Bad`] names the first bad entry: the gateway's chain is checked first, then the
/// sessions by id.
pub fn verify(path: &Path, key: &PublicKey) -> Result<Verified, VerifyError> {
    let record_dir = record_dir_of(path)?;
    // Listed before the chain is read: a session is in the chain before its file exists.
    let files = session_files(&record_dir)?;
    let mut verifier = Verifier {
        record_dir: &record_dir,
        key,
        record: first_record_id(&record_dir),
        verified: Verified::default(),
        sessions: BTreeMap::new(),
        last_checkpoint: 0,
    };
    verifier.gateway_chain()?;
    let sessions = std::mem::take(&mut verifier.sessions);
    for (id, session) in &sessions {
        verifier.session(id, session)?;
    }
    for (day, name) in files {
        check_is_named(&record_dir, &day, &name, &sessions)?;
    }
    Ok(verifier.verified)
}

/// `path`, or the folder `record` in it.
pub(crate) fn record_dir_of(path: &Path) -> Result<PathBuf, VerifyError> {
    let below = path.join("record");
    [path, &below]
        .into_iter()
        .find(|folder| layout::gateway_dir(folder).is_dir())
        .map(Path::to_owned)
        .ok_or_else(|| VerifyError::NotARecord { path: path.to_owned() })
}

/// Zeros when it cannot be read: the reading of the segment says why.
fn first_record_id(record_dir: &Path) -> RecordId {
    let path = layout::segment_path(record_dir, 1);
    let opened = Entries::open(&path, FileKind::Gateway);
    opened.ok().and_then(Result::ok).map(|entries| entries.record()).unwrap_or_default()
}

/// Every recording below `sessions`, as folder and file name.
fn session_files(record_dir: &Path) -> Result<Vec<(String, String)>, VerifyError> {
    let folder = layout::sessions_dir(record_dir);
    let mut files = Vec::new();
    for day in layout::names_in(&folder).map_err(unreadable(&folder))? {
        let folder = folder.join(&day);
        if !folder.is_dir() {
            continue;
        }
        let names = layout::names_in(&folder).map_err(unreadable(&folder))?;
        let recordings = names.into_iter().filter(|name| name.ends_with(".rec"));
        files.extend(recordings.map(|name| (day.clone(), name)));
    }
    Ok(files)
}

fn check_is_named(
    record_dir: &Path,
    day: &str,
    name: &str,
    sessions: &BTreeMap<SessionId, Session>,
) -> Result<(), VerifyError> {
    let id = name.strip_suffix(".rec").and_then(|id| SessionId::new(id).ok());
    let session = id.as_ref().and_then(|id| sessions.get(id));
    if session.is_some_and(|session| session.day == day) {
        return Ok(());
    }
    let what = match session {
        Some(session) => format!("this file belongs into the folder {}", session.day),
        None => "no entry of the gateway's chain names this file".to_owned(),
    };
    let file = layout::sessions_dir(record_dir).join(day).join(name);
    Err(bad(BadEntry { session: id, seq: 1, file, offset: 0, what }))
}

/// What the gateway's chain says of a session.
struct Session {
    day: String,
    first_hash: Hash,
    /// Number and hash that the entry at a checkpoint must have; ascending.
    heads: Vec<Head>,
    end: Option<End>,
}

struct End {
    head: Head,
    /// Number of the link in the gateway's chain.
    link_seq: u64,
}

struct Verifier<'a> {
    record_dir: &'a Path,
    key: &'a PublicKey,
    /// As the first segment's header says; the genesis binds it.
    record: RecordId,
    verified: Verified,
    sessions: BTreeMap<SessionId, Session>,
    /// Number of the last checkpoint in the gateway's chain.
    last_checkpoint: u64,
}

impl Verifier<'_> {
    fn gateway_chain(&mut self) -> Result<(), VerifyError> {
        let folder = layout::gateway_dir(self.record_dir);
        let numbers = layout::segments(self.record_dir).map_err(unreadable(&folder))?;
        let mut head = Head { seq: 0, hash: gateway_genesis(self.key.as_bytes(), &self.record) };
        let last = numbers.last().copied().unwrap_or(1);
        for number in 1..=last {
            let path = layout::segment_path(self.record_dir, number);
            if !numbers.contains(&number) {
                let what = "this segment is missing".to_owned();
                let seq = head.seq + 1;
                return Err(bad(BadEntry { session: None, seq, file: path, offset: 0, what }));
            }
            head = self.segment(&path, head, number > 1)?;
        }
        self.verified.entries += head.seq;
        self.verified.entries_unsigned += head.seq - self.last_checkpoint;
        Ok(())
    }

    fn segment(&mut self, path: &Path, head: Head, is_later: bool) -> Result<Head, VerifyError> {
        let at = |fault: Fault| bad(BadEntry::of(None, path, fault));
        let mut entries = patiently(path, FileKind::Gateway, 0)?.map_err(at)?;
        if entries.head() != head || entries.record() != self.record {
            let what = if is_later {
                "it does not follow the segment before it"
            } else {
                "it was begun with another key"
            };
            return Err(at(Fault { offset: 0, seq: 0, what: what.to_owned(), is_torn: false }));
        }
        loop {
            let offset = entries.offset();
            let read = match entries.next() {
                Err(fault) if fault.is_torn => {
                    entries = patiently(path, FileKind::Gateway, fault.offset)?.map_err(at)?;
                    entries.next()
                }
                read => read,
            };
            let Some(entry) = read.map_err(at)? else { break };
            let place = Head { seq: entry.seq, hash: entry.follows };
            let is_first_later = is_later && entry.seq == head.seq + 1;
            self.follow(entry.kind, entry.payload, place, is_first_later)
                .map_err(|what| at(Fault { offset, seq: place.seq, what, is_torn: false }))?;
        }
        Ok(entries.head())
    }

    /// Notes what an entry of the gateway's chain says.
    fn follow(
        &mut self,
        kind: EntryKind,
        payload: &[u8],
        at: Head,
        must_be_full: bool,
    ) -> Result<(), String> {
        let unreadable = |error: serde_json::Error| format!("it cannot be read: {error}");
        if must_be_full && kind != EntryKind::Checkpoint {
            return Err("a later segment must begin with a checkpoint".to_owned());
        }
        match kind {
            EntryKind::Event => Ok(()),
            EntryKind::SessionOpened => {
                self.opened(serde_json::from_slice(payload).map_err(unreadable)?)
            }
            EntryKind::SessionClosed => {
                self.closed(serde_json::from_slice(payload).map_err(unreadable)?, at.seq)
            }
            EntryKind::Checkpoint => {
                self.checkpoint(decode_checkpoint(payload, at, self.key)?, at.seq)
            }
            EntryKind::Round => Err("a round of the journal does not belong here".to_owned()),
        }
    }

    fn opened(&mut self, link: OpenedLink) -> Result<(), String> {
        if !layout::is_day(&link.day) {
            return Err(format!("'{}' is not a day's folder", link.day));
        }
        let session =
            Session { day: link.day, first_hash: link.hash, heads: Vec::new(), end: None };
        match self.sessions.insert(link.session.clone(), session) {
            None => Ok(()),
            Some(_) => Err(format!("session {} begins a second time", link.session)),
        }
    }

    fn closed(&mut self, link: ClosedLink, link_seq: u64) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&link.session) else {
            return Err(format!("session {} ends without a beginning", link.session));
        };
        if session.end.is_some() {
            return Err(format!("session {} ends a second time", link.session));
        }
        let head = Head { seq: link.entries, hash: link.hash };
        session.end = Some(End { head, link_seq });
        Ok(())
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint, seq: u64) -> Result<(), String> {
        self.verified.checkpoints += 1;
        self.last_checkpoint = seq;
        for head in checkpoint.sessions {
            let Some(session) = self.sessions.get_mut(&head.session) else {
                return Err(format!("session {} is signed without a beginning", head.session));
            };
            let head = Head { seq: head.entries, hash: head.hash };
            let before = session.heads.last().map_or(0, |head| head.seq);
            if head.seq < before {
                return Err("a session is signed at an earlier entry than before".to_owned());
            }
            if head.seq > 0 {
                session.heads.push(head);
            } else if head.hash != session.first_hash {
                return Err("a session is signed with another first entry".to_owned());
            }
        }
        Ok(())
    }

    fn session(&mut self, id: &SessionId, session: &Session) -> Result<(), VerifyError> {
        self.verified.sessions += 1;
        let path = layout::session_path(self.record_dir, &session.day, id);
        let at = |fault: Fault| bad(BadEntry::of(Some(id.clone()), &path, fault));
        if session.never_began() {
            return self.no_session(&path, at);
        }
        if !exists_patiently(&path) {
            let what = "the file of this session is missing".to_owned();
            return Err(at(Fault { offset: 0, seq: 1, what, is_torn: false }));
        }
        let mut entries = patiently(&path, FileKind::Session, 0)?.map_err(at)?;
        let genesis = session_genesis(self.key.as_bytes(), &self.record, id);
        if entries.head() != (Head { seq: 0, hash: genesis }) || entries.record() != self.record {
            let what = "this file was begun for another session or with another key".to_owned();
            return Err(at(Fault { offset: 0, seq: 0, what, is_torn: false }));
        }
        let mut heads = session.heads.iter().peekable();
        loop {
            let offset = entries.offset();
            let read = match entries.next() {
                Err(fault) if fault.is_torn => {
                    entries = patiently(&path, FileKind::Session, fault.offset)?.map_err(at)?;
                    entries.next()
                }
                read => read,
            };
            let Some(entry) = read.map_err(at)? else { break };
            let head = Head { seq: entry.seq, hash: entry.hash };
            session
                .check(head, &mut heads)
                .map_err(|what| at(Fault { offset, seq: head.seq, what, is_torn: false }))?;
        }
        let head = entries.head();
        session.check_end(head).map_err(|what| {
            let seq = head.seq + 1;
            at(Fault { offset: entries.offset(), seq, what, is_torn: false })
        })?;
        self.count(session, head);
        Ok(())
    }

    fn no_session(
        &self,
        path: &Path,
        at: impl Fn(Fault) -> VerifyError,
    ) -> Result<(), VerifyError> {
        let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        if bytes == 0 {
            return Ok(());
        }
        let what = "the gateway's chain says that nothing was written to this session".to_owned();
        Err(at(Fault { offset: 0, seq: 1, what, is_torn: false }))
    }

    fn count(&mut self, session: &Session, head: Head) {
        self.verified.entries += head.seq;
        let is_end_signed =
            session.end.as_ref().is_some_and(|end| end.link_seq < self.last_checkpoint);
        let signed = match session.heads.last() {
            _ if is_end_signed => head.seq,
            Some(signed) => signed.seq,
            None => 0,
        };
        self.verified.entries_unsigned += head.seq.saturating_sub(signed);
        if session.end.is_none() {
            self.verified.sessions_open += 1;
        }
    }
}

impl Session {
    fn never_began(&self) -> bool {
        self.heads.is_empty() && self.end.as_ref().is_some_and(|end| end.head.seq == 0)
    }

    /// Compares one entry with what the gateway's chain says of it.
    fn check<'a>(
        &self,
        head: Head,
        heads: &mut std::iter::Peekable<impl Iterator<Item = &'a Head>>,
    ) -> Result<(), String> {
        if head.seq == 1 && head.hash != self.first_hash {
            return Err("it is not the first entry that the gateway's chain names".to_owned());
        }
        while let Some(signed) = heads.next_if(|signed| signed.seq == head.seq) {
            if signed.hash != head.hash {
                return Err("it is not the entry that was signed".to_owned());
            }
        }
        match &self.end {
            Some(end) if head.seq == end.head.seq && head.hash != end.head.hash => {
                Err("it is not the last entry that the gateway's chain names".to_owned())
            }
            Some(end) if head.seq > end.head.seq => {
                Err(format!("it stands behind the session's end, entry {}", end.head.seq))
            }
            _ => Ok(()),
        }
    }

    /// Whether the file goes as far as the gateway's chain says.
    fn check_end(&self, head: Head) -> Result<(), String> {
        if head.seq == 0 {
            return Err("the session's first entry is missing".to_owned());
        }
        let signed = self.heads.last().map_or(0, |signed| signed.seq);
        if head.seq < signed {
            return Err(format!("it is missing; a checkpoint signed {signed} entries"));
        }
        match &self.end {
            Some(end) if head.seq < end.head.seq => {
                Err(format!("it is missing; the session ended with entry {}", end.head.seq))
            }
            _ => Ok(()),
        }
    }
}

impl BadEntry {
    fn of(session: Option<SessionId>, file: &Path, fault: Fault) -> Self {
        let Fault { offset, seq, what, .. } = fault;
        Self { session, seq, file: file.to_owned(), offset, what }
    }
}

fn bad(entry: BadEntry) -> VerifyError {
    VerifyError::Bad(Box::new(entry))
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> VerifyError {
    let path = path.to_owned();
    move |source| VerifyError::Io { path, source }
}

/// Opens a file and reads on to `offset`; where a live writer may be in the middle of an entry
/// there, waits until it is whole, but not for ever.
fn patiently(
    path: &Path,
    kind: FileKind,
    offset: u64,
) -> Result<Result<Entries, Fault>, VerifyError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let opened = Entries::open(path, kind).map_err(unreadable(path))?;
        let mut entries = match opened {
            Ok(entries) => entries,
            Err(fault) if fault.is_torn && tries < WRITER_TRIES => {
                std::thread::sleep(WRITER_PATIENCE);
                continue;
            }
            Err(fault) => return Ok(Err(fault)),
        };
        while entries.offset() < offset {
            match entries.next() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(fault) => return Ok(Err(fault)),
            }
        }
        if offset == 0 || tries >= WRITER_TRIES || !entries.is_torn_here() {
            return Ok(Ok(entries));
        }
        std::thread::sleep(WRITER_PATIENCE);
    }
}

fn exists_patiently(path: &Path) -> bool {
    (0..WRITER_TRIES).any(|round| {
        if round > 0 {
            std::thread::sleep(WRITER_PATIENCE);
        }
        path.exists()
    })
}
