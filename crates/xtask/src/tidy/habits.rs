//! Habits that a text search can hold: how errors, channels, receipts, tests and lints are used.

use super::Violation;
use super::source::{Role, SourceFile, line_of, lines_with_word};

fn found(file: &SourceFile, rule: &'static str, line: usize, text: &str) -> Violation {
    Violation { rule, path: file.path.clone(), line, text: text.to_owned() }
}

fn each_line(
    file: &SourceFile,
    rule: &'static str,
    text: &str,
    words: &[&str],
    say: &str,
) -> Vec<Violation> {
    let mut lines: Vec<usize> = words.iter().flat_map(|word| lines_with_word(text, word)).collect();
    lines.sort_unstable();
    lines.dedup();
    lines.into_iter().map(|line| found(file, rule, line, say)).collect()
}

/// A file's first line says what it does.
pub(crate) fn modules_say_what_they_are(file: &SourceFile) -> Vec<Violation> {
    match file.raw.starts_with("//! ") {
        true => vec![],
        false => vec![found(file, "module docs", 1, "start with `//!` and what this file does")],
    }
}

/// Every queue has a limit.
pub(crate) fn no_channel_is_unbounded(file: &SourceFile) -> Vec<Violation> {
    let say = "every queue has a limit in model::limits; use a bounded channel";
    let words = ["unbounded_channel", "UnboundedSender", "UnboundedReceiver", "unbounded"];
    let mut violations = each_line(file, "unbounded", &file.code, &words, say);
    // std's `channel()` takes no length; tokio's does.
    violations.extend(
        file.code
            .match_indices("mpsc::channel()")
            .map(|(at, _)| found(file, "unbounded", line_of(&file.code, at), say)),
    );
    violations
}

/// "Recorded before forwarded" is a type only as long as nobody else makes receipts.
pub(crate) fn receipts_come_from_the_record(file: &SourceFile) -> Vec<Violation> {
    let is_maker = matches!(file.crate_name.as_str(), "record" | "testkit");
    let is_definition = file.path == "crates/gate/src/decision.rs";
    if is_maker || is_definition {
        return vec![];
    }
    let say = "only record makes receipts, after it wrote the entry";
    each_line(file, "receipts", &file.shipped, &["of_written_entry"], say)
}

/// SQL of ours has one home.
pub(crate) fn sql_stands_in_store(file: &SourceFile) -> Vec<Violation> {
    if file.crate_name == "store" {
        return vec![];
    }
    each_line(file, "sql", &file.code, &["sqlx"], "only store may use sqlx")
}

/// Tasks have owners that join them.
pub(crate) fn tasks_are_spawned_by_their_owners(file: &SourceFile) -> Vec<Violation> {
    let owners = ["transport", "session", "record", "gateway", "relay", "cli", "corral"];
    if owners.contains(&file.crate_name.as_str()) {
        return vec![];
    }
    let say = "tasks are spawned only in transport, session, record and the binaries";
    each_line(file, "tasks", &file.shipped, &["tokio::spawn", "task::spawn"], say)
}

/// A test that does not run is not a test.
pub(crate) fn no_test_is_ignored(file: &SourceFile) -> Vec<Violation> {
    let say = "assert the wrong behaviour and say why, instead of ignoring the test";
    let mut violations: Vec<Violation> = Vec::new();
    for mark in ["#[ignore", "#[cfg_attr"] {
        for (at, _) in file.code.match_indices(mark) {
            let attribute = attribute_at(&file.code, at);
            if mark == "#[ignore" || attribute.contains("ignore") {
                violations.push(found(file, "ignored tests", line_of(&file.code, at), say));
            }
        }
    }
    violations
}

/// `unsafe` is forbidden in every crate.
pub(crate) fn nothing_is_unsafe(file: &SourceFile) -> Vec<Violation> {
    each_line(file, "unsafe", &file.code, &["unsafe"], "find the safe way; there is no exception")
}

/// `#[allow]` and `#[expect]` say why.
pub(crate) fn exceptions_to_lints_have_reasons(file: &SourceFile) -> Vec<Violation> {
    let say = "give a reason: `#[expect(lint, reason = \"…\")]`";
    let mut violations: Vec<Violation> = Vec::new();
    for mark in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
        for (at, _) in file.code.match_indices(mark) {
            if !attribute_at(&file.code, at).contains("reason") {
                violations.push(found(file, "lint reasons", line_of(&file.code, at), say));
            }
        }
    }
    violations
}

/// A switch at the top of a crate hides everything that comes after it.
pub(crate) fn lints_are_not_switched_off_for_whole_crates(file: &SourceFile) -> Vec<Violation> {
    if file.role == Role::Test {
        return vec![];
    }
    let say = "put the exception on the item that needs it";
    ["#![allow(", "#![expect("]
        .iter()
        .flat_map(|mark| file.shipped.match_indices(mark))
        .map(|(at, _)| found(file, "lint reasons", line_of(&file.shipped, at), say))
        .collect()
}

fn attribute_at(code: &str, at: usize) -> &str {
    let rest = code.get(at..).unwrap_or_default();
    let end = rest.find(")]").or_else(|| rest.find(']')).unwrap_or(rest.len());
    rest.get(..end).unwrap_or(rest)
}

/// What comes from a wire may be anything: a codec answers with an error.
pub(crate) fn codecs_do_not_panic(file: &SourceFile) -> Vec<Violation> {
    let is_protocol = file.crate_name.starts_with("protocol-");
    let is_codec = ["/codec/", "/codec.rs", "/frame"].iter().any(|part| file.path.contains(part));
    if !is_protocol || !is_codec {
        return vec![];
    }
    let say = "wire data can be anything: return an error";
    let words = [".unwrap()", ".expect(", "panic!", "unreachable!", "assert!", "assert_eq!"];
    each_line(file, "codec", &file.shipped, &words, say)
}

/// A reader sees where a name comes from.
pub(crate) fn names_are_imported_one_by_one(file: &SourceFile) -> Vec<Violation> {
    let say = "import names one by one; globs of our own modules are for tests";
    file.shipped
        .lines()
        .enumerate()
        .filter(|(_, line)| {
            let line =
                line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            let is_ours = ["use crate::", "use super::", "use corral_"]
                .iter()
                .any(|start| line.starts_with(start));
            is_ours && line.contains("::*")
        })
        .map(|(index, _)| found(file, "glob imports", index + 1, say))
        .collect()
}

/// What is not built is refused to the client, not promised in a macro.
pub(crate) fn nothing_is_unfinished(file: &SourceFile) -> Vec<Violation> {
    let code_words = ["todo!", "unimplemented!"];
    let text_words = ["FIXME", "TODO", "XXX"];
    let say = "finish it, or refuse it with a message and say so in the documents";
    let mut violations = each_line(file, "unfinished", &file.code, &code_words, say);
    if file.crate_name != "xtask" {
        violations.extend(each_line(file, "unfinished", &file.raw, &text_words, say));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&SourceFile) -> Vec<Violation>;

    fn check(rule: Rule, path: &str, raw: &str, expect: &[usize]) {
        let violations = rule(&SourceFile::new(path, raw));
        let lines: Vec<usize> = violations.iter().map(|violation| violation.line).collect();
        assert_eq!(lines, expect, "{path}: {raw}");
    }

    const SESSION: &str = "crates/session/src/x.rs";
    const CODEC: &str = "crates/protocol-postgres/src/codec/x.rs";

    #[test]
    fn a_module_without_a_first_line_is_refused() {
        check(modules_say_what_they_are, SESSION, "//! Does it.\n", &[]);
        check(modules_say_what_they_are, SESSION, "use std::fmt;\n", &[1]);
    }

    #[test]
    fn an_unbounded_channel_is_refused() {
        check(no_channel_is_unbounded, SESSION, "let c = mpsc::channel(8);\n", &[]);
        check(no_channel_is_unbounded, SESSION, "let c = mpsc::channel();\n", &[1]);
        check(no_channel_is_unbounded, SESSION, "\nlet c = mpsc::unbounded_channel();\n", &[2]);
        check(no_channel_is_unbounded, SESSION, "// unbounded\n", &[]);
    }

    #[test]
    fn a_receipt_made_elsewhere_is_refused() {
        let raw = "let r = Receipt::of_written_entry(1);\n";
        check(receipts_come_from_the_record, SESSION, raw, &[1]);
        check(receipts_come_from_the_record, "crates/record/src/x.rs", raw, &[]);
        check(receipts_come_from_the_record, "crates/session/tests/x.rs", raw, &[]);
    }

    #[test]
    fn sql_outside_store_is_refused() {
        check(sql_stands_in_store, SESSION, "use sqlx::query;\n", &[1]);
        check(sql_stands_in_store, "crates/store/src/x.rs", "use sqlx::query;\n", &[]);
    }

    #[test]
    fn a_task_without_an_owner_is_refused() {
        let raw = "tokio::spawn(f());\n";
        check(tasks_are_spawned_by_their_owners, "crates/store/src/x.rs", raw, &[1]);
        check(tasks_are_spawned_by_their_owners, SESSION, raw, &[]);
    }

    #[test]
    fn an_ignored_test_is_refused() {
        check(no_test_is_ignored, SESSION, "#[test]\n#[ignore]\nfn f() {}\n", &[2]);
        check(no_test_is_ignored, SESSION, "#[ignore = \"slow\"]\nfn f() {}\n", &[1]);
        check(no_test_is_ignored, SESSION, "#[cfg_attr(x, ignore)]\nfn f() {}\n", &[1]);
        check(no_test_is_ignored, SESSION, "#[test]\nfn ignored() {}\n", &[]);
    }

    #[test]
    fn unsafe_code_is_refused() {
        check(nothing_is_unsafe, SESSION, "let x = unsafe { f() };\n", &[1]);
        check(nothing_is_unsafe, SESSION, "// unsafe\nlet unsafe_x = \"unsafe\";\n", &[]);
    }

    #[test]
    fn an_exception_without_a_reason_is_refused() {
        let rule = exceptions_to_lints_have_reasons;
        check(rule, SESSION, "#[allow(dead_code)]\nfn f() {}\n", &[1]);
        check(rule, SESSION, "#[expect(\n    dead_code\n)]\nfn f() {}\n", &[1]);
        check(rule, SESSION, "#[allow(dead_code, reason = \"x\")]\nfn f() {}\n", &[]);
    }

    #[test]
    fn a_lint_switched_off_for_a_crate_is_refused() {
        let raw = "//! X.\n#![allow(dead_code, reason = \"x\")]\n";
        check(lints_are_not_switched_off_for_whole_crates, SESSION, raw, &[2]);
        check(lints_are_not_switched_off_for_whole_crates, "crates/session/tests/x.rs", raw, &[]);
    }

    #[test]
    fn a_codec_that_can_panic_is_refused() {
        check(codecs_do_not_panic, CODEC, "let x = f().unwrap();\n", &[1]);
        check(codecs_do_not_panic, CODEC, "let x = f().expect(\"it is\");\n", &[1]);
        check(codecs_do_not_panic, CODEC, "let x = f().unwrap_or_default();\n", &[]);
        check(codecs_do_not_panic, CODEC, "#[cfg(test)]\nmod t { fn f() { x().unwrap() } }\n", &[]);
        check(codecs_do_not_panic, SESSION, "let x = f().expect(\"it is\");\n", &[]);
    }

    #[test]
    fn a_glob_import_is_refused() {
        check(names_are_imported_one_by_one, SESSION, "use crate::*;\n", &[1]);
        check(names_are_imported_one_by_one, SESSION, "pub use crate::scope::*;\n", &[1]);
        check(names_are_imported_one_by_one, SESSION, "use super::*;\n", &[1]);
        let test = "#[cfg(test)]\nmod tests {\n    use super::*;\n}\n";
        check(names_are_imported_one_by_one, SESSION, test, &[]);
    }

    #[test]
    fn unfinished_code_is_refused() {
        check(nothing_is_unfinished, SESSION, "fn f() { todo!() }\n", &[1]);
        check(nothing_is_unfinished, SESSION, "fn f() { unimplemented!() }\n", &[1]);
        check(nothing_is_unfinished, SESSION, "// TODO: later\n", &[1]);
        check(nothing_is_unfinished, SESSION, "fn todos() {}\n", &[]);
    }
}
