//! What becomes of events, as a collector would get it.

use corral_model::event::{EventBody, Origin};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::*;

const CLAIM: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NAMES: TraceNames = TraceNames {
    system: Some(("db.system.name", "lines")),
    code: "db.response.status_code",
    successes: &["00000"],
    rows: Some("db.response.returned_rows"),
    objects: TracedObjects::Names,
};

struct World {
    spans: Spans,
    ended: Vec<Span>,
    second: i64,
    left_out: usize,
}

impl World {
    fn new() -> Self {
        let names = HashMap::from([("lines".to_owned(), NAMES)]);
        Self { spans: Spans::new(names), ended: Vec::new(), second: 1, left_out: 0 }
    }

    /// Events come a second apart.
    fn say(&mut self, origin: Value, body: Value) {
        let origin: Origin = serde_json::from_value(origin).expect("an origin");
        let body: EventBody = serde_json::from_value(body).expect("an event");
        let at = OffsetDateTime::from_unix_timestamp(self.second).expect("a time");
        self.second += 1;
        if let Some(note) = Note::of(at, &origin, &body) {
            self.left_out += usize::from(self.spans.take(note, &mut self.ended).is_err());
        }
    }

    fn start_run(&mut self, run: &str, parent: Option<&str>) {
        self.say(
            json!({"run": run, "run_path": run, "sponsor": "ada"}),
            json!({"event": "run.started", "name": run, "parent": parent, "targets": [],
                   "ttl_s": 1, "purpose": "find hunter2", "traceparent": CLAIM}),
        );
    }

    fn open(&mut self) {
        self.say(
            json!({"run": "child", "session": "s1", "target": "orders", "sponsor": "ada"}),
            json!({"event": "session.opened", "protocol": "lines", "tls": true,
                   "client_address": "127.0.0.1:1", "claims": [["user", "hunter2"]]}),
        );
    }

    fn decide(&mut self, seq: u64, outcome: &str, more: Value) {
        let mut body = json!({
            "event": "statement.decided", "decision": format!("d{seq}"), "seq_in_session": seq,
            "statement": "select 'hunter2' from orders", "verbs": ["select"], "effects": ["read"],
            "objects": [{"schema": "public", "name": "orders", "kind": "table", "role": "read"}],
            "functions": [], "outcome": outcome, "rules": ["r"], "reason": "not hunter2",
            "parameters": [{"value": "hunter2", "format": "text", "type_name": null}],
            "policy_version": 3, "in_transaction": false,
            "attributes": {"command": "hunter2"},
        });
        let more = more.as_object().expect("fields").clone();
        body.as_object_mut().expect("fields").extend(more);
        self.say(json!({"run": "child", "session": "s1"}), body);
    }

    fn complete(&mut self, seq: u64, code: &str) {
        self.say(
            json!({"session": "s1"}),
            json!({"event": "statement.completed", "decision": "d", "seq_in_session": seq,
                   "code": code, "tag": "hunter2", "rows": 2, "bytes": 3, "duration_us": 4}),
        );
    }

    fn close(&mut self) {
        self.say(
            json!({"session": "s1"}),
            json!({"event": "session.closed", "reason": "client", "statements": 1, "rows": 2,
                   "bytes_to_client": 3, "bytes_to_target": 4, "duration_ms": 5}),
        );
    }

    fn end_run(&mut self, run: &str) {
        let body = json!({"event": "run.ended", "reason": "done", "by": "hunter2",
                          "sessions_closed": 0});
        self.say(json!({"run": run}), body);
    }

    fn last(&self) -> &Span {
        self.ended.last().expect("a span")
    }
}

fn said(span: &Span, key: &str) -> Option<String> {
    let pair = span.attributes.iter().find(|pair| pair.key == key)?;
    match pair.value.as_ref()?.value.as_ref()? {
        Any::StringValue(text) => Some(text.clone()),
        Any::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

#[test]
fn everything_below_a_root_run_is_one_trace() {
    let mut world = World::new();
    world.start_run("root", None);
    world.start_run("child", Some("root"));
    world.open();
    world.decide(1, "allow", json!({"traceparent": CLAIM}));
    world.complete(1, "00000");
    world.close();
    world.end_run("child");
    world.end_run("root");
    let [statement, session, child, root] = world.ended.as_slice() else { panic!("four spans") };
    assert!([statement, session, child].iter().all(|span| span.trace_id == root.trace_id));
    assert!(root.parent_span_id.is_empty());
    assert_eq!(child.parent_span_id, root.span_id);
    assert_eq!(session.parent_span_id, child.span_id);
    assert_eq!(statement.parent_span_id, session.span_id);
    assert_eq!(said(statement, "corral.root").as_deref(), Some("root"));
    assert_eq!(said(session, "corral.sponsor").as_deref(), Some("ada"));
    assert_eq!(said(child, "corral.run.end").as_deref(), Some("done"));
    let lasted = statement.end_time_unix_nano - statement.start_time_unix_nano;
    assert_eq!(lasted, 1_000_000_000);
    assert_eq!(statement.name, "select public.orders");
    for (key, value) in [
        ("db.system.name", "lines"),
        ("db.query.summary", "select public.orders"),
        ("db.operation.name", "select"),
        ("db.collection.name", "public.orders"),
        ("db.response.returned_rows", "2"),
        ("corral.decision", "d1"),
    ] {
        assert_eq!(said(statement, key).as_deref(), Some(value), "{key}");
    }
    assert!(!is_error(statement));
    let everything = format!("{:?}", world.ended);
    assert!(!everything.contains("hunter2"), "{everything}");
}

#[test]
fn a_claimed_trace_is_a_link_and_never_a_parent() {
    let mut world = World::new();
    world.start_run("root", None);
    world.end_run("root");
    let span = world.last();
    let [link] = span.links.as_slice() else { panic!("one link") };
    assert_ne!(span.trace_id, link.trace_id);
    assert_eq!(link.trace_id[..2], [0x4b, 0xf9]);
    assert_eq!(link.span_id[1], 0xf0);
    assert_eq!(link.attributes[0].key, "corral.claimed");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    assert_eq!(said(span, "corral.claimed.trace_id").as_deref(), Some(trace));
}

#[test]
fn what_is_refused_is_a_span_of_its_own_without_its_reason() {
    let mut world = World::new();
    world.start_run("root", None);
    world.say(
        json!({"run": "root", "run_path": "root", "principal": "ada", "target": "orders"}),
        json!({"event": "session.refused", "client_address": "127.0.0.1:1",
               "reason": "corral: hunter2: not permitted (decision d-7)"}),
    );
    let span = world.last().clone();
    assert!(is_error(&span) && said(&span, "error.type").as_deref() == Some("refused"));
    assert_eq!(span.name, "corral.session orders");
    assert_eq!(span.parent_span_id, span_of_run(&RunId::new("root").expect("an id")));
    for (key, value) in [
        ("corral.decision", "d-7"),
        ("corral.principal", "ada"),
        ("corral.target", "orders"),
        ("client.address", "127.0.0.1:1"),
        ("corral.refusals", "1"),
    ] {
        assert_eq!(said(&span, key).as_deref(), Some(value), "{key}");
    }
    let refused = json!({"event": "run.refused", "name": "hunter2", "reason": "hunter2",
                         "traceparent": CLAIM});
    world.say(json!({"principal": "nightly"}), refused.clone());
    world.say(json!({"principal": "nightly"}), refused);
    let [.., one, other] = world.ended.as_slice() else { panic!("spans") };
    assert_eq!((one.name.as_str(), one.links.len()), ("corral.run", 1));
    assert!(one.parent_span_id.is_empty() && one.trace_id != span.trace_id);
    assert!(one.trace_id != other.trace_id && one.span_id != other.span_id);
    world.say(
        json!({}),
        json!({"event": "refusals.counted", "refused": "session.refused", "count": 2980,
               "lasted_ms": 500, "reasons": ["hunter2"], "client_address": "127.0.0.1:9"}),
    );
    let counted = world.last();
    assert_eq!(counted.name, "corral.session");
    assert_eq!(said(counted, "corral.refusals").as_deref(), Some("2980"));
    assert_eq!(counted.end_time_unix_nano - counted.start_time_unix_nano, 500_000_000);
    let everything = format!("{:?}", world.ended);
    assert!(!everything.contains("hunter2"), "{everything}");
}

#[test]
fn every_end_of_a_statement_ends_its_span() {
    let mut world = World::new();
    world.open();
    world.decide(1, "deny", json!({}));
    assert!(
        is_error(world.last()) && said(world.last(), "error.type").as_deref() == Some("denied")
    );
    world.decide(2, "allow", json!({}));
    world.complete(2, "42P01");
    assert!(is_error(world.last()) && said(world.last(), "error.type").as_deref() == Some("42P01"));
    // Held, then approved: one span from the first decision on.
    world.decide(3, "hold", json!({}));
    assert_eq!(world.ended.len(), 2);
    world.decide(3, "allow", json!({"approval": "a1"}));
    world.complete(3, "00000");
    let span = world.last();
    assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 2_000_000_000);
    assert_eq!(said(span, "corral.outcome").as_deref(), Some("allow"));
    // Held, and nobody approved.
    world.decide(4, "hold", json!({}));
    let expired = json!({"event": "approval.decided", "approval": "a2", "decision": "d4",
                         "state": "expired", "by": [], "reason": "hunter2"});
    world.say(json!({"session": "s1"}), expired);
    assert_eq!(said(world.last(), "error.type").as_deref(), Some("approval_expired"));
    // It runs when the session is cut.
    world.decide(5, "allow", json!({}));
    world.close();
    let [.., cut, session] = world.ended.as_slice() else { panic!("spans") };
    assert_eq!(said(cut, "error.type").as_deref(), Some("session_closed"));
    assert_eq!(session.span_id, span_of_session(&SessionId::new("s1").expect("an id")));
    assert_eq!((world.spans.statements_open, world.left_out), (0, 0));
}

#[test]
fn what_cannot_be_followed_is_counted() {
    let mut world = World::new();
    world.decide(1, "allow", json!({}));
    assert_eq!(world.left_out, 1, "its session was never seen");
    world.open();
    world.spans.statements_open = bounds::STATEMENTS_OPEN_MAX;
    world.decide(2, "allow", json!({}));
    assert_eq!(world.left_out, 2);
    world.complete(2, "00000");
    assert!(world.ended.is_empty());
}

#[test]
fn names_that_are_data_stay_here() {
    let objects = [("dev".to_owned(), "deployments.apps/web".to_owned())];
    let check = |objects_of: TracedObjects, expect: &[&str]| {
        let names = Some(TraceNames { objects: objects_of, ..NAMES });
        assert_eq!(traced_objects(names, &objects), expect);
    };
    check(TracedObjects::Names, &["dev.deployments.apps/web"]);
    check(TracedObjects::Types, &["deployments.apps"]);
    check(TracedObjects::Nothing, &[]);
    assert!(traced_objects(None, &objects).is_empty());
}
