//! The command line parses what it should, and every example in help and documents does.

use std::ffi::OsString;

use clap::{CommandFactory as _, Parser as _};
use corral_cli::{Command, CommandLine, Format, TopCommand};

const CLI_DOC: &str = include_str!("../../../docs/cli.md");

fn parse(words: &[&str]) -> Result<CommandLine, clap::Error> {
    CommandLine::try_parse_from(words)
}

fn client(words: &[&str]) -> (corral_cli::Globals, Command) {
    let line = parse(words).expect("parses");
    match line.command {
        TopCommand::Client(command) => (line.globals, command),
        TopCommand::Up(_) => unreachable!("{words:?} is up"),
        TopCommand::Relay(_) => unreachable!("{words:?} is a relay"),
    }
}

/// Splits a line as a shell does, as far as the examples use it: quotes, and an end at a pipe or
/// a redirection. Only what follows the word `corral` is kept.
fn corral_words(line: &str) -> Option<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word.take());
    let start = words.iter().position(|word| word == "corral")?;
    let kept = words.into_iter().skip(start);
    Some(kept.take_while(|word| !matches!(word.as_str(), "|" | "<" | ">" | ">>" | "&")).collect())
}

fn check_example(line: &str, place: &str) {
    // A command substitution is a command line of its own.
    let inner = match line.split_once("$(corral ") {
        Some((_, rest)) => format!("corral {}", rest.split(')').next().unwrap_or_default()),
        None => line.to_owned(),
    };
    let words = corral_words(&inner).expect("a line that names corral");
    if let Err(error) = CommandLine::try_parse_from(&words) {
        unreachable!("{place}: `{line}`: {error}");
    }
}

fn check_help(command: &clap::Command, path: &str) -> usize {
    let mut examples = 0;
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let shown = help.lines().filter(|line| line.starts_with("  ") && line.contains("corral "));
    for line in shown {
        check_example(line.trim(), path);
        examples += 1;
    }
    for below in command.get_subcommands() {
        examples += check_help(below, &format!("{path} {}", below.get_name()));
    }
    examples
}

#[test]
fn the_tree_of_commands_is_sound() {
    CommandLine::command().debug_assert();
}

#[test]
fn every_example_in_help_parses() {
    let examples = check_help(&CommandLine::command(), "corral");
    assert!(examples > 30, "only {examples} examples were found");
}

#[test]
fn every_command_in_the_document_parses() {
    let mut is_code = false;
    let mut examples = 0;
    for line in CLI_DOC.lines() {
        if line.starts_with("```") {
            is_code = !is_code && line.starts_with("```sh");
        } else if is_code && line.contains("corral ") {
            check_example(line.trim(), "docs/cli.md");
            examples += 1;
        }
    }
    assert!(examples > 40, "only {examples} commands were found");
}

#[test]
fn the_document_names_every_command() {
    fn check(command: &clap::Command, path: &str) {
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            let path = format!("{path} {}", below.get_name());
            if below.has_subcommands() {
                check(below, &path);
            } else {
                let words = path.strip_prefix("corral").unwrap_or_default();
                assert!(CLI_DOC.contains(words), "docs/cli.md does not show `{path}`");
            }
        }
    }
    check(&CommandLine::command(), "corral");
}

#[test]
fn every_command_says_what_it_is_for() {
    fn check(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some(), "{path} has no description");
        for below in command.get_subcommands() {
            check(below, &format!("{path} {}", below.get_name()));
        }
    }
    check(&CommandLine::command(), "corral");
}

#[test]
fn global_flags_stand_before_and_after_the_command() {
    for words in [
        ["corral", "--data", "d", "-o", "json", "runs", "list"],
        ["corral", "runs", "list", "-o", "json", "--data", "d"],
        ["corral", "runs", "--data", "d", "list", "-o", "json"],
    ] {
        let (globals, _) = client(&words);
        assert_eq!(globals.output, Some(Format::Json), "{words:?}");
        assert_eq!(globals.data.as_deref(), Some(std::path::Path::new("d")), "{words:?}");
    }
    let line = parse(&["corral", "up", "--data", "d", "--config", "c"]).expect("parses");
    assert!(line.globals.data.is_some());
}

#[test]
fn the_commands_own_flags_stay_its_own() {
    let words = ["corral", "run", "--name", "n", "--", "psql", "-o", "out", "--data", "x"];
    let (globals, command) = client(&words);
    assert!(globals.output.is_none() && globals.data.is_none());
    let Command::Run(args) = command else { unreachable!("not run") };
    let expect: Vec<OsString> =
        ["psql", "-o", "out", "--data", "x"].into_iter().map(OsString::from).collect();
    assert_eq!(args.command, expect);
    assert_eq!(args.name.as_deref(), Some("n"));
}

#[test]
fn wrong_usage_exits_with_2() {
    for words in [
        vec!["corral", "run", "--name", "n"],
        vec!["corral", "run", "psql"],
        vec!["corral", "runs", "start"],
        vec!["corral", "runs", "start", "--name", "n", "--ttl", "soon"],
        vec!["corral", "runs", "start", "--name", "n", "--ttl", "0s"],
        vec!["corral", "runs", "start", "--name", "n", "--target", "Not Lower"],
        vec!["corral", "approvals", "approve", "a1"],
        vec!["corral", "approvals", "approve", "a1", "--reason", "  "],
        vec!["corral", "login", "--user", "ada"],
        vec!["corral", "login", "--device", "--user", "ada", "--password-stdin"],
        vec!["corral", "login", "--user", "ada", "--workload", "w", "--password-stdin"],
        vec!["corral", "get", "gizmo"],
        vec!["corral", "apply"],
        vec!["corral", "audit", "tail", "--since", "yesterday"],
        vec!["corral", "audit", "verify", "record"],
        vec!["corral", "replay", "s1", "--speed", "0"],
        vec!["corral", "no-such-command"],
        vec!["corral"],
    ] {
        let error = parse(&words).expect_err("is refused");
        assert_eq!(error.exit_code(), 2, "{words:?}");
    }
}

#[test]
fn times_and_ttls_are_read_as_people_write_them() {
    for words in [
        vec!["corral", "runs", "start", "--name", "n", "--ttl", "1s"],
        vec!["corral", "runs", "renew", "run-1", "--ttl", "1h 30m"],
        vec!["corral", "audit", "search", "--since", "7d", "--until", "2026-01-31T12:00:00Z"],
    ] {
        client(&words);
    }
}
