//! Sessions of engines: every way a statement and a session can end, through the handle.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

#[allow(dead_code, reason = "the other tests of this crate use the rest")]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corral_gate::decision::{Denial, DenialKind};
use corral_gate::{Login, Proof};
use corral_model::event::{EventBody, StreamEnd};
use corral_model::ids::{ApprovalId, StatementSeq};
use corral_model::statement::Facts;
use corral_model::{CloseReason, Secret, limits};
use corral_session::{
    Answer, Completion, ConnectionFacts, Control, Draft, Foreseen, Resolution, Running,
    SessionHandle, Usage, Waiting, open,
};
use support::{Gateway, Told};

struct World {
    told: Arc<Told>,
    session: SessionHandle,
}

impl World {
    async fn new() -> Self {
        Self::with(None, None).await
    }

    async fn with(ttl: Option<Duration>, idle_timeout: Option<Duration>) -> Self {
        let told = Arc::new(Told::default());
        let target = "127.0.0.1:1".parse().unwrap();
        let gateway = Gateway { told: told.clone(), target, ttl, idle_timeout };
        let opened = open(&gateway, login("good"), facts()).await.unwrap();
        Self { told, session: opened.session }
    }

    async fn until(&self, what: &str) {
        until(&self.told, what).await;
    }

    async fn allowed(&self, text: &str) -> Running {
        match self.session.decide(draft(text)).await {
            Answer::Allow(running) => running,
            other => panic!("{other:?}"),
        }
    }

    async fn held(&self, text: &str) -> Waiting {
        match self.session.decide(draft(text)).await {
            Answer::Hold(waiting) => waiting,
            other => panic!("{other:?}"),
        }
    }

    async fn denied(&self, text: &str) -> Denial {
        match self.session.decide(draft(text)).await {
            Answer::Deny(denial) => denial,
            other => panic!("{other:?}"),
        }
    }

    async fn resolve(&self, approval: &str, resolution: Resolution) {
        let approval = ApprovalId::new(approval).unwrap();
        self.told.control(Control::Resolved { approval, resolution }).await;
    }
}

async fn until(told: &Told, what: &str) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !told.has(what) {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}; {:?}", told.events);
        tokio::task::yield_now().await;
    }
}

fn login(token: &str) -> Login {
    Login {
        proof: Proof::Token(Secret::new(token.to_owned())),
        target: "t".to_owned(),
        database: None,
        claims: Vec::new(),
    }
}

fn facts() -> ConnectionFacts {
    ConnectionFacts {
        client_ip: None,
        client_address: "unix".to_owned(),
        is_tls: false,
        listener_target: None,
        protocol: "toy",
        shown: None,
    }
}

fn draft(text: &str) -> Draft {
    Draft {
        text: text.into(),
        facts: Arc::new(Facts::default()),
        parameters: Vec::new(),
        state_digest: String::new(),
        traceparent: None,
        is_stream: false,
    }
}

fn approved() -> Resolution {
    Resolution::Approved { by: vec!["grace".to_owned()], reason: "ok".to_owned() }
}

fn done(code: &str) -> Completion {
    Completion { code: code.to_owned(), ..Completion::default() }
}

fn piece() -> EventBody {
    let data = corral_model::event::StreamData::Text("x".to_owned());
    EventBody::StreamPassed { seq_in_session: StatementSeq(1), from: StreamEnd::Client, data }
}

#[tokio::test]
async fn a_bad_token_opens_nothing() {
    let told = Arc::new(Told::default());
    let target = "127.0.0.1:1".parse().unwrap();
    let gateway = Gateway { told: told.clone(), target, ttl: None, idle_timeout: None };
    assert!(open(&gateway, login("bad"), facts()).await.is_err());
    assert_eq!(told.sessions.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_permit_comes_after_its_record_and_its_end_is_recorded() {
    let world = World::new().await;
    let running = world.allowed("one").await;
    assert!(world.told.has("decided Allow"));
    running.finish(done("0")).await;
    world.until("completed 0").await;
    drop(world.session);
    until(&world.told, "closed Client after 1").await;
    assert_eq!(world.told.sessions.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_denial_is_recorded_and_the_session_goes_on() {
    let world = World::new().await;
    assert_eq!(world.denied("drop it").await.kind, DenialKind::Forbidden);
    assert!(world.told.has("decided Deny"));
    world.allowed("one").await.finish(done("0")).await;
}

#[tokio::test]
async fn what_cannot_be_recorded_gets_no_permit() {
    let world = World::new().await;
    world.told.is_record_full.store(true, Ordering::SeqCst);
    assert_eq!(world.denied("one").await.kind, DenialKind::RecordUnavailable);
    assert_eq!(
        world.session.append(piece()).await.unwrap_err().kind,
        DenialKind::RecordUnavailable
    );
}

#[tokio::test]
async fn an_account_that_cannot_be_kept_ends_the_session() {
    let world = World::new().await;
    world.told.is_record_full.store(true, Ordering::SeqCst);
    world.session.note(piece()).await;
    assert_eq!(world.session.ended().await.reason, CloseReason::Record);
}

#[tokio::test]
async fn a_dropped_statement_is_recorded_as_aborted() {
    let world = World::new().await;
    drop(world.allowed("one").await);
    world.until("completed aborted").await;
}

#[tokio::test]
async fn statements_of_one_session_wait_for_people_side_by_side() {
    let world = World::new().await;
    let first = world.held("alter #a1").await;
    let second = world.held("alter #a2").await;
    assert_eq!(first.notice, "ask a dba");
    // Others are not held up.
    world.allowed("one").await.finish(done("0")).await;
    world.resolve("a2", approved()).await;
    second.wait().await.unwrap().finish(done("2")).await;
    world.until("completed 2").await;
    world.resolve("a1", Resolution::Expired).await;
    assert_eq!(first.wait().await.unwrap_err().kind, DenialKind::ApprovalExpired);
}

#[tokio::test]
async fn whoever_stops_waiting_withdraws() {
    let world = World::new().await;
    drop(world.held("alter it").await);
    world.until("approval Withdrawn").await;
    assert_eq!(world.told.withdrawn.load(Ordering::SeqCst), 1);
    // The late answer changes nothing.
    world.resolve("a", approved()).await;
    world.allowed("one").await.finish(done("0")).await;
    assert!(!world.told.has("approval Approved"));
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_withdraws() {
    let world = World::new().await;
    let World { told, session } = world;
    let answer = session.decide(draft("alter it")).await;
    assert!(matches!(answer, Answer::Hold(_)), "{answer:?}");
    drop(session);
    drop(answer);
    until(&told, "closed Client after 1").await;
    assert!(told.has("approval Withdrawn"), "{:?}", told.events);
}

#[tokio::test]
async fn a_check_records_denials_alone() {
    let world = World::new().await;
    assert_eq!(world.session.check(draft("one")).await, Ok(Foreseen::Allowed));
    assert_eq!(world.session.check(draft("alter it")).await, Ok(Foreseen::Held));
    assert!(!world.told.has("decided Allow") && !world.told.has("decided Hold"));
    assert!(world.session.check(draft("drop it")).await.is_err());
    assert!(world.told.has("decided Deny"));
    let denial = Denial::new(DenialKind::Ended, "over");
    world.session.end(CloseReason::Killed, denial);
    world.until("closed Killed after 0").await;
    assert!(world.session.check(draft("one")).await.is_err());
}

#[tokio::test]
async fn a_session_holds_a_limited_number_of_statements() {
    let world = World::new().await;
    let mut waiting = Vec::new();
    for index in 0..limits::SESSION_HOLDS_MAX {
        waiting.push(world.held(&format!("alter #a{index}")).await);
    }
    let denial = world.denied("alter #more").await;
    assert!(denial.client_text.contains("too many"), "{}", denial.client_text);
}

#[tokio::test]
async fn a_kill_reaches_who_runs_and_who_waits() {
    let world = World::new().await;
    let running = world.allowed("one").await;
    let waiting = world.held("alter it").await;
    let denial = Denial::new(DenialKind::Ended, "killed by grace");
    world.told.control(Control::End { reason: CloseReason::Killed, denial }).await;
    let end = world.session.ended().await;
    assert_eq!(
        (end.reason, end.denial.client_text.as_str()),
        (CloseReason::Killed, "killed by grace")
    );
    assert_eq!(waiting.wait().await.unwrap_err().client_text, "killed by grace");
    assert_eq!(world.denied("two").await.client_text, "killed by grace");
    running.finish(done("137")).await;
    drop(world.session);
    until(&world.told, "closed Killed after 2").await;
    assert!(world.told.has("completed 137"));
}

#[tokio::test(start_paused = true)]
async fn tasks_that_do_not_end_are_cut_off() {
    let world = World::new().await;
    let is_cut = Arc::new(AtomicBool::new(false));
    struct Cut(Arc<AtomicBool>);
    impl Drop for Cut {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (flag, handle) = (Cut(is_cut.clone()), world.session.clone());
    let task = async move {
        let _kept = (flag, handle);
        std::future::pending::<()>().await;
    };
    world.session.spawn(task).unwrap();
    world.session.end(CloseReason::Target, Denial::new(DenialKind::Ended, "gone"));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !world.told.has("closed Target after 0") {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(is_cut.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_session_runs_a_limited_number_of_tasks() {
    let world = World::new().await;
    for _ in 0..limits::SESSION_TASKS_MAX {
        world.session.spawn(std::future::pending()).unwrap();
    }
    let denial = world.session.spawn(std::future::pending()).unwrap_err();
    assert_eq!(denial.kind, DenialKind::TooManySessions);
}

#[tokio::test]
async fn a_spent_budget_ends_the_session_although_no_statement_ends() {
    let world = World::new().await;
    world.told.bytes_max.store(1_500_000, Ordering::SeqCst);
    let _stream = world.allowed("stream").await;
    for _ in 0..20 {
        world.session.count(Usage { bytes_to_client: 100_000, ..Usage::default() });
    }
    assert_eq!(world.session.ended().await.reason, CloseReason::Budget);
}

#[tokio::test]
async fn the_ttl_ends_a_busy_session() {
    let world = World::with(Some(Duration::from_millis(50)), None).await;
    let _running = world.allowed("one").await;
    assert_eq!(world.session.ended().await.reason, CloseReason::Expired);
    // Also when its streams do not let go.
    world.until("closed Expired after 1").await;
}

#[tokio::test]
async fn a_silent_stream_is_idle_and_a_running_statement_is_not() {
    let idle = Some(Duration::from_millis(50));
    let world = World::with(None, idle).await;
    let draft = Draft { is_stream: true, ..draft("shell") };
    let Answer::Allow(shell) = world.session.decide(draft).await else { panic!("allowed") };
    assert_eq!(world.session.ended().await.reason, CloseReason::Idle);
    drop((shell, world.session));
    until(&world.told, "closed Idle after 1").await;

    let world = World::with(None, idle).await;
    let running = world.allowed("one").await;
    let is_over = tokio::time::timeout(Duration::from_millis(300), world.session.ended()).await;
    assert!(is_over.is_err(), "a statement runs");
    running.finish(done("0")).await;
    assert_eq!(world.session.ended().await.reason, CloseReason::Idle);
}

#[tokio::test]
async fn a_mask_that_changes_reaches_whoever_waits_for_it() {
    let world = World::new().await;
    let column = corral_model::resource::ColumnName {
        schema: "core".into(),
        table: "configmaps".into(),
        column: "data".into(),
    };
    let session = world.session.clone();
    let waits =
        tokio::spawn(async move { session.mask_becomes(|masked| !masked.is_empty()).await });
    // A configuration that changes nothing of the mask wakes nobody.
    world.told.changes.send_replace(());
    assert!(world.session.masked().await.is_empty());
    assert!(!waits.is_finished());
    *world.told.masked.lock().unwrap() = Some([column.clone()].into());
    world.told.changes.send_replace(());
    tokio::time::timeout(Duration::from_secs(10), waits).await.unwrap().unwrap();
    assert_eq!(*world.session.masked().await, [column]);
}

#[tokio::test]
async fn streams_hear_that_their_right_was_taken_away_and_others_go_on() {
    let world = World::new().await;
    let stream = |text: &str| Draft { is_stream: true, ..draft(text) };
    let Answer::Allow(shell) = world.session.decide(stream("shell")).await else {
        panic!("allowed")
    };
    let Answer::Hold(waiting) = world.session.decide(stream("alter it")).await else {
        panic!("held")
    };
    world.resolve("a", approved()).await;
    let approved = waiting.wait().await.unwrap();
    let short = world.allowed("one").await;
    // What would be held again was approved.
    world.told.changes.send_replace(());
    world.session.masked().await;
    assert!(!shell.is_revoked() && !approved.is_revoked());
    world.told.is_forbidden.store(true, Ordering::SeqCst);
    world.told.changes.send_replace(());
    for stream in [&shell, &approved] {
        let denial = tokio::time::timeout(Duration::from_secs(10), stream.revoked()).await.unwrap();
        assert_eq!(denial.client_text, "no longer");
    }
    assert!(!short.is_revoked());
    short.finish(done("0")).await;
    world.until("decided Deny").await;
}

#[tokio::test]
async fn the_reason_of_an_end_stays_when_the_handle_goes_with_it() {
    let World { told, session } = World::new().await;
    session.end(CloseReason::Target, Denial::new(DenialKind::TargetUnavailable, "gone"));
    drop(session);
    until(&told, "closed Target after 0").await;
}

#[tokio::test]
async fn streams_that_leave_no_gap_are_charged_as_they_pass() {
    const PIECE: u64 = 64 * 1024;
    let World { told, session } = World::new().await;
    told.bytes_max.store(2 * 1024 * 1024, Ordering::SeqCst);
    while session.end_so_far().is_none() {
        session.count(Usage { bytes_to_client: PIECE, ..Usage::default() });
        session.note(piece()).await;
    }
    assert_eq!(session.ended().await.reason, CloseReason::Budget);
    // The budget, what is charged at once, and what waits in the queue.
    let queued = PIECE * limits::SESSION_ORDERS_LEN_MAX as u64;
    let most = 3 * 1024 * 1024 + queued;
    assert!(told.bytes.load(Ordering::SeqCst) < most, "{:?}", told.bytes);
}
