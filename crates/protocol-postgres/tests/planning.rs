//! What the target may run while it plans: decided at Bind, under one permit up to its Execute.

#![allow(clippy::panic, reason = "a test may stop at the first surprise")]

mod support;

use corral_gate::Input;
use corral_gate::decision::{Decision, Denial, DenialKind};
use corral_model::Effect;
use support::client::*;
use support::{Setting, World};

const TEXT: &str = "update mystery";

fn binds(world: &World) -> usize {
    world.target.log.iter().filter(|line| line.starts_with('B')).count()
}

fn codes(world: &World) -> Vec<String> {
    world.completed().into_iter().map(|done| done.0).collect()
}

#[test]
fn what_is_denied_at_bind_is_not_planned() {
    let mut world = World::open(Setting::default());
    // The gate's check lets it pass: only its decision refuses.
    world.send(&[parse("p", "update mystery approve"), sync()].concat());
    world.told();
    world.send(&[bind("", "p", &[Some("one")]), execute("", 0), sync()].concat());
    world.told();
    assert_eq!(world.decided[0].parameters[0].value.as_deref(), Some("one"));
    let denial = Denial::new(DenialKind::ApprovalDenied, "no");
    world.input(Input::Decided(Decision::Deny(denial)));
    assert_eq!(world.told(), ["E 42501 corral: no", "Z I"]);
    assert_eq!(binds(&world), 0, "{:?}", world.target.log);
    assert_eq!(world.decided.len(), 1);
    assert!(codes(&world).is_empty());
}

#[test]
fn what_waits_at_bind_is_planned_after_the_approval() {
    let mut world = World::open(Setting::default());
    let text = "update mystery approve";
    world.send(&[parse("", text), bind("", "", &[]), execute("", 0), sync()].concat());
    assert_eq!(world.told(), ["N 00000 corral: approve it at https://gateway/", "1"]);
    assert_eq!(binds(&world), 0, "{:?}", world.target.log);
    let permit = world.permit(world.decided[0].seq);
    world.input(Input::Decided(permit));
    assert_eq!(world.told(), ["2", "C UPDATE 3", "Z I"]);
    assert_eq!(binds(&world), 1);
    assert_eq!(world.decided.len(), 1);
    assert_eq!(world.completed(), [("00000".into(), Some("UPDATE 3".into()), 0)]);
}

#[test]
fn a_cancel_at_bind_withdraws() {
    let mut world = World::open(Setting::default());
    let text = "update mystery approve";
    world.send(&[parse("", text), bind("", "", &[]), sync()].concat());
    world.told();
    world.input(Input::CancelAsked);
    assert_eq!(world.told(), ["E 57014 canceling statement due to user request", "Z I"]);
    assert_eq!(world.withdrawn.len(), 1);
    assert_eq!(binds(&world), 0);
}

#[test]
fn bind_and_execute_are_one_decision() {
    let mut world = World::open(Setting::default());
    world.send(&[extended(TEXT), sync()].concat());
    assert_eq!(world.decided.len(), 1);
    assert_eq!(codes(&world), ["00000"]);
    world.told();
    // What is known is bound without a decision, as before.
    world.send(&[parse("", "update"), bind("", "", &[]), sync()].concat());
    assert_eq!(world.decided.len(), 1);
}

#[test]
fn a_second_execute_is_a_second_decision() {
    let mut world = World::open(Setting::default());
    let once = [parse("", TEXT), bind("c", "", &[]), execute("c", 0), execute("c", 0), sync()];
    world.send(&once.concat());
    assert_eq!(world.decided.len(), 2);
    assert_eq!(codes(&world), ["00000", "00000"]);
}

#[test]
fn a_permit_that_no_execute_used_is_completed_once() {
    let bound = || [parse("s", TEXT), bind("", "s", &[])].concat();
    let endings: [(&str, Vec<u8>); 4] = [
        ("closed", [close(b'P', ""), sync()].concat()),
        ("bound over", [parse("", "select 1"), bind("", "", &[]), sync()].concat()),
        ("transaction over", sync()),
        ("failed", [parse("s", "select 1"), sync()].concat()),
    ];
    for (name, ending) in endings {
        let mut world = World::open(Setting::default());
        world.send(&[bound(), flush()].concat());
        assert!(codes(&world).is_empty(), "{name}");
        world.send(&ending);
        world.send(&query("select 1"));
        let told = world.told();
        assert_eq!(told[told.len() - 1], "Z I", "{name}: {told:?}");
        assert_eq!(codes(&world), ["00000", "00000"], "{name}");
        world.send(&terminate());
        assert_eq!(codes(&world).len(), 2, "{name}");
    }
}

#[test]
fn a_session_that_ends_completes_what_was_bound() {
    let mut world = World::open(Setting::default());
    world.send(&[parse("", TEXT), bind("", "", &[]), flush()].concat());
    world.send(&terminate());
    assert_eq!(codes(&world), ["00000"]);
}

#[test]
fn a_bind_that_fails_completes_its_permit_with_the_error() {
    for ending in [sync(), [execute("", 0), sync()].concat()] {
        let mut world = World::open(Setting::default());
        world.send(&[parse("s", TEXT), sync()].concat());
        world.told();
        world.target.forget_statements();
        world.send(&[bind("", "s", &[]), ending].concat());
        assert_eq!(
            world.told(),
            ["E 26000 no such statement D=Detail no such statement P=7", "Z I"]
        );
        assert_eq!(codes(&world), ["26000"]);
    }
}

#[test]
fn masks_that_changed_since_the_bind_ask_for_another_decision() {
    let mut world = World::open(Setting::default());
    world.send(&[parse("", TEXT), bind("", "", &[]), flush()].concat());
    assert_eq!(world.decided.len(), 1);
    world.mask(vec![support::ssn()]);
    world.send(&[execute("", 0), sync()].concat());
    assert_eq!(world.decided.len(), 2);
    assert_eq!(codes(&world), ["55000", "00000"]);
}

#[test]
fn a_parameter_of_a_users_type_is_unknown() {
    let unknown = corral_model::Effect::Unknown;
    for (types, is_unknown) in [([23, 0], false), ([23, 70_000], true)] {
        for masked in [false, true] {
            let mut world = World::open(Setting { masked, ..Setting::default() });
            let text = "update approve";
            world.send(&[parse_typed("", text, &types), bind("", "", &[]), flush()].concat());
            assert_eq!(world.decided.len(), usize::from(is_unknown), "{types:?}");
            assert_eq!(binds(&world), usize::from(!is_unknown), "{types:?}");
            for statement in &world.decided {
                assert!(statement.facts.effects.contains(unknown));
                assert_eq!(statement.facts.obstacle.is_some(), masked);
            }
        }
    }
}

#[test]
fn an_approval_of_a_users_type_is_looked_at_under_the_same_type() {
    let mut world = World::open(Setting::default());
    let text = "update approve";
    let messages = [parse_typed("", text, &[70_000]), bind("", "", &[]), execute("", 0), sync()];
    world.send(&messages.concat());
    world.told();
    let permit = world.permit(world.decided[0].seq);
    world.input(Input::Decided(permit));
    assert_eq!(world.told(), ["2", "C UPDATE 3", "Z I"]);
    assert_eq!(world.decided.len(), 1);
}

#[test]
fn fetch_does_not_run_what_bind_made() {
    let mut world = World::open(Setting::default());
    let portal = [parse("", "select approve"), bind("c", "", &[]), sync()].concat();
    world.send(&[query("begin"), portal].concat());
    // The target may refuse it and keep the portal.
    world.send(&query("declare c"));
    world.told();
    world.send(&query("fetch c"));
    let told = world.told();
    assert!(told[0].starts_with("E 0A000 corral: \"c\" is a name that Bind used"), "{told:?}");
    assert!(!world.target.log.contains(&"Q fetch c".to_owned()));
    world.send(&query("rollback"));
    world.send(&query("fetch c"));
    assert!(world.target.log.contains(&"Q fetch c".to_owned()), "of an earlier transaction");
}

#[test]
fn fetch_of_a_portal_does_what_its_statement_does() {
    let mut world = World::open(Setting::default());
    let portal = [parse("", "select mystery"), bind("c", "", &[]), sync()].concat();
    world.send(&[query("begin"), portal].concat());
    world.told();
    world.send(&query("fetch c"));
    assert_eq!(world.told(), ["C OK", "Z T"]);
    let fetched = world.decided.last().expect("it was decided");
    assert_eq!(&*fetched.text, "fetch c");
    assert!(fetched.facts.effects.contains(Effect::Unknown), "{:?}", fetched.facts);
    assert!(fetched.facts.effects.contains(Effect::Read), "{:?}", fetched.facts);

    // While something is on its way nobody knows which portal the target has.
    let again = [parse("", "select 5"), bind("c", "", &[]), sync()].concat();
    world.send(&[again, query("fetch c")].concat());
    let refused = world.told().iter().any(|line| line.starts_with("E 0A000"));
    assert!(refused || world.decided.last().expect("decided").facts.effects.contains(Effect::Read));

    // Not with others in one text, not by way of Bind, and not where columns are masked.
    world.send(&[query("rollback"), query("begin")].concat());
    world.send(&[parse("", "select 5"), bind("c", "", &[]), sync()].concat());
    world.told();
    world.send(&query("fetch c; fetch c"));
    assert!(world.told()[0].starts_with("E 0A000"));
    world.send(&[query("rollback"), query("begin")].concat());
    world.send(&[parse("", "select 5"), bind("c", "", &[]), sync()].concat());
    world.told();
    world.send(&[parse("", "fetch c"), bind("", "", &[]), execute("", 0), sync()].concat());
    assert!(world.told().iter().any(|line| line.starts_with("E 0A000")));
    let mut world = World::open(Setting { masked: true, ..Setting::default() });
    world.send(&[query("begin"), parse("", "select 5"), bind("c", "", &[]), sync()].concat());
    world.told();
    world.send(&query("fetch c"));
    assert!(world.told()[0].starts_with("E 0A000"));
}

#[test]
fn a_suspended_portal_that_is_closed_is_completed_once() {
    let mut world = World::open(Setting::default());
    world.send(&query("begin"));
    let rows = [parse("", "select 5"), bind("c", "", &[]), execute("c", 2), flush()].concat();
    world.send(&rows);
    world.send(&[close(b'P', "c"), sync(), query("commit"), terminate()].concat());
    let rows: Vec<u64> = world.completed().iter().map(|done| done.2).collect();
    assert_eq!(rows, [0, 2, 0], "begin, the portal, commit");
}

fn parses(world: &World, text: &str) -> bool {
    world.target.log.iter().any(|line| line.starts_with('P') && line.contains(text))
}

#[test]
fn a_literal_of_an_unknown_statement_is_decided_before_it_is_parsed() {
    let mut world = World::open(Setting::default());
    let text = "update mystery approve '{5}'";
    world.send(&[parse("p", text), flush()].concat());
    world.told();
    assert_eq!(world.decided.len(), 1);
    assert!(!parses(&world, text), "{:?}", world.target.log);
    let denial = Denial::new(DenialKind::ApprovalDenied, "no");
    world.input(Input::Decided(Decision::Deny(denial)));
    world.send(&sync());
    assert_eq!(world.told(), ["E 42501 corral: no", "Z I"]);
    assert!(!parses(&world, text), "{:?}", world.target.log);
    assert!(codes(&world).is_empty());

    // The same without a literal has nothing that could run.
    world.send(&[parse("p", "update mystery approve 5"), sync()].concat());
    assert_eq!(world.told(), ["1", "Z I"]);
    assert_eq!(world.decided.len(), 1);
}

#[test]
fn parse_bind_and_execute_are_one_decision() {
    let mut world = World::open(Setting::default());
    let text = "update mystery approve '{5}'";
    let bound = bind("", "", &[Some("one")]);
    world.send(&[parse("", text), bound, execute("", 0), sync()].concat());
    assert_eq!(world.told(), ["N 00000 corral: approve it at https://gateway/"]);
    assert_eq!(world.decided[0].parameters[0].value.as_deref(), Some("one"));
    let permit = world.permit(world.decided[0].seq);
    world.input(Input::Decided(permit));
    assert_eq!(world.told(), ["1", "2", "C UPDATE 3", "Z I"]);
    assert_eq!(world.decided.len(), 1);
    assert_eq!(world.completed(), [("00000".into(), Some("UPDATE 3".into()), 0)]);
}

#[test]
fn the_permit_of_a_parse_is_for_what_was_decided() {
    let literal = "update mystery 'x'";
    let cases: [(&str, Vec<u8>, Vec<u8>, usize); 5] = [
        ("next", Vec::new(), bind("", "p", &[]), 1),
        ("described", describe(b'S', "p"), bind("", "p", &[]), 1),
        ("other values", Vec::new(), bind("", "p", &[Some("1")]), 1),
        ("other values, later", flush(), bind("", "p", &[Some("1")]), 2),
        ("later", sync(), bind("", "p", &[]), 2),
    ];
    for (name, between, bound, decisions) in cases {
        let mut world = World::open(Setting::default());
        let messages = [parse("p", literal), between, bound, execute("", 0), sync()];
        world.send(&messages.concat());
        assert_eq!(world.decided.len(), decisions, "{name}");
        assert_eq!(codes(&world), vec!["00000"; decisions], "{name}");
        world.send(&terminate());
        assert_eq!(codes(&world).len(), decisions, "{name}");
    }
}

#[test]
fn a_decided_parse_is_completed_once_however_it_ends() {
    let endings: [(&str, Vec<u8>, &str); 4] = [
        ("synced", sync(), "00000"),
        ("another one parsed", [parse("", "select 1"), sync()].concat(), "00000"),
        ("ended", terminate(), "00000"),
        ("refused", [parse("", "forbidden"), sync()].concat(), "00000"),
    ];
    for (name, ending, code) in endings {
        for flushed in [false, true] {
            let mut world = World::open(Setting::default());
            let between = if flushed { flush() } else { Vec::new() };
            world.send(&[parse("p", "update mystery 'x'"), between, ending.clone()].concat());
            world.send(&terminate());
            assert_eq!(codes(&world), [code], "{name}");
        }
    }
    let mut world = World::open(Setting::default());
    world.send(&[parse("p", "select 1"), sync()].concat());
    // The target has the name.
    world.send(&[parse("p", "update mystery 'x'"), flush(), sync()].concat());
    assert_eq!(codes(&world), ["42P05"]);
}
