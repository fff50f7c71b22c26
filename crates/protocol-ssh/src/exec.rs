//! The strings of commands: which are taken, and what of them policies may read.
//!
//! The target's shell reads the string, not the gateway. So the exact string is what is decided;
//! a program is named only where every shell reads the same words.

use std::collections::BTreeMap;
use std::sync::Arc;

use corral_model::statement::{Attribute, Facts, Obstacle};

use crate::{bounds, spec};

const RULE: &str = "exec";
/// Of a string that cannot be read, the record has this much, in bytes.
const SHOWN_BYTES_MAX: usize = 4 * 1024;

/// Reads the string of an `exec` request.
///
/// # Errors
/// An [`Obstacle`]: the client is to blame, and no policy permits it.
pub(crate) fn read(bytes: &[u8]) -> Result<Arc<str>, Obstacle> {
    let refuse = |text: &str| {
        let text = text.to_owned();
        Err(Obstacle { rule: RULE, text, position: None, is_size: false })
    };
    if bytes.len() > bounds::EXEC_BYTES_MAX {
        let text = format!("the command is longer than {} bytes", bounds::EXEC_BYTES_MAX);
        return Err(Obstacle { rule: "limits", text, position: None, is_size: true });
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return refuse("the command is not UTF-8 text; nobody could read what it is");
    };
    // A line that an approver does not see, or a terminal's escape in what one sees.
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return refuse(
            "the command has a line break or another control character; write it in one line, or \
             send a script on standard input",
        );
    }
    if text.is_empty() {
        return refuse("the command is empty");
    }
    Ok(Arc::from(text))
}

/// A string that cannot be read, as the record shows it.
pub(crate) fn shown(bytes: &[u8]) -> Arc<str> {
    let start = bytes.get(..SHOWN_BYTES_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(start).escape_debug().to_string().into()
}

/// What policies may read of a command.
pub(crate) fn attributes(command: &str) -> impl Iterator<Item = (&'static str, Attribute)> {
    let program = program(command).map(|name| (spec::PROGRAM, Attribute::Text(name.to_owned())));
    [(spec::COMMAND, Attribute::Text(command.to_owned()))].into_iter().chain(program)
}

/// Facts of one verb with these fields.
pub(crate) fn of_verb(
    verb: corral_model::Verb,
    attributes: BTreeMap<&'static str, Attribute>,
) -> Facts {
    Facts {
        verbs: vec![verb],
        effects: verb.effect.into_iter().collect(),
        statement_count: 1,
        attributes,
        ..Facts::default()
    }
}

/// The first word, where the string is plain words: no shell expands, assigns or quotes any of
/// them. An alias or a function of the target's shell can still take the word's place.
fn program(command: &str) -> Option<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@% ".contains(c);
    if !command.chars().all(is_plain) {
        return None;
    }
    let first = command.split(' ').find(|word| !word.is_empty())?;
    // What a shell reads as its own word, and what it looks up at other places than names.
    let is_odd = first.starts_with(['-', '%', '@', '+']) || KEYWORDS.contains(&first);
    (!is_odd).then_some(first)
}

/// Words that run what stands behind them, or change how it is read.
const KEYWORDS: [&str; 30] = [
    ".",
    ":",
    "alias",
    "builtin",
    "case",
    "command",
    "coproc",
    "do",
    "done",
    "elif",
    "else",
    "end",
    "esac",
    "eval",
    "exec",
    "fi",
    "for",
    "foreach",
    "function",
    "if",
    "in",
    "nocorrect",
    "noglob",
    "select",
    "source",
    "then",
    "time",
    "until",
    "while",
    "repeat",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_only_where_every_shell_reads_the_same_words() {
        let check = |command: &str, expect: Option<&str>| {
            assert_eq!(program(command), expect, "{command:?}");
        };
        check("uptime", Some("uptime"));
        check("/usr/bin/systemctl restart web.service", Some("/usr/bin/systemctl"));
        check("  df -h /", Some("df"));
        check("rsync --server -e.LsfxC . /srv", Some("rsync"));
        for command in [
            "a; b", "a|b", "a && b", "a & b", "$(a)", "`a`", "a > b", "A=b c", "'a' b", "a\\ b",
            "\"a\"", "a*", "a?", "~/a", "{a,b}", "a #b", "!a", "a\tb", "eval a", ". a", "exec a",
            "time a", "%1", "-a", "if a", "[ a ]", "größe", "", " ", "a=b", "a[1]", "^a^b",
        ] {
            check(command, None);
        }
    }

    #[test]
    fn strings_that_cannot_be_read_whole_are_refused() {
        let check = |bytes: &[u8], is_size: bool| {
            assert_eq!(read(bytes).expect_err("refused").is_size, is_size);
        };
        check(b"a\0b", false);
        check(b"a\nrm -rf /", false);
        check(b"a\x1b[2Jb", false);
        check(b"a\xff", false);
        check(b"", false);
        check(&vec![b'a'; bounds::EXEC_BYTES_MAX + 1], true);
        assert_eq!(&*read("echo grün\t1".as_bytes()).expect("text"), "echo grün\t1");
        let longest = vec![b'a'; bounds::EXEC_BYTES_MAX];
        assert!(read(&longest).is_ok());
    }
}
