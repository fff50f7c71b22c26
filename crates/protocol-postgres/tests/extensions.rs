//! Functions in SQL that extensions brought: names in their texts are looked up in the caller's
//! path. The catalogue is that of `data/catalogue.sql` on PostgreSQL 15, with rows that each test
//! adds.

mod dumps;

use corral_protocol_postgres::analysis::{Names, analyse};
use dumps::*;

/// An operator of a user for texts, of a function in PL/pgSQL.
const OWN_OPERATOR: &str = "operator\t95001\tevil\t||\t18266\t0\t0";
const MASKS: &[&str] = &["public.people.ssn"];

fn names_with(path: &[&str], rows: &[&str]) -> Names {
    let session: Vec<String> = SESSION
        .lines()
        .filter(|line| !line.starts_with("path"))
        .map(str::to_owned)
        .chain(path.iter().enumerate().map(|(index, name)| format!("path\t{index}\t{name}")))
        .collect();
    names_of(&format!("{CATALOGUE}\n{}", rows.join("\n")), &session.join("\n"))
}

#[track_caller]
fn check(names: &Names, sql: &str, expected: &[&str]) {
    let found = analyse(sql, Some(names), &open());
    assert_eq!(effects(&found), expected, "{sql}: {:?}", found.unknown);
}

fn is_refused(names: &Names, sql: &str) -> bool {
    analyse(sql, Some(names), &scope(MASKS)).facts.obstacle.is_some()
}

#[test]
fn an_extensions_function_does_what_its_text_means_in_the_callers_path() {
    let plain = names_with(&["pg_catalog", "public"], &[]);
    let behind = names_with(&["pg_catalog", "public"], &[OWN_OPERATOR]);
    let before = names_with(&["evil", "pg_catalog", "public"], &[OWN_OPERATOR]);
    let call = "SELECT regexp_matches('abc'::citext, 'b'::citext, 'g')";
    for names in [&plain, &behind] {
        check(names, call, &["read"]);
        check(names, "SELECT replace(e, 'a', 'b') FROM insensitive", &["read"]);
        check(names, "SELECT * FROM insensitive WHERE e = 'x'", &["read"]);
        assert!(!is_refused(names, call));
    }
    check(&before, call, &["read", "unknown"]);
    assert!(is_refused(&before, call));
    // This one names the schema of everything.
    let whole = "SELECT strpos(e, 'a'::citext) FROM insensitive";
    check(&before, whole, &["read"]);
    assert!(!is_refused(&before, whole));
    // Its names are looked up again when it runs.
    assert!(analyse(call, Some(&plain), &open()).resolves_late);
}

#[test]
fn an_extensions_function_in_an_expression_that_is_stored_has_no_effect_of_its_own() {
    let check_of = |function: &str| {
        let tree = format!("tree\t18208\tcheck\tc\t1\t{{FUNCEXPR :funcid {function}}}");
        names_with(&["pg_catalog", "public"], &[&tree])
    };
    check(&check_of("18166"), "INSERT INTO notes VALUES (1, 'x')", &["write"]);
    check(&check_of("18266"), "INSERT INTO notes VALUES (1, 'x')", &["write", "unknown"]);
}

#[test]
fn only_what_runs_the_same_everywhere_is_reviewed() {
    let rows = [
        // Parsed when it was made: it has no text.
        "function\t95010\tpublic\tparsed\tf 1 25\tsql\tcitext\tt",
        "function\t95011\tpublic\tscripted\tf 1 25\tplpgsql\tcitext\tf",
        "function\t95012\tpublic\tforeign_one\tf 1 25\tc\tpostgis\tt",
        "function\t95013\tpublic\treplaced\tf 1 25\tsql\tcitext\tf",
        "body\t95013\tselect ssn from people\t25",
        "function\t95014\tpublic\tguarded\tf 1 25\tsql\tcitext\tf",
    ];
    let names = names_with(&["pg_catalog", "public"], &rows);
    check(&names, "SELECT parsed()", &["read"]);
    check(&names, "SELECT replaced()", &["read"]);
    for call in ["scripted", "foreign_one", "guarded"] {
        check(&names, &format!("SELECT {call}()"), &["read", "unknown"]);
    }
    assert!(!is_refused(&names, "SELECT parsed()"));
    for call in ["scripted", "foreign_one", "guarded", "replaced"] {
        assert!(is_refused(&names, &format!("SELECT {call}()")), "{call}");
    }
}
