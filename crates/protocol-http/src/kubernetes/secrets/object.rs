//! Masks a value that was read as JSON: an object, a list, a table, an event of a watch.

use serde_json::{Map, Value};

use super::{COPIES, MASK_BASE64, MASK_TEXT, MaskPlan, Shown, status};
use crate::kubernetes::body::{read_json, sorted};

/// Copies of an object inside a copy of an object: deeper ones are replaced whole.
const COPY_DEPTH_MAX: usize = 2;

/// What the columns of a table are called, once they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TableColumns {
    /// The first column holds the object's name.
    is_name_first: bool,
}

impl TableColumns {
    pub(super) fn read(shell: &Value) -> Option<Self> {
        let first = shell.pointer("/columnDefinitions/0")?;
        let is = |key: &str, text: &str| first.get(key).and_then(Value::as_str) == Some(text);
        Some(Self { is_name_first: is("name", "Name") && is("format", "name") })
    }
}

/// Masks and counts.
pub(super) struct ObjectMasker<'a> {
    plan: &'a MaskPlan,
    /// What stands in place of a masked value, where it is not a constant.
    replace: Option<&'a dyn Fn(&Value) -> String>,
    pub(super) masked: u64,
}

impl<'a> ObjectMasker<'a> {
    pub(super) fn new(plan: &'a MaskPlan) -> Self {
        Self { plan, replace: None, masked: 0 }
    }
}

/// Replaces the values at masked paths and nothing else.
pub(super) fn replace(plan: &MaskPlan, object: &mut Value, by: &dyn Fn(&Value) -> String) {
    let mut masker = ObjectMasker { plan, replace: Some(by), masked: 0 };
    for path in &plan.paths {
        masker.path(object, &path.path, path.shown);
    }
}

impl ObjectMasker<'_> {
    /// Any whole answer, or one event of a watch. Shapes are told by what stands there, and all
    /// that fit are masked: reading one kind as another masks too much, never too little.
    pub(super) fn document(&mut self, document: &mut Value) {
        if status::is_status(document) {
            status::mask(self.plan, document);
            return;
        }
        self.object(document);
        if let Some(object) = document.get_mut("object") {
            self.event_object(object);
        }
        if let Some(Value::Array(items)) = document.get_mut("items") {
            items.iter_mut().for_each(|item| self.object(item));
        }
        self.rows(document);
    }

    /// What an event of a watch is about.
    fn event_object(&mut self, object: &mut Value) {
        if status::is_status(object) {
            status::mask(self.plan, object);
            return;
        }
        self.object(object);
        self.rows(object);
    }

    fn rows(&mut self, table: &mut Value) {
        let columns = TableColumns::read(table);
        if let Some(Value::Array(rows)) = table.get_mut("rows") {
            rows.iter_mut().for_each(|row| self.row(row, columns));
        }
    }

    /// A row of a table: the cells that the target made of the object, and the object.
    pub(super) fn row(&mut self, row: &mut Value, columns: Option<TableColumns>) {
        if let Some(object) = row.get_mut("object") {
            self.object(object);
        }
        // A Secret's cells are its name, type, number of values and age. Of other kinds, a
        // column may show any field.
        if self.plan.is_secret_values_only() {
            return;
        }
        let shown = usize::from(columns.is_some_and(|columns| columns.is_name_first));
        match row.get_mut("cells") {
            Some(Value::Array(cells)) => {
                for cell in cells.iter_mut().skip(shown) {
                    *cell = Value::String(MASK_TEXT.to_owned());
                    self.masked += 1;
                }
            }
            Some(other) => *other = Value::Array(Vec::new()),
            None => {}
        }
    }

    /// One object.
    pub(super) fn object(&mut self, object: &mut Value) {
        self.copy(object, COPY_DEPTH_MAX);
    }

    fn copy(&mut self, object: &mut Value, copies_left: usize) {
        let plan = self.plan;
        for path in &plan.paths {
            self.path(object, &path.path, path.shown);
        }
        let Some(Value::Object(metadata)) = object.get_mut("metadata") else { return };
        if !plan.is_secret_values_only() {
            // It names items of lists by their values.
            metadata.remove("managedFields");
        }
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            self.annotations(annotations, copies_left);
        }
    }

    fn annotations(&mut self, annotations: &mut Map<String, Value>, copies_left: usize) {
        for (key, value) in annotations.iter_mut() {
            if COPIES.iter().any(|copy| key.eq_ignore_ascii_case(copy)) {
                *value = Value::String(self.copied(value, copies_left));
            }
        }
    }

    /// What stands in place of a copy: the copy, masked, if it can be read as one.
    fn copied(&mut self, value: &Value, copies_left: usize) -> String {
        let text = value.as_str().unwrap_or_default();
        let left = copies_left.checked_sub(1);
        match (left, read_json(text.as_bytes())) {
            (Some(left), Ok(mut inner @ Value::Object(_))) => {
                self.copy(&mut inner, left);
                // As the tools write it, with a line break at the end.
                format!("{}\n", sorted(&inner))
            }
            _ => {
                self.masked += 1;
                MASK_TEXT.to_owned()
            }
        }
    }

    /// Masks what stands at a path below a value. A list stands for each of its items; a key may
    /// be several parts of the path, joined by dots; upper and lower case do not matter.
    fn path(&mut self, value: &mut Value, path: &str, shown: Shown) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.path(item, path, shown)),
            Value::Object(map) => {
                for (key, inner) in map.iter_mut() {
                    match below(path, key) {
                        Some("") => self.show(inner, shown),
                        Some(rest) => self.path(inner, rest, shown),
                        None => {}
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn show(&mut self, value: &mut Value, shown: Shown) {
        let mask = match shown {
            Shown::Base64Map | Shown::Base64 => MASK_BASE64,
            Shown::TextMap | Shown::Text => MASK_TEXT,
        };
        let mask = |value: &Value| match self.replace {
            Some(replace) => replace(value),
            None => mask.to_owned(),
        };
        let is_map = matches!(shown, Shown::Base64Map | Shown::TextMap);
        match value {
            Value::Object(map) if is_map => {
                for inner in map.values_mut() {
                    *inner = Value::String(mask(inner));
                    self.masked += 1;
                }
            }
            // An absent map, as the target writes it.
            Value::Null if is_map => {}
            other => {
                *other = Value::String(mask(other));
                self.masked += 1;
            }
        }
    }
}

/// What is left of a path below a key that is its beginning.
pub(super) fn below<'a>(path: &'a str, key: &str) -> Option<&'a str> {
    let (start, rest) = path.split_at_checked(key.len())?;
    if key.is_empty() || !start.eq_ignore_ascii_case(key) {
        return None;
    }
    match rest.strip_prefix('.') {
        Some(rest) if !rest.is_empty() => Some(rest),
        Some(_) => None,
        None => rest.is_empty().then_some(""),
    }
}
