//! Runs: who may start them, what they inherit, how they end.

use std::time::Duration;

use crate::support::{World, run_named};
use corral_gate::DenialKind;
use corral_gateway::app::runs::{RunFilter, StartRun};
use corral_gateway::app::{AppError, Caller};
use corral_model::{CloseReason, RunEnd, RunState};
use corral_session::Control;

fn child(name: &str, targets: &[&str]) -> StartRun {
    let targets = targets.iter().map(|target| (*target).to_owned()).collect();
    StartRun { targets, ..run_named(name) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_may_use_only_what_every_ancestor_may() {
    let world = World::start().await;
    let workload = world.workload("nightly").await;
    let (_, root) = world.run(&workload, child("root", &["orders-db"])).await.expect("root");
    let (open, _) = world.run(&root, child("open", &[])).await.expect("inherits");
    let refused = world.run(&root, child("wide", &["other-db"])).await;
    assert!(matches!(refused, Err(AppError::Denied(_))), "{refused:?}");

    world.connect(&open.token, "orders-db").await.map(drop).expect("granted");
    let denial = world.connect(&open.token, "other-db").await.map(drop).expect_err("not granted");
    assert_eq!(denial.kind, DenialKind::Forbidden);
    let unknown = world.connect(&open.token, "no-db").await.map(drop).expect_err("unknown");
    assert_eq!(unknown.client_text, denial.client_text.replace("other-db", "no-db"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_a_run_ends_everything_below_it_and_its_sessions() {
    let world = World::start().await;
    let (root, root_caller) = world.root_run().await;
    let (middle, middle_caller) =
        world.run(&root_caller, run_named("planner")).await.expect("child");
    let (leaf, _) = world.run(&middle_caller, run_named("executor")).await.expect("grandchild");
    let mut session = world.connect(&leaf.token, "orders-db").await.expect("let in");

    let ended = world.app().kill_run(&root_caller, middle.run.id.as_str()).await.expect("killed");
    assert_eq!((ended.runs_ended, ended.sessions_closed), (2, 1));
    let word = *session.control.recv().await.expect("told");
    assert!(matches!(word, Control::End { reason: CloseReason::Killed, .. }), "{word:?}");

    for token in [&middle.token, &leaf.token] {
        let denial = world.connect(token, "orders-db").await.map(drop).expect_err("ended");
        assert_eq!(denial.kind, DenialKind::Authentication);
        assert!(world.app().authenticate(token).await.is_err());
    }
    let refused = world.run(&middle_caller, run_named("late")).await;
    assert!(refused.is_err(), "nothing is started below an ended run");
    world.connect(&root.token, "orders-db").await.map(drop).expect("the root goes on");

    let tree = world.app().run_tree(&Caller::Admin, all()).await.expect("tree");
    let state = |reason| move |state: &RunState| matches!(state, RunState::Ended { reason: r, .. } if *r == reason);
    assert_eq!(tree.len(), 1);
    assert_eq!(tree[0].children.len(), 1);
    assert!(state(RunEnd::Killed)(&tree[0].children[0].view.run.state));
    assert!(state(RunEnd::ParentEnded)(&tree[0].children[0].children[0].view.run.state));
    assert_eq!(tree[0].children[0].children[0].view.path, "root/planner/executor");
}

fn all() -> RunFilter {
    RunFilter { with_ended: true, ..RunFilter::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_is_cut_to_the_limits_and_to_what_the_parent_has_left() {
    let world = World::start().await;
    let limit = "kind: Limit\nname: agents\nsubject: {group: agents}\nrun: {ttl_max: 1h, \
                 children_max: 2, depth_max: 1}\n";
    world.apply(limit).await.expect("applied");
    let workload = world.workload("nightly").await;
    let long = StartRun { ttl: Some(Duration::from_secs(86_400)), ..run_named("root") };
    let (root, root_caller) = world.run(&workload, long.clone()).await.expect("root");
    let left = root.run.expires_at - root.run.started_at;
    assert_eq!(left, time::Duration::HOUR);

    let (first, first_caller) = world.run(&root_caller, long).await.expect("child");
    assert!(first.run.expires_at <= root.run.expires_at);
    let deep = world.run(&first_caller, run_named("deep")).await;
    assert!(matches!(deep, Err(AppError::LimitReached(_))), "{deep:?}");
    world.run(&root_caller, run_named("second")).await.expect("child");
    let third = world.run(&root_caller, run_named("third")).await;
    assert!(matches!(third, Err(AppError::LimitReached(_))), "{third:?}");
    world.app().end_run(&first_caller, first.run.id.as_str(), None).await.expect("ends itself");
    world.run(&root_caller, run_named("third")).await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_an_active_sponsor_is_refused_and_recorded() {
    let world = World::start().await;
    let workload = world.workload("nightly").await;
    world.app().disable_user(&Caller::Admin, "ada").await.expect("disabled");
    let by_itself = world.run(&workload, run_named("job")).await.map(drop);
    let for_it = StartRun { for_principal: Some("nightly".into()), ..run_named("job") };
    let by_admin = world.app().start_run(&Caller::Admin, for_it).await.map(drop);
    for refused in [by_itself, by_admin] {
        let Err(AppError::Denied(text)) = refused else { panic!("{refused:?}") };
        assert!(text.contains("'ada'"), "{text}");
    }
    let filter = corral_gateway::app::audit::EventFilter {
        event: Some("run.refused".into()),
        ..Default::default()
    };
    let events = world.app().search_events(&Caller::Admin, filter).await.expect("searched");
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].origin.sponsor.as_deref(), Some("ada"));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_see_and_end_only_what_is_below_them() {
    let world = World::start().await;
    let (root, root_caller) = world.root_run().await;
    let (left, left_caller) = world.run(&root_caller, run_named("left")).await.expect("child");
    let (right, _) = world.run(&root_caller, run_named("right")).await.expect("child");
    for other in [&root, &right] {
        let id = other.run.id.as_str();
        assert!(matches!(
            world.app().kill_run(&left_caller, id).await,
            Err(AppError::NotFound { .. })
        ));
        assert!(world.app().show_run(&left_caller, id).await.is_err());
    }
    let seen = world.app().list_runs(&left_caller, all()).await.expect("listed");
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].run.id, left.run.id);
    let eve = world.user("eve").await;
    assert_eq!(world.app().list_runs(&eve, all()).await.expect("listed").len(), 0);
    let ada = world.user("ada").await;
    assert_eq!(world.app().list_runs(&ada, all()).await.expect("listed").len(), 3);
    let itself = world.app().renew_run(&left_caller, left.run.id.as_str(), None).await;
    assert!(matches!(itself, Err(AppError::Denied(_))), "{itself:?}");
    world.app().renew_run(&root_caller, left.run.id.as_str(), None).await.expect("by its parent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_ttl_passed_is_over_at_once() {
    let world = World::start().await;
    let workload = world.workload("nightly").await;
    let short = StartRun { ttl: Some(Duration::from_secs(1)), ..run_named("short") };
    let (short, _) = world.run(&workload, short).await.expect("starts");
    let mut session = world.connect(&short.token, "orders-db").await.expect("let in");
    let word = tokio::time::timeout(Duration::from_secs(10), session.control.recv()).await;
    let word = *word.expect("in time").expect("told");
    assert!(matches!(word, Control::End { reason: CloseReason::Expired, .. }), "{word:?}");
    let denial = world.connect(&short.token, "orders-db").await.map(drop).expect_err("over");
    assert_eq!(denial.kind, DenialKind::Authentication);
}

/// A child whose parent ends while it is being stored either is refused or ends with it, in memory
/// and in the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_child_that_is_minted_while_its_parent_is_killed_does_not_survive() {
    let world = World::start().await;
    for round in 0..10 {
        let (root, caller) = world.root_run().await;
        let mut minting = tokio::task::JoinSet::new();
        for number in 0..12 {
            let (app, caller) = (world.app().clone(), caller.clone());
            minting.spawn(async move {
                app.start_run(&caller, run_named(&format!("child-{number}"))).await
            });
        }
        let killer = {
            let (app, id) = (world.app().clone(), root.run.id.clone());
            tokio::spawn(async move {
                // Each round somewhere else in the middle of it.
                for _ in 0..round {
                    tokio::task::yield_now().await;
                }
                app.kill_run(&Caller::Admin, id.as_str()).await
            })
        };
        let children = minting.join_all().await;
        killer.await.expect("does not panic").expect("kills");
        for started in children.into_iter().flatten() {
            let child = world.app().authenticate(&started.token).await;
            assert!(child.is_err(), "{} survived", started.path);
        }
        let below = Some(root.run.id.to_string());
        let filter = RunFilter { with_ended: false, principal: None, below };
        let left = world.app().list_runs(&Caller::Admin, filter).await.expect("lists");
        assert!(left.is_empty(), "{left:?}");
    }
}
