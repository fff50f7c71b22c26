//! Definitions and maintenance: what they run, which relations they name, and what they change
//! beside those. The catalogue is that of `data/catalogue.sql`, with rows that each test adds.

mod dumps;

use corral_model::Effect;
use corral_protocol_postgres::analysis::{Names, analyse};
use dumps::*;

/// A function in PL/pgSQL of the catalogue: what it does cannot be told.
const VISIBLE: &str = "18266";

/// The catalogue with more rows; cells are parted by `|`.
fn names_with(rows: &[&str]) -> Names {
    let more: Vec<String> = rows.iter().map(|row| row.replace('|', "\t")).collect();
    names_of(&format!("{CATALOGUE}\n{}", more.join("\n")), SESSION)
}

#[track_caller]
fn check(names: &Names, sql: &str, expected: &[&str]) {
    let found = analyse(sql, Some(names), &open());
    assert_eq!(effects(&found), expected, "{sql}: {:?}", found.unknown);
}

fn objects_of(names: &Names, sql: &str) -> Vec<String> {
    objects(&analyse(sql, Some(names), &open()))
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

#[test]
fn what_is_named_by_a_definition_is_listed_as_defined() {
    let names = names_with(&[]);
    let check = |sql: &str, expected: &[&str]| {
        assert_eq!(objects_of(&names, sql), expected, "{sql}");
    };
    let only_notes = ["d public.notes"];
    for sql in [
        "COMMENT ON TABLE notes IS 'x'",
        "COMMENT ON COLUMN public.notes.id IS 'x'",
        "COMMENT ON CONSTRAINT c ON notes IS 'x'",
        "COMMENT ON TRIGGER t ON notes IS 'x'",
        "CREATE TRIGGER t AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION trg()",
        "CREATE RULE r AS ON UPDATE TO notes DO INSTEAD NOTHING",
        "CREATE POLICY p ON notes",
        "ALTER POLICY p ON notes USING (true)",
        "CREATE STATISTICS s ON id, note FROM notes",
        "CREATE PUBLICATION p FOR TABLE notes",
        "ALTER PUBLICATION p ADD TABLE public.notes",
        "GRANT SELECT ON notes TO public",
        "REVOKE ALL ON TABLE public.notes FROM public",
        "SECURITY LABEL ON TABLE notes IS 'x'",
        "ALTER EXTENSION citext ADD TABLE notes",
        "DROP RULE r ON notes",
        "ANALYZE notes",
    ] {
        check(sql, &only_notes);
    }
    check("TRUNCATE notes", &["d public.notes", "w public.notes"]);
    check("COMMENT ON SCHEMA other IS 'x'", &["d .other"]);
    check(
        "COMMENT ON INDEX people_lower_idx IS 'x'",
        &["d public.people", "d public.people_lower_idx"],
    );
    check(
        "GRANT SELECT ON ALL TABLES IN SCHEMA other TO public",
        &["- other.only_here", "- other.people", "d .other"],
    );
    // Nothing is known of a relation that is not there.
    let found = analyse("COMMENT ON TABLE nothing_here IS 'x'", Some(&names), &open());
    assert!(found.facts.effects.contains(Effect::Unknown));
    let found = analyse("DROP OWNED BY app", Some(&names), &open());
    assert!(found.facts.objects.iter().any(|object| object.name == "notes"));
}

#[test]
fn scripts_of_definitions_stay_definitions() {
    let names = names_with(&[]);
    for sql in [
        "CREATE FUNCTION a() RETURNS int LANGUAGE sql AS 'select 1'; \
         CREATE FUNCTION b() RETURNS text LANGUAGE sql AS $$ select 'x' || note from notes $$",
        "CREATE FUNCTION a() RETURNS trigger LANGUAGE plpgsql AS 'begin return new; end'; \
         CREATE TRIGGER t AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION a(); \
         COMMENT ON TABLE notes IS 'x'",
        "CREATE TABLE t (id int); COMMENT ON TABLE t IS 'x'; COMMENT ON COLUMN t.id IS 'x'",
        "CREATE TABLE t (id int); CREATE INDEX ON t (id); COMMENT ON TABLE public.t IS 'x'",
        "CREATE SEQUENCE s; COMMENT ON SEQUENCE s IS 'x'",
        "CREATE TYPE t AS ENUM ('a'); CREATE TYPE u AS ENUM ('b')",
    ] {
        check(&names, sql, &["define"]);
    }
    // No domain of this database has a check that a user made.
    let catalogue: Vec<&str> =
        CATALOGUE.lines().filter(|line| !line.contains("odd_email_check")).collect();
    check(
        &names_of(&catalogue.join("\n"), SESSION),
        "CREATE FUNCTION a(text) RETURNS text LANGUAGE sql AS 'select $1'; \
         CREATE FUNCTION b() RETURNS text LANGUAGE sql AS $$ select a('x') $$",
        &["define"],
    );
    check(&names, "CREATE TABLE t (id int); GRANT SELECT ON t TO app", &["define", "administer"]);
    // What these names mean by then is not known.
    check(
        &names,
        "SET search_path = other; COMMENT ON TABLE people IS 'x'",
        &["define", "unknown"],
    );
    check(
        &names,
        "ALTER TABLE notes RENAME TO n; CREATE TRIGGER t AFTER INSERT ON people FOR EACH ROW \
         EXECUTE FUNCTION trg()",
        &["define", "unknown"],
    );
}

#[test]
fn event_triggers_count_for_every_definition_and_need_the_names() {
    let names = names_with(&["event_trigger|90001|18266|ddl_command_end|e"]);
    for sql in [
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'select 1'",
        "CREATE TYPE t AS ENUM ('a')",
        "CREATE TEMP TABLE t (id int)",
        "COMMENT ON TABLE notes IS 'x'",
        "SELECT 1 INTO TEMP t",
    ] {
        let found = analyse(sql, Some(&names), &open());
        assert!(found.facts.effects.contains(Effect::Unknown), "{sql}");
        let stale = analyse(sql, None, &open());
        assert!(stale.needs_names, "{sql}");
        assert!(stale.facts.effects.contains(Effect::Unknown), "{sql}");
    }
    let found = analyse(
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION trg(); CREATE TEMP TABLE t (a int)",
        Some(&names_with(&[])),
        &open(),
    );
    assert!(found.facts.effects.contains(Effect::Unknown));
}

/// A row type with a domain whose check is in PL/pgSQL, and a function that takes one.
const ODD_TYPES: &[&str] = &[
    "relation|90100|public|odd_row|c|f",
    "column|90100|1|a|18336",
    "type|90101|public|odd_row|c|0|90100|2290,2291",
    "relation|90110|public|odd_lists|r|f",
    "column|90110|1|a|18335",
    "column|90110|2|b|25",
    "type|90111|public|odd_lists|c|0|90110|2290,2291",
    "function|90120|public|takes_odd|f|plpgsql||f",
];

#[test]
fn literals_that_a_definition_reads_run_the_checks_of_domains() {
    let names = names_with(ODD_TYPES);
    let plain = names_with(&[]);
    for sql in [
        "CREATE VIEW v AS SELECT '(5)'::odd_row AS x",
        "CREATE VIEW v AS SELECT '{5}'::odd_email[] AS x",
        "CREATE VIEW v AS SELECT * FROM odd_lists WHERE a = '{5}'",
        "CREATE VIEW v AS SELECT takes_odd('{5}')",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ select 1 where '(5)'::odd_row is null $$",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN ('{5}'::odd_email[])[1]::int",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT '(5)'::odd_row; END",
        "CREATE FUNCTION f(odd_email[] DEFAULT '{5}') RETURNS int LANGUAGE plpgsql AS 'begin end'",
        "CREATE RULE r AS ON UPDATE TO notes WHERE '{5}'::odd_email[] IS NULL DO NOTHING",
        "CREATE RULE r AS ON UPDATE TO notes DO ALSO UPDATE odd_lists SET a = '{5}'",
        "CREATE TRIGGER t AFTER UPDATE ON odd_lists FOR EACH ROW WHEN (new.a = '{5}') EXECUTE FUNCTION trg()",
        "CREATE DOMAIN d AS int CHECK ('{5}'::odd_email[] IS NOT NULL)",
        "CREATE DOMAIN d AS odd_email[] DEFAULT '{5}'",
        "ALTER DOMAIN plain_email SET DEFAULT ('(5)'::odd_row)::text",
        "CREATE STATISTICS s ON id, ('{5}'::odd_email[] IS NULL) FROM notes",
        "CREATE AGGREGATE g(int) (sfunc = plus, stype = odd_row, initcond = '(5)')",
        "CREATE AGGREGATE g (basetype = int, sfunc1 = plus, stype1 = 'odd_row', initcond1 = '(5)')",
    ] {
        let found = analyse(sql, Some(&names), &open());
        assert_eq!(effects(&found), ["define", "unknown"], "{sql}");
    }
    for sql in [
        "CREATE POLICY p ON odd_lists USING (a = '{5}')",
        "ALTER POLICY p ON odd_lists WITH CHECK (a = '{5}')",
    ] {
        check(&names, sql, &["administer", "unknown"]);
    }
    for sql in [
        "CREATE VIEW v AS SELECT * FROM odd_mails",
        "CREATE VIEW v AS SELECT a::odd_email FROM odd_mails",
        "CREATE VIEW v AS SELECT purge()",
        "CREATE VIEW v AS SELECT * FROM mails WHERE a = 'x@y'",
        "CREATE VIEW v AS SELECT * FROM notes WHERE note = 'x'",
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ begin return 'x'; end $$",
        "CREATE FUNCTION f(text DEFAULT 'x') RETURNS text LANGUAGE sql AS $$ select $1 || 'x' $$",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'select plus_one(1)'",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ update notes set note = 'x' $$",
        "CREATE RULE r AS ON UPDATE TO notes DO ALSO UPDATE gone SET d = 'x'",
        "CREATE DOMAIN d AS text CHECK (value <> 'x') DEFAULT 'y'",
        "CREATE AGGREGATE g(int) (sfunc = plus, stype = int, initcond = '0')",
        "CREATE TRIGGER t AFTER UPDATE ON notes FOR EACH ROW WHEN (new.note = 'x') EXECUTE FUNCTION trg()",
    ] {
        check(&names, sql, &["define"]);
        check(&plain, sql, &["define"]);
    }
}

#[test]
fn a_view_runs_no_function_in_sql_when_it_is_made() {
    let names = names_with(&[]);
    check(&names, "CREATE VIEW v AS SELECT plus_one(1)", &["define"]);
    check(&names, "CREATE VIEW v AS SELECT replace(e, 'a', 'b') FROM insensitive", &["define"]);
    check(
        &names,
        "CREATE MATERIALIZED VIEW v AS SELECT plus_one(1)",
        &["read", "define", "unknown"],
    );
    check(&names, "CREATE INDEX ON notes (plus_one(id))", &["read", "define", "unknown"]);
}

#[test]
fn a_check_that_is_added_to_a_domain_runs() {
    let names = names_with(&[]);
    check(&names, "ALTER DOMAIN plain_email ADD CHECK (visible(value))", &["define", "unknown"]);
    check(&names, "ALTER DOMAIN odd_email VALIDATE CONSTRAINT c", &["define", "unknown"]);
    check(&names, "ALTER DOMAIN plain_email ADD CHECK (length(value) > 1)", &["define"]);
    check(&names, "ALTER DOMAIN plain_email DROP CONSTRAINT c", &["define"]);
    check(&names, "ALTER DOMAIN plain_email SET NOT NULL", &["define"]);
    check(&names, "ALTER DOMAIN plain_email SET DEFAULT 'x'", &["define"]);
    check(&names, "ALTER DOMAIN plain_email DROP DEFAULT", &["define"]);
}

#[test]
fn maintenance_runs_the_expressions_of_indexes_and_statistics() {
    let plain = names_with(&[]);
    let all = [
        "VACUUM",
        "VACUUM FULL",
        "ANALYZE",
        "CLUSTER",
        "REINDEX SCHEMA public",
        "REINDEX DATABASE d",
        "VACUUM ANALYZE",
        "REINDEX SCHEMA other",
        "REINDEX SYSTEM d",
    ];
    for sql in all {
        check(&plain, sql, &["define"]);
    }
    let indexed =
        names_with(&[&format!("tree|18197|index|18207|1|{{FUNCEXPR :funcid {VISIBLE}}}")]);
    for sql in [
        "VACUUM FULL",
        "VACUUM (FULL)",
        "ANALYZE",
        "VACUUM ANALYZE",
        "CLUSTER",
        "REINDEX SCHEMA public",
        "REINDEX DATABASE d",
    ] {
        check(&indexed, sql, &["define", "unknown"]);
    }
    for sql in ["VACUUM", "REINDEX SCHEMA other", "REINDEX SYSTEM d", "VACUUM (FULL off)"] {
        check(&indexed, sql, &["define"]);
    }
    let counted =
        names_with(&[&format!("tree|18197|statistics|s|1|{{FUNCEXPR :funcid {VISIBLE}}}")]);
    for sql in ["ANALYZE", "ANALYZE people", "VACUUM (ANALYZE) people"] {
        check(&counted, sql, &["define", "unknown"]);
    }
    check(&counted, "ANALYZE notes", &["define"]);
    check(&counted, "VACUUM FULL", &["define"]);
    let ranged = names_with(&[
        &format!("type|90200|public|odd_range|r|25|0|3834,3835,0,{VISIBLE}"),
        "relation|90210|public|spans|r|f",
        "column|90210|1|a|90200",
    ]);
    check(&ranged, "ANALYZE", &["define", "unknown"]);
    check(&ranged, "ANALYZE spans", &["define", "unknown"]);
}

/// An index of `people` over a function in SQL that calls `tidy` and `plus_one`.
const INDEXED: &str = "tree|18197|index|18207|1|{FUNCEXPR :funcid 18399}";

/// The texts that change what maintenance runs in a database with such an index.
const CHANGES_MAINTAINED: &[&str] = &[
    "CREATE OR REPLACE FUNCTION deep(int) RETURNS int LANGUAGE plpgsql AS 'begin return 1; end'",
    "CREATE OR REPLACE FUNCTION public.plus_one(int) RETURNS int LANGUAGE sql AS 'select 1'",
    "CREATE FUNCTION plus_one(bigint) RETURNS int LANGUAGE sql AS 'select 1'",
    "CREATE OR REPLACE PROCEDURE tidy() LANGUAGE sql AS 'select 1'",
    "ALTER FUNCTION plus_one(int) SET search_path = evil",
    "ALTER FUNCTION public.tidy() SECURITY DEFINER",
    "ALTER FUNCTION again(int) RENAME TO plus_one",
    "ALTER FUNCTION other.tidy() SET SCHEMA public",
    "ALTER SCHEMA evil RENAME TO public",
    "CREATE OPERATOR evil.+ (leftarg = int, rightarg = int, function = odd)",
    "CREATE CAST (int AS people) WITH FUNCTION odd(int)",
];

#[test]
fn what_autovacuum_runs_is_not_changed_by_a_mere_definition() {
    let plain = names_with(&[]);
    let indexed = names_with(&[INDEXED]);
    let counted = names_with(&[&INDEXED.replace("index|18207", "statistics|s")]);
    for sql in CHANGES_MAINTAINED {
        check(&plain, sql, &["define"]);
        check(&indexed, sql, &["define", "unknown"]);
        check(&counted, sql, &["define", "unknown"]);
    }
    for sql in [
        "CREATE OR REPLACE FUNCTION other.plus_one(int) RETURNS int LANGUAGE sql AS 'select 1'",
        "CREATE OR REPLACE FUNCTION again(int) RETURNS int LANGUAGE sql AS 'select 1'",
        "CREATE FUNCTION one(int) RETURNS int LANGUAGE sql AS 'select plus_one($1)'",
        "ALTER FUNCTION again(int) STABLE",
        "ALTER FUNCTION plus_one(int) RENAME TO again_one",
        "ALTER SCHEMA evil RENAME TO e",
        "CREATE DOMAIN d AS int",
    ] {
        check(&indexed, sql, &["define"]);
    }
    let likened = names_with(&[&format!(
        "tree|18197|statistics|s|1|{{FUNCEXPR :funcid {VISIBLE} :funcresulttype 16 :funcretset false \
         :funcvariadic false :funcformat 0 :funccollid 0 :inputcollid 0 :args ({{VAR :varno 1 \
         :varattno 2 :vartype 25 :vartypmod -1 :varcollid 0 :varlevelsup 0 :varnosyn 1 \
         :varattnosyn 2 :location 48}}) :location 40}}"
    )]);
    check(&likened, "CREATE TABLE t (LIKE people INCLUDING ALL)", &["define", "unknown"]);
    check(&likened, "CREATE TABLE t (LIKE people)", &["define"]);
    check(&plain, "CREATE TABLE t (LIKE people INCLUDING ALL)", &["define"]);
    // What a text names and is not there may be made.
    let missing = names_with(&[
        INDEXED,
        "function|18399|public|deep|f|sql||f",
        "body|18399|select app.gone($1)|23,23",
    ]);
    let make = "CREATE FUNCTION app.gone(int) RETURNS int LANGUAGE sql AS 'select 1'";
    check(&missing, make, &["define", "unknown"]);
    check(&missing, &make.replace("app", "other"), &["define"]);
    check(&missing, "ALTER SCHEMA other RENAME TO app", &["define", "unknown"]);
    // By an earlier statement of the same text.
    check(
        &plain,
        "CREATE INDEX ON notes (plus_one(id)); \
         CREATE OR REPLACE FUNCTION plus_one(int) RETURNS int LANGUAGE sql AS 'select 2'",
        &["read", "define", "unknown"],
    );
    // The difference of two values of a range.
    let ranged = names_with(&[
        "type|90200|public|odd_range|r|23|0|3834,3835,0,18398",
        "relation|90210|public|spans|r|f",
        "column|90210|1|a|90200",
    ]);
    check(&ranged, CHANGES_MAINTAINED[1], &["define", "unknown"]);
    check(&ranged, CHANGES_MAINTAINED[0], &["define"]);
}

#[test]
fn what_autovacuum_will_run_is_no_mere_definition() {
    let names = names_with(&[]);
    for sql in [
        "CREATE STATISTICS s ON (plus_one(id)) FROM notes",
        "CREATE STATISTICS s ON note, (id @+@ 1) FROM notes",
        "CREATE STATISTICS s ON (id::text::odd_email), note FROM notes",
        "CREATE STATISTICS s ON (visible(note)), id FROM notes",
        "CREATE TYPE r AS RANGE (subtype = int4, subtype_diff = odd)",
        "CREATE TYPE r AS RANGE (subtype = int4, subtype_diff = nothing_known)",
        "CREATE TYPE r AS RANGE (subtype = int4, subtype_diff = public.int4mi)",
    ] {
        check(&names, sql, &["define", "unknown"]);
    }
    for sql in [
        "CREATE STATISTICS s ON id, note FROM notes",
        "CREATE STATISTICS s ON (lower(note)), (id + 1) FROM notes",
        "CREATE STATISTICS s ON id, a FROM odd_mails",
        "CREATE TYPE r AS RANGE (subtype = int4)",
        "CREATE TYPE r AS RANGE (subtype = float8, subtype_diff = float8mi)",
        "CREATE TYPE r AS RANGE (subtype = int4, subtype_diff = pg_catalog.int4range_subdiff)",
    ] {
        check(&names, sql, &["define"]);
    }
}

#[test]
fn a_new_partition_may_run_the_key_of_its_parent() {
    let plain = names_with(&[]);
    let partition =
        "CREATE TABLE e PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')";
    check(&plain, partition, &["define"]);
    check(&plain, "CREATE TABLE e PARTITION OF events DEFAULT", &["define"]);
    let odd = names_with(&[&format!("tree|18245|partition||1|{{FUNCEXPR :funcid {VISIBLE}}}")]);
    check(&odd, partition, &["define", "unknown"]);
    check(&odd, "CREATE TABLE e PARTITION OF events DEFAULT", &["define", "unknown"]);
    let attach = "ALTER TABLE events ATTACH PARTITION notes FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')";
    check(&plain, attach, &["define"]);
    check(&odd, attach, &["define", "unknown"]);
}

#[test]
fn a_dropped_column_may_make_a_call_of_a_name() {
    let names = names_with(&[]);
    check(
        &names,
        "ALTER TABLE people DROP COLUMN name; SELECT p.name FROM people p",
        &["read", "define", "unknown"],
    );
    check(&names, "ALTER TABLE people DROP COLUMN name", &["define"]);
}

#[test]
fn casts_count_where_an_alter_table_may_run_them() {
    let names = names_with(&[
        "relation|90300|public|te|r|f",
        "column|90300|1|x|18374",
        &format!("cast|90301|18374|25|{VISIBLE}|a"),
    ]);
    for sql in [
        "ALTER TABLE te ALTER x TYPE text",
        "ALTER TABLE te ADD COLUMN y text GENERATED ALWAYS AS (x::text) STORED",
        "ALTER TABLE te ADD CHECK (x::text <> '')",
        "CREATE INDEX ON te ((x::text))",
        "CREATE INDEX ON te (x) WHERE x::text <> ''",
    ] {
        check(&names, sql, &["define", "unknown"]);
    }
    for sql in [
        "ALTER TABLE te ADD COLUMN y int",
        "ALTER TABLE te ADD COLUMN y int NOT NULL DEFAULT 0",
        "ALTER TABLE te ADD COLUMN y int REFERENCES depts",
        "ALTER TABLE te ADD PRIMARY KEY (x)",
        "ALTER TABLE te ALTER x SET NOT NULL",
        "ALTER TABLE te DROP COLUMN x",
        "CREATE INDEX ON te (x)",
        "ALTER TABLE notes ALTER note TYPE varchar(10)",
        "DROP TABLE te",
    ] {
        check(&names, sql, &["define"]);
    }
    let global = names_with(&[&format!("cast|90302|23|25|{VISIBLE}|a")]);
    check(&global, "ALTER TABLE notes ALTER id TYPE text", &["define", "unknown"]);
    check(&global, "ALTER TABLE notes ADD COLUMN x int", &["define"]);
}

#[test]
fn a_cascade_counts_as_named() {
    // Keys of keys: moods to gone, gone to notes.
    let keys = names_with(&["foreign_key|18213|18208|1|1|a|a", "foreign_key|18379|18213|1|1|a|a"]);
    let emptied = objects_of(&keys, "TRUNCATE notes CASCADE");
    for table in ["notes", "gone", "moods"] {
        for role in ["d", "w"] {
            assert!(emptied.contains(&format!("{role} public.{table}")), "{emptied:?}");
        }
    }
    let listed = |sql: &str| objects_of(&names_with(&[]), sql);
    assert_eq!(
        listed("TRUNCATE depts CASCADE"),
        [
            "- public.people",
            "d public.depts",
            "d public.people_depts",
            "w public.depts",
            "w public.people_depts"
        ]
    );
    assert_eq!(listed("ALTER TABLE base DROP COLUMN a"), ["- public.child", "d public.base"]);
    assert_eq!(listed("DROP TABLE base CASCADE"), ["- public.child", "d public.base"]);
    assert_eq!(listed("DROP TABLE events"), ["- public.events_2024", "d public.events"]);
    assert_eq!(
        listed("ALTER TABLE depts DROP CONSTRAINT depts_pkey CASCADE"),
        ["- public.people_depts", "d public.depts"]
    );
    assert_eq!(listed("DROP TABLE gone CASCADE"), ["- public.gone_view", "d public.gone"]);
    assert_eq!(listed("DROP TABLE gone"), ["d public.gone"]);
    assert_eq!(listed("DROP VIEW gone_view CASCADE"), ["d public.gone_view"]);
    assert_eq!(
        listed("DROP SCHEMA other CASCADE"),
        ["- other.only_here", "- other.people", "d .other"]
    );
    assert_eq!(listed("DROP SCHEMA other"), ["d .other"]);
    assert_eq!(
        listed("ALTER SCHEMA other RENAME TO o"),
        ["- other.only_here", "- other.people", "d .other"]
    );
    // What depends on functions and types is not told: everything may.
    for sql in ["DROP SCHEMA evil CASCADE", "DROP TYPE mood CASCADE", "DROP FUNCTION trg CASCADE"] {
        assert!(listed(sql).contains(&"- public.people".to_owned()), "{sql}");
        check(&names_with(&[]), sql, &["define"]);
    }
    assert!(!listed("DROP FUNCTION trg").contains(&"- public.people".to_owned()));
}

/// The catalogue without sequences: which table one belongs to, it does not tell.
fn names_without_sequences() -> Names {
    let is_sequence = |line: &&str| line.starts_with("relation\t") && line.contains("\tS\t");
    let rows: Vec<&str> = CATALOGUE.lines().filter(|line| !is_sequence(line)).collect();
    names_of(&rows.join("\n"), SESSION)
}

#[test]
fn a_definition_that_changes_no_more_than_it_names_lists_what_it_changes() {
    let names = names_without_sequences();
    for (sql, changed) in [
        ("CREATE TABLE fresh (id int PRIMARY KEY, note text)", "public.fresh"),
        ("CREATE TABLE IF NOT EXISTS notes (id int)", "public.notes"),
        ("CREATE TABLE kid () INHERITS (base)", "public.base"),
        ("CREATE TABLE kid () INHERITS (base)", "public.kid"),
        ("CREATE VIEW seen AS SELECT id FROM notes", "public.seen"),
        ("CREATE OR REPLACE VIEW people_names AS SELECT 1 AS x", "public.people_names"),
        ("CREATE TABLE copied AS SELECT id FROM notes", "public.copied"),
        ("CREATE MATERIALIZED VIEW kept AS SELECT id FROM notes", "public.kept"),
        ("SELECT id INTO copied FROM notes", "public.copied"),
        ("CREATE INDEX ON notes (id)", "public.notes"),
        ("CREATE SEQUENCE s", "public.s"),
        ("ALTER TABLE notes ADD COLUMN more int", "public.notes"),
        ("ALTER TABLE notes DROP COLUMN note", "public.notes"),
        ("ALTER TABLE IF EXISTS notes ENABLE ROW LEVEL SECURITY", "public.notes"),
        ("ALTER TABLE base ADD COLUMN more int", "public.child"),
        ("ALTER INDEX people_pkey SET (fillfactor = 70)", "public.people"),
        ("ALTER VIEW people_names SET (security_barrier)", "public.people_names"),
        (
            "CREATE TRIGGER t BEFORE INSERT ON notes FOR EACH ROW \
             EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "public.notes",
        ),
        ("CREATE RULE r AS ON UPDATE TO notes DO INSTEAD NOTHING", "public.notes"),
        ("CREATE POLICY p ON notes", "public.notes"),
        ("ALTER POLICY p ON notes USING (true)", "public.notes"),
        ("CREATE STATISTICS s ON id, note FROM notes", "public.notes"),
        ("CREATE SCHEMA s1", ".s1"),
        ("DROP TABLE notes", "public.notes"),
        ("DROP TABLE IF EXISTS other.people", "other.people"),
        ("DROP TABLE events", "public.events_2024"),
        ("DROP VIEW people_names", "public.people_names"),
        ("DROP MATERIALIZED VIEW people_mat", "public.people_mat"),
        ("DROP INDEX people_pkey", "public.people"),
        ("DROP FOREIGN TABLE far", "public.far"),
        ("DROP TRIGGER t ON notes", "public.notes"),
        ("DROP RULE r ON notes", "public.notes"),
        ("DROP POLICY p ON notes", "public.notes"),
    ] {
        let found = analyse(sql, Some(&names), &open());
        let change = found.session_change;
        assert!(change.catalogue && !change.is_wide, "{sql}: {change:?} {:?}", found.unknown);
        let listed = objects(&found);
        let is_listed = ["d", "-"].iter().any(|role| listed.contains(&format!("{role} {changed}")));
        assert!(is_listed, "{sql}: {listed:?}");
    }
    let names = names_with(&[]);
    for (sql, changed) in [
        ("ALTER SEQUENCE numbers INCREMENT 5", "public.numbers"),
        ("DROP SEQUENCE numbers", "public.numbers"),
        ("DROP VIEW people_names", "public.people_names"),
    ] {
        let found = analyse(sql, Some(&names), &open());
        assert!(found.session_change.catalogue && !found.session_change.is_wide, "{sql}");
        assert!(objects(&found).contains(&format!("d {changed}")), "{sql}");
    }
}

#[test]
fn a_definition_may_change_everything_where_that_is_not_plain_to_see() {
    let with_sequences = names_with(&[]);
    let event = names_with(&["event_trigger|90001|18266|ddl_command_end|e"]);
    for (names, sql) in [
        (&with_sequences, "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'select 1'"),
        (&with_sequences, "CREATE TABLE t (id int REFERENCES people)"),
        (&with_sequences, "ALTER TABLE notes ADD FOREIGN KEY (id) REFERENCES people"),
        (&with_sequences, "ALTER TABLE notes DROP COLUMN note CASCADE"),
        // The sequence of a column goes with it, whatever its name.
        (&with_sequences, "ALTER TABLE notes DROP COLUMN note"),
        (&with_sequences, "DROP TABLE notes"),
        (&with_sequences, "DROP VIEW people_names CASCADE"),
        // It may be there by the time that the target looks for it.
        (&with_sequences, "DROP VIEW IF EXISTS nowhere"),
        (&with_sequences, "DROP SCHEMA other"),
        // Whatever another session defined in it.
        (&with_sequences, "COMMIT PREPARED 'x'"),
        (&with_sequences, "ALTER TABLE notes RENAME TO others"),
        (&with_sequences, "ALTER TABLE notes SET SCHEMA other"),
        (&with_sequences, "CREATE SCHEMA s1 CREATE VIEW v AS SELECT 1"),
        (&with_sequences, "GRANT USAGE ON SCHEMA other TO public"),
        (&with_sequences, "CREATE VIEW v AS SELECT 1; DROP FUNCTION plus_one"),
        (&event, "CREATE VIEW v AS SELECT 1"),
    ] {
        let found = analyse(sql, Some(names), &open());
        assert!(found.session_change.is_wide, "{sql}");
    }
    let found = analyse("CREATE TEMPORARY TABLE t (id int)", Some(&with_sequences), &open());
    assert!(!found.session_change.catalogue);
}
