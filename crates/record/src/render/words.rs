//! How amounts, times and other small things of events read.

use std::collections::BTreeMap;

use corral_model::event::EventText;
use corral_model::statement::{Attribute, ObjectRef, Parameter};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Columns of rows that are shown of one statement, each at most so many characters wide.
const CELL_CHARS_MAX: usize = 40;
const FIELD_CHARS_MAX: usize = 120;

pub(super) fn statement_text(statement: &EventText) -> String {
    match statement {
        EventText::Whole(text) => text.trim_end().to_owned(),
        EventText::Digest { sha256, bytes } => {
            format!("({} of text, SHA-256 {sha256})", bytes_text(*bytes))
        }
    }
}

pub(super) fn parameters_text(parameters: &[Parameter]) -> String {
    let texts: Vec<String> = parameters
        .iter()
        .enumerate()
        .map(|(index, parameter)| {
            let value = parameter.value.as_deref().unwrap_or("NULL");
            format!("${} = {}", index + 1, shortened(value, CELL_CHARS_MAX))
        })
        .collect();
    texts.join(", ")
}

pub(super) fn touched_text(objects: &[ObjectRef], functions: &[String]) -> String {
    let mut names: Vec<String> = objects
        .iter()
        .map(|object| match object.schema.as_str() {
            "" => object.name.clone(),
            schema => format!("{schema}.{}", object.name),
        })
        .collect();
    names.extend(functions.iter().map(|function| format!("{function}()")));
    names.dedup();
    names.join(", ")
}

pub(super) fn table(columns: &[String], rows: &[Vec<Option<String>>]) -> String {
    let mut text = columns.join(" | ");
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .map(|cell| {
                shortened(cell.as_deref().unwrap_or("NULL"), CELL_CHARS_MAX).replace('\n', "\\n")
            })
            .collect();
        text.push('\n');
        text.push_str(&cells.join(" | "));
    }
    text
}

/// A closed set's own name in events: `parent_ended`.
pub(super) fn snake<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

pub(super) fn stamp(time: OffsetDateTime) -> String {
    let whole_seconds = time.replace_nanosecond(0).unwrap_or(time);
    whole_seconds.format(&Rfc3339).unwrap_or_default()
}

pub(super) fn clock(offset_ms: u64) -> String {
    let (seconds, ms) = (offset_ms / 1000, offset_ms % 1000);
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("+{minutes:02}:{seconds:02}.{ms:03}"),
        (hours, minutes) => format!("+{hours}:{minutes:02}:{seconds:02}.{ms:03}"),
    }
}

pub(super) fn counted(count: u64, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {noun}s"),
    }
}

pub(super) fn bytes_text(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

pub(super) fn duration_text(us: u64) -> String {
    match us {
        0..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        1_000_000..120_000_000 => format!("{:.1} s", us as f64 / 1e6),
        _ => format!("{} min {} s", us / 60_000_000, us / 1_000_000 % 60),
    }
}

pub(super) fn shortened(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// The request's fields that policies read, without those that stand in its text already.
pub(super) fn attributes_text(
    attributes: &BTreeMap<String, Attribute>,
    statement: &EventText,
) -> String {
    let is_new = |(_, value): &(&String, &Attribute)| match (value, statement) {
        (Attribute::Text(text), EventText::Whole(whole)) => !whole.contains(text.as_str()),
        (Attribute::Text(_), EventText::Digest { .. })
        | (Attribute::Flag(_) | Attribute::Number(_) | Attribute::Set(_), _) => true,
    };
    let text = |value: &Attribute| match value {
        Attribute::Flag(flag) => flag.to_string(),
        Attribute::Number(number) => number.to_string(),
        Attribute::Text(text) => shortened(text, FIELD_CHARS_MAX),
        Attribute::Set(values) => shortened(&values.join(" "), FIELD_CHARS_MAX),
    };
    let texts: Vec<String> = attributes
        .iter()
        .filter(is_new)
        .map(|(name, value)| format!("{name}={}", text(value)))
        .collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_well() {
        assert_eq!(counted(1, "entry"), "1 entry");
        assert_eq!(counted(2, "entry"), "2 entries");
        assert_eq!(bytes_text(1_234), "1.2 kB");
        assert_eq!(clock(3_723_004), "+1:02:03.004");
        assert_eq!(duration_text(1_500_000), "1.5 s");
    }
}
