//! Rust sources, split by a small lexer so that rules see code apart from comments, strings and
//! tests. It must not know any rule.

use std::path::Path;

use anyhow::Context;

/// Whether a file ships or only tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Shipped,
    Test,
}

/// One source file.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// Relative to the workspace, with `/`.
    pub(crate) path: String,
    /// Name of the crate's folder.
    pub(crate) crate_name: String,
    pub(crate) role: Role,
    /// As it stands in the file.
    pub(crate) raw: String,
    /// Comments and the insides of strings are spaces; every line keeps its place.
    pub(crate) code: String,
    /// Like `code`, and what `#[cfg(test)]` marks is spaces; empty for a test file.
    pub(crate) shipped: String,
    /// Like `shipped`, with strings as they stand in the file.
    pub(crate) shipped_and_strings: String,
}

impl SourceFile {
    pub(crate) fn new(path: &str, raw: &str) -> Self {
        let code = blank(raw, Keep::Code);
        let code_and_strings = blank(raw, Keep::CodeAndStrings);
        let role = role_of(path);
        let (shipped, shipped_and_strings) = match role {
            Role::Test => (String::new(), String::new()),
            Role::Shipped => {
                let tests = test_ranges(&code);
                (blank_ranges(&code, &tests), blank_ranges(&code_and_strings, &tests))
            }
        };
        let crate_name =
            path.strip_prefix("crates/").and_then(|p| p.split('/').next()).unwrap_or_default();
        Self {
            path: path.to_owned(),
            crate_name: crate_name.to_owned(),
            role,
            raw: raw.to_owned(),
            code,
            shipped,
            shipped_and_strings,
        }
    }
}

fn role_of(path: &str) -> Role {
    let mut folders = path.split('/').skip(2).peekable();
    let mut is_test = path.starts_with("crates/testkit/");
    while let Some(part) = folders.next() {
        let is_file = folders.peek().is_none();
        is_test |= match is_file {
            true => part == "tests.rs",
            false => matches!(part, "tests" | "benches" | "fuzz" | "examples"),
        };
    }
    if is_test { Role::Test } else { Role::Shipped }
}

/// Every Rust file below `crates/`, sorted by path.
///
/// # Errors
/// When a folder or file cannot be read.
pub(crate) fn read_all(root: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let mut paths: Vec<String> = Vec::new();
    collect(root, "crates", &mut paths)?;
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let raw = std::fs::read_to_string(root.join(path))
                .with_context(|| format!("reading {path}"))?;
            Ok(SourceFile::new(path, &raw))
        })
        .collect()
}

fn collect(root: &Path, folder: &str, paths: &mut Vec<String>) -> anyhow::Result<()> {
    let entries =
        std::fs::read_dir(root.join(folder)).with_context(|| format!("listing {folder}"))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{folder}/{name}");
        if entry.file_type()?.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(root, &path, paths)?;
            }
        } else if name.ends_with(".rs") {
            paths.push(path);
        }
    }
    Ok(())
}

/// Where `word` stands in `text` with no letter, digit or `_` around it: line numbers, from 1.
pub(crate) fn lines_with_word(text: &str, word: &str) -> Vec<usize> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| has_word(line, word))
        .map(|(index, _)| index + 1)
        .collect()
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let starts_open = word.starts_with(|c: char| !is_part(c));
    let ends_open = word.ends_with(|c: char| !is_part(c));
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        (starts_open || !before.is_some_and(is_part)) && (ends_open || !after.is_some_and(is_part))
    })
}

/// The line, from 1, of a byte offset.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Code,
    CodeAndStrings,
}

/// Replaces comments, and with [`Keep::Code`] the insides of strings, by spaces.
fn blank(raw: &str, keep: Keep) -> String {
    let chars: Vec<char> = raw.chars().collect();
    let mut out = String::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let rest = chars.get(at..).unwrap_or_default();
        let end = match token_end(rest, before(&chars, at)) {
            Token::Comment(len) => {
                push_blank(&mut out, rest.get(..len).unwrap_or(rest));
                at + len
            }
            Token::Text { open, len, close } => {
                let token = rest.get(..len).unwrap_or(rest);
                let inner_end = token.len().saturating_sub(close).max(open.min(token.len()));
                out.extend(token.iter().take(open));
                let inner = token.get(open.min(token.len())..inner_end).unwrap_or_default();
                match keep {
                    Keep::Code => push_blank(&mut out, inner),
                    Keep::CodeAndStrings => out.extend(inner),
                }
                out.extend(token.iter().skip(inner_end));
                at + len
            }
            Token::Other => {
                out.push(c);
                at + 1
            }
        };
        at = end;
    }
    out
}

fn before(chars: &[char], at: usize) -> Option<char> {
    at.checked_sub(1).and_then(|index| chars.get(index)).copied()
}

fn push_blank(out: &mut String, chars: &[char]) {
    out.extend(chars.iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
}

enum Token {
    Comment(usize),
    /// A string or character literal: characters before its content, in all, and after it.
    Text {
        open: usize,
        len: usize,
        close: usize,
    },
    Other,
}

fn token_end(rest: &[char], previous: Option<char>) -> Token {
    let second = rest.get(1).copied();
    match (rest.first().copied(), second) {
        (Some('/'), Some('/')) => {
            Token::Comment(rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()))
        }
        (Some('/'), Some('*')) => Token::Comment(block_comment_len(rest)),
        (Some('"'), _) => Token::Text { open: 1, len: quoted_len(rest), close: 1 },
        (Some('\''), _) => character_literal(rest),
        (Some('r'), Some('"' | '#')) if !is_name_part(previous) => raw_string(rest),
        _ => Token::Other,
    }
}

// `br"…"` reaches the `r` with a `b` before it, which is then the literal's own prefix.
fn is_name_part(previous: Option<char>) -> bool {
    previous.is_some_and(|c| (c.is_alphanumeric() || c == '_') && c != 'b')
}

fn block_comment_len(rest: &[char]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        match (rest.get(at), rest.get(at + 1)) {
            (Some('/'), Some('*')) => {
                depth += 1;
                at += 2;
            }
            (Some('*'), Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn quoted_len(rest: &[char]) -> usize {
    let mut at = 1;
    while let Some(c) = rest.get(at) {
        match c {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn character_literal(rest: &[char]) -> Token {
    match (rest.get(1), rest.get(2)) {
        (Some('\\'), _) => {
            let close = rest.iter().skip(3).position(|c| *c == '\'').map_or(rest.len(), |i| i + 4);
            Token::Text { open: 1, len: close, close: 1 }
        }
        (Some(_), Some('\'')) => Token::Text { open: 1, len: 3, close: 1 },
        // A lifetime.
        _ => Token::Other,
    }
}

fn raw_string(rest: &[char]) -> Token {
    let hashes = rest.iter().skip(1).take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return Token::Other;
    }
    let open = hashes + 2;
    let mut at = open;
    while let Some(c) = rest.get(at) {
        let closes = *c == '"'
            && rest.get(at + 1..at + 1 + hashes).is_some_and(|tail| tail.iter().all(|c| *c == '#'));
        if closes {
            return Token::Text { open, len: at + 1 + hashes, close: 1 + hashes };
        }
        at += 1;
    }
    Token::Text { open, len: rest.len(), close: 0 }
}

/// The byte ranges of the items that `#[cfg(test)]` or `#[test]` marks.
fn test_ranges(code: &str) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for mark in ["#[cfg(test)]", "#[test]", "#[tokio::test"] {
        for (start, _) in code.match_indices(mark) {
            ranges.push((start, item_end(code, start + mark.len())));
        }
    }
    ranges
}

/// Where the item that starts at `from` ends: after its block, or its `;`.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0_usize;
    for (index, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index + 1;
                }
            }
            b';' if depth == 0 => return index + 1,
            _ => {}
        }
    }
    code.len()
}

fn blank_ranges(code: &str, ranges: &[(usize, usize)]) -> String {
    let is_inside =
        |index: usize| ranges.iter().any(|(start, end)| (*start..*end).contains(&index));
    code.char_indices()
        .map(|(index, c)| if c != '\n' && is_inside(index) { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_told_from_code() {
        let check = |raw: &str, code: &str| {
            assert_eq!(blank(raw, Keep::Code), code, "{raw}");
        };
        check("a // b", "a     ");
        check("a /* b /* c */ d */ e", "a                   e");
        check(r#"f("b \" c") + g"#, r#"f("      ") + g"#);
        check(r##"r#"x"y"# z"##, r##"r#"   "# z"##);
        check(r#"br"x" for"#, r#"br" " for"#);
        check("'a' + '\\n' + '\\'' + b'\"'", "' ' + '  ' + '  ' + b' '");
        check("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)");
        assert_eq!(blank("\"x\" // y", Keep::CodeAndStrings), "\"x\"     ");
    }

    #[test]
    fn what_is_marked_as_a_test_does_not_ship() {
        let raw = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { c(); }\n}\nfn d() {}\n";
        let file = SourceFile::new("crates/x/src/lib.rs", raw);
        assert!(file.shipped.contains("fn a()") && file.shipped.contains("fn d()"));
        assert!(!file.shipped.contains("fn b()"));
        assert_eq!(file.shipped.lines().count(), raw.lines().count());
    }

    #[test]
    fn files_of_tests_do_not_ship() {
        let check = |path: &str, expect: Role| {
            assert_eq!(SourceFile::new(path, "fn a() {}").role, expect, "{path}");
        };
        check("crates/x/src/lib.rs", Role::Shipped);
        check("crates/x/src/codec/tests.rs", Role::Test);
        check("crates/x/tests/chop.rs", Role::Test);
        check("crates/testkit/src/lib.rs", Role::Test);
        check("crates/x/src/contests.rs", Role::Shipped);
    }

    #[test]
    fn words_are_found_whole() {
        assert_eq!(lines_with_word("a tokio b\nmy_tokio\ntokio::x", "tokio"), [1, 3]);
        assert_eq!(lines_with_word("x.await;\nawaited", ".await"), [1]);
    }
}
