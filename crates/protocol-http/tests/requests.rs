//! Requests through the engine: who is let in, what the target is shown, what is recorded, and
//! how everything ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

#[allow(dead_code, reason = "the other tests of this crate use the rest")]
mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use corral_session::Resolution;
use http::StatusCode;
use http_body_util::BodyExt;
use support::fed::fed;
use support::{Api, Client, Gateway, POSSESSION, json, refusal, request, start, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PODS: &str = "GET /api/v1/namespaces/dev/pods";

/// The object of the requests that are held.
fn keep_held(api: &Api) {
    let object = serde_json::json!({"metadata": {"uid": "u-1", "resourceVersion": "5"}});
    api.keep("/api/v1/namespaces/held/pods/web", object);
}

#[tokio::test]
async fn a_request_is_decided_recorded_and_answered() {
    let (api, target) = Api::start().await;
    let gateway = Gateway::new(target);
    let told = gateway.told.clone();
    let mut client = Client::connect(start(gateway).await).await;
    let list = serde_json::json!({"kind": "PodList", "items": [{"metadata": {"name": "web"}}]});
    let answer = list.clone();
    api.on(PODS, move |_| json(StatusCode::OK, &answer));
    let response = client.ask(&format!("{PODS}?limit=500"), "").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(text(response).await, list.to_string());
    let decided = told.until("statement.decided", 1).await;
    assert_eq!(decided[0]["statement"], "GET /api/v1/namespaces/dev/pods?limit=500");
    assert_eq!(decided[0]["verbs"], serde_json::json!(["kube_list"]));
    assert_eq!(decided[0]["attributes"]["api_resource"], "pods");
    assert_eq!(decided[0]["objects"][0]["schema"], "dev");
    let completed = told.until("statement.completed", 1).await;
    assert_eq!(completed[0]["code"], "200");
    assert_eq!(completed[0]["bytes"], list.to_string().len());
    let seen = api.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].line, "GET /api/v1/namespaces/dev/pods?limit=500");
}

#[tokio::test]
async fn the_target_sees_the_gateways_names_and_never_the_clients() {
    let (api, target) = Api::start().await;
    let mut gateway = Gateway::new(target);
    gateway.options = serde_json::json!({"impersonate": "principal"});
    let mut client = Client::connect(start(gateway).await).await;
    let mut asked = request(PODS, "");
    for (name, value) in [
        ("impersonate-user", "system:admin"),
        ("impersonate-group", "system:masters"),
        ("impersonate-uid", "0"),
        ("impersonate-extra-x", "y"),
        ("x-remote-user", "admin"),
        ("x-forwarded-for", "1.2.3.4"),
        ("forwarded", "for=1.2.3.4"),
        ("cookie", "a=b"),
        ("audit-id", "mine"),
        ("dpop", "proof"),
        ("connection", "x-secret"),
        ("x-secret", "1"),
        ("user-agent", "kubectl/v1"),
    ] {
        asked.headers_mut().append(name, value.parse().unwrap());
    }
    let response = client.send(asked).await;
    assert_eq!(response.status(), 200);
    let headers = api.seen()[0].headers.clone();
    let all = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(all("authorization"), ["Bearer target-token"]);
    assert_eq!(all("impersonate-user"), ["ada@example.com"]);
    assert_eq!(all("impersonate-group"), ["agents"]);
    assert_eq!(all("impersonate-extra-corral-run"), ["r-1"]);
    assert_eq!(all("impersonate-extra-corral-run-path"), ["job/planner"]);
    assert_eq!(all("impersonate-extra-corral-sponsor"), ["ada@example.com"]);
    assert_eq!(all("audit-id"), ["d-1"]);
    assert_eq!(all("user-agent"), ["kubectl/v1"]);
    for gone in [
        "impersonate-uid",
        "impersonate-extra-x",
        "x-remote-user",
        "x-forwarded-for",
        "forwarded",
        "cookie",
        "dpop",
        "x-secret",
        "connection",
    ] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
}

#[tokio::test]
async fn nobody_comes_in_without_a_good_token() {
    let (api, target) = Api::start().await;
    let gateway = Gateway::new(target);
    let told = gateway.told.clone();
    let mut client = Client::connect(start(gateway).await).await;
    let mut without = request(PODS, "");
    without.headers_mut().remove("authorization");
    let response = client.send(without).await;
    assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"corral\"");
    let (code, reason, message) = refusal(response).await;
    assert_eq!((code, reason.as_str()), (401, "Unauthorized"));
    assert!(message.starts_with("corral: no token"), "{message}");
    assert_eq!(told.events("session.refused").len(), 1);
    for value in ["Bearer wrong", "Basic Z29vZA=="] {
        let mut wrong = request(PODS, "");
        wrong.headers_mut().insert("authorization", value.parse().unwrap());
        assert_eq!(refusal(client.send(wrong).await).await.0, 401, "{value}");
    }
    let mut twice = request(PODS, "");
    twice.headers_mut().append("authorization", "Bearer good".parse().unwrap());
    assert_eq!(refusal(client.send(twice).await).await.0, 401);
    let mut full = request(PODS, "");
    full.headers_mut().insert("authorization", "Bearer full".parse().unwrap());
    let response = client.send(full).await;
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(refusal(response).await.0, 429);
    assert!(api.seen().is_empty(), "{:?}", api.seen());
    // The connection is none the worse for it.
    assert_eq!(client.ask(PODS, "").await.status(), 200);
}

#[tokio::test]
async fn one_connection_has_one_session_for_each_token() {
    let (_api, target) = Api::start().await;
    let gateway = Gateway::new(target);
    let told = gateway.told.clone();
    let mut client = Client::connect(start(gateway).await).await;
    for _ in 0..3 {
        assert_eq!(client.ask(PODS, "").await.status(), 200);
    }
    assert_eq!(told.opened.load(Ordering::SeqCst), 1);
    let mut other = request(PODS, "");
    other.headers_mut().insert("authorization", "Bearer other".parse().unwrap());
    assert_eq!(client.send(other).await.status(), 200);
    assert_eq!(told.opened.load(Ordering::SeqCst), 2);
    drop(client);
    told.until("session.closed", 2).await;
    assert_eq!(told.sessions.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_token_that_is_over_opens_no_request_in_its_open_session() {
    let (api, target) = Api::start().await;
    let gateway = Gateway::new(target);
    let told = gateway.told.clone();
    let mut client = Client::connect(start(gateway).await).await;
    let brief = || {
        let mut asked = request(PODS, "");
        asked.headers_mut().insert("authorization", "Bearer brief".parse().unwrap());
        asked
    };
    assert_eq!(client.send(brief()).await.status(), 200);
    let (code, _, message) = refusal(client.send(brief()).await).await;
    assert_eq!((code, api.seen().len()), (401, 1), "{message}");
    // The connection is open, and nothing keeps the session.
    told.until("session.closed", 1).await;
    assert_eq!(client.ask(PODS, "").await.status(), 200);
}

#[tokio::test]
async fn a_bound_token_is_good_in_proven_requests_only() {
    let (api, target) = Api::start().await;
    let gateway = Gateway::new(target);
    let told = gateway.told.clone();
    let mut client = Client::connect(start(gateway).await).await;
    let ask = |scheme: &str, possession: Option<&str>| {
        let mut asked = request(PODS, "");
        let value = format!("{scheme} bound").parse().unwrap();
        asked.headers_mut().insert("authorization", value);
        if let Some(possession) = possession {
            asked.headers_mut().insert(POSSESSION, possession.parse().unwrap());
        }
        asked
    };
    for _ in 0..2 {
        assert_eq!(client.send(ask("DPoP", Some("proven"))).await.status(), 200);
    }
    assert_eq!(told.opened.load(Ordering::SeqCst), 1);
    // Its session is open; whoever has the token alone does not find it.
    for (scheme, possession, words) in [
        ("Bearer", None, "no such token"),
        ("Bearer", Some("proven"), "no such token"),
        ("DPoP", Some("used before"), "used before"),
        ("DPoP", None, "takes no proofs of possession"),
    ] {
        let (code, _, message) = refusal(client.send(ask(scheme, possession)).await).await;
        assert_eq!(code, 401, "{scheme} {possession:?}");
        assert!(message.contains(words), "{scheme} {possession:?}: {message}");
    }
    assert_eq!(told.events("session.refused").len(), 2);
    assert_eq!(told.opened.load(Ordering::SeqCst), 1);
    assert_eq!(api.seen().len(), 2);
    assert_eq!(client.send(ask("dpop", Some("proven"))).await.status(), 200);
}

#[tokio::test]
async fn a_denied_request_never_reaches_the_target() {
    let (api, target) = Api::start().await;
    let gateway = Gateway::new(target);
    let told = gateway.told.clone();
    let mut client = Client::connect(start(gateway).await).await;
    for (line, code) in [
        ("GET /api/v1/namespaces/forbidden/pods", 403),
        ("GET /apis/example.com/v1/widgets", 403),
        ("GET /api/v1/namespaces/a/%2e%2e/b/pods", 403),
        ("GET /api//v1/pods", 403),
        ("GET /api/v1/pods?watch=1&watch=0", 403),
        ("TRACE /api/v1/pods", 403),
    ] {
        let (found, reason, message) = refusal(client.ask(line, "").await).await;
        assert_eq!((found, reason.as_str()), (code, "Forbidden"), "{line}");
        assert!(message.starts_with("corral: ") && message.contains("d-1"), "{line}: {message}");
    }
    assert_eq!(told.events("statement.decided").len(), 6);
    told.is_record_full.store(true, Ordering::SeqCst);
    let (code, reason, _) = refusal(client.ask(PODS, "").await).await;
    assert_eq!((code, reason.as_str()), (503, "ServiceUnavailable"));
    assert!(api.seen().is_empty(), "{:?}", api.seen());
}

#[tokio::test]
async fn an_object_larger_than_the_limit_is_refused() {
    let (api, target) = Api::start().await;
    let mut client = Client::connect(start(Gateway::new(target)).await).await;
    let large = vec![b' '; 3 * 1024 * 1024 + 1];
    let line = "POST /api/v1/namespaces/dev/configmaps";
    let (code, reason, _) = refusal(client.ask(line, large).await).await;
    assert_eq!((code, reason.as_str()), (413, "RequestEntityTooLarge"));
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn a_target_that_is_down_is_502_without_its_address() {
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gateway = Gateway::new(port);
    let told = gateway.told.clone();
    let mut client = Client::connect(start(gateway).await).await;
    let (code, _, message) = refusal(client.ask(PODS, "").await).await;
    assert_eq!(code, 502);
    assert!(!message.contains("127.0.0.1"), "{message}");
    let completed = told.until("statement.completed", 1).await;
    assert_eq!(completed[0]["code"], "aborted");
}

#[tokio::test]
async fn a_held_request_waits_and_goes_on_when_approved() {
    let (api, target) = Api::start().await;
    let gateway = Gateway::new(target);
    let told = gateway.told.clone();
    let address = start(gateway).await;
    let line = "DELETE /api/v1/namespaces/held/pods/web";
    let read = "GET /api/v1/namespaces/held/pods/web";
    keep_held(&api);
    let waiting = tokio::spawn(async move {
        let mut client = Client::connect(address).await;
        client.ask(line, "").await.status()
    });
    told.until("approval.requested", 1).await;
    assert_eq!(api.seen().len(), 1, "the object, to bind it");
    told.resolve(Resolution::Approved { by: vec!["bob".into()], reason: "ok".into() }).await;
    assert_eq!(waiting.await.unwrap(), 200);
    let lines: Vec<String> = api.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(lines, [read, read, read, line], "bound, compared, and for the record");

    let waiting = tokio::spawn(async move {
        let mut client = Client::connect(address).await;
        refusal(client.ask(line, "").await).await
    });
    told.until("approval.requested", 2).await;
    told.resolve(Resolution::Denied { by: "bob".into(), reason: "no".into() }).await;
    let (code, _, message) = waiting.await.unwrap();
    assert_eq!(code, 403);
    assert!(message.contains("bob"), "{message}");
    assert_eq!(api.seen().len(), 5);
}

#[tokio::test]
async fn a_client_that_leaves_withdraws_what_it_waits_for() {
    let (api, target) = Api::start().await;
    let gateway = Gateway::new(target);
    let told = gateway.told.clone();
    let address = start(gateway).await;
    keep_held(&api);
    let waiting = tokio::spawn(async move {
        let mut client = Client::connect(address).await;
        client.ask("DELETE /api/v1/namespaces/held/pods/web", "").await
    });
    told.until("approval.requested", 1).await;
    waiting.abort();
    let decided = told.until("approval.decided", 1).await;
    assert_eq!(decided[0]["state"], "withdrawn");
    assert_eq!(told.withdrawn.load(Ordering::SeqCst), 1);
    told.until("session.closed", 1).await;
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test]
async fn a_watch_streams_until_its_session_is_killed() {
    let (api, target) = Api::start().await;
    let gateway = Gateway::new(target);
    let told = gateway.told.clone();
    let mut client = Client::connect(start(gateway).await).await;
    let (feed, body) = fed();
    api.on("GET /api/v1/pods?watch=1", move |_| http::Response::new(body));
    let response = client.ask("GET /api/v1/pods?watch=1", "").await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    for event in ["{\"type\":\"ADDED\"}\n", "{\"type\":\"DELETED\"}\n"] {
        feed.send(Bytes::from(event)).await.unwrap();
        let frame = timeout(Duration::from_secs(5), body.frame()).await.unwrap();
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), event);
    }
    told.kill().await;
    let cut = timeout(Duration::from_secs(5), body.frame()).await.unwrap();
    assert!(cut.unwrap().is_err(), "it must not look like an end");
    let completed = told.until("statement.completed", 1).await;
    assert_eq!(completed[0]["code"], "aborted");
    told.until("session.closed", 1).await;
    timeout(Duration::from_secs(5), feed.closed()).await.expect("the target's side ends too");
}

#[tokio::test]
async fn after_a_kill_the_connection_is_of_no_use() {
    let (api, target) = Api::start().await;
    let gateway = Gateway::new(target);
    let told = gateway.told.clone();
    let mut client = Client::connect(start(gateway).await).await;
    assert_eq!(client.ask(PODS, "").await.status(), 200);
    told.kill().await;
    told.until("session.closed", 1).await;
    let (code, _, message) = refusal(client.ask(PODS, "").await).await;
    assert_eq!((code, message.as_str()), (401, "corral: killed by ada"));
    assert_eq!(told.opened.load(Ordering::SeqCst), 1);
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test]
async fn a_killed_session_answers_what_waits_for_the_target() {
    let (api, target) = Api::start().await;
    let gateway = Gateway::new(target);
    let told = gateway.told.clone();
    let address = start(gateway).await;
    let (mute, body) = fed();
    // An answer whose head never comes: the stand-in waits for the rest of its request.
    drop(body);
    keep_held(&api);
    let waiting = tokio::spawn(async move {
        let mut client = Client::connect(address).await;
        refusal(client.ask("DELETE /api/v1/namespaces/held/pods/web", "").await).await
    });
    told.until("approval.requested", 1).await;
    told.kill().await;
    let (code, _, message) = timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    assert_eq!((code, message.as_str()), (401, "corral: killed by ada"));
    assert_eq!(api.seen().len(), 1);
    drop(mute);
}

#[tokio::test]
async fn large_answers_stream_and_are_counted() {
    let (api, target) = Api::start().await;
    let gateway = Gateway::new(target);
    let told = gateway.told.clone();
    let mut client = Client::connect(start(gateway).await).await;
    let (feed, body) = fed();
    api.on("GET /api/v1/namespaces/dev/pods/web/log", move |_| http::Response::new(body));
    let response = client.ask("GET /api/v1/namespaces/dev/pods/web/log", "").await;
    let mut body = response.into_body();
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    let pieces = 512;
    let (mut feeding, mut total) = (0, 0);
    while total < pieces * piece.len() {
        if feeding < pieces {
            feed.send(piece.clone()).await.unwrap();
            feeding += 1;
        }
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        total += frame.len();
    }
    drop(feed);
    assert!(body.frame().await.is_none());
    let completed = told.until("statement.completed", 1).await;
    assert_eq!(completed[0]["bytes"], pieces * piece.len());
    assert!(told.bytes.load(Ordering::SeqCst) >= pieces * piece.len());
}

#[tokio::test]
async fn a_target_that_stops_in_the_middle_is_seen_as_such() {
    let (api, target) = Api::start().await;
    let gateway = Gateway::new(target);
    let told = gateway.told.clone();
    let mut client = Client::connect(start(gateway).await).await;
    let (feed, body) = fed();
    api.on(PODS, move |_| http::Response::new(body));
    feed.send(Bytes::from("{")).await.unwrap();
    let mut body = client.ask(PODS, "").await.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "{");
    feed.send(Bytes::new()).await.unwrap();
    assert!(body.frame().await.unwrap().is_err(), "it must not look like an end");
    let completed = told.until("statement.completed", 1).await;
    assert_eq!(completed[0]["code"], "aborted");
}

#[tokio::test]
async fn a_connection_that_the_target_closed_is_replaced() {
    let (api, target) = Api::start().await;
    let mut client = Client::connect(start(Gateway::new(target)).await).await;
    for _ in 0..3 {
        api.on(PODS, |_| {
            let mut response = json(StatusCode::OK, &serde_json::json!({}));
            response.headers_mut().insert("connection", "close".parse().unwrap());
            response
        });
        let response = client.ask(PODS, "").await;
        assert!(!response.headers().contains_key("connection"));
        assert_eq!(text(response).await, "{}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(api.seen().len(), 3);
}

/// What a raw client gets back for these bytes, until the gateway closes or is silent.
async fn raw(address: std::net::SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_millis(700), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn smuggling_shapes_are_refused_or_mean_one_request() {
    let (api, target) = Api::start().await;
    let address = start(Gateway::new(target)).await;
    let head = "POST /api/v1/namespaces/dev/configmaps HTTP/1.1\r\nHost: g\r\n\
                Authorization: Bearer good\r\nContent-Type: application/json\r\n";
    let inner = "GET /api/v1/namespaces/dev/pods HTTP/1.1\r\nHost: g\r\n\r\n";
    for shape in [
        format!("{head}Content-Length: 0\r\nContent-Length: {}\r\n\r\n{inner}", inner.len()),
        format!("{head}Content-Length: abc\r\n\r\n{inner}"),
        format!("{head}Content-Length: +5\r\n\r\n{inner}"),
        format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        format!("{head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"),
        format!("{head} Folded: x\r\n\r\n"),
        format!("{head}Bad Name: x\r\n\r\n"),
        "GET /api/v1/pods\r\n\r\n".to_owned(),
        "GET http://[::1 HTTP/1.1\r\n\r\n".to_owned(),
    ] {
        let answer = raw(address, &shape).await;
        let is_refused = answer.is_empty()
            || answer.starts_with("HTTP/1.1 400")
            || answer.starts_with("HTTP/1.1 403");
        assert!(is_refused, "{shape}\n{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count().min(2) / 2, 0, "{shape}\n{answer}");
    }
    assert!(api.seen().is_empty(), "{:?}", api.seen());
    // Both lengths: the chunked one counts, and what follows is no request of this client's token.
    let both =
        format!("{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}");
    let answer = raw(address, &both).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    let seen = api.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].line.starts_with("POST ") && seen[0].body.is_empty(), "{seen:?}");
}

#[tokio::test]
async fn heads_are_bounded() {
    let (api, target) = Api::start().await;
    let address = start(Gateway::new(target)).await;
    let many = "X-A: b\r\n".repeat(5_000);
    let answer = raw(address, &format!("GET /version HTTP/1.1\r\nHost: g\r\n{many}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let long = "a".repeat(1024 * 1024);
    let answer = raw(address, &format!("GET /version?{long} HTTP/1.1\r\nHost: g\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 4") || answer.is_empty(), "{answer}");
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn an_absolute_uri_means_its_path_and_no_other_host() {
    let (api, target) = Api::start().await;
    let address = start(Gateway::new(target)).await;
    let asked = "GET http://169.254.169.254/api/v1/namespaces/dev/pods HTTP/1.1\r\n\
                 Host: metadata\r\nAuthorization: Bearer good\r\nConnection: close\r\n\r\n";
    let answer = raw(address, asked).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = api.seen();
    assert_eq!(seen[0].line, PODS);
    assert_eq!(seen[0].headers["host"], target.to_string());
}

#[tokio::test]
async fn a_body_is_asked_for_only_when_it_is_wanted() {
    let (api, target) = Api::start().await;
    let address = start(Gateway::new(target)).await;
    let head = |path: &str, extra: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer good\r\n\
             Content-Length: 2\r\nExpect: 100-continue\r\n{extra}\r\n"
        )
    };
    // Denied by its line: the body is never asked for.
    let answer = raw(address, &head("/api/v1/namespaces/a/services/forbidden/proxy/", "")).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let path = "/api/v1/namespaces/a/services/s/proxy/";
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head(path, "Connection: close\r\n").as_bytes()).await.unwrap();
    let mut start = [0; 25];
    timeout(Duration::from_secs(5), stream.read_exact(&mut start)).await.unwrap().unwrap();
    assert_eq!(&start, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").await.unwrap();
    let mut rest = String::new();
    timeout(Duration::from_secs(5), stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(rest.starts_with("HTTP/1.1 200"), "{rest}");
    let seen = api.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].body, "{}");
    assert!(!seen[0].headers.contains_key("expect"));
}
