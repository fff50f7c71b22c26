//! Code that a statement runs without naming it: defaults, domains, casts, operators' partners, and
//! what the planner computes. The catalogue is that of `data/hidden.sql` on PostgreSQL 15.

mod dumps;

use corral_model::limits::SQL_TEXT_BYTES_MAX;
use corral_protocol_postgres::analysis::{Names, analyse};
use dumps::*;

const HIDDEN: &str = include_str!("data/hidden.tsv");

fn names() -> Names {
    names_of(HIDDEN, SESSION)
}

fn check(sql: &str, expected: &[&str]) {
    assert!(sql.len() < SQL_TEXT_BYTES_MAX);
    let found = analyse(sql, Some(&names()), &scope(&[]));
    assert_eq!(effects(&found), expected, "{sql}: {:?}", found.unknown);
}

fn is_masked_at(sql: &str, columns: &[&str]) -> Option<Vec<usize>> {
    let found = analyse(sql, Some(&names()), &scope(columns));
    if found.facts.obstacle.is_some() {
        return None;
    }
    Some(found.mask.map_or_else(Vec::new, |mask| mask.masked.iter().map(|c| c.index).collect()))
}

#[test]
fn functions_that_read_a_value_as_a_type_that_they_are_told_are_unknown() {
    for call in [
        "array_in('{5}', 'checked'::regtype::oid, -1)",
        "record_in('(5)', 'pair'::regtype::oid, -1)",
        "domain_in('5', 'checked'::regtype::oid, -1)",
        "range_in('[1,2]', 1, -1)",
        "multirange_in('{}', 1, -1)",
        "pg_input_is_valid('5', 'checked')",
        "pg_input_error_info('5', 'checked')",
        "fmgr_sql_validator(1)",
    ] {
        check(&format!("SELECT {call}"), &["read", "unknown"]);
    }
    check("SELECT * FROM of_input", &["read", "unknown"]);
    check("SELECT '{1}'::int[], '{a}'::text[], int4range '[1,2]', ROW(1)", &["read"]);
    check("SELECT ARRAY[r] FROM notes r", &["read"]);
}

#[test]
fn domains_of_stored_expressions_run_their_checks() {
    for view in ["of_domain", "of_pair", "of_json", "of_xml"] {
        check(&format!("SELECT * FROM {view}"), &["read", "unknown"]);
    }
    check("INSERT INTO with_hidden_default (id) VALUES (1)", &["write", "unknown"]);
    check("SELECT * FROM with_hidden_default", &["read"]);
    check("SELECT * FROM of_small", &["read"]);
}

#[test]
fn a_domains_default_fills_columns() {
    check("INSERT INTO with_default (id) VALUES (1)", &["write", "unknown"]);
    check("INSERT INTO with_inherited_default (id) VALUES (1)", &["write", "unknown"]);
    check("COPY with_default (id) FROM STDIN", &["write", "unknown"]);
    check("ALTER TABLE notes ADD COLUMN x filled", &["define", "unknown"]);
    check("ALTER TABLE notes ADD COLUMN x public.filled_again", &["define", "unknown"]);
    check("SELECT * FROM with_default", &["read"]);
    check("INSERT INTO with_small (id) VALUES (1)", &["write"]);
    check("ALTER TABLE notes ADD COLUMN x small", &["define"]);
}

#[test]
fn a_row_is_a_value_of_its_tables_type() {
    check("SELECT r::text FROM rows r", &["read", "unknown"]);
    check("SELECT upper(r) FROM rows r", &["read", "unknown"]);
    check("INSERT INTO notes SELECT 1, r FROM rows r", &["read", "write", "unknown"]);
    check("SELECT array_agg(r)::text FROM arrays r", &["read", "unknown"]);
    check("SELECT hstore('a', '1')::int", &["read", "unknown"]);
    check("SELECT n::text FROM notes n", &["read"]);
    assert_eq!(is_masked_at("SELECT r::text FROM rows r", &["public.notes.note"]), None);
}

#[test]
fn defaults_of_arguments_are_computed_by_the_call() {
    check("SELECT with_argument()", &["read", "unknown"]);
    check("SELECT with_number()", &["read"]);
}

#[test]
fn an_operators_partners_may_run_in_its_place() {
    check("SELECT * FROM notes WHERE NOT (id @# 2)", &["read", "unknown"]);
    check("SELECT * FROM notes WHERE 2 @< id", &["read", "unknown"]);
    check("SELECT * FROM notes WHERE 2 @= id", &["read"]);
    check("SELECT * FROM of_operator WHERE NOT y", &["read", "unknown"]);
}

#[test]
fn planning_computes_what_is_constant() {
    check("SELECT * FROM indexed WHERE a = 5", &["read", "unknown"]);
    check("SELECT * FROM indexed_through_sql WHERE a = 5", &["read", "unknown"]);
    check("SELECT * FROM limited WHERE a = 0", &["read", "unknown"]);
    check("SELECT * FROM counted", &["read", "unknown"]);
    let masks = ["public.notes.note"];
    assert_eq!(is_masked_at("SELECT * FROM indexed", &masks), None);
    // What needs a column's value is not computed by a query that only reads others.
    check("SELECT a FROM indexed_well WHERE a = 5", &["read"]);
    assert_eq!(is_masked_at("SELECT a FROM indexed_well", &masks), Some(vec![]));
    check("INSERT INTO indexed_well VALUES (1, 2)", &["read", "write", "unknown"]);
    check("CREATE TABLE copy AS SELECT b FROM indexed_well", &["read", "define"]);
}

#[test]
fn a_temporary_schema_is_the_same_by_its_real_name() {
    let temporary = "setting\ttemporary\t9\nsetting\ttemp_schema\tpg_temp_4\n\
         operator\t17001\tpg_temp\t@@@\t17002\t0\t0\n\
         function\t17002\tpg_temp\tevil\tf 1 23\tplpgsql\t\tf\n\
         type\t17003\tpg_temp\ttd\td\t23\t0\t2597,47\n\
         tree\t17003\tdomain\tk\t1\t{FUNCEXPR :funcid 17002}";
    let session: Vec<&str> =
        SESSION.lines().filter(|line| !line.starts_with("setting\ttemporary")).collect();
    let names = names_of(HIDDEN, &format!("{}\n{temporary}", session.join("\n")));
    let check = |sql: &str, expected: &[&str]| {
        let found = analyse(sql, Some(&names), &scope(&[]));
        assert_eq!(effects(&found), expected, "{sql}: {:?}", found.unknown);
    };
    for schema in ["pg_temp", "pg_temp_4", "pg_temp_5", "missing"] {
        check(&format!("SELECT 1 OPERATOR({schema}.@@@) 2"), &["read", "unknown"]);
        check(&format!("SELECT 1::{schema}.td"), &["read", "unknown"]);
        check(&format!("SELECT {schema}.evil()"), &["read", "unknown"]);
    }
    check("SELECT 1 OPERATOR(pg_catalog.+) 2, 'x'::information_schema.sql_identifier", &["read"]);
    check("SELECT 1::public.small", &["read"]);
    check("CREATE TABLE public.one (a int); CREATE TABLE public.two (b public.one)", &["define"]);
}

#[test]
fn a_policy_that_reads_the_whole_row_reads_each_column() {
    assert_eq!(is_masked_at("SELECT id FROM whole_row", &["public.whole_row.ssn"]), None);
    assert_eq!(is_masked_at("SELECT id FROM whole_row", &["public.notes.note"]), Some(vec![]));
}

#[test]
fn a_masked_partition_key_is_not_told_by_the_partition() {
    let masks = ["public.parts.region", "public.parts_eu.region", "public.parts_eu_all.region"];
    for sql in [
        "SELECT id, region FROM parts",
        "SELECT id, ctid FROM parts",
        "SELECT id, tableoid FROM parts",
        "SELECT count(*) FROM parts",
        "SELECT p.id FROM notes n JOIN parts p ON p.id = n.id",
        "SELECT id FROM parts_eu",
        "SELECT id FROM parts_eu_all",
    ] {
        assert_eq!(is_masked_at(sql, &masks), None, "{sql}");
    }
    for sql in ["SELECT tableoid FROM parts", "SELECT id FROM parts_eu_all"] {
        assert_eq!(is_masked_at(sql, &["public.notes.note"]), Some(vec![]), "{sql}");
    }
    let others = ["public.parts.id", "public.parts_eu.id", "public.parts_eu_all.id"];
    assert_eq!(is_masked_at("SELECT id, region, ctid FROM parts", &others), Some(vec![0]));
    assert_eq!(is_masked_at("SELECT tableoid FROM notes", &masks), Some(vec![]));
}

#[test]
fn values_of_rows_in_pg_attribute_are_masked() {
    let masks = ["public.notes.note"];
    assert_eq!(is_masked_at("SELECT attname FROM pg_attribute", &masks), Some(vec![]));
    assert_eq!(
        is_masked_at("SELECT attname, attmissingval FROM pg_attribute", &masks),
        Some(vec![1])
    );
    assert_eq!(is_masked_at("SELECT a.* FROM pg_attribute a", &masks).map(|m| m.len()), Some(1));
    for sql in [
        "SELECT attmissingval::text FROM pg_attribute",
        "SELECT to_jsonb(a) FROM pg_attribute a",
        "SELECT a FROM pg_catalog.pg_attribute a",
        "COPY pg_attribute TO STDOUT",
        "SELECT array_to_string(attmissingval, '') FROM pg_attribute",
    ] {
        assert_eq!(is_masked_at(sql, &masks), None, "{sql}");
    }
    assert_eq!(is_masked_at("SELECT * FROM pg_attribute", &[]), Some(vec![]));
}

#[test]
fn the_digest_tells_of_code_that_is_not_read() {
    let version = |text: &str| names_of(text, SESSION).catalogue.version().to_owned();
    let whole = version(HIDDEN);
    let mut turned: Vec<&str> = HIDDEN.lines().collect();
    turned.reverse();
    assert_eq!(version(&turned.join("\n")), whole, "the order is no matter");
    // `CREATE OR REPLACE` and `ALTER` make a new version of the row that holds the code.
    for kind in ["function\t", "tree\t"] {
        let line = HIDDEN.lines().find(|line| line.starts_with(kind)).expect("there is one");
        let cell = line.split('\t').nth(4).expect("its version");
        assert!(cell.split(' ').any(|part| part.parse::<u32>().is_ok()), "{line}");
        let number = cell.split(' ').find(|part| part.parse::<u32>().is_ok()).expect("a number");
        let changed =
            line.replacen(&format!("\t{cell}"), &format!("\t{}", cell.replacen(number, "9", 1)), 1);
        assert_ne!(version(&HIDDEN.replacen(line, &changed, 1)), whole, "{line}");
    }
}
