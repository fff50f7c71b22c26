//! Terminals and commands as casts, and several sessions as one timeline.

mod support;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corral_model::Event;
use corral_model::event::{EventBody, EventText, Origin, StreamData, StreamEnd};
use corral_model::ids::{StatementSeq, TargetName};
use corral_model::statement::Attribute;
use corral_record::render::{self, CastError, CastVersion, Detail};
use serde_json::Value;
use support::*;
use time::OffsetDateTime;

fn ms(ms: i64) -> OffsetDateTime {
    start() + time::Duration::milliseconds(ms)
}

/// One event of a session at a target.
fn event(session: &str, target: &str, seq: u64, at: OffsetDateTime, body: EventBody) -> Event {
    let origin = Origin {
        session: Some(session_id(session)),
        target: Some(TargetName::new(target).expect("a name")),
        ..origin("ci", "run-1", target)
    };
    let id = format!("{session}:{seq}");
    Event { seq, id, time: at, gateway: "gw-1".to_owned(), origin, body }
}

fn said(seq: u64, from: StreamEnd, text: &str) -> EventBody {
    let data = StreamData::Text(text.to_owned());
    EventBody::StreamPassed { seq_in_session: StatementSeq(seq), from, data }
}

fn bytes(seq: u64, from: StreamEnd, bytes: &[u8]) -> EventBody {
    let data = StreamData::Base64(STANDARD.encode(bytes));
    EventBody::StreamPassed { seq_in_session: StatementSeq(seq), from, data }
}

fn resized(seq: u64, columns: u32, rows: u32) -> EventBody {
    EventBody::TerminalResized { seq_in_session: StatementSeq(seq), columns, rows }
}

fn asked(seq: u64, text: &str, has_terminal: bool) -> EventBody {
    let mut body = decided(seq, text);
    if let EventBody::StatementDecided { attributes, objects, .. } = &mut body {
        let terminal = ("terminal".to_owned(), Attribute::Flag(has_terminal));
        *attributes = BTreeMap::from([terminal]);
        objects.clear();
    }
    body
}

fn ended(seq: u64, with: &str) -> EventBody {
    let mut body = completed(seq);
    if let EventBody::StatementCompleted { code, tag, rows, digest, .. } = &mut body {
        with.clone_into(code);
        *tag = None;
        *rows = 0;
        *digest = Some("ab".repeat(32));
    }
    body
}

/// A session with a command and then a shell, whose pieces cut characters.
fn shell_session() -> Vec<Event> {
    use StreamEnd::{Client, Target, TargetError};
    let bodies = [
        (0, opened()),
        (100, asked(1, "uptime", false)),
        (150, said(1, Target, "up 3 days\nfine\n")),
        (160, said(1, TargetError, "odd")),
        (200, ended(1, "0")),
        (1_000, asked(2, "shell", true)),
        (1_000, resized(2, 100, 30)),
        (1_250, said(2, Target, "\u{1b}[1m$ \u{1b}[0m")),
        (2_000, said(2, Client, "l")),
        (2_001, bytes(2, Target, b"l\xe2\x98")),
        (2_500, bytes(2, Target, b"\x83\xff\r\n")),
        (3_000, resized(2, 120, 40)),
        (3_000, said(2, Target, "\u{9b}2J\u{202e}bye")),
        (
            3_500,
            EventBody::StreamCut { seq_in_session: StatementSeq(2), detail: "killed".to_owned() },
        ),
        (4_000, ended(2, "137")),
    ];
    let numbered = (1..).zip(bodies);
    numbered.map(|(seq, (at, body))| event("s1", "web-1", seq, ms(at), body)).collect()
}

const HEADER_2: &str = r#"{"version":2,"width":100,"height":30,"timestamp":1795435201,"command":"shell","title":"s1"}"#;
const HEADER_3: &str = r#"{"version":3,"term":{"cols":100,"rows":30},"timestamp":1795435201,"command":"shell","title":"s1"}"#;

#[test]
fn a_terminal_is_an_asciicast_of_version_2() {
    let cast = render::cast(&shell_session(), "s1", CastVersion::V2, None).expect("a cast");
    let expect = [
        HEADER_2,
        r#"[0.25,"o","\u001b[1m$ \u001b[0m"]"#,
        r#"[1.0,"i","l"]"#,
        r#"[1.001,"o","l"]"#,
        r#"[1.5,"o","☃�\r\n"]"#,
        r#"[2.0,"r","120x40"]"#,
        r#"[2.0,"o","\u009b2J\u202ebye"]"#,
        r#"[2.5,"m","killed"]"#,
        "",
    ];
    assert_eq!(cast, expect.join("\n"));
    check_by_the_specification(&cast);
}

#[test]
fn a_size_that_is_told_after_the_first_prompt_is_the_terminals() {
    let mut events = shell_session();
    let is_size = |event: &Event| matches!(event.body, EventBody::TerminalResized { .. });
    let first = events.iter().position(is_size).expect("a size");
    events.swap(first, first + 1);
    let cast = render::cast(&events, "s1", CastVersion::V2, None).expect("a cast");
    assert!(cast.starts_with(HEADER_2), "{cast}");
    assert_eq!(cast.matches(r#","r","#).count(), 1, "{cast}");
    check_by_the_specification(&cast);
}

#[test]
fn a_terminal_is_an_asciicast_of_version_3() {
    let cast = render::cast(&shell_session(), "s1", CastVersion::V3, None).expect("a cast");
    let expect = [
        HEADER_3,
        r#"[0.25,"o","\u001b[1m$ \u001b[0m"]"#,
        r#"[0.75,"i","l"]"#,
        r#"[0.001,"o","l"]"#,
        r#"[0.499,"o","☃�\r\n"]"#,
        r#"[0.5,"r","120x40"]"#,
        r#"[0.0,"o","\u009b2J\u202ebye"]"#,
        r#"[0.5,"m","killed"]"#,
        r#"[0.5,"x","137"]"#,
        "",
    ];
    assert_eq!(cast, expect.join("\n"));
    check_by_the_specification(&cast);
}

#[test]
fn a_statement_can_be_chosen_and_lines_without_a_terminal_return() {
    let events = shell_session();
    let one = Some(StatementSeq(1));
    let cast = render::cast(&events, "s1", CastVersion::V3, one).expect("a cast");
    check_by_the_specification(&cast);
    let lines: Vec<&str> = cast.lines().skip(1).collect();
    let expect =
        [r#"[0.05,"o","up 3 days\r\nfine\r\n"]"#, r#"[0.01,"o","odd"]"#, r#"[0.04,"x","0"]"#];
    assert_eq!(lines, expect);
    assert!(cast.starts_with(r#"{"version":3,"term":{"cols":80,"rows":24}"#));

    let refused = |seq| render::cast(&events, "s1", CastVersion::V2, Some(StatementSeq(seq)));
    assert_eq!(refused(9), Err(CastError::NoStatement(9)));
    let mut others = events.clone();
    others.push(event("s1", "web-1", 99, ms(9_000), asked(3, "true", false)));
    let found = render::cast(&others, "s1", CastVersion::V2, Some(StatementSeq(3)));
    assert_eq!(found, Err(CastError::NoStream(3, "1, 2".to_owned())));
    others.push(event("s2", "web-2", 1, ms(9_000), opened()));
    let found = render::cast(&others, "r", CastVersion::V2, one);
    assert_eq!(found, Err(CastError::ManySessions));
}

#[test]
fn what_has_no_terminal_is_a_cast_of_its_transcript() {
    let mut events = shell_session();
    events.retain(|event| event.body.statement_seq() != Some(StatementSeq(2)));
    for version in [CastVersion::V2, CastVersion::V3] {
        let cast = render::cast(&events, "s1", version, None).expect("a cast");
        check_by_the_specification(&cast);
        assert!(cast.contains("allow #1  uptime"), "{cast}");
    }
}

/// <https://docs.asciinema.org/manual/asciicast/v2/> and `/v3/`, as far as they bind a writer.
fn check_by_the_specification(cast: &str) {
    assert!(cast.ends_with('\n'));
    assert!(!cast.chars().any(|c| render::is_hidden(c) && c != '\n'), "{cast:?}");
    let mut lines = cast.lines();
    let header: Value = serde_json::from_str(lines.next().expect("a header")).expect("JSON");
    let version = header["version"].as_u64().expect("a number");
    let size = match version {
        2 => [&header["width"], &header["height"]],
        3 => [&header["term"]["cols"], &header["term"]["rows"]],
        _ => unreachable!("{header}"),
    };
    assert!(size.iter().all(|side| side.as_u64().is_some_and(|side| side > 0)), "{header}");
    assert!(header["timestamp"].is_i64() && header["title"].is_string(), "{header}");
    let mut before = 0.0;
    let mut has_exited = false;
    for line in lines {
        let (at, code, data): (f64, String, String) = serde_json::from_str(line).expect(line);
        assert!(!has_exited, "nothing follows an exit: {line}");
        match version {
            2 => assert!(at >= before, "{line}"),
            _ => assert!(at >= 0.0, "{line}"),
        }
        before = at;
        match (version, code.as_str()) {
            (_, "o" | "i" | "m") => {}
            (_, "r") => {
                let (columns, rows) = data.split_once('x').expect("COLSxROWS");
                assert!(columns.parse::<u32>().is_ok() && rows.parse::<u32>().is_ok(), "{line}");
            }
            (3, "x") => {
                assert!(data.parse::<u32>().is_ok(), "{line}");
                has_exited = true;
            }
            _ => unreachable!("{line}"),
        }
    }
}

#[test]
fn a_timeline_tells_streams_shortly() {
    let text = render::text(&shell_session(), Detail::Compact);
    let expect = "\
+00:00.000  opened    job/run-1, ci (for ada@example.com) → web-1 (postgres)
                      session s1 from 127.0.0.1:5123, TLS at 2026-11-23T12:00:00Z
                      says of itself: application_name=psql
+00:00.100  allow #1  uptime
                      terminal=false
+00:00.150  stream #1 target 15 B, errors 3 B
+00:00.200  result    #1: done; 120 B, 0.9 ms, SHA-256 DIGEST
+00:01.000  allow #2  shell
                      terminal=true
+00:01.000  resized   #2: terminal of 100 by 30
+00:01.250  stream #2 client 1 B, target 17 B over 1.2 s
+00:03.000  resized   #2: terminal of 120 by 40
+00:03.000  stream #2 target 10 B
+00:03.500  cut       #2: killed
+00:04.000  result    #2: code 137; 120 B, 0.9 ms, SHA-256 DIGEST
";
    assert_eq!(text.replace(&"ab".repeat(32), "DIGEST"), expect);
}

#[test]
fn a_timeline_tells_in_full_what_was_said_and_drives_no_terminal() {
    let text = render::text(&shell_session(), Detail::Full);
    for line in [
        "stream #1 target: up 3 days\n",
        "fine\n",
        "errors: odd\n",
        "stream #2 target: \\u{1b}[1m$ \\u{1b}[0m\n",
        "client: l\n",
        "target: l☃\u{fffd}\n",
        "stream #2 target: \\u{9b}2J\\u{202e}bye\n",
    ] {
        assert!(text.contains(line), "{line:?}: {text}");
    }
    assert!(!text.chars().any(|c| render::is_hidden(c) && c != '\n'), "{text:?}");
}

/// One run: SQL, a shell, files and a cluster, at the same times.
fn mixed() -> Vec<Event> {
    let row = |session: &str, target: &str, seq: u64, at: i64, text: &str| {
        event(session, target, seq, ms(at), decided(seq, text))
    };
    vec![
        row("s1", "orders-db", 1, 0, "SELECT 1"),
        row("s2", "web-1", 1, 0, "exec uptime"),
        event("s2", "web-1", 2, ms(10), said(1, StreamEnd::Target, "up")),
        row("s3", "prod", 1, 10, "get pods"),
        event("s2", "web-1", 3, ms(20), said(1, StreamEnd::Target, "\n")),
        row("s4", "web-1", 1, 20, "sftp_read /etc/hosts"),
        row("s1", "orders-db", 2, 20, "SELECT 2"),
    ]
}

#[test]
fn sessions_of_a_run_are_one_timeline_with_places() {
    let mut events = mixed();
    for event in &mut events {
        if let EventBody::StatementDecided { objects, .. } = &mut event.body {
            objects.clear();
        }
    }
    let text = render::text(&events, Detail::Compact);
    let expect = "\
+00:00.000  job/run-1  orders-db  allow #1  SELECT 1
+00:00.000  job/run-1  web-1/1    allow #1  exec uptime
+00:00.010  job/run-1  web-1/1    stream #1 target 3 B
+00:00.010  job/run-1  prod       allow #1  get pods
+00:00.020  job/run-1  web-1/2    allow #1  sftp_read /etc/hosts
+00:00.020  job/run-1  orders-db  allow #2  SELECT 2
";
    assert_eq!(text, expect);
}

/// Puts a text into every string of a JSON value that is no name of Corral's own.
fn poison(value: &mut Value, text: &str) {
    match value {
        Value::String(known) => known.push_str(text),
        Value::Array(items) => items.iter_mut().for_each(|item| poison(item, text)),
        Value::Object(keys) => keys.values_mut().for_each(|item| poison(item, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn no_field_of_any_event_drives_a_terminal() {
    let poisons = ["\u{1b}]0;x\u{7}", "\u{9b}31m", "\r\u{8}\u{7f}", "\u{202e}\u{200b}", "\u{85}"];
    let kept = ["event", "outcome", "effects", "role", "from", "state", "format", "reason_kind"];
    let mut told = 0;
    for body in every_kind() {
        for text in poisons {
            let mut value = serde_json::to_value(&body).expect("JSON");
            let Value::Object(keys) = &mut value else { unreachable!("an object") };
            for (key, value) in keys.iter_mut().filter(|(key, _)| !kept.contains(&key.as_str())) {
                let mut bad = value.clone();
                poison(&mut bad, text);
                let fits = {
                    let mut whole = serde_json::to_value(&body).expect("JSON");
                    whole[key.as_str()] = bad.clone();
                    serde_json::from_value::<EventBody>(whole).is_ok()
                };
                if fits {
                    *value = bad;
                }
            }
            let body: EventBody = serde_json::from_value(value).expect("still an event");
            let mut hostile = event("s1", "web-1", 1, ms(0), body);
            hostile.origin.principal = Some(format!("ci{text}"));
            hostile.origin.run_path = Some(format!("job{text}"));
            let other = event("s2", "web-2", 1, ms(0), opened());
            for events in [vec![hostile.clone()], vec![hostile, other]] {
                for detail in [Detail::Compact, Detail::Full] {
                    let shown = render::text(&events, detail);
                    let is_hidden = |c: char| render::is_hidden(c) && c != '\n';
                    assert!(!shown.chars().any(is_hidden), "{shown:?}");
                    told += 1;
                }
            }
        }
    }
    assert!(told > 400, "{told}");
}

/// One event of every kind that has texts.
fn every_kind() -> Vec<EventBody> {
    let json = [
        r#"{"event":"gateway.started","version":"1","recovered_sessions":0}"#,
        r#"{"event":"config.changed","by":"a","version":1,"changes":["x"]}"#,
        r#"{"event":"principal.disabled","name":"a","by":"b","runs_ended":0,"sessions_closed":0}"#,
        r#"{"event":"principal.enabled","name":"a","by":"b"}"#,
        r#"{"event":"principal.signed_in","name":"a","method":"b"}"#,
        r#"{"event":"principal.refused","name":"a","reason":"b"}"#,
        r#"{"event":"run.started","name":"a","purpose":"b","targets":["t"],"ttl_s":1,"started_by":"c"}"#,
        r#"{"event":"run.refused","name":"a","reason":"b"}"#,
        r#"{"event":"run.ended","reason":"killed","by":"b","sessions_closed":0}"#,
        r#"{"event":"session.opened","protocol":"p","client_address":"a","tls":true,"claims":[["k","v"]]}"#,
        r#"{"event":"session.refused","reason":"a","client_address":"b"}"#,
        r#"{"event":"stream.passed","seq_in_session":1,"from":"target","data":{"text":"x"}}"#,
        r#"{"event":"stream.cut","seq_in_session":1,"detail":"x"}"#,
        r#"{"event":"terminal.resized","seq_in_session":1,"columns":1,"rows":1}"#,
        r#"{"event":"object.changed","seq_in_session":1,"object":{"schema":"s","name":"n","kind":"k","role":"write"},"diff":["a: b -> c"]}"#,
        r#"{"event":"statement.rows","seq_in_session":1,"columns":["c"],"rows":[["v"]],"truncated":true}"#,
        r#"{"event":"rows.masked","seq_in_session":1,"columns":["c"],"rows":1}"#,
        r#"{"event":"session.tripped","seq_in_session":1,"detail":"x"}"#,
        r#"{"event":"approval.requested","approval":"ap","decision":"d","groups":["g"],"expires_at":"2026-01-01T00:00:00Z"}"#,
        r#"{"event":"approval.decided","approval":"ap","decision":"d","state":"denied","by":["b"],"reason":"r"}"#,
        r#"{"event":"record.checkpointed","entries":1,"sessions":1}"#,
    ];
    let mut bodies: Vec<EventBody> =
        json.iter().map(|json| serde_json::from_str(json).expect(json)).collect();
    let mut statement = asked(1, "SELECT 1", true);
    if let EventBody::StatementDecided { attributes, functions, rules, reason, .. } = &mut statement
    {
        attributes.insert("command".to_owned(), Attribute::Text("x".to_owned()));
        attributes.insert("words".to_owned(), Attribute::Set(vec!["x".to_owned()]));
        functions.push("f".to_owned());
        rules.push("r".to_owned());
        *reason = Some("because".to_owned());
    }
    bodies.push(statement);
    bodies.push(completed(1));
    bodies.push(ended(1, "1"));
    bodies
}

#[test]
fn a_long_text_is_told_by_its_digest() {
    let mut body = decided(1, "x");
    if let EventBody::StatementDecided { statement, .. } = &mut body {
        *statement = EventText::Digest { sha256: "ff".to_owned(), bytes: 70_000 };
    }
    let text = render::text(&[event("s1", "web-1", 1, ms(0), body)], Detail::Full);
    assert!(text.contains("(70.0 kB of text, SHA-256 ff)"), "{text}");
}
