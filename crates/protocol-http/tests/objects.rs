//! Objects through the engine: what is written is read, tried and compared; what is secret is
//! masked.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

#[allow(dead_code, reason = "the other tests of this crate use the rest")]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use corral_model::resource::ColumnName;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use support::{Api, Client, Gateway, Told, json as answer, refusal, request, start, text};

const PODS: &str = "/api/v1/namespaces/dev/pods";

struct World {
    api: Arc<Api>,
    told: Arc<Told>,
    address: SocketAddr,
    client: Client,
}

impl World {
    async fn new(change: impl FnOnce(&mut Gateway)) -> Self {
        let (api, target) = Api::start().await;
        let mut gateway = Gateway::new(target);
        change(&mut gateway);
        let told = gateway.told.clone();
        let address = start(gateway).await;
        Self { api, told, address, client: Client::connect(address).await }
    }

    async fn masked() -> Self {
        let column = |column: &str| ColumnName {
            schema: "core".into(),
            table: "secrets".into(),
            column: column.into(),
        };
        Self::new(|gateway| gateway.masked = Arc::new([column("data"), column("stringData")])).await
    }

    fn lines(&self) -> Vec<String> {
        self.api.seen().into_iter().map(|seen| seen.line).collect()
    }
}

fn secret(value: &str) -> Value {
    json!({
        "kind": "Secret", "apiVersion": "v1", "type": "Opaque",
        "metadata": {"name": "s", "namespace": "dev", "resourceVersion": "7"},
        "data": {"password": value},
    })
}

fn pod(image: &str, is_privileged: bool) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": "web", "namespace": "dev", "uid": "u-1", "resourceVersion": "5"},
        "spec": {"containers": [
            {"name": "c", "image": image, "securityContext": {"privileged": is_privileged}},
        ]},
    })
}

#[tokio::test]
async fn values_of_secrets_are_masked_and_counted() {
    let mut world = World::masked().await;
    let path = "GET /api/v1/namespaces/dev/secrets";
    world.api.on(path, |seen| {
        assert_eq!(seen.headers["accept"], "application/json");
        assert_eq!(seen.headers["accept-encoding"], "identity");
        let list = json!({"kind": "SecretList", "apiVersion": "v1", "metadata": {},
            "items": [secret("aHVudGVyMg==")]});
        let mut response = answer(StatusCode::OK, &list);
        response.headers_mut().insert("warning", "299 - \"hunter2\"".parse().unwrap());
        response
    });
    let mut asked = request(path, "");
    asked.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
    let response = world.client.send(asked).await;
    assert!(!response.headers().contains_key("warning"));
    let body = text(response).await;
    assert!(!body.contains("aHVudGVyMg==") && body.contains("\"password\""), "{body}");
    let masked = world.told.until("rows.masked", 1).await;
    assert_eq!(masked[0]["rows"], 1);
    assert!(masked[0]["columns"].as_array().unwrap().contains(&json!("data")));

    world.api.on(path, |_| answer(StatusCode::OK, &secret("aHVudGVyMg==")));
    let body = text(world.client.ask(&format!("{path}/s"), "").await).await;
    assert!(!body.contains("aHVudGVyMg=="), "{body}");
    let decided = world.told.events("statement.decided");
    assert_eq!(decided[0]["verbs"], json!(["read_secret"]));
}

#[tokio::test]
async fn what_cannot_be_masked_is_not_sent_on() {
    let mut world = World::masked().await;
    let path = "GET /api/v1/namespaces/dev/secrets/s";
    for content_type in ["application/cbor", "text/plain", ""] {
        world.api.on(path, move |_| {
            let mut response = answer(StatusCode::OK, &secret("aHVudGVyMg=="));
            let headers = response.headers_mut();
            match content_type {
                "" => headers.remove("content-type"),
                other => headers.insert("content-type", other.parse().unwrap()),
            };
            response
        });
        let (code, _, message) = refusal(world.client.ask(path, "").await).await;
        assert_eq!(code, 502, "{content_type}: {message}");
        assert!(message.starts_with("corral: "), "{message}");
    }
    world.api.on(path, |_| {
        let mut response = answer(StatusCode::OK, &secret("aHVudGVyMg=="));
        response.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        response
    });
    assert_eq!(refusal(world.client.ask(path, "").await).await.0, 502);
    // An error that quotes the object, in no form of the API.
    world.api.on(path, |_| {
        let mut response = http::Response::new(support::bytes("cannot decode hunter2"));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    let response = world.client.ask(path, "").await;
    assert_eq!(response.status(), 500);
    assert!(!text(response).await.contains("hunter2"));
    let mut asked = request(path, "");
    asked.headers_mut().insert("accept", "application/cbor".parse().unwrap());
    assert_eq!(refusal(world.client.send(asked).await).await.0, 403);
    let by_value = "GET /api/v1/namespaces/dev/secrets?fieldSelector=data.password%3Dx";
    assert_eq!(refusal(world.client.ask(by_value, "").await).await.0, 403);
}

#[tokio::test]
async fn a_masked_watch_is_masked_event_by_event() {
    let mut world = World::masked().await;
    let path = "GET /api/v1/namespaces/dev/secrets?watch=true";
    world.api.on(path, |_| {
        let event = |kind: &str| json!({"type": kind, "object": secret("aHVudGVyMg==")});
        let body = format!("{}\n{}\n", event("ADDED"), event("MODIFIED"));
        let mut response = http::Response::new(support::bytes(body));
        response.headers_mut().insert("content-type", "application/json".parse().unwrap());
        response
    });
    let body = text(world.client.ask(path, "").await).await;
    assert_eq!(body.matches("\"type\"").count() - body.matches("Opaque").count(), 2, "{body}");
    assert!(!body.contains("aHVudGVyMg=="), "{body}");
    let decided = world.told.events("statement.decided");
    assert_eq!(decided[0]["attributes"]["api_verb"], "watch");
}

#[tokio::test]
async fn a_mask_is_never_written_back_and_values_stay_out_of_the_record() {
    let mut world = World::masked().await;
    let path = "PUT /api/v1/namespaces/dev/secrets/s";
    let masked = secret("bWFza2VkIGJ5IGNvcnJhbA==").to_string();
    let (code, _, message) = refusal(world.client.ask(path, masked).await).await;
    assert_eq!(code, 403);
    assert!(message.contains("masked value"), "{message}");
    assert!(world.lines().is_empty());
    world.api.on("GET /api/v1/namespaces/dev/secrets/s", |_| {
        answer(StatusCode::OK, &secret("b2xkLXZhbHVl"))
    });
    world.api.on(path, |seen| {
        assert!(String::from_utf8_lossy(&seen.body).contains("bmV3LXZhbHVl"));
        answer(StatusCode::OK, &secret("bmV3LXZhbHVl"))
    });
    let body = text(world.client.ask(path, secret("bmV3LXZhbHVl").to_string()).await).await;
    assert!(!body.contains("bmV3LXZhbHVl"), "{body}");
    let changed = world.told.until("object.changed", 1).await;
    assert_eq!(changed[0]["object"]["name"], "secrets/s");
    assert_ne!(changed[0]["digest_before"], changed[0]["digest_after"]);
    for name in ["statement.decided", "object.changed", "statement.completed"] {
        let events = serde_json::to_string(&world.told.events(name)).unwrap();
        for value in ["b2xkLXZhbHVl", "bmV3LXZhbHVl", "old-value", "new-value"] {
            assert!(!events.contains(value), "{name}: {events}");
        }
    }
}

#[tokio::test]
async fn a_pod_is_decided_on_what_it_would_become() {
    let mut world = World::new(|_| {}).await;
    let path = format!("POST {PODS}");
    // A web hook makes it privileged.
    world.api.on(&path, |seen| {
        assert_eq!(seen.line, format!("POST {PODS}?fieldManager=x&dryRun=All"));
        assert_eq!(seen.headers["accept"], "application/json");
        answer(StatusCode::CREATED, &pod("nginx", true))
    });
    let stored = pod("nginx", true);
    world.api.on(&path, move |_| answer(StatusCode::CREATED, &stored));
    let asked = format!("{path}?fieldManager=x");
    let response = world.client.ask(&asked, pod("nginx", false).to_string()).await;
    assert_eq!(response.status(), 201);
    assert_eq!(text(response).await, pod("nginx", true).to_string());
    let decided = world.told.until("statement.decided", 2).await;
    assert_eq!(decided[0]["verbs"], json!(["kube_preview"]));
    assert_eq!(decided[1]["verbs"], json!(["kube_create", "kube_host_access"]));
    let fields = &decided[1]["attributes"];
    assert_eq!(fields["is_privileged"], true);
    assert_eq!(fields["is_decided_on_result"], true);
    assert_eq!(fields["images"], json!(["nginx"]));
    assert_eq!(fields["name"], "web");
    assert!(decided[1]["statement"].as_str().unwrap().contains("nginx"));
    let changed = world.told.until("object.changed", 1).await;
    assert_eq!(changed[0]["object"]["schema"], "dev");
    assert!(changed[0]["digest_after"].is_string());
    assert_eq!(world.lines().len(), 2);
}

#[tokio::test]
async fn whoever_may_not_write_has_nothing_tried() {
    let mut world = World::new(|_| {}).await;
    let asked = "POST /api/v1/namespaces/forbidden/pods";
    let (code, ..) = refusal(world.client.ask(asked, pod("nginx", false).to_string()).await).await;
    assert_eq!(code, 403);
    assert!(world.lines().is_empty());
    assert_eq!(world.told.events("statement.decided").len(), 1);
}

#[tokio::test]
async fn what_the_api_server_refuses_in_a_dry_run_is_its_own_answer() {
    let mut world = World::new(|_| {}).await;
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "code": 409, "reason": "AlreadyExists"});
    let expect = status.to_string();
    world.api.on("POST", move |_| answer(StatusCode::CONFLICT, &status));
    let response = world.client.ask(&format!("POST {PODS}"), pod("nginx", false).to_string()).await;
    assert_eq!(response.status(), 409);
    assert_eq!(text(response).await, expect);
    assert_eq!(world.lines().len(), 1);
}

#[tokio::test]
async fn a_patch_shows_its_fields_only_by_its_result() {
    let mut world = World::new(|gateway| gateway.options = json!({"preview": "never"})).await;
    let asked = || {
        let mut asked = request(&format!("PATCH {PODS}/web"), r#"{"spec":{}}"#);
        let kind = "application/merge-patch+json".parse().unwrap();
        asked.headers_mut().insert("content-type", kind);
        asked
    };
    let (code, _, message) = refusal(world.client.send(asked()).await).await;
    assert_eq!((code, message.contains("unknown")), (403, true), "{message}");
    assert!(world.lines().is_empty());

    let mut world = World::new(|_| {}).await;
    world.api.on("PATCH", |_| answer(StatusCode::OK, &pod("new", false)));
    world.api.on("GET", |_| answer(StatusCode::OK, &pod("old", false)));
    world.api.on("PATCH", |_| answer(StatusCode::OK, &pod("new", false)));
    assert_eq!(world.client.send(asked()).await.status(), 200);
    let changed = world.told.until("object.changed", 1).await;
    let diff = changed[0]["diff"].as_array().unwrap();
    assert!(diff.iter().any(|line| line.as_str().unwrap().contains("new")), "{diff:?}");
    let decided = world.told.events("statement.decided");
    assert_eq!(decided[1]["attributes"]["patch_type"], "merge");
    let lines = world.lines();
    assert_eq!(lines[0], format!("PATCH {PODS}/web?dryRun=All"));
    assert_eq!(lines[1], format!("GET {PODS}/web"));
    assert_eq!(lines[2], format!("PATCH {PODS}/web"));
}

#[tokio::test]
async fn what_a_protobuf_client_wrote_is_read_for_the_record() {
    let mut world = World::new(|_| {}).await;
    let path = "/api/v1/namespaces/dev/configmaps";
    // runtime.Unknown with {apiVersion: v1, kind: ConfigMap} and an object named "c".
    let object = b"\x0a\x03\x0a\x01c";
    let mut body = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x05".to_vec();
    body.extend(object);
    let sent = body.clone();
    world.api.on(&format!("POST {path}"), move |seen| {
        assert_eq!(seen.body, sent);
        let mut response = http::Response::new(support::bytes(seen.body.clone()));
        let kind = "application/vnd.kubernetes.protobuf".parse().unwrap();
        response.headers_mut().insert("content-type", kind);
        response
    });
    let stored = json!({"metadata": {"name": "c"}, "data": {"a": "b"}});
    world.api.on(&format!("GET {path}/c"), move |_| answer(StatusCode::OK, &stored));
    let mut asked = request(&format!("POST {path}"), body.clone());
    let kind = "application/vnd.kubernetes.protobuf".parse().unwrap();
    asked.headers_mut().insert("content-type", kind);
    let response = world.client.send(asked).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    let changed = world.told.until("object.changed", 1).await;
    assert_eq!(changed[0]["object"]["name"], "configmaps/c");
    assert!(changed[0]["digest_after"].is_string(), "{changed:?}");
}

#[tokio::test]
async fn objects_that_can_be_read_in_two_ways_are_refused() {
    let mut world = World::new(|_| {}).await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for body in [r#"{"a":1,"a":2}"#, "{", deep.as_str(), "\u{feff}{}"] {
        let line = "POST /api/v1/namespaces/dev/configmaps";
        let (code, ..) = refusal(world.client.ask(line, body.to_owned()).await).await;
        assert_eq!(code, 403, "{}", &body[..body.len().min(20)]);
    }
    let mut cbor = request("POST /api/v1/namespaces/dev/configmaps", "x");
    cbor.headers_mut().insert("content-type", "application/cbor".parse().unwrap());
    let (code, _, message) = refusal(world.client.send(cbor).await).await;
    assert_eq!((code, message.contains("content type")), (403, true), "{message}");
    assert!(world.lines().is_empty());
}

#[tokio::test]
async fn a_slow_object_does_not_hold_the_others() {
    let world = World::new(|_| {}).await;
    use tokio::io::AsyncWriteExt;
    let mut slow = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let head = "POST /api/v1/namespaces/dev/configmaps HTTP/1.1\r\nHost: g\r\n\
                Authorization: Bearer good\r\nContent-Type: application/json\r\n\
                Content-Length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut client = Client::connect(world.address).await;
    let line = format!("GET {PODS}");
    let asked = client.ask(&line, "");
    let response = tokio::time::timeout(Duration::from_secs(5), asked).await.unwrap();
    assert!(response.into_body().collect().await.is_ok());
    drop(slow);
    world.told.until("session.closed", 1).await;
    assert_eq!(world.lines(), [format!("GET {PODS}")]);
}
