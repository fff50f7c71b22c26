//! Definitions and other sessions' statements take turns by the names that they have in common.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use corral_gate::{Input, Rights};
use corral_model::event::CloseReason;
use corral_model::limits;
use support::client::*;
use support::{Setting, World};

const SOON: Duration = Duration::from_secs(1);

fn tags(told: &[String]) -> Vec<&str> {
    told.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect()
}

/// What the last answer but the one to the statement's end says.
fn refused(world: &mut World) -> String {
    let told = world.told();
    told.iter().find(|line| line.starts_with('E')).cloned().unwrap_or_default()
}

/// Two sessions; the first has changed a table, and its transaction is open.
fn changing() -> (World, World) {
    let mut first = World::open(Setting::default());
    let other = first.neighbour();
    first.send(&[query("begin"), query("alter table t")].concat());
    assert_eq!(tags(&first.told()), ["C", "Z", "C", "Z"]);
    (first, other)
}

#[track_caller]
fn waits(world: &mut World) {
    world.later(SOON);
    assert!(world.told().is_empty());
    assert!(world.decided.is_empty(), "it is not decided before its turn");
}

#[track_caller]
fn goes_on(world: &mut World) {
    world.later(SOON);
    assert_eq!(tags(&world.told()), ["C", "Z"]);
}

#[test]
fn a_statement_waits_for_the_end_of_a_definition_and_is_decided_by_its_names() {
    let (mut first, mut other) = changing();
    other.send(&query("select x from t"));
    waits(&mut other);
    first.words.generation.store(1, Ordering::Relaxed);
    first.send(&query("commit"));
    goes_on(&mut other);
    assert_eq!(other.decided[0].facts.functions, ["g1"]);
    assert_eq!(other.target.log.len(), 1);
}

#[test]
fn every_message_that_looks_names_up_waits() {
    for (sent, answer) in [
        (query("select x from t"), vec!["C", "Z"]),
        ([extended("select x from t"), sync()].concat(), vec!["1", "2", "n", "C", "Z"]),
        ([parse("p", "select x from t"), sync()].concat(), vec!["1", "Z"]),
        (query("alter table t"), vec!["C", "Z"]),
    ] {
        let (mut first, mut other) = changing();
        other.send(&sent);
        waits(&mut other);
        first.send(&query("commit"));
        other.later(SOON);
        assert_eq!(tags(&other.told()), answer);
    }
}

#[test]
fn a_bind_and_a_late_execute_wait_too() {
    let mut first = World::open(Setting::default());
    let mut other = first.neighbour();
    other.send(&[parse("p", "select x from t"), sync()].concat());
    other.send(&[parse("b", "select body from t"), bind("", "b", &[])].concat());
    assert_eq!(tags(&other.told()), ["1", "Z", "1", "2"]);
    // That transaction is open, and has names of the table: the definition waits.
    first.send(&query("alter table t"));
    waits(&mut first);
    other.send(&sync());
    goes_on(&mut first);
    other.told();

    first.send(&query("begin"));
    first.send(&query("alter table t"));
    other.send(&[bind("", "p", &[]), execute("", 0), sync()].concat());
    waits(&mut other);
    first.send(&query("commit"));
    other.later(SOON);
    assert_eq!(tags(&other.told()), ["2", "C", "Z"]);
}

#[test]
fn a_commit_is_over_when_the_target_has_told_so() {
    let (mut first, mut other) = changing();
    first.is_target_stalled = true;
    first.send(&query("commit"));
    other.send(&query("select x from t"));
    waits(&mut other);
    first.is_target_stalled = false;
    first.settle();
    goes_on(&mut other);

    // Nor is the answer to COMMIT enough, without the one to a Sync.
    let (mut first, mut other) = changing();
    first.send(&extended("commit"));
    assert_eq!(tags(&first.told()), ["1", "2", "n", "C"]);
    other.send(&query("select x from t"));
    waits(&mut other);
    first.send(&sync());
    goes_on(&mut other);
}

#[test]
fn who_waits_too_long_is_refused() {
    let (_first, mut other) = changing();
    other.send(&query("select x from t"));
    other.later(limits::DEFINITION_WAIT_MAX - SOON);
    assert!(other.told().is_empty());
    other.later(SOON);
    let told = refused(&mut other);
    assert!(told.starts_with("E 55P03 corral: for 60 s another session"), "{told}");
    other.send(&query("select x from u"));
    assert_eq!(tags(&other.told()), ["C", "Z"]);
}

#[test]
fn a_definition_waits_for_what_is_on_its_way_and_others_wait_behind_it() {
    for definition in ["alter table t", "alter wide"] {
        let mut first = World::open(Setting::default());
        let mut other = first.neighbour();
        let mut third = first.neighbour();
        other.is_target_stalled = true;
        other.send(&query("select body from t"));
        first.send(&query(definition));
        waits(&mut first);
        assert!(first.target.log.is_empty(), "{definition}");
        third.send(&query("select x from t"));
        waits(&mut third);
        other.is_target_stalled = false;
        other.settle();
        first.is_target_stalled = true;
        first.later(SOON);
        assert_eq!(first.target.log, [format!("Q {definition}")]);
        waits(&mut third);
        first.is_target_stalled = false;
        first.settle();
        goes_on(&mut third);
        assert_eq!(tags(&other.told()), ["C", "Z"]);
    }
}

#[test]
fn other_names_do_not_wait() {
    let (_first, mut other) = changing();
    other.send(&query("select x from u"));
    other.send(&query("show x"));
    assert_eq!(tags(&other.told()), ["C", "Z", "C", "Z"]);
}

#[test]
fn a_transaction_passes_a_definition_that_waits_for_its_end() {
    let mut first = World::open(Setting::default());
    let mut other = first.neighbour();
    other.send(&[query("begin"), query("select x from t")].concat());
    other.told();
    first.send(&query("alter table t"));
    waits(&mut first);
    other.send(&query("select x from t"));
    assert_eq!(tags(&other.told()), ["C", "Z"]);
    waits(&mut first);
    other.send(&query("commit"));
    goes_on(&mut first);
}

#[test]
fn what_people_decide_is_in_nobodys_way_and_takes_its_turn_afterwards() {
    let mut first = World::open(Setting::default());
    let mut other = first.neighbour();
    other.send(&query("select approve from t"));
    assert_eq!(tags(&other.told()), ["N"]);
    first.send(&[query("begin"), query("alter table t")].concat());
    assert_eq!(tags(&first.told()), ["C", "Z", "C", "Z"]);
    let permit = other.permit(other.decided[0].seq);
    other.input(Input::Decided(permit));
    other.later(SOON);
    assert_eq!(tags(&other.told()), Vec::<&str>::new());
    first.send(&query("commit"));
    goes_on(&mut other);
}

#[test]
fn free_sessions_do_not_wait_but_those_with_masks_do() {
    for (is_masked, answer) in [(false, vec!["C", "Z"]), (true, vec![])] {
        let mut first = World::open(Setting::default());
        first.setting.may_run_unknown = true;
        first.setting.masked = is_masked;
        let mut other = first.neighbour();
        first.send(&[query("begin"), query("alter table t")].concat());
        other.send(&query("select x from t"));
        assert_eq!(tags(&other.told()), answer);
    }
}

#[test]
fn a_session_is_free_as_long_as_policy_says_so() {
    let mut first = World::open(Setting::default());
    first.setting.may_run_unknown = true;
    let mut other = first.neighbour();
    first.send(&[query("begin"), query("alter table t")].concat());
    other.input(Input::RightsChanged(Rights::default()));
    other.send(&query("select x from t"));
    waits(&mut other);
    first.send(&query("commit"));
    goes_on(&mut other);
}

#[test]
fn the_definition_of_a_free_session_is_waited_for() {
    let mut first = World::open(Setting::default());
    first.setting.may_run_unknown = true;
    let mut free = first.neighbour();
    free.send(&[query("begin"), query("alter table t")].concat());
    first.send(&query("select x from t"));
    waits(&mut first);
    free.send(&query("rollback"));
    goes_on(&mut first);
}

#[test]
fn a_cancel_ends_the_wait() {
    let (_first, mut other) = changing();
    other.send(&query("select x from t"));
    other.input(Input::CancelAsked);
    assert_eq!(other.told(), ["E 57014 canceling statement due to user request", "Z I"]);
    assert!(other.cancels.is_empty());
}

#[test]
fn a_client_that_is_gone_waits_for_nothing() {
    let (_first, mut other) = changing();
    other.send(&query("select x from t"));
    other.input(Input::ClientClosed);
    assert_eq!(other.closed, Some(CloseReason::Client));
    assert!(other.decided.is_empty());
}

#[test]
fn a_session_that_ends_in_the_middle_holds_others_up_for_a_moment() {
    let mut first = World::open(Setting::default());
    let mut other = first.neighbour();
    first.is_target_stalled = true;
    first.send(&query("alter table t"));
    first.input(Input::ClientClosed);
    assert_eq!(first.cancels.len(), 1, "nobody hears its answer");
    other.send(&query("select x from t"));
    other.later(limits::CATALOGUE_AGE_MAX);
    assert!(other.told().is_empty());
    goes_on(&mut other);
}

#[test]
fn a_session_whose_transaction_is_certainly_taken_back_holds_nobody_up() {
    let (mut first, mut other) = changing();
    first.send(&terminate());
    assert!(first.closed.is_some());
    other.send(&query("select x from t"));
    assert_eq!(tags(&other.told()), ["C", "Z"]);
}
