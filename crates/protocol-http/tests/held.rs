//! Writes that wait for people: what they saw is what is done, once, and only for a client that is
//! there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

#[allow(dead_code, reason = "the other tests of this crate use the rest")]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use corral_session::Resolution;
use http::StatusCode;
use serde_json::{Value, json};
use support::{Api, Client, Gateway, POSSESSION, Told, json as answer, request, start, text};
use tokio::task::JoinHandle;

const POD: &str = "/api/v1/namespaces/held/pods/web";
const MAP: &str = "/api/v1/namespaces/held/configmaps/c";
const NEW: &str = "/api/v1/namespaces/held/configmaps/gone";

struct World {
    api: Arc<Api>,
    told: Arc<Told>,
    address: SocketAddr,
}

/// What a client was told.
#[derive(Debug)]
struct Heard {
    code: u16,
    approval: Option<String>,
    body: String,
}

impl World {
    async fn new() -> Self {
        let (api, target) = Api::start().await;
        let gateway = Gateway::new(target);
        let told = gateway.told.clone();
        Self { api, told, address: start(gateway).await }
    }

    /// A client of its own sends a merge patch, or a `METHOD PATH`.
    fn ask(&self, line: &str, body: &str, headers: &[(&'static str, &str)]) -> JoinHandle<Heard> {
        let mut asked = request(line, body.to_owned());
        let merge = "application/merge-patch+json".parse().unwrap();
        if line.starts_with("PATCH") {
            asked.headers_mut().insert("content-type", merge);
        }
        for (name, value) in headers {
            let value = value.parse().unwrap();
            match *name {
                "authorization" => drop(asked.headers_mut().insert(*name, value)),
                name => drop(asked.headers_mut().append(name, value)),
            }
        }
        let address = self.address;
        tokio::spawn(async move {
            let response = Client::connect(address).await.send(asked).await;
            let approval = response.headers().get("corral-approval");
            let approval = approval.map(|id| id.to_str().unwrap().to_owned());
            Heard { code: response.status().as_u16(), approval, body: text(response).await }
        })
    }

    fn patch(&self, headers: &[(&'static str, &str)]) -> JoinHandle<Heard> {
        self.ask(&format!("PATCH {MAP}"), r#"{"data":{"a":"2"}}"#, headers)
    }

    async fn approve(&self) {
        self.told
            .resolve(Resolution::Approved { by: vec!["bob".into()], reason: "ok".into() })
            .await;
    }

    fn writes(&self) -> usize {
        let seen = self.api.seen();
        let is_write = |line: &str| !line.starts_with("GET") && !line.contains("dryRun");
        seen.iter().filter(|seen| is_write(&seen.line)).count()
    }

    fn map(&self, version: &str, change: impl FnOnce(&mut Value)) {
        let mut object = json!({
            "kind": "ConfigMap", "metadata": {"name": "c", "uid": "u-1", "resourceVersion": version},
            "data": {"a": "1"},
        });
        change(&mut object);
        self.api.keep(MAP, object);
    }
}

fn pod(image: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": "web", "namespace": "held", "uid": "u-1", "resourceVersion": "5"},
        "spec": {"containers": [{"name": "c", "image": image}]},
    })
}

#[tokio::test]
async fn people_are_shown_the_state_of_the_object_that_is_changed() {
    let world = World::new().await;
    world.map("5", |_| {});
    let waiting = world.patch(&[]);
    world.told.until("approval.requested", 1).await;
    let decided = world.told.events("statement.decided");
    assert_eq!(decided[0]["verbs"], json!(["kube_preview"]), "the read is recorded");
    let shown = decided[1]["statement"].as_str().unwrap();
    let expect = format!(
        "PATCH {MAP}\nof the object \"u-1\" at resourceVersion \"5\"\n{{\"data\":{{\"a\":\"2\"}}}}"
    );
    assert_eq!(shown, expect);
    world.approve().await;
    assert_eq!(waiting.await.unwrap().code, 200);
    assert_eq!(world.writes(), 1);
}

#[tokio::test]
async fn an_object_that_changed_meanwhile_is_not_written_and_the_client_hears_what_changed() {
    type Change = fn(&World);
    let changes: [(Change, &str); 5] = [
        // Nothing that people were shown is another, but somebody wrote the object.
        (
            |world| world.map("6", |_| {}),
            r#"its resourceVersion was \"5\" and is \"6\": only what the target keeps for itself changed"#,
        ),
        (
            |world| world.map("6", |map| map["data"] = json!({"a": "9", "b": "1"})),
            r#"was \"5\" and is \"6\": data.a, data.b changed"#,
        ),
        (
            |world| world.map("6", |map| map["status"] = json!({"x": 1})),
            r#"was \"5\" and is \"6\": status changed"#,
        ),
        (
            |world| world.map("6", |map| map["metadata"]["uid"] = "u-2".into()),
            "it was deleted, and another one has its name",
        ),
        (|world| world.api.keep(MAP, json!({"kind": "Status"})), "no uid or resourceVersion"),
    ];
    for (change, expect) in changes {
        let world = World::new().await;
        world.map("5", |_| {});
        let waiting = world.patch(&[]);
        world.told.until("approval.requested", 1).await;
        change(&world);
        world.approve().await;
        let heard = waiting.await.unwrap();
        assert!(heard.code == 403 || heard.code == 502, "{heard:?}");
        assert!(heard.body.contains(expect), "{heard:?}");
        assert!(!heard.body.contains("\"9\""), "fields are named, values are not: {heard:?}");
        assert_eq!(world.writes(), 0, "{expect}");
        world.told.until("statement.completed", 2).await;
    }
}

#[tokio::test]
async fn an_object_that_appeared_meanwhile_is_not_overwritten() {
    let world = World::new().await;
    let line = format!("PUT {NEW}");
    let body = r#"{"kind":"ConfigMap","metadata":{"name":"gone"}}"#;
    let waiting = world.ask(&line, body, &[]);
    world.told.until("approval.requested", 1).await;
    let shown = world.told.events("statement.decided")[1]["statement"].clone();
    assert!(shown.as_str().unwrap().contains("of an object that does not exist yet"), "{shown}");
    world.api.keep(NEW, json!({"metadata": {"uid": "u", "resourceVersion": "1"}}));
    world.approve().await;
    let heard = waiting.await.unwrap();
    assert_eq!(heard.code, 403);
    assert!(heard.body.contains("it did not exist, and does now"), "{heard:?}");
    assert_eq!(world.writes(), 0);
}

#[tokio::test]
async fn what_the_gateway_may_not_read_cannot_be_approved() {
    let world = World::new().await;
    let refused = json!({"kind": "Status", "code": 403});
    world.api.on(&format!("GET {MAP}"), move |_| answer(StatusCode::FORBIDDEN, &refused));
    let heard = world.patch(&[]).await.unwrap();
    assert_eq!(heard.code, 403);
    assert!(heard.body.contains("could not be bound") && heard.body.contains("HTTP 403"));
    assert!(world.told.events("approval.requested").is_empty());
    assert_eq!(world.writes(), 0);
}

#[tokio::test]
async fn what_is_held_unforeseen_is_not_filed_unbound() {
    let world = World::new().await;
    let line = "PATCH /api/v1/namespaces/held-sudden/configmaps/c";
    let heard = world.ask(line, "{}", &[]).await.unwrap();
    assert_eq!(heard.code, 403);
    assert!(heard.body.contains("policies changed"), "{heard:?}");
    let decided = world.told.until("approval.decided", 1).await;
    assert_eq!(decided[0]["state"], "withdrawn");
    assert!(world.api.seen().is_empty());
}

#[tokio::test]
async fn a_write_that_nobody_is_asked_about_reads_no_object_first() {
    let world = World::new().await;
    let line = "PATCH /api/v1/namespaces/dev/events/e";
    assert_eq!(world.ask(line, "{}", &[]).await.unwrap().code, 200);
    let lines: Vec<String> = world.api.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(lines, [line]);
}

#[tokio::test]
async fn what_was_approved_is_what_is_done() {
    let world = World::new().await;
    world.api.keep(POD, pod("old"));
    let dry = format!("PATCH {POD}?dryRun=All");
    let ask = || world.ask(&format!("PATCH {POD}"), r#"{"spec":{"x":1}}"#, &[]);
    // What the target counts for itself is no change of the result.
    let mut later = pod("new");
    later["status"] = json!({"phase": "Running"});
    world.api.on(&dry, |_| answer(StatusCode::OK, &pod("new")));
    world.api.on(&dry, move |_| answer(StatusCode::OK, &later));
    let waiting = ask();
    world.told.until("approval.requested", 1).await;
    world.approve().await;
    let heard = waiting.await.unwrap();
    assert_eq!(heard.code, 200, "{heard:?}");
    assert_eq!(world.writes(), 1);

    // A web hook makes something else of it now, although the object is the same.
    world.api.on(&dry, |_| answer(StatusCode::OK, &pod("new")));
    world.api.on(&dry, |_| answer(StatusCode::OK, &pod("other")));
    let waiting = ask();
    world.told.until("approval.requested", 2).await;
    world.approve().await;
    let heard = waiting.await.unwrap();
    assert_eq!(heard.code, 403, "{heard:?}");
    assert!(heard.body.contains("changed while"), "{heard:?}");
    assert!(heard.body.contains("image would be another"), "{heard:?}");
    assert_eq!(world.writes(), 1);
}

const ASYNC: (&str, &str) = ("prefer", "respond-async");
const AGAIN: (&str, &str) = ("corral-approval", "a-1");

/// A held patch whose client went away.
async fn parked() -> World {
    let world = World::new().await;
    world.map("5", |_| {});
    let heard = world.patch(&[ASYNC]).await.unwrap();
    assert_eq!(heard.code, 202, "{heard:?}");
    world
}

#[tokio::test]
async fn a_client_that_does_not_wait_is_told_the_approval() {
    let world = World::new().await;
    world.map("5", |_| {});
    let heard = world.patch(&[("prefer", "wait=5, Respond-Async")]).await.unwrap();
    assert_eq!((heard.code, heard.approval.as_deref()), (202, Some("a-1")));
    let status: Value = serde_json::from_str(&heard.body).unwrap();
    assert_eq!((&status["kind"], &status["status"]), (&json!("Status"), &json!("Failure")));
    assert_eq!(status["reason"], "AwaitingApproval");
    assert_eq!(status["details"], json!({"kind": "approvals", "name": "a-1"}));
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("ask ops") && message.contains("Corral-Approval: a-1"), "{message}");
    // The client's connection is closed; its request waits on, and its session with it.
    assert_eq!(world.told.sessions.load(Ordering::SeqCst), 1);
    let heard = world.patch(&[ASYNC, AGAIN]).await.unwrap();
    assert_eq!((heard.code, heard.approval.as_deref()), (202, Some("a-1")));
    assert_eq!(world.told.opened.load(Ordering::SeqCst), 1, "it goes on in the same session");
    assert_eq!(world.told.events("approval.requested").len(), 1);
    assert_eq!(world.writes(), 0);
}

#[tokio::test]
async fn an_approved_request_runs_once_when_its_client_comes_back() {
    let world = parked().await;
    world.approve().await;
    world.told.until("approval.decided", 1).await;
    assert_eq!(world.writes(), 0, "nothing runs for a client that is away");
    let heard = world.patch(&[ASYNC, AGAIN]).await.unwrap();
    assert_eq!(heard.code, 200, "{heard:?}");
    assert_eq!(world.writes(), 1);
    let sent = world.api.seen().into_iter().find(|seen| seen.line.starts_with("PATCH")).unwrap();
    assert!(!sent.headers.contains_key("corral-approval"));
    world.told.until("session.closed", 1).await;

    let heard = world.patch(&[AGAIN]).await.unwrap();
    assert_eq!(heard.code, 403, "{heard:?}");
    assert!(heard.body.contains("no request of this token waits"), "{heard:?}");
    assert_eq!(world.writes(), 1, "an approval is used once");
}

#[tokio::test]
async fn a_client_may_come_back_and_wait() {
    let world = parked().await;
    let looks = world.told.looks.load(Ordering::SeqCst);
    let waiting = world.patch(&[AGAIN]);
    while world.told.looks.load(Ordering::SeqCst) == looks {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    world.approve().await;
    assert_eq!(waiting.await.unwrap().code, 200);
    assert_eq!(world.writes(), 1);

    let world = parked().await;
    let waiting = world.patch(&[AGAIN]);
    world.told.resolve(Resolution::Denied { by: "bob".into(), reason: "no".into() }).await;
    let heard = waiting.await.unwrap();
    assert_eq!(heard.code, 403);
    assert!(heard.body.contains("denied by bob: no"), "{heard:?}");
    assert_eq!(world.writes(), 0);
}

#[tokio::test]
async fn an_approval_is_good_for_the_very_request_alone() {
    let world = parked().await;
    world.approve().await;
    world.told.until("approval.decided", 1).await;
    let patch = format!("PATCH {MAP}");
    let body = r#"{"data":{"a":"2"}}"#;
    let others = [
        (patch.as_str(), r#"{"data":{"a":"3"}}"#),
        ("PATCH /api/v1/namespaces/held/configmaps/d", body),
        ("PUT /api/v1/namespaces/held/configmaps/c", body),
        ("PATCH /api/v1/namespaces/held/configmaps/c?force=true", body),
    ];
    for (line, body) in others {
        let heard = world.ask(line, body, &[AGAIN]).await.unwrap();
        assert_eq!(heard.code, 403, "{line} {body}: {heard:?}");
        assert!(heard.body.contains("another request"), "{line} {body}: {heard:?}");
    }
    // Another kind of patch with the same bytes.
    let mut asked = request(&patch, body);
    asked.headers_mut().insert("corral-approval", "a-1".parse().unwrap());
    let strategic = "application/strategic-merge-patch+json".parse().unwrap();
    asked.headers_mut().insert("content-type", strategic);
    let response = Client::connect(world.address).await.send(asked).await;
    assert_eq!(response.status(), 403);
    // Another token, and an approval that is none.
    let mut asked = request(&patch, body);
    asked.headers_mut().insert("corral-approval", "a-1".parse().unwrap());
    asked.headers_mut().insert("authorization", "Bearer other".parse().unwrap());
    let response = Client::connect(world.address).await.send(asked).await;
    assert_eq!(response.status(), 403);
    for headers in
        [&[("corral-approval", "a-2")][..], &[("corral-approval", "a 1")], &[AGAIN, AGAIN]]
    {
        assert_eq!(world.patch(headers).await.unwrap().code, 403, "{headers:?}");
    }
    assert_eq!(world.writes(), 0);
    // None of them used it up.
    assert_eq!(world.patch(&[AGAIN]).await.unwrap().code, 200);
    assert_eq!(world.writes(), 1);
}

#[tokio::test]
async fn what_a_bound_token_left_waiting_is_not_found_without_its_key() {
    let world = World::new().await;
    world.map("5", |_| {});
    let body = r#"{"data":{"a":"2"}}"#;
    let bound = ("authorization", "DPoP bound");
    let proven = (POSSESSION, "proven");
    let patch = format!("PATCH {MAP}");
    let heard = world.ask(&patch, body, &[bound, proven, ASYNC]).await.unwrap();
    assert_eq!(heard.code, 202, "{heard:?}");
    world.approve().await;
    world.told.until("approval.decided", 1).await;
    let bearer = ("authorization", "Bearer bound");
    for headers in [&[bearer, AGAIN][..], &[bearer, proven, AGAIN], &[bound, AGAIN]] {
        let heard = world.ask(&patch, body, headers).await.unwrap();
        assert_eq!(heard.code, 401, "{headers:?}: {heard:?}");
    }
    assert_eq!(world.writes(), 0);
    assert_eq!(world.ask(&patch, body, &[bound, proven, AGAIN]).await.unwrap().code, 200);
    assert_eq!(world.writes(), 1);
}

#[tokio::test]
async fn what_waits_is_not_sent_again_with_a_token_that_is_over() {
    let world = World::new().await;
    world.map("5", |_| {});
    let brief = ("authorization", "Bearer brief");
    let heard = world.patch(&[brief, ASYNC]).await.unwrap();
    assert_eq!(heard.code, 202, "{heard:?}");
    world.approve().await;
    world.told.until("approval.decided", 1).await;
    assert_eq!(world.patch(&[brief, AGAIN]).await.unwrap().code, 401);
    assert_eq!(world.writes(), 0);
}

#[tokio::test]
async fn a_parked_request_is_bound_to_the_state_that_people_saw() {
    let world = parked().await;
    world.approve().await;
    world.told.until("approval.decided", 1).await;
    world.map("6", |_| {});
    let heard = world.patch(&[AGAIN]).await.unwrap();
    assert_eq!(heard.code, 403);
    assert!(heard.body.contains("resourceVersion"), "{heard:?}");
    assert_eq!(world.writes(), 0);
    // It is used up: whoever wants it still asks again.
    assert_eq!(world.patch(&[AGAIN]).await.unwrap().code, 403);
}

#[tokio::test]
async fn a_parked_request_ends_with_its_session() {
    let world = parked().await;
    world.told.kill().await;
    world.told.until("session.closed", 1).await;
    assert_eq!(world.told.events("approval.decided")[0]["state"], "withdrawn");
    assert_eq!(world.patch(&[AGAIN]).await.unwrap().code, 403);

    let world = parked().await;
    world.approve().await;
    world.told.until("approval.decided", 1).await;
    world.told.kill().await;
    world.told.until("session.closed", 1).await;
    let completed = world.told.until("statement.completed", 2).await;
    assert_eq!(completed[1]["code"], "aborted", "approved, and not run");
    assert_eq!(world.patch(&[AGAIN]).await.unwrap().code, 403);
    assert_eq!(world.writes(), 0);
}

#[tokio::test]
async fn an_approved_request_does_not_wait_for_its_client_for_ever() {
    let world = parked().await;
    world.approve().await;
    world.told.until("approval.decided", 1).await;
    tokio::time::pause();
    tokio::time::advance(corral_model::limits::PARKED_OUTCOME_WAIT * 2).await;
    tokio::time::resume();
    let completed = world.told.until("statement.completed", 2).await;
    assert_eq!(completed[1]["code"], "aborted");
    world.told.until("session.closed", 1).await;
    assert_eq!(world.patch(&[AGAIN]).await.unwrap().code, 403);
    assert_eq!(world.writes(), 0);
}

#[tokio::test]
async fn parked_requests_are_of_a_limited_number() {
    let world = World::new().await;
    world.map("5", |_| {});
    for _ in 0..corral_model::limits::PARKED_REQUESTS_MAX {
        assert_eq!(world.patch(&[ASYNC]).await.unwrap().code, 202);
    }
    let heard = world.patch(&[ASYNC]).await.unwrap();
    assert_eq!(heard.code, 403);
    assert!(heard.body.contains("too many requests wait"), "{heard:?}");
    let decided = world.told.until("approval.decided", 1).await;
    assert_eq!(decided[0]["state"], "withdrawn");
    assert_eq!(world.writes(), 0);
}
