//! SQL's PREPARE and EXECUTE: what EXECUTE does is known where the PREPARE is, and only there.

#![allow(clippy::panic, reason = "a test may stop at the first surprise")]

mod support;

use corral_model::Effect;
use support::client::*;
use support::target::Reply;
use support::{Setting, World};

fn is_unknown(world: &World) -> bool {
    let last = world.decided.last().expect("a decision");
    last.facts.effects.contains(Effect::Unknown)
}

fn prepared() -> World {
    let mut world = World::open(Setting::default());
    world.send(&query("prepare p as update"));
    world.send(&query("execute p"));
    assert!(!is_unknown(&world));
    world
}

#[test]
fn execute_has_the_effects_of_what_was_prepared() {
    let mut world = prepared();
    world.send(&query("select 1"));
    world.send(&query("execute p"));
    assert!(!is_unknown(&world));
    assert_eq!(world.decided.len(), 4, "each EXECUTE is one decision");
    world.send(&query("execute q"));
    assert!(is_unknown(&world), "another name");
}

#[test]
fn what_may_have_changed_the_name_makes_execute_unknown() {
    let cases: [(&str, Vec<u8>); 10] = [
        ("deallocated", query("deallocate p")),
        ("all deallocated", query("deallocate")),
        ("discarded", query("discard all")),
        ("prepared by message", [parse("p", "select 1"), sync()].concat()),
        ("closed by message", [close(b'S', "p"), sync()].concat()),
        ("unknown code", query("select mystery")),
        ("unknown code while planning", [parse("", "mystery"), bind("", "", &[]), sync()].concat()),
        ("other names", query("set search_path = a")),
        ("other objects", query("create table t")),
        ("not alone", query("prepare p as update; select 1")),
    ];
    for (name, between) in cases {
        let mut world = prepared();
        world.send(&between);
        world.send(&query("execute p"));
        assert!(is_unknown(&world), "{name}");
        world.send(&query("prepare p as update"));
        world.send(&query("execute p"));
        assert!(!is_unknown(&world), "{name}: known again");
    }
}

#[test]
fn only_a_prepare_that_succeeded_counts() {
    let mut world = World::open(Setting::default());
    world.send(&[query("prepare p as update"), query("execute p")].concat());
    assert!(is_unknown(&world), "not answered yet");
    let mut world = prepared();
    world.target.replies.insert("prepare".into(), Reply::Error("42P05", "already exists"));
    world.send(&query("prepare p as delete"));
    world.send(&query("execute p"));
    assert!(is_unknown(&world), "failed");
}

#[test]
fn unknown_code_is_distrusted_up_to_the_end_of_its_transaction() {
    let mut world = World::open(Setting::default());
    for text in ["begin", "select mystery", "prepare p as update", "execute p"] {
        world.send(&query(text));
    }
    assert!(is_unknown(&world));
    for text in ["commit", "prepare p as update", "execute p"] {
        world.send(&query(text));
    }
    assert!(!is_unknown(&world));
}

#[test]
fn an_execute_by_message_stays_unknown() {
    let mut world = prepared();
    world.send(&[extended("execute p"), sync()].concat());
    assert!(is_unknown(&world));
}
