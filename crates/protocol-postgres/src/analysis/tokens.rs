//! How many tokens a text has at most, told without parsing it: a tree costs memory by tokens, and a
//! literal of a megabyte is one.

/// Never less than PostgreSQL's scanner finds, whatever the session's settings. Exact enough where
/// strings are plain: what is in them counts as nothing.
///
/// A string's end is certain while nothing could have made it end elsewhere: no backslash in it, and
/// before it no dollar quote and no comment. From there on everything counts, also in strings.
pub(super) fn bound(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut count = 0;
    let mut at = 0;
    let mut is_plain = true;
    while let Some(byte) = bytes.get(at) {
        let rest = bytes.get(at..).unwrap_or_default();
        let length = match byte {
            byte if is_blank(*byte) => {
                at += 1;
                continue;
            }
            // A name takes all letters and digits; what stands behind a number may be another token.
            byte if is_letter(*byte) => run(rest, |byte| is_letter(byte) || byte.is_ascii_digit()),
            byte if byte.is_ascii_digit() => run(rest, |byte| byte.is_ascii_digit()),
            quote @ (b'\'' | b'"') if is_plain => {
                let before = at.checked_sub(1).and_then(|before| bytes.get(before));
                let doubled = match before {
                    // Strings of bits end at the first quote.
                    Some(byte) if is_letter(*byte) => Doubled::Ends,
                    _ => Doubled::GoesOn,
                };
                quoted(rest, *quote, doubled).unwrap_or_else(|| {
                    is_plain = false;
                    1
                })
            }
            b'$' => {
                is_plain &= rest.get(1).is_some_and(u8::is_ascii_digit);
                1
            }
            b'-' | b'/' => {
                is_plain &= !(rest.starts_with(b"--") || rest.starts_with(b"/*"));
                1
            }
            _ => 1,
        };
        count += 1;
        at += length;
    }
    count
}

/// What a doubled quote does in a string.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubled {
    GoesOn,
    Ends,
}

/// Bytes of the string at the front, if its end is certain.
fn quoted(rest: &[u8], quote: u8, doubled: Doubled) -> Option<usize> {
    let mut at = 1;
    loop {
        let content = rest.get(at..)?;
        let end = content.iter().position(|byte| *byte == quote || *byte == b'\\')?;
        at += end + 1;
        if content.get(end) != Some(&quote) {
            return None;
        }
        if doubled == Doubled::Ends || rest.get(at) != Some(&quote) {
            return Some(at);
        }
        at += 1;
    }
}

fn run(rest: &[u8], is_in: fn(u8) -> bool) -> usize {
    rest.iter().position(|byte| !is_in(*byte)).unwrap_or(rest.len())
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// What a name or keyword begins with.
fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, least: usize, most: usize) {
        let found = bound(text);
        assert!((least..=most).contains(&found), "{text}: {found}");
    }

    #[test]
    fn plain_strings_are_one_token_each() {
        check("", 0, 0);
        check("select a, \"b c\" from t where d = 'x y, z'", 10, 10);
        check(&format!("select '{}'", "a b ".repeat(1000)), 2, 2);
        check("insert into t values ('it''s', $1)", 10, 11);
        check(&format!("select '{}'", "it''s ".repeat(1000)), 2, 2);
    }

    #[test]
    fn what_may_hide_the_end_of_a_string_hides_no_token() {
        let many = "1,".repeat(100);
        for text in [
            format!(r"select E'\'', {many} '"),
            format!(r"select '\', {many} '"),
            format!("select $$'$$, {many} '"),
            format!("select $x$'$x$, {many} '"),
            format!("select 1 -- '\n, {many} '"),
            format!("select 1 /* ' */, {many} '"),
            format!("select '{many}"),
        ] {
            check(&text, 200, text.len());
        }
    }

    #[test]
    fn it_is_never_less_than_the_scanner_finds() {
        for text in [
            "select 1.5e3, 0x1F, a.b2c.c, x::int[], $1, 'a' 'b', U&'x', N'y', B'1''1', n'z', \"a\"\"b\"",
            "select a<>b, a->>'c', a#>>'{d}', a||b, a:=1, a=>2, -1, - -1, a !~~* b",
            r"select E'\'', 'x', E'a''b' /* c */ , 1 -- d",
            "select $$a b$$, $q$'$q$, 'f'",
        ] {
            let scanned = pg_query::scan(text).expect("it can be scanned");
            assert!(bound(text) >= scanned.tokens.len(), "{text}: {}", scanned.tokens.len());
        }
    }
}
