//! Tests only: the power goes at each call to the device in turn, with what was not synced on the
//! disk, not on it, or in part. What was acknowledged as synced is there after the next start.

mod disk;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corral_gate::Tap;
use corral_model::event::{CloseReason, EventBody, Origin};
use corral_model::ids::{SessionId, StatementSeq};
use corral_model::resource::Durability;
use disk::{ALL_LEFT, Left, PowerDisk};
use time::OffsetDateTime;

use crate::journal::JournalSize;
use crate::key::PublicKey;
use crate::layout;
use crate::read::Reader;
use crate::recorder::Recorder;
use crate::recover::Recovery;
use crate::tap::{SessionTap, Totals};
use crate::verify::{VerifyError, verify};

const SESSIONS: usize = 3;
const STATEMENTS: u64 = 6;
/// Rounds are a block or two long: the journal starts over every few of them.
const SMALL: JournalSize = JournalSize { bytes: 6 * 4096, files_max: 16 };
/// The same, because of the files.
const FEW_FILES: JournalSize = JournalSize { bytes: 64 * 4096, files_max: 2 };

fn now() -> OffsetDateTime {
    time::macros::datetime!(2026-11-23 12:00:00 UTC)
}

fn open(disk: &PowerDisk, dir: &Path, size: JournalSize) -> Option<(Recorder, Recovery)> {
    Recorder::open_with(Arc::new(disk.clone()), dir, "gw-1", now(), size).ok()
}

fn begin(recorder: &Recorder, id: &str) -> Option<SessionTap> {
    let opened = EventBody::SessionOpened {
        protocol: "wire".to_owned(),
        client_address: "127.0.0.1:5123".to_owned(),
        tls: true,
        claims: Vec::new(),
    };
    let id = SessionId::new(id).expect("an id");
    recorder.session(now(), id, Origin::default(), Durability::Synced, &opened).ok()
}

fn completed(seq: u64) -> EventBody {
    EventBody::StatementCompleted {
        decision: format!("d{seq}"),
        seq_in_session: StatementSeq(seq),
        code: "00000".to_owned(),
        tag: Some("x".repeat(300)),
        rows: 3,
        bytes: 120,
        duration_us: 900,
        digest: None,
    }
}

/// What each session was told is durable.
type Told = BTreeMap<String, BTreeSet<u64>>;

/// Three sessions write and wait for syncs, together and alone, until the power goes. Returns what
/// was acknowledged, and the number of calls after which every session had its first sync.
fn play(disk: &PowerDisk, dir: &Path, size: JournalSize) -> (Told, u64) {
    let mut told = Told::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let Some((recorder, _)) = open(disk, dir, size) else { return (told, 0) };
    let names: Vec<String> = (0..SESSIONS).map(|number| format!("s{number}")).collect();
    let mut taps: Vec<SessionTap> = Vec::new();
    for name in &names {
        let Some(mut tap) = begin(&recorder, name) else { return (told, 0) };
        if runtime.block_on(tap.sync()).is_err() {
            return (told, 0);
        }
        taps.push(tap);
    }
    let begun = disk.world().calls;
    for seq in 1..=STATEMENTS {
        let mut written: Vec<bool> = Vec::new();
        for tap in &mut taps {
            written.push(tap.append(now(), completed(seq)).is_ok());
        }
        let synced: Vec<bool> = runtime.block_on(async {
            let [first, second, third] = &mut taps[..] else { panic!("three") };
            let (first, second, third) = tokio::join!(first.sync(), second.sync(), third.sync());
            vec![first.is_ok(), second.is_ok(), third.is_ok()]
        });
        for (index, name) in names.iter().enumerate() {
            if written[index] && synced[index] {
                told.entry(name.clone()).or_default().insert(seq);
            }
            // Something that nobody waits for; the next sync has it too.
            let _ = taps[index].note(now(), completed(1000 + seq));
        }
        if seq == STATEMENTS / 2 {
            let _ = recorder.checkpoint();
        }
    }
    // No last words reach the disk.
    disk.turn_off();
    (told, begun)
}

fn statements_of(dir: &Path, session: &str) -> BTreeSet<u64> {
    let id = SessionId::new(session).expect("an id");
    let events = Reader::new(dir.join("record")).replay_session(&id).expect("it can be read");
    let statement = |event: &corral_model::Event| match &event.body {
        EventBody::StatementCompleted { seq_in_session, .. } => Some(seq_in_session.0),
        _ => None,
    };
    events.into_iter().flatten().filter_map(|event| statement(&event)).collect()
}

fn check(dir: &Path) -> Result<(), VerifyError> {
    let key = PublicKey::read(&dir.join("record.pub")).expect("the public key");
    verify(&dir.join("record"), &key).map(|_| ())
}

fn assert_told(dir: &Path, told: &Told, place: &str) {
    for (session, statements) in told {
        let there = statements_of(dir, session);
        let missing: Vec<_> = statements.difference(&there).collect();
        assert!(missing.is_empty(), "{place}: {session} lost {missing:?}");
    }
    check(dir).unwrap_or_else(|error| panic!("{place}: {error}"));
}

/// A folder as it is after the power went at a call, and what was acknowledged before.
struct Outage {
    dir: tempfile::TempDir,
    disk: PowerDisk,
    told: Told,
    begun: u64,
}

fn outage_at(call: u64, size: JournalSize) -> Outage {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = PowerDisk::off_at(call);
    let (told, begun) = play(&disk, dir.path(), size);
    Outage { dir, disk, told, begun }
}

fn outage_at_each_call(size: JournalSize, check_one: impl Fn(&Outage, Left, &str)) {
    let whole = outage_at(u64::MAX, size);
    let (first, last) = (whole.begun + 1, whole.disk.world().calls);
    assert!(last > first + 30, "{first} to {last}");
    for call in first..=last + 1 {
        let outage = outage_at(call, size);
        for left in ALL_LEFT {
            check_one(&outage, left, &format!("power off at call {call}, {left:?}"));
        }
    }
}

fn nothing_synced_is_lost(size: JournalSize) {
    outage_at_each_call(size, |outage, left, place| {
        let back = tempfile::tempdir().expect("a folder");
        outage.disk.come_back(outage.dir.path(), back.path(), left);
        let opened = open(&PowerDisk::default(), back.path(), size);
        let (recorder, recovery) = opened.unwrap_or_else(|| panic!("{place}: it opens"));
        assert_eq!(recovery.sessions_damaged, [], "{place}");
        assert_eq!(recovery.sessions_lost, SESSIONS as u64, "{place}");
        drop(recorder);
        assert_told(back.path(), &outage.told, place);
        assert!(!layout::journal_path(&back.path().join("record")).exists(), "{place}");
    });
}

#[test]
fn a_loss_of_power_at_any_call_loses_nothing_that_was_synced() {
    nothing_synced_is_lost(SMALL);
}

#[test]
fn a_journal_that_stands_in_for_few_files_loses_nothing_that_was_synced() {
    nothing_synced_is_lost(FEW_FILES);
}

#[test]
fn the_power_may_go_again_at_any_call_of_the_start() {
    let whole = outage_at(u64::MAX, SMALL);
    let calls = whole.disk.world().calls;
    // In the middle of a journal, near its end, and just after it started over.
    for call in [whole.begun + 9, calls - 9, calls - 1] {
        let outage = outage_at(call, SMALL);
        for left in [Left::Nothing, Left::Sectors(1)] {
            let mut again = 0;
            let mut is_opened = false;
            while !is_opened {
                again += 1;
                let place = format!("power off at call {call}, {left:?}, then at call {again}");
                let middle = tempfile::tempdir().expect("a folder");
                outage.disk.come_back(outage.dir.path(), middle.path(), left);
                let disk = PowerDisk::off_at(again);
                disk.know(middle.path());
                is_opened = open(&disk, middle.path(), SMALL).is_some();
                // A removal of the journal that was not synced may not have happened.
                for is_back in [false, true] {
                    let last = tempfile::tempdir().expect("a folder");
                    disk.come_back(middle.path(), last.path(), left);
                    let journal = |dir: &Path| layout::journal_path(&dir.join("record"));
                    if !is_back && !journal(middle.path()).exists() {
                        let _ = fs::remove_file(journal(last.path()));
                    }
                    let opened = open(&PowerDisk::default(), last.path(), SMALL);
                    let (recorder, recovery) = opened.unwrap_or_else(|| panic!("{place}: opens"));
                    assert_eq!(recovery.sessions_damaged, [], "{place}");
                    drop(recorder);
                    for (session, statements) in &outage.told {
                        let there = statements_of(last.path(), session);
                        assert!(statements.is_subset(&there), "{place}: {session}");
                    }
                }
            }
            assert!(again > 3, "the start was cut {again} times");
        }
    }
}

/// Writes three statements to a session, waiting for each to be synced; returns how many were.
fn say_three(tap: &mut SessionTap, first: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let says = |seq| {
        let is_written = tap.append(now(), completed(seq)).is_ok();
        u64::from(is_written && runtime.block_on(tap.sync()).is_ok())
    };
    (first..first + 3).map(says).sum()
}

#[test]
fn a_journal_that_cannot_be_synced_is_done_without() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = PowerDisk::default();
    disk.world().unsyncable = Some("/journal");
    let (recorder, _) = open(&disk, dir.path(), SMALL).expect("it opens");
    let mut tap = begin(&recorder, "s0").expect("begun");
    assert_eq!(say_three(&mut tap, 1), 3);
    // Also when it could be synced later: nobody knows what the kernel dropped.
    disk.world().unsyncable = None;
    assert_eq!(say_three(&mut tap, 4), 3);
    disk.turn_off();
    let back = tempfile::tempdir().expect("a folder");
    disk.come_back(dir.path(), back.path(), Left::Nothing);
    let (recorder, _) = open(&PowerDisk::default(), back.path(), SMALL).expect("it opens");
    drop(recorder);
    let told = Told::from([("s0".to_owned(), (1..=6).collect())]);
    assert_told(back.path(), &told, "without the journal");
}

#[test]
fn a_journal_that_cannot_be_made_is_done_without() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = PowerDisk::default();
    let (recorder, _) = open(&disk, dir.path(), SMALL).expect("it opens");
    // Something of that name that nobody wrote.
    let journal = layout::journal_path(&dir.path().join("record"));
    fs::create_dir(&journal).expect("made");
    let mut tap = begin(&recorder, "s0").expect("begun");
    assert_eq!(say_three(&mut tap, 1), 3);
    disk.turn_off();
    let back = tempfile::tempdir().expect("a folder");
    disk.come_back(dir.path(), back.path(), Left::Nothing);
    let (recorder, _) = open(&PowerDisk::default(), back.path(), SMALL).expect("it opens");
    drop(recorder);
    let told = Told::from([("s0".to_owned(), (1..=3).collect())]);
    assert_told(back.path(), &told, "without the journal");
}

#[test]
fn a_file_that_cannot_be_synced_ends_its_session_and_the_journal_keeps_its_entries() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = PowerDisk::default();
    let (recorder, _) = open(&disk, dir.path(), SMALL).expect("it opens");
    let mut taps: Vec<_> =
        ["s0", "s1"].map(|name| begin(&recorder, name).expect("begun")).into_iter().collect();
    for tap in &mut taps {
        assert_eq!(say_three(tap, 1), 3);
    }
    disk.world().unsyncable = Some("/s0.rec");
    // The journal starts over while these are written, and needs the file's own sync for it.
    let told: u64 = (0..4).map(|round| say_three(&mut taps[1], 4 + 3 * round)).sum();
    assert_eq!(told, 12, "the other session goes on");
    disk.world().unsyncable = None;
    assert_eq!(say_three(&mut taps[0], 4), 0, "nothing counts as synced again");
    disk.turn_off();
    let back = tempfile::tempdir().expect("a folder");
    disk.come_back(dir.path(), back.path(), Left::Nothing);
    let (recorder, _) = open(&PowerDisk::default(), back.path(), SMALL).expect("it opens");
    drop(recorder);
    let told =
        Told::from([("s0".to_owned(), (1..=3).collect()), ("s1".to_owned(), (1..=15).collect())]);
    assert_told(back.path(), &told, "one file fails");
}

#[test]
fn a_sessions_end_is_synced_before_its_link_is_by_somebody_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = PowerDisk::default();
    let (recorder, _) = open(&disk, dir.path(), SMALL).expect("it opens");
    let mut tap = begin(&recorder, "s0").expect("begun");
    assert_eq!(say_three(&mut tap, 1), 3);
    tap.close(now(), CloseReason::Client, Totals::default()).expect("closed");
    // Its first sync is one of the gateway's chain, which says where the other session ended.
    let mut other = begin(&recorder, "s1").expect("begun");
    assert_eq!(say_three(&mut other, 1), 3);
    disk.turn_off();
    let back = tempfile::tempdir().expect("a folder");
    disk.come_back(dir.path(), back.path(), Left::Nothing);
    let opened = open(&PowerDisk::default(), back.path(), SMALL);
    let (recorder, recovery) = opened.expect("it opens");
    drop(recorder);
    assert_eq!(recovery.sessions_lost, 1);
    let three: BTreeSet<u64> = (1..=3).collect();
    let told = ["s0", "s1"].map(|name| (name.to_owned(), three.clone())).into_iter().collect();
    assert_told(back.path(), &told, "one session ended");
}

/// A folder whose power went with rounds in its journal that no file has.
fn with_a_journal() -> (tempfile::TempDir, PathBuf) {
    let outage = outage_at(u64::MAX, FEW_FILES);
    let back = tempfile::tempdir().expect("a folder");
    outage.disk.come_back(outage.dir.path(), back.path(), Left::Nothing);
    let journal = layout::journal_path(&back.path().join("record"));
    assert!(journal.exists());
    (back, journal)
}

fn cut_aside(dir: &Path) -> Vec<String> {
    let names = layout::names_in(&layout::cut_dir(&dir.join("record"))).expect("a folder");
    names.into_iter().filter(|name| name.starts_with("journal.")).collect()
}

#[test]
fn entries_that_do_not_continue_their_file_are_kept_aside() {
    let (dir, journal) = with_a_journal();
    let sessions = dir.path().join("record/sessions/2026-11-23");
    // Durable entries in front of those in the journal are gone: there is a gap.
    for name in ["s0.rec", "s1.rec", "s2.rec"] {
        let bytes = fs::read(sessions.join(name)).expect("a file");
        fs::write(sessions.join(name), &bytes[..400]).expect("cut");
    }
    let before = fs::read(&journal).expect("a journal");
    let (recorder, recovery) = open(&PowerDisk::default(), dir.path(), SMALL).expect("it opens");
    drop(recorder);
    assert!(!recovery.sessions_damaged.is_empty());
    let [aside] = &cut_aside(dir.path())[..] else { panic!("kept once") };
    let kept = fs::read(dir.path().join("record/cut").join(aside)).expect("kept");
    assert_eq!(kept, before);
    assert!(!journal.exists());
}

#[test]
fn a_missing_file_is_not_made_from_the_journal() {
    let (dir, _) = with_a_journal();
    let sessions = dir.path().join("record/sessions/2026-11-23");
    for name in ["s0.rec", "s1.rec", "s2.rec"] {
        fs::remove_file(sessions.join(name)).expect("removed");
    }
    let (recorder, recovery) = open(&PowerDisk::default(), dir.path(), SMALL).expect("it opens");
    drop(recorder);
    assert!(!recovery.sessions_damaged.is_empty());
    assert_eq!(cut_aside(dir.path()).len(), 1);
    assert_eq!(layout::names_in(&sessions).expect("a folder"), Vec::<String>::new());
}

#[test]
fn a_journal_of_another_record_or_version_stops_the_start() {
    let (dir, journal) = with_a_journal();
    let pristine = fs::read(&journal).expect("a journal");
    // The magic, the version, the kind, a reserved byte, the record's id.
    for index in [0, 8, 9, 12, 56, 71] {
        let mut bytes = pristine.clone();
        bytes[index] ^= 0x40;
        fs::write(&journal, bytes).expect("changed");
        assert!(open(&PowerDisk::default(), dir.path(), SMALL).is_none(), "byte {index}");
        assert!(journal.exists(), "byte {index}");
    }
}

#[test]
fn a_changed_journal_adds_nothing_that_does_not_chain() {
    let (dir, journal) = with_a_journal();
    let pristine = fs::read(&journal).expect("a journal");
    let record = dir.path().join("record");
    let sessions = record.join("sessions/2026-11-23");
    let files: Vec<_> =
        ["s0.rec", "s1.rec", "s2.rec"].iter().map(|name| sessions.join(name)).collect();
    let chain = record.join("gateway/000001.rec");
    let before: Vec<_> =
        files.iter().chain([&chain]).map(|path| fs::read(path).expect("a file")).collect();
    let used = pristine.iter().rposition(|byte| *byte != 0).expect("rounds");
    for index in (72..used).step_by(used / 100) {
        for (path, bytes) in files.iter().chain([&chain]).zip(&before) {
            fs::write(path, bytes).expect("put back");
        }
        let mut bytes = pristine.clone();
        bytes[index] ^= 0x04;
        fs::write(&journal, bytes).expect("changed");
        let opened = open(&PowerDisk::default(), dir.path(), SMALL);
        let (recorder, recovery) = opened.unwrap_or_else(|| panic!("byte {index}: it opens"));
        drop(recorder);
        assert_eq!(recovery.sessions_damaged, [], "byte {index}");
        check(dir.path()).unwrap_or_else(|error| panic!("byte {index}: {error}"));
    }
}
