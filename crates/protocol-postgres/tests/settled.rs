//! Names of statements and portals that the target refuses, or has not confirmed yet.

mod support;

use support::client::*;
use support::target::Reply;
use support::{Setting, World};

/// The texts of the decisions.
fn decided(world: &World) -> Vec<String> {
    world.decided.iter().map(|one| one.text.to_string()).collect()
}

fn tags(told: &[String]) -> Vec<&str> {
    told.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect()
}

fn executed(sql: &str, name: &str) -> Vec<u8> {
    [parse(name, sql), bind("", name, &[]), execute("", 0), sync()].concat()
}

#[test]
fn a_statement_that_could_not_be_made_does_not_stand_for_the_one_that_there_is() {
    let mut world = World::open(Setting::default());
    world.send(&[parse("s", "alter table t"), sync()].concat());
    world.told();
    world.decided.clear();
    // The second Parse of `s` fails; what the target has is still the first.
    let packet = [parse("s", "select 1"), sync(), bind("", "s", &[]), execute("", 0), sync()];
    world.send(&packet.concat());
    assert_eq!(decided(&world), ["alter table t"]);
    assert_eq!(tags(&world.told()), ["E", "Z", "2", "C", "Z"]);
}

#[test]
fn a_portal_that_could_not_be_made_is_not_executed() {
    let mut world = World::open(Setting::default());
    let made = [parse("a", "alter table t"), bind("p", "a", &[]), parse("b", "select 1"), sync()];
    world.send(&[vec![query("begin")], made.to_vec()].concat().concat());
    world.told();
    world.decided.clear();
    world.target.forget_statements();
    world.send(&[bind("p", "b", &[]), sync(), execute("p", 0), sync()].concat());
    assert_eq!(decided(&world), ["alter table t"], "the target still has the first");
}

#[test]
fn what_an_error_takes_back_does_not_return_behind_what_came_later() {
    let mut world = World::open(Setting::default());
    world.send(&[parse("s", "select 1"), sync()].concat());
    world.told();
    world.is_target_stalled = true;
    let first = [parse("s", "select 5"), sync()].concat();
    let second = [close(b'S', "s"), parse("s", "alter table t"), sync()].concat();
    world.send(&[first, second].concat());
    world.is_target_stalled = false;
    world.settle();
    world.decided.clear();
    world.send(&[bind("", "s", &[]), execute("", 0), sync()].concat());
    assert_eq!(decided(&world), ["alter table t"]);
}

#[test]
fn what_sql_closed_does_not_return_with_an_error() {
    let mut world = World::open(Setting::default());
    world.send(&[parse("s", "select 1"), sync()].concat());
    world.told();
    world.is_target_stalled = true;
    world.send(&[parse("s", "select 5"), sync()].concat());
    world.send(&query("deallocate s"));
    world.is_target_stalled = false;
    world.settle();
    world.told();
    world.decided.clear();
    world.send(&[bind("", "s", &[]), execute("", 0), sync()].concat());
    assert_eq!(decided(&world), [""; 0]);
    assert_eq!(tags(&world.told()), ["E", "Z"]);
}

#[test]
fn the_unnamed_statement_is_the_last_one_that_was_made() {
    let mut world = World::open(Setting::default());
    let failure = Reply::Error("42601", "no");
    world.target.replies.insert("broken".to_owned(), failure);
    world.is_target_stalled = true;
    world.send(&[executed("select 1/0", ""), executed("select 1", "")].concat());
    world.send(&[bind("", "", &[]), execute("", 0), sync()].concat());
    world.is_target_stalled = false;
    world.settle();
    assert_eq!(decided(&world), ["select 1/0", "select 1", "select 1"]);
}

#[test]
fn pipelines_of_many_syncs_do_not_wait() {
    let mut world = World::open(Setting::default());
    world.is_target_stalled = true;
    world.send(&[executed("select 1", ""), executed("select 5", "")].concat());
    assert_eq!(decided(&world), ["select 1", "select 5"]);
}

#[test]
fn a_query_behind_a_failed_message_is_skipped_with_what_follows() {
    let mut world = World::open(Setting::default());
    world.is_target_stalled = true;
    let rest = [query("set search_path"), query("select 5"), extended("select 1"), sync()];
    world.send(&[vec![extended("select 1/0")], rest.to_vec()].concat().concat());
    world.is_target_stalled = false;
    world.settle();
    assert_eq!(tags(&world.told()), ["1", "2", "n", "E", "Z"]);
}

#[test]
fn a_copy_is_awaited_though_an_earlier_query_ends() {
    let mut world = World::open(Setting::default());
    world.is_target_stalled = true;
    let copy = [query("copy t from stdin"), message(b'd', b"1\n"), message(b'c', b"")];
    world.send(&[vec![query("select 1")], copy.to_vec()].concat().concat());
    world.is_target_stalled = false;
    world.settle();
    assert_eq!(tags(&world.told()), ["T", "D", "C", "Z", "G", "C", "Z"]);
    assert_eq!(world.target.log.iter().filter(|line| line.starts_with('d')).count(), 1);
}
