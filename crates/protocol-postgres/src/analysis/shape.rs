//! What a query's FROM offers and what its SELECT list gives: names of columns, and which of them
//! are masked. No tree of the parser is kept here.

use corral_model::resource::ColumnName;

/// One column that a query or a range entry gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct OutColumn {
    /// None where the server makes the name up.
    pub(super) name: Option<String>,
    pub(super) mask: Option<ColumnName>,
}

/// The columns that a query or a range entry gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) columns: Vec<OutColumn>,
    /// False: there may be other columns, at any place. They are never masked.
    pub(super) is_exact: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self::open()
    }
}

impl Shape {
    /// Nothing is known but that no column is masked.
    pub(super) fn open() -> Self {
        Self { columns: Vec::new(), is_exact: false }
    }

    pub(super) fn exact(columns: Vec<OutColumn>) -> Self {
        Self { columns, is_exact: true }
    }

    pub(super) fn has_mask(&self) -> bool {
        self.columns.iter().any(|column| column.mask.is_some())
    }

    /// `AS alias(a, b, …)`: the first columns get new names.
    pub(super) fn rename(&mut self, names: &[&str]) {
        if !self.is_exact && !names.is_empty() && self.columns.is_empty() {
            self.columns = names.iter().map(|name| OutColumn::named(name)).collect();
            return;
        }
        for (column, name) in self.columns.iter_mut().zip(names) {
            column.name = Some((*name).to_owned());
        }
    }
}

impl OutColumn {
    pub(super) fn named(name: &str) -> Self {
        Self { name: Some(name.to_owned()), mask: None }
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }
}

/// Something that a name before a dot can mean.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) alias: String,
    /// The schema of a relation that has no alias.
    pub(super) schema: Option<String>,
    pub(super) shape: Shape,
    /// A relation of the catalogue, which has system columns.
    pub(super) is_relation: bool,
}

/// What one query's expressions can name.
#[derive(Debug, Clone)]
pub(super) struct Level {
    pub(super) entries: Vec<Entry>,
    /// What `*` means, in order.
    pub(super) star: Shape,
}

impl Default for Level {
    fn default() -> Self {
        Self { entries: Vec::new(), star: Shape::exact(Vec::new()) }
    }
}

/// Two FROM items side by side.
pub(super) fn beside(mut left: Shape, right: Shape) -> Shape {
    left.columns.extend(right.columns);
    left.is_exact &= right.is_exact;
    left
}

/// JOIN … USING (names): the merged columns first, then the rest of both sides.
pub(super) fn merged(left: Shape, right: Shape, names: &[String]) -> Shape {
    let is_merged = |column: &OutColumn| names.iter().any(|name| column.is_named(name));
    // A column whose name the server makes up may be one of those that are merged.
    let is_exact = left.is_exact
        && right.is_exact
        && left.columns.iter().chain(&right.columns).all(|column| column.name.is_some());
    let mut columns: Vec<OutColumn> = names.iter().map(|name| OutColumn::named(name)).collect();
    columns.extend(left.columns.into_iter().filter(|column| !is_merged(column)));
    columns.extend(right.columns.into_iter().filter(|column| !is_merged(column)));
    Shape { columns, is_exact }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_columns_come_first_and_once() {
        let side =
            |names: &[&str]| Shape::exact(names.iter().map(|n| OutColumn::named(n)).collect());
        let found = merged(side(&["a", "id", "b"]), side(&["c", "id"]), &["id".to_owned()]);
        let names: Vec<&str> = found.columns.iter().filter_map(|c| c.name.as_deref()).collect();
        assert_eq!(names, ["id", "a", "b", "c"]);
        assert!(found.is_exact);
    }
}
