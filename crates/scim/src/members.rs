//! A group's members while a patch changes them: found by who they are, because providers send a
//! thousand changes of a group of thousands in one patch.

use std::collections::BTreeMap;

use scim_v2::filter::PatchPath;
use serde_json::Value;

use crate::document::Document;
use crate::error::{ErrorType, ScimError};
use crate::filter::Test;
use crate::path::{Named, Place};
use crate::schema::ResourceKind;
use crate::shape::check_count;

const MEMBERS: &str = "members";

/// Members by id; each keeps the place at which it came.
pub(crate) struct Members {
    by_id: BTreeMap<String, (usize, Value)>,
    next_place: usize,
}

impl Members {
    /// Takes the members out of a group.
    pub(crate) fn take(group: &mut Document) -> Self {
        let mut members = Self { by_id: BTreeMap::new(), next_place: 0 };
        if let Some(Value::Array(values)) = group.keys.remove(MEMBERS) {
            values.into_iter().for_each(|value| members.put(value));
        }
        members
    }

    /// Puts them back, in the order in which they came.
    pub(crate) fn put_back(self, group: &mut Document) {
        let mut values: Vec<(usize, Value)> = self.by_id.into_values().collect();
        values.sort_unstable_by_key(|(place, _)| *place);
        if !values.is_empty() {
            let values = values.into_iter().map(|(_, value)| value).collect();
            group.keys.insert(MEMBERS.to_owned(), Value::Array(values));
        }
    }

    /// # Errors
    /// `tooMany`.
    pub(crate) fn add(&mut self, values: Vec<Value>) -> Result<(), ScimError> {
        values.into_iter().for_each(|value| self.put(value));
        check_count(MEMBERS, self.by_id.len())
    }

    pub(crate) fn remove(&mut self, id: &str) {
        self.by_id.remove(id);
    }

    pub(crate) fn remove_all(&mut self, values: &[Value]) {
        for value in values {
            self.by_id.remove(&id_of(value));
        }
    }

    /// Somebody who is in already stays as they are.
    fn put(&mut self, value: Value) {
        let place = self.next_place;
        self.next_place += 1;
        self.by_id.entry(id_of(&value)).or_insert((place, value));
    }
}

/// Who a member is; one without an id, which is refused in the end, is only like itself.
pub(crate) fn id_of(value: &Value) -> String {
    match value.get("value").and_then(Value::as_str) {
        Some(id) => id.to_owned(),
        None => value.to_string(),
    }
}

/// Whether a path means all members of a group.
pub(crate) fn is_path_of_all(kind: ResourceKind, path: &PatchPath) -> bool {
    match path {
        PatchPath::Attr(path) => match Place::of(kind, path, ErrorType::InvalidPath) {
            Ok(Place::Attribute(named)) => are_members(kind, named),
            Ok(Place::Extension(_)) | Err(_) => false,
        },
        PatchPath::Value(_) => false,
    }
}

/// The id of the one member that a path selects: `members[value eq "ID"]`.
pub(crate) fn one_of_path(kind: ResourceKind, path: &PatchPath) -> Option<String> {
    let PatchPath::Value(selected) = path else { return None };
    let place = Place::of(kind, &selected.attr, ErrorType::InvalidPath).ok()?;
    let Place::Attribute(named) = place else { return None };
    if !are_members(kind, named) || selected.sub_attr.is_some() {
        return None;
    }
    let test = Test::of_values(named.attribute, &selected.filter).ok()?;
    test.asked_value().map(ToOwned::to_owned)
}

fn are_members(kind: ResourceKind, named: Named) -> bool {
    let is_plain = named.extension.is_none() && named.part.is_none();
    kind == ResourceKind::Group && is_plain && named.attribute.name == MEMBERS
}
