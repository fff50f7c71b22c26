//! Printing: tables for people, JSON and YAML for programs.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, TableStyle};
use corral_record::render::plain_json;
use serde::Serialize;

use crate::failure::{Exit, Failure};

/// What `-o` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Yaml,
}

/// Prints `value` as asked; `table` makes the text for people.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn show<T: Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    match format {
        Format::Table => {
            let text = table(value);
            if text.is_empty() && io::stderr().is_terminal() {
                remark("nothing to show");
            }
            print(&text)
        }
        Format::Json => print(&json(value)?),
        Format::Yaml => {
            let text = serde_saphyr::to_string(value)
                .map_err(|error| Failure::failed(format!("cannot write this as YAML: {error}")))?;
            print(&text)
        }
    }
}

fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map(|text| plain_json(&text))
        .map_err(|error| Failure::failed(format!("cannot write this as JSON: {error}")))
}

/// One line of JSON, for streams.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn json_line<T: Serialize>(value: &T) -> Result<(), Failure> {
    let line = serde_json::to_string(value)
        .map_err(|error| Failure::failed(format!("cannot write this as JSON: {error}")))?;
    print(&plain_json(&line))
}

/// Writes `text` to standard output with one line break at its end.
///
/// # Errors
/// When standard output cannot be written. A reader that went away (`| head`) ends the command
/// without a word.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let text = text.trim_end_matches('\n');
    if text.is_empty() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::silent(Exit::Of(0)),
        _ => Failure::failed(format!("cannot write to standard output: {error}")),
    })
}

/// Writes a remark to standard error, so that standard output stays what was asked for.
pub(crate) fn remark(text: &str) {
    // Nobody is left to be told when standard error is gone.
    let _ = writeln!(io::stderr().lock(), "{}", crate::text::visible_lines(text));
}

/// A table without borders, as kubectl and docker print them.
#[must_use]
pub(crate) fn table<R, C>(header: &[&str], rows: R) -> String
where
    R: IntoIterator<Item = Vec<C>>,
    C: AsRef<str>,
{
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(ToString::to_string).collect::<Vec<String>>());
    let mut is_empty = true;
    for row in rows {
        is_empty = false;
        let cells: Vec<String> =
            row.iter().map(|cell| crate::text::visible(cell.as_ref())).collect();
        table.add_row(cells);
    }
    if is_empty {
        return String::new();
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.trim_fmt()
}

/// Names and values, one pair a line; pairs without a value are left out.
#[must_use]
pub(crate) fn fields(pairs: &[(&str, Option<String>)]) -> String {
    let width = pairs
        .iter()
        .filter(|(_, value)| value.is_some())
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for (name, value) in pairs {
        let Some(value) = value else { continue };
        let shown = crate::text::visible_lines(value);
        let mut lines = shown.lines();
        let first = lines.next().unwrap_or_default();
        text.push_str(format!("{name:width$}   {first}").trim_end());
        text.push('\n');
        for line in lines {
            text.push_str(format!("{:width$}   {line}", "").trim_end());
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_no_borders_and_no_trailing_blanks() {
        let text = table(&["ID", "NAME"], vec![vec!["1", "ada"], vec!["22", "b\u{1b}"]]);
        assert_eq!(text, "ID   NAME\n1    ada\n22   b\\u{1b}");
    }

    #[test]
    fn fields_line_up_and_leave_out_what_is_absent() {
        let text = fields(&[
            ("id", Some("r1".to_owned())),
            ("purpose", None),
            ("statement", Some("select 1,\n2".to_owned())),
        ]);
        assert_eq!(text, "id          r1\nstatement   select 1,\n            2\n");
    }
}
