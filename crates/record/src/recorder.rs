//! The writer: the gateway's own chain, sessions that hang on it, and the signed checkpoints.
//!
//! Sessions write to their own files without it. Its lock is taken when a session begins or ends,
//! for administrative events and for checkpoints.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corral_model::event::{CloseReason, EventBody, Origin};
use corral_model::ids::SessionId;
use corral_model::limits;
use corral_model::resource::Durability;
use time::{OffsetDateTime, UtcOffset};
use tokio::sync::broadcast;

use crate::chain::{Chain, FirstEntry, Written};
use crate::error::RecordError;
use crate::follow::Follower;
use crate::format::{
    EntryKind, FileKind, Head, Header, RecordId, chain_name, gateway_genesis, session_genesis,
};
use crate::journal::{Journal, JournalSize};
use crate::key::{PublicKey, Record, SigningKey};
use crate::layout;
use crate::line::{Place, Whence, write_event};
use crate::link::{Checkpoint, OpenedLink, SessionHead, encode_checkpoint};
use crate::recover::{Recovery, recover};
use crate::session::{Outlet, Said, SessionFile, SessionPlace, Voice};
use crate::signer::{Signer, Signs};
use crate::sink::{Disk, FileDisk, Sink, make_folder};
use crate::state::{Changed, OpenSession, State, sync_changed};
use crate::sync::Syncer;
use crate::tap::SessionTap;

/// Writes the record of one gateway. Clones share it.
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

struct Inner {
    record_dir: PathBuf,
    key: SigningKey,
    /// Name of the gateway's chain, the first half of its events' ids.
    chain_name: String,
    record: RecordId,
    voice: Voice,
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
    /// Held while a session begins on a thread of its own.
    beginning: tokio::sync::Mutex<()>,
    /// Held while a checkpoint is made, so that there is one at a time.
    signing: Mutex<()>,
    syncer: Syncer,
    signer: Signer,
    /// Unlocked when it is dropped.
    _lock: File,
}

/// Which sessions a checkpoint names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Span {
    Changed,
    AllOpen,
}

impl Recorder {
    /// Opens the record below a gateway's data folder, or makes it: cuts torn ends, closes the
    /// sessions that a crash left open, makes the key at the first start.
    ///
    /// # Errors
    /// [`RecordError`]: the gateway's disk or files are to blame. A damaged gateway chain is not
    /// continued.
    pub fn open(
        data_dir: &Path,
        gateway: &str,
        now: OffsetDateTime,
    ) -> Result<(Self, Recovery), RecordError> {
        Self::open_on(Arc::new(FileDisk), data_dir, gateway, now)
    }

    /// As [`Recorder::open`], with files that a test can make fail.
    ///
    /// # Errors
    /// As [`Recorder::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        data_dir: &Path,
        gateway: &str,
        now: OffsetDateTime,
    ) -> Result<(Self, Recovery), RecordError> {
        Self::open_with(disk, data_dir, gateway, now, JournalSize::default())
    }

    pub(crate) fn open_with(
        disk: Arc<dyn Disk>,
        data_dir: &Path,
        gateway: &str,
        now: OffsetDateTime,
        journal: JournalSize,
    ) -> Result<(Self, Recovery), RecordError> {
        let record_dir = data_dir.join("record");
        make_folder(&layout::gateway_dir(&record_dir))
            .and_then(|()| make_folder(&layout::sessions_dir(&record_dir)))
            .map_err(RecordError::io("make", &record_dir))?;
        let lock = lock(&record_dir)?;
        let segments = layout::segments(&record_dir)
            .map_err(RecordError::io("read", &layout::gateway_dir(&record_dir)))?;
        let record = if segments.is_empty() { Record::Absent } else { Record::Present };
        let key = SigningKey::load_or_make(data_dir, record)?;
        let (live, _) = broadcast::channel(limits::EVENT_STREAM_LEN_MAX);
        let voice = Voice { gateway: gateway.into(), live, outlet: Arc::default() };
        let recovered = recover(disk.as_ref(), &record_dir, key.public(), &voice, now)?;
        let recovery = recovered.recovery.clone();
        let journal = Journal::new(Arc::clone(&disk), &record_dir, recovered.record, journal);
        let syncer = Syncer::start(journal).map_err(RecordError::Thread)?;
        let (signer, pokes) = Signer::new();
        let inner = Arc::new(Inner {
            chain_name: chain_name(&gateway_genesis(key.public().as_bytes(), &recovered.record)),
            record: recovered.record,
            record_dir,
            key,
            voice,
            disk,
            state: Mutex::new(State::of(recovered, now)),
            beginning: tokio::sync::Mutex::default(),
            signing: Mutex::new(()),
            syncer,
            signer,
            _lock: lock,
        });
        inner.signer.start(Arc::downgrade(&inner), pokes).map_err(RecordError::Thread)?;
        let recorder = Self { inner };
        // What a crash left is signed before anything else happens.
        recorder.checkpoint()?;
        Ok((recorder, recovery))
    }

    /// Begins a session's recording. `opened` is its first entry; `origin.session` is set here.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// [`RecordError`] when it is not in the record: the session must be refused.
    pub fn session(
        &self,
        at: OffsetDateTime,
        session: SessionId,
        origin: Origin,
        durability: Durability,
        opened: &EventBody,
    ) -> Result<SessionTap, RecordError> {
        let file = self.inner.open_session(at, session, origin, durability, opened)?;
        Ok(SessionTap::new(self.clone(), file, durability, at))
    }

    /// As [`Recorder::session`], beside the threads that sessions run on: a device may take
    /// milliseconds to make a file, for which no open session should wait. In the order of asking,
    /// one at a time: the files are in one folder, and more at once only wait for each other.
    ///
    /// # Errors
    /// As [`Recorder::session`]; [`RecordError::Thread`] when the runtime is stopping.
    ///
    /// # Cancel safety
    /// When the future is dropped, a session that began all the same is closed in the record as
    /// one whose [`SessionTap`] was dropped.
    pub async fn begin_session(
        &self,
        at: OffsetDateTime,
        session: SessionId,
        origin: Origin,
        durability: Durability,
        opened: EventBody,
    ) -> Result<SessionTap, RecordError> {
        let _turn = self.inner.beginning.lock().await;
        let recorder = self.clone();
        let begin = move || recorder.session(at, session, origin, durability, &opened);
        let begun = tokio::task::spawn_blocking(begin).await;
        begun.map_err(|error| RecordError::Thread(io::Error::other(error)))?
    }

    /// Writes an event that belongs to no session, and that something depends on. Returns its id.
    ///
    /// # Errors
    /// [`RecordError::Append`] when it is not in the record; then nothing may act on it.
    pub fn append_gateway(
        &self,
        at: OffsetDateTime,
        origin: &Origin,
        body: &EventBody,
    ) -> Result<String, RecordError> {
        let mut state = self.inner.lock();
        self.inner.settle(&mut state).map_err(RecordError::Append)?;
        let seq = self
            .inner
            .append_event(&mut state, Said { at, origin, body })
            .map_err(RecordError::Append)?;
        Ok(format!("{}:{seq}", self.inner.chain_name))
    }

    /// Writes an event about something that already happened and belongs to no session. When the
    /// device refuses, it is kept and written before the next one.
    ///
    /// # Errors
    /// [`RecordError::Append`] when it can neither be written nor kept.
    ///
    /// # Limits
    /// [`limits::RECORD_NOTES_MAX`] events are kept.
    pub fn note_gateway(
        &self,
        at: OffsetDateTime,
        origin: &Origin,
        body: &EventBody,
    ) -> Result<(), RecordError> {
        let mut state = self.inner.lock();
        let mut result = self.inner.settle(&mut state);
        if result.is_ok() {
            result = self.inner.append_event(&mut state, Said { at, origin, body }).map(|_| ());
        }
        let Err(error) = result else { return Ok(()) };
        if state.notes.len() >= limits::RECORD_NOTES_MAX {
            return Err(RecordError::Append(error));
        }
        state.notes.push_back((at, origin.clone(), body.clone()));
        Ok(())
    }

    /// Every event from here on, of all sessions and of the gateway.
    #[must_use]
    pub fn subscribe(&self) -> Follower {
        Follower::new(self.inner.voice.live.subscribe())
    }

    /// Has every event from here on told to an [`Outlet`]. There is one at most: a second one is
    /// given back.
    ///
    /// # Errors
    /// The second one.
    pub fn attach(&self, outlet: Box<dyn Outlet>) -> Result<(), Box<dyn Outlet>> {
        self.inner.voice.outlet.set(outlet)
    }

    /// Signs what was written since the last checkpoint, after it was synced. A thread of the
    /// recorder does it by time and by number of entries. Blocks on the disk.
    ///
    /// Returns whether there was anything to sign.
    ///
    /// # Errors
    /// [`RecordError`] when the device refuses; it is tried again.
    pub fn checkpoint(&self) -> Result<bool, RecordError> {
        self.inner.checkpoint()
    }

    /// The last words of a gateway that stops cleanly, after its sessions were closed: writes what
    /// was kept, signs and syncs. Blocks on the disk.
    ///
    /// # Errors
    /// [`RecordError`] when the device refuses.
    pub fn stop(&self) -> Result<(), RecordError> {
        self.checkpoint().map(|_| ())
    }

    /// The folder that [`crate::Reader`] reads and [`crate::verify()`] checks.
    #[must_use]
    pub fn record_dir(&self) -> &Path {
        &self.inner.record_dir
    }

    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        self.inner.key.public()
    }

    /// Name of the gateway's chain: the first half of the ids of its events.
    #[must_use]
    pub fn chain_name(&self) -> &str {
        &self.inner.chain_name
    }

    pub(crate) fn gateway_sink(&self) -> Arc<dyn Sink> {
        Arc::clone(self.inner.lock().chain.sink())
    }

    pub(crate) fn sync(
        &self,
        file: Arc<SessionFile>,
        link: Option<Arc<dyn Sink>>,
    ) -> impl Future<Output = io::Result<()>> + Send + use<> {
        self.inner.syncer.sync(file, link)
    }

    pub(crate) fn close_session(
        &self,
        file: &SessionFile,
        at: OffsetDateTime,
        reason: CloseReason,
        body: EventBody,
    ) -> io::Result<()> {
        let written = file.write_last(at, body);
        let mut state = self.inner.lock();
        state.begin_closing(&file.id, at, reason);
        written.and_then(|()| self.inner.settle(&mut state))
    }
}

impl Inner {
    fn open_session(
        &self,
        at: OffsetDateTime,
        session: SessionId,
        mut origin: Origin,
        durability: Durability,
        opened: &EventBody,
    ) -> Result<Arc<SessionFile>, RecordError> {
        origin.session = Some(session.clone());
        let day = layout::day_of(at);
        let path = layout::session_path(&self.record_dir, &day, &session);
        let genesis = session_genesis(self.key.public().as_bytes(), &self.record, &session);
        let follows = Head { seq: 0, hash: genesis };
        let header = Header { kind: FileKind::Session, follows, record: self.record };
        let said = Said { at, origin: &origin, body: opened };
        let whence = Whence::new(&self.voice.gateway, &origin).map_err(RecordError::Append)?;
        let first = FirstEntry::encode(header, EntryKind::Event, &mut |buffer, head| {
            let place = Place { chain: session.as_str(), seq: head.seq, at, whence: &whence };
            write_event(buffer, &place, opened)
        })
        .map_err(RecordError::Append)?;

        let link = OpenedLink {
            time: at.to_offset(UtcOffset::UTC),
            session: session.clone(),
            day: day.clone(),
            hash: first.head.hash,
        };
        self.link_opened(at, &link)?;
        let chain = self.disk.create(&path).and_then(|sink| {
            Chain::start(sink, &first).inspect_err(|_| {
                // Best effort: recovery and verify accept an empty file of a session that never
                // began.
                let _ = std::fs::remove_file(&path);
            })
        });
        let mut state = self.lock();
        match chain {
            Ok(mut chain) => {
                match durability {
                    Durability::Written => {}
                    Durability::Synced => chain.count_unsynced(),
                }
                self.voice.publish(session.as_str(), first.written(), said);
                let place = SessionPlace { id: session.clone(), day, origin, whence };
                let file = Arc::new(SessionFile::new(place, self.voice.clone(), chain, at));
                if let Some(open) = state.open.get_mut(&session) {
                    open.file = Some(Arc::clone(&file));
                }
                Ok(file)
            }
            Err(source) => {
                state.begin_closing(&session, at, CloseReason::Record);
                if let Err(error) = self.settle(&mut state) {
                    tracing::warn!(%session, %error, "the end of a session is written later");
                }
                Err(RecordError::Io { doing: "write", path, source })
            }
        }
    }

    fn link_opened(&self, at: OffsetDateTime, link: &OpenedLink) -> Result<(), RecordError> {
        let mut state = self.lock();
        if state.open.len() >= limits::RECORD_SESSIONS_MAX {
            return Err(RecordError::TooManySessions { max: limits::RECORD_SESSIONS_MAX });
        }
        if state.open.contains_key(&link.session) {
            return Err(RecordError::Append(io::ErrorKind::AlreadyExists.into()));
        }
        self.settle(&mut state)
            .and_then(|()| {
                state.append(at, EntryKind::SessionOpened, &mut |buffer, _| {
                    serde_json::to_writer(buffer, link).map_err(io::Error::from)
                })
            })
            .map_err(RecordError::Append)?;
        let signed = Head { seq: 0, hash: link.hash };
        let open = OpenSession { day: link.day.clone(), signed, file: None, closing: None };
        state.open.insert(link.session.clone(), open);
        self.poke_when_due(&state);
        Ok(())
    }

    fn append_event(&self, state: &mut State, said: Said<'_>) -> io::Result<u64> {
        let written = state.append(said.at, EntryKind::Event, &mut |buffer, head| {
            self.voice.encode(buffer, &self.chain_name, head.seq, said)
        })?;
        self.voice.publish(&self.chain_name, written, said);
        self.poke_when_due(state);
        Ok(written.seq)
    }

    /// Writes what the device refused earlier, oldest first.
    fn settle(&self, state: &mut State) -> io::Result<()> {
        while let Some((at, origin, body)) = state.notes.pop_front() {
            if let Err(error) = self.append_event(state, Said { at, origin: &origin, body: &body })
            {
                state.notes.push_front((at, origin, body));
                return Err(error);
            }
        }
        let closing = state.closing.clone();
        closing.iter().try_for_each(|session| state.write_end(session))
    }

    /// Writes a checkpoint over the sessions that changed. Returns their number.
    fn sign(
        &self,
        state: &mut State,
        at: OffsetDateTime,
        changed: &[Changed],
    ) -> Result<u64, RecordError> {
        let sessions: Vec<SessionHead> = changed.iter().map(Changed::to_head).collect();
        let heads = sessions.len() as u64;
        let checkpoint = self.checkpoint_of(at, Span::Changed, sessions);
        state
            .append(at, EntryKind::Checkpoint, &mut |buffer, at| {
                encode_checkpoint(buffer, &checkpoint, at, &self.key)
            })
            .map_err(RecordError::Append)?;
        state.mark_signed(changed);
        Ok(heads)
    }

    /// Starts a segment with a checkpoint over every open session, so that the next start of the
    /// gateway has to read this segment only. Returns the number of sessions.
    fn start_segment(
        &self,
        state: &mut State,
        at: OffsetDateTime,
        changed: &[Changed],
    ) -> Result<u64, RecordError> {
        let follows = state.chain.head();
        let header = Header { kind: FileKind::Gateway, follows, record: self.record };
        let sessions = state.heads_with(changed);
        let heads = sessions.len() as u64;
        let checkpoint = self.checkpoint_of(at, Span::AllOpen, sessions);
        let first = FirstEntry::encode(header, EntryKind::Checkpoint, &mut |buffer, at| {
            encode_checkpoint(buffer, &checkpoint, at, &self.key)
        })
        .map_err(RecordError::Append)?;
        // A segment must not outlive a loss of power that the one before it does not.
        state.chain.sink().sync().map_err(RecordError::Append)?;
        let path = layout::segment_path(&self.record_dir, state.segment + 1);
        let chain = self.disk.create(&path).and_then(|sink| Chain::start(sink, &first));
        match chain {
            Ok(chain) => {
                state.chain = chain;
                state.segment += 1;
                state.mark_signed(changed);
                Ok(heads)
            }
            Err(source) => {
                let _ = std::fs::remove_file(&path);
                Err(RecordError::Io { doing: "write", path, source })
            }
        }
    }

    fn checkpoint_of(
        &self,
        at: OffsetDateTime,
        span: Span,
        sessions: Vec<SessionHead>,
    ) -> Checkpoint {
        Checkpoint {
            time: at.to_offset(UtcOffset::UTC),
            gateway: self.voice.gateway.to_string(),
            chain: self.chain_name.clone(),
            full: span == Span::AllOpen,
            sessions,
        }
    }

    fn poke_when_due(&self, state: &State) {
        if state.unsigned_entries >= limits::RECORD_CHECKPOINT_ENTRIES {
            self.signer.poke();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of a writer leaves the chain at its last whole entry.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signs for Inner {
    fn checkpoint(&self) -> Result<bool, RecordError> {
        let _one_at_a_time = self.signing.lock().unwrap_or_else(PoisonError::into_inner);
        let files = {
            let mut state = self.lock();
            self.settle(&mut state).map_err(RecordError::Append)?;
            state.files()
        };
        let changed = sync_changed(files);
        let (sink, old_sink, body, seq, at) = {
            let mut state = self.lock();
            if changed.is_empty() && state.unsigned_entries == 0 {
                return Ok(false);
            }
            let at = changed.iter().map(|one| one.at).fold(state.last_at, Ord::max);
            let covered = state.chain.head().seq;
            let old_sink = Arc::clone(state.chain.sink());
            let heads = if state.chain.bytes() >= limits::RECORD_SEGMENT_BYTES {
                self.start_segment(&mut state, at, &changed)?
            } else {
                self.sign(&mut state, at, &changed)?
            };
            let body = EventBody::RecordCheckpointed { entries: covered, sessions: heads };
            state.unsigned_entries = 0;
            (Arc::clone(state.chain.sink()), old_sink, body, state.chain.head().seq, at)
        };
        let origin = Origin::default();
        let written = Written { seq, bytes: 0 };
        self.voice.publish(&self.chain_name, written, Said { at, origin: &origin, body: &body });
        old_sink.sync().and_then(|()| sink.sync()).map_err(RecordError::Append)?;
        self.syncer.settle();
        Ok(true)
    }
}

fn lock(record_dir: &Path) -> Result<File, RecordError> {
    let path = record_dir.join("lock");
    let file = File::create(&path).map_err(RecordError::io("make", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(RecordError::InUse { path: record_dir.to_owned() })
        }
        Err(std::fs::TryLockError::Error(source)) => {
            Err(RecordError::Io { doing: "lock", path, source })
        }
    }
}
