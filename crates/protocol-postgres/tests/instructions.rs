//! What one prepared query of one row costs on the pure path, counted and not timed.
//!
//! Valgrind's callgrind counts the instructions inside of the machine while this program plays the
//! same conversation twice, of different length; the difference over the number of queries is
//! the cost of one. The count is that of the profile that tests are built with, which is not
//! optimised: it is no measure of speed, and it shows when the path grows.

mod support;

use std::process::Command;

use support::client::*;
use support::{Setting, World};

/// Counted 64,085 when it was set (2026-11-30, Rust 1.95, profile `test`).
const INSTRUCTIONS_MAX: u64 = 67_000;
/// Set for the program that is counted.
const QUERIES: &str = "CORRAL_COUNTED_QUERIES";
const FEW: u64 = 20;
const MANY: u64 = 120;

/// The conversation itself. Does nothing where it is not counted.
#[test]
fn conversation() {
    let Ok(queries) = std::env::var(QUERIES) else { return };
    let queries: u64 = queries.parse().expect("a number");
    let mut world = World::open(Setting::default());
    world.send(&[parse("p", "select 1"), sync()].concat());
    let one = [bind("", "p", &[Some("7")]), describe(b'P', ""), execute("", 0), sync()].concat();
    for _ in 0..queries {
        world.send(&one);
    }
    let completed = world.completed();
    assert_eq!(completed.len() as u64, queries);
    assert!(completed.iter().all(|(code, _, rows)| code == "00000" && *rows == 1));
}

fn counted(queries: u64) -> u64 {
    let program = std::env::current_exe().expect("this program");
    let result = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .args(["--toggle-collect=*PostgresMachine*Machine*handle*"])
        .args(["--toggle-collect=*PostgresMachine*Machine*poll_output*"])
        .arg(program)
        .args(["conversation", "--exact", "--test-threads=1"])
        .env(QUERIES, queries.to_string())
        .output()
        .expect("valgrind runs; .ci/setup build installs it");
    let told = String::from_utf8_lossy(&result.stderr);
    assert!(result.status.success(), "{told}");
    let count = told.lines().find_map(|line| line.split_once("Collected : "));
    count.expect("valgrind tells the count").1.trim().parse().expect("a number")
}

#[test]
fn a_prepared_query_stays_within_its_instructions() {
    let (few, many) = (counted(FEW), counted(MANY));
    let one = (many - few) / (MANY - FEW);
    println!("{one} instructions for a prepared query of one row");
    assert!(one > 1_000, "{one} is too few: the machine's functions were not found");
    assert!(one <= INSTRUCTIONS_MAX, "{one} instructions, more than {INSTRUCTIONS_MAX}");
}
