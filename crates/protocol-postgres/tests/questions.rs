//! The gateway's questions mean the same whatever the session's search path is: an object of the
//! client's named as one of PostgreSQL's own must not answer in its place.

use corral_protocol_postgres::analysis::SessionNames;
use corral_protocol_postgres::analysis::catalogue::{
    CatalogueError, LOAD_SQL, SESSION_SQL, TEMPORARY_SQL, rows_of_text,
};
use pg_query::protobuf::Token;
use pg_query::{NodeEnum, ParserOptions};

const QUESTIONS: [&str; 3] = [LOAD_SQL, SESSION_SQL, TEMPORARY_SQL];

/// What looks an operator up by a name that cannot be given a schema.
const HIDDEN_OPERATORS: [Token; 9] = [
    Token::InP,
    Token::Like,
    Token::Ilike,
    Token::Similar,
    Token::Between,
    Token::Nullif,
    Token::Using,
    Token::Natural,
    Token::Overlaps,
];

/// Tokens of a text, with their texts.
fn tokens(text: &str) -> Vec<(Token, &str)> {
    let scanned = pg_query::scan(text).expect("it can be read");
    let place = |at: i32| usize::try_from(at).expect("not negative");
    scanned
        .tokens
        .iter()
        .map(|found| (found.token(), &text[place(found.start)..place(found.end)]))
        .collect()
}

/// What is looked up along the path, in the words of the text.
fn depends_on_path(text: &str) -> Vec<String> {
    let parsed = pg_query::parse(text, ParserOptions::default()).expect("it can be read");
    let names = parsed.tables().into_iter().chain(parsed.functions());
    let mut found: Vec<_> = names.filter(|name| !name.starts_with("pg_catalog.")).collect();
    let tokens = tokens(text);
    let word = |at: usize| tokens.get(at).map_or("", |(_, word)| *word);
    for (at, (token, text)) in tokens.iter().enumerate() {
        let is_star = *text == "*" && word(at.saturating_sub(1)) == "SELECT";
        let is_operator = !is_star && text.chars().all(|c| "+-*/<>=~!@#%^&|`?".contains(c));
        let is_qualified =
            at >= 4 && (at - 4..at).map(word).eq(["OPERATOR", "(", "pg_catalog", "."]);
        let is_path_type = *token == Token::Typecast && word(at + 1) != "pg_catalog";
        let is_equal_by_name = *token == Token::Case && word(at + 1) != "WHEN"
            || *token == Token::Distinct && word(at + 1) == "FROM";
        if is_operator && !is_qualified
            || is_path_type
            || is_equal_by_name
            || HIDDEN_OPERATORS.contains(token)
        {
            found.push(format!("{} {text} {}", word(at.saturating_sub(1)), word(at + 1)));
        }
    }
    found
}

#[test]
fn nothing_in_them_is_looked_up_along_the_path() {
    for text in QUESTIONS {
        assert_eq!(depends_on_path(text), [""; 0]);
    }
}

#[test]
fn each_has_the_eight_columns_that_are_converted_one_by_one() {
    for text in QUESTIONS {
        let parsed = pg_query::parse(text, ParserOptions::default()).expect("it can be read");
        let statement = parsed.protobuf.stmts[0].stmt.as_ref().and_then(|node| node.node.as_ref());
        let Some(NodeEnum::SelectStmt(select)) = statement else { panic!("no SELECT: {text}") };
        let mut parts = vec![select];
        while let Some(select) = parts.pop() {
            match (&select.larg, &select.rarg) {
                (Some(left), Some(right)) => parts.extend([left, right]),
                _ => assert_eq!(select.target_list.len(), 8, "{text}"),
            }
        }
    }
}

#[test]
fn the_check_sees_what_depends_on_the_path() {
    for (text, seen) in [
        ("SELECT a = 1", "a = 1"),
        ("SELECT a * b", "a * b"),
        ("SELECT a || b", "a || b"),
        ("SELECT a::text", "a :: text"),
        ("SELECT a IN (1)", "a IN ("),
        ("SELECT nullif(a, b)", "SELECT nullif ("),
        ("SELECT CASE a WHEN 1 THEN 2 END", "SELECT CASE a"),
        ("SELECT a IS DISTINCT FROM b", "IS DISTINCT FROM"),
        ("SELECT length(a)", "length"),
        ("SELECT 1 FROM a", "a"),
        ("SELECT 1 FROM pg_catalog.pg_class c, pg_class d", "pg_class"),
        ("SELECT a OPERATOR(public.=) 1", ". = )"),
    ] {
        assert_eq!(depends_on_path(text), [seen], "{text}");
    }
}

#[test]
fn a_session_whose_temporary_objects_were_not_asked_for_has_no_names() {
    let rows = rows_of_text(include_str!("data/session.tsv"));
    let is_of_session = |row: &&Vec<Option<String>>| {
        matches!(row[0].as_deref(), Some("path" | "setting"))
            && row[1].as_deref() != Some("temp_schema")
    };
    let mut rows: Vec<_> = rows.iter().filter(is_of_session).cloned().collect();
    let missing = |rows: &[_]| SessionNames::from_rows(rows).expect_err("it is not whole");
    assert_eq!(missing(&rows), CatalogueError::Incomplete("temp_schema"));
    rows.retain(|row| row[1].as_deref() != Some("temporary"));
    assert_eq!(missing(&rows), CatalogueError::Incomplete("temporary"));
}
