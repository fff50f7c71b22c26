//! What EXPLAIN and definitions run. The catalogue is that of `data/catalogue.sql`, with rows that each test adds.

use std::sync::Arc;

use corral_model::Effect;
use corral_protocol_postgres::analysis::catalogue::rows_of_text;
use corral_protocol_postgres::analysis::{
    Analysis, Catalogue, MaskScope, Names, SessionNames, analyse,
};

const CATALOGUE: &str = include_str!("data/catalogue.tsv");

/// The catalogue with more rows; cells are parted by `|`.
fn names_with(rows: &[&str]) -> Names {
    let more: Vec<String> = rows.iter().map(|row| row.replace('|', "\t")).collect();
    names_of(&format!("{CATALOGUE}\n{}", more.join("\n")))
}

fn names_of(text: &str) -> Names {
    let session = include_str!("data/plain_session.tsv");
    Names {
        catalogue: Arc::new(Catalogue::from_rows(&rows_of_text(text)).expect("a catalogue")),
        session: SessionNames::from_rows(&rows_of_text(session)).expect("a probe"),
    }
}

fn open() -> MaskScope {
    MaskScope { classified: Arc::from([]), masked: Arc::from([]) }
}

fn effects(analysis: &Analysis) -> Vec<&'static str> {
    analysis.facts.effects.iter().map(Effect::name).collect()
}

#[track_caller]
fn check(names: &Names, sql: &str, expected: &[&str]) {
    let found = analyse(sql, Some(names), &open());
    assert_eq!(effects(&found), expected, "{sql}: {:?}", found.unknown);
}

/// Functions in SQL that an EXPLAIN would run while it plans.
const FOLDED: &[&str] = &[
    "function|90001|public|esc|f|sql||f",
    "body|90001|select set_config('role', 'boss', false)|25",
    "function|90002|public|bump|f|sql||f",
    "body|90002|select setval('numbers', 777)|20",
    "function|90003|public|bump_path|f|sql||f",
    "body|90003|select set_config('search_path', 'evil', false)|25",
];

#[test]
fn explain_has_the_effects_of_the_functions_that_planning_may_run() {
    let names = names_with(FOLDED);
    check(&names, "EXPLAIN SELECT * FROM notes", &["read"]);
    check(&names, "EXPLAIN DELETE FROM notes", &["read"]);
    check(&names, "EXPLAIN SELECT nextval('numbers')", &["read"]);
    check(&names, "EXPLAIN SELECT set_config('role', 'none', false)", &["read"]);
    check(&names, "EXPLAIN SELECT plus_one(1)", &["read"]);
    check(&names, "EXPLAIN CREATE TABLE t AS SELECT 1", &["read"]);
    for text in [
        "EXPLAIN SELECT esc()",
        "EXPLAIN SELECT esc(), set_config('role', 'none', false)",
        "EXPLAIN (COSTS off) WITH x AS (SELECT set_config('role', 'none', false)) SELECT esc()",
    ] {
        let found = analyse(text, Some(&names), &open());
        assert!(found.facts.effects.contains(Effect::Administer), "{text}");
    }
    check(&names, "EXPLAIN SELECT bump()", &["read", "write"]);
    check(&names, "EXPLAIN UPDATE notes SET id = bump()", &["read", "write"]);
    check(&names, "EXPLAIN DELETE FROM notes WHERE id = bump()", &["read", "write"]);
    let found = analyse("EXPLAIN SELECT bump_path()", Some(&names), &open());
    assert!(found.session_change.names);
    assert!(found.facts.effects.contains(Effect::Unknown));
}
