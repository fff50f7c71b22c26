//! docs/statements.md is what the code decides, and nothing else. Run with `CORRAL_WRITE_DOCS=1`
//! to write it anew.

mod dumps;

use std::fmt::Write as _;
use std::path::PathBuf;

use corral_model::Effect;
use corral_protocol_postgres::analysis::{analyse, tables, verbs};
use dumps::*;

/// Statements of every kind, on the tables of `data/catalogue.sql`.
const SAMPLES: &[(&str, &[&str])] = &[
    (
        "Transactions and session",
        &[
            "BEGIN",
            "COMMIT",
            "SAVEPOINT s",
            "PREPARE TRANSACTION 'x'",
            "SHOW work_mem",
            "SET TIME ZONE 'UTC'",
            "SET search_path = other",
            "SET client_encoding = 'SJIS'",
            "SET standard_conforming_strings = off",
            "SET session_replication_role = replica",
            "SET my.variable = 'x'",
            "RESET ALL",
            "SET ROLE app",
            "SET SESSION AUTHORIZATION app",
            "DISCARD ALL",
            "SET CONSTRAINTS ALL DEFERRED",
        ],
    ),
    (
        "Reading",
        &[
            "SELECT * FROM people",
            "VALUES (1)",
            "TABLE people",
            "SELECT * FROM people FOR UPDATE",
            "SELECT * FROM people_names",
            "SELECT setval('numbers', 1)",
            "SELECT set_config('search_path', '', false)",
            "SELECT set_config('role', 'app', false)",
            "SELECT pg_terminate_backend(1)",
            "SELECT purge()",
            "SELECT * FROM far",
            "SELECT * FROM pg_class",
            "SELECT * FROM pg_authid",
            "EXPLAIN DELETE FROM notes",
            "EXPLAIN ANALYZE DELETE FROM notes",
            "DECLARE c CURSOR FOR SELECT * FROM people",
            "FETCH 10 FROM c",
            "CLOSE c",
            "COPY people TO STDOUT",
            "COPY (SELECT * FROM people) TO STDOUT",
            "COPY people TO '/tmp/people'",
            "COPY people TO PROGRAM 'cat'",
            "LOCK TABLE people",
            "LISTEN channel",
            "UNLISTEN channel",
        ],
    ),
    (
        "Writing",
        &[
            "INSERT INTO notes VALUES (1, 'x')",
            "INSERT INTO notes VALUES (1, 'x') RETURNING id",
            "INSERT INTO notes SELECT id, name FROM people",
            "INSERT INTO audited VALUES (1, 'x')",
            "UPDATE notes SET note = 'x' WHERE id = 1",
            "UPDATE notes SET note = name FROM people",
            "DELETE FROM notes",
            "MERGE INTO notes USING people ON true WHEN MATCHED THEN DELETE",
            "WITH gone AS (DELETE FROM notes RETURNING *) SELECT * FROM gone",
            "COPY notes FROM STDIN",
            "COPY notes FROM PROGRAM 'cat'",
            "NOTIFY channel",
        ],
    ),
    (
        "Prepared statements and code",
        &[
            "PREPARE p AS DELETE FROM notes",
            "EXECUTE p",
            "DEALLOCATE p",
            "DO $$ BEGIN NULL; END $$",
            "CALL proc()",
            "not SQL at all",
        ],
    ),
    (
        "Definitions",
        &[
            "CREATE TABLE t (id int)",
            "CREATE TABLE t AS SELECT * FROM people",
            "SELECT * INTO t FROM people",
            "ALTER TABLE notes ADD COLUMN x int",
            "ALTER TABLE notes ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE notes OWNER TO app",
            "ALTER TABLE notes RENAME TO n",
            "DROP TABLE notes",
            "TRUNCATE notes",
            "CREATE INDEX ON notes (note)",
            "CREATE VIEW v AS SELECT * FROM people",
            "REFRESH MATERIALIZED VIEW people_mat",
            "CREATE SEQUENCE s",
            "CREATE SCHEMA s",
            "DROP SCHEMA other",
            "CREATE TYPE t AS ENUM ('a')",
            "CREATE DOMAIN d AS text",
            "ALTER DOMAIN plain_email ADD CHECK (value <> '')",
            "ALTER DOMAIN plain_email ADD CHECK (visible(value))",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'select 1'",
            "CREATE TRIGGER t AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION trg()",
            "CREATE RULE r AS ON INSERT TO notes DO ALSO NOTHING",
            "CREATE OPERATOR @@@ (RIGHTARG = int, FUNCTION = f)",
            "COMMENT ON TABLE notes IS 'x'",
            "VACUUM notes",
            "VACUUM",
            "ANALYZE notes",
            "ANALYZE",
            "REINDEX TABLE notes",
            "CLUSTER notes",
        ],
    ),
    (
        "Administration",
        &[
            "GRANT SELECT ON people TO app",
            "REVOKE SELECT ON people FROM app",
            "CREATE POLICY p ON notes",
            "CREATE ROLE r",
            "ALTER ROLE app SUPERUSER",
            "DROP OWNED BY app",
            "REASSIGN OWNED BY app TO app",
            "ALTER SYSTEM SET work_mem = '1GB'",
            "CREATE DATABASE d",
            "CREATE TABLESPACE t LOCATION '/t'",
            "CREATE EXTENSION hstore",
            "CREATE FOREIGN TABLE t (id int) SERVER far_away",
            "CREATE PUBLICATION p",
            "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION trg()",
            "CREATE LANGUAGE l",
            "SECURITY LABEL ON TABLE people IS 'x'",
            "LOAD 'library'",
            "CHECKPOINT",
        ],
    ),
];

fn wrapped(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(" ")
}

fn page() -> String {
    let mut page = String::from(
        "# What statements need: PostgreSQL\n\n\
         Generated from the code that decides; `crates/protocol-postgres/tests/statements.rs` \
         writes and checks it.\n\
         A statement needs a permit for each of its effects; none means that the right to connect \
         is enough. What is not told here, does not parse, or reaches what cannot be told, is \
         `unknown`.\n\n## Statements\n\n\
         The tables are those of `crates/protocol-postgres/tests/data/catalogue.sql`: `audited` \
         has a trigger, `far` is a foreign table, `purge()` and `proc()` are made by users.\n",
    );
    let names = names();
    let scope = open();
    for (title, samples) in SAMPLES {
        let _ =
            write!(page, "\n### {title}\n\n| statement | verbs | effects |\n| --- | --- | --- |\n");
        for sample in *samples {
            let facts = analyse(sample, Some(&names), &scope).facts;
            let verbs: Vec<&str> = facts.verbs.iter().map(|verb| verb.name).collect();
            let effects: Vec<&str> = facts.effects.iter().map(Effect::name).collect();
            let shown =
                |list: &[&str]| if list.is_empty() { "–".to_owned() } else { list.join(", ") };
            let _ = writeln!(page, "| `{sample}` | {} | {} |", shown(&verbs), shown(&effects));
        }
    }
    page.push_str(
        "\nUPDATE and DELETE need `write` for the table that they change, whatever their WHERE \
         reads of it; other tables, and RETURNING, need `read` too. A table with user triggers, \
         rules, cascading keys, row security, checks, index expressions, domains or generated \
         columns has the effects of the functions and tables behind them. So has a domain's default \
         that fills a column, the default of an argument, a user's cast of a row that is read, and \
         an operator's negator and commutator, which the planner may put in its place. A table \
         that is only read has the effects of what the planner computes for it: calls of users' \
         functions with constants in index predicates, checks and statistics, and any in its \
         partition key. A type or operator with a schema's name that is found nowhere is `unknown`. A function in SQL that runs with its caller's rights and \
         settings does what its body does (a quoted one of at most 4,096 characters); functions in C \
         of reviewed extensions are `read`; every other user function is `unknown`. EXECUTE has the effects of what was \
         prepared, where the session knows it. EXPLAIN has the effects of the functions in SQL that \
         its statement calls: the target may run them while it plans.\n\n\
         A definition has the effects of what runs with it: event triggers; defaults, checks, keys \
         and index expressions; casts of columns whose type or whose values in an expression it \
         changes; the checks of domains inside the arrays, rows and ranges that its literals may \
         be read as, also in a view, a rule, a policy or the body of a function in SQL. VACUUM \
         FULL, ANALYZE, REINDEX and CLUSTER run the expressions of indexes and statistics, without \
         a name those of every table.\n\n## Verbs\n\n| verb | effect |\n| --- | --- |\n",
    );
    for verb in verbs::VERBS {
        let effect = verb.effect.map_or("–", Effect::name);
        let _ = writeln!(page, "| `{}` | {effect} |", verb.name);
    }
    page.push_str(
        "\n## Settings\n\nSET, RESET and set_config() with a literal name of these need the right \
         to connect only; every other setting needs `administer`. `search_path` is one of them, \
         and names are looked up anew after it.\n\n",
    );
    for (name, values) in tables::harmless_settings() {
        let only = values.map(|values| {
            let shown: Vec<String> = values.iter().map(|value| format!("'{value}'")).collect();
            format!(" (only {})", shown.join(", "))
        });
        let _ = writeln!(page, "- `{name}`{}", only.unwrap_or_default());
    }
    let _ = write!(
        page,
        "\n## System relations\n\nReading these needs `administer`: {}.\nChanging any needs \
         `administer`. Sessions with masked columns may read neither these nor {}; \
         `pg_attribute.attmissingval` is masked there.\n",
        wrapped(tables::secret_relations()),
        wrapped(tables::telling_relations()),
    );
    page.push_str("\n## Functions\n\nBy name, whatever the arguments.\n");
    for (effect, functions) in tables::functions() {
        let _ = write!(page, "\n### {effect}\n\n{}\n", wrapped(&functions));
    }
    let _ = write!(
        page,
        "\n### In sessions with masked columns\n\nOnly functions that are `read` or `write` may be \
         called there, and not these: {}.\n\n### Extensions\n\nFunctions in C that \
         these extensions brought are `read`, and so are theirs in SQL that were parsed when a \
         superuser made them: {}. A function of theirs in SQL whose text is parsed when it runs \
         does what its text means in the session's search path.\n",
        wrapped(tables::functions_closed_when_masked()),
        wrapped(tables::reviewed_extensions()),
    );
    page
}

#[test]
fn the_page_about_statements_is_what_the_code_decides() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/statements.md");
    let page = page();
    if std::env::var_os("CORRAL_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("docs/statements.md can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == page,
        "docs/statements.md is old: run CORRAL_WRITE_DOCS=1 cargo test -p \
         corral-protocol-postgres --test statements"
    );
}
