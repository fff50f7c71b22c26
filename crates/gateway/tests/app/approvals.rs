//! Approvals: who may answer, what is bound, how a wait ends.

use std::path::Path;

use crate::support::{ALTER, World, hold, start_in, statement};
use corral_gate::Verdict;
use corral_gateway::app::{AppError, Caller};
use corral_model::CloseReason;
use corral_model::event::{ApprovalState, EventBody};
use corral_model::ids::StatementSeq;
use corral_session::{Control, Resolution};

#[tokio::test(flavor = "multi_thread")]
async fn only_other_people_of_the_named_group_answer_with_a_reason() {
    let world = World::start().await;
    let (run, run_caller) = world.root_run().await;
    let mut session = world.connect(&run.token, "orders-db").await.expect("let in");
    let alter = statement(1, "ALTER TABLE orders ADD note text", ALTER);
    let id = hold(&mut session, &alter).await;
    let app = world.app();

    let sponsor = world.user("ada").await;
    let outsider = world.user("eve").await;
    let approver = world.user("bob").await;
    for caller in [&Caller::Admin, &run_caller, &sponsor, &outsider] {
        let refused = app.approve(caller, id.as_str(), "fine").await;
        assert!(matches!(refused, Err(AppError::Denied(_))), "{caller:?}: {refused:?}");
    }
    let hidden = app.show_approval(&outsider, id.as_str()).await;
    assert!(matches!(hidden, Err(AppError::NotFound { .. })), "{hidden:?}");
    let refused = app.approve(&approver, id.as_str(), "  ").await;
    assert!(matches!(refused, Err(AppError::Invalid(_))), "{refused:?}");

    let view = app.approve(&approver, id.as_str(), "reviewed").await.expect("approved");
    assert_eq!(view.state, ApprovalState::Approved);
    assert_eq!(view.statement, "ALTER TABLE orders ADD note text");
    let again = app.deny(&approver, id.as_str(), "changed my mind").await;
    assert!(matches!(again, Err(AppError::Conflict(_))), "{again:?}");

    let word = *session.control.recv().await.expect("told");
    let Control::Resolved { approval, resolution: Resolution::Approved { by, reason } } = word
    else {
        panic!("{word:?}");
    };
    assert_eq!((approval, by, reason.as_str()), (id.clone(), vec!["bob".to_owned()], "reviewed"));
    let ruling = session.scope.rule_approved(&alter, &id);
    assert_eq!(ruling.verdict, Verdict::Allow);
    let ruling = session.scope.rule_approved(&alter, &id);
    assert!(matches!(ruling.verdict, Verdict::Deny(_)), "an approval is used once: {ruling:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_for_exactly_what_was_asked() {
    let world = World::start().await;
    let (run, _) = world.root_run().await;
    let bob = world.user("bob").await;
    let original = statement(1, "ALTER TABLE orders ADD note text", ALTER);
    let mut other_text = original.clone();
    other_text.text = "ALTER TABLE orders DROP note".into();
    let mut other_state = original.clone();
    other_state.state_digest = "other search path".into();
    let mut other_parameters = original.clone();
    other_parameters.parameters = [corral_model::statement::Parameter {
        value: None,
        format: "text".into(),
        type_name: None,
    }]
    .into();
    let mut other_seq = original.clone();
    other_seq.seq = StatementSeq(2);
    for changed in [other_text, other_state, other_parameters, other_seq] {
        let mut session = world.connect(&run.token, "orders-db").await.expect("let in");
        let id = hold(&mut session, &original).await;
        world.app().approve(&bob, id.as_str(), "fine").await.expect("approved");
        let ruling = session.scope.rule_approved(&changed, &id);
        assert!(matches!(ruling.verdict, Verdict::Deny(_)), "{changed:?}");
    }

    // The policy, another session.
    let mut session = world.connect(&run.token, "orders-db").await.expect("let in");
    let mut other = world.connect(&run.token, "orders-db").await.expect("let in");
    let id = hold(&mut session, &original).await;
    world.app().approve(&bob, id.as_str(), "fine").await.expect("approved");
    let ruling = other.scope.rule_approved(&original, &id);
    assert!(matches!(ruling.verdict, Verdict::Deny(_)), "another session");
    let id = hold(&mut session, &original).await;
    world.app().approve(&bob, id.as_str(), "fine").await.expect("approved");
    let more = "kind: Policy\nname: more\ncedar: |\n  permit (principal in \
                Corral::Group::\"agents\", action in Corral::Action::\"write\", resource);\n";
    world.apply(more).await.expect("applied");
    let ruling = session.scope.rule_approved(&original, &id);
    assert!(matches!(ruling.verdict, Verdict::Deny(_)), "another policy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_needs_different_people_and_one_no_is_enough() {
    let world = World::start().await;
    let strict = "kind: Policy\nname: strict\ncedar: |\n  @id(\"two\") @approval(\"ops\") \
                  @quorum(\"2\") @reason(\"Two of ops.\")\n  forbid (principal, action in \
                  Corral::Action::\"define\", resource);\n";
    world.apply(strict).await.expect("applied");
    let (run, _) = world.root_run().await;
    let mut session = world.connect(&run.token, "orders-db").await.expect("let in");
    let alter = statement(1, "ALTER TABLE orders ADD note text", ALTER);
    let id = hold(&mut session, &alter).await;
    let (bob, eve) = (world.user("bob").await, world.user("eve").await);
    let app = world.app();
    // dba needs one, ops needs two: three seats, and bob sits on one only.
    let view = app.approve(&bob, id.as_str(), "fine").await.expect("counted");
    assert_eq!(view.state, ApprovalState::Pending);
    let again = app.approve(&bob, id.as_str(), "really").await;
    assert!(matches!(again, Err(AppError::Conflict(_))), "{again:?}");
    let view = app.approve(&eve, id.as_str(), "fine").await.expect("counted");
    assert_eq!(view.state, ApprovalState::Pending);
    assert!(session.control.try_recv().is_err());

    let second = statement(2, "ALTER TABLE orders ADD other text", ALTER);
    let id = hold(&mut session, &second).await;
    let view = app.deny(&eve, id.as_str(), "not today").await.expect("denied");
    assert_eq!(view.state, ApprovalState::Denied);
    let word = *session.control.recv().await.expect("told");
    assert!(matches!(word, Control::Resolved { resolution: Resolution::Denied { .. }, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_with_its_time_its_client_or_its_session() {
    let world = World::start().await;
    let quick = "kind: Policy\nname: quick\ncedar: |\n  @id(\"quick\") @approval(\"dba\") \
                 @expires(\"1s\") @reason(\"Quick.\")\n  forbid (principal, action in \
                 Corral::Action::\"define\", resource);\n";
    world.apply(quick).await.expect("applied");
    let (run, _) = world.root_run().await;
    let mut session = world.connect(&run.token, "orders-db").await.expect("let in");
    let alter = statement(1, "ALTER TABLE orders ADD note text", ALTER);

    let expired = hold(&mut session, &alter).await;
    let word = *session.control.recv().await.expect("told");
    assert!(matches!(word, Control::Resolved { resolution: Resolution::Expired, .. }));
    let withdrawn = hold(&mut session, &alter).await;
    session.scope.withdraw(&withdrawn, alter.seq);
    let lost = hold(&mut session, &alter).await;
    drop(session);
    let bob = world.user("bob").await;
    for id in [&expired, &withdrawn, &lost] {
        let answered = world.app().approve(&bob, id.as_str(), "too late").await;
        assert!(matches!(answered, Err(AppError::Conflict(_))), "{answered:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_pending_is_withdrawn_and_its_session_is_lost() {
    let world = World::start().await;
    let (run, _) = world.root_run().await;
    let mut session = world.connect(&run.token, "orders-db").await.expect("let in");
    let alter = statement(1, "ALTER TABLE orders ADD note text", ALTER);
    let id = hold(&mut session, &alter).await;
    // The files as they are while the gateway runs are what a crash leaves.
    let after = tempfile::tempdir().expect("directory");
    copy(&world.directory.path().join("data"), &after.path().join("data"));

    let gateway = start_in(after.path()).await;
    let view = gateway.app().show_approval(&Caller::Admin, id.as_str()).await.expect("kept");
    assert_eq!(view.state, ApprovalState::Withdrawn);
    let events = gateway.app().replay(&Caller::Admin, session.admission.session.as_str()).await;
    let events = events.expect("recorded");
    let last = events.last().expect("closed");
    assert!(
        matches!(last.body, EventBody::SessionClosed { reason: CloseReason::Lost, .. }),
        "{last:?}"
    );
    gateway.app().authenticate(&run.token).await.expect("the run goes on");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copied");
        }
    }
}
