//! Finding events again, and showing them.

mod support;

use std::collections::BTreeSet;

use corral_gate::Tap;
use corral_model::Event;
use corral_model::event::{ApprovalState, EventBody, Origin, Outcome, StreamData, StreamEnd};
use corral_model::ids::{ApprovalId, StatementSeq, TargetName};
use corral_model::limits;
use corral_record::render::{self, CastVersion, Detail};
use corral_record::{Filter, Order, Reader};
use support::*;

/// Two people on two targets, a parent run with a child, a change of the configuration.
fn record(dir: &std::path::Path) -> Reader {
    let (recorder, _) = open(dir);
    for (run, parent) in [("parent", None), ("child", Some("parent")), ("other", None)] {
        let body = EventBody::RunStarted {
            name: run.to_owned(),
            parent: parent.map(run_id),
            purpose: Some("Nightly report".to_owned()),
            targets: vec![TargetName::new("orders-db").expect("a name")],
            actions: Vec::new(),
            ttl_s: 900,
            renew_within_s: None,
            started_by: None,
            process: None,
            job: None,
            traceparent: None,
        };
        let origin = Origin { run: Some(run_id(run)), ..Origin::default() };
        recorder.append_gateway(at(0), &origin, &body).expect("written");
    }
    let mut one = begin_as(&recorder, "s1", origin("ci", "child", "orders-db"));
    let mut two = begin_as(&recorder, "s2", origin("eve", "other", "users-db"));
    for seq in 1..=5 {
        say(&mut one, seq).expect("written");
        say(&mut two, seq).expect("written");
    }
    one.append(at(6), held()).expect("written");
    recorder.append_gateway(at(7), &Origin::default(), &changed("user/ada")).expect("written");
    close(&mut one);
    close(&mut two);
    recorder.stop().expect("stopped");
    Reader::new(recorder.record_dir())
}

fn held() -> EventBody {
    let mut body = decided(6, "ALTER TABLE customers\n  ADD COLUMN note text");
    if let EventBody::StatementDecided { outcome, rules, reason, verbs, objects, .. } = &mut body {
        *outcome = Outcome::Hold;
        *rules = vec!["schema-changes".to_owned()];
        *reason = Some("Schema changes need a DBA's approval.".to_owned());
        *verbs = vec!["alter_table".to_owned()];
        objects[0].name = "customers".to_owned();
    }
    body
}

#[test]
fn each_filter_finds_what_it_names_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let reader = record(dir.path());
    let all = Filter::default;
    let some = |text: &str| Some(text.to_owned());
    let cases: [(&str, Filter, usize); 16] = [
        ("person", Filter { person: some("eve"), ..all() }, 7),
        ("sponsor", Filter { person: some("ada@example.com"), ..all() }, 15),
        ("nobody", Filter { person: some("nobody"), ..all() }, 0),
        ("session", Filter { session: Some(session_id("s1")), ..all() }, 8),
        ("run", Filter { runs: Some(BTreeSet::from([run_id("child")])), ..all() }, 9),
        ("target", Filter { target: some("users-db"), ..all() }, 7),
        ("table", Filter { object: some("customers"), ..all() }, 1),
        ("table with schema", Filter { object: some("public.orders"), ..all() }, 10),
        ("table of another schema", Filter { object: some("other.orders"), ..all() }, 0),
        ("verb", Filter { verb: some("alter_table"), ..all() }, 1),
        ("text", Filter { text: some("add column"), ..all() }, 1),
        ("text of a purpose", Filter { text: some("nightly"), ..all() }, 3),
        ("event", Filter { event: some("session.closed"), ..all() }, 2),
        ("since", Filter { since: Some(at(60)), event: some("session.closed"), ..all() }, 2),
        ("until", Filter { until: Some(at(1)), event: some("statement.decided"), ..all() }, 0),
        ("gateway", Filter { event: some("config.changed"), ..all() }, 1),
    ];
    for (name, filter, expect) in cases {
        for order in [Order::NewestFirst, Order::OldestFirst] {
            let found = reader.search(&filter, order, 1000).expect("found");
            assert_eq!(found.events.len(), expect, "{name}");
            assert!(!found.has_more && found.damaged.is_empty(), "{name}");
        }
        let mut lines = Vec::new();
        let count = reader.export(&filter, &mut lines).expect("exported");
        assert_eq!(count as usize, expect, "{name}");
        let events: Result<Vec<Event>, _> = lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(serde_json::from_slice)
            .collect();
        assert_eq!(events.expect("lines of JSON").len(), expect, "{name}");
    }
}

#[test]
fn results_are_bounded_and_ordered() {
    let dir = tempfile::tempdir().expect("a folder");
    let reader = record(dir.path());
    let all = reader.search(&Filter::default(), Order::OldestFirst, 1000).expect("found").events;
    assert!(all.is_sorted_by_key(|event| event.time));
    let newest = reader.search(&Filter::default(), Order::NewestFirst, 1000).expect("found").events;
    assert!(newest.iter().rev().eq(&all));
    for len in [0, 1, 3, all.len() - 1] {
        let found = reader.search(&Filter::default(), Order::OldestFirst, len).expect("found");
        assert_eq!(found.events, all[..len]);
        assert!(found.has_more);
        let found = reader.search(&Filter::default(), Order::NewestFirst, len).expect("found");
        assert_eq!(found.events, newest[..len]);
    }
    let found = reader.search(&Filter::default(), Order::OldestFirst, all.len()).expect("found");
    assert!(!found.has_more);
}

#[test]
fn sessions_behind_the_last_event_that_is_wanted_are_not_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let reader = record(dir.path());
    let all = reader.search(&Filter::default(), Order::OldestFirst, 1000).expect("found").events;
    let newest = all.last().expect("some").time;
    let later = |seconds: i64| (newest.unix_timestamp() + seconds) * 1000;
    let id = |milliseconds: i64, version: u8| format!("s-{milliseconds:012x}{version}{:019}", 0);
    // Read, it is named as damaged.
    let mut damaged = std::fs::read(session_path(dir.path(), "s1")).expect("a file");
    let (first, _) = entries_in(&damaged)[0];
    damaged[first + 60] ^= 1;
    for (id, is_read) in [
        (id(later(60), 7), false),
        (id(later(-1), 7), true),
        (id(later(60), 4), true),
        ("later".to_owned(), true),
    ] {
        let path = session_path(dir.path(), "s1").with_file_name(format!("{id}.rec"));
        std::fs::write(&path, &damaged).expect("written");
        let wanted = all.len();
        let found = reader.search(&Filter::default(), Order::OldestFirst, wanted).expect("found");
        assert_eq!(found.events, all, "{id}");
        assert_eq!(!found.damaged.is_empty(), is_read, "{id}");
        assert_eq!(found.has_more, !is_read, "{id}");
        let found = reader.search(&Filter::default(), Order::OldestFirst, 1000).expect("found");
        assert_eq!(found.damaged.len(), 1, "{id}");
        std::fs::remove_file(&path).expect("removed");
    }
}

#[test]
fn a_damaged_file_is_named_and_hides_no_other() {
    let dir = tempfile::tempdir().expect("a folder");
    let reader = record(dir.path());
    let path = session_path(dir.path(), "s1");
    let mut bytes = std::fs::read(&path).expect("a file");
    let (second, _) = entries_in(&bytes)[1];
    bytes[second + 60] ^= 1;
    std::fs::write(&path, bytes).expect("damaged");
    let filter = Filter { event: Some("statement.decided".to_owned()), ..Filter::default() };
    let found = reader.search(&filter, Order::OldestFirst, limits::RECORD_SEARCH_LEN_MAX);
    let found = found.expect("found");
    assert_eq!(found.events.len(), 5);
    assert_eq!(found.damaged.len(), 1);
    assert!(found.damaged[0].contains("s1.rec"), "{:?}", found.damaged);
    assert!(reader.replay_session(&session_id("s1")).is_err());
}

#[test]
fn a_run_tree_is_replayed_from_the_record_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let reader = record(dir.path());
    let runs = reader.runs_below(&run_id("parent")).expect("runs");
    assert_eq!(runs, BTreeSet::from([run_id("parent"), run_id("child")]));
    let events = reader.replay_runs(&runs).expect("events");
    assert_eq!(statements_of(&events), [1, 2, 3, 4, 5, 6]);
    assert!(reader.replay_session(&session_id("nothing")).expect("read").is_none());
}

#[test]
fn a_session_reads_like_a_transcript() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, _) = open(dir.path());
    let mut tap = begin(&recorder, "s1");
    say(&mut tap, 1).expect("written");
    tap.note(at(1), completed(1)).expect("written");
    let columns = vec!["ssn".to_owned(), "card_number".to_owned()];
    let masked = EventBody::RowsMasked { seq_in_session: StatementSeq(1), columns, rows: 3 };
    tap.note(at(1), masked).expect("written");
    tap.append(at(2), held()).expect("written");
    let approval = ApprovalId::new("ap_1").expect("an id");
    let requested = EventBody::ApprovalRequested {
        approval: approval.clone(),
        decision: "d6".to_owned(),
        groups: vec!["dba".to_owned()],
        expires_at: at(900),
    };
    tap.append(at(2), requested).expect("written");
    let approved = EventBody::ApprovalDecided {
        approval,
        decision: "d6".to_owned(),
        state: ApprovalState::Approved,
        by: vec!["grace".to_owned()],
        reason: "reviewed".to_owned(),
    };
    tap.append(at(10), approved).expect("written");
    close(&mut tap);

    let events = events_of(dir.path(), "s1");
    let expect = "\
+00:00.000  opened    job/run-1, ci (for ada@example.com) → orders-db (postgres)
                      session s1 from 127.0.0.1:5123, TLS at 2026-11-23T12:00:00Z
                      says of itself: application_name=psql
+00:01.000  allow #1  SELECT 1 FROM orders
                      touches public.orders
+00:01.000  result    #1: SELECT 3; 3 rows, 120 B, 0.9 ms
+00:01.000  masked    #1: ssn, card_number in 3 rows
+00:02.000  HOLD #6   ALTER TABLE customers
                        ADD COLUMN note text
                      touches public.customers
                      by schema-changes: Schema changes need a DBA's approval.
+00:02.000  waits     ap_1 waits for dba until 2026-11-23T12:15:00Z
+00:10.000  approved  #6 (ap_1) by grace: reviewed
+01:00.000  closed    client; 0 statements, 0 rows, 0 B, 0.0 ms
";
    assert_eq!(render::text(&events, Detail::Compact), expect);

    let cast = render::cast(&events, "s1", CastVersion::V2, None).expect("a cast");
    let mut lines = cast.lines();
    let header: serde_json::Value =
        serde_json::from_str(lines.next().expect("a header")).expect("JSON");
    assert_eq!(header["version"], 2);
    let outputs: Vec<(f64, String, String)> =
        lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(outputs.len(), expect.lines().count());
    assert!(outputs.iter().all(|(_, kind, text)| kind == "o" && text.ends_with("\r\n")));
    assert!(outputs.is_sorted_by(|(a, ..), (b, ..)| a <= b));
}

#[test]
fn a_run_trees_transcript_names_the_run_of_each_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let reader = record(dir.path());
    let runs = BTreeSet::from([run_id("child"), run_id("other")]);
    let text = render::text(&reader.replay_runs(&runs).expect("events"), Detail::Compact);
    assert!(
        text.contains("+00:03.000  job/child  orders-db  allow #3  SELECT 3 FROM orders"),
        "{text}"
    );
    assert!(
        text.contains("+00:03.000  job/other  users-db   allow #3  SELECT 3 FROM orders"),
        "{text}"
    );
}

#[test]
fn what_was_said_in_a_terminal_is_found_across_its_pieces() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, _) = open(dir.path());
    let mut tap = begin(&recorder, "s1");
    let mut piece = |seq: u64, from: StreamEnd, data: StreamData| {
        let seq_in_session = StatementSeq(seq);
        let body = EventBody::StreamPassed { seq_in_session, from, data };
        tap.note(at(1), body).expect("written");
    };
    for c in "rm -rf /srv/Grün".chars() {
        piece(1, StreamEnd::Client, StreamData::Text(c.to_string()));
        // Another stream between the keys.
        piece(2, StreamEnd::Client, StreamData::Text("x".to_owned()));
    }
    piece(1, StreamEnd::Target, StreamData::Base64("/0RlbGV0ZWQ=".to_owned()));
    piece(1, StreamEnd::Target, StreamData::Text(" 3 files".to_owned()));
    tap.note(at(2), completed(1)).expect("written");
    let passed = EventBody::StreamPassed {
        seq_in_session: StatementSeq(1),
        from: StreamEnd::Client,
        data: StreamData::Text("n".to_owned()),
    };
    tap.note(at(3), passed).expect("written");
    close(&mut tap);
    recorder.stop().expect("stopped");
    let reader = Reader::new(recorder.record_dir());
    let count = |text: &str, verb: Option<&str>| {
        let verb = verb.map(ToOwned::to_owned);
        let filter = Filter { text: Some(text.to_owned()), verb, ..Filter::default() };
        reader.search(&filter, Order::OldestFirst, 100).expect("found").events.len()
    };
    assert_eq!(count("rm -rf", None), 1);
    assert_eq!(count("/SRV/grün", None), 1);
    assert_eq!(count("deleted 3 files", None), 1);
    assert_eq!(count("xxxxxxxxxxxxxxxx", None), 1);
    assert_eq!(count("grünn", None), 0, "another use of the number is another stream");
    assert_eq!(count("rm -rfx", None), 0);
    assert_eq!(count("rm -rf", Some("select")), 0);
}
