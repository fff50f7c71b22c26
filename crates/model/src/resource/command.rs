//! The `Command` resource: a command line with typed parameters, the enforceable form of "may
//! restart this service".
//!
//! A template is a line for a POSIX shell. Each `{name}` in it stands for a value, which is put
//! there in quotes; so it must stand where quotes quote. What would change that (quotes around
//! it, a backslash or `$` before it, a substitution anywhere) is refused when the resource is
//! applied, not when it is used.

use std::collections::{BTreeMap, BTreeSet};

use regex::RegexBuilder;
use serde::{Deserialize, Serialize};

use super::TargetSpec;
use crate::ids::{CommandName, TargetName};
use crate::limits;

/// A command with typed parameters that clients may run by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSpec {
    pub name: CommandName,
    /// The targets that it is for, by name; empty when `labels` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetName>,
    /// It is for every target that has all of these labels; empty when `targets` says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The command line, with `{name}` for each parameter and `{{`, `}}` for braces.
    pub template: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterSpec>,
}

impl CommandSpec {
    /// Whether it is for this target.
    #[must_use]
    pub fn applies_to(&self, target: &TargetSpec) -> bool {
        let has_label = |(key, value): (&String, &String)| target.labels.get(key) == Some(value);
        let is_labelled = !self.labels.is_empty() && self.labels.iter().all(has_label);
        is_labelled || self.targets.contains(&target.name)
    }
}

/// What a parameter's value may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParameterSpec {
    /// One of these texts.
    OneOf(Vec<String>),
    /// A text that this regular expression matches from its first to its last character.
    Pattern(String),
    /// A whole number, written without leading zeros or a plus.
    Integer(IntegerRange),
}

/// Both ends are part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntegerRange {
    pub min: i64,
    pub max: i64,
}

impl ParameterSpec {
    /// Whether a value is of this type. Values with control characters never are.
    ///
    /// # Limits
    /// [`limits::COMMAND_VALUE_BYTES_MAX`].
    #[must_use]
    pub fn accepts(&self, value: &str) -> bool {
        is_plain_value(value)
            && match self {
                Self::OneOf(values) => values.iter().any(|known| known == value),
                Self::Pattern(pattern) => {
                    compile(pattern).is_ok_and(|pattern| pattern.is_match(value))
                }
                Self::Integer(range) => {
                    let number: Option<i64> = value.parse().ok();
                    number.is_some_and(|number| {
                        // Only one way to write each number: what is shown is what is run.
                        number.to_string() == value && range.min <= number && number <= range.max
                    })
                }
            }
    }

    /// What is wrong with the type itself: a text and what would be right.
    fn fault(&self) -> Option<(String, &'static str)> {
        match self {
            Self::OneOf(values) => {
                let unique: BTreeSet<&String> = values.iter().collect();
                let bad = values.iter().find(|value| !is_plain_value(value));
                match bad {
                    _ if values.is_empty() => {
                        Some(("no value is allowed".to_owned(), "list the values"))
                    }
                    _ if unique.len() < values.len() => {
                        Some(("a value stands twice".to_owned(), "list each value once"))
                    }
                    Some(_) => Some((
                        format!(
                            "a value holds a control character or is longer than {} bytes",
                            limits::COMMAND_VALUE_BYTES_MAX
                        ),
                        "write plain texts",
                    )),
                    None => None,
                }
            }
            Self::Pattern(pattern) => compile(pattern)
                .err()
                .map(|text| (text, "write a regular expression such as \"[a-z0-9-]{1,40}\"")),
            Self::Integer(range) if range.min > range.max => {
                Some(("min is above max".to_owned(), "write the smaller number as min"))
            }
            Self::Integer(_) => None,
        }
    }
}

fn is_plain_value(value: &str) -> bool {
    value.len() <= limits::COMMAND_VALUE_BYTES_MAX && !value.chars().any(char::is_control)
}

/// The pattern, bound to both ends of a value. It is read on its own first, so that no unbalanced
/// bracket can undo the bounds.
fn compile(pattern: &str) -> Result<regex::Regex, String> {
    if pattern.len() > limits::COMMAND_PATTERN_BYTES_MAX {
        let max = limits::COMMAND_PATTERN_BYTES_MAX;
        return Err(format!("the pattern is longer than {max} bytes"));
    }
    let build = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(limits::COMMAND_PATTERN_PROGRAM_BYTES_MAX)
            .dfa_size_limit(limits::COMMAND_PATTERN_PROGRAM_BYTES_MAX)
            .nest_limit(limits::COMMAND_PATTERN_DEPTH_MAX)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => "the pattern is too large".to_owned(),
                regex::Error::Syntax(text) => {
                    let last = text.lines().last().unwrap_or_default();
                    format!("the pattern cannot be read: {}", last.trim_start_matches("error: "))
                }
                // The library's own enum, which may grow.
                _ => "the pattern cannot be read".to_owned(),
            })
    };
    build(pattern)?;
    build(&format!(r"\A(?:{pattern})\z"))
}

/// A template that was read: literal texts and parameters in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub parts: Vec<TemplatePart>,
}

/// One piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart {
    /// As the target's shell will read it.
    Literal(String),
    /// The name of the parameter whose quoted value stands here.
    Parameter(String),
}

/// Why a template is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("the template is empty")]
    Empty,
    #[error("the template is longer than {max} bytes", max = limits::COMMAND_TEMPLATE_BYTES_MAX)]
    TooLong,
    #[error("the template holds a line break or another control character")]
    Control,
    #[error("a brace at character {at} belongs to no parameter; write {{{{ or }}}} for a brace")]
    Brace { at: usize },
    #[error(
        "'{name}' stands inside quotes, where its own quotes would not protect it; write it \
         outside of them"
    )]
    Quoted { name: String },
    #[error("'{name}' stands behind a backslash or a $, which would change its quotes")]
    Changed { name: String },
    #[error("a quote is open at the end of the template")]
    OpenQuote,
    #[error("a backslash stands at the end of the template")]
    OpenEscape,
    #[error(
        "the template holds {what} beside parameters; put that into a script at the target and \
         call the script"
    )]
    Substitution { what: &'static str },
}

/// How the shell reads the next character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoting {
    None,
    Single,
    Double,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError`]: whoever wrote the template is to blame.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.trim().is_empty() {
            return Err(TemplateError::Empty);
        }
        if text.len() > limits::COMMAND_TEMPLATE_BYTES_MAX {
            return Err(TemplateError::TooLong);
        }
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err(TemplateError::Control);
        }
        let template = Self { parts: split(text)? };
        template.check_quotes()?;
        Ok(template)
    }

    /// The parameters that it names, each once.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        let names = self.parts.iter().filter_map(|part| match part {
            TemplatePart::Parameter(name) => Some(name.as_str()),
            TemplatePart::Literal(_) => None,
        });
        names.collect()
    }

    /// Whether every parameter stands where quotes quote, in every POSIX shell.
    fn check_quotes(&self) -> Result<(), TemplateError> {
        let mut quoting = Quoting::None;
        let mut is_escaped = false;
        let mut before: Option<char> = None;
        for part in &self.parts {
            match part {
                TemplatePart::Literal(text) => {
                    for c in text.chars() {
                        let was_escaped = std::mem::take(&mut is_escaped);
                        before = Some(c);
                        match (quoting, c) {
                            (Quoting::None | Quoting::Double, '\\') if !was_escaped => {
                                is_escaped = true;
                            }
                            (_, _) if was_escaped => {}
                            (Quoting::None, '\'') => quoting = Quoting::Single,
                            (Quoting::None, '"') => quoting = Quoting::Double,
                            (Quoting::Single, '\'') | (Quoting::Double, '"') => {
                                quoting = Quoting::None;
                            }
                            (_, _) => {}
                        }
                    }
                }
                TemplatePart::Parameter(name) => {
                    let name = || name.clone();
                    if quoting != Quoting::None {
                        return Err(TemplateError::Quoted { name: name() });
                    }
                    if is_escaped || before == Some('$') {
                        return Err(TemplateError::Changed { name: name() });
                    }
                    before = Some('\'');
                }
            }
        }
        match (quoting, is_escaped) {
            (Quoting::Single | Quoting::Double, _) => return Err(TemplateError::OpenQuote),
            (Quoting::None, true) => return Err(TemplateError::OpenEscape),
            (Quoting::None, false) => {}
        }
        if self.names().is_empty() { Ok(()) } else { self.check_substitutions() }
    }

    /// Inside a substitution quotes begin anew, so what stands quoted there could not be told
    /// without a whole shell grammar.
    fn check_substitutions(&self) -> Result<(), TemplateError> {
        let found = |needle: &str| {
            self.parts.iter().any(|part| match part {
                TemplatePart::Literal(text) => text.contains(needle),
                TemplatePart::Parameter(_) => false,
            })
        };
        let refused = [
            ("`", "a command substitution (`)"),
            ("$(", "a command substitution ($()"),
            ("${", "an expansion in braces (${)"),
            ("$[", "an arithmetic expansion ($[)"),
            ("$'", "a quote of bash ($')"),
            ("$\"", "a quote of bash ($\")"),
            ("<<", "a here-document (<<)"),
            ("((", "an arithmetic command ((()"),
            ("[[", "a test of bash ([[)"),
        ];
        match refused.into_iter().find(|(needle, _)| found(needle)) {
            Some((_, what)) => Err(TemplateError::Substitution { what }),
            None => Ok(()),
        }
    }
}

fn split(text: &str) -> Result<Vec<TemplatePart>, TemplateError> {
    let mut parts: Vec<TemplatePart> = Vec::new();
    let mut literal = String::new();
    let mut characters = text.chars().enumerate().peekable();
    while let Some((index, c)) = characters.next() {
        let is_doubled = characters.peek().is_some_and(|(_, next)| *next == c);
        match c {
            '{' | '}' if is_doubled => {
                characters.next();
                literal.push(c);
            }
            '{' => {
                let mut name = String::new();
                let is_closed = loop {
                    match characters.next() {
                        Some((_, '}')) => break true,
                        Some((_, c)) => name.push(c),
                        None => break false,
                    }
                };
                if !is_closed || !is_parameter_name(&name) {
                    return Err(TemplateError::Brace { at: index + 1 });
                }
                if !literal.is_empty() {
                    parts.push(TemplatePart::Literal(std::mem::take(&mut literal)));
                }
                parts.push(TemplatePart::Parameter(name));
            }
            '}' => return Err(TemplateError::Brace { at: index + 1 }),
            _ => literal.push(c),
        }
    }
    if !literal.is_empty() {
        parts.push(TemplatePart::Literal(literal));
    }
    Ok(parts)
}

/// `a`-`z`, `0`-`9` and `_`, a letter first, at most 63 characters.
#[must_use]
pub fn is_parameter_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.len() <= limits::ID_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(is_allowed)
}

/// What is wrong with a command: the key, a text, and what would be right.
pub(crate) fn faults(spec: &CommandSpec) -> Vec<(String, String, &'static str)> {
    let mut faults: Vec<(String, String, &'static str)> = Vec::new();
    let mut add = |key: &str, text: String, help| faults.push((key.to_owned(), text, help));
    match (spec.targets.is_empty(), spec.labels.is_empty()) {
        (true, true) => add(
            "name",
            "this Command is for no target".to_owned(),
            "write targets: [NAME] or labels: {key: value}",
        ),
        (false, false) => add(
            "labels",
            "a Command has targets or labels, not both".to_owned(),
            "write two Commands",
        ),
        (true, false) | (false, true) => {}
    }
    let unique: BTreeSet<&TargetName> = spec.targets.iter().collect();
    if unique.len() < spec.targets.len() {
        add("targets", "a target stands twice".to_owned(), "name each target once");
    }
    if spec.parameters.len() > limits::COMMAND_PARAMETERS_MAX {
        let max = limits::COMMAND_PARAMETERS_MAX;
        add("parameters", format!("there are more than {max} parameters"), "");
    }
    for (name, parameter) in &spec.parameters {
        let key = format!("parameters.{name}");
        if !is_parameter_name(name) {
            add(
                &key,
                format!("'{name}' is no name for a parameter"),
                "write a-z, 0-9 and _, a letter first",
            );
        }
        if let Some((text, help)) = parameter.fault() {
            add(&key, format!("{name}: {text}"), help);
        }
    }
    match Template::parse(&spec.template) {
        Err(error) => add("template", error.to_string(), ""),
        Ok(template) => {
            let names = template.names();
            for name in names.iter().filter(|name| !spec.parameters.contains_key(**name)) {
                add(
                    "template",
                    format!("there is no parameter '{name}'"),
                    "name it under parameters, or write {{ for a brace",
                );
            }
            for name in spec.parameters.keys().filter(|name| !names.contains(name.as_str())) {
                add(
                    &format!("parameters.{name}"),
                    format!("the template does not use '{name}'"),
                    "write {name} in the template, or leave the parameter out",
                );
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> TemplatePart {
        TemplatePart::Literal(text.to_owned())
    }

    fn parameter(name: &str) -> TemplatePart {
        TemplatePart::Parameter(name.to_owned())
    }

    #[test]
    fn templates_are_split_at_their_parameters() {
        let check = |text: &str, parts: &[TemplatePart]| {
            assert_eq!(Template::parse(text).expect(text).parts, parts, "{text}");
        };
        check(
            "systemctl restart {service}",
            &[literal("systemctl restart "), parameter("service")],
        );
        check("{a}{b}", &[parameter("a"), parameter("b")]);
        check("awk '{{print $1}}' {file}", &[literal("awk '{print $1}' "), parameter("file")]);
        check("echo \"done\" '\"' {a}", &[literal("echo \"done\" '\"' "), parameter("a")]);
        check("echo $HOME \\\\{a}", &[literal("echo $HOME \\\\"), parameter("a")]);
        check("echo \"$(id)\"", &[literal("echo \"$(id)\"")]);
    }

    #[test]
    fn a_parameter_stands_only_where_quotes_quote() {
        let refused = |text: &str| assert!(Template::parse(text).is_err(), "{text}");
        for text in [
            "",
            " ",
            "a\nb",
            "a\0b",
            "{",
            "}",
            "{A}",
            "{a b}",
            "{a",
            "{}",
            "echo '{a}'",
            "echo \"{a}\"",
            "echo \\{a}",
            "echo ${a}",
            "echo $HOME$'x' {a}",
            "echo 'open {a}",
            "echo {a} 'open",
            "echo {a} \\",
            "x=`id` {a}",
            "echo $(echo {a})",
            "echo \"$(echo \"{a}\")\"",
            "cat <<{a}",
            "cat <<EOF {a}",
            "echo ${{x}} {a}",
            "echo $[1] {a}",
            "echo '\\'{a}'",
            "(( {a} ))",
            "[[ {a} -eq 1 ]]",
        ] {
            refused(text);
        }
        refused(&"x".repeat(limits::COMMAND_TEMPLATE_BYTES_MAX + 1));
    }

    #[test]
    fn types_accept_what_they_say_and_nothing_beside() {
        let check = |spec: &ParameterSpec, good: &[&str], bad: &[&str]| {
            for value in good {
                assert!(spec.accepts(value), "{spec:?} {value:?}");
            }
            for value in bad {
                assert!(!spec.accepts(value), "{spec:?} {value:?}");
            }
        };
        let one_of = ParameterSpec::OneOf(vec!["nginx".to_owned(), "re dis".to_owned()]);
        check(&one_of, &["nginx", "re dis"], &["", "Nginx", "nginx ", "nginx\n", "nginx;id"]);
        let pattern = ParameterSpec::Pattern("[a-z0-9-]{1,40}".to_owned());
        check(&pattern, &["a", "web-1"], &["", "a b", "a\n", "\na", "a;b", "A", "a\0"]);
        // Alternatives and flags are bound to both ends too.
        check(&ParameterSpec::Pattern("a|b".to_owned()), &["a", "b"], &["ab", "ax", "xb"]);
        check(&ParameterSpec::Pattern("(?m)^a$".to_owned()), &["a"], &["a\nb", "b\na"]);
        check(&ParameterSpec::Pattern("(?s).*".to_owned()), &["", "a b"], &["a\nb", "\u{7f}"]);
        let integer = ParameterSpec::Integer(IntegerRange { min: -5, max: 50 });
        check(
            &integer,
            &["-5", "0", "50"],
            &["", "-6", "51", "+1", "01", "-0", " 1", "1 ", "1.0", "0x1", "99999999999999999999"],
        );
        let long = "a".repeat(limits::COMMAND_VALUE_BYTES_MAX + 1);
        assert!(!ParameterSpec::Pattern(".*".to_owned()).accepts(&long));
    }

    #[test]
    fn patterns_are_bounded_and_whole() {
        let is_fine = |pattern: &str| {
            let spec = ParameterSpec::Pattern(pattern.to_owned());
            spec.fault().is_none()
        };
        assert!(is_fine("[a-z]+"));
        for pattern in ["a)|(?:b", "(", "[", "(a{1000}){1000}", "\\1", "(?=a)"] {
            assert!(!is_fine(pattern), "{pattern}");
        }
        assert!(!is_fine(&"(".repeat(400)));
        assert!(!is_fine(&"a".repeat(limits::COMMAND_PATTERN_BYTES_MAX + 1)));
    }
}
