//! What the tests of the record share: a small world of events, and a disk that fails on demand.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use corral_gate::{Tap, TapError, event_text};
use corral_model::Event;
use corral_model::event::{CloseReason, EventBody, Origin, Outcome};
use corral_model::ids::{PolicyVersion, RunId, SessionId, StatementSeq, TargetName};
use corral_model::resource::Durability;
use corral_model::statement::{Effect, Effects, ObjectRef, ObjectRole};
use corral_record::{
    Disk, FileDisk, PublicKey, Reader, RecordError, Recorder, SessionTap, Sink, Totals, Verified,
    VerifyError, verify,
};
use time::{Duration, OffsetDateTime};

const LOCK_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);
const LOCK_POLL_INTERVAL: std::time::Duration = std::time::Duration::from_millis(5);

pub(crate) fn start() -> OffsetDateTime {
    time::macros::datetime!(2026-11-23 12:00:00 UTC)
}

pub(crate) fn at(seconds: i64) -> OffsetDateTime {
    start() + Duration::seconds(seconds)
}

pub(crate) fn session_id(text: &str) -> SessionId {
    SessionId::new(text).expect("an id")
}

pub(crate) fn run_id(text: &str) -> RunId {
    RunId::new(text).expect("an id")
}

pub(crate) fn origin(person: &str, run: &str, target: &str) -> Origin {
    Origin {
        principal: Some(person.to_owned()),
        sponsor: Some("ada@example.com".to_owned()),
        run: Some(run_id(run)),
        run_path: Some(format!("job/{run}")),
        session: None,
        target: Some(TargetName::new(target).expect("a name")),
    }
}

pub(crate) fn opened() -> EventBody {
    EventBody::SessionOpened {
        protocol: "postgres".to_owned(),
        client_address: "127.0.0.1:5123".to_owned(),
        tls: true,
        claims: vec![("application_name".to_owned(), "psql".to_owned())],
    }
}

pub(crate) fn decided(seq: u64, text: &str) -> EventBody {
    EventBody::StatementDecided {
        decision: format!("d{seq}"),
        statement: event_text(text),
        seq_in_session: StatementSeq(seq),
        verbs: vec!["select".to_owned()],
        effects: Effects::of(Effect::Read),
        objects: vec![ObjectRef {
            schema: "public".to_owned(),
            name: "orders".to_owned(),
            kind: "table".to_owned(),
            role: ObjectRole::Read,
        }],
        functions: Vec::new(),
        parameters: Vec::new(),
        outcome: Outcome::Allow,
        rules: Vec::new(),
        reason: None,
        policy_version: PolicyVersion(1),
        in_transaction: false,
        approval: None,
        traceparent: None,
        attributes: std::collections::BTreeMap::new(),
    }
}

pub(crate) fn completed(seq: u64) -> EventBody {
    EventBody::StatementCompleted {
        decision: format!("d{seq}"),
        seq_in_session: StatementSeq(seq),
        code: "00000".to_owned(),
        tag: Some("SELECT 3".to_owned()),
        rows: 3,
        bytes: 120,
        duration_us: 900,
        digest: None,
    }
}

pub(crate) fn changed(what: &str) -> EventBody {
    EventBody::ConfigChanged {
        by: "admin".to_owned(),
        version: PolicyVersion(2),
        changes: vec![what.to_owned()],
    }
}

pub(crate) fn open(dir: &Path) -> (Recorder, corral_record::Recovery) {
    open_at(dir, start()).expect("the record opens")
}

/// Opens a record that is in use by nobody. A process that another test starts has this one's
/// locks for the moment between its fork and its exec: that moment is waited for.
pub(crate) fn open_at(
    dir: &Path,
    now: OffsetDateTime,
) -> Result<(Recorder, corral_record::Recovery), RecordError> {
    let deadline = Instant::now() + LOCK_DEADLINE;
    loop {
        match Recorder::open(dir, "gw-1", now) {
            Err(RecordError::InUse { .. }) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_POLL_INTERVAL);
            }
            opened => return opened,
        }
    }
}

pub(crate) fn begin(recorder: &Recorder, id: &str) -> SessionTap {
    begin_as(recorder, id, origin("ci", "run-1", "orders-db"))
}

pub(crate) fn begin_as(recorder: &Recorder, id: &str, origin: Origin) -> SessionTap {
    recorder
        .session(at(0), session_id(id), origin, Durability::Written, &opened())
        .expect("the session begins")
}

pub(crate) fn say(tap: &mut SessionTap, seq: u64) -> Result<u64, TapError> {
    let text = format!("SELECT {seq} FROM orders");
    tap.append(at(i64::try_from(seq).expect("small")), decided(seq, &text))
        .map(|receipt| receipt.entry_seq())
}

pub(crate) fn close(tap: &mut SessionTap) {
    tap.close(at(60), CloseReason::Client, Totals::default()).expect("the session ends");
}

/// Two sessions of three statements each, a change of the configuration, cleanly stopped.
pub(crate) fn make_record(dir: &Path) {
    let (recorder, _) = open(dir);
    let mut first = begin(&recorder, "s1");
    let mut second = begin(&recorder, "s2");
    for seq in 1..=3 {
        say(&mut first, seq).expect("written");
        say(&mut second, seq).expect("written");
    }
    recorder.checkpoint().expect("signed");
    recorder.append_gateway(at(5), &Origin::default(), &changed("user/ada")).expect("written");
    close(&mut first);
    close(&mut second);
    recorder.stop().expect("stopped");
}

pub(crate) fn key(dir: &Path) -> PublicKey {
    PublicKey::read(&dir.join("record.pub")).expect("the public key")
}

pub(crate) fn check(dir: &Path) -> Result<Verified, VerifyError> {
    verify(&dir.join("record"), &key(dir))
}

pub(crate) fn session_path(dir: &Path, id: &str) -> std::path::PathBuf {
    dir.join("record/sessions/2026-11-23").join(format!("{id}.rec"))
}

pub(crate) fn segment_path(dir: &Path) -> std::path::PathBuf {
    dir.join("record/gateway/000001.rec")
}

pub(crate) fn events_of(dir: &Path, id: &str) -> Vec<Event> {
    Reader::new(dir.join("record"))
        .replay_session(&session_id(id))
        .expect("it can be read")
        .expect("it is there")
}

/// Numbers of the statements that are in a recording.
pub(crate) fn statements_of(events: &[Event]) -> Vec<u64> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::StatementDecided { seq_in_session, .. } => Some(seq_in_session.0),
            _ => None,
        })
        .collect()
}

/// Offsets and lengths of the entries in a file of the record.
pub(crate) fn entries_in(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut entries = Vec::new();
    let mut offset = 72;
    while offset < bytes.len() {
        let length = u32::from_be_bytes(bytes[offset..offset + 4].try_into().expect("four"));
        let whole = 45 + length as usize + 32;
        entries.push((offset, whole));
        offset += whole;
    }
    entries
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

/// What goes wrong at one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is written.
    Refused,
    /// Half of the bytes are written, then the device is full.
    Partial,
    /// As before, and the file cannot be cut back at once.
    PartialAndStuck,
    /// Everything is written, and yet an error comes back.
    WrittenButRefused,
}

/// A disk whose Nth call fails, or that is full.
#[derive(Clone, Default)]
pub(crate) struct FaultyDisk {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    calls: AtomicU64,
    plan: Mutex<Option<(u64, Fault)>>,
    is_full: AtomicBool,
    is_stuck: AtomicBool,
}

impl FaultyDisk {
    pub(crate) fn fail_at(&self, call: u64, fault: Fault) {
        *self.shared.plan.lock().expect("not poisoned") = Some((call, fault));
    }

    pub(crate) fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn set_full(&self, is_full: bool) {
        self.shared.is_full.store(is_full, Ordering::SeqCst);
    }
}

impl Shared {
    fn fault(&self) -> Option<Fault> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let plan = *self.plan.lock().expect("not poisoned");
        match plan {
            Some((planned, fault)) if planned == call => Some(fault),
            _ if self.is_full.load(Ordering::SeqCst) => Some(Fault::Partial),
            _ => None,
        }
    }
}

fn full() -> io::Error {
    io::Error::from_raw_os_error(28)
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Sink>> {
        if self.shared.fault().is_some() {
            return Err(full());
        }
        let sink = FileDisk.create(path)?;
        Ok(Arc::new(FaultySink { sink, shared: Arc::clone(&self.shared) }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn Sink>> {
        let sink = FileDisk.open(path)?;
        Ok(Arc::new(FaultySink { sink, shared: Arc::clone(&self.shared) }))
    }
}

struct FaultySink {
    sink: Arc<dyn Sink>,
    shared: Arc<Shared>,
}

impl Sink for FaultySink {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        match self.shared.fault() {
            None => self.sink.write_at(bytes, offset),
            Some(Fault::Refused) => Err(full()),
            Some(fault) => {
                let count = match fault {
                    Fault::WrittenButRefused => bytes.len(),
                    _ => bytes.len() / 2,
                };
                self.sink.write_at(&bytes[..count], offset)?;
                let is_stuck = fault == Fault::PartialAndStuck;
                self.shared.is_stuck.store(is_stuck, Ordering::SeqCst);
                Err(full())
            }
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        if self.shared.is_stuck.swap(false, Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.sink.truncate(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sink.sync()
    }
}
