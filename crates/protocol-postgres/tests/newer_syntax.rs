//! What PostgreSQL 16, 17 and 18 brought to SQL: known by its effects, and no way around a mask.
//! The catalogue is that of `data/catalogue.sql` on PostgreSQL 15.

mod dumps;

use corral_protocol_postgres::analysis::{StatementKind, analyse};
use dumps::*;

#[test]
fn what_newer_releases_brought_is_known() {
    let names = names();
    let check = |sql: &str, expected: &[&str]| {
        let found = analyse(sql, Some(&names), &scope(&[]));
        assert_eq!(effects(&found), expected, "{sql}: {:?}", found.facts.obstacle);
    };
    // 16
    check("SELECT 0xff, 0o17, 0b11, 1_000", &["read"]);
    check("SELECT name IS JSON OBJECT WITH UNIQUE KEYS FROM people", &["read"]);
    check("SELECT JSON_ARRAY(id RETURNING jsonb), JSON_OBJECT('a': id) FROM people", &["read"]);
    check("SELECT JSON_ARRAYAGG(id ORDER BY id), JSON_OBJECTAGG(name: id) FROM people", &["read"]);
    check("SELECT any_value(name), SYSTEM_USER FROM people", &["read"]);
    check("SELECT x FROM (SELECT 1 AS x)", &["read"]);
    check("EXPLAIN (GENERIC_PLAN) SELECT * FROM people WHERE id = $1", &["read"]);
    check("GRANT a TO b WITH INHERIT FALSE, SET TRUE", &["administer"]);
    check("COPY notes FROM STDIN (FORMAT csv, DEFAULT 'd')", &["write"]);
    // 17
    check(
        "SELECT * FROM people, JSON_TABLE(name::jsonb, '$[*]' COLUMNS (n FOR ORDINALITY, \
         a int PATH '$.a', NESTED PATH '$.b' COLUMNS (c text EXISTS))) t",
        &["read"],
    );
    check("SELECT JSON_VALUE(name::jsonb, '$' RETURNING int) FROM people", &["read"]);
    check(
        "SELECT JSON_QUERY(name, '$' WITH WRAPPER), JSON_EXISTS(name, '$') FROM people",
        &["read"],
    );
    check("SELECT JSON(name), JSON_SCALAR(id), JSON_SERIALIZE(name) FROM people", &["read"]);
    check(
        "MERGE INTO notes USING people ON notes.id = people.id WHEN NOT MATCHED BY SOURCE THEN DELETE \
         WHEN MATCHED THEN DO NOTHING RETURNING merge_action(), notes.*",
        &["read", "write"],
    );
    check("EXPLAIN (ANALYZE, SERIALIZE, MEMORY) SELECT 1", &["read"]);
    check("COPY notes FROM STDIN (ON_ERROR ignore, LOG_VERBOSITY verbose)", &["write"]);
    check("SELECT now()::timestamp AT LOCAL, random(1, 6)", &["read"]);
    check("GRANT MAINTAIN ON notes TO app", &["administer"]);
    check("ALTER TABLE computed ALTER COLUMN b SET EXPRESSION AS (id * 3)", &["define"]);
    // 18
    check("UPDATE notes SET note = 'x' RETURNING old.note, new.*", &["read", "write"]);
    check("DELETE FROM notes RETURNING WITH (OLD AS o, NEW AS n) o.note, n.id", &["read", "write"]);
    check("CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL)", &["define"]);
    check(
        "CREATE TABLE t (r int, p daterange, PRIMARY KEY (r, p WITHOUT OVERLAPS), \
         FOREIGN KEY (r, PERIOD p) REFERENCES depts (id, PERIOD title) NOT ENFORCED)",
        &["define"],
    );
    check("ALTER TABLE notes ADD CONSTRAINT c NOT NULL note NOT VALID", &["define"]);
    check("SELECT uuidv7(), array_sort(ARRAY[2, 1]), casefold('A')", &["read"]);
    check("VACUUM ONLY notes", &["define"]);
    check("ANALYZE ONLY notes", &["define"]);
    // A function that runs code nobody knows stays what it is in any clause.
    check(
        "SELECT * FROM JSON_TABLE(purge()::text::jsonb, '$' COLUMNS (a int)) t",
        &["read", "unknown"],
    );
    check(
        "MERGE INTO notes USING people ON true WHEN MATCHED THEN DELETE RETURNING purge()",
        &["read", "write", "unknown"],
    );
    check("UPDATE notes SET note = '' RETURNING visible(old.note)", &["read", "write", "unknown"]);
    check("COPY notes FROM STDIN WHERE visible(note)", &["write", "unknown"]);
}

#[test]
fn what_newer_releases_brought_shows_nothing_masked() {
    let names = names();
    let masked = scope(&["public.people.ssn", "public.people.salary", "public.cards.number"]);
    let check = |sql: &str| {
        let found = analyse(sql, Some(&names), &masked);
        assert!(found.facts.obstacle.is_some(), "{sql} is let through");
    };
    check("UPDATE people SET name = '' RETURNING old.ssn");
    check("UPDATE people SET name = '' RETURNING WITH (OLD AS o) o.ssn");
    check(
        "INSERT INTO people (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = '' RETURNING old.*",
    );
    check("DELETE FROM people RETURNING old.ssn, new.ssn");
    check("MERGE INTO notes USING people ON true WHEN MATCHED THEN DELETE RETURNING people.ssn");
    check("MERGE INTO notes USING people ON true WHEN MATCHED THEN DELETE RETURNING people");
    check("MERGE INTO notes USING people ON ssn = note WHEN NOT MATCHED BY SOURCE THEN DELETE");
    check("SELECT * FROM people, JSON_TABLE(ssn::jsonb, '$' COLUMNS (a text PATH '$')) t");
    check(
        "SELECT t.a FROM people, JSON_TABLE('{}', '$' PASSING ssn AS x COLUMNS (a text PATH '$x')) t",
    );
    check(
        "SELECT t.a FROM people, JSON_TABLE('{}', '$' COLUMNS (a text PATH '$' DEFAULT ssn ON EMPTY)) t",
    );
    check("SELECT JSON_VALUE(ssn::jsonb, '$') FROM people");
    check("SELECT JSON_VALUE('{}', '$' DEFAULT ssn ON EMPTY) FROM people");
    check("SELECT JSON_QUERY('{}', '$' PASSING ssn AS x) FROM people");
    check("SELECT JSON_EXISTS(ssn::jsonb, '$') FROM people");
    check("SELECT JSON_SCALAR(ssn), JSON_SERIALIZE(ssn), JSON(ssn) FROM people");
    check("SELECT JSON_SCALAR(salary) FROM people");
    check("SELECT JSON_ARRAY(ssn) FROM people");
    check("SELECT JSON_OBJECT(name: ssn) FROM people");
    check("SELECT JSON_OBJECTAGG(name: ssn) FROM people");
    check("SELECT JSON_ARRAYAGG(ssn) FROM people");
    check("SELECT JSON_ARRAY(SELECT ssn FROM people)");
    check("SELECT ssn IS JSON FROM people");
    check("SELECT any_value(ssn) FROM people");
    check("SELECT XMLSERIALIZE(CONTENT ssn::xml AS text INDENT) FROM people");
    check("SELECT array_shuffle(ARRAY[ssn]) FROM people");
    // A generated column, stored or virtual, is what it is made of.
    check("SELECT shown FROM cards");
}

#[test]
fn a_plain_projection_within_a_subquery_without_a_name_is_masked() {
    let found = analyse(
        "SELECT * FROM (SELECT id, ssn FROM people)",
        Some(&names()),
        &scope(&["public.people.ssn"]),
    );
    let mask = found.mask.expect("it is masked");
    assert_eq!(mask.masked.iter().map(|column| column.index).collect::<Vec<_>>(), [1]);
    assert_eq!(found.facts.obstacle, None);
}

#[test]
fn what_a_later_release_may_bring_is_unknown_and_says_why() {
    let names = names();
    let check = |sql: &str, words: &str| {
        let found = analyse(sql, Some(&names), &scope(&[]));
        assert_eq!(effects(&found), ["unknown"], "{sql}");
        let why = found.parse_error.unwrap_or_default();
        assert!(why.starts_with("the statement cannot be parsed:"), "{sql}: {why}");
        assert!(why.contains(words), "{sql}: {why}");
    };
    check("SELECT id FROM people FROM people", "FROM");
    check("REPACK people", "REPACK");
    check("SELECT * FROM GRAPH_TABLE (g MATCH (a) COLUMNS (a.b))", "MATCH");
}

#[test]
fn returning_is_rows() {
    let found =
        analyse("UPDATE notes SET note = '' RETURNING old.note", Some(&names()), &scope(&[]));
    assert_eq!(found.kinds, [StatementKind::Rows]);
}
