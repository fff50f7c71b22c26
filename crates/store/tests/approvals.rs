//! Approvals: answered once, closed once, used once.

mod support;

use corral_model::event::ApprovalState;
use corral_model::ids::{
    ApprovalId, GroupName, PolicyVersion, PrincipalName, SessionId, TargetName,
};
use corral_model::principal::Principal;
use corral_model::statement::{Effect, Effects, Parameter};
use corral_store::{Approval, ApprovalRequest, ApprovalTerm, Store, Vote, VoteError, VoteVerdict};
use support::{Place, at};

fn person(text: &str) -> PrincipalName {
    PrincipalName::new(text).expect("a name")
}

fn id(text: &str) -> ApprovalId {
    ApprovalId::new(text).expect("an id")
}

fn request() -> ApprovalRequest {
    ApprovalRequest {
        decision_id: "d1".into(),
        run_id: None,
        run_path: None,
        session_id: SessionId::new("s1").expect("an id"),
        principal: Principal::user(person("eve")),
        sponsor: person("eve"),
        target: TargetName::new("orders-db").expect("a name"),
        database: Some("orders".into()),
        statement: "ALTER TABLE orders ADD note text".into(),
        parameters: vec![Parameter { value: None, format: "text".into(), type_name: None }],
        verbs: vec!["alter_table".into()],
        effects: Effects::of(Effect::Define),
        objects: Vec::new(),
        in_transaction: false,
        terms: vec![ApprovalTerm {
            rule: "schema-changes".into(),
            group: "dba".into(),
            quorum: 2,
            reason: "Schema changes need a DBA's approval.".into(),
        }],
        binding: "abc".into(),
        policy_version: PolicyVersion(3),
    }
}

fn vote(approver: &str, verdict: VoteVerdict, seconds: i64) -> Vote {
    Vote {
        approver: person(approver),
        groups: vec![GroupName::new("dba").expect("a name")],
        verdict,
        reason: "looked at it".into(),
        at: at(seconds),
    }
}

/// Two people, or one refusal.
fn judge(approval: &Approval) -> ApprovalState {
    let is_denied = approval.votes.iter().any(|vote| vote.verdict == VoteVerdict::Deny);
    match approval.votes.len() {
        _ if is_denied => ApprovalState::Denied,
        0 | 1 => ApprovalState::Pending,
        _ => ApprovalState::Approved,
    }
}

async fn store_with(place: &Place, ids: &[&str]) -> Store {
    let store = place.open().await;
    for (seconds, text) in (0_i64..).zip(ids) {
        let inserted = store.insert_approval(&id(text), &request(), at(seconds), at(100)).await;
        inserted.expect("kept");
    }
    store
}

#[tokio::test]
async fn an_approval_is_pending_until_enough_people_said_yes() {
    let place = Place::new();
    let store = store_with(&place, &["a1"]).await;
    let yes = VoteVerdict::Approve;
    let one = store.vote(&id("a1"), vote("ada", yes, 1), judge).await.expect("counts");
    assert_eq!((one.state, one.closed_at), (ApprovalState::Pending, None));
    let again = store.vote(&id("a1"), vote("ada", yes, 2), judge).await;
    assert!(matches!(again, Err(VoteError::AnsweredAlready(_))));
    let two = store.vote(&id("a1"), vote("bob", yes, 3), judge).await.expect("counts");
    assert_eq!((two.state, two.closed_at), (ApprovalState::Approved, Some(at(3))));
    assert_eq!(store.approval(&id("a1")).await.expect("reads"), Some(two));
    let late = store.vote(&id("a1"), vote("cyd", VoteVerdict::Deny, 4), judge).await;
    assert!(matches!(late, Err(VoteError::NotPending(ApprovalState::Approved))));
    let nobody = store.vote(&id("a9"), vote("cyd", yes, 4), judge).await;
    assert!(matches!(nobody, Err(VoteError::NoSuchApproval(_))));
}

#[tokio::test]
async fn a_vote_after_the_expiry_does_not_count() {
    let place = Place::new();
    let store = store_with(&place, &["a1"]).await;
    let late = store.vote(&id("a1"), vote("ada", VoteVerdict::Approve, 100), judge).await;
    assert!(matches!(late, Err(VoteError::NotPending(ApprovalState::Expired))));
    let found = store.approval(&id("a1")).await.expect("reads").expect("an approval");
    assert!(found.votes.is_empty());
}

#[tokio::test]
async fn of_racing_answers_exactly_one_closes_the_approval() {
    let place = Place::new();
    let store = store_with(&place, &["a1"]).await;
    let mut racing = tokio::task::JoinSet::new();
    for number in 0..20 {
        let store = store.clone();
        racing.spawn(async move {
            if number % 2 == 0 {
                let answer = vote(&format!("user{number}"), VoteVerdict::Deny, 1);
                store.vote(&id("a1"), answer, judge).await.is_ok()
            } else {
                let (id, state) = (id("a1"), ApprovalState::Withdrawn);
                store.close_approval(&id, state, at(1)).await.expect("asked")
            }
        });
    }
    let won = racing.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn an_approval_is_used_exactly_once_and_only_for_its_binding() {
    let place = Place::new();
    let store = store_with(&place, &["a1", "a2"]).await;
    assert!(!store.use_approval(&id("a1"), "abc", at(1)).await.expect("asked"), "pending");
    for approver in ["ada", "bob"] {
        let answer = vote(approver, VoteVerdict::Approve, 1);
        store.vote(&id("a1"), answer, judge).await.expect("counts");
    }
    assert!(!store.use_approval(&id("a1"), "other", at(2)).await.expect("asked"), "changed");
    assert!(!store.use_approval(&id("a1"), "abc", at(100)).await.expect("asked"), "expired");
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        racing.spawn(async move { store.use_approval(&id("a1"), "abc", at(3)).await });
    }
    let used = racing.join_all().await.into_iter().filter(|used| matches!(used, Ok(true))).count();
    assert_eq!(used, 1);
    let denied = vote("ada", VoteVerdict::Deny, 1);
    store.vote(&id("a2"), denied, judge).await.expect("counts");
    assert!(!store.use_approval(&id("a2"), "abc", at(2)).await.expect("asked"), "denied");
}

#[tokio::test]
async fn approvals_are_listed_by_state_newest_first() {
    let place = Place::new();
    let store = store_with(&place, &["a1", "a2", "a3"]).await;
    let expired = ApprovalState::Expired;
    assert!(store.close_approval(&id("a2"), expired, at(100)).await.expect("closes"));
    assert!(!store.close_approval(&id("a2"), expired, at(101)).await.expect("was closed"));
    let list = async |state: Option<ApprovalState>, limit: u32| {
        let found = store.approvals(state, limit).await.expect("reads");
        found.into_iter().map(|approval| approval.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 9).await, ["a3", "a2", "a1"]);
    assert_eq!(list(None, 1).await, ["a3"]);
    assert_eq!(list(Some(ApprovalState::Pending), 9).await, ["a3", "a1"]);
    assert_eq!(list(Some(expired), 9).await, ["a2"]);
    let withdrawn = store.withdraw_pending_approvals(at(5)).await.expect("withdraws");
    assert_eq!(withdrawn.len(), 2);
    assert!(list(Some(ApprovalState::Pending), 9).await.is_empty());
}
