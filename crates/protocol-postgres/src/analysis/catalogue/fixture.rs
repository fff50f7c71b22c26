//! The rows of a dump: what `psql -XAt -F TAB` prints for the two queries. For tests and for
//! people who look into a target's catalogue; names with a tab or a line end do not survive it.

use super::Row;

/// Reads one row from each line; an empty cell is NULL.
#[must_use]
pub fn rows_of_text(text: &str) -> Vec<Row> {
    let cell = |part: &str| (!part.is_empty()).then(|| part.to_owned());
    let row = |line: &str| line.split('\t').map(cell).collect();
    text.lines().filter(|line| !line.trim().is_empty()).map(row).collect()
}
