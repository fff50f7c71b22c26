//! Runs, tokens and sessions.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use corral_model::Process;
use corral_model::event::CloseReason;
use corral_model::ids::{PrincipalName, RunId, SessionId, TargetName};
use corral_model::principal::Principal;
use corral_model::resource::{Job, Platform};
use corral_model::run::{Run, RunEnd, RunState, RunUse, Used};
use corral_model::token::{TokenDigest, TokenPurpose};
use corral_store::{
    Forgotten, JobToken, RunFilter, SessionFilter, SessionRow, SessionTotals, Store, StoreError,
    TokenRow,
};
use support::{Place, at};

fn id(text: &str) -> RunId {
    RunId::new(text).expect("an id")
}

fn person(text: &str) -> PrincipalName {
    PrincipalName::new(text).expect("a name")
}

fn process() -> Process {
    Process {
        pid: 4242,
        start_ticks: 99,
        program: "/usr/bin/python3".to_owned(),
        arguments: vec!["executor.py".to_owned()],
        parent_pid: 4000,
    }
}

fn run(text: &str, parent: Option<&str>, depth: u32) -> Run {
    Run {
        id: id(text),
        parent: parent.map(id),
        principal: Principal::workload(person("nightly")),
        sponsor: person("ada"),
        name: format!("run {text}"),
        purpose: (depth == 0).then(|| "why".to_owned()),
        targets: vec![TargetName::new("orders-db").expect("a name")],
        actions: vec!["read".to_owned()],
        renew_within_s: Some(30),
        depth,
        started_by: parent.is_none().then(|| person("root")),
        process: parent.is_some().then(process),
        attached: parent.is_none(),
        job: None,
        started_at: at(i64::from(depth)),
        expires_at: at(900),
        state: RunState::Active,
    }
}

fn token(run: &str, byte: u8) -> TokenRow {
    TokenRow {
        digest: TokenDigest([byte; 32]),
        purpose: TokenPurpose::Run(id(run)),
        created_at: at(0),
        expires_at: Some(at(900)),
        revoked_at: None,
    }
}

async fn store_with_tree(place: &Place) -> Store {
    let store = place.open().await;
    store.insert_run(&run("root", None, 0), &token("root", 1)).await.expect("kept");
    store.insert_run(&run("child", Some("root"), 1), &token("child", 2)).await.expect("kept");
    store
}

#[tokio::test]
async fn a_run_reads_back_as_it_was_kept() {
    let place = Place::new();
    let store = store_with_tree(&place).await;
    assert_eq!(store.run(&id("root")).await.expect("reads"), Some(run("root", None, 0)));
    assert_eq!(store.run(&id("nobody")).await.expect("reads"), None);
    let found = store.token(&TokenDigest([2; 32])).await.expect("reads").expect("a token");
    assert_eq!(found, token("child", 2));
    assert!(found.is_live(at(899)) && !found.is_live(at(900)));
}

#[tokio::test]
async fn active_runs_come_back_parents_first_after_a_restart() {
    let place = Place::new();
    let store = store_with_tree(&place).await;
    store.insert_run(&run("done", None, 0), &token("done", 3)).await.expect("kept");
    store.end_runs(&[(id("done"), RunEnd::Done)], at(5)).await.expect("ends");
    store.close().await;
    let active = place.open().await.active_runs().await.expect("reads");
    let active: Vec<Run> = active.into_iter().map(|kept| kept.run).collect();
    assert_eq!(active, [run("root", None, 0), run("child", Some("root"), 1)]);
}

#[tokio::test]
async fn what_a_run_did_is_kept_with_all_of_its_parts() {
    let place = Place::new();
    let store = store_with_tree(&place).await;
    let done = RunUse {
        used: Used { statements: 4, writes: 3, rows: 2, bytes: 1 },
        targets: [TargetName::new("orders-db").expect("a name")].into(),
        actions: ["select".to_owned(), "update".to_owned()].into(),
    };
    store.keep_use(&[(id("root"), done.clone())]).await.expect("kept");
    store.close().await;
    let active = place.open().await.active_runs().await.expect("reads");
    let found: Vec<RunUse> = active.into_iter().map(|kept| kept.done).collect();
    assert_eq!(found, [done, RunUse::default()]);
}

#[tokio::test]
async fn a_tree_ends_once_and_with_its_tokens() {
    let place = Place::new();
    let store = store_with_tree(&place).await;
    let ends = [(id("root"), RunEnd::Killed), (id("child"), RunEnd::ParentEnded)];
    let ended = store.end_runs(&ends, at(7)).await.expect("ends");
    assert_eq!(ended, [id("root"), id("child")]);
    assert_eq!(store.end_runs(&ends, at(8)).await.expect("ends"), []);
    let child = store.run(&id("child")).await.expect("reads").expect("a run");
    assert_eq!(child.state, RunState::Ended { reason: RunEnd::ParentEnded, at: at(7) });
    for byte in [1, 2] {
        let found = store.token(&TokenDigest([byte; 32])).await.expect("reads").expect("a token");
        assert_eq!(found.revoked_at, Some(at(7)));
        assert!(!found.is_live(at(7)));
    }
    assert!(!store.renew_run(&id("root"), at(9999)).await.expect("refused"));
}

#[tokio::test]
async fn nothing_starts_below_a_run_that_ended() {
    let place = Place::new();
    let store = store_with_tree(&place).await;
    store.end_runs(&[(id("root"), RunEnd::Done)], at(1)).await.expect("ends");
    let late = store.insert_run(&run("late", Some("root"), 1), &token("late", 9)).await;
    assert!(matches!(late, Err(StoreError::ParentEnded)));
    let orphan = store.insert_run(&run("orphan", Some("nobody"), 1), &token("orphan", 9)).await;
    assert!(matches!(orphan, Err(StoreError::ParentEnded)));
    assert_eq!(store.token(&TokenDigest([9; 32])).await.expect("reads"), None);
}

#[tokio::test]
async fn a_run_without_its_token_is_not_kept() {
    let place = Place::new();
    let store = store_with_tree(&place).await;
    let taken = store.insert_run(&run("other", None, 0), &token("other", 1)).await;
    assert!(matches!(taken, Err(StoreError::Database { .. })));
    assert_eq!(store.run(&id("other")).await.expect("reads"), None);
}

#[tokio::test]
async fn renewing_moves_the_run_and_its_token() {
    let place = Place::new();
    let store = store_with_tree(&place).await;
    assert!(store.renew_run(&id("child"), at(5000)).await.expect("renews"));
    assert_eq!(store.run(&id("child")).await.expect("reads").expect("a run").expires_at, at(5000));
    let found = store.token(&TokenDigest([2; 32])).await.expect("reads").expect("a token");
    assert_eq!(found.expires_at, Some(at(5000)));
}

#[tokio::test]
async fn a_run_that_a_wrapper_holds_is_known_to_be_held() {
    let place = Place::new();
    let store = place.open().await;
    let root = Run { attached: false, ..run("root", None, 0) };
    store.insert_run(&root, &token("root", 1)).await.expect("is kept");
    assert!(store.attach_run(&root.id).await.expect("is kept"));
    assert!(store.run(&root.id).await.expect("reads").expect("is there").attached);
    store.end_runs(&[(root.id.clone(), RunEnd::WrapperLost)], at(5)).await.expect("ends");
    assert!(!store.attach_run(&root.id).await.expect("is asked"));
}

#[tokio::test]
async fn runs_are_found_by_what_they_are() {
    let place = Place::new();
    let store = store_with_tree(&place).await;
    store.end_runs(&[(id("child"), RunEnd::Done)], at(3)).await.expect("ends");
    let check = async |filter: RunFilter, expect: &[&str]| {
        let found = store.runs(&filter).await.expect("reads");
        let found: Vec<&str> = found.iter().map(|run| run.id.as_str()).collect();
        assert_eq!(found, expect, "{filter:?}");
    };
    check(RunFilter::default(), &["child", "root"]).await;
    check(RunFilter { limit: Some(1), ..RunFilter::default() }, &["child"]).await;
    check(RunFilter { is_active: Some(true), ..RunFilter::default() }, &["root"]).await;
    check(RunFilter { is_active: Some(false), ..RunFilter::default() }, &["child"]).await;
    check(RunFilter { parent: Some(id("root")), ..RunFilter::default() }, &["child"]).await;
    check(RunFilter { sponsor: Some(person("bob")), ..RunFilter::default() }, &[]).await;
    let principal = Some(person("nightly"));
    check(RunFilter { principal, ..RunFilter::default() }, &["child", "root"]).await;
}

#[tokio::test]
async fn tokens_end_one_by_one_by_purpose_and_by_time() {
    let place = Place::new();
    let store = store_with_tree(&place).await;
    let ada = TokenPurpose::Login(Principal::user(person("ada")));
    let row = |byte: u8, purpose: &TokenPurpose, expires: Option<i64>| TokenRow {
        digest: TokenDigest([byte; 32]),
        purpose: purpose.clone(),
        created_at: at(0),
        expires_at: expires.map(at),
        revoked_at: None,
    };
    let rows = [
        row(10, &TokenPurpose::Admin, None),
        row(11, &ada, Some(60)),
        row(12, &ada, Some(60)),
        row(13, &TokenPurpose::Login(Principal::workload(person("ada"))), Some(60)),
    ];
    for row in &rows {
        store.insert_token(row).await.expect("kept");
        assert_eq!(store.token(&row.digest).await.expect("reads").as_ref(), Some(row));
    }
    assert!(store.insert_token(&rows[0]).await.is_err(), "a digest is kept once");
    assert!(store.revoke_token(&rows[1].digest, at(1)).await.expect("ends"));
    assert!(!store.revoke_token(&rows[1].digest, at(2)).await.expect("had ended"));
    assert_eq!(store.revoke_tokens(&ada, at(3)).await.expect("ends"), 1);
    assert_eq!(store.revoke_tokens(&TokenPurpose::Run(id("root")), at(3)).await.expect("ends"), 1);
    assert_eq!(store.delete_dead_tokens(at(59)).await.expect("forgets"), 3);
    assert_eq!(store.delete_dead_tokens(at(60)).await.expect("forgets"), 1);
    assert!(store.token(&rows[0].digest).await.expect("reads").is_some(), "without an expiry");
}

fn session(text: &str, seconds: i64) -> SessionRow {
    SessionRow {
        id: SessionId::new(text).expect("an id"),
        run: Some(id("root")),
        run_path: Some("ci/planner".into()),
        principal: Principal::workload(person("nightly")),
        sponsor: person("ada"),
        target: TargetName::new("orders-db").expect("a name"),
        protocol: "postgres".into(),
        client_address: "127.0.0.1:5000".into(),
        is_tls: true,
        claims: vec![("application_name".into(), "psql".into())],
        opened_at: at(seconds),
        closed: None,
        totals: SessionTotals::default(),
    }
}

#[tokio::test]
async fn sessions_open_close_and_are_found() {
    let place = Place::new();
    let store = store_with_tree(&place).await;
    for (text, seconds) in [("s1", 1), ("s2", 2), ("s3", 3)] {
        store.insert_session(&session(text, seconds)).await.expect("kept");
    }
    let totals =
        SessionTotals { statements: 1, rows: 2, bytes_to_client: 3, bytes_to_target: u64::MAX };
    let first = SessionId::new("s1").expect("an id");
    assert!(store.close_session(&first, CloseReason::Killed, at(9), totals).await.expect("closes"));
    let twice = store.close_session(&first, CloseReason::Client, at(10), totals).await;
    assert!(!twice.expect("stays as it was"));
    let found = store.session(&first).await.expect("reads").expect("a session");
    assert_eq!(found.closed, Some((CloseReason::Killed, at(9))));
    assert_eq!(found.totals.rows, 2);
    let still = store.session(&SessionId::new("s2").expect("an id")).await.expect("reads");
    assert_eq!(still, Some(session("s2", 2)));
    let check = async |filter: SessionFilter, expect: &[&str]| {
        let found = store.sessions(&filter).await.expect("reads");
        let found: Vec<&str> = found.iter().map(|session| session.id.as_str()).collect();
        assert_eq!(found, expect, "{filter:?}");
    };
    check(SessionFilter::default(), &["s3", "s2", "s1"]).await;
    check(SessionFilter { is_open: Some(true), ..SessionFilter::default() }, &["s3", "s2"]).await;
    check(SessionFilter { is_open: Some(false), ..SessionFilter::default() }, &["s1"]).await;
    check(SessionFilter { run: Some(id("child")), ..SessionFilter::default() }, &[]).await;
    store.close().await;
    let store = place.open().await;
    let mut lost = store.close_lost_sessions(at(20)).await.expect("closes");
    lost.sort();
    assert_eq!(lost.iter().map(SessionId::as_str).collect::<Vec<_>>(), ["s2", "s3"]);
    assert_eq!(store.close_lost_sessions(at(21)).await.expect("none"), []);
}

#[tokio::test]
async fn what_is_long_over_is_forgotten_and_nothing_else() {
    let place = Place::new();
    let store = store_with_tree(&place).await;
    store
        .insert_run(&run("grandchild", Some("child"), 2), &token("grandchild", 3))
        .await
        .expect("kept");
    store.insert_run(&run("old", None, 0), &token("old", 4)).await.expect("kept");
    store
        .insert_run(&run("old-child", Some("old"), 1), &token("old-child", 5))
        .await
        .expect("kept");
    for (text, seconds) in [("s1", 1), ("s2", 2), ("s3", 3)] {
        store.insert_session(&session(text, seconds)).await.expect("kept");
    }
    for (text, seconds) in [("s1", 10), ("s2", 100)] {
        let id = SessionId::new(text).expect("an id");
        let totals = SessionTotals::default();
        store.close_session(&id, CloseReason::Client, at(seconds), totals).await.expect("closes");
    }
    let old = [(id("old"), RunEnd::Done), (id("old-child"), RunEnd::ParentEnded)];
    store.end_runs(&old, at(10)).await.expect("ends");
    // Its grandchild goes on, so it must stay although it is over.
    store.end_runs(&[(id("child"), RunEnd::Done)], at(10)).await.expect("ends");
    let forgotten = store.forget_before(at(50)).await.expect("forgets");
    assert_eq!(forgotten, Forgotten { sessions: 1, approvals: 0, runs: 2, tokens: 3 });
    let left = store.runs(&RunFilter::default()).await.expect("reads");
    let left: Vec<&str> = left.iter().map(|run| run.id.as_str()).collect();
    assert_eq!(left, ["grandchild", "child", "root"]);
    let left = store.sessions(&SessionFilter::default()).await.expect("reads");
    let left: Vec<&str> = left.iter().map(|session| session.id.as_str()).collect();
    assert_eq!(left, ["s3", "s2"]);
    assert_eq!(store.forget_before(at(50)).await.expect("forgets"), Forgotten::default());
}

fn job(key: &str) -> Job {
    Job {
        platform: Platform::Github,
        issuer: "https://ci.example.com".to_owned(),
        key: key.to_owned(),
        claims: BTreeMap::from([("repository".to_owned(), "shop/reports".to_owned())]),
    }
}

fn job_run(text: &str, key: &str) -> Run {
    Run { job: Some(job(key)), ..run(text, None, 0) }
}

#[tokio::test]
async fn a_job_has_one_root_and_a_token_starts_one() {
    let place = Place::new();
    let store = place.open().await;
    let start = async |text: &str, key: &str, id: &str, byte: u8| {
        let used = JobToken { id: id.to_owned(), expires_at: at(300) };
        store.insert_job_run(&job_run(text, key), &job(key), &used, &token(text, byte)).await
    };
    start("one", "1/1/a", "jti-1", 1).await.expect("is kept");
    let kept = store.run(&id("one")).await.expect("reads").expect("is there");
    assert_eq!(kept.job, Some(job("1/1/a")));
    // The same token for another job, and another token for the same job.
    let used = start("two", "1/1/b", "jti-1", 2).await;
    assert!(matches!(used, Err(StoreError::TokenUsed)), "{used:?}");
    let taken = start("three", "1/1/a", "jti-2", 3).await;
    assert!(matches!(taken, Err(StoreError::JobStarted)), "{taken:?}");
    // What was refused left nothing behind: neither run, token nor mark.
    assert_eq!(store.run(&id("three")).await.expect("reads"), None);
    start("four", "1/1/b", "jti-2", 4).await.expect("jti-2 was not used up");
    // Ended, a job still has had its root.
    store.end_runs(&[(id("one"), RunEnd::Done)], at(10)).await.expect("ends");
    let again = start("five", "1/1/a", "jti-5", 5).await;
    assert!(matches!(again, Err(StoreError::JobStarted)), "{again:?}");
}

#[tokio::test]
async fn of_many_at_once_one_starts_the_job() {
    let place = Place::new();
    // As two gateways would: each has its own connections to the one file.
    let stores = [Arc::new(place.open().await), Arc::new(place.open().await)];
    let mut starts = tokio::task::JoinSet::new();
    for byte in 1..=20_u8 {
        let store = stores[usize::from(byte % 2)].clone();
        starts.spawn(async move {
            let name = format!("run-{byte}");
            let used = JobToken { id: format!("jti-{byte}"), expires_at: at(300) };
            let run = job_run(&name, "1/1/a");
            store.insert_job_run(&run, &job("1/1/a"), &used, &token(&name, byte)).await
        });
    }
    let results = starts.join_all().await;
    let kept = results.iter().filter(|result| result.is_ok()).count();
    let refused = results.iter().filter(|result| matches!(result, Err(StoreError::JobStarted)));
    assert_eq!((kept, refused.count()), (1, 19));
    for store in stores {
        assert_eq!(store.active_runs().await.expect("reads").len(), 1);
    }
}
