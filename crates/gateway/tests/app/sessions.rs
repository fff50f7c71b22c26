//! Sessions: limits that hold in a race, rights that are taken away, a restart.

use std::sync::Arc;

use crate::support::{SELECT, World, connection, login, run_named, start_in, statement};
use corral_gate::{DenialKind, Verdict};
use corral_gateway::app::sessions::SessionFilter;
use corral_gateway::app::{Caller, Door};
use corral_model::{CloseReason, Secret};
use corral_session::{Admitted, Authority, Control, Totals};
use futures_util::FutureExt;

const FIVE: &str = "kind: Limit\nname: five\nsubject: {group: agents}\nsessions_max: 5\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_sessions_at_once_exactly_five_are_let_in() {
    let world = World::start().await;
    world.apply(FIVE).await.expect("applied");
    let (run, _) = world.root_run().await;
    let door = Arc::new(Door::new(world.app().clone()));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (door, token) = (door.clone(), run.token.clone());
        tasks.spawn(async move { door.admit(login(&token, "orders-db"), connection()).await });
    }
    let mut admitted: Vec<Admitted> = Vec::new();
    while let Some(answer) = tasks.join_next().await {
        match answer.expect("no panic") {
            Ok(session) => admitted.push(session),
            Err(denial) => assert_eq!(denial.kind, DenialKind::TooManySessions),
        }
    }
    assert_eq!(admitted.len(), 5);

    // A place is free however the session ended: closed in order, or dropped.
    let closed = admitted.pop().expect("five");
    closed.scope.close(CloseReason::Client, Totals::default()).await;
    drop(admitted.pop());
    for _ in 0..2 {
        admitted.push(world.connect(&run.token, "orders-db").await.expect("room again"));
    }
    assert!(world.connect(&run.token, "orders-db").await.is_err());
    assert_eq!(world.app().list_sessions(&Caller::Admin, &SessionFilter::default()).len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn disabling_a_sponsor_ends_its_runs_and_sessions_at_once() {
    let world = World::start().await;
    let (run, run_caller) = world.root_run().await;
    let (child, _) = world.run(&run_caller, run_named("child")).await.expect("child");
    let ada = world.user("ada").await;
    let password = Secret::new("ada-password".into());
    let own = world.app().sign_in_user("ada", password).await.expect("signs in");
    let mut sessions = Vec::new();
    for token in [&run.token, &child.token, &own.token] {
        sessions.push(world.connect(token, "orders-db").await.expect("let in"));
    }
    let disabled = world.app().disable_user(&Caller::Admin, "ada").await.expect("disabled");
    assert_eq!((disabled.runs_ended, disabled.sessions_closed), (2, 3));
    for session in &mut sessions {
        let word = *session.control.try_recv().expect("told at once");
        assert!(matches!(word, Control::End { reason: CloseReason::Disabled, .. }), "{word:?}");
        let ruling = session.scope.rule(&statement(1, "SELECT 1", SELECT));
        assert!(matches!(ruling.verdict, Verdict::Deny(_)), "{ruling:?}");
    }
    assert!(world.app().whoami(&ada).await.is_err());
    for token in [&run.token, &child.token, &own.token] {
        let denial = world.connect(token, "orders-db").await.map(drop).expect_err("nobody");
        assert_eq!(denial.kind, DenialKind::Authentication);
    }

    // An old manifest brings nobody back; enabling does, without what was ended.
    world.apply(crate::support::MANIFEST).await.expect("applied");
    assert!(world.app().sign_in_user("ada", Secret::new("ada-password".into())).await.is_err());
    world.app().enable_user(&Caller::Admin, "ada").await.expect("enabled");
    world.user("ada").await;
    assert!(world.connect(&run.token, "orders-db").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_target_or_right_is_gone_ends() {
    let world = World::start().await;
    let (run, _) = world.root_run().await;
    let mut of_other = world.connect(&run.token, "other-db").await.expect("let in");
    let mut of_orders = world.connect(&run.token, "orders-db").await.expect("let in");
    let deleted = world.app().delete_resource(&Caller::Admin, "target", "other-db").await;
    deleted.expect("deleted");
    assert!(matches!(of_other.control.try_recv().map(|word| *word), Ok(Control::End { .. })));
    assert!(of_orders.control.try_recv().is_err(), "the other session goes on");

    let nobody = "kind: Policy\nname: shop\ncedar: |\n  permit (principal in \
                  Corral::Group::\"nobody\", action, resource);\n";
    world.apply(nobody).await.expect("applied");
    assert!(matches!(of_orders.control.try_recv().map(|word| *word), Ok(Control::End { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn masks_change_from_the_next_statement_on() {
    let world = World::start().await;
    let (run, _) = world.root_run().await;
    let mut session = world.connect(&run.token, "orders-db").await.expect("let in");
    assert_eq!(session.admission.rights.masked.len(), 1);
    assert!(session.scope.rights_changed().is_none());
    let unmask = "kind: Policy\nname: unmask\ncedar: |\n  permit (principal in \
                  Corral::Group::\"agents\", action == Corral::Action::\"unmask\", resource);\n";
    world.apply(unmask).await.expect("applied");
    assert_eq!(session.scope.rights_changed().expect("changed").masked.len(), 0);
    assert!(session.scope.rights_changed().is_none());
    world.app().delete_resource(&Caller::Admin, "policy", "unmask").await.expect("deleted");
    assert_eq!(session.scope.rights_changed().expect("changed back").masked.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_told_whether_it_may_run_what_nobody_knows() {
    let world = World::start().await;
    let (run, _) = world.root_run().await;
    let rule = |terms: &str, effect: &str| {
        format!(
            "kind: Policy\nname: unknown\ncedar: |\n  permit (principal in \
             Corral::Group::\"agents\", action in Corral::Action::\"unknown\", resource);\n  \
             {terms} {effect} (principal, action in Corral::Action::\"unknown\", resource);\n"
        )
    };
    let held = rule("@id(\"held\") @approval(\"dba\") @reason(\"It may do anything.\")", "forbid");
    for (policy, expected) in [
        (None, false),
        (Some(rule("", "permit")), true),
        (Some(held), false),
        (Some(rule("", "forbid")), false),
    ] {
        let mut open = world.connect(&run.token, "orders-db").await.expect("let in");
        let before = open.admission.rights.may_run_unknown;
        if let Some(policy) = &policy {
            world.apply(policy).await.expect("applied");
        }
        let session = world.connect(&run.token, "orders-db").await.expect("let in");
        assert_eq!(session.admission.rights.may_run_unknown, expected, "{policy:?}");
        let told = open.scope.rights_changed().map(|rights| rights.may_run_unknown);
        assert_eq!(told, (before != expected).then_some(expected), "{policy:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_says_nothing_and_the_administrator_opens_no_session() {
    let world = World::start().await;
    let path = world.directory.path().join("data/admin.token");
    let admin = std::fs::read_to_string(path).expect("readable");
    let foreign = corral_identity::Token::generate().expect("token");
    let tokens = ["", "crl_", "password", admin.trim(), foreign.reveal()];
    let mut texts = Vec::new();
    for token in tokens {
        let token = Secret::new(token.to_owned());
        let denial = world.connect(&token, "orders-db").await.map(drop).expect_err("refused");
        assert_eq!(denial.kind, DenialKind::Authentication);
        texts.push(denial.client_text);
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "every bad token gets the same words");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_up_runs_and_tokens() {
    let world = World::start().await;
    let (run, run_caller) = world.root_run().await;
    let (child, _) = world.run(&run_caller, run_named("child")).await.expect("child");
    let (ended, ended_caller) = world.run(&run_caller, run_named("ended")).await.expect("child");
    world.app().end_run(&ended_caller, ended.run.id.as_str(), None).await.expect("ended");
    let password = Secret::new("bob-password".into());
    let bob = world.app().sign_in_user("bob", password).await.expect("signs in");
    let World { directory, gateway } = world;
    gateway.stop().await.expect("stops");

    let gateway = start_in(directory.path()).await;
    let world = World { directory, gateway };
    world.app().authenticate(&bob.token).await.expect("still signed in");
    assert!(world.app().authenticate(&ended.token).await.is_err());
    world.connect(&child.token, "orders-db").await.map(drop).expect("still active");
    let killed = world.app().kill_run(&Caller::Admin, run.run.id.as_str()).await.expect("killed");
    assert_eq!(killed.runs_ended, 2);
    assert!(world.connect(&child.token, "orders-db").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_with_the_sponsor_it_was_started_under() {
    let world = World::start().await;
    let (run, _) = world.root_run().await;
    world
        .apply("kind: Workload\nname: nightly\nsponsor: bob\ngroups: [agents]\n")
        .await
        .expect("ok");
    world.connect(&run.token, "orders-db").await.map(drop).expect("ada still answers for it");
    let disabled = world.app().disable_user(&Caller::Admin, "ada").await.expect("disabled");
    assert_eq!(disabled.runs_ended, 1);
    let (_, caller) = world.root_run().await;
    assert_eq!(world.app().whoami(&caller).await.expect("active").sponsor.as_deref(), Some("bob"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_budget_denies_in_every_session_of_the_run() {
    let world = World::start().await;
    let budget = "kind: Limit\nname: budget\nsubject: {workload: nightly}\nrun: \
                  {statements_max: 2, rows_max: 10}\n";
    world.apply(budget).await.expect("applied");
    let (_, root) = world.root_run().await;
    let (child, _) = world.run(&root, run_named("child")).await.expect("child");
    let mut one = world.connect(&child.token, "orders-db").await.expect("let in");
    let mut two = world.connect(&child.token, "orders-db").await.expect("let in");
    for session in [&mut one, &mut two] {
        let ruling = session.scope.rule(&statement(1, "SELECT 1", SELECT));
        assert_eq!(ruling.verdict, Verdict::Allow);
    }
    let ruling = one.scope.rule(&statement(2, "SELECT 1", SELECT));
    let Verdict::Deny(denial) = ruling.verdict else { panic!("{ruling:?}") };
    assert_eq!(denial.kind, DenialKind::BudgetSpent);
    let usage = corral_session::Usage { rows: 11, ..Default::default() };
    assert_eq!(two.scope.charge(usage).expect_err("spent").kind, DenialKind::BudgetSpent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_key_finds_only_its_own_session() {
    let world = World::start().await;
    let (run, _) = world.root_run().await;
    let mut one = world.connect(&run.token, "orders-db").await.expect("let in");
    let mut two = world.connect(&run.token, "orders-db").await.expect("let in");
    let door = Door::new(world.app().clone());
    let secret = one.admission.cancel_secret;
    door.cancel(&secret[..12]).await;
    assert!(one.control.try_recv().is_err(), "not open yet");
    one.scope.opened(secret[..12].to_vec());
    two.scope.opened(two.admission.cancel_secret[..12].to_vec());
    let mut wrong = secret;
    wrong[11] ^= 1;
    for key in [&secret[..0], &secret[..4], &secret[..8], &wrong[..12], &secret[..]] {
        door.cancel(key).await;
    }
    assert!(one.control.try_recv().is_err());
    let mut cancelled = door.cancel(&secret[..12]);
    let Ok(Control::Cancel(cancelling)) = one.control.try_recv().map(|word| *word) else {
        panic!("no word of it");
    };
    assert!(two.control.try_recv().is_err());
    assert_eq!((&mut cancelled).now_or_never(), None, "the session has not acted");
    drop(cancelling);
    cancelled.await;
}
