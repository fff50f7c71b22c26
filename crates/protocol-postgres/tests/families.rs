//! Partitions and children: what reaches a relation reaches them, wherever they are. The catalogue
//! is that of `data/catalogue.sql` on PostgreSQL 15, with rows that each test adds.

mod dumps;

use corral_protocol_postgres::analysis::{Names, analyse};
use dumps::*;

/// A function in PL/pgSQL of the catalogue: what it does cannot be told.
const TRIGGER: &str = "18264";
/// `public.notes`.
const NOTES: &str = "18208";
const TEMPORARY: &str = "9";

/// The session with a temporary table `kid`, a child of `notes`; cells are parted by `|`.
fn with_kid(rows: &[&str]) -> Names {
    let kid = format!(
        "setting|temporary|{TEMPORARY}\nsetting|temp_schema|pg_temp_4\npath|0|pg_temp_4\n\
         relation|95001|pg_temp|kid|r|f\ncolumn|95001|1|id|23\ncolumn|95001|2|note|25\n\
         inherits|95001|{NOTES}\n"
    );
    let session: Vec<&str> =
        SESSION.lines().filter(|line| !line.starts_with("setting\ttemporary")).collect();
    let more = (kid + &rows.join("\n")).replace('|', "\t");
    names_of(CATALOGUE, &format!("{}\n{more}", session.join("\n")))
}

#[track_caller]
fn check(names: &Names, sql: &str, expected: &[&str]) {
    let found = analyse(sql, Some(names), &open());
    assert_eq!(effects(&found), expected, "{sql}: {:?}", found.unknown);
}

fn is_refused(names: &Names, sql: &str, masks: &[&str]) -> bool {
    analyse(sql, Some(names), &scope(masks)).facts.obstacle.is_some()
}

#[test]
fn a_temporary_child_takes_part_in_what_its_parent_does() {
    let plain = with_kid(&[]);
    check(&plain, "UPDATE notes SET note = 'x'", &["write"]);
    check(&plain, "SELECT * FROM notes", &["read"]);
    let found = analyse("DELETE FROM notes", Some(&plain), &open());
    assert!(objects(&found).contains(&"- pg_temp.kid".to_owned()), "{:?}", objects(&found));

    let watched = with_kid(&[&format!("trigger|95001|{TRIGGER}|19|O|t")]);
    for sql in ["UPDATE notes SET note = 'x'", "DELETE FROM notes"] {
        check(&watched, sql, &["write", "unknown"]);
    }
    check(&watched, "TRUNCATE notes", &["define", "unknown"]);
    check(&watched, "UPDATE kid SET note = 'x'", &["write", "unknown"]);
    check(&watched, "SELECT * FROM notes", &["read"]);
    check(&watched, "DELETE FROM gone", &["write"]);

    let limited = with_kid(&[&format!("tree|95001|check|c|1|{{FUNCEXPR :funcid {TRIGGER}}}")]);
    check(&limited, "SELECT * FROM notes", &["read", "unknown"]);
    check(&limited, "ALTER TABLE notes ADD COLUMN x int", &["define", "unknown"]);
    check(&limited, "SELECT * FROM gone", &["read"]);
}

#[test]
fn a_temporary_child_is_defined_and_dropped_with_its_parent() {
    let names = with_kid(&[]);
    for sql in [
        "ALTER TABLE notes ADD COLUMN x int",
        "DROP TABLE notes CASCADE",
        "COMMENT ON TABLE notes IS 'x'",
    ] {
        let listed = objects(&analyse(sql, Some(&names), &open()));
        let expected = !sql.starts_with("COMMENT");
        assert_eq!(listed.contains(&"- pg_temp.kid".to_owned()), expected, "{sql}: {listed:?}");
    }
    // A parent of the one that is written takes part, too.
    let found = objects(&analyse("DELETE FROM kid", Some(&names), &open()));
    assert!(found.contains(&"- public.notes".to_owned()), "{found:?}");
}

#[test]
fn a_temporary_child_of_a_masked_table_is_closed() {
    let names = with_kid(&[]);
    let masks = ["public.notes.note"];
    assert!(is_refused(&names, "SELECT note FROM kid", &masks));
    assert!(!is_refused(&names, "SELECT note FROM notes", &masks));
    // What the child adds to its parent's rows is masked there as well, or the parent is closed.
    assert!(is_refused(&names, "SELECT id FROM notes", &["pg_temp.kid.id"]));
}

/// `orders_kid` is a child of `by_ssn`, which has masked columns, and of `notes`; `sibling` is a
/// child of `notes` only.
const TWO_PARENTS: &str = "relation|95010|public|orders_kid|r|f
column|95010|1|id|23
column|95010|2|ssn|25
column|95010|3|note|25
relation|95011|public|sibling|r|f
column|95011|1|id|23
column|95011|2|note|25
relation|95012|public|grandchild|r|f
column|95012|1|id|23
column|95012|2|note|25
inherits|95012|95010
inherits|95010|BY_SSN
inherits|95010|18208
inherits|95011|18208";

#[test]
fn another_parent_of_a_masked_tables_child_shows_nothing_of_it() {
    let by_ssn = CATALOGUE
        .lines()
        .find(|line| line.starts_with("relation\t") && line.contains("\tpublic\tby_ssn\t"))
        .and_then(|line| line.split('\t').nth(1))
        .expect("the table is in the dump");
    let more = TWO_PARENTS.replace("BY_SSN", by_ssn).replace('|', "\t");
    let names = names_of(&format!("{CATALOGUE}\n{more}"), SESSION);
    let masks = ["public.by_ssn.ssn"];
    for table in ["orders_kid", "notes", "grandchild"] {
        for column in ["id", "note"] {
            let sql = format!("SELECT {column} FROM {table}");
            assert!(is_refused(&names, &sql, &masks), "{sql}");
        }
    }
    assert!(!is_refused(&names, "SELECT id, ssn FROM by_ssn", &masks));
    // It has no row in common with a masked one.
    assert!(!is_refused(&names, "SELECT id, note FROM sibling", &masks));
    let masks = ["public.by_ssn.ssn", "public.orders_kid.ssn"];
    assert!(is_refused(&names, "SELECT note FROM notes", &masks));
    assert!(!is_refused(&names, "SELECT ssn, note FROM orders_kid", &masks));
}
