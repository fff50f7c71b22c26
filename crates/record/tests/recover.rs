//! Starting on what a crash left.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use corral_gate::Tap;
use corral_model::event::{CloseReason, EventBody, Origin, StreamData, StreamEnd};
use corral_model::ids::StatementSeq;
use corral_model::limits;
use corral_record::{KeyError, RecordError};
use support::*;

/// A record with an open session of three statements, whose gateway vanished.
fn crashed(dir: &std::path::Path) {
    let (recorder, _) = open(dir);
    let mut tap = begin(&recorder, "s1");
    for seq in 1..=3 {
        say(&mut tap, seq).expect("written");
    }
    let copy = dir.join("copy");
    copy_folder(&dir.join("record"), &copy);
    close(&mut tap);
    drop(tap);
    drop(recorder);
    std::fs::remove_dir_all(dir.join("record")).expect("removed");
    std::fs::rename(copy, dir.join("record")).expect("put back");
}

#[test]
fn open_sessions_are_closed_as_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    crashed(dir.path());
    let (recorder, recovery) = open_at(dir.path(), at(100)).expect("opened");
    assert_eq!((recovery.sessions_lost, recovery.bytes_cut), (1, 0));
    let events = events_of(dir.path(), "s1");
    let last = events.last().expect("events");
    let EventBody::SessionClosed { reason, statements, .. } = last.body else {
        panic!("closed, not {last:?}")
    };
    assert_eq!((reason, statements), (CloseReason::Lost, 3));
    assert_eq!(last.origin.target, origin("ci", "run-1", "orders-db").target);
    let verified = check(dir.path()).expect("verified");
    assert_eq!((verified.sessions_open, verified.entries_unsigned), (0, 0));
    drop(recorder);
    let (_recorder, again) = open(dir.path());
    assert_eq!(again.sessions_lost, 0);
}

#[test]
fn a_session_torn_at_any_byte_of_its_last_entry_is_cut_and_verifies() {
    let dir = tempfile::tempdir().expect("a folder");
    crashed(dir.path());
    let path = session_path(dir.path(), "s1");
    let bytes = std::fs::read(&path).expect("a session");
    let (start, length) = *entries_in(&bytes).last().expect("entries");
    let pristine = dir.path().join("pristine");
    copy_folder(&dir.path().join("record"), &pristine);
    for kept in 0..length {
        std::fs::remove_dir_all(dir.path().join("record")).expect("removed");
        copy_folder(&pristine, &dir.path().join("record"));
        std::fs::write(&path, &bytes[..start + kept]).expect("torn");
        let (recorder, recovery) = open_at(dir.path(), at(100)).expect("opened");
        assert_eq!(recovery.bytes_cut, kept as u64);
        assert_eq!(recovery.sessions_lost, 1);
        assert_eq!(recovery.sessions_damaged, []);
        drop(recorder);
        check(dir.path()).unwrap_or_else(|error| panic!("{kept} bytes left: {error}"));
        assert_eq!(statements_of(&events_of(dir.path(), "s1")), [1, 2]);
    }
}

#[test]
fn a_session_torn_in_its_first_entry_never_began() {
    for kept in [0, 1, 71, 72, 73, 200] {
        let dir = tempfile::tempdir().expect("a folder");
        crashed(dir.path());
        let path = session_path(dir.path(), "s1");
        let bytes = std::fs::read(&path).expect("a session");
        std::fs::write(&path, &bytes[..kept]).expect("torn");
        let (recorder, recovery) = open_at(dir.path(), at(100)).expect("opened");
        assert_eq!((recovery.sessions_lost, recovery.bytes_cut), (1, kept as u64), "{kept}");
        drop(recorder);
        check(dir.path()).unwrap_or_else(|error| panic!("{kept} bytes left: {error}"));
    }
}

#[test]
fn a_gateway_chain_torn_at_any_byte_of_its_last_entry_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, _) = open(dir.path());
    recorder.append_gateway(at(1), &Origin::default(), &changed("user/a")).expect("written");
    recorder.append_gateway(at(2), &Origin::default(), &changed("user/b")).expect("written");
    let bytes = std::fs::read(segment_path(dir.path())).expect("a segment");
    drop(recorder);
    let (start, length) = *entries_in(&bytes).last().expect("entries");
    for kept in 0..length {
        std::fs::write(segment_path(dir.path()), &bytes[..start + kept]).expect("torn");
        let (recorder, recovery) = open(dir.path());
        assert_eq!(recovery.bytes_cut, kept as u64);
        let id = recorder.append_gateway(at(3), &Origin::default(), &changed("user/c"));
        assert!(id.expect("written").starts_with("gw_"));
        recorder.stop().expect("stopped");
        drop(recorder);
        check(dir.path()).unwrap_or_else(|error| panic!("{kept} bytes left: {error}"));
    }
}

#[test]
fn zeros_that_a_loss_of_power_left_are_cut() {
    let dir = tempfile::tempdir().expect("a folder");
    crashed(dir.path());
    for path in [session_path(dir.path(), "s1"), segment_path(dir.path())] {
        let mut file = std::fs::OpenOptions::new().append(true).open(path).expect("a file");
        file.write_all(&[0; 5000]).expect("zeros");
    }
    let (recorder, recovery) = open_at(dir.path(), at(100)).expect("opened");
    assert_eq!(recovery.bytes_cut, 10_000);
    drop(recorder);
    check(dir.path()).expect("verified");
    let kept: Vec<_> = std::fs::read_dir(dir.path().join("record/cut")).expect("kept").collect();
    assert_eq!(kept.len(), 2);
}

#[test]
fn an_entry_whose_last_sectors_are_zeros_is_cut_and_one_that_was_changed_is_not() {
    for is_changed in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        crashed(dir.path());
        let path = session_path(dir.path(), "s1");
        let mut bytes = std::fs::read(&path).expect("a session");
        let (start, length) = *entries_in(&bytes).last().expect("entries");
        let sector = (start + 1).next_multiple_of(512);
        assert!(sector < start + length, "an entry in two sectors");
        bytes[sector..].fill(0);
        if is_changed {
            bytes[start + length - 1] = 1;
        }
        std::fs::write(&path, &bytes).expect("torn");
        let (recorder, recovery) = open_at(dir.path(), at(100)).expect("opened");
        drop(recorder);
        if is_changed {
            assert_eq!(recovery.sessions_damaged, [session_id("s1")]);
            check(dir.path()).expect_err("it is named");
        } else {
            assert_eq!(recovery.sessions_damaged, []);
            assert_eq!(recovery.bytes_cut, length as u64);
            check(dir.path()).expect("verified");
            assert_eq!(statements_of(&events_of(dir.path(), "s1")), [1, 2]);
        }
    }
}

#[test]
fn what_was_signed_is_never_cut() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, _) = open(dir.path());
    let mut tap = begin(&recorder, "s1");
    say(&mut tap, 1).expect("written");
    say(&mut tap, 2).expect("written");
    recorder.checkpoint().expect("signed");
    let copy = dir.path().join("copy");
    copy_folder(&dir.path().join("record"), &copy);
    close(&mut tap);
    drop((tap, recorder));
    std::fs::remove_dir_all(dir.path().join("record")).expect("removed");
    std::fs::rename(copy, dir.path().join("record")).expect("put back");

    let path = session_path(dir.path(), "s1");
    let bytes = std::fs::read(&path).expect("a session");
    let (start, _) = *entries_in(&bytes).last().expect("entries");
    std::fs::write(&path, &bytes[..start + 10]).expect("torn");
    let (recorder, recovery) = open_at(dir.path(), at(100)).expect("opened");
    assert_eq!(recovery.sessions_damaged, [session_id("s1")]);
    assert_eq!(std::fs::metadata(&path).expect("there").len(), (start + 10) as u64);
    drop(recorder);
    let error = check(dir.path()).expect_err("the loss is named").to_string();
    assert!(error.contains("session s1, entry 3"), "{error}");
}

#[test]
fn a_changed_gateway_chain_is_not_continued() {
    let dir = tempfile::tempdir().expect("a folder");
    make_record(dir.path());
    let path = segment_path(dir.path());
    let mut bytes = std::fs::read(&path).expect("a segment");
    bytes[140] ^= 1;
    std::fs::write(&path, bytes).expect("changed");
    let result = open_at(dir.path(), at(100));
    assert!(matches!(result, Err(RecordError::Damaged { .. })));
}

#[test]
fn a_lost_key_or_a_lost_chain_stops_the_start() {
    let dir = tempfile::tempdir().expect("a folder");
    make_record(dir.path());
    std::fs::rename(dir.path().join("record.key"), dir.path().join("aside")).expect("moved");
    let result = open_at(dir.path(), at(100));
    assert!(matches!(result, Err(RecordError::Key(KeyError::Missing { .. }))));
    std::fs::rename(dir.path().join("aside"), dir.path().join("record.key")).expect("moved");
    std::fs::remove_file(segment_path(dir.path())).expect("removed");
    let result = open_at(dir.path(), at(100));
    assert!(matches!(result, Err(RecordError::Damaged { .. })));
}

#[test]
fn a_long_chain_goes_on_in_another_segment_that_a_start_can_read_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, _) = open(dir.path());
    let mut tap = begin(&recorder, "s1");
    say(&mut tap, 1).expect("written");
    let long = "x".repeat(1024 * 1024);
    for _ in 0..=limits::RECORD_SEGMENT_BYTES / (1024 * 1024) {
        recorder.append_gateway(at(1), &Origin::default(), &changed(&long)).expect("written");
    }
    recorder.checkpoint().expect("signed");
    let second = dir.path().join("record/gateway/000002.rec");
    assert!(second.exists());
    say(&mut tap, 2).expect("written");
    let copy = dir.path().join("copy");
    copy_folder(&dir.path().join("record"), &copy);
    close(&mut tap);
    drop((tap, recorder));
    std::fs::remove_dir_all(dir.path().join("record")).expect("removed");
    std::fs::rename(copy, dir.path().join("record")).expect("put back");

    let (recorder, recovery) = open_at(dir.path(), at(100)).expect("opened");
    assert_eq!(recovery.sessions_lost, 1);
    drop(recorder);
    let verified = check(dir.path()).expect("verified");
    assert_eq!((verified.sessions, verified.sessions_open), (1, 0));

    // The crash came while the next segment was begun.
    std::fs::write(dir.path().join("record/gateway/000003.rec"), b"CORRAL").expect("torn");
    let (recorder, recovery) = open(dir.path());
    assert_eq!(recovery.bytes_cut, 6);
    drop(recorder);
    check(dir.path()).expect("verified");
}

const CHILD_FOLDER: &str = "CORRAL_RECORD_TEST_FOLDER";

/// Not a test by itself: the process that the next test kills.
#[test]
fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    let (recorder, _) = open(std::path::Path::new(&folder));
    let mut tap = begin(&recorder, "s1");
    for seq in 1.. {
        say(&mut tap, seq).expect("written");
        println!("acknowledged {seq}");
        std::io::stdout().flush().expect("flushed");
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "writes_until_it_is_killed", "--nocapture"])
        .env(CHILD_FOLDER, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut acknowledged = 0;
    let mut is_killed = false;
    while let Some(Ok(line)) = lines.next() {
        if let Some((_, seq)) = line.split_once("acknowledged ") {
            acknowledged = seq.parse().unwrap_or(acknowledged);
        }
        if acknowledged >= 200 && !is_killed {
            child.kill().expect("killed");
            is_killed = true;
        }
    }
    child.wait().expect("gone");
    assert!(acknowledged >= 200);
    let (_recorder, recovery) = open_at(dir.path(), at(100)).expect("opened");
    assert_eq!(recovery.sessions_lost, 1);
    let statements = statements_of(&events_of(dir.path(), "s1"));
    assert!(statements.len() as u64 >= acknowledged);
    assert!(statements.iter().copied().eq(1..=statements.len() as u64));
    check(dir.path()).expect("verified");
}

#[test]
fn a_lost_session_counts_what_its_open_streams_moved() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, _) = open(dir.path());
    let mut tap = begin(&recorder, "s1");
    let mut piece = |seq: u64, from: StreamEnd, text: &str| {
        let data = StreamData::Text(text.to_owned());
        let body = EventBody::StreamPassed { seq_in_session: StatementSeq(seq), from, data };
        tap.note(at(1), body).expect("written");
    };
    piece(1, StreamEnd::Target, "0123456789");
    piece(2, StreamEnd::Target, "01234");
    piece(2, StreamEnd::TargetError, "0");
    piece(2, StreamEnd::Client, "012");
    // Its own number, 120 bytes, has all of the first stream.
    tap.note(at(2), completed(1)).expect("written");
    let copy = dir.path().join("copy");
    copy_folder(&dir.path().join("record"), &copy);
    drop(tap);
    drop(recorder);
    std::fs::remove_dir_all(dir.path().join("record")).expect("removed");
    std::fs::rename(copy, dir.path().join("record")).expect("put back");
    let (_recorder, recovery) = open(dir.path());
    assert_eq!(recovery.sessions_lost, 1);
    let events = events_of(dir.path(), "s1");
    let Some(EventBody::SessionClosed { bytes_to_client, bytes_to_target, .. }) =
        events.last().map(|event| &event.body)
    else {
        panic!("closed, not {events:?}")
    };
    assert_eq!((*bytes_to_client, *bytes_to_target), (126, 3));
}
