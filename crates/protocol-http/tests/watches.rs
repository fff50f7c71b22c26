//! Watches and other streams that are open while the configuration changes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

#[allow(dead_code, reason = "the other tests of this crate use the rest")]
mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corral_model::resource::ColumnName;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use support::fed::fed;
use support::{Api, Client, Gateway, Told, start, text};
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;

const WATCH: &str = "GET /api/v1/namespaces/dev/configmaps?watch=true";
const PATIENCE: Duration = Duration::from_secs(10);

struct World {
    api: Arc<Api>,
    told: Arc<Told>,
    client: Client,
}

/// A watch whose events the test gives.
struct Watch {
    target: Sender<Bytes>,
    response: http::Response<Incoming>,
}

fn column(table: &str) -> ColumnName {
    ColumnName { schema: "core".into(), table: table.into(), column: "data".into() }
}

fn event(value: &str) -> String {
    let object = json!({
        "kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c"}, "data": {"k": value},
    });
    format!("{}\n", json!({"type": "ADDED", "object": object}))
}

impl World {
    async fn new() -> Self {
        let (api, target) = Api::start().await;
        let gateway = Gateway::new(target);
        let told = gateway.told.clone();
        let client = Client::connect(start(gateway).await).await;
        Self { api, told, client }
    }

    async fn watch(&mut self, content_type: &'static str) -> Watch {
        let (target, body) = fed();
        self.api.on(WATCH, move |_| {
            let mut response = http::Response::new(body);
            response.headers_mut().insert("content-type", content_type.parse().unwrap());
            response
        });
        let response = self.client.ask(WATCH, "").await;
        Watch { target, response }
    }
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        let frame = timeout(PATIENCE, self.response.body_mut().frame()).await.unwrap()?;
        frame.ok().map(|frame| frame.into_data().unwrap())
    }
}

#[tokio::test]
async fn a_watch_ends_when_a_mask_is_added_and_the_next_is_masked() {
    let mut world = World::new().await;
    let mut watch = world.watch("application/json").await;
    watch.target.send(event("plain").into()).await.unwrap();
    assert_eq!(watch.next().await.unwrap(), event("plain"));
    world.told.mask(&[column("configmaps")]);
    let last: Value = serde_json::from_slice(&watch.next().await.unwrap()).unwrap();
    assert_eq!(last["type"], "ERROR");
    assert_eq!(last["object"]["code"], 410);
    assert_eq!(last["object"]["reason"], "Expired");
    // Whatever the target still sends goes nowhere; the answer is whole.
    let _ = watch.target.send(event("secret").into()).await;
    assert_eq!(watch.next().await, None);
    let cut = world.told.until("stream.cut", 1).await;
    assert_eq!(cut[0]["detail"], "other fields are masked since this watch began");
    let completed = world.told.until("statement.completed", 1).await;
    assert_eq!(completed[0]["code"], "200");

    let again = world.watch("application/json").await;
    again.target.send(event("secret").into()).await.unwrap();
    drop(again.target);
    let masked = text(again.response).await;
    assert!(masked.contains("masked by corral") && !masked.contains("secret"), "{masked}");
}

#[tokio::test]
async fn a_watch_goes_on_when_the_mask_of_something_else_changes() {
    let mut world = World::new().await;
    let mut watch = world.watch("application/json").await;
    world.told.mask(&[column("endpoints")]);
    // The session took the change over before it answers this.
    let lists = world.told.events("statement.decided").len();
    watch.target.send(event("plain").into()).await.unwrap();
    assert_eq!(watch.next().await.unwrap(), event("plain"));
    drop(watch.target);
    assert_eq!(watch.response.into_body().collect().await.unwrap().to_bytes(), "");
    assert_eq!(world.told.events("statement.decided").len(), lists);
    assert!(world.told.events("stream.cut").is_empty());
}

#[tokio::test]
async fn a_watch_that_stands_within_an_event_is_cut() {
    let mut world = World::new().await;
    let mut watch = world.watch("application/json").await;
    watch.target.send("{\"type\":".into()).await.unwrap();
    assert_eq!(watch.next().await.unwrap(), "{\"type\":");
    world.told.mask(&[column("configmaps")]);
    let broken = timeout(PATIENCE, watch.response.body_mut().frame()).await.unwrap();
    assert!(broken.unwrap().is_err());
    world.told.until("stream.cut", 1).await;
}

#[tokio::test]
async fn streams_end_when_the_right_to_them_is_taken_away() {
    const LOG: &str = "GET /api/v1/namespaces/dev/pods/p/log?follow=true";
    let mut world = World::new().await;
    let (target, body) = fed();
    world.api.on(LOG, move |_| http::Response::new(body));
    let response = world.client.ask(LOG, "").await;
    let mut log = Watch { target, response };
    log.target.send("one\n".into()).await.unwrap();
    assert_eq!(log.next().await.unwrap(), "one\n");
    // A change that takes nothing away ends nothing.
    world.told.mask(&[column("endpoints")]);
    log.target.send("two\n".into()).await.unwrap();
    assert_eq!(log.next().await.unwrap(), "two\n");
    world.told.forbid();
    let cut = timeout(PATIENCE, log.response.body_mut().frame()).await.unwrap();
    assert!(cut.unwrap().is_err(), "it must not look like an end");
    let decided = world.told.until("statement.decided", 2).await;
    assert_eq!(
        (&decided[1]["outcome"], &decided[1]["reason"]),
        (&json!("deny"), &json!("no longer"))
    );
    assert_eq!(world.told.until("statement.completed", 1).await[0]["code"], "aborted");
}
