//! Every evasion of the mask and of policy by SQL, as the verdict that an operator would see.
//! The catalogue is that of `data/catalogue.sql` on PostgreSQL 15.

mod dumps;

use corral_model::Effect;
use corral_model::limits::{ANALYSIS_STACK_BYTES, SQL_TEXT_BYTES_MAX, SQL_TEXT_TOKENS_MAX};
use corral_protocol_postgres::analysis::{
    Analysis, MaskScope, Names, StatementKind, analyse, analyse_execute, outline,
};
use dumps::*;

const TEMPORARY_SESSION: &str = include_str!("data/session.tsv");

fn with_path(path: &[&str]) -> Names {
    let rows: Vec<String> = SESSION
        .lines()
        .filter(|line| !line.starts_with("path"))
        .map(str::to_owned)
        .chain(path.iter().enumerate().map(|(index, name)| format!("path\t{index}\t{name}")))
        .collect();
    names_of(CATALOGUE, &rows.join("\n"))
}

fn masked() -> MaskScope {
    scope(&["public.people.ssn", "public.people.salary"])
}

fn verbs(analysis: &Analysis) -> Vec<&'static str> {
    analysis.facts.verbs.iter().map(|verb| verb.name).collect()
}

fn indexes(analysis: &Analysis) -> Option<(usize, Vec<usize>)> {
    let mask = analysis.mask.as_ref()?;
    Some((mask.column_count, mask.masked.iter().map(|column| column.index).collect()))
}

#[test]
fn plain_projections_are_masked_at_exact_positions() {
    let names = names();
    let check = |sql: &str, count: usize, at: &[usize]| {
        let found = analyse(sql, Some(&names), &masked());
        assert_eq!(found.facts.obstacle, None, "{sql}");
        assert_eq!(indexes(&found), Some((count, at.to_vec())), "{sql}");
        assert!(found.facts.is_masked, "{sql}");
        assert_eq!(effects(&found), ["read"], "{sql}");
    };
    check("SELECT ssn FROM people", 1, &[0]);
    check("SELECT ssn AS x FROM people", 1, &[0]);
    check("SELECT (ssn) FROM people", 1, &[0]);
    check("TABLE people", 5, &[2, 3]);
    check("SELECT * FROM people", 5, &[2, 3]);
    check("SELECT people.* FROM people", 5, &[2, 3]);
    check("SELECT public.people.* FROM public.people", 5, &[2, 3]);
    check("SELECT public.people.ssn FROM public.people", 1, &[0]);
    check("SELECT \"name\" AS \"createdAt\", * FROM people", 6, &[3, 4]);
    check("SELECT p.id, p.* FROM people AS p", 6, &[3, 4]);
    check("SELECT p.c FROM people AS p(a, b, c)", 1, &[0]);
    check("SELECT * FROM gone, people", 8, &[5, 6]);
    check("SELECT gone.*, ssn FROM gone, people", 4, &[3]);
    check("SELECT * FROM people JOIN depts ON dept = depts.id", 7, &[2, 3]);
    check("SELECT * FROM depts LEFT JOIN people ON dept = depts.id", 7, &[4, 5]);
    check("SELECT * FROM people p RIGHT JOIN depts d ON p.dept = d.id", 7, &[2, 3]);
    check("SELECT * FROM people p FULL JOIN depts d ON p.dept = d.id", 7, &[2, 3]);
    check("SELECT * FROM people CROSS JOIN depts", 7, &[2, 3]);
    check("SELECT * FROM people JOIN depts USING (id)", 6, &[2, 3]);
    check("SELECT * FROM depts JOIN people USING (id)", 6, &[3, 4]);
    check("SELECT * FROM depts NATURAL JOIN people", 6, &[3, 4]);
    check("SELECT * FROM depts JOIN people USING (id, id)", 7, &[4, 5]);
    check("SELECT j.* FROM (people JOIN depts ON dept = depts.id) AS j", 7, &[2, 3]);
    check("SELECT x FROM (SELECT ssn AS x FROM people) q", 1, &[0]);
    check("SELECT * FROM (SELECT id, ssn AS x FROM people) q(a, b)", 2, &[1]);
    check("SELECT b FROM (SELECT id, ssn AS x FROM people) q(a, b)", 1, &[0]);
    check(
        "SELECT q.* FROM depts d, LATERAL (SELECT * FROM people p WHERE p.dept = d.id) q",
        5,
        &[2, 3],
    );
    check("SELECT l.x FROM people p, LATERAL (SELECT p.ssn AS x) l", 1, &[0]);
    check("WITH q AS (SELECT * FROM people) SELECT * FROM q", 5, &[2, 3]);
    check("WITH q AS MATERIALIZED (SELECT ssn FROM people) SELECT * FROM q", 1, &[0]);
    check("WITH q(a, b) AS (SELECT ssn, id FROM people) SELECT b, a FROM q", 2, &[1]);
    check("SELECT id, ssn FROM people ORDER BY id LIMIT 5", 2, &[1]);
    check("SELECT id, ssn FROM people WHERE name LIKE 'a%' AND dept IN (1, 2)", 2, &[1]);
    check("SELECT ssn FROM people WHERE id IN (SELECT id FROM depts)", 1, &[0]);
    check("SELECT ssn, count(*) OVER (PARTITION BY dept) FROM people", 2, &[0]);
    check("SELECT id, ssn FROM people GROUP BY id", 2, &[1]);
    check("SELECT U&\"s\\0073n\" FROM U&\"\\0070eople\"", 1, &[0]);
    check("select--\rssn from people", 1, &[0]);
    check("/* /* nested */ */ sElEcT/**/SSN\tFROM people;", 1, &[0]);
    check("SELECT a$b$.ssn FROM people AS a$b$", 1, &[0]);
    check("SELECT E'it\\'s'\n'\\' ; DROP TABLE people; --', ssn FROM people", 2, &[1]);
}

#[test]
fn statements_without_masked_columns_pass_in_a_masked_session() {
    let names = names();
    let check = |sql: &str| {
        let found = analyse(sql, Some(&names), &masked());
        assert_eq!(found.facts.obstacle, None, "{sql}");
        assert_eq!(found.mask, None, "{sql}");
        assert!(!found.facts.effects.contains(Effect::Unknown), "{sql}: {:?}", found.unknown);
    };
    check("SELECT count(*) FROM people");
    check("SELECT count(1) FROM people WHERE dept = 3");
    check("SELECT id, name FROM people WHERE name = $1 ORDER BY name");
    check("SELECT id FROM people WHERE EXISTS (SELECT 1 FROM depts WHERE depts.id = people.dept)");
    check("SELECT upper(name), now() FROM people GROUP BY 1");
    check("SELECT ctid, tableoid::regclass, id FROM people");
    check("INSERT INTO notes VALUES (1, 'x')");
    check("INSERT INTO notes SELECT id, name FROM people");
    check("INSERT INTO orders (customer_id, note) VALUES (1, 'x') RETURNING id");
    check("UPDATE notes SET note = 'y' WHERE id IN (SELECT id FROM people WHERE dept = 1)");
    check("DELETE FROM notes USING people WHERE notes.id = people.id");
    check("COPY notes TO STDOUT");
    check("COPY notes FROM STDIN");
    check("CREATE TABLE fresh (id int PRIMARY KEY, t text DEFAULT lower('X'))");
    check("ALTER TABLE notes ADD COLUMN more text");
    check("DROP TABLE notes");
    check("CREATE INDEX ON notes (note)");
    check("CREATE TEMP TABLE t AS SELECT id FROM notes");
    check("EXPLAIN SELECT * FROM notes");
    check("PREPARE p AS SELECT * FROM notes");
    check("BEGIN");
    check("SELECT set_config('search_path', '', false)");
    check("SET search_path = other");
    check(
        "SELECT c.relname, a.attname, pg_get_expr(d.adbin, d.adrelid), format_type(a.atttypid, a.atttypmod) \
           FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
           LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum \
           WHERE c.oid = 'people'::regclass",
    );
    check("SELECT * FROM information_schema.columns");
    check("SELECT * FROM quiet");
    check("SELECT * FROM gone_view");
    check("SELECT * FROM other.people");
    check("SELECT has_table_privilege('people', 'select')");
}

#[test]
fn every_other_use_of_a_masked_column_is_refused() {
    let names = names();
    let check = |sql: &str| {
        let found = analyse(sql, Some(&names), &masked());
        let obstacle = found.facts.obstacle.as_ref();
        assert!(obstacle.is_some_and(|o| o.rule == "masking" && !o.is_size), "passed: {sql}");
        assert_eq!(found.mask, None, "{sql}");
    };
    // A: the shape of the output.
    check("SELECT ssn||'' FROM people");
    check("SELECT ssn::varchar FROM people");
    check("SELECT ssn::text FROM people");
    check("SELECT ssn COLLATE \"C\" FROM people");
    check("SELECT p FROM people p");
    check("SELECT people FROM people");
    check("SELECT (p).ssn FROM people p");
    check("SELECT (p).* FROM people p");
    check("SELECT ROW(p.*) FROM people p");
    check("SELECT ssn(p) FROM people p");
    check("SELECT p.fullname FROM people p");
    check("SELECT to_jsonb(p), xmlforest(ssn) FROM people p");
    check("SELECT xmlforest(ssn) FROM people p");
    check("SELECT row_to_json(p) FROM people p");
    check("SELECT json_agg(q) FROM (SELECT ssn FROM people) q");
    check("SELECT max(ssn) FROM people");
    check("SELECT mode() WITHIN GROUP (ORDER BY ssn) FROM people");
    check("SELECT array_agg(id ORDER BY ssn) FROM people");
    check("SELECT count(*) FILTER (WHERE ssn > '5') FROM people");
    check("SELECT ssn FROM people UNION ALL SELECT ''");
    check("SELECT '' UNION ALL SELECT ssn FROM people");
    check("SELECT ssn FROM people EXCEPT SELECT '1'");
    check("SELECT * FROM (SELECT ssn FROM people UNION ALL SELECT '') q");
    check("SELECT (SELECT ssn FROM people LIMIT 1)");
    check("SELECT ARRAY(SELECT ssn FROM people)");
    check("SELECT ARRAY[ssn] FROM people");
    check("SELECT v FROM people, LATERAL (VALUES (ssn)) l(v)");
    check("SELECT v FROM people, LATERAL unnest(ARRAY[ssn]) v");
    check("SELECT v FROM people, regexp_split_to_table(ssn, '-') v");
    check("SELECT CASE WHEN true THEN ssn END FROM people");
    check("SELECT COALESCE(ssn, '') FROM people");
    check("SELECT NULLIF(ssn, '') FROM people");
    check("SELECT GREATEST(ssn, '') FROM people");
    check("SELECT first_value(ssn) OVER () FROM people");
    check("SELECT left(ssn, 3), right(ssn, 4) FROM people");
    check("SELECT reverse(ssn) FROM people");
    check("SELECT replace(ssn, '-', '')::bigint FROM people");
    check("SELECT translate(ssn, '0123', '０１２３') FROM people");
    check("SELECT DISTINCT ssn FROM people");
    check("SELECT DISTINCT * FROM people");
    check("SELECT DISTINCT ON (ssn) id FROM people");
    check("WITH RECURSIVE r AS (SELECT ssn FROM people) SELECT * FROM r");
    check("SELECT *, f FROM people, json_populate_record(NULL::people, '{}') f(a)");
    check("SELECT *, v.* FROM people, json_each('{}') v");
    check("SELECT * FROM people TABLESAMPLE SYSTEM (10)");
    check("SELECT old.ssn FROM people old JOIN people new USING (ssn)");
    check("SELECT * FROM people NATURAL JOIN by_ssn");
    check("SELECT * FROM people a NATURAL JOIN people b");
    check("SELECT * FROM (SELECT 1, 2) q NATURAL JOIN people");
    // C: objects and laundering.
    check("SELECT * FROM people_all");
    check("SELECT * FROM people_names");
    check("SELECT * FROM people_mat");
    check("SELECT * FROM far");
    check("CREATE TEMP VIEW v AS SELECT ssn k FROM people");
    check("CREATE VIEW v AS SELECT id FROM people");
    check("CREATE MATERIALIZED VIEW v AS SELECT id FROM people");
    check("CREATE TEMP TABLE t AS SELECT ssn FROM people");
    check("SELECT ssn INTO t FROM people");
    check("SELECT id INTO t FROM people");
    check("CREATE TABLE t AS EXECUTE p");
    check("CREATE TABLE t (LIKE people INCLUDING ALL)");
    check("CREATE TABLE t () INHERITS (people)");
    check("CREATE TABLE t (s text REFERENCES people (ssn))");
    check("INSERT INTO notes SELECT id, ssn FROM people");
    check("INSERT INTO notes VALUES (1, (SELECT ssn FROM people LIMIT 1))");
    check("INSERT INTO notes (note) SELECT * FROM (SELECT ssn FROM people) q");
    check("INSERT INTO people (ssn) VALUES ('1')");
    check(
        "INSERT INTO notes VALUES (1, '') ON CONFLICT (id) DO UPDATE SET note = (SELECT ssn FROM people)",
    );
    check("UPDATE people SET name = ssn RETURNING name");
    check("UPDATE people SET name = 'x'");
    check("UPDATE notes SET note = ssn FROM people");
    check("UPDATE notes SET note = 'x' FROM people RETURNING *");
    check("UPDATE notes SET note = 'x' FROM people WHERE ssn LIKE '1%'");
    check("UPDATE notes SET (id, note) = (SELECT id, ssn FROM people)");
    check("DELETE FROM people WHERE id = 1");
    check("DELETE FROM notes USING people RETURNING people.ssn");
    check("MERGE INTO notes USING people ON true WHEN MATCHED THEN UPDATE SET note = ssn");
    check("MERGE INTO people USING notes ON true WHEN MATCHED THEN DELETE");
    check("WITH x AS (DELETE FROM people RETURNING *) SELECT * FROM x");
    check(
        "WITH x AS (UPDATE notes SET note = '' RETURNING *) SELECT (SELECT ssn FROM people) FROM x",
    );
    check("INSERT INTO by_ssn VALUES (1, '123')");
    check("ALTER TABLE people ALTER name TYPE text USING ssn");
    check("ALTER TABLE people RENAME COLUMN ssn TO s");
    check("ALTER TABLE people RENAME TO p2");
    check("ALTER TABLE people SET SCHEMA other");
    check("ALTER SCHEMA public RENAME TO p");
    check("DROP SCHEMA public CASCADE");
    check("ALTER TABLE notes INHERIT people");
    check("ALTER TABLE people INHERIT notes");
    check("DROP TABLE people");
    check("DROP TABLE IF EXISTS people");
    check("DROP INDEX people_lower_idx");
    check("TRUNCATE people");
    check("CREATE INDEX ON people ((1/(length(ssn)-3)))");
    check("CREATE TRIGGER t BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION trg()");
    check("CREATE RULE r AS ON INSERT TO notes DO ALSO SELECT ssn FROM people");
    check("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'select ssn from people'");
    check("CREATE DOMAIN d AS text CHECK (length(value) > 1)");
    check("CREATE CAST (text AS int) WITH INOUT");
    check("CREATE STATISTICS s ON ssn, name FROM people");
    check("GRANT SELECT ON people TO public");
    check("SELECT fullname(people) FROM people");
    check("SELECT purge()");
    check("SELECT odd(1, 2)");
    check("SELECT 1 @+@ 2");
    check("SELECT * FROM dblink('', 'select ssn from people') AS t(s text)");
    check("SELECT query FROM pg_stat_activity");
    check("SELECT * FROM pg_stats");
    check("SELECT most_common_vals FROM pg_catalog.pg_stats WHERE tablename = 'people'");
    check("SELECT * FROM pg_statistic");
    check("SELECT * FROM pg_stats_ext");
    check("SELECT * FROM pg_cursors");
    check("SELECT * FROM pg_prepared_statements");
    check("SELECT * FROM pg_stat_get_activity(NULL)");
    check("SELECT data FROM pg_largeobject");
    check("SELECT * FROM pg_authid");
    check("SELECT * FROM pg_stat_statements");
    check("SELECT * FROM pg_toast.pg_toast_16384");
    check("SELECT heap_page_item_attrs(get_raw_page('people', 0), 'people')");
    check("SELECT pg_read_binary_file(pg_relation_filepath('people'))");
    check("SELECT lo_from_bytea(0, 'x')");
    check("SELECT lo_get(1)");
    check("SELECT pg_logical_slot_get_changes('s', NULL, NULL)");
    check("SELECT pg_advisory_lock(salary) FROM people");
    check("SELECT query_to_xml('select * from people', true, false, '')");
    check("SELECT table_to_xml('people', true, false, '')");
    check("SELECT schema_to_xml('public', true, false, '')");
    check("SELECT cursor_to_xml('c', 1, true, false, '')");
    check("SELECT * FROM ts_stat('select to_tsvector(ssn) from people')");
    check("LISTEN a");
    check("LISTEN a; SELECT pg_notify('a', ssn) FROM people");
    check("SELECT pg_notify('a', ssn) FROM people");
    check("SECURITY LABEL ON TABLE people IS 'x'");
    check("COPY people TO STDOUT");
    check("COPY people (id) TO STDOUT");
    check("COPY (SELECT ssn FROM people) TO STDOUT (FORMAT binary)");
    check("COPY (SELECT id FROM people) TO STDOUT");
    check("COPY people FROM STDIN");
    check("COPY notes TO '/tmp/x'");
    check("COPY notes TO PROGRAM 'cat'");
    check("DECLARE c CURSOR FOR SELECT ssn FROM people");
    check("FETCH ALL FROM c");
    check("PREPARE p AS SELECT ssn FROM people");
    check("EXECUTE p");
    check("LOCK TABLE people");
    check("DO $$ BEGIN RAISE NOTICE '%', (SELECT ssn FROM people LIMIT 1); END $$");
    check("CALL proc()");
    // D: oracles.
    check("SELECT count(*) FROM people WHERE ssn LIKE '1%'");
    check("SELECT id FROM people ORDER BY ssn");
    check("SELECT id, ssn FROM people ORDER BY 2");
    check("SELECT id, ssn AS s FROM people ORDER BY s");
    check("SELECT id FROM people ORDER BY ssn USING <");
    check("SELECT count(*) FROM people GROUP BY ssn");
    check("SELECT ssn FROM people GROUP BY 1");
    check("SELECT count(*) FROM people GROUP BY ROLLUP (ssn)");
    check("SELECT count(*) FROM people HAVING max(ssn) > '5'");
    check("SELECT id FROM people JOIN (VALUES ('1')) g(v) ON ssn = v");
    check("SELECT id FROM people JOIN (SELECT 'x' AS ssn) g USING (ssn)");
    check("SELECT 1/(CASE WHEN ssn LIKE '1%' THEN 0 ELSE 1 END) FROM people");
    check("SELECT pg_sleep(1) FROM people WHERE ssn LIKE '1%'");
    check("SELECT id FROM people FOR UPDATE NOWAIT");
    check("SELECT id FROM people WHERE ssn LIKE '1%' FOR UPDATE SKIP LOCKED");
    check("EXPLAIN SELECT id FROM people WHERE ssn < '5'");
    check("EXPLAIN SELECT ssn FROM people");
    check("EXPLAIN SELECT id FROM people");
    check("EXPLAIN ANALYZE SELECT id FROM people");
    check("SELECT length(ssn) FROM people");
    check("SELECT pg_column_size(p.*) FROM people p");
    check("SELECT ssn IS NULL FROM people");
    check("SELECT count(ssn) FROM people");
    check("SELECT id FROM people LIMIT (SELECT salary FROM people LIMIT 1)");
    check("SELECT row_number() OVER (ORDER BY ssn) FROM people");
    check("SELECT row_number() OVER w FROM people WINDOW w AS (PARTITION BY ssn)");
    check("SELECT 1 WHERE EXISTS (SELECT ssn FROM people)");
    check("SELECT 1 WHERE EXISTS (SELECT 1 FROM people WHERE ssn = '1')");
    check("SELECT 1 WHERE '1' IN (SELECT ssn FROM people)");
    check("SELECT (SELECT count(*) FROM depts WHERE p.ssn = title) FROM people p");
    check("SELECT id FROM people p WHERE (p) IS NOT NULL");
    check("SELECT ssn, people FROM people");
    // Settings and text that nobody can vouch for.
    check("SET client_min_messages = log");
    check("SET enable_seqscan = off");
    check("SET standard_conforming_strings = off");
    check("SET ROLE postgres");
    check("SELECT set_config('role', 'postgres', false)");
    check("SELECT set_config(name, 'x', false) FROM people");
    check("THIS IS NOT SQL");
    check("SELECT * FROM missing");
    check("SELECT missing(1)");
    check("SELECT ssn FROM people; SELECT 1");
    check("SET search_path = other; SELECT * FROM people");
    check("CREATE TABLE t (id int); SELECT id FROM notes");
    // A join that renames columns by place, of which some cannot be counted.
    check(
        "SELECT j.e || '' FROM (json_each('{}') WITH ORDINALITY AS f(x) CROSS JOIN people) \
         AS j(k, v, o, a, b, c, d, e)",
    );
    check("SELECT id FROM (generate_series(1, 2) AS g CROSS JOIN people) AS j(a, id)");
}

#[test]
fn classifications_of_families_and_copies_close_what_they_reach() {
    let names = names();
    let check = |columns: &[&str], sql: &str, expect: Option<(usize, Vec<usize>)>| {
        let found = analyse(sql, Some(&names), &scope(columns));
        assert_eq!(indexes(&found), expect, "{sql}: {:?}", found.facts.obstacle);
        assert_eq!(found.facts.obstacle.is_none(), expect.is_some(), "{sql}");
    };
    check(&["public.events.payload"], "SELECT * FROM events", Some((3, vec![2])));
    check(&["public.events.payload"], "SELECT * FROM events_2024", None);
    check(&["public.events_2024.payload"], "SELECT * FROM events", None);
    check(&["public.events_2024.payload"], "SELECT * FROM events_2024", Some((3, vec![2])));
    check(
        &["public.events.payload", "public.events_2024.payload"],
        "SELECT * FROM events_2024",
        Some((3, vec![2])),
    );
    check(&["public.base.secret"], "SELECT * FROM child", None);
    check(&["public.base.secret"], "SELECT * FROM ONLY base", Some((2, vec![1])));
    check(&["public.child.secret"], "SELECT a FROM base", None);
    // A generated column copies the value; a column that is gone may have been renamed.
    check(&["public.cards.number"], "SELECT shown FROM cards", None);
    check(
        &["public.cards.number", "public.cards.shown"],
        "SELECT * FROM cards",
        Some((3, vec![1, 2])),
    );
    check(&["public.people.social"], "SELECT id FROM people", None);
    // Row security that reads a masked column decides which rows are seen.
    check(&["public.protected.owner"], "SELECT id FROM protected", None);
    check(&["public.protected.id"], "SELECT * FROM protected", Some((2, vec![0])));
}

#[test]
fn temporary_objects_come_first_for_relations_and_never_for_functions() {
    let names = names_of(CATALOGUE, TEMPORARY_SESSION);
    let found = analyse("SELECT * FROM depts", Some(&names), &open());
    assert_eq!(objects(&found), ["r pg_temp.depts"]);
    let found = analyse("SELECT count(name) FROM scratch", Some(&names), &masked());
    assert_eq!(found.facts.obstacle, None);
    let found = analyse("SELECT pg_temp.count(name) FROM scratch", Some(&names), &masked());
    assert!(found.facts.obstacle.is_some());
    assert!(found.facts.effects.contains(Effect::Unknown));
    let found = analyse("SELECT k FROM scratch_view", Some(&names), &masked());
    assert!(found.facts.obstacle.is_some());
    let found = analyse("SELECT id FROM pg_temp.scratch", Some(&names), &masked());
    assert_eq!(found.facts.obstacle, None);
}

#[test]
fn the_search_path_decides_what_a_name_means() {
    let names = with_path(&["pg_catalog", "other", "public"]);
    let found = analyse("SELECT * FROM people", Some(&names), &masked());
    assert_eq!(objects(&found), ["r other.people"]);
    assert_eq!(found.facts.obstacle, None);
    assert_eq!(found.mask, None);
    let found = analyse("SELECT ssn FROM public.people", Some(&names), &masked());
    assert_eq!(indexes(&found), Some((1, vec![0])));
    // An own function under a safe name is seen wherever it stands in the path.
    let names = with_path(&["pg_catalog", "public", "evil"]);
    for sql in ["SELECT lower('X')", "SELECT count(name) FROM people", "SELECT evil.lower('X')"] {
        let found = analyse(sql, Some(&names), &masked());
        assert!(found.facts.obstacle.is_some(), "{sql}");
        assert!(found.facts.effects.contains(Effect::Unknown), "{sql}");
    }
    let found = analyse("SELECT pg_catalog.lower('X')", Some(&names), &masked());
    assert_eq!(found.facts.obstacle, None);
}

#[test]
fn effects_are_what_a_statement_does_not_how_it_starts() {
    let names = names();
    let check = |sql: &str, expected: &[&str]| {
        let found = analyse(sql, Some(&names), &open());
        assert_eq!(effects(&found), expected, "{sql}: {:?} {:?}", found.unknown, verbs(&found));
        assert_eq!(found.facts.obstacle, None, "{sql}");
    };
    check("", &[]);
    check(" ; ; ", &[]);
    check("-- nothing", &[]);
    check("BEGIN", &[]);
    check("BEGIN; COMMIT; ROLLBACK; SAVEPOINT a; ROLLBACK TO a; RELEASE a", &[]);
    check("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", &[]);
    check("SHOW ALL", &[]);
    check("DISCARD ALL", &[]);
    check("SET TIME ZONE 'UTC'", &[]);
    check("SET NAMES 'UTF8'", &[]);
    check("SET NAMES 'SJIS'", &[]);
    check("SET NAMES 'klingon'", &["administer"]);
    check("SET LOCAL search_path = a, b", &[]);
    check("RESET ALL", &[]);
    check("FETCH 5 FROM c", &[]);
    check("CLOSE c", &[]);
    check("DEALLOCATE ALL", &[]);
    check("UNLISTEN *", &[]);
    check("SELECT 1", &["read"]);
    check("SELECT now(), pg_sleep(1)", &["read"]);
    check("SELECT * FROM people", &["read"]);
    check("SELECT * FROM people FOR UPDATE", &["read", "write"]);
    check("SELECT setval('numbers', 1)", &["read", "write"]);
    check("SELECT nextval('numbers')", &["read", "write"]);
    check("SELECT lo_unlink(1)", &["read", "write"]);
    check("SELECT pg_terminate_backend(1)", &["read", "administer"]);
    check("SELECT (1).pg_terminate_backend", &["read", "administer"]);
    check("SELECT pg_read_file('/etc/passwd')", &["read", "administer"]);
    check("SELECT * FROM pg_ls_dir('.')", &["read", "administer"]);
    check("SELECT * FROM pg_authid", &["read", "administer"]);
    check("SELECT * FROM killer", &["read", "administer"]);
    check("UPDATE pg_settings SET setting = 'x'", &["write", "administer"]);
    check("SELECT set_config('search_path', '', false)", &["read"]);
    check("SELECT set_config('role', 'postgres', false)", &["read", "administer"]);
    check("SELECT set_config('ro' || 'le', 'postgres', false)", &["read", "administer"]);
    check(
        "SELECT set_config(name, 'view', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'",
        &["read"],
    );
    check(
        "SELECT set_config(name, 'x', false) FROM pg_settings WHERE name = 'role'",
        &["read", "administer"],
    );
    check(
        "SELECT set_config(name, 'x', false) FROM pg_settings WHERE name <> 'work_mem'",
        &["read", "administer"],
    );
    check(
        "SELECT set_config(name, 'x', false) FROM pg_settings WHERE name = 'work_mem' OR true",
        &["read", "administer"],
    );
    check(
        "SELECT set_config(name, 'x', false) FROM notes WHERE name = 'work_mem'",
        &["read", "administer"],
    );
    check(
        "SELECT (SELECT set_config(name, 'x', false) FROM notes) FROM pg_settings WHERE name = 'work_mem'",
        &["read", "administer"],
    );
    for inner in [
        "SELECT count(*) FROM (VALUES ('role')) AS x(name) WHERE set_config(name, 'x', false) = ''",
        "SELECT 1 FROM (VALUES ('role')) AS x(name), LATERAL (SELECT set_config(name, 'x', false)) y",
        "SELECT 1 FROM (VALUES ('role')) AS x(name) GROUP BY set_config(name, 'x', false)",
        "SELECT 1 FROM (VALUES ('role')) AS x(name) ORDER BY set_config(name, 'x', false)",
        "SELECT 1 FROM (VALUES ('role')) AS x(name) LIMIT set_config(name, 'x', false)::int",
    ] {
        check(
            &format!("SELECT ({inner}) FROM pg_settings WHERE name = 'work_mem'"),
            &["read", "administer"],
        );
    }
    check(
        "SELECT 1 FROM pg_settings WHERE name = 'work_mem' ORDER BY set_config(name, 'x', false)",
        &["read", "administer"],
    );
    check(
        "WITH pg_settings AS (SELECT 'role' AS name) \
         SELECT set_config(name, 'x', false) FROM pg_settings WHERE name = 'work_mem'",
        &["read", "administer"],
    );
    check("LOCK TABLE protected_oddly, odd_mails IN ACCESS SHARE MODE", &["read"]);
    check("SELECT pg_advisory_unlock_all()", &["read"]);
    check("SELECT pg_advisory_lock(1)", &["read", "write"]);
    check("INSERT INTO notes VALUES (1, 'x')", &["write"]);
    check("INSERT INTO notes SELECT * FROM notes", &["read", "write"]);
    check("INSERT INTO notes VALUES (1) RETURNING *", &["read", "write"]);
    check("UPDATE notes SET note = '' WHERE id = 1", &["write"]);
    check("UPDATE notes SET note = '' FROM people", &["read", "write"]);
    check("DELETE FROM notes", &["write"]);
    check("dElEtE/**/FROM notes", &["write"]);
    check("MERGE INTO notes USING people ON false WHEN MATCHED THEN DELETE", &["read", "write"]);
    check("WITH x AS (DELETE FROM notes RETURNING *) SELECT * FROM x", &["read", "write"]);
    check("EXPLAIN DELETE FROM notes", &["read"]);
    check("EXPLAIN ANALYZE DELETE FROM notes", &["read", "write"]);
    check("EXPLAIN (ANALYZE off) DELETE FROM notes", &["read"]);
    check("EXPLAIN (ANALYZE, VERBOSE) DELETE FROM notes", &["read", "write"]);
    check("COPY notes TO STDOUT", &["read"]);
    check("COPY notes FROM STDIN", &["write"]);
    check("COPY (DELETE FROM notes RETURNING *) TO STDOUT", &["read", "write"]);
    check("COPY notes FROM PROGRAM 'curl x'", &["write", "administer"]);
    check("COPY notes TO PROGRAM 'sh'", &["read", "administer"]);
    check("COPY notes TO '/tmp/x'", &["read", "administer"]);
    check("DECLARE c CURSOR FOR SELECT * FROM people", &["read"]);
    check("PREPARE p AS DELETE FROM notes", &["write"]);
    check("EXECUTE p", &["unknown"]);
    check("LOCK TABLE notes", &["read"]);
    check("NOTIFY a, 'x'", &["write"]);
    check("LISTEN a", &["read"]);
    check("CREATE TABLE t (id int)", &["define"]);
    check("CREATE TABLE t AS SELECT * FROM people", &["read", "define"]);
    check("SELECT * INTO t FROM people", &["read", "define"]);
    check("CREATE VIEW v AS SELECT purge()", &["define"]);
    check("ALTER TABLE people ADD COLUMN x int DEFAULT 1", &["define"]);
    check("ALTER TABLE notes ADD COLUMN x text DEFAULT purge()::text", &["define", "unknown"]);
    check("ALTER TABLE notes DISABLE ROW LEVEL SECURITY", &["define", "administer"]);
    check("ALTER TABLE notes OWNER TO app", &["define", "administer"]);
    check("DROP TABLE notes", &["define"]);
    check("DROP TABLE IF EXISTS nothing_here", &["define"]);
    check("TRUNCATE notes", &["define"]);
    check("CREATE INDEX ON notes (lower(note))", &["define"]);
    check("CREATE INDEX ON notes (fullname(note))", &["define", "unknown"]);
    check("VACUUM", &["define"]);
    check("REFRESH MATERIALIZED VIEW people_mat", &["read", "define"]);
    check("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'select 1'", &["define"]);
    check("GRANT SELECT ON people TO app", &["administer"]);
    check("CREATE ROLE r", &["administer"]);
    check("SET ROLE postgres", &["administer"]);
    check("SET SESSION AUTHORIZATION postgres", &["administer"]);
    check("SET session_replication_role = replica", &["administer"]);
    check("RESET ROLE", &["administer"]);
    check("ALTER SYSTEM SET work_mem = '1GB'", &["administer"]);
    check("CREATE EXTENSION dblink", &["administer"]);
    check("PREPARE TRANSACTION 'x'", &["administer"]);
    check("COMMIT PREPARED 'x'", &["administer"]);
    check("CHECKPOINT", &["administer"]);
    check("DO $$ BEGIN PERFORM 1; END $$", &["unknown"]);
    check("CALL proc()", &["unknown"]);
    check("SELECT purge()", &["read", "unknown"]);
    check("SELECT 1 @+@ 2", &["read", "unknown"]);
    check("SELECT 1 OPERATOR(public.@+@) 2", &["read", "unknown"]);
    check("SELECT p.fullname FROM people p", &["read", "unknown"]);
    // Another row of that name has such a column; this one does not.
    check(
        "SELECT (SELECT p.fullname FROM people p) FROM (SELECT 1 AS fullname) p",
        &["read", "unknown"],
    );
    check(
        "SELECT public.people.fullname FROM people, other.people AS fullname",
        &["read", "unknown"],
    );
    check("SELECT p.name FROM people p", &["read"]);
    check("SELECT public.people.name, other.people.id FROM public.people, other.people", &["read"]);
    check("INSERT INTO audited VALUES (1, 'x')", &["write", "unknown"]);
    check("INSERT INTO ruled VALUES (1)", &["write"]);
    check("INSERT INTO computed DEFAULT VALUES", &["write"]);
    check("INSERT INTO mails VALUES (1, 'a@b')", &["write"]);
    check("INSERT INTO odd_mails VALUES (1, 'a@b')", &["write", "unknown"]);
    check("SELECT 'x'::odd_email", &["read", "unknown"]);
    check("SELECT CAST('x' AS public.odd_email)", &["read", "unknown"]);
    check("SELECT 'a'::mood", &["read"]);
    check("SELECT * FROM moods", &["read"]);
    check("SELECT e = 'X' FROM insensitive", &["read"]);
    check("SELECT * FROM protected", &["read"]);
    check("SELECT * FROM protected_oddly", &["read", "unknown"]);
    check("SELECT * FROM far", &["read", "unknown"]);
    check("SELECT * FROM missing", &["read", "unknown"]);
    check("SELECT query_to_xml('drop table x', true, false, '')", &["read", "unknown"]);
    check("SELECT dblink_exec('', 'DROP TABLE x')", &["read", "unknown"]);
    check("THIS IS NOT SQL", &["unknown"]);
    check("SELECT 1; DELETE FROM notes", &["read", "write"]);
    check("SET search_path = other; SELECT * FROM people", &["read", "unknown"]);
    check("CREATE TABLE t (id int); INSERT INTO t VALUES (1)", &["write", "define"]);
    check(
        "CREATE TABLE a (id int); CREATE TABLE b (a int); CREATE INDEX ON b (a); ALTER TABLE b ADD FOREIGN KEY (a) REFERENCES a",
        &["define"],
    );
    check("BEGIN; ALTER TABLE notes ADD x int; ALTER TABLE gone ADD y int; COMMIT", &["define"]);
    check(
        "CREATE TABLE t (id int DEFAULT odd(1, 2)); INSERT INTO t VALUES (1)",
        &["write", "define", "unknown"],
    );
    check(
        "CREATE TABLE t (LIKE audited INCLUDING ALL); INSERT INTO t VALUES (1)",
        &["write", "define", "unknown"],
    );
    check(
        "ALTER TABLE audited ADD FOREIGN KEY (id) REFERENCES notes ON DELETE CASCADE; DELETE FROM notes",
        &["write", "define", "unknown"],
    );
    check(
        "ALTER TABLE notes RENAME TO n; ALTER TABLE audited RENAME TO notes; INSERT INTO notes VALUES (1)",
        &["write", "define", "unknown"],
    );
    check(
        "CREATE SCHEMA s CREATE VIEW v AS SELECT 1 CREATE TABLE t (id int); SELECT * FROM notes",
        &["read", "define", "unknown"],
    );
    check(
        "CREATE TRIGGER x BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION trg(); INSERT INTO notes VALUES (1)",
        &["write", "define", "unknown"],
    );
    check("CREATE TABLE t (id int); SELECT * FROM missing", &["read", "define", "unknown"]);
    check("SELECT 'it''s'; SELECT $$ DROP TABLE x $$", &["read"]);
    check("SELECT --\rpg_terminate_backend(1)", &["read", "administer"]);
}

#[test]
fn an_operator_before_the_servers_pins_no_setting() {
    let sql = "SELECT set_config(name, 'x', false) FROM pg_settings WHERE name = 'work_mem'";
    // citext brought one to `public`.
    for (path, is_pinned) in [(["pg_catalog", "public"], true), (["public", "pg_catalog"], false)] {
        let found = analyse(sql, Some(&with_path(&path)), &open());
        assert_eq!(!found.facts.effects.contains(Effect::Administer), is_pinned, "{path:?}");
    }
}

#[test]
fn functions_in_sql_do_what_their_bodies_do() {
    let names = names();
    let check = |sql: &str, expected: &[&str]| {
        let found = analyse(sql, Some(&names), &open());
        assert_eq!(effects(&found), expected, "{sql}: {:?}", found.unknown);
        assert!(analyse(sql, Some(&names), &masked()).facts.obstacle.is_some(), "{sql}");
    };
    check("SELECT plus_one(1)", &["read"]);
    check("SELECT tidy()", &["read", "write"]);
    check("SELECT deep(1)", &["read", "write"]);
    check("SELECT deep_purge()", &["read", "unknown"]);
    check("SELECT rights()", &["read", "unknown"]);
    check("SELECT pathed()", &["read", "unknown"]);
    check("SELECT atomic()", &["read", "unknown"]);
    check("SELECT to_odd('x')", &["read", "unknown"]);
    check("SELECT again(1)", &["read"]);
    check("SELECT renames()", &["read", "define", "unknown"]);
    check(
        "SELECT set_config('search_path', 'evil', false), deep(1)",
        &["read", "write", "unknown"],
    );
    let found = analyse("SELECT deep(1)", Some(&names), &open());
    let reached =
        ["- public.deep", "- public.gone", "- public.notes", "- public.plus_one", "- public.tidy"];
    assert_eq!(objects(&found), reached);
    let change = analyse("SELECT renames()", Some(&names), &open()).session_change;
    assert!(change.names && change.catalogue);
}

#[test]
fn objects_are_listed_with_their_role_and_what_they_reach() {
    let names = names();
    let check = |sql: &str, expected: &[&str]| {
        let found = analyse(sql, Some(&names), &open());
        assert_eq!(objects(&found), expected, "{sql}");
    };
    check("SELECT * FROM people", &["r public.people"]);
    check("SELECT * FROM people_names", &["- public.people", "r public.people_names"]);
    check("SELECT * FROM people_mat", &["- public.people", "r public.people_mat"]);
    check("SELECT * FROM events", &["- public.events_2024", "r public.events"]);
    check("INSERT INTO notes SELECT * FROM gone", &["r public.gone", "w public.notes"]);
    check("UPDATE notes SET note = '' RETURNING id", &["r public.notes", "w public.notes"]);
    check("SELECT * FROM notes FOR UPDATE", &["r public.notes", "w public.notes"]);
    check(
        "SELECT * FROM notes n CROSS JOIN gone g FOR SHARE OF n",
        &["r public.gone", "r public.notes", "w public.notes"],
    );
    check(
        "SELECT * FROM notes WHERE EXISTS (SELECT FROM gone) FOR NO KEY UPDATE",
        &[
            "- public.citext_eq",
            "- public.citext_ne",
            "r public.gone",
            "r public.notes",
            "w public.notes",
        ],
    );
    check(
        "SELECT * FROM (SELECT id FROM notes) AS n, gone FOR UPDATE",
        &["r public.gone", "r public.notes", "w public.gone", "w public.notes"],
    );
    check("ALTER TABLE notes ADD x int", &["d public.notes"]);
    check("CREATE TABLE fresh (id int)", &["d public.fresh"]);
    check("INSERT INTO audited VALUES (1)", &["- public.trg", "w public.audited"]);
    check("INSERT INTO ruled VALUES (1)", &["- public.notes", "w public.ruled"]);
    check("INSERT INTO orders VALUES (1)", &["- public.people", "w public.orders"]);
    check("DELETE FROM depts", &["- public.people", "- public.people_depts", "w public.depts"]);
    check("EXPLAIN DELETE FROM notes", &["r public.notes"]);
    check("DROP VIEW people_names", &["d public.people_names"]);
    check("SELECT * FROM missing", &["r .missing"]);
}

#[test]
fn names_are_not_certain_behind_the_end_of_a_transaction() {
    let names = names();
    for end in ["COMMIT", "END", "ROLLBACK", "ABORT", "ROLLBACK TO s", "COMMIT AND CHAIN"] {
        for scope in [open(), masked()] {
            let found = analyse(&format!("{end}; SELECT id FROM people"), Some(&names), &scope);
            assert!(found.facts.effects.contains(Effect::Unknown), "{end}");
        }
        let found = analyse(&format!("SELECT id FROM people; {end}"), Some(&names), &open());
        assert!(!found.facts.effects.contains(Effect::Unknown), "{end}");
    }
    let whole =
        "BEGIN; SAVEPOINT s; SELECT id FROM people; RELEASE s; SELECT id FROM notes; COMMIT";
    let found = analyse(whole, Some(&names), &open());
    assert!(!found.facts.effects.contains(Effect::Unknown));
}

#[test]
fn an_upsert_updates_too() {
    let names = names();
    let insert = "INSERT INTO notes VALUES (1, 'x') ON CONFLICT (id) DO";
    let found = analyse(&format!("{insert} UPDATE SET note = 'y'"), Some(&names), &open());
    assert_eq!(verbs(&found), ["insert", "update"]);
    let found = analyse(&format!("{insert} NOTHING"), Some(&names), &open());
    assert_eq!(verbs(&found), ["insert"]);
}

#[test]
fn what_needs_no_names_is_decided_without_them() {
    let free = [
        "BEGIN",
        "COMMIT",
        "SHOW work_mem",
        "SET TIME ZONE 'UTC'",
        "",
        "THIS IS NOT SQL",
        "DISCARD ALL",
        "SELECT 1",
    ];
    for sql in free {
        let found = analyse(sql, None, &open());
        let is_select = sql.starts_with("SELECT");
        assert_eq!(found.needs_names, is_select, "{sql}");
    }
    for sql in
        ["SELECT * FROM people", "SELECT now()", "DROP TABLE notes", r"SET application_name = 'a\'"]
    {
        let found = analyse(sql, None, &masked());
        assert!(found.needs_names, "{sql}");
        assert!(found.facts.effects.contains(Effect::Unknown), "{sql}");
        assert!(found.facts.obstacle.is_some(), "{sql}");
    }
}

/// The names of a session with another value of one setting.
fn names_with(setting: &str, value: &str) -> Names {
    let rows: Vec<String> = SESSION
        .lines()
        .map(|line| {
            let is_meant = line.starts_with(&format!("setting\t{setting}\t"));
            if is_meant { format!("setting\t{setting}\t{value}") } else { line.to_owned() }
        })
        .collect();
    names_of(CATALOGUE, &rows.join("\n"))
}

#[test]
fn a_masked_session_that_speaks_another_encoding_is_unknown() {
    // What a value cannot be converted to makes an error, which tells of the value.
    let names = names_with("client_encoding", "LATIN1");
    let found = analyse("SELECT 1", Some(&names), &masked());
    assert!(found.facts.effects.contains(Effect::Unknown));
    assert!(found.facts.obstacle.is_some());
    let found = analyse("SELECT id FROM people", Some(&names), &open());
    assert_eq!(effects(&found), ["read"]);
}

#[test]
fn a_backslash_is_what_the_session_makes_of_it() {
    let (on, off) = (names(), names_with("standard_conforming_strings", "off"));
    let check = |sql: &str, names: &Names, expect: &[&str]| {
        let found = analyse(sql, Some(names), &open());
        assert_eq!(effects(&found), expect, "{sql}: {:?}", found.unknown);
        assert!(found.needs_names, "{sql}");
    };
    let hidden = r"SELECT '\'; DELETE FROM notes; --'";
    check(hidden, &on, &["read", "write"]);
    check(hidden, &off, &["read"]);
    let shown = r"SELECT '\\'; DELETE FROM notes; --'";
    check(shown, &on, &["read", "write"]);
    check(shown, &off, &["read", "write"]);
}

#[test]
fn execute_of_a_known_statement_is_what_was_prepared() {
    let names = names();
    let run = |sql: &str, prepared: &str, scope: &MaskScope| {
        analyse_execute(sql, prepared, Some(&names), scope)
    };
    let found = run("EXECUTE p(1)", "PREPARE p(int) AS DELETE FROM notes WHERE id = $1", &open());
    assert_eq!(effects(&found), ["write"]);
    assert_eq!(found.kinds, [StatementKind::Execute { name: "p".to_owned() }]);
    let found = run("EXECUTE p", "SELECT ssn FROM people", &masked());
    assert!(found.facts.obstacle.is_some());
    let found = run("EXECUTE p(purge())", "PREPARE p AS SELECT 1", &open());
    assert!(found.facts.effects.contains(Effect::Unknown));
    let found = run("EXECUTE p; EXECUTE p", "PREPARE p AS SELECT 1", &open());
    assert!(found.facts.effects.contains(Effect::Unknown));
}

#[test]
fn kinds_tell_the_wire_what_comes_back() {
    let check = |sql: &str, kinds: &[StatementKind]| {
        assert_eq!(analyse(sql, Some(&names()), &open()).kinds, kinds, "{sql}");
    };
    check("", &[]);
    check(
        "BEGIN; SELECT 1; COMMIT AND CHAIN",
        &[StatementKind::Begin, StatementKind::Rows, StatementKind::Commit { is_chained: true }],
    );
    check("INSERT INTO notes VALUES (1)", &[StatementKind::NoRows]);
    check("INSERT INTO notes VALUES (1) RETURNING id", &[StatementKind::Rows]);
    check("COPY notes TO STDOUT", &[StatementKind::CopyOut]);
    check("COPY notes FROM STDIN", &[StatementKind::CopyIn]);
    check("COPY notes TO '/x'", &[StatementKind::NoRows]);
    check("DEALLOCATE ALL", &[StatementKind::Deallocate { name: None }]);
    check("DEALLOCATE p", &[StatementKind::Deallocate { name: Some("p".to_owned()) }]);
    check(
        "DECLARE c CURSOR FOR SELECT 1",
        &[StatementKind::DeclareCursor { name: "c".to_owned(), is_held: false }],
    );
    check("PREPARE p AS SELECT 1", &[StatementKind::Prepare { name: "p".to_owned() }]);
    check("SET ROLE x", &[StatementKind::Set { name: Some("role".to_owned()) }]);
    check("FETCH 1 FROM c", &[StatementKind::Fetch { name: "c".to_owned() }]);
    check("MOVE c", &[StatementKind::Fetch { name: "c".to_owned() }]);
    check("SHOW x", &[StatementKind::Rows]);
    check("DISCARD ALL", &[StatementKind::DiscardAll]);
}

#[test]
fn changes_of_names_and_catalogue_are_told() {
    let names = names();
    let check = |sql: &str, in_names: bool, in_catalogue: bool| {
        let change = analyse(sql, Some(&names), &open()).session_change;
        assert_eq!((change.names, change.catalogue), (in_names, in_catalogue), "{sql}");
    };
    check("SELECT * FROM people", false, false);
    check("INSERT INTO notes VALUES (1)", false, false);
    check("SET search_path = x", true, false);
    check("SELECT set_config('search_path', '', false)", true, false);
    check("SET ROLE x", true, false);
    check("SET TIME ZONE 'UTC'", false, false);
    check("CREATE TABLE t (id int)", true, true);
    check("SELECT 1 INTO t", true, true);
    check("CREATE TEMP TABLE t AS SELECT 1", true, false);
    check("CREATE TEMP TABLE t AS SELECT purge()", true, true);
    check("SELECT 1 INTO TEMP t", true, false);
    check("CREATE TEMP TABLE t (id serial PRIMARY KEY)", true, false);
    check("CREATE TEMP VIEW v AS SELECT 1", true, false);
    check("CREATE TEMP SEQUENCE s", true, false);
    check("CREATE TABLE pg_temp.t (id int)", true, true);
    check("DROP TABLE people", true, true);
    check("CREATE INDEX ON people (name)", true, true);
    check("ALTER TABLE people ADD x int", true, true);
    check("CREATE TEMP TABLE t (id int); CREATE TABLE u (id int)", true, true);
    for sql in [
        "TRUNCATE notes",
        "COMMENT ON TABLE people IS 'x'",
        "ANALYZE people",
        "VACUUM notes",
        "REINDEX TABLE notes",
        "CLUSTER notes",
        "REFRESH MATERIALIZED VIEW people_mat",
        "GRANT SELECT ON people TO app",
        "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM app",
    ] {
        check(sql, false, false);
    }
    // A trigger of it is anybody's.
    check("TRUNCATE audited", true, true);
    check("GRANT USAGE ON SCHEMA other TO app", true, true);
    check("GRANT app TO postgres", true, true);
    check("DROP OWNED BY app", true, true);
    check("DO $$ BEGIN END $$", true, true);
    check("CALL proc()", true, true);
    check("SELECT purge()", true, true);
    check("DISCARD ALL", true, false);
}

#[test]
fn obstacles_point_at_the_place() {
    let sql = "SELECT id FROM people WHERE ssn = '1'";
    let found = analyse(sql, Some(&names()), &masked());
    let obstacle = found.facts.obstacle.clone().expect("an obstacle");
    assert_eq!(obstacle.position, sql.find("ssn"));
    assert!(obstacle.text.contains("\"ssn\" is masked"), "{}", obstacle.text);
}

#[test]
fn who_may_read_everything_meets_no_obstacle() {
    let names = names();
    for sql in ["SELECT max(ssn) FROM people", "COPY people TO STDOUT", "SELECT * FROM pg_stats"] {
        let found = analyse(sql, Some(&names), &open());
        assert_eq!(found.facts.obstacle, None, "{sql}");
        assert_eq!(found.mask, None, "{sql}");
    }
}

#[test]
fn hostile_texts_end_as_unknown_or_refused_and_never_as_a_crash() {
    let hostile = std::thread::Builder::new().stack_size(ANALYSIS_STACK_BYTES).spawn(|| {
        let names = names();
        let nested = |open: &str, middle: &str, close: &str, depth: usize| {
            format!("SELECT {}{middle}{}", open.repeat(depth), close.repeat(depth))
        };
        let texts = [
            nested("(", "1", ")", 100_000),
            nested("(SELECT ", "1", ")", 20_000),
            nested("-", "1", "", 100_000),
            nested("", "1", "+1", 100_000),
            nested("", "'x'", "::text", 60_000),
            nested("NOT ", "true", "", 100_000),
            nested("ARRAY[", "1", "]", 50_000),
            nested("CASE WHEN true THEN ", "1", " END", 20_000),
            nested("", "1", " UNION SELECT 1", 50_000),
            nested("1 = 1 AND ", "true", "", 50_000),
            nested("lower(", "'x'", ")", 50_000),
        ];
        for text in texts {
            let _ = analyse(&text, Some(&names), &masked());
        }
        let deep = nested("", "1", "+1", 500);
        let found = analyse(&deep, Some(&names), &masked());
        assert_eq!(found.facts.obstacle, None);
        let nul = analyse("SELECT 1\0; DROP TABLE people", Some(&names), &masked());
        assert!(nul.facts.effects.contains(Effect::Unknown));
        let large = "-".repeat(SQL_TEXT_BYTES_MAX + 1);
        let many = format!("SELECT {}1", "1,".repeat(SQL_TEXT_TOKENS_MAX / 2));
        for text in [large, many] {
            let found = analyse(&text, Some(&names), &masked());
            assert!(found.facts.obstacle.as_ref().is_some_and(|obstacle| obstacle.is_size));
        }
        let literal = format!("SELECT '{}'", "1, ".repeat(SQL_TEXT_TOKENS_MAX));
        let found = analyse(&literal, Some(&names), &masked());
        assert_eq!(found.facts.obstacle, None);
    });
    hostile.expect("a thread").join().expect("no text crashes the analysis");
}

/// Texts as applications write their values into them.
const WITH_VALUES: &[&str] = &[
    "SELECT name FROM people WHERE id = 4711",
    "SELECT * FROM people WHERE name = 'bob' AND id <> 7 ORDER BY 1 LIMIT 10",
    "SELECT ssn FROM people WHERE id = 1",
    "SELECT name FROM people WHERE ssn = '123-45-6789'",
    "SELECT count(*) FROM people WHERE salary > 5000",
    "SELECT set_config('role', 'app', false) WHERE 1 = 1",
    "SELECT pg_read_file('/etc/passwd') WHERE 'x' < 'y'",
    "SELECT purge() WHERE 1 = 2",
    "SELECT * FROM pg_authid WHERE oid = 10",
    "SELECT id = 5 FROM people GROUP BY id = 5",
    "SELECT nextval('numbers') >= 5",
    "UPDATE people SET name = 'eve' WHERE id = 12",
    "UPDATE people SET ssn = 'x' WHERE id = 12",
    "UPDATE people SET name = ssn WHERE id = 12",
    "UPDATE notes SET body = 'it' WHERE id = 3 RETURNING *",
    "INSERT INTO notes SELECT 1 WHERE 2 = 3",
    "INSERT INTO people (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'z' WHERE 1 = 1",
    "DELETE FROM people WHERE name >= 'a' AND id <= 100",
    "SELECT nonsense(id = 5) FROM nowhere",
    "SELECT 1 FROM WHERE id = 5",
];

/// What an analysis is kept for holds for every text with the same outline.
#[test]
fn what_an_outline_hides_changes_nothing() {
    let own = include_str!("bypass.rs").split('"');
    let texts = own.chain(WITH_VALUES.iter().copied());
    let with_outline = texts.filter_map(|text| Some((text, outline(text)?)));
    let mut count = 0;
    for (text, outlined) in with_outline {
        for scope in [masked(), open()] {
            for names in [Some(&names()), None] {
                let one = analyse(text, names, &scope);
                let other = analyse(&outlined, names, &scope);
                assert_eq!(one.facts, other.facts, "{text}");
                assert_eq!(one.kinds, other.kinds, "{text}");
                assert_eq!(one.needs_names, other.needs_names, "{text}");
                assert_eq!(one.session_change, other.session_change, "{text}");
                assert_eq!(one.mask, other.mask, "{text}");
                assert_eq!(one.unknown.is_some(), other.unknown.is_some(), "{text}");
            }
        }
        count += 1;
    }
    assert!(count > 30, "only {count} texts have an outline");
}

#[test]
fn a_literal_that_is_read_is_not_outlined() {
    let reads = |name: &str| {
        let text =
            format!("SELECT set_config(name, 'x', false) FROM pg_settings WHERE name = '{name}'");
        let facts = analyse(&text, Some(&names()), &open()).facts;
        (facts, outline(&text))
    };
    let (harmless, role) = (reads("application_name"), reads("role"));
    assert_ne!(harmless.0, role.0, "the value matters");
    assert_eq!((harmless.1, role.1), (None, None));
}
