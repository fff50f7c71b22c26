//! Texts that differ only in literals which cannot matter, seen as one.
//!
//! An application that writes its values into its texts sends a new text with each query. What
//! such a text does is told by its outline: the same text with other literals in place of those
//! that are the right side of a comparison or of an assignment. The grammar makes an operand of
//! them, and the analysis never reads an operand's value. It does read a literal that is a
//! function's argument, a setting or a column's number; those stay in the outline as they are,
//! and so does every literal of which these few rules do not know better.
//!
//! An outline is as long as its text, so that byte offsets mean the same in both.

use corral_model::limits::ANALYSIS_CACHE_TEXT_BYTES_MAX;

/// Words that an outlined text begins with. In these statements `=` compares, or assigns to a
/// column.
const BEGINNINGS: [&str; 4] = ["select", "insert", "update", "delete"];
/// Operators whose right side may be replaced. `=>` names an argument and is not one of them.
const OPERATORS: [&[u8]; 7] = [b"=", b"<", b">", b"<=", b">=", b"<>", b"!="];
/// Longer ones may not fit into an `int4`, and are another kind of token then.
const DIGITS_MAX: usize = 9;
/// The one relation of which the analysis reads what a column is compared with.
const READ_RELATION: &[u8] = b"pg_settings";

/// The outline of a text; None when it is the text itself, or when it cannot be told.
///
/// To be kept true: whoever makes the analysis read an operand's value excludes it here.
#[must_use]
pub fn outline(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    // Backslashes, dollar quotes and letters outside ASCII have rules of their own.
    let is_plain = text.len() <= ANALYSIS_CACHE_TEXT_BYTES_MAX
        && bytes.iter().all(|byte| byte.is_ascii() && !matches!(byte, b'\\' | b'$' | 0));
    if !is_plain {
        return None;
    }
    let mut out: Option<Vec<u8>> = None;
    let mut before = 0;
    let mut at = 0;
    let mut is_operand = false;
    let mut is_first = true;
    while let Some(byte) = bytes.get(at) {
        let rest = bytes.get(at..).unwrap_or_default();
        if byte.is_ascii_whitespace() || *byte == 0x0b {
            at += 1;
            continue;
        }
        if before == b'&' && matches!(byte, b'"' | b'\'') {
            // With UESCAPE, any character may begin an escape.
            return None;
        }
        let length = token_len(rest)?;
        let token = rest.get(..length).unwrap_or_default();
        if std::mem::take(&mut is_first) && !begins(token) {
            return None;
        }
        let after = rest.get(length..).unwrap_or_default();
        if *byte == b';' && !after.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        if is_operand
            && is_whole(after)
            && let Some(filler) = replaced_by(token)
        {
            let copy = out.get_or_insert_with(|| bytes.to_vec());
            let end = at + length;
            let content = if *byte == b'\'' { at + 1..end - 1 } else { at..end };
            copy.get_mut(content)?.fill(filler);
        }
        is_operand = OPERATORS.contains(&token);
        before = token.last().copied().unwrap_or_default();
        at += length;
    }
    let copy = out?;
    if copy.windows(READ_RELATION.len()).any(|part| part.eq_ignore_ascii_case(READ_RELATION)) {
        return None;
    }
    // Only ASCII was put into ASCII.
    String::from_utf8(copy).ok()
}

fn begins(token: &[u8]) -> bool {
    BEGINNINGS.iter().any(|word| token.eq_ignore_ascii_case(word.as_bytes()))
}

/// What a literal's characters become; None when it is no literal that may be replaced.
fn replaced_by(token: &[u8]) -> Option<u8> {
    match token {
        [b'\'', content @ .., b'\''] => (!content.contains(&b'\'')).then_some(b'x'),
        digits => {
            let is_number = digits.len() <= DIGITS_MAX && digits.iter().all(u8::is_ascii_digit);
            is_number.then_some(b'0')
        }
    }
}

/// Whether a literal ends its operand's token: nothing that follows makes a cast of it, another
/// literal's beginning, or a name.
fn is_whole(after: &[u8]) -> bool {
    let next = after.iter().find(|byte| !byte.is_ascii_whitespace());
    !matches!(next, Some(b'\'' | b'"' | b':' | b'[' | b'.' | b'(' | 0x0b))
}

/// Bytes of the token at the front: a word or number, a quoted string or name, a run of
/// operators, or one other character. None where a comment or an unclosed quote begins.
fn token_len(rest: &[u8]) -> Option<usize> {
    let run =
        |is_in: fn(u8) -> bool| rest.iter().position(|byte| !is_in(*byte)).unwrap_or(rest.len());
    match rest.first()? {
        quote @ (b'\'' | b'"') => quoted_len(rest, *quote),
        byte if is_word(*byte) => Some(run(is_word)),
        byte if is_operator(*byte) => {
            let operator = rest.get(..run(is_operator))?;
            let has_comment = operator.windows(2).any(|pair| pair == b"--" || pair == b"/*");
            (!has_comment).then_some(operator.len())
        }
        _ => Some(1),
    }
}

/// A doubled quote stands for one within the string.
fn quoted_len(rest: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    loop {
        at += rest.get(at..)?.iter().position(|byte| *byte == quote)? + 1;
        if rest.get(at) != Some(&quote) {
            return Some(at);
        }
        at += 1;
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.')
}

fn is_operator(byte: u8) -> bool {
    matches!(
        byte,
        b'+' | b'-'
            | b'*'
            | b'/'
            | b'<'
            | b'>'
            | b'='
            | b'~'
            | b'!'
            | b'@'
            | b'#'
            | b'%'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
            | b':'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let found = outline(text);
        assert_eq!(found.as_deref().unwrap_or(text), expect);
        assert!(found.is_none_or(|found| found.len() == text.len() && found != text));
    }

    #[track_caller]
    fn same(text: &str) {
        assert_eq!(outline(text).filter(|found| found != text), None);
    }

    #[test]
    fn literals_beside_comparisons_are_replaced() {
        check("SELECT a FROM t WHERE id = 417;", "SELECT a FROM t WHERE id = 000;");
        check(
            "select 1 from t where a>=12 and b<>'bob'",
            "select 1 from t where a>=00 and b<>'xxx'",
        );
        check(
            "UPDATE t SET a = 7, b = 'x y' WHERE c != 9",
            "UPDATE t SET a = 0, b = 'xxx' WHERE c != 0",
        );
        check("delete from \"T\" where \"a = 5\" < 6", "delete from \"T\" where \"a = 5\" < 0");
        check(
            "insert into t select 1 where 'a = 5' = 5",
            "insert into t select 1 where 'a = 5' = 0",
        );
    }

    #[test]
    fn literals_that_may_matter_stay() {
        for text in [
            // Arguments, by position and by name; settings; column numbers; limits.
            "select set_config('role', 'x', true)",
            "select f(a => 5)",
            "select f(a := 5)",
            "select a from t order by 1",
            "select a from t group by 2 limit 3",
            "select * from t limit 5",
            // Other statements.
            "set search_path = 'x'",
            "create table t with (fillfactor = 5) as select 1",
            "explain select 1 where a = 5",
            "with x as (select 1) select 1 where a = 5",
            // More than one statement.
            "select 1 where a = 5; set role = 'x'",
            // Casts, types and other literals in disguise.
            "select 1 where a = 'pg_authid'::regclass",
            "select 1 where a = 5 :: oid",
            "select 1 where a = 'x'\n'y'",
            "select 1 where a = 'it''s'",
            "select 1 where a = 5.5",
            "select 1 where a = 5e3 and b = 0x1F and c = 1_000",
            "select 1 where a = 5000000000",
            "select 1 where a = -5",
            "select 1 where a =-5",
            "select 1 where a = E'x'",
            "select 1 where a = date '2020-01-01'",
            "select 1 where a = ('x')",
            "select 1 where a ~= 5",
            // What a setting is compared with is read.
            "select set_config(name, 'x', false) from pg_settings where name = 'role'",
            "select set_config(name, 'x', false) from \"pg_settings\" where name = 'role'",
            "select 1 from U&\"pg!005fsettings\" uescape '!' where name = 'role'",
            "select 1 where a >>= 5",
            // Comments, dollar quotes, backslashes, other letters.
            "select 1 -- = 5",
            "select 1 where a =/* */5",
            "select $$ = 5 $$ where a = 5",
            "select E'\\' = 5 ' where a = 5",
            "select 1 where ä = 5",
            // Not closed.
            "select 1 where a = '5",
            "select 1 where \"a = 5",
            "",
        ] {
            same(text);
        }
    }
}
