//! Values of an attribute, where they are kept: added once, taken out, one of them primary.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::document::Document;
use crate::error::{ErrorType, ScimError};
use crate::members;
use crate::path::Named;
use crate::schema::{Attribute, Type};
use crate::shape::{check_count, check_primary, is_primary};

pub(super) fn values_mut<'v>(
    holder: &'v mut Map<String, Value>,
    attribute: &Attribute,
) -> impl Iterator<Item = &'v mut Value> + use<'v> {
    holder.get_mut(attribute.name).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Adds the values that are not there yet. A new primary one takes the place of the old.
pub(super) fn append(
    holder: &mut Map<String, Value>,
    attribute: &'static Attribute,
    added: Vec<Value>,
) -> Result<(), ScimError> {
    let entry = holder.entry(attribute.name).or_insert_with(|| Value::Array(Vec::new()));
    let Value::Array(values) = entry else { return Err(no_target(attribute)) };
    if added.iter().any(is_primary) {
        values.iter_mut().for_each(unset_primary);
    }
    let mut known: BTreeSet<String> = values.iter().map(|value| key_of(attribute, value)).collect();
    for value in added {
        if known.insert(key_of(attribute, &value)) {
            values.push(value);
        }
    }
    check_count(attribute.name, values.len())?;
    check_primary(attribute, values)
}

/// By what two values of an attribute are the same: members by who they are, others as a whole.
pub(super) fn key_of(attribute: &Attribute, value: &Value) -> String {
    match attribute.name {
        "members" => members::id_of(value),
        _ => value.to_string(),
    }
}

pub(super) fn retain(
    holder: &mut Map<String, Value>,
    attribute: &Attribute,
    keep: impl Fn(&Value) -> bool,
) {
    let Some(Value::Array(values)) = holder.get_mut(attribute.name) else { return };
    values.retain(|value| keep(value));
    if values.is_empty() {
        holder.remove(attribute.name);
    }
}

pub(super) fn unset_primary(value: &mut Value) {
    if let Value::Object(parts) = value
        && parts.contains_key("primary")
    {
        parts.insert("primary".to_owned(), Value::Bool(false));
    }
}

pub(super) fn set_part(parts: &mut Map<String, Value>, part: &Attribute, value: Option<Value>) {
    match value {
        Some(value) => drop(parts.insert(part.name.to_owned(), value)),
        None => drop(parts.remove(part.name)),
    }
}

/// RFC 7644 section 3.5.2.3: the named parts are replaced, the others stay.
pub(super) fn merge(holder: &mut Map<String, Value>, key: &str, parts: Map<String, Value>) {
    match holder.get_mut(key) {
        Some(Value::Object(known)) => known.extend(parts),
        Some(_) | None if parts.is_empty() => {}
        Some(_) | None => drop(holder.insert(key.to_owned(), Value::Object(parts))),
    }
}

/// The map that holds an attribute.
pub(super) fn holder(
    document: &mut Document,
    named: Named,
) -> Result<&mut Map<String, Value>, ScimError> {
    let Some(schema) = named.extension else { return Ok(&mut document.keys) };
    let extension = document.keys.entry(schema).or_insert_with(|| Value::Object(Map::new()));
    extension.as_object_mut().ok_or_else(|| no_target(named.attribute))
}

pub(super) fn tidy_extension(document: &mut Document, named: Named) {
    if let Some(schema) = named.extension
        && document.keys.get(schema).and_then(Value::as_object).is_some_and(Map::is_empty)
    {
        document.keys.remove(schema);
    }
}

pub(super) fn no_target(attribute: &Attribute) -> ScimError {
    let detail = match attribute.of {
        Type::Complex => format!("no value of '{}' is the one that is named", attribute.name),
        _ => format!("'{}' has no such part", attribute.name),
    };
    ScimError::bad(ErrorType::NoTarget, detail)
}
