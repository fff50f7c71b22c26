//! Whole conversations: what a client is told, what a target is sent, what is recorded.

#![allow(clippy::panic, reason = "a test may stop at the first surprise")]

mod support;

use std::sync::atomic::Ordering;

use corral_gate::decision::{Denial, DenialKind};
use corral_gate::{Decision, Input};
use corral_model::event::{CloseReason, EventBody};
use corral_model::resource::RecordRows;
use support::client::*;
use support::target::{Reply, error};
use support::{Setting, World};

const DENIED: &str = "E 42501 corral: rule-1: not for you (decision d-1) P=8";

fn masked() -> Setting {
    Setting { masked: true, ..Setting::default() }
}

#[test]
fn a_session_opens_after_its_names_are_known() {
    let mut world = World::new(Setting::default());
    world.log_in();
    assert_eq!(
        world.told(),
        [
            "R 3",
            "R 0",
            "S server_version 15.20",
            "S client_encoding UTF8",
            "K [0, 0, 0, 77, 85, 102, 119, 136]",
            "Z I"
        ]
    );
    assert_eq!(world.target.questions, 2);
    let expect = ["user", "service", "database", "shop", "client_encoding", "UTF8"];
    assert_eq!(world.target.startup[..6], expect);
}

#[test]
fn what_another_session_changed_is_seen_by_a_text_that_is_known() {
    let mut world = World::open(Setting::default());
    world.send(&query("select 1"));
    world.send(&query("select 1"));
    let mut other = world.neighbour();
    other.send(&query("create table t"));
    world.words.generation.fetch_add(1, Ordering::Relaxed);
    other.send(&query("select 5"));
    let questions = world.target.questions;
    world.send(&query("select 1"));
    let asked = world.target.questions - questions;
    assert_eq!(asked, 1, "the other one asked for the objects, and each asks for its own path");
    let seen: Vec<_> = world.decided.iter().map(|one| one.facts.functions.clone()).collect();
    assert_eq!(seen, [["g0"], ["g0"], ["g1"]]);
}

#[test]
fn a_commit_is_seen_by_others_before_its_pipeline_ends() {
    let mut world = World::open(Setting::default());
    let mut other = world.neighbour();
    let sent = [extended("begin"), extended("create table t"), extended("commit"), flush()];
    other.send(&sent.concat());
    world.words.generation.fetch_add(1, Ordering::Relaxed);
    world.send(&query("select 1"));
    let seen = world.decided.last().map(|one| one.facts.functions.clone());
    assert_eq!(seen, Some(vec!["g1".to_owned()]));
}

#[test]
fn a_definition_in_a_block_is_seen_by_others_when_it_is_committed() {
    for (begin, asked) in [("begin", 0), ("show x", 1)] {
        let mut world = World::open(Setting::default());
        let mut other = world.neighbour();
        let done = Reply::Done("ALTER TABLE");
        other.target.replies.insert("alter table t".to_owned(), done);
        other.send(&query(begin));
        let before = world.target.questions;
        // Without a Sync, so that nothing but its completion tells that it is done.
        other.send(&[extended("alter table t"), flush()].concat());
        world.send(&query("select 1"));
        assert_eq!(world.target.questions - before, 2 * asked, "{begin}");
    }
}

#[test]
fn temporary_objects_are_asked_for_where_there_are_some() {
    let mut world = World::new(Setting::default());
    // Another client of a pooler left them.
    world.target.has_temporary = true;
    world.log_in();
    assert_eq!(world.told().last().map(String::as_str), Some("Z I"));
    assert_eq!(world.target.questions, 3, "catalogue, session, and then they");
    world.send(&query("set search_path = a"));
    world.send(&query("select 1"));
    assert_eq!(world.target.questions, 5, "both at once");
    world.target.has_temporary = false;
    for (questions, why) in [(7, "they are gone, it turns out"), (8, "nobody asks for them")] {
        world.send(&query("set search_path = a"));
        world.send(&query("select 1"));
        assert_eq!(world.target.questions, questions, "{why}");
    }
    world.target.has_temporary = true;
    world.send(&query("begin"));
    world.send(&query("set search_path = a"));
    world.send(&[parse("", "select 1"), bind("", "", &[]), execute("", 0), flush()].concat());
    assert_eq!(world.told().last().map(String::as_str), Some("C SELECT 1"));
    assert_eq!(world.target.questions, 10, "in a transaction and a pipeline, too");
    world.send(&sync());
    assert_eq!(world.told(), ["Z T"]);
}

#[test]
fn version_3_2_gets_a_long_cancel_key() {
    let mut world = World::new(Setting { minor: 2, ..Setting::default() });
    world.log_in();
    let mut key = support::SECRET;
    key[..4].copy_from_slice(&77_u32.to_be_bytes());
    assert!(world.told().contains(&format!("K {key:?}")));
    assert_eq!(world.cancel_key, key);
}

#[test]
fn simple_queries_are_decided_recorded_and_answered() {
    let mut world = World::open(Setting::default());
    world.send(&query("select 5"));
    assert_eq!(world.told(), ["T 1", "D 1", "D 2", "D 3", "D 4", "D 5", "C SELECT 5", "Z I"]);
    assert_eq!(world.completed(), [("00000".into(), Some("SELECT 5".into()), 5)]);
    world.send(&query("select 1/0"));
    assert_eq!(
        world.told(),
        ["E 22012 division by 123-45-6789 D=Detail division by 123-45-6789 P=7", "Z I"]
    );
    assert_eq!(world.completed().last(), Some(&("22012".into(), None, 0)));
    world.send(&query(""));
    assert_eq!(world.told(), ["I", "Z I"]);
}

#[test]
fn several_statements_in_one_query_are_one_decision() {
    let mut world = World::open(Setting::default());
    world.send(&query("update; select 5"));
    assert_eq!(world.decided.len(), 1);
    assert_eq!(world.completed(), [("00000".into(), Some("SELECT 5".into()), 5)]);
    world.told();
    world.send(&query("update; forbidden"));
    assert_eq!(world.told(), ["E 42501 corral: rule-1: not for you (decision d-1) P=9", "Z I"]);
    assert_eq!(world.target.log, ["Q update; select 5"]);
}

#[test]
fn a_denial_outside_a_transaction_does_not_reach_the_target() {
    let mut world = World::open(Setting::default());
    world.send(&[query("select forbidden"), query("select 1")].concat());
    assert_eq!(world.told(), [DENIED, "Z I", "T 1", "D 1", "C SELECT 1", "Z I"]);
    assert_eq!(world.target.log, ["Q select 1"]);
}

#[test]
fn a_denial_in_a_transaction_fails_it_at_the_target_too() {
    let mut world = World::open(Setting::default());
    world.send(&query("begin"));
    world.send(&query("select forbidden"));
    world.send(&query("select 1"));
    world.send(&query("rollback"));
    assert_eq!(
        world.told(),
        [
            "C BEGIN",
            "Z T",
            DENIED,
            "Z E",
            "E 25P02 current transaction is aborted, commands ignored until end of transaction block",
            "Z E",
            "C COMMIT",
            "Z I"
        ]
    );
    assert_eq!(world.target.log[1], "Q corral refused \"d-1.\"");
    assert!(!world.target.log.iter().any(|line| line.contains("forbidden")));
}

#[test]
fn a_denial_in_a_pipeline_keeps_the_order_of_answers() {
    let mut world = World::open(Setting::default());
    let pipeline = [
        extended("select 1"),
        extended("select forbidden"),
        extended("select 5"),
        sync(),
        extended("select 1"),
        sync(),
    ];
    world.send(&pipeline.concat());
    assert_eq!(
        world.told(),
        [
            "1",
            "2",
            "T 1",
            "D 1",
            "C SELECT 1",
            DENIED,
            "Z I",
            "1",
            "2",
            "T 1",
            "D 1",
            "C SELECT 1",
            "Z I"
        ]
    );
    let decided: Vec<&str> = world.decided.iter().map(|statement| &*statement.text).collect();
    assert_eq!(decided, ["select 1", "select 1"], "what is skipped is not decided");
    assert!(!world.target.log.iter().any(|line| line.contains("select 5")));
}

#[test]
fn an_error_of_the_target_skips_what_was_sent_ahead() {
    let mut world = World::open(Setting::default());
    let ahead = [
        parse("a", "select 1/0"),
        bind("", "a", &[]),
        execute("", 0),
        parse("b", "select 1"),
        bind("", "b", &[]),
        execute("", 0),
        sync(),
        bind("", "b", &[]),
        sync(),
    ];
    world.send(&ahead.concat());
    let told = world.told();
    assert!(told[2].starts_with("E 22012"), "{told:?}");
    assert_eq!(told[3], "Z I");
    assert!(told[4].starts_with("E 26000"), "{told:?}");
    assert_eq!(told[5], "Z I");
    let codes: Vec<String> = world.completed().into_iter().map(|done| done.0).collect();
    assert!(codes.contains(&"22012".to_owned()));
}

#[test]
fn prepared_statements_cost_one_analysis() {
    let mut world = World::open(Setting::default());
    world.send(&[parse("p", "select 1"), sync()].concat());
    let works = world.works;
    for _ in 0..10 {
        world.send(&[bind("", "p", &[]), execute("", 0), sync()].concat());
        world.send(&query("select 1"));
    }
    assert_eq!(world.works, works);
    assert_eq!(world.decided.len(), 20);
}

#[test]
fn texts_that_differ_in_compared_literals_cost_one_analysis() {
    let mut world = World::open(Setting::default());
    world.send(&query("select 1 where id = 10"));
    let works = world.works;
    for id in 11..21 {
        world.send(&query(&format!("select 1 where id = {id}")));
    }
    assert_eq!(world.works, works);
    // Each is decided, shown and sent as it is.
    let texts: Vec<&str> = world.decided.iter().map(|statement| &*statement.text).collect();
    assert_eq!(texts[9..], ["select 1 where id = 19", "select 1 where id = 20"]);
    assert_eq!(world.target.log.last().map(String::as_str), Some("Q select 1 where id = 20"));
}

#[test]
fn an_outline_is_analysed_again_when_anything_else_differs() {
    let mut world = World::open(Setting::default());
    let analyses = |world: &mut World, text: &str| {
        let works = world.works;
        world.send(&query(text));
        world.works - works
    };
    assert!(analyses(&mut world, "select 1 where id = 10") > 0);
    assert_eq!(analyses(&mut world, "select 1 where id = 20"), 0);
    // Text outside the literal, its length, its kind.
    for other in [
        "select 2 where id = 10",
        "select 1 where id < 10",
        "select 1 where id = 100",
        "select 1 where id = '1'",
        "select 1 where id = 1.",
        "select 1 where id = 10 ",
    ] {
        assert!(analyses(&mut world, other) > 0, "{other}");
    }
    // What names mean.
    world.words.generation.fetch_add(1, Ordering::Relaxed);
    world.send(&query("set search_path"));
    assert!(analyses(&mut world, "select 1 where id = 30") > 0);
    assert_eq!(
        world.decided.last().map(|last| last.facts.functions.clone()),
        Some(vec!["g1".into()])
    );
    // What is masked.
    world.mask(vec![support::ssn()]);
    assert!(analyses(&mut world, "select 1 where id = 40") > 0);
}

#[test]
fn parameters_are_bound_to_the_decision() {
    let mut world = World::open(Setting::default());
    let messages =
        [parse("", "select 1"), bind("", "", &[Some("one"), None]), execute("", 0), sync()];
    world.send(&messages.concat());
    let parameters = &world.decided[0].parameters;
    assert_eq!(parameters[0].value.as_deref(), Some("one"));
    assert_eq!(parameters[1].value, None);
}

#[test]
fn a_suspended_portal_goes_on_under_its_permit() {
    let mut world = World::open(Setting::default());
    let portal = [parse("", "select 5"), bind("c", "", &[]), execute("c", 2), flush()];
    world.send(&query("begin"));
    world.told();
    world.send(&portal.concat());
    assert_eq!(world.told(), ["1", "2", "D 1", "D 2", "s"]);
    assert!(world.rows.values().eq(&[2]), "they count before the end");
    world.send(&[execute("c", 2), execute("c", 2), sync()].concat());
    assert_eq!(world.told(), ["D 3", "D 4", "s", "D 5", "C SELECT 1", "Z T"]);
    assert!(world.rows.values().eq(&[4]), "all of the statement's");
    let rows: u64 = world.completed().iter().map(|done| done.2).sum();
    assert_eq!(rows, 5);
    world.send(&query("commit"));
    world.told();
    world.send(&[execute("c", 0), sync()].concat());
    assert_eq!(world.told(), ["E 34000 portal \"c\" does not exist", "Z I"]);
}

#[test]
fn a_suspension_does_not_give_its_permit_to_the_next_portal_of_the_name() {
    let mut world = World::open(Setting::default());
    world.send(&query("begin"));
    world.told();
    let first = [parse("a", "select 5"), bind("", "a", &[]), execute("", 1)].concat();
    let second = [parse("b", "update approve"), bind("", "b", &[]), flush()].concat();
    world.send(&[first, second].concat());
    assert_eq!(world.told(), ["1", "2", "D 1", "s", "1", "2"]);
    world.send(&[execute("", 0), sync()].concat());
    let told = world.told();
    assert!(told[0].starts_with("N 00000 corral: approve it"), "{told:?}");
    let ran = world.target.log.iter().filter(|line| line.starts_with('E')).count();
    assert_eq!(ran, 1, "{:?}", world.target.log);
}

#[test]
fn a_name_that_sql_took_over_is_not_believed() {
    let mut world = World::open(Setting::default());
    world.send(&[parse("x", "select 1"), sync()].concat());
    world.send(&query("prepare x as delete"));
    world.told();
    world.send(&[bind("", "x", &[]), execute("", 0), sync()].concat());
    assert_eq!(world.told(), ["E 26000 prepared statement \"x\" does not exist", "Z I"]);
    world.send(&[parse("corral.question", "select 1"), sync()].concat());
    assert!(world.told()[0].starts_with("E 42602 corral:"));
}

#[test]
fn names_that_changed_since_the_parse_are_refused_at_the_bind() {
    let mut world = World::open(Setting::default());
    // Too long to be kept, so that the Bind analyses again.
    let text = format!("select 1 {}", "x".repeat(70_000));
    world.send(&[parse("p", &text), sync()].concat());
    world.told();
    world.send(&[bind("", "p", &[]), execute("", 0), sync()].concat());
    assert_eq!(world.told(), ["2", "C OK", "Z I"]);
    world.words.generation.fetch_add(1, Ordering::Relaxed);
    world.send(&[bind("", "p", &[]), execute("", 0), sync()].concat());
    let told = world.told();
    assert!(told[0].starts_with("E 0A000 corral: names in this statement"), "{told:?}");
    assert_eq!(told[1..], ["Z I"]);
    assert_eq!(world.decided.len(), 1);
}

#[test]
fn a_portal_that_ran_ahead_of_the_mask_is_looked_at_again() {
    let mut world = World::open(Setting::default());
    world.send(&query("begin"));
    let text = "select id, ssn from people";
    world.send(&[parse("", text), bind("c", "", &[]), execute("c", 1), flush()].concat());
    assert!(world.told().contains(&"D 1|123-45-6789".to_owned()));
    world.mask(vec![support::ssn()]);
    world.send(&[execute("c", 0), sync()].concat());
    assert_eq!(world.told(), ["D 2|****", "C SELECT 1", "Z T"]);
}

#[test]
fn what_changes_names_is_followed_by_a_question() {
    let mut world = World::open(Setting::default());
    world.send(&query("select 1"));
    let before = world.target.questions;
    world.send(&query("set search_path = a"));
    world.send(&query("select 1"));
    assert_eq!(world.target.questions, before + 1, "the session is probed");
    world.send(&query("begin"));
    world.send(&query("create table t"));
    world.send(&query("select 1"));
    let in_transaction = world.target.questions;
    assert_eq!(in_transaction, before + 3, "catalogue and session");
    let plain = world.target.plain_questions;
    assert_eq!(plain, 3, "one when it opened; in the transaction what it changes is put back");
    world.send(&query("rollback"));
    world.send(&query("select 1"));
    assert_eq!(world.target.questions, in_transaction + 2);
    assert_eq!(world.target.plain_questions, plain + 1);
    world.send(&query("select 1"));
    assert_eq!(world.target.questions, in_transaction + 2);
}

#[test]
fn a_cancel_that_meets_a_question_cancels_the_statement_behind_it() {
    let cancelled = "E 57014 canceling statement due to user request";
    let mut world = World::open(Setting::default());
    world.send(&query("set search_path = a"));
    world.told();
    world.target.cancels_question = true;
    world.send(&query("select 1"));
    assert_eq!(world.told(), [cancelled, "Z I"]);
    world.target.cancels_question = true;
    world.send(&[extended("select 1"), sync()].concat());
    assert_eq!(world.told(), [cancelled, "Z I"]);
    world.send(&query("select 1"));
    assert_eq!(world.told().len(), 4, "a description, a row, a tag, ready");

    world.send(&query("begin"));
    world.send(&query("set search_path = b"));
    world.told();
    world.target.cancels_question = true;
    world.send(&query("select 1"));
    assert_eq!(world.told(), [cancelled, "Z E"]);
    world.send(&query("rollback"));
    world.told();

    // Within a pipeline that is open.
    world.send(&query("set search_path = c"));
    world.told();
    world.send(&extended("select 1"));
    world.target.cancels_question = true;
    world.send(&[extended("set search_path = d"), extended("select 1"), sync()].concat());
    let told = world.told();
    assert!(told.contains(&cancelled.to_owned()), "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("Z I"));
}

#[test]
fn a_question_in_a_failed_transaction_fails_as_the_statement_would() {
    let mut world = World::open(Setting::default());
    world.send(&[query("begin"), query("select 1/0"), query("set search_path = a")].concat());
    assert_eq!(world.told().last().map(String::as_str), Some("Z E"));
    // What an open pipeline did to the transaction is not known before its Sync.
    world.send(&[parse("k", "rollback"), extended("select 1"), sync()].concat());
    let aborted = "current transaction is aborted, commands ignored until end of transaction block";
    assert_eq!(world.told(), ["1".to_owned(), format!("E 25P02 {aborted}"), "Z E".to_owned()]);
}

#[test]
fn questions_inside_a_pipeline_disturb_nothing() {
    let mut world = World::open(Setting::default());
    let pipeline = [
        extended("set search_path = a"),
        extended("select 5"),
        extended("select 1/0"),
        extended("select 1"),
        sync(),
    ];
    world.send(&pipeline.concat());
    let told = world.told();
    assert_eq!(told[..5], ["1", "2", "n", "C OK", "1"]);
    assert_eq!(told.iter().filter(|line| line.starts_with("D ")).count(), 5);
    assert!(told[told.len() - 2].starts_with("E 22012"));
    assert_eq!(told[told.len() - 1], "Z I");
}

#[test]
fn statements_that_need_no_names_are_not_preceded_by_a_question() {
    let mut world = World::open(Setting::default());
    world.send(&query("set search_path = a"));
    let before = world.target.questions;
    world.send(&query("begin"));
    world.send(&query("show x"));
    assert_eq!(world.target.questions, before);
}

#[test]
fn a_statement_that_comes_with_the_end_of_its_session_is_not_decided() {
    let mut world = World::open(Setting::default());
    world.send(&query("select 1"));
    world.decided.clear();
    // A driver may have both to tell before it asks what is to be done.
    world.machine.buffers().client_in.extend_from_slice(&query("select 1"));
    world.machine.handle(Input::ClientReadable, world.now);
    world.machine.handle(Input::TargetClosed, world.now);
    world.settle();
    assert_eq!(world.closed, Some(CloseReason::Target));
    assert!(world.decided.is_empty(), "an allowed statement would have no end");
}

#[test]
fn a_held_statement_waits_and_runs_once() {
    let mut world = World::open(Setting::default());
    world.send(&[query("update approve"), query("select 1")].concat());
    let notice = "N 00000 corral: approve it at https://gateway/";
    assert_eq!(world.told(), [notice]);
    assert!(world.target.log.is_empty());
    world.later(corral_model::limits::APPROVAL_NOTICE_INTERVAL);
    assert_eq!(world.told(), [notice]);
    let permit = world.permit(world.decided[0].seq);
    world.input(Input::Decided(permit));
    assert_eq!(world.told(), ["C UPDATE 3", "Z I", "T 1", "D 1", "C SELECT 1", "Z I"]);
    assert_eq!(world.target.log, ["Q update approve", "Q select 1"]);
}

#[test]
fn the_second_look_does_not_go_by_what_other_sessions_read() {
    let mut world = World::open(Setting::default());
    world.send(&query("update approve"));
    let before = world.target.questions;
    let permit = world.permit(world.decided[0].seq);
    world.input(Input::Decided(permit));
    assert_eq!(world.target.questions, before + 2, "catalogue and session, though both are new");
}

#[test]
fn what_changed_while_a_statement_waited_refuses_it() {
    let mut world = World::open(Setting::default());
    // The text is too long to be kept, so that the second look analyses again.
    let text = format!("update approve {}", "x".repeat(70_000));
    world.send(&query(&text));
    world.told();
    world.words.generation.fetch_add(1, Ordering::Relaxed);
    let changed = corral_model::resource::ColumnName::parse("public.people.name").expect("a name");
    world.mask(vec![changed]);
    let permit = world.permit(world.decided[0].seq);
    world.input(Input::Decided(permit));
    let told = world.told();
    assert!(told[0].starts_with("E 42501 corral: the database's objects"), "{told:?}");
    assert!(world.target.log.is_empty());
    assert_eq!(world.completed(), [("42501".into(), None, 0)]);
}

#[test]
fn denied_and_expired_approvals_are_refusals() {
    let cases = [(DenialKind::ApprovalDenied, "42501"), (DenialKind::ApprovalExpired, "57014")];
    for (kind, code) in cases {
        let mut world = World::open(Setting::default());
        world.send(&[extended("update approve"), sync()].concat());
        world.told();
        world.input(Input::Decided(Decision::Deny(Denial::new(kind, "no"))));
        assert_eq!(world.told(), [format!("E {code} corral: no"), "Z I".into()]);
        assert!(!world.target.log.iter().any(|line| line.starts_with('E')));
    }
}

#[test]
fn a_cancel_or_a_lost_client_withdraws_what_waits() {
    let mut world = World::open(Setting::default());
    world.send(&query("begin"));
    world.send(&query("update approve"));
    let told = world.told();
    assert!(told[2].contains("locks are held"), "{told:?}");
    world.input(Input::CancelAsked);
    assert_eq!(world.told(), ["E 57014 canceling statement due to user request", "Z E"]);
    assert_eq!(world.withdrawn.len(), 1);

    let mut world = World::open(Setting::default());
    world.send(&query("update approve"));
    assert!(world.machine.wants().client, "a lost client is seen");
    world.input(Input::ClientClosed);
    assert_eq!(world.withdrawn.len(), 1);
    assert_eq!(world.closed, Some(CloseReason::Client));
    assert!(!world.target.log.iter().any(|line| line.contains("approve")));
}

#[test]
fn a_cancel_reaches_what_runs_at_the_target() {
    let mut world = World::open(Setting::default());
    world.input(Input::CancelAsked);
    assert!(world.cancels.is_empty(), "nothing runs");
    world.is_client_stalled = true;
    world.send(&query("select many"));
    world.input(Input::CancelAsked);
    let key = [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 77, 1, 2, 3, 4];
    assert_eq!(world.cancels, [key]);
}

#[test]
fn a_cancel_request_names_its_session_by_the_key_that_it_was_given() {
    let mut world = World::new(Setting::default());
    let key: Vec<u8> = support::SECRET[..8].to_vec();
    world.send(&first(80_877_102, &key));
    assert_eq!(world.cancelled_sessions, [key]);
    assert_eq!(world.closed, Some(CloseReason::Client));
}

#[test]
fn an_end_tells_the_client_and_cancels_what_runs() {
    let mut world = World::open(Setting::default());
    world.send(&query("update approve"));
    world.told();
    let denial = Denial::new(DenialKind::Ended, "the run was killed");
    world.input(Input::End { reason: CloseReason::Killed, denial });
    assert_eq!(world.told(), ["E FATAL 57P01 corral: the run was killed"]);
    assert_eq!(world.withdrawn.len(), 1);
    assert_eq!(world.closed, Some(CloseReason::Killed));

    let mut world = World::open(Setting::default());
    world.is_client_stalled = true;
    world.send(&query("select many"));
    let denial = Denial::new(DenialKind::Ended, "the run was killed");
    world.input(Input::End { reason: CloseReason::Killed, denial });
    assert_eq!(world.cancels.len(), 1);
    assert_eq!(world.completed().last().map(|done| done.0.as_str()), Some("57P01"));
    assert_eq!(world.target.log.last().map(String::as_str), Some("X"));
}

#[test]
fn masked_columns_are_constants_however_they_are_asked_for() {
    let text = "select id, ssn from people";
    let rows = ["D 1|****", "D 2|****"];
    let described = [extended(text), sync()].concat();
    let undescribed = [parse("", text), bind("", "", &[]), execute("", 0), sync()].concat();
    let binary =
        [parse("", text), bind_formats("", "", &[], &[1]), execute("", 0), sync()].concat();
    let suspended = [parse("", text), bind("c", "", &[]), execute("c", 1), execute("c", 0), sync()];
    for messages in [query(text), described, undescribed, binary, suspended.concat()] {
        let mut world = World::open(masked());
        world.send(&messages);
        let told = world.told();
        let got: Vec<&String> = told.iter().filter(|line| line.starts_with("D ")).collect();
        assert_eq!(got, rows, "{told:?}");
        assert!(!format!("{:?}", world.events).contains("6789"));
        let masked_rows = world.events.iter().filter_map(|event| match event {
            EventBody::RowsMasked { rows, columns, .. } => {
                assert_eq!(*columns, ["public.people.ssn"]);
                Some(*rows)
            }
            _ => None,
        });
        assert_eq!(masked_rows.sum::<u64>(), 2);
    }
}

#[test]
fn a_result_that_was_not_foreseen_ends_the_session_without_a_row() {
    let cases = ["select sly", "select id, ssn as three"];
    for text in cases {
        let extended = [parse("", text), bind("", "", &[]), execute("", 0), sync()].concat();
        for messages in [query(text), extended] {
            let mut world = World::open(masked());
            world.target.replies.insert(
                "select id, ssn as three".into(),
                support::target::Reply::Rows(
                    vec![("a", 0, 0, 23), ("b", 0, 0, 25), ("c", 0, 0, 25)],
                    vec![vec![Some("1".into()), Some("2".into()), Some("3".into())]],
                ),
            );
            world.send(&messages);
            let told = world.told();
            assert!(!told.iter().any(|line| line.starts_with("D ")), "{told:?}");
            assert!(told.last().is_some_and(|line| line.starts_with("E FATAL 42501")), "{told:?}");
            assert_eq!(world.closed, Some(CloseReason::Tripwire));
            assert!(
                world.events.iter().any(|event| matches!(event, EventBody::SessionTripped { .. }))
            );
        }
    }
}

#[test]
fn a_masked_session_hears_no_word_of_the_target() {
    let mut world = World::open(masked());
    world.send(&query("select 1/0"));
    assert_eq!(world.told(), ["E 22012 division_by_zero P=7", "Z I"]);
    let said = [
        message(b'N', b"SNOTICE\0VNOTICE\0C00000\0M123-45-6789\0\0"),
        message(b'A', b"\0\0\0\x4dchannel\0payload\0"),
        message(b'S', b"application_name\0ssn 123-45-6789\0"),
        message(b'S', b"TimeZone\0UTC\0"),
    ];
    world.machine.buffers().target_in.extend_from_slice(&said.concat());
    world.input(Input::TargetReadable);
    assert_eq!(world.told(), ["A    Mchannel", "S TimeZone UTC"]);
}

#[test]
fn an_unmasked_session_hears_everything() {
    let mut world = World::open(Setting::default());
    let said = [
        message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mhello\0\0"),
        message(b'A', b"\0\0\0\x01channel\0payload\0"),
        message(b'S', b"application_name\0psql\0"),
    ];
    world.machine.buffers().target_in.extend_from_slice(&said.concat());
    world.input(Input::TargetReadable);
    assert_eq!(
        world.told(),
        [
            "N 00000 hello",
            "A \0\0\0\u{1}channel payload".replace('\0', " ").as_str(),
            "S application_name psql"
        ]
    );
}

/// A query's bytes, in whatever encoding.
fn raw_query(text: &[u8]) -> Vec<u8> {
    message(b'Q', &[text, b"\0"].concat())
}

/// The session's target says that it reads another encoding from here on.
fn turn_to(world: &mut World, encoding: &'static str) {
    world.words.read_in(encoding);
    let said = message(b'S', format!("client_encoding\0{encoding}\0").as_bytes());
    world.machine.buffers().target_in.extend_from_slice(&said);
    world.input(Input::TargetReadable);
    assert_eq!(world.told(), [format!("S client_encoding {encoding}")]);
}

#[test]
fn a_text_is_decided_as_the_target_reads_it() {
    let mut world = World::open(Setting::default());
    turn_to(&mut world, "LATIN1");
    let questions = world.target.questions;
    world.send(&raw_query(b"update '\xe9'"));
    assert_eq!(world.told(), ["C UPDATE 3", "Z I"]);
    assert_eq!(&*world.decided[0].text, "update 'é'");
    assert!(world.target.questions > questions, "the target was asked how it reads");
    let texts = [b"\0update '\xe9'".as_slice(), b"\0", b"\0\0"].concat();
    world.send(&[message(b'P', &texts), bind("", "", &[]), execute("", 0), sync()].concat());
    assert_eq!(world.told(), ["1", "2", "C UPDATE 3", "Z I"]);
    assert_eq!(&*world.decided[1].text, "update 'é'");
    // What the gateway itself says is ASCII.
    world.send(&raw_query(b"select forbidden '\xe9'"));
    let told = world.told();
    assert!(told[0].starts_with("E 42501") && told[0].is_ascii(), "{told:?}");
}

#[test]
fn a_text_that_cannot_be_read_is_refused_and_the_session_goes_on() {
    for encoding in ["SJIS", "GB18030", "EUC_JP"] {
        let mut world = World::open(Setting::default());
        turn_to(&mut world, encoding);
        world.send(&raw_query(b"update '\x83\x5c'; update forbidden --'"));
        let told = world.told();
        assert!(told[0].starts_with("E 22021 corral: with client_encoding"), "{told:?}");
        world.send(&query("select 1"));
        assert_eq!(world.told(), ["T 1", "D 1", "C SELECT 1", "Z I"]);
        assert!(world.closed.is_none());
        assert!(world.target.log.iter().all(|line| !line.contains("update")));
    }
}

#[test]
fn a_text_behind_a_change_of_encoding_waits_for_it() {
    let mut world = World::open(Setting::default());
    world.words.read_in("LATIN1");
    let text = message(b'P', b"\0update '\xe9'\0\0\0");
    let change = extended("set client_encoding");
    world.send(&[change, text, bind("", "", &[]), execute("", 0), sync()].concat());
    let told = world.told();
    assert_eq!(told.last().map(String::as_str), Some("Z I"), "{told:?}");
    assert_eq!(world.decided.last().map(|last| &*last.text), Some("update 'é'"));
    // In a transaction that has failed, nothing can be asked, and nothing runs.
    for text in ["begin", "set client_encoding", "select 1/0"] {
        world.send(&query(text));
    }
    world.told();
    world.send(&raw_query(b"update '\xe9'"));
    let told = world.told();
    assert!(told.iter().any(|line| line.starts_with("E 25P02")), "{told:?}");
    let updates: Vec<&String> =
        world.target.log.iter().filter(|line| line.contains("update")).collect();
    assert_eq!(updates.len(), 1, "{:?}", world.target.log);
}

#[test]
fn rows_that_copy_sends_are_counted() {
    for text in [query("copy t to stdout"), [extended("copy t to stdout"), sync()].concat()] {
        let mut world = World::open(Setting::default());
        world.send(&text);
        assert_eq!(world.completed(), [("00000".into(), Some("COPY 2".into()), 2)]);
    }
    let mut world = World::open(Setting::default());
    world.send(&[query("copy t from stdin"), message(b'd', b"x"), message(b'c', b"")].concat());
    assert_eq!(world.completed(), [("00000".into(), Some("COPY 2".into()), 0)], "none to a client");
}

#[test]
fn names_are_compared_as_the_target_does() {
    let mut world = World::open(Setting::default());
    let long = |end: char| format!("{}{end}", "n".repeat(63));
    let (one, other) = (long('1'), long('2'));
    let run = |statement: &str, portal: &str| {
        [bind(portal, statement, &[]), execute(portal, 0), sync()].concat()
    };
    world.send(&[parse(&one, "select 1"), sync()].concat());
    world.told();
    world.send(&run(&other, ""));
    assert_eq!(world.told(), ["2", "D 1", "C SELECT 1", "Z I"], "the same statement there");
    world.send(&[close(b'S', &other), parse(&one, "select 5"), sync()].concat());
    assert_eq!(world.told(), ["3", "1", "Z I"]);
    world.send(&run(&other, ""));
    assert_eq!(world.decided.last().map(|one| &*one.text), Some("select 5"));
    world.told();
    world.send(&[close(b'S', &other), sync()].concat());
    world.told();
    world.send(&run(&one, ""));
    let told = world.told();
    assert!(told[0].starts_with("E 26000"), "{told:?}");
    // Portals, within one transaction.
    world.send(&query("begin"));
    world.send(&[parse("", "select 1"), bind(&one, "", &[]), close(b'P', &other), sync()].concat());
    world.told();
    world.send(&[execute(&one, 0), sync()].concat());
    let told = world.told();
    assert!(told[0].starts_with("E 34000"), "{told:?}");
    // What the target would convert before it compares.
    for message in [
        parse("\u{e9}", "select 1"),
        bind("\u{e9}", "", &[]),
        bind("", "\u{e9}", &[]),
        describe(b'S', "\u{e9}"),
        execute("\u{e9}", 0),
        close(b'P', "\u{e9}"),
    ] {
        let mut world = World::open(Setting::default());
        world.send(&[message, sync()].concat());
        let told = world.told();
        assert!(told[0].starts_with("E 42602"), "{told:?}");
    }
}

#[test]
fn a_large_message_of_copy_data_is_held_nowhere() {
    let mut world = World::open(Setting { chunk: 64 * 1024, ..Setting::default() });
    let large = vec![b'x'; corral_model::limits::CLIENT_MESSAGE_BYTES_MAX + 1];
    world.send(&[query("copy t from stdin"), message(b'd', &large), message(b'c', b"")].concat());
    assert_eq!(world.told(), ["G", "C COPY 2", "Z I"]);
    let longest = world.target.log.iter().map(String::len).max();
    assert_eq!(longest, Some(large.len() + 2));
}

#[test]
fn the_rest_of_a_message_reaches_no_target_that_gave_its_copy_up() {
    let mut world = World::open(Setting::default());
    world.send(&query("copy t from stdin"));
    let data = [vec![b'a'; 300_000], vec![b'b'; 100_000]].concat();
    let frame = message(b'd', &data);
    world.send(&frame[..300_005]);
    let said = [error("ERROR", "22P04", "bad data"), message(b'Z', b"I")].concat();
    world.machine.buffers().target_in.extend_from_slice(&said);
    world.input(Input::TargetReadable);
    world.send(&frame[300_005..]);
    let last = world.target.log.last().expect("the data").clone();
    assert!(last.starts_with("d aaa") && !last.contains('b'), "zeros in place of the rest");
    assert!(world.closed.is_none());
}

#[test]
fn copy_streams_both_ways_under_its_permit() {
    let data = [message(b'd', b"1\n"), message(b'd', b"2\n"), message(b'c', b"")].concat();
    let mut world = World::open(Setting::default());
    world.send(&[query("copy t from stdin"), data.clone(), query("select 1")].concat());
    assert_eq!(world.told(), ["G", "C COPY 2", "Z I", "T 1", "D 1", "C SELECT 1", "Z I"]);
    assert_eq!(world.target.log, ["Q copy t from stdin", "d 1", "d 2", "c", "Q select 1"]);

    let mut world = World::open(Setting::default());
    world.send(&[extended("copy t from stdin"), sync(), data.clone(), sync()].concat());
    assert_eq!(world.told(), ["1", "2", "n", "G", "C COPY 2", "Z I"]);

    let mut world = World::open(Setting::default());
    world.send(&[query("copy t from stdin"), message(b'f', b"no\0")].concat());
    assert!(world.told()[1].starts_with("E 57014"));

    let mut world = World::open(Setting::default());
    world.send(&query("copy t to stdout"));
    assert_eq!(world.told(), ["H", "d a", "d b", "c", "C COPY 2", "Z I"]);

    let mut world = World::open(Setting::default());
    world.send(&data);
    world.send(&query("select 1"));
    assert_eq!(world.told(), ["T 1", "D 1", "C SELECT 1", "Z I"], "stray data is ignored");
}

#[test]
fn function_calls_are_refused_in_order() {
    let mut world = World::open(Setting::default());
    world.send(&[query("begin"), message(b'F', b"\0\0\0\x01"), query("rollback")].concat());
    let told = world.told();
    let refusal = "E 0A000 corral: function calls are supported for large objects only; use SELECT";
    assert_eq!(told[2], refusal);
    assert_eq!(told[3..], ["Z E", "C COMMIT", "Z I"]);
    // With a wrong number of arguments, and with none where some should be.
    for body in [b"\0\0\x03\xb8\0\0\0\0\0\0".as_slice(), b"\0\0\x03\xb8", b""] {
        world.send(&message(b'F', body));
        assert_eq!(world.told(), [refusal, "Z I"]);
    }
}

#[test]
fn a_function_call_for_a_large_object_is_decided_as_its_select() {
    // lo_open(5, 262144), in binary.
    let body = b"\0\0\x03\xb8\0\x01\0\x01\0\x02\0\0\0\x04\0\0\0\x05\0\0\0\x04\0\x04\0\0\0\x01";
    let mut world = World::open(Setting::default());
    world.send(&[query("begin"), message(b'F', body), query("commit")].concat());
    assert_eq!(world.told()[2..4], ["V 7", "Z T"]);
    assert_eq!(&*world.decided[1].text, "SELECT pg_catalog.lo_open($1, $2)");
    let values: Vec<Option<&str>> =
        world.decided[1].parameters.iter().map(|one| one.value.as_deref()).collect();
    assert_eq!(values, [Some("\\x00000005"), Some("\\x00040000")]);
    assert_eq!(world.completed()[1].0, "00000");

    // Of an open pipeline, and of one that has failed.
    world.send(&[extended("select 1"), message(b'F', body)].concat());
    assert_eq!(world.told(), ["1", "2", "T 1", "D 1", "C SELECT 1", "V 7", "Z I"]);
    world.send(&[extended("select 1/0"), message(b'F', body), sync()].concat());
    assert!(!world.told().contains(&"V 7".to_owned()));
}

#[test]
fn a_value_that_no_function_call_asked_for_ends_the_session() {
    let mut world = World::open(Setting::default());
    world.target.replies.insert("select odd".to_owned(), Reply::Value);
    world.send(&query("select odd"));
    assert_eq!(world.closed, Some(CloseReason::Protocol));
}

#[test]
fn oversize_texts_and_messages_are_refused() {
    let mut world = World::open(Setting::default());
    let text = "x".repeat(corral_model::limits::SQL_TEXT_BYTES_MAX + 1);
    world.send(&query(&text));
    world.send(&[parse("", &text), sync()].concat());
    let told = world.told();
    assert!(told[0].starts_with("E 54000 corral: a statement of 8388609 bytes"), "{told:?}");
    assert!(told[2].starts_with("E 54000"), "{told:?}");
    assert!(world.target.log == ["S"], "{:?}", world.target.log);

    world.send(b"Q\x40\0\0\0select");
    let told = world.told();
    assert!(told[0].starts_with("E FATAL 54000"), "{told:?}");
    assert_eq!(world.closed, Some(CloseReason::Protocol));
}

#[test]
fn texts_that_are_not_utf8_are_refused() {
    let mut world = World::open(Setting::default());
    world.send(&message(b'Q', b"select '\xff'\0"));
    assert_eq!(world.told(), ["E 22021 corral: the statement is not UTF-8 at byte 9", "Z I"]);
    world.send(&message(b'Q', b"select 1\0; drop\0"));
    assert!(world.told()[0].starts_with("E FATAL 08P01"));
}

#[test]
fn messages_that_nobody_knows_end_the_session() {
    for tag in [b'p', b'!', b'W', 0_u8] {
        let mut world = World::open(Setting::default());
        world.send(&message(tag, b"body"));
        assert!(world.told()[0].starts_with("E FATAL 08P01"), "{tag}");
    }
    for tag in [b'W', b'V', b'K', b'!', b'D', b'C', b'Z', b'1', b'T', b'd'] {
        let mut world = World::open(Setting::default());
        let bytes = message(tag, b"I\0\0\0\0\0");
        world.machine.buffers().target_in.extend_from_slice(&bytes);
        world.input(Input::TargetReadable);
        assert_eq!(world.closed, Some(CloseReason::Protocol), "{}", tag as char);
    }
}

#[test]
fn a_client_that_does_not_read_stops_the_target() {
    let mut world = World::open(Setting { chunk: 32 * 1024, ..Setting::default() });
    world.is_client_stalled = true;
    world.send(&query("select many"));
    let waiting = world.machine.buffers().client_out.len();
    assert!(waiting < 2 * corral_model::limits::WRITE_BUFFER_BYTES_HIGH, "{waiting}");
    assert!(!world.machine.wants().target);
    world.is_client_stalled = false;
    world.settle();
    world.input(Input::TargetReadable);
    assert_eq!(world.told().len(), 50_003);
}

#[test]
fn a_row_larger_than_any_buffer_streams_through() {
    let mut world = World::open(Setting { chunk: 1_000, ..Setting::default() });
    world.send(&query("select wide"));
    let told = world.told();
    assert_eq!(told.len(), 4);
    assert_eq!(told[1].len(), 300_002);
    assert_eq!(world.completed()[0].2, 1);
}

#[test]
fn a_pipeline_deeper_than_the_limit_does_not_hang() {
    let mut world = World::open(Setting::default());
    let mut messages = Vec::new();
    for _ in 0..corral_model::limits::PIPELINE_DEPTH_MAX {
        messages.extend(extended("select 1"));
    }
    messages.extend(sync());
    world.send(&messages);
    let told = world.told();
    assert_eq!(told.len(), 5 * corral_model::limits::PIPELINE_DEPTH_MAX + 1);
}

#[test]
fn rows_are_recorded_as_the_target_says() {
    let rows_of = |mode: RecordRows, setting: Setting, text: &str| {
        let mut world = World::open(Setting { record_rows: mode, ..setting });
        world.send(&query(text));
        world.send(&[parse("", text), bind("", "", &[]), execute("", 0), sync()].concat());
        let rows = world.events.into_iter().filter_map(|event| match event {
            EventBody::StatementRows { rows, columns, truncated, .. } => {
                Some((columns, rows.len(), rows.first().cloned(), truncated))
            }
            _ => None,
        });
        rows.collect::<Vec<_>>()
    };
    assert!(rows_of(RecordRows::Count, Setting::default(), "select 5").is_empty());
    let sampled = rows_of(RecordRows::Sample, Setting::default(), "select many");
    assert_eq!(sampled.len(), 2);
    assert_eq!(sampled[0], (vec!["n".into()], 10, Some(vec![Some("1".into())]), true));
    let full = rows_of(RecordRows::Full, masked(), "select id, ssn from people");
    assert_eq!(full.len(), 2);
    let first = Some(vec![Some("1".into()), Some("****".into())]);
    assert_eq!(full[1], (vec!["id".into(), "ssn".into()], 2, first, false));
    let many = rows_of(RecordRows::Full, Setting::default(), "select many");
    assert_eq!(many.iter().map(|event| event.1).sum::<usize>(), 100_000);
}

#[test]
fn a_target_that_dies_is_told_and_recorded() {
    let mut world = World::open(Setting::default());
    world.send(&query("update approve"));
    world.told();
    world.input(Input::TargetClosed);
    assert_eq!(world.told(), ["E FATAL 08006 corral: the target closed its connection"]);
    assert_eq!(world.closed, Some(CloseReason::Target));
}

#[test]
fn a_change_of_objects_that_is_pipelined_with_its_use_is_seen() {
    let mut world = World::open(Setting::default());
    world.send(&[query("create table t"), query("select 1"), query("select 5")].concat());
    assert_eq!(world.told().len(), 2 + 4 + 8);
}

#[test]
fn what_was_sent_ahead_of_a_goodbye_is_answered() {
    let mut world = World::open(Setting::default());
    world.send(&[query("select 5"), query("select 1"), terminate()].concat());
    assert_eq!(world.told().len(), 8 + 4);
    assert_eq!(world.closed, Some(CloseReason::Client));
    assert_eq!(world.completed().len(), 2);
}
