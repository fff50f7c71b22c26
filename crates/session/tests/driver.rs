//! The driver with a toy protocol: every way a statement and a session can end.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corral_gate::decision::{Denial, DenialKind};
use corral_model::CloseReason;
use corral_session::{Control, Resolution};
use support::{Gateway, Told, approval, echo_target, start};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

struct World {
    told: Arc<Told>,
    target_lines: Arc<AtomicUsize>,
    client: BufReader<TcpStream>,
}

impl World {
    async fn new() -> Self {
        Self::with(None, None).await
    }

    async fn with(ttl: Option<Duration>, idle_timeout: Option<Duration>) -> Self {
        let told = Arc::new(Told::default());
        let target_lines = Arc::new(AtomicUsize::new(0));
        let target = echo_target(target_lines.clone()).await;
        let gateway = Gateway { told: told.clone(), target, ttl, idle_timeout };
        let stream = TcpStream::connect(start(gateway).await).await.unwrap();
        Self { told, target_lines, client: BufReader::new(stream) }
    }

    async fn send(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next line; empty when the connection ended.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.client.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    async fn until(&self, what: &str, is_true: impl Fn(&Told) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !is_true(&self.told) {
            assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
            tokio::task::yield_now().await;
        }
    }
}

fn target_saw(world: &World) -> usize {
    world.target_lines.load(Ordering::SeqCst)
}

#[tokio::test]
async fn an_allowed_statement_is_recorded_and_answered() {
    let mut world = World::new().await;
    world.send("good\nselect 1\nselect 2\n").await;
    assert_eq!(world.line().await, "select 1");
    assert_eq!(world.line().await, "select 2");
    drop(world.client);
    let told = world.told;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !told.has("closed Client after 2") {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    assert_eq!(told.sessions.load(Ordering::SeqCst), 0, "its place is free again");
}

#[tokio::test]
async fn a_denied_statement_never_reaches_the_target() {
    let mut world = World::new().await;
    world.send("good\ndrop it\nselect 1\n").await;
    assert_eq!(world.line().await, "corral: no (decision d)");
    assert_eq!(world.line().await, "select 1");
    assert_eq!(target_saw(&world), 1);
    assert!(world.told.has("decided Deny"));
}

#[tokio::test]
async fn without_a_record_nothing_is_forwarded_and_the_session_goes_on_after() {
    let mut world = World::new().await;
    world.send("good\nselect 1\n").await;
    assert_eq!(world.line().await, "select 1");
    world.told.is_record_full.store(true, Ordering::SeqCst);
    world.send("select 2\n").await;
    assert!(world.line().await.contains("the record cannot be written"));
    assert_eq!(target_saw(&world), 1);
    world.told.is_record_full.store(false, Ordering::SeqCst);
    world.send("select 3\n").await;
    assert_eq!(world.line().await, "select 3");
}

#[tokio::test]
async fn a_held_statement_runs_once_when_it_is_approved() {
    let mut world = World::new().await;
    world.send("good\nalter it\n").await;
    assert_eq!(world.line().await, "held: ask a dba");
    assert_eq!(target_saw(&world), 0);
    let approved = || Control::Resolved {
        approval: approval(),
        resolution: Resolution::Approved { by: vec!["dee".into()], reason: "fine".into() },
    };
    world.told.control(approved()).await;
    assert_eq!(world.line().await, "alter it");
    world.told.control(approved()).await;
    world.send("select 1\n").await;
    assert_eq!(world.line().await, "select 1");
    assert_eq!(target_saw(&world), 2, "a second approval runs nothing");
}

#[tokio::test]
async fn a_refused_or_expired_approval_is_a_denial() {
    let cases = [
        (Resolution::Denied { by: "dee".into(), reason: "late".into() }, "denied by dee: late"),
        (Resolution::Expired, "nobody approved"),
    ];
    for (resolution, expect) in cases {
        let mut world = World::new().await;
        world.send("good\nalter it\n").await;
        world.line().await;
        world.told.control(Control::Resolved { approval: approval(), resolution }).await;
        let line = world.line().await;
        assert!(line.contains(expect), "{line}");
        assert_eq!(target_saw(&world), 0);
    }
}

#[tokio::test]
async fn a_client_that_leaves_withdraws_what_it_waited_for() {
    let mut world = World::new().await;
    world.send("good\nalter it\n").await;
    world.line().await;
    world.client.get_mut().shutdown().await.unwrap();
    world.until("withdrawn", |told| told.withdrawn.load(Ordering::SeqCst) == 1).await;
    world.until("recorded", |told| told.has("approval Withdrawn")).await;
    assert_eq!(target_saw(&world), 0);
}

#[tokio::test]
async fn a_kill_tells_the_client_and_closes() {
    let mut world = World::new().await;
    world.send("good\nselect 1\n").await;
    world.line().await;
    let denial = Denial::new(DenialKind::Ended, "killed");
    world.told.control(Control::End { reason: CloseReason::Killed, denial }).await;
    assert_eq!(world.line().await, "corral: killed");
    assert_eq!(world.line().await, "", "the connection is closed");
    world.until("closed", |told| told.has("closed Killed after 1")).await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_does_not_keep_the_target() {
    let told = Arc::new(Told::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let gateway = Gateway { told: told.clone(), target, ttl: None, idle_timeout: None };
    let mut client = TcpStream::connect(start(gateway).await).await.unwrap();
    client.write_all(b"good\n").await.unwrap();
    let (mut at_target, _) = listener.accept().await.unwrap();
    // More than the sockets on the way hold.
    let denial = Denial::new(DenialKind::Ended, "x".repeat(64 * 1024 * 1024));
    told.control(Control::End { reason: CloseReason::Killed, denial }).await;
    // The client is being told for three seconds.
    let mut end = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(2), at_target.read_to_end(&mut end)).await;
    assert_eq!(ended.expect("the target waits for nobody").unwrap(), 0);
    assert!(!told.has("closed Killed after 0"), "the client is still being told");
}

#[tokio::test]
async fn sessions_end_by_ttl_and_by_silence_but_not_while_held() {
    let short = Duration::from_millis(50);
    let mut world = World::with(Some(short), None).await;
    world.send("good\n").await;
    assert!(world.line().await.contains("time of this run"));

    let mut world = World::with(None, Some(short)).await;
    world.send("good\n").await;
    assert!(world.line().await.contains("nothing was sent"));

    let mut world = World::with(Some(short * 10), Some(short)).await;
    world.send("good\nalter it\n").await;
    assert_eq!(world.line().await, "held: ask a dba");
    assert!(world.line().await.contains("time of this run"), "silence is no reason while held");
}

#[tokio::test]
async fn a_wrong_token_is_refused_before_the_target_is_dialled() {
    let mut world = World::new().await;
    world.send("bad\nselect 1\n").await;
    assert_eq!(world.line().await, "corral: no such token");
    assert_eq!(world.line().await, "");
    assert_eq!(target_saw(&world), 0);
}

#[tokio::test]
async fn what_a_target_sends_while_the_record_is_synced_is_read_after() {
    let told = Arc::new(Told::default());
    told.waits_for_sync.store(true, Ordering::SeqCst);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let gateway = Gateway { told: told.clone(), target, ttl: None, idle_timeout: None };
    let client = TcpStream::connect(start(gateway).await).await.unwrap();
    let target_lines = Arc::new(AtomicUsize::new(0));
    let mut world = World { told: told.clone(), target_lines, client: BufReader::new(client) };
    world.send("good\n").await;
    let (mut at_target, _) = listener.accept().await.unwrap();
    world.send("select\n").await;
    world.until("it is decided", |told| told.has("decided Allow")).await;

    // It comes while nobody reads, and nothing else comes.
    at_target.write_all(b"early\n").await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    told.synced.notify_one();
    let answer = tokio::time::timeout(Duration::from_secs(10), world.line()).await;
    assert_eq!(answer.expect("it is read"), "early");
}
