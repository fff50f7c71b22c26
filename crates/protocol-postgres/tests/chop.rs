//! However the bytes of both sides are cut, the same comes out.

mod support;

use corral_model::resource::RecordRows;
use support::client::*;
use support::{Setting, World};

/// To the client, to the target, events, decisions.
type Seen = (Vec<String>, Vec<String>, String, Vec<String>);

/// Each step is answered before the next one is sent, as most clients do.
fn steps() -> Vec<Vec<u8>> {
    let copy = [message(b'd', b"1\n"), message(b'd', b"2\n"), message(b'c', b"")].concat();
    vec![
        opening(),
        query("select 5"),
        query("update; select 1"),
        query("select forbidden"),
        query("begin"),
        [extended("select id, ssn from people"), sync()].concat(),
        query("select forbidden"),
        query("rollback"),
        [parse("p", "select 5"), bind("c", "p", &[Some("x"), None]), execute("c", 2)].concat(),
        [execute("c", 0), close(b'P', "c"), close(b'S', "p"), sync()].concat(),
        [describe(b'S', "p"), sync()].concat(),
        [extended("set search_path = a"), extended("select 1"), sync()].concat(),
        [extended("select 1/0"), sync()].concat(),
        query("copy t from stdin"),
        copy.clone(),
        [extended("copy t from stdin"), sync()].concat(),
        [copy, sync()].concat(),
        query("copy t to stdout"),
        message(b'F', b"\0\0\0\x01"),
        query("create table t"),
        query("select id, ssn from people"),
        query(""),
        terminate(),
    ]
}

/// Everything ahead of every answer. What is decided, and sent ahead, then depends on how far the
/// target is; what the client reads does not.
fn pipelined() -> Vec<u8> {
    let failing = [extended("select 1/0"), extended("select 5"), sync()].concat();
    let suspended =
        [parse("", "select 5"), bind("c", "", &[]), execute("c", 2), execute("c", 0), sync()];
    let mut all = steps().concat();
    all.truncate(all.len() - terminate().len());
    [all, failing, suspended.concat(), query("select 5"), terminate()].concat()
}

fn opening() -> Vec<u8> {
    let parameters = [("user", "ada"), ("database", "orders"), ("options", "-c geqo=off")];
    [startup(2, &parameters), password("crl_token")].concat()
}

fn run<'a>(setting: &Setting, parts: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let mut world = World::new(setting.clone());
    for part in parts {
        world.send(part);
    }
    let got = world.told();
    assert!(world.client_got.is_empty(), "half a message was left");
    let decided = world.decided.iter().map(|statement| statement.text.to_string()).collect();
    (got, world.target.log.clone(), format!("{:?}", world.events), decided)
}

#[track_caller]
fn check(whole: &Seen, chopped: &Seen, how: &str) {
    for (ours, theirs) in whole.0.iter().zip(&chopped.0) {
        assert_eq!(ours, theirs, "to the client, {how}");
    }
    assert_eq!(whole.0.len(), chopped.0.len(), "to the client, {how}");
    assert_eq!(whole.1, chopped.1, "to the target, {how}");
    assert_eq!(whole.2, chopped.2, "events, {how}");
    assert_eq!(whole.3, chopped.3, "decisions, {how}");
}

fn settings() -> [Setting; 2] {
    let masked =
        Setting { masked: true, record_rows: RecordRows::Full, minor: 2, ..Setting::default() };
    [Setting { minor: 2, ..Setting::default() }, masked]
}

#[test]
fn a_cut_at_any_byte_of_either_side_changes_nothing() {
    let steps = steps();
    let whole_steps = || steps.iter().map(Vec::as_slice);
    for setting in settings() {
        let whole = run(&setting, whole_steps());
        assert!(whole.1.last().is_some_and(|last| last == "X"), "{:?}", whole.1);
        for chunk in [1, 2, 3, 5, 7, 64, 1_000] {
            let chopped = run(&Setting { chunk, ..setting.clone() }, whole_steps());
            check(&whole, &chopped, &format!("in pieces of {chunk} bytes"));
        }
        for (index, step) in steps.iter().enumerate() {
            for cut in 1..step.len() {
                let (first, rest) = step.split_at(cut);
                let before = steps[..index].iter().map(Vec::as_slice);
                let after = steps[index + 1..].iter().map(Vec::as_slice);
                let chopped = run(&setting, before.chain([first, rest]).chain(after));
                check(&whole, &chopped, &format!("step {index} cut at {cut}"));
            }
        }
    }
}

#[test]
fn a_client_that_sends_everything_ahead_reads_the_same_however_it_is_cut() {
    let all = pipelined();
    for setting in settings() {
        let (whole, ..) = run(&setting, [all.as_slice()]);
        for chunk in [1, 2, 3, 5, 7, 64, 1_000] {
            let (chopped, ..) = run(&Setting { chunk, ..setting.clone() }, [all.as_slice()]);
            assert_eq!(whole, chopped, "in pieces of {chunk} bytes");
        }
        for cut in 1..all.len() - 100 {
            let (first, rest) = all.split_at(cut);
            let (chopped, ..) = run(&setting, [first, rest]);
            assert!(whole == chopped, "cut at {cut}");
        }
    }
}
