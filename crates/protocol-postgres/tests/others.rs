//! While one session reads the catalogue, the others wait for it, and not for long.

mod support;

use std::time::Duration;

use corral_gate::Input;
use corral_model::event::CloseReason;
use corral_model::limits;
use support::client::*;
use support::target::Reply;
use support::{Setting, World};

const SOON: Duration = Duration::from_millis(10);

/// One session that changed objects and reads the catalogue, its target silent; and another one.
fn reading() -> (World, World) {
    let mut reader = World::open(Setting::default());
    let other = reader.neighbour();
    reader.send(&query("create table t"));
    reader.told();
    reader.is_target_stalled = true;
    reader.send(&query("select 1"));
    assert!(reader.told().is_empty());
    (reader, other)
}

fn tags(told: &[String]) -> Vec<&str> {
    told.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect()
}

#[test]
fn what_one_session_reads_all_go_by() {
    let (mut reader, mut other) = reading();
    let before = other.target.questions;
    other.send(&query("select 1"));
    other.later(SOON);
    assert!(other.told().is_empty());
    assert_eq!(other.target.questions, before, "it waits");
    reader.is_target_stalled = false;
    reader.settle();
    assert_eq!(tags(&reader.told()), ["T", "D", "C", "Z"]);
    other.later(2 * SOON);
    assert_eq!(tags(&other.told()), ["T", "D", "C", "Z"]);
    assert_eq!(other.target.questions, before + 1, "its own path");
}

#[test]
fn a_reader_that_hangs_holds_others_up_for_a_moment_only() {
    let (_reader, mut other) = reading();
    let before = other.target.questions;
    other.send(&query("select 1"));
    other.later(limits::CATALOGUE_WAIT_MAX / 2);
    assert!(other.told().is_empty());
    for _ in 0..10 {
        other.later(limits::CATALOGUE_WAIT_MAX / 10);
    }
    assert_eq!(tags(&other.told()), ["T", "D", "C", "Z"]);
    assert_eq!(other.target.questions, before + 2, "catalogue and session");
}

#[test]
fn a_reader_that_is_gone_holds_nobody_up() {
    let (mut reader, mut other) = reading();
    other.send(&query("select 1"));
    reader.input(Input::TargetClosed);
    assert!(reader.closed.is_some());
    drop(reader);
    other.later(SOON);
    assert_eq!(tags(&other.told()), ["T", "D", "C", "Z"]);
}

#[test]
fn who_turns_out_to_need_no_names_holds_nobody_up() {
    let mut first = World::open(Setting::default());
    let mut other = first.neighbour();
    first.send(&query("create table t"));
    first.send(&query("show new"));
    let before = other.target.questions;
    other.send(&query("select 1"));
    assert_eq!(tags(&other.told()), ["T", "D", "C", "Z"]);
    assert_eq!(other.target.questions, before + 2, "catalogue and session");
}

#[test]
fn an_error_in_front_skips_what_waits() {
    let (_reader, mut other) = reading();
    other.is_target_stalled = true;
    // The first needs no names, and fails.
    let failure = Reply::Error("42704", "there is no such setting");
    other.target.replies.insert("show broken".to_owned(), failure);
    other.send(&[extended("show broken"), extended("select 1"), sync()].concat());
    other.is_target_stalled = false;
    other.settle();
    assert_eq!(tags(&other.told()), ["1", "2", "n", "E", "Z"]);
    other.send(&query("show x"));
    assert_eq!(other.told().last().map(String::as_str), Some("Z I"));
}

#[test]
fn a_session_ends_while_it_waits() {
    let (_reader, mut other) = reading();
    other.send(&query("select 1"));
    other.input(Input::TargetClosed);
    assert_eq!(other.closed, Some(CloseReason::Target));
    assert!(other.decided.is_empty());
}
