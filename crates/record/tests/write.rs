//! Writing: what is acknowledged is in the record, what is refused is not acted on, and a full
//! device ends nothing.

mod support;

use corral_gate::{Tap, TapError};
use corral_model::event::{CloseReason, EventBody, Origin};
use corral_model::limits;
use corral_model::resource::Durability;
use corral_record::{Followed, Reader, RecordError, Recorder, Totals, verify};
use support::*;

#[test]
fn written_events_read_back_as_followers_saw_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, recovery) = open(dir.path());
    assert_eq!(recovery, corral_record::Recovery::default());
    let mut follower = recorder.subscribe();
    let mut tap = begin(&recorder, "s1");
    say(&mut tap, 1).expect("written");
    tap.note(at(2), completed(1)).expect("written");
    let id = recorder.append_gateway(at(3), &Origin::default(), &changed("user/ada"));
    close(&mut tap);
    recorder.stop().expect("stopped");

    let mut seen = Vec::new();
    while let Some(followed) = follower.try_next() {
        let Followed::Event(event) = followed else { panic!("nothing was missed") };
        seen.push(event.as_ref().clone());
    }
    let of_session: Vec<_> =
        seen.iter().filter(|event| event.origin.session.is_some()).cloned().collect();
    assert_eq!(events_of(dir.path(), "s1"), of_session);
    assert_eq!(of_session.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(of_session[0].id, "s1:1");
    let found = Reader::new(recorder.record_dir())
        .search(&corral_record::Filter::default(), corral_record::Order::OldestFirst, 100)
        .expect("found");
    for event in &seen {
        assert!(found.events.contains(event), "{event:?}");
    }
    assert!(seen.iter().any(|event| Some(&event.id) == id.as_ref().ok()));
    assert!(seen.iter().any(|event| matches!(event.body, EventBody::RecordCheckpointed { .. })));
}

#[test]
fn a_second_gateway_cannot_write_the_same_record() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_recorder, _) = open(dir.path());
    let second = Recorder::open(dir.path(), "gw-2", start());
    assert!(matches!(second, Err(RecordError::InUse { .. })));
}

#[test]
fn a_session_id_is_used_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, _) = open(dir.path());
    let _tap = begin(&recorder, "s1");
    let again = recorder.session(
        at(1),
        session_id("s1"),
        Origin::default(),
        Durability::Written,
        &opened(),
    );
    assert!(again.is_err());
}

#[test]
fn each_failing_write_is_recorded_or_refused() {
    let faults = [Fault::Refused, Fault::Partial, Fault::PartialAndStuck, Fault::WrittenButRefused];
    for fault in faults {
        let mut call = 1;
        loop {
            let dir = tempfile::tempdir().expect("a folder");
            let disk = FaultyDisk::default();
            disk.fail_at(call, fault);
            let acknowledged = play(&disk, dir.path());
            let is_past_the_end = disk.calls() < call;
            let place = format!("{fault:?} at call {call}");
            check_after_crash(dir.path(), &acknowledged, &place);
            if is_past_the_end {
                break;
            }
            call += 1;
        }
        assert!(call > 10, "the play has more than ten calls");
    }
}

/// Two sessions whose gateway then vanishes; returns the statements that were acknowledged.
fn play(disk: &FaultyDisk, dir: &std::path::Path) -> Vec<(String, u64)> {
    let mut acknowledged = Vec::new();
    let disk: std::sync::Arc<dyn corral_record::Disk> = std::sync::Arc::new(disk.clone());
    let Ok((recorder, _)) = Recorder::open_on(disk, dir, "gw-1", start()) else {
        return acknowledged;
    };
    for id in ["s1", "s2"] {
        let opened = recorder.session(
            at(0),
            session_id(id),
            origin("ci", "r", "t"),
            Durability::Written,
            &opened(),
        );
        let Ok(mut tap) = opened else { continue };
        for seq in 1..=3 {
            if say(&mut tap, seq).is_ok() {
                acknowledged.push((id.to_owned(), seq));
                tap.note(at(9), completed(seq)).expect("kept at least");
            }
        }
        let _ = tap.close(at(10), CloseReason::Client, Totals::default());
        let _ = recorder.checkpoint();
    }
    acknowledged
}

fn check_after_crash(dir: &std::path::Path, acknowledged: &[(String, u64)], place: &str) {
    let (recorder, recovery) = Recorder::open(dir, "gw-1", at(100)).expect(place);
    assert_eq!(recovery.sessions_damaged, [], "{place}");
    verify(recorder.record_dir(), recorder.public_key())
        .map_err(|error| format!("{place}: {error}"))
        .expect("verified");
    for (id, seq) in acknowledged {
        let statements = statements_of(&events_of(dir, id));
        assert!(statements.contains(seq), "{place}: {id} {seq} is acknowledged, not recorded");
    }
}

#[test]
fn a_session_goes_on_when_a_full_device_has_space_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = FaultyDisk::default();
    let (recorder, _) =
        Recorder::open_on(std::sync::Arc::new(disk.clone()), dir.path(), "gw-1", start())
            .expect("opened");
    let mut tap = begin(&recorder, "s1");
    say(&mut tap, 1).expect("written");
    disk.set_full(true);
    assert!(matches!(say(&mut tap, 2), Err(TapError::Unavailable(_))));
    tap.note(at(2), completed(1)).expect("kept");
    assert!(matches!(say(&mut tap, 3), Err(TapError::Unavailable(_))));
    let refused = recorder.session(
        at(3),
        session_id("s2"),
        Origin::default(),
        Durability::Written,
        &opened(),
    );
    assert!(refused.is_err());
    let admin = recorder.append_gateway(at(3), &Origin::default(), &changed("a"));
    assert!(matches!(admin, Err(RecordError::Append(_))));
    recorder.note_gateway(at(3), &Origin::default(), &changed("b")).expect("kept");

    disk.set_full(false);
    say(&mut tap, 4).expect("written");
    close(&mut tap);
    recorder.stop().expect("stopped");
    assert_eq!(statements_of(&events_of(dir.path(), "s1")), [1, 4]);
    let names: Vec<_> = events_of(dir.path(), "s1").iter().map(|event| event.body.name()).collect();
    assert_eq!(
        names,
        [
            "session.opened",
            "statement.decided",
            "statement.completed",
            "statement.decided",
            "session.closed"
        ]
    );
    check(dir.path()).expect("verified");
}

#[test]
fn notes_are_kept_up_to_a_limit_and_then_the_session_learns_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = FaultyDisk::default();
    let (recorder, _) =
        Recorder::open_on(std::sync::Arc::new(disk.clone()), dir.path(), "gw-1", start())
            .expect("opened");
    let mut tap = begin(&recorder, "s1");
    disk.set_full(true);
    for seq in 0..limits::RECORD_NOTES_MAX as u64 {
        tap.note(at(1), completed(seq)).expect("kept");
    }
    assert!(tap.note(at(1), completed(999)).is_err());
    // The end is kept whatever else is kept.
    assert!(tap.close(at(2), CloseReason::Record, Totals::default()).is_err());
    disk.set_full(false);
    recorder.checkpoint().expect("signed");
    let events = events_of(dir.path(), "s1");
    assert_eq!(events.len(), 1 + limits::RECORD_NOTES_MAX + 1);
    assert_eq!(events.last().map(|event| event.body.name()), Some("session.closed"));
    let verified = check(dir.path()).expect("verified");
    assert_eq!((verified.sessions, verified.sessions_open), (1, 0));
}

#[test]
fn an_entry_that_is_too_long_is_refused_and_the_session_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, _) = open(dir.path());
    let mut tap = begin(&recorder, "s1");
    let cell = "x".repeat(limits::RECORD_ENTRY_BYTES_MAX);
    let rows = EventBody::StatementRows {
        seq_in_session: corral_model::StatementSeq(1),
        columns: vec!["doc".to_owned()],
        rows: vec![vec![Some(cell)]],
        truncated: false,
    };
    assert!(tap.note(at(1), rows).is_err());
    say(&mut tap, 1).expect("written");
    close(&mut tap);
    check(dir.path()).expect("verified");
}

#[test]
fn a_large_event_is_shortened_for_followers_and_whole_in_the_record() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, _) = open(dir.path());
    let mut tap = begin(&recorder, "s1");
    let mut follower = recorder.subscribe();
    let rows = |cell: &str| EventBody::StatementRows {
        seq_in_session: corral_model::StatementSeq(1),
        columns: vec!["doc".to_owned()],
        rows: vec![vec![Some(cell.to_owned())]],
        truncated: false,
    };
    let long = "x".repeat(100_000);
    tap.note(at(1), rows("short")).expect("written");
    tap.note(at(1), rows(&long)).expect("written");
    let mut seen = || match follower.try_next() {
        Some(Followed::Event(event)) => event.body.clone(),
        other => unreachable!("an event, not {other:?}"),
    };
    assert_eq!(seen(), rows("short"));
    let EventBody::StatementRows { rows: cells, truncated, .. } = seen() else {
        unreachable!("rows")
    };
    assert!(cells.is_empty() && truncated);
    assert_eq!(events_of(dir.path(), "s1")[2].body, rows(&long));
}

#[test]
fn notes_that_are_long_together_are_not_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = FaultyDisk::default();
    let (recorder, _) =
        Recorder::open_on(std::sync::Arc::new(disk.clone()), dir.path(), "gw-1", start())
            .expect("opened");
    let mut tap = begin(&recorder, "s1");
    let tripped = || EventBody::SessionTripped {
        seq_in_session: corral_model::StatementSeq(1),
        detail: "x".repeat(limits::RECORD_NOTES_BYTES_MAX / 2),
    };
    disk.set_full(true);
    tap.note(at(1), tripped()).expect("kept");
    assert!(tap.note(at(1), tripped()).is_err());
    tap.note(at(1), completed(1)).expect("a short one is kept");
}

#[test]
fn many_sessions_at_once_are_one_record() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, _) = open(dir.path());
    let mut follower = recorder.subscribe();
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let recorder = recorder.clone();
            std::thread::spawn(move || {
                for round in 0..100 {
                    let mut tap = begin(&recorder, &format!("s{thread}-{round}"));
                    say(&mut tap, 1).expect("written");
                    tap.note(at(2), completed(1)).expect("written");
                    close(&mut tap);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("done");
    }
    // More links than a checkpoint waits for: the signer was woken.
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        while let Some(followed) = follower.next().await {
            if let Followed::Event(event) = followed
                && matches!(event.body, EventBody::RecordCheckpointed { .. })
            {
                break;
            }
        }
    });
    recorder.stop().expect("stopped");
    let verified = check(dir.path()).expect("verified");
    assert_eq!((verified.sessions, verified.sessions_open), (800, 0));
    assert_eq!(verified.entries_unsigned, 0);
}

#[test]
fn a_dropped_tap_is_closed_in_the_record() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, _) = open(dir.path());
    drop(begin(&recorder, "s1"));
    let events = events_of(dir.path(), "s1");
    let Some(EventBody::SessionClosed { reason, .. }) = events.last().map(|event| &event.body)
    else {
        panic!("it is closed")
    };
    assert_eq!(*reason, CloseReason::Protocol);
}

#[test]
fn a_closed_tap_takes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, _) = open(dir.path());
    let mut tap = begin(&recorder, "s1");
    close(&mut tap);
    assert!(matches!(say(&mut tap, 1), Err(TapError::Closed)));
    assert!(matches!(tap.note(at(1), completed(1)), Err(TapError::Closed)));
}

#[test]
fn a_slow_follower_is_told_what_it_missed_and_holds_nothing_up() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, _) = open(dir.path());
    let mut follower = recorder.subscribe();
    let mut tap = begin(&recorder, "s1");
    let more = 10;
    for seq in 1..=(limits::EVENT_STREAM_LEN_MAX + more) as u64 {
        say(&mut tap, seq).expect("written");
    }
    close(&mut tap);
    let Some(Followed::Missed(missed)) = follower.try_next() else { panic!("some were missed") };
    // Opening and closing are events too.
    assert_eq!(missed, more as u64 + 2);
    let Some(Followed::Event(next)) = follower.try_next() else { panic!("the rest is there") };
    assert_eq!(next.seq, missed + 1);
}

#[test]
fn synced_sessions_need_a_sync_after_each_append() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, _) = open(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut tap = recorder
        .session(at(0), session_id("s1"), Origin::default(), Durability::Synced, &opened())
        .expect("begun");
    for seq in 1..=3 {
        say(&mut tap, seq).expect("written");
        assert!(tap.needs_sync());
        runtime.block_on(tap.sync()).expect("synced");
        assert!(!tap.needs_sync());
    }
    let mut written = begin(&recorder, "s2");
    say(&mut written, 1).expect("written");
    assert!(!written.needs_sync());
    close(&mut tap);
    close(&mut written);
}

#[test]
fn a_clock_set_back_changes_no_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, _) = open(dir.path());
    let mut tap = begin(&recorder, "s1");
    for (seq, second) in [(1, 50), (2, -900), (3, 51)] {
        tap.append(at(second), decided(seq, "SELECT 1")).expect("written");
    }
    close(&mut tap);
    recorder.stop().expect("stopped");
    check(dir.path()).expect("verified");
    assert_eq!(statements_of(&events_of(dir.path(), "s1")), [1, 2, 3]);
    let found = Reader::new(dir.path().join("record"))
        .search(&corral_record::Filter::default(), corral_record::Order::OldestFirst, 100)
        .expect("found");
    assert_eq!(statements_of(&found.events), [1, 2, 3]);
}
