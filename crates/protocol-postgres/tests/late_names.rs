//! Names that the target looks up when a cursor or portal runs, and not when it is opened: those in
//! the bodies of functions, and those of statements that are no queries.

#![allow(clippy::panic, reason = "a test may stop at the first surprise")]

mod support;

use std::sync::atomic::Ordering;

use corral_model::Effect;
use support::client::*;
use support::{Setting, World};

/// Names mean something else from here on, and the session may know.
fn rename(world: &mut World) {
    world.words.generation.fetch_add(1, Ordering::Relaxed);
    world.send(&query("alter function"));
    world.told();
}

fn in_transaction(setting: Setting, messages: &[Vec<u8>]) -> World {
    let mut world = World::open(setting);
    world.send(&query("begin"));
    world.send(&messages.concat());
    world.told();
    world
}

fn functions(world: &World) -> Vec<String> {
    world.decided.last().expect("a decision").facts.functions.clone()
}

fn is_unknown(world: &World) -> bool {
    world.decided.last().expect("a decision").facts.effects.contains(Effect::Unknown)
}

fn bound(text: &str) -> Vec<u8> {
    [parse("s", text), bind("c", "s", &[]), sync()].concat()
}

#[test]
fn fetch_does_what_the_functions_of_the_cursor_do_by_now() {
    for fetch in [query("fetch c"), [extended("fetch c"), sync()].concat()] {
        let mut world = in_transaction(Setting::default(), &[query("declare c body")]);
        world.send(&fetch);
        assert!(!is_unknown(&world));
        assert_eq!(functions(&world), ["g0"]);
        rename(&mut world);
        world.send(&fetch);
        assert_eq!(functions(&world), ["g0", "g1"]);
        assert_eq!(world.decided.last().map(|one| &*one.text), Some("fetch c"));
    }
}

#[test]
fn fetch_of_a_plan_is_not_looked_at_again() {
    let mut world = in_transaction(Setting::default(), &[query("declare c")]);
    rename(&mut world);
    world.send(&query("fetch c"));
    assert_eq!(functions(&world), ["g1"], "its own");
    assert!(!is_unknown(&world));
}

#[test]
fn fetch_of_a_cursor_that_nobody_saw_is_unknown() {
    let mut world = in_transaction(Setting::default(), &[]);
    world.send(&query("fetch c"));
    assert!(is_unknown(&world));
    let mut world = in_transaction(Setting::default(), &[query("declare c")]);
    world.send(&query("fetch c"));
    assert!(!is_unknown(&world));
    // Such code may open another one under the name.
    world.send(&query("select mystery"));
    world.send(&query("fetch c"));
    assert!(is_unknown(&world));
    world.send(&query("declare c; fetch c"));
    assert!(!is_unknown(&world));
    world.send(&query("fetch d; declare d"));
    assert!(is_unknown(&world), "in front of its DECLARE");
}

#[test]
fn a_cursor_that_runs_functions_at_the_commit_is_unknown() {
    for (text, expected) in [("declare c hold body", true), ("declare c hold", false)] {
        let world = in_transaction(Setting::default(), &[query(text)]);
        assert_eq!(is_unknown(&world), expected, "{text}");
    }
}

#[test]
fn another_cursor_of_the_name_may_be_the_one() {
    // The second may have failed, and a savepoint brought the first one back.
    let cursors = [query("declare c body"), query("declare c")];
    let mut world = in_transaction(Setting::default(), &cursors);
    rename(&mut world);
    world.send(&query("fetch c"));
    assert_eq!(functions(&world), ["g0", "g1"]);
    world.send(&query("commit"));
    world.send(&query("begin"));
    world.send(&query("fetch c"));
    assert_eq!(functions(&world), ["g1"], "it is gone");
}

#[test]
fn fetch_of_a_portal_does_what_its_functions_do_by_now() {
    let mut world = in_transaction(Setting::default(), &[bound("select body")]);
    rename(&mut world);
    world.send(&query("fetch c"));
    assert_eq!(functions(&world), ["g0", "g1"]);
}

#[test]
fn execute_does_what_its_functions_do_by_now() {
    let run = [execute("c", 0), sync()].concat();
    let mut world = in_transaction(Setting::default(), &[bound("select body")]);
    world.send(&run);
    assert_eq!(functions(&world), ["g0"]);
    let mut world = in_transaction(Setting::default(), &[bound("select body")]);
    rename(&mut world);
    world.send(&run);
    assert_eq!(functions(&world), ["g0", "g1"]);

    let mut world = in_transaction(Setting::default(), &[bound("select plan")]);
    rename(&mut world);
    world.send(&run);
    assert_eq!(functions(&world), ["g0"], "a plan is what it was");
}

#[test]
fn execute_of_other_masks_than_were_foreseen_is_refused() {
    let masked = Setting { masked: true, ..Setting::default() };
    let mut world = in_transaction(masked, &[bound("select body")]);
    rename(&mut world);
    world.send(&[execute("c", 0), sync()].concat());
    let told = world.told();
    assert!(told[0].starts_with("E 0A000 corral: names in this statement mean"), "{told:?}");
}

#[test]
fn a_suspended_portal_goes_on_while_its_functions_mean_the_same() {
    let mut world = World::open(Setting::default());
    world.target.replies.insert("select body".into(), support::target::Reply::Numbers(9));
    world.send(&query("begin"));
    let two = [execute("c", 2), sync()].concat();
    for messages in [bound("select body"), two.clone(), two.clone()] {
        world.send(&messages);
    }
    assert_eq!(world.decided.len(), 2, "begin, and one for both");
    rename(&mut world);
    world.send(&two);
    assert_eq!(world.decided.len(), 4);
    assert_eq!(functions(&world), ["g0", "g1"]);
    world.send(&[query("commit"), terminate()].concat());
    let rows: Vec<u64> = world.completed().iter().map(|done| done.2).collect();
    assert_eq!(rows.iter().sum::<u64>(), 6, "{rows:?}");
}
