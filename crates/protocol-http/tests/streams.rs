//! Streams into containers, over real sockets: what is carried, recorded, refused and cut.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

#[allow(dead_code, reason = "each file of tests uses a part")]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corral_session::Resolution;
use serde_json::Value;
use support::{Gateway, Told, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const EXEC: &str = "/api/v1/namespaces/dev/pods/p/exec";
const V5: &str = "v5.channel.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const WAIT: Duration = Duration::from_secs(10);

/// One end of a WebSocket, by hand.
struct Socket {
    stream: TcpStream,
    /// Clients mask; with a key of zeros the bytes stay readable.
    masks: bool,
    /// The request's or answer's head.
    head: String,
}

impl Socket {
    async fn read_head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(WAIT, stream.read_u8()).await.unwrap().unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// A client's request; the head of the answer is kept.
    async fn ask(gateway: SocketAddr, path: &str, extra: &str) -> Self {
        let mut stream = TcpStream::connect(gateway).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer good\r\n\
             connection: Upgrade\r\n{extra}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = Self::read_head(&mut stream).await;
        Self { stream, masks: true, head }
    }

    async fn upgrade(gateway: SocketAddr, path: &str, subprotocol: &str) -> Self {
        let extra = format!(
            "upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\
             sec-websocket-protocol: {subprotocol}\r\n"
        );
        Self::ask(gateway, path, &extra).await
    }

    fn code(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// The rest of an answer whose head says its length.
    async fn body(&mut self) -> Value {
        let length = self.head.to_lowercase();
        let length = length.split("content-length: ").nth(1).unwrap();
        let length: usize = length.split('\r').next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        timeout(WAIT, self.stream.read_exact(&mut body)).await.unwrap().unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    async fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mask: u8 = if self.masks { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            len @ 0..126 => frame.push(mask | u8::try_from(len).unwrap()),
            len @ 126..65_536 => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(len).unwrap().to_be_bytes());
            }
            len => {
                frame.push(mask | 127);
                frame.extend(u64::try_from(len).unwrap().to_be_bytes());
            }
        }
        if self.masks {
            frame.extend([0; 4]);
        }
        frame.extend(payload);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next frame; None at the end of the connection.
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = match timeout(WAIT, self.stream.read_u8()).await.expect("something comes") {
            Ok(byte) => byte,
            Err(_) => return None,
        };
        let second = self.stream.read_u8().await.unwrap();
        let len = match second & 0x7F {
            126 => u64::from(self.stream.read_u16().await.unwrap()),
            127 => self.stream.read_u64().await.unwrap(),
            len => u64::from(len),
        };
        let mut key = [0; 4];
        assert_eq!(second & 0x80 != 0, !self.masks, "clients mask, targets do not");
        if !self.masks {
            self.stream.read_exact(&mut key).await.unwrap();
        }
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        self.stream.read_exact(&mut payload).await.unwrap();
        payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        Some((first & 0x0F, payload))
    }

    /// The next message, past pongs.
    async fn message(&mut self) -> Vec<u8> {
        loop {
            match self.next().await {
                Some((2, payload)) => return payload,
                Some((10, _)) => {}
                other => panic!("no message: {other:?}"),
            }
        }
    }

    /// The Status on the channel of results, and the close code behind it.
    async fn farewell(&mut self) -> (String, u16) {
        let message = self.message().await;
        assert_eq!(message[0], 3, "{message:?}");
        let status: Value = serde_json::from_slice(&message[1..]).unwrap();
        assert_eq!(status["status"], "Failure");
        let Some((8, close)) = self.next().await else { panic!("no close") };
        let code = u16::from_be_bytes([close[0], close[1]]);
        (status["message"].as_str().unwrap().to_owned(), code)
    }
}

/// A target that takes streams.
struct Target {
    listener: TcpListener,
}

impl Target {
    async fn start() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Self { listener }, address)
    }

    /// Takes the next stream.
    async fn accept(&self) -> Socket {
        let (mut stream, _) = timeout(WAIT, self.listener.accept()).await.unwrap().unwrap();
        let head = Socket::read_head(&mut stream).await;
        let field = |name: &str| {
            let line = head.lines().find(|line| line.to_lowercase().starts_with(name)).unwrap();
            line.split_once(": ").unwrap().1.to_owned()
        };
        let proof = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", field("sec-websocket-key"));
        let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, proof.as_bytes()));
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-accept: {accept}\r\nsec-websocket-protocol: {}\r\n\r\n",
            field("sec-websocket-protocol")
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        Socket { stream, masks: false, head }
    }

    async fn refuse(&self, code: u16, body: &str) {
        let (mut stream, _) = timeout(WAIT, self.listener.accept()).await.unwrap().unwrap();
        Socket::read_head(&mut stream).await;
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {code} No\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             \r\n{body}"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn setup() -> (Target, Arc<Told>, SocketAddr) {
    let (target, address) = Target::start().await;
    let gateway = Gateway::new(address);
    let told = gateway.told.clone();
    (target, told, start(gateway).await)
}

/// Both ends of a stream that is open.
async fn open(path: &str, subprotocol: &str) -> (Socket, Socket, Arc<Told>) {
    let (target, told, gateway) = setup().await;
    let (client, target) =
        tokio::join!(Socket::upgrade(gateway, path, subprotocol), target.accept());
    assert_eq!(client.code(), "101", "{}", client.head);
    (client, target, told)
}

fn passed(told: &Told, from: &str) -> String {
    let events = told.events("stream.passed");
    let texts = events.iter().filter(|event| event["from"] == from);
    texts.map(|event| event["data"]["text"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_command_is_carried_and_recorded() {
    let path = format!("{EXEC}?command=ls&command=-l+a&container=c&stdin=1&stdout=1&stderr=1");
    let (mut client, mut target, told) = open(&path, &format!("x, {V5}, v4.channel.k8s.io")).await;
    assert!(client.head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{}", client.head);
    let seen = target.head.to_lowercase();
    assert!(seen.starts_with(&format!("get {path} ")), "{seen}");
    assert!(
        seen.contains("authorization: bearer target-token\r\n") && !seen.contains("good"),
        "{seen}"
    );
    assert!(seen.contains(&format!("sec-websocket-protocol: {V5}\r\n")), "{seen}");

    client.send(2, b"\0input").await;
    assert_eq!(target.next().await, Some((2, b"\0input".to_vec())));
    // Python's client sends text frames.
    client.send(1, b"\0text").await;
    assert_eq!(target.next().await, Some((2, b"\0text".to_vec())));
    client.send(2, b"\x04{\"Width\":80,\"Height\":24}").await;
    assert_eq!(target.next().await, Some((2, b"\x04{\"Width\":80,\"Height\":24}".to_vec())));
    client.send(2, &[255, 0]).await;
    assert_eq!(target.next().await, Some((2, vec![255, 0])));
    client.send(9, b"are you there").await;
    assert_eq!(target.next().await, Some((9, b"are you there".to_vec())));
    target.send(10, b"are you there").await;
    assert_eq!(client.next().await, Some((10, b"are you there".to_vec())));
    target.send(2, b"\x01output").await;
    assert_eq!(client.message().await, b"\x01output");
    target.send(2, b"\x02errors").await;
    assert_eq!(client.message().await, b"\x02errors");
    let status = "\u{3}{\"status\":\"Failure\",\"reason\":\"NonZeroExitCode\",\"details\":{\"causes\":[{\"reason\":\"ExitCode\",\"message\":\"7\"}]}}";
    target.send(2, status.as_bytes()).await;
    assert_eq!(client.message().await, status.as_bytes());
    target.send(8, &[3, 232]).await;
    assert_eq!(client.next().await, Some((8, vec![3, 232])));
    assert_eq!(client.next().await, None);

    let completed = told.until("statement.completed", 1).await;
    assert_eq!(completed[0]["code"], "7");
    assert_eq!(completed[0]["tag"], "closed: 9 bytes in, 12 bytes out");
    let decided = told.events("statement.decided");
    assert_eq!(decided[0]["statement"], "exec dev/p -c c -- ls '-l a'");
    assert_eq!(decided[0]["verbs"][0], "exec");
    assert_eq!(decided[0]["attributes"]["program"], "ls");
    assert_eq!(passed(&told, "client"), "inputtext");
    assert_eq!(passed(&told, "target"), "output");
    assert_eq!(passed(&told, "target_error"), "errors");
    assert_eq!(told.events("terminal.resized")[0]["columns"], 80);
}

#[tokio::test]
async fn a_large_frame_passes_in_pieces() {
    let (mut client, mut target, told) = open(&format!("{EXEC}?command=cat&stdin=1"), V5).await;
    let mut large = vec![b'x'; 3_000_001];
    large[0] = 0;
    let received = async {
        let mut received = 0;
        while received < 3_000_000 {
            let Some((2, piece)) = target.next().await else { panic!("it ended") };
            assert_eq!(piece[0], 0);
            received += piece.len() - 1;
        }
        received
    };
    let ((), received) = tokio::join!(client.send(2, &large), received);
    assert_eq!(received, 3_000_000);
    assert_eq!(passed(&told, "client").len(), 3_000_000);
}

#[tokio::test]
async fn a_denied_command_is_told_again_to_a_client_that_falls_back_to_spdy() {
    let (_target, told, gateway) = setup().await;
    let path = format!("{EXEC}?command=forbidden");
    let mut client = Socket::upgrade(gateway, &path, V5).await;
    assert_eq!(client.code(), "403");
    let denied = client.body().await["message"].clone();
    assert!(denied.as_str().unwrap().starts_with("corral: ask somebody else"), "{denied}");
    let mut again = Socket::ask(gateway, &path, "upgrade: SPDY/3.1\r\n").await;
    assert_eq!(again.code(), "403");
    assert_eq!(again.body().await["message"], denied);
    assert_eq!(told.events("statement.decided").len(), 1);
}

#[tokio::test]
async fn streams_that_cannot_be_carried_are_refused_with_what_would_be_right() {
    let (_target, told, gateway) = setup().await;
    let upgrade = |protocol: &str| {
        format!(
            "upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\nsec-websocket-protocol: {protocol}\r\n"
        )
    };
    let cases = [
        ("upgrade: SPDY/3.1\r\n".to_owned(), "WebSocket"),
        (upgrade("base64.channel.k8s.io"), "v5.channel.k8s.io"),
        (upgrade("v4.base64.channel.k8s.io"), "v5.channel.k8s.io"),
        (upgrade(TUNNEL), "v5.channel.k8s.io"),
        (String::new(), "upgrade"),
        ("upgrade: h2c\r\n".to_owned(), "upgrade"),
        (upgrade(V5).replace("13", "8"), "version"),
    ];
    for (index, (extra, word)) in cases.iter().enumerate() {
        let mut client = Socket::ask(gateway, &format!("{EXEC}?command=ls"), extra).await;
        assert_eq!(client.code(), "403", "{extra}");
        let text = client.body().await["message"].as_str().unwrap().to_owned();
        assert!(text.starts_with("corral:") && text.contains(word), "{extra}: {text}");
        assert_eq!(told.events("statement.decided").len(), index + 1);
    }
    let watch = "/api/v1/pods?watch=1";
    let client = Socket::upgrade(gateway, watch, V5).await;
    assert_eq!(client.code(), "403");
}

#[tokio::test]
async fn a_held_command_is_told_that_it_waits_and_goes_on() {
    let (target, told, gateway) = setup().await;
    let path = format!("{EXEC}?command=held&stdin=1&stderr=1");
    let mut client = Socket::upgrade(gateway, &path, V5).await;
    assert_eq!(client.code(), "101");
    let notice = client.message().await;
    assert_eq!(notice[0], 2);
    assert!(String::from_utf8_lossy(&notice[1..]).starts_with("corral: "), "{notice:?}");
    // What is typed meanwhile arrives afterwards.
    client.send(2, b"\0early").await;
    told.resolve(Resolution::Approved { by: vec!["ada".into()], reason: "fine".into() }).await;
    let mut target = target.accept().await;
    assert_eq!(target.next().await, Some((2, b"\0early".to_vec())));
    target.send(2, b"\x01late").await;
    assert_eq!(client.message().await, b"\x01late");
}

#[tokio::test]
async fn a_held_command_that_is_refused_ends_with_the_reason() {
    let (_target, told, gateway) = setup().await;
    let mut client = Socket::upgrade(gateway, &format!("{EXEC}?command=held&tty=1"), V5).await;
    // A terminal has no channel for errors.
    assert_eq!(client.message().await[0], 1);
    told.resolve(Resolution::Denied { by: "ada".into(), reason: "not today".into() }).await;
    let (message, code) = client.farewell().await;
    assert!(message.starts_with("corral:") && message.contains("not today"), "{message}");
    assert_eq!(code, 1008);
}

#[tokio::test]
async fn a_waiting_client_that_leaves_withdraws() {
    let (_target, told, gateway) = setup().await;
    let mut client = Socket::upgrade(gateway, &format!("{EXEC}?command=held&stderr=1"), V5).await;
    client.message().await;
    drop(client);
    for _ in 0..500 {
        if told.withdrawn.load(Ordering::SeqCst) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing was withdrawn");
}

#[tokio::test]
async fn a_killed_stream_says_why_and_what_may_go_on() {
    let (mut client, mut target, told) =
        open(&format!("{EXEC}?command=sh&stdin=1&tty=1"), V5).await;
    target.send(2, b"\x01$ ").await;
    assert_eq!(client.message().await, b"\x01$ ");
    told.kill().await;
    let (message, code) = client.farewell().await;
    assert_eq!(message, "corral: killed by ada");
    // What client-go needs to show the message.
    assert_eq!(code, 1000);
    assert_eq!(client.next().await, None);
    assert!(matches!(target.next().await, Some((8, _))));
    assert_eq!(target.next().await, None);
    let cut = told.until("stream.cut", 1).await;
    assert!(cut[0]["detail"].as_str().unwrap().contains("may go on"), "{cut:?}");
    assert_eq!(told.until("statement.completed", 1).await[0]["code"], "cut");
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_told_and_others_go_on() {
    let frames: [(&[u8], u16, &str); 6] = [
        (&[0x82, 255, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1009, "longer"),
        (&[0x82, 1, 0], 1002, "mask"),
        (&[0xC2, 128, 0, 0, 0, 0], 1002, "extension"),
        (&[0x83, 128, 0, 0, 0, 0], 1002, "opcode"),
        (&[0x82, 129, 0, 0, 0, 0, 1], 1008, "channel"),
        (&[0x82, 130, 0, 0, 0, 0, 4, b'x'], 1008, "size"),
    ];
    let (target, told, gateway) = setup().await;
    let path = format!("{EXEC}?command=cat&stdin=1");
    let (mut other, mut other_target) =
        tokio::join!(Socket::upgrade(gateway, &path, V5), target.accept());
    for (index, (bytes, code, word)) in frames.into_iter().enumerate() {
        let (mut client, mut end) =
            tokio::join!(Socket::upgrade(gateway, &path, V5), target.accept());
        client.stream.write_all(bytes).await.unwrap();
        let (message, close) = client.farewell().await;
        assert!(message.starts_with("corral:") && message.contains(word), "{message}");
        assert_eq!(close, code, "{message}");
        // Nothing of it reached the target.
        assert!(matches!(end.next().await, Some((8, _)) | None));
        let completed = told.until("statement.completed", index + 1).await;
        assert_eq!(completed[index]["code"], "client_protocol");
    }
    other.send(2, b"\0still here").await;
    assert_eq!(other_target.next().await, Some((2, b"\0still here".to_vec())));
}

#[tokio::test]
async fn a_target_that_breaks_the_protocol_ends_the_stream() {
    let (mut client, mut target, told) = open(&format!("{EXEC}?command=cat"), V5).await;
    target.send(2, b"\0from the wrong end").await;
    let (message, code) = client.farewell().await;
    assert!(message.contains("target broke the protocol"), "{message}");
    assert_eq!(code, 1011);
    assert_eq!(told.until("statement.completed", 1).await[0]["code"], "target_protocol");
}

#[tokio::test]
async fn a_refusal_of_the_target_is_passed_on_also_over_spdy() {
    let (target, told, gateway) = setup().await;
    let path = format!("{EXEC}?command=ls&container=nope");
    let status = r#"{"kind":"Status","message":"container nope is not valid for pod p"}"#;
    let (mut client, ()) =
        tokio::join!(Socket::upgrade(gateway, &path, V5), target.refuse(400, status));
    assert_eq!(client.code(), "400");
    assert_eq!(client.body().await["message"], "container nope is not valid for pod p");
    let mut again = Socket::ask(gateway, &path, "upgrade: SPDY/3.1\r\n").await;
    assert_eq!(again.code(), "400");
    assert_eq!(again.body().await["message"], "container nope is not valid for pod p");
    assert_eq!(told.until("statement.completed", 1).await[0]["code"], "400");
}

#[tokio::test]
async fn the_targets_credential_stays_out_of_the_recording() {
    let path = format!("{EXEC}?command=cat&stdin=1&stdout=1");
    let (mut client, mut target, told) = open(&path, V5).await;
    // Split over two pieces, and as the client sends it back.
    for piece in [b"\x01is target-to".as_slice(), b"\x01ken!"] {
        target.send(2, piece).await;
        assert_eq!(client.message().await, piece);
    }
    client.send(2, b"\0target-token\n").await;
    assert_eq!(target.next().await, Some((2, b"\0target-token\n".to_vec())));
    target.send(2, b"\x01ends with target").await;
    assert_eq!(client.message().await, b"\x01ends with target");
    drop(client);
    told.until("statement.completed", 1).await;
    assert_eq!(passed(&told, "target"), "is ********!ends with target");
    assert_eq!(passed(&told, "client"), "********\n");
}

#[tokio::test]
async fn a_tunnel_is_counted_and_not_kept() {
    let path = "/api/v1/namespaces/dev/pods/p/portforward";
    let (mut client, mut target, told) = open(path, TUNNEL).await;
    client.send(2, b"anything").await;
    assert_eq!(target.next().await, Some((2, b"anything".to_vec())));
    target.send(2, b"answers").await;
    assert_eq!(client.message().await, b"answers");
    drop(client);
    let completed = told.until("statement.completed", 1).await;
    assert_eq!(completed[0]["tag"], "client_gone: 8 bytes in, 7 bytes out");
    assert_eq!(completed[0]["bytes"], 15);
    assert!(told.events("stream.passed").is_empty());
    assert_eq!(told.events("statement.decided")[0]["verbs"][0], "forward");
}

#[tokio::test]
async fn forwarded_ports_have_channels_of_their_own() {
    let path = "/api/v1/namespaces/dev/pods/p/portforward?ports=80&ports=81";
    let (mut client, mut target, told) = open(path, &format!("{V5}, v4.channel.k8s.io")).await;
    assert!(target.head.to_lowercase().contains("sec-websocket-protocol: v4.channel.k8s.io\r\n"));
    target.send(2, &[3, 81, 0]).await;
    assert_eq!(client.message().await, [3, 81, 0]);
    client.send(2, b"\x02GET").await;
    assert_eq!(target.next().await, Some((2, b"\x02GET".to_vec())));
    told.kill().await;
    assert!(matches!(client.next().await, Some((8, _))));
    assert_eq!(
        told.events("statement.decided")[0]["statement"],
        "portforward dev/p port 80 port 81"
    );
    assert!(told.events("stream.passed").is_empty());
}

#[tokio::test]
async fn input_that_cannot_be_recorded_does_not_pass() {
    let (mut client, mut target, told) = open(&format!("{EXEC}?command=sh&stdin=1"), V5).await;
    told.is_record_full.store(true, Ordering::SeqCst);
    client.send(2, b"\0rm -rf /").await;
    let (message, _) = client.farewell().await;
    assert!(message.starts_with("corral:"), "{message}");
    let next = target.next().await;
    assert!(matches!(next, Some((8, _)) | None), "{next:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_its_target() {
    let (_client, mut target, _told) = open(&format!("{EXEC}?command=yes"), V5).await;
    let mut piece = vec![b'y'; 60_000];
    piece[0] = 1;
    let mut sent = 0;
    while sent < 200_000_000 {
        match timeout(Duration::from_millis(1500), target.send(2, &piece)).await {
            Ok(()) => sent += piece.len(),
            Err(_) => return,
        }
    }
    panic!("{sent} bytes went to a client that reads nothing");
}

#[tokio::test]
async fn a_shell_ends_when_the_right_to_it_is_taken_away() {
    let (mut client, mut target, told) = open(&format!("{EXEC}?command=sh&stdin=1"), V5).await;
    client.send(2, b"\0ls").await;
    assert_eq!(target.next().await, Some((2, b"\0ls".to_vec())));
    told.forbid();
    let (message, _) = client.farewell().await;
    assert!(message.contains("corral: no longer"), "{message}");
    told.until("stream.cut", 1).await;
    told.until("statement.completed", 1).await;
}
