//! Commands with typed parameters: from what a client wrote (`restart-service service=nginx`) to
//! the exact line that the target's shell gets, and to what policy decides.
//!
//! Nothing that a client writes is expanded here or becomes syntax there: values are checked
//! against their types and stand in the line in quotes. What cannot be read is a statement with
//! an obstacle, so that it is recorded and denied like any other. May not know any protocol.

use std::collections::BTreeMap;

use corral_model::resource::{CommandSpec, Template, TemplatePart};
use corral_model::statement::{Facts, Obstacle, Parameter};
use corral_model::{Effect, Effects, ObjectRef, ObjectRole, Verb, limits};

/// What policies call it: `action == Corral::Action::"command"`. A protocol that runs commands
/// has it in its table of verbs.
pub const COMMAND: Verb = Verb { name: "command", effect: Some(Effect::Write) };

const RULE: &str = "command";

/// One use of a command, ready to be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// What the target's shell gets when it is permitted. With an obstacle in `facts`: what the
    /// client wrote.
    pub text: String,
    pub facts: Facts,
    /// The values, by name: for people who approve, and bound by their approval.
    pub parameters: Vec<Parameter>,
}

/// Why a client's words are no use of a command: the client is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    #[error("the command is longer than {max} bytes", max = limits::STATEMENT_BYTES_MAX)]
    TooLong,
    #[error("a line break, NUL or another control character cannot be part of it")]
    Control,
    #[error("a quote is not closed")]
    OpenQuote,
    #[error("'{character}' stands outside of quotes; nothing is expanded here, so quote it")]
    Special { character: char },
    #[error("'{character}' stands in double quotes; nothing is expanded here, use single quotes")]
    SpecialQuoted { character: char },
    #[error("every word behind the name is written PARAMETER=VALUE")]
    NoPair,
    #[error("'{name}' is no parameter of it")]
    Unknown { name: String },
    #[error("'{name}' is given twice")]
    Twice { name: String },
    #[error("'{name}' is missing; write {name}=VALUE")]
    Missing { name: String },
    #[error("the value of '{name}' is not one that this parameter takes")]
    Value { name: String },
    #[error("its template cannot be read")]
    Template,
}

/// The use of a command, when the first word that a client wrote is the name of one. `commands`
/// are those of the session's target.
#[must_use]
pub fn invoke(commands: &[CommandSpec], written: &str) -> Option<Invocation> {
    let line = written.trim_start_matches(is_blank);
    let name_end = line.find(|c: char| c.is_whitespace() || c.is_control());
    let (name, rest) = line.split_at(name_end.unwrap_or(line.len()));
    let command = commands.iter().find(|command| command.name.as_str() == name)?;
    let facts = facts_of(command);
    Some(match read_and_render(command, rest) {
        Ok((text, values)) => Invocation { text, facts, parameters: parameters_of(&values) },
        Err(error) => {
            let text = format!("{name}: {error}");
            let is_size = error == UsageError::TooLong;
            let obstacle = Obstacle { rule: RULE, text, position: None, is_size };
            let facts = Facts { obstacle: Some(obstacle), ..facts };
            Invocation { text: written.to_owned(), facts, parameters: Vec::new() }
        }
    })
}

fn facts_of(command: &CommandSpec) -> Facts {
    Facts {
        verbs: vec![COMMAND],
        effects: Effects::of(Effect::Write),
        objects: vec![ObjectRef {
            schema: String::new(),
            name: command.name.to_string(),
            kind: "command".to_owned(),
            role: ObjectRole::Write,
        }],
        statement_count: 1,
        ..Facts::default()
    }
}

fn parameters_of(values: &BTreeMap<String, String>) -> Vec<Parameter> {
    let parameter = |(name, value): (&String, &String)| Parameter {
        value: Some(value.clone()),
        format: "text".into(),
        type_name: Some(name.clone()),
    };
    values.iter().map(parameter).collect()
}

fn read_and_render(
    command: &CommandSpec,
    rest: &str,
) -> Result<(String, BTreeMap<String, String>), UsageError> {
    let values = read_values(command, rest)?;
    let text = render(command, &values)?;
    if text.len() > limits::STATEMENT_BYTES_MAX {
        return Err(UsageError::TooLong);
    }
    Ok((text, values))
}

/// Every parameter with its value: each once, each of its type.
fn read_values(command: &CommandSpec, rest: &str) -> Result<BTreeMap<String, String>, UsageError> {
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for word in words(rest)? {
        let (name, value) = word.split_once('=').ok_or(UsageError::NoPair)?;
        let shown = || name.chars().take(limits::ID_BYTES_MAX).collect::<String>();
        let parameter =
            command.parameters.get(name).ok_or_else(|| UsageError::Unknown { name: shown() })?;
        if !parameter.accepts(value) {
            return Err(UsageError::Value { name: shown() });
        }
        if values.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(UsageError::Twice { name: shown() });
        }
    }
    match command.parameters.keys().find(|name| !values.contains_key(*name)) {
        Some(name) => Err(UsageError::Missing { name: name.clone() }),
        None => Ok(values),
    }
}

fn render(command: &CommandSpec, values: &BTreeMap<String, String>) -> Result<String, UsageError> {
    let template = Template::parse(&command.template).map_err(|_| UsageError::Template)?;
    let mut text = String::new();
    for part in &template.parts {
        match part {
            TemplatePart::Literal(literal) => text.push_str(literal),
            TemplatePart::Parameter(name) => {
                let value = values.get(name).ok_or(UsageError::Template)?;
                quote_into(&mut text, value);
            }
        }
    }
    Ok(text)
}

/// The value as one word, or part of one, for a shell: always quoted, because a bare word may be
/// an alias, a keyword or a pattern. A quote and a backslash stand outside of the quotes, where
/// POSIX shells, csh and fish read them alike.
fn quote_into(text: &mut String, value: &str) {
    text.push('\'');
    for c in value.chars() {
        match c {
            '\'' => text.push_str("'\\''"),
            '\\' => text.push_str("'\\\\'"),
            _ => text.push(c),
        }
    }
    text.push('\'');
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// Splits as a shell does, with quotes and without anything that a shell would expand.
fn words(text: &str) -> Result<Vec<String>, UsageError> {
    if text.len() > limits::STATEMENT_BYTES_MAX {
        return Err(UsageError::TooLong);
    }
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(UsageError::Control);
    }
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => single_quoted(&mut characters, word.get_or_insert_default())?,
            '"' => double_quoted(&mut characters, word.get_or_insert_default())?,
            _ if is_special(c) => return Err(UsageError::Special { character: c }),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn single_quoted(
    characters: &mut std::str::Chars<'_>,
    word: &mut String,
) -> Result<(), UsageError> {
    for c in characters {
        match c {
            '\'' => return Ok(()),
            _ => word.push(c),
        }
    }
    Err(UsageError::OpenQuote)
}

fn double_quoted(
    characters: &mut std::str::Chars<'_>,
    word: &mut String,
) -> Result<(), UsageError> {
    while let Some(c) = characters.next() {
        match c {
            '"' => return Ok(()),
            '\\' => match characters.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                Some(_) | None => return Err(UsageError::SpecialQuoted { character: c }),
            },
            '$' | '`' => return Err(UsageError::SpecialQuoted { character: c }),
            _ => word.push(c),
        }
    }
    Err(UsageError::OpenQuote)
}

/// What a shell could take for more than itself.
fn is_special(c: char) -> bool {
    c.is_whitespace() || "$`\\|&;<>()*?[]#~!{}".contains(c)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use corral_model::resource::{IntegerRange, ParameterSpec};
    use proptest::prelude::*;

    use super::*;

    fn command(template: &str, parameters: &[(&str, ParameterSpec)]) -> CommandSpec {
        let parameters = parameters.iter().map(|(name, spec)| ((*name).to_owned(), spec.clone()));
        CommandSpec {
            name: corral_model::ids::CommandName::new("restart-service").expect("a name"),
            targets: Vec::new(),
            labels: BTreeMap::new(),
            description: None,
            template: template.to_owned(),
            parameters: parameters.collect(),
        }
    }

    fn restart() -> Vec<CommandSpec> {
        let services = ["nginx", "redis"].map(ToOwned::to_owned).to_vec();
        let integer = ParameterSpec::Integer(IntegerRange { min: 0, max: 60 });
        let parameters = [("service", ParameterSpec::OneOf(services)), ("wait", integer)];
        vec![command("systemctl restart --wait={wait} {service}", &parameters)]
    }

    fn refusal(commands: &[CommandSpec], written: &str) -> String {
        let invocation = invoke(commands, written).expect("it is a command's name");
        assert_eq!(invocation.text, written, "what was written is what is recorded");
        invocation.facts.obstacle.map(|obstacle| obstacle.text).unwrap_or_default()
    }

    #[test]
    fn a_use_of_a_command_is_one_quoted_line_and_one_verb_on_it() {
        let commands = restart();
        let written = "restart-service wait=5 service='nginx'";
        let invocation = invoke(&commands, written).expect("a command");
        assert_eq!(invocation.text, "systemctl restart --wait='5' 'nginx'");
        assert_eq!(invocation.facts.verbs, [COMMAND]);
        assert_eq!(invocation.facts.obstacle, None);
        let names: Vec<&str> =
            invocation.facts.objects.iter().map(|object| object.name.as_str()).collect();
        assert_eq!(names, ["restart-service"]);
        let shown: Vec<Option<&str>> =
            invocation.parameters.iter().map(|parameter| parameter.value.as_deref()).collect();
        assert_eq!(shown, [Some("nginx"), Some("5")]);
    }

    #[test]
    fn other_words_are_no_use_of_a_command() {
        let commands = restart();
        for written in [
            "",
            "restart",
            "restart-servic",
            "restart-services",
            "restart-service;id",
            "'restart-service' service=nginx",
            "\"restart-service\"",
            "/restart-service",
            "systemctl restart-service",
            "restart-service=1",
            "restart-service|id",
        ] {
            assert_eq!(invoke(&commands, written), None, "{written}");
        }
        assert_eq!(invoke(&[], "restart-service"), None);
    }

    #[test]
    fn what_is_not_exactly_the_parameters_is_refused() {
        let commands = restart();
        let check = |rest: &str, expect: &str| {
            let written = format!("restart-service{rest}");
            let text = refusal(&commands, &written);
            assert!(text.starts_with("restart-service: ") && text.contains(expect), "{text}");
        };
        check("", "'service' is missing");
        check(" service=nginx", "'wait' is missing");
        check(" service=nginx wait=5 wait=5", "'wait' is given twice");
        check(" service=nginx wait=5 x=1", "'x' is no parameter");
        check(" service=nginx wait=5 now", "PARAMETER=VALUE");
        check(" service=apache wait=5", "the value of 'service'");
        check(" service=nginx wait=61", "the value of 'wait'");
        check(" service=nginx wait=", "the value of 'wait'");
        check(" service=nginx wait=5; reboot", "';' stands outside");
        check(" service=nginx wait=$(id)", "'$' stands outside");
        check(" service=nginx wait=\"`id`\"", "'`' stands in double quotes");
        check(" service=nginx wait=5 \\", "'\\' stands outside");
        check(" service='nginx wait=5", "a quote is not closed");
        check(" service=\"nginx wait=5", "a quote is not closed");
        check(" service=nginx wait=5\nreboot", "a line break");
        check("\nreboot", "a line break");
        check("\0", "a line break");
        check(" service=nginx\u{a0}wait=5", "stands outside");
    }

    #[test]
    fn a_refusal_names_no_values_that_would_be_right() {
        let text = refusal(&restart(), "restart-service service=x wait=1");
        assert!(!text.contains("redis") && !text.contains("60"), "{text}");
    }

    #[test]
    fn very_long_words_are_refused() {
        let written = format!("restart-service x={}", "y".repeat(limits::STATEMENT_BYTES_MAX));
        let invocation = invoke(&restart(), &written).expect("a command");
        assert!(invocation.facts.obstacle.is_some_and(|obstacle| obstacle.is_size));
    }

    #[test]
    fn a_damaged_template_runs_nothing() {
        let commands = vec![command("echo '{a}'", &[("a", any_text())])];
        assert!(refusal(&commands, "restart-service a=1").contains("template"));
    }

    fn any_text() -> ParameterSpec {
        ParameterSpec::Pattern("(?s).*".to_owned())
    }

    /// What a real shell makes of a line: the arguments, each behind a NUL.
    fn split_by(shell: &str, line: &str) -> Option<Vec<String>> {
        let output = Command::new(shell).arg("-c").arg(line).output().ok()?;
        assert!(output.status.success() && output.stderr.is_empty(), "{line:?}: {output:?}");
        let text = String::from_utf8(output.stdout).expect("what went in was text");
        let mut parts: Vec<String> = text.split('\0').map(ToOwned::to_owned).collect();
        assert_eq!(parts.pop().as_deref(), Some(""));
        Some(parts)
    }

    fn single_quoted_by_a_client(value: &str) -> String {
        format!("'{}'", value.replace('\'', r#"'"'"'"#))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn a_shell_reads_exactly_the_values(
            a in r#"[ -~äß☃]{0,24}"#,
            b in r#"[$`'"\\(){}!*?~;|&<># a-z-]{0,24}"#,
        ) {
            let template = "printf '%s\\0' {a} \"-\" x{b}y {b}{a}";
            let commands = vec![command(template, &[("a", any_text()), ("b", any_text())])];
            let written = format!(
                "restart-service b={} a={}",
                single_quoted_by_a_client(&b),
                single_quoted_by_a_client(&a),
            );
            let invocation = invoke(&commands, &written).expect("a command");
            prop_assert_eq!(&invocation.facts.obstacle, &None);
            let expect = vec![a.clone(), "-".to_owned(), format!("x{b}y"), format!("{b}{a}")];
            for shell in ["sh", "bash"] {
                if let Some(found) = split_by(shell, &invocation.text) {
                    prop_assert_eq!(&found, &expect, "{} {:?}", shell, invocation.text);
                }
            }
        }

        #[test]
        fn reading_never_panics_and_gives_the_words_of_a_shell(text in r#"[a-z='" $;\\]{0,20}"#) {
            let Ok(found) = words(&text) else { return Ok(()) };
            // What is accepted means the same to a shell.
            let line = format!("printf '%s\\0' x {text}");
            if let Some(split) = split_by("sh", &line) {
                prop_assert_eq!(&split[1..], &found[..], "{:?}", text);
            }
        }
    }

    #[test]
    fn a_shell_is_here_to_test_with() {
        assert_eq!(split_by("sh", "printf '%s\\0' a"), Some(vec!["a".to_owned()]));
    }
}
