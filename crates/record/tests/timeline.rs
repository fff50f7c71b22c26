//! The statements of a run as one list, and its terminals as one cast.

mod support;

use std::collections::BTreeMap;

use corral_model::Event;
use corral_model::event::{ApprovalState, EventBody, Origin, Outcome, StreamData, StreamEnd};
use corral_model::ids::{ApprovalId, StatementSeq, TargetName};
use corral_model::statement::Attribute;
use corral_record::render::{self, CastVersion};
use serde_json::{Value, json};
use support::*;

fn event(session: &str, target: &str, at_ms: i64, body: EventBody) -> Event {
    let origin = Origin {
        session: Some(session_id(session)),
        target: Some(TargetName::new(target).expect("a name")),
        ..origin("ci", "run-1", target)
    };
    let time = start() + time::Duration::milliseconds(at_ms);
    let id = format!("{session}:{at_ms}");
    Event { seq: 1, id, time, gateway: "gw-1".to_owned(), origin, body }
}

fn opened_by(name: &str) -> EventBody {
    let mut body = opened();
    if let EventBody::SessionOpened { protocol, .. } = &mut body {
        name.clone_into(protocol);
    }
    body
}

fn asked(seq: u64, text: &str, said: Outcome) -> EventBody {
    let mut body = decided(seq, text);
    if let EventBody::StatementDecided { outcome, .. } = &mut body {
        *outcome = said;
    }
    body
}

fn with_field(mut body: EventBody, name: &str, value: Attribute) -> EventBody {
    if let EventBody::StatementDecided { attributes, .. } = &mut body {
        *attributes = BTreeMap::from([(name.to_owned(), value)]);
    }
    body
}

fn answered(said: ApprovalState) -> EventBody {
    EventBody::ApprovalDecided {
        approval: ApprovalId::new("a-1").expect("an id"),
        decision: "d1".to_owned(),
        state: said,
        by: vec!["grace".to_owned()],
        reason: "why".to_owned(),
    }
}

fn requested() -> EventBody {
    EventBody::ApprovalRequested {
        approval: ApprovalId::new("a-1").expect("an id"),
        decision: "d1".to_owned(),
        groups: vec!["dba".to_owned()],
        expires_at: start(),
    }
}

fn shown(events: &[Event]) -> Value {
    serde_json::to_value(render::timeline(events)).expect("JSON")
}

#[test]
fn statements_of_all_targets_are_one_list() {
    let files = Attribute::Text("sftp".to_owned());
    let events = [
        event("s1", "orders-db", 0, opened_by("postgres")),
        event("s2", "web-1", 1, opened_by("ssh")),
        event("s1", "orders-db", 2, decided(1, "SELECT 1")),
        event("s2", "web-1", 3, with_field(decided(1, "sftp_read /x"), "subsystem", files)),
        event("s1", "orders-db", 4, completed(1)),
        event("s2", "web-1", 5, asked(2, "exec reboot", Outcome::Deny)),
    ];
    let list = shown(&events);
    let column = |name: &str| -> Vec<Value> {
        list.as_array().expect("a list").iter().map(|entry| entry[name].clone()).collect()
    };
    assert_eq!(column("kind"), ["postgres", "sftp", "ssh"]);
    assert_eq!(column("target"), ["orders-db", "web-1", "web-1"]);
    assert_eq!(column("session"), ["s1", "s2", "s2"]);
    assert_eq!(column("run_path"), ["job/run-1", "job/run-1", "job/run-1"]);
    assert_eq!(column("statement"), ["SELECT 1", "sftp_read /x", "exec reboot"]);
    assert_eq!(column("outcome"), ["allow", "allow", "deny"]);
    let result = json!({
        "code": "00000", "tag": "SELECT 3", "rows": 3, "bytes": 120, "duration_us": 900,
    });
    assert_eq!(column("result"), [result, Value::Null, Value::Null]);
    assert_eq!(list[0]["time"], "2026-11-23T12:00:00.002Z");
}

#[test]
fn a_held_statement_is_one_entry_with_what_came_of_it() {
    let held = || {
        vec![
            event("s1", "orders-db", 0, asked(1, "ALTER TABLE a", Outcome::Hold)),
            event("s1", "orders-db", 1, requested()),
        ]
    };
    let waits = shown(&held());
    assert_eq!(waits[0]["outcome"], "hold");
    assert_eq!(
        waits[0]["approval"],
        json!({"id": "a-1", "state": "pending", "by": [], "reason": ""})
    );

    let mut approved = held();
    approved.push(event("s1", "orders-db", 2, answered(ApprovalState::Approved)));
    approved.push(event("s1", "orders-db", 3, asked(1, "ALTER TABLE a", Outcome::Allow)));
    approved.push(event("s1", "orders-db", 4, completed(1)));
    let ran = shown(&approved);
    assert_eq!(ran.as_array().expect("a list").len(), 1);
    assert_eq!((&ran[0]["outcome"], &ran[0]["result"]["code"]), (&json!("allow"), &json!("00000")));
    assert_eq!(ran[0]["approval"]["state"], "approved");
    assert_eq!(ran[0]["approval"]["by"], json!(["grace"]));

    for state in [ApprovalState::Denied, ApprovalState::Expired, ApprovalState::Withdrawn] {
        let mut refused = held();
        refused.push(event("s1", "orders-db", 2, answered(state)));
        let list = shown(&refused);
        assert_eq!(list[0]["outcome"], "deny", "{state:?}");
        assert!(list[0].get("result").is_none());
    }
}

fn terminal(session: &str, target: &str, at_ms: i64, says: &str) -> Vec<Event> {
    let data = StreamData::Text(says.to_owned());
    let seq_in_session = StatementSeq(1);
    let bodies = [
        with_field(decided(1, "shell"), "terminal", Attribute::Flag(true)),
        EventBody::TerminalResized { seq_in_session, columns: 90, rows: 20 },
        EventBody::StreamPassed { seq_in_session, from: StreamEnd::Target, data },
        completed(1),
    ];
    let numbered = (0..).zip(bodies);
    numbered.map(|(step, body)| event(session, target, at_ms + step * 500, body)).collect()
}

#[test]
fn the_terminals_of_a_run_are_one_cast_in_their_order() {
    let mut events = terminal("s2", "web-2", 10_000, "second");
    events.extend(terminal("s1", "web-1", 200, "first"));
    events.push(event("s3", "orders-db", 0, decided(1, "SELECT 1")));
    let cast = render::cast(&events, "run-1", CastVersion::V2, None).expect("a cast");
    let expect = [
        r#"{"version":2,"width":90,"height":20,"timestamp":1795435200,"title":"run-1"}"#,
        r#"[0.0,"m","web-1, session s1, statement 1"]"#,
        r#"[1.0,"o","first"]"#,
        r#"[2.0,"o","\u001bc"]"#,
        r#"[2.0,"r","90x20"]"#,
        r#"[2.0,"m","web-2, session s2, statement 1"]"#,
        r#"[3.0,"o","second"]"#,
        "",
    ];
    assert_eq!(cast, expect.join("\n"));
    let cast = render::cast(&events, "run-1", CastVersion::V3, None).expect("a cast");
    let codes: Vec<String> = cast
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str::<(f64, String, String)>(line).expect(line).1)
        .collect();
    // Only the last exit code ends a player.
    assert_eq!(codes, ["m", "o", "o", "r", "m", "o", "x"]);
}

#[test]
fn a_run_with_one_terminal_is_that_terminal() {
    let mut events = terminal("s1", "web-1", 200, "first");
    let alone = render::cast(&events, "x", CastVersion::V3, None).expect("a cast");
    events.push(event("s3", "orders-db", 9_000, decided(1, "SELECT 1")));
    assert_eq!(render::cast(&events, "x", CastVersion::V3, None), Ok(alone));
    events.retain(|event| event.body.statement_seq() != Some(StatementSeq(1)));
    events.push(event("s3", "orders-db", 9_001, decided(2, "SELECT 2")));
    let text = render::cast(&events, "x", CastVersion::V3, None).expect("a cast");
    assert!(text.contains("SELECT 2"), "{text}");
}
