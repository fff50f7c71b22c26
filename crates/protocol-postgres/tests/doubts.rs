//! Code that nobody knows can put another statement, or a cursor, in the place of what came by Parse
//! and Bind.

#![allow(clippy::panic, reason = "a test may stop at the first surprise")]

mod support;

use corral_model::Effect;
use support::client::*;
use support::{Setting, World};

fn prepared(before: &[Vec<u8>]) -> World {
    let mut world = World::open(Setting::default());
    world.send(&before.concat());
    world.send(&[parse("p", "select 1"), sync()].concat());
    world.told();
    world
}

fn run(name: &str) -> Vec<u8> {
    [bind("", name, &[]), execute("", 0), sync()].concat()
}

/// Questions that are asked for these messages.
fn asked(world: &mut World, messages: &[u8]) -> usize {
    let before = world.target.questions;
    world.send(messages);
    world.target.questions - before
}

#[test]
fn a_statement_that_became_sqls_is_not_bound() {
    for unknown in [query("select mystery"), [extended("mystery"), sync()].concat()] {
        let mut world = prepared(&[]);
        world.send(&unknown);
        world.told();
        world.target.from_sql = vec!["p".to_owned()];
        world.target.log.clear();
        world.send(&run("p"));
        let told = world.told();
        assert_eq!(told, ["E 26000 prepared statement \"p\" does not exist", "Z I"]);
        assert!(!world.target.log.iter().any(|line| line.starts_with('B')));
        world.target.from_sql.clear();
        world.send(&[parse("p", "select 5"), run("p")].concat());
        assert!(world.told().iter().any(|line| line.starts_with("E 42P05")), "the target has one");
    }
}

#[test]
fn what_is_still_the_same_goes_on() {
    let mut world = prepared(&[]);
    assert_eq!(asked(&mut world, &run("p")), 0);
    world.send(&query("select mystery"));
    assert_eq!(asked(&mut world, &run("p")), 2, "names and statements, at once");
    assert_eq!(asked(&mut world, &run("p")), 0);
    assert!(world.told().iter().all(|line| !line.starts_with('E')));
}

#[test]
fn a_session_without_named_statements_is_not_asked_for_any() {
    let mut world = World::open(Setting::default());
    world.send(&query("select mystery"));
    assert_eq!(asked(&mut world, &[extended("select 1"), sync()].concat()), 0);
}

#[test]
fn in_a_transaction_it_is_asked_once_for_each_unknown_code() {
    let mut world = prepared(&[query("begin")]);
    world.send(&query("select mystery"));
    assert_eq!(asked(&mut world, &run("p")), 2);
    assert_eq!(asked(&mut world, &run("p")), 0);
    world.send(&query("declare c body"));
    world.send(&query("fetch c"));
    assert!(asked(&mut world, &run("p")) > 0, "the cursor may run it on");
    world.send(&query("commit"));
    assert!(asked(&mut world, &run("p")) > 0, "so may a trigger at the commit");
    assert_eq!(asked(&mut world, &run("p")), 0);
}

#[test]
fn a_portal_that_may_be_another_one_is_unknown() {
    let is_unknown = |world: &World| {
        let last = world.decided.last().expect("a decision");
        last.facts.effects.contains(Effect::Unknown)
    };
    let bound = [bind("c", "p", &[]), sync()].concat();
    let executed = [execute("c", 0), sync()].concat();
    let mut world = prepared(&[query("begin")]);
    world.send(&[bound.clone(), query("select mystery")].concat());
    world.send(&executed);
    assert!(is_unknown(&world));
    world.send(&query("fetch c"));
    assert!(is_unknown(&world));
    world.send(&[close(b'P', "c"), bound, executed].concat());
    assert!(!is_unknown(&world), "bound since");
}
