//! Which startup parameters a client may choose, and how `options` is read.
//!
//! A setting of the target is forwarded only when it can change neither rights nor what the
//! analysis relies on; the list is in docs/postgres.md.

use crate::encoding;

/// Settings that reach the target as the client wrote them.
const FORWARDED: &[&str] = &[
    "application_name",
    "bytea_output",
    "datestyle",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "geqo",
    "geqo_threshold",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "search_path",
    "statement_timeout",
    "timezone",
    "transaction_timeout",
    "xmloption",
];

/// What switches a setting on or off.
const SWITCH: &[&str] = &["0", "1", "false", "no", "off", "on", "true", "yes"];

/// Settings whose value is fixed: a client may ask for what it gets anyway.
const FIXED: &[(&str, &[&str])] = &[
    ("client_encoding", &["utf8", "unicode", "sqlascii", "auto"]),
    ("client_min_messages", &["notice", "warning", "error"]),
];

/// Sent to every target where the client did not choose.
pub(crate) const PINNED: &[(&str, &str)] =
    &[("client_encoding", "UTF8"), ("standard_conforming_strings", "on")];

/// What is to be done with a parameter of the startup packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Setting {
    Forward(String),
    /// The target has it already.
    Fixed,
    Refused(String),
}

/// Sorts one parameter.
pub(crate) fn sort(name: &str, value: &str) -> Setting {
    let folded = name.to_ascii_lowercase();
    if FORWARDED.contains(&folded.as_str()) {
        return Setting::Forward(folded);
    }
    if folded == "standard_conforming_strings" && SWITCH.contains(&value.to_lowercase().as_str()) {
        return Setting::Forward(folded);
    }
    if let Some((_, values)) = FIXED.iter().find(|(fixed, _)| *fixed == folded) {
        let plain = encoding::folded(value);
        if values.contains(&plain.as_str()) {
            return Setting::Fixed;
        }
        if folded == "client_encoding" && encoding::is_known(&plain) {
            return Setting::Forward(folded);
        }
        return Setting::Refused(format!(
            "startup parameter \"{folded}\" cannot be \"{value}\" here; allowed: {}",
            values.join(", ")
        ));
    }
    Setting::Refused(format!(
        "startup parameter \"{folded}\" is not one that a client may set here"
    ))
}

/// Splits `options` as PostgreSQL does (`pg_split_opts`): blanks separate, a backslash keeps the
/// next character. Gives names and values of `-c name=value` and `--name=value`.
///
/// # Errors
/// The sentence for the client when there is any other switch.
pub(crate) fn split_options(options: &str) -> Result<Vec<(String, String)>, String> {
    let mut words = words(options).into_iter();
    let mut settings: Vec<(String, String)> = Vec::new();
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next().unwrap_or_default()
        } else if let Some(rest) = word.strip_prefix("--") {
            rest.to_owned()
        } else if let Some(rest) = word.strip_prefix("-c") {
            rest.to_owned()
        } else {
            return Err(format!(
                "\"{word}\" in startup parameter \"options\" is not supported; use -c name=value"
            ));
        };
        let Some((name, value)) = assignment.split_once('=') else {
            return Err(format!(
                "\"{assignment}\" in startup parameter \"options\" has no value; use -c name=value"
            ));
        };
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn words(options: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        if character.is_ascii_whitespace() || character == '\x0b' {
            words.extend(word.take());
        } else {
            let kept = if character == '\\' { characters.next() } else { Some(character) };
            word.get_or_insert_default().extend(kept);
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split_as_postgresql_does() {
        let cases: [(&str, &[(&str, &str)]); 5] = [
            ("", &[]),
            ("-c geqo=off", &[("geqo", "off")]),
            ("-cgeqo=off --statement-timeout=5s", &[("geqo", "off"), ("statement_timeout", "5s")]),
            (r"-c search_path=a,\ b", &[("search_path", "a, b")]),
            (r"  -c datestyle=ISO\\x  ", &[("datestyle", r"ISO\x")]),
        ];
        for (options, expect) in cases {
            let found = split_options(options).expect(options);
            let found: Vec<(&str, &str)> =
                found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(found, expect, "{options}");
        }
        for options in ["-d 5", "geqo=off", "-c", "-c geqo", "-W"] {
            assert!(split_options(options).is_err(), "{options}");
        }
    }

    #[test]
    fn settings_that_change_rights_or_meaning_are_refused() {
        let refused = [
            ("role", "postgres"),
            ("session_replication_role", "replica"),
            ("client_encoding", "UTF-16"),
            ("standard_conforming_strings", "perhaps"),
            ("client_min_messages", "debug5"),
            ("row_security", "off"),
            ("anything.else", "1"),
        ];
        for (name, value) in refused {
            assert!(matches!(sort(name, value), Setting::Refused(_)), "{name}={value}");
        }
        for value in ["UTF8", "UTF-8", "utf-8", "'utf-8'", "SQL_ASCII", "UNICODE"] {
            assert_eq!(sort("client_encoding", value), Setting::Fixed, "{value}");
        }
        assert_eq!(sort("DateStyle", "ISO"), Setting::Forward("datestyle".into()));
        for value in ["SJIS", "latin-1"] {
            let expect = Setting::Forward("client_encoding".into());
            assert_eq!(sort("client_encoding", value), expect, "{value}");
        }
        let expect = Setting::Forward("standard_conforming_strings".into());
        assert_eq!(sort("standard_conforming_strings", "OFF"), expect);
    }
}
