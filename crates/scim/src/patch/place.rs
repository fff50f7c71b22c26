//! One operation at the place that its path names: an extension, an attribute, a part of one, or
//! values that a filter selects.

use std::collections::BTreeSet;

use scim_v2::filter::{PatchPath, PatchValuePath};
use serde_json::{Map, Value};

use super::Op;
use super::values::{
    append, holder, key_of, merge, no_target, retain, set_part, tidy_extension, unset_primary,
    values_mut,
};
use crate::document::Document;
use crate::error::{ErrorType, ScimError};
use crate::filter::Test;
use crate::path::{Named, Place};
use crate::schema::{Attribute, Mutability};
use crate::shape::{Unknown, check_primary, shape, shape_one, shape_parts};

pub(super) fn apply_at(
    document: &mut Document,
    op: Op,
    path: &PatchPath,
    value: Option<Value>,
) -> Result<(), ScimError> {
    match path {
        PatchPath::Attr(attribute) => {
            match Place::of(document.kind, attribute, ErrorType::InvalidPath)? {
                Place::Extension(schema) => at_extension(document, op, schema, value),
                Place::Attribute(named) => at_attribute(document, op, named, value),
            }
        }
        PatchPath::Value(selected) => at_values(document, op, selected, value),
    }
}

fn at_extension(
    document: &mut Document,
    op: Op,
    schema: &'static str,
    value: Option<Value>,
) -> Result<(), ScimError> {
    if op == Op::Remove {
        document.keys.remove(schema);
        return Ok(());
    }
    let attributes = document.kind.extension().map(|(_, attributes)| attributes);
    let (Some(attributes), Some(Value::Object(parts))) = (attributes, value) else {
        let detail = format!("the value of {schema} must be an object");
        return Err(ScimError::bad(ErrorType::InvalidValue, detail));
    };
    let parts = shape_parts(attributes, parts, schema, Unknown::Refused)?;
    merge(&mut document.keys, schema, parts);
    Ok(())
}

fn at_attribute(
    document: &mut Document,
    op: Op,
    named: Named,
    value: Option<Value>,
) -> Result<(), ScimError> {
    check_mutable(named)?;
    let attribute = named.attribute;
    if let Some(part) = named.part {
        let shaped = match (op, value) {
            (Op::Remove, _) | (_, None) => None,
            (_, Some(value)) => shape(part, value, Unknown::Refused)?,
        };
        return at_part(holder(document, named)?, op, attribute, part, shaped);
    }
    let shaped = match value {
        None => None,
        Some(value) => shape(attribute, value, Unknown::Refused)?,
    };
    let holder = holder(document, named)?;
    match (op, shaped) {
        // Entra ID names the members to be removed in `value`.
        (Op::Remove, Some(Value::Array(gone))) if attribute.has_many => {
            let gone: BTreeSet<String> =
                gone.iter().map(|value| key_of(attribute, value)).collect();
            retain(holder, attribute, |value| !gone.contains(&key_of(attribute, value)));
        }
        (Op::Remove, _) | (Op::Replace, None) => drop(holder.remove(attribute.name)),
        (Op::Add, None) => {}
        (Op::Add, Some(Value::Array(added))) => append(holder, attribute, added)?,
        (Op::Add | Op::Replace, Some(Value::Object(parts))) => {
            merge(holder, attribute.name, parts);
        }
        (Op::Add | Op::Replace, Some(value)) => {
            holder.insert(attribute.name.to_owned(), value);
        }
    }
    tidy_extension(document, named);
    Ok(())
}

/// Sets or removes one part: of the only value, or of all values.
fn at_part(
    holder: &mut Map<String, Value>,
    op: Op,
    attribute: &'static Attribute,
    part: &'static Attribute,
    shaped: Option<Value>,
) -> Result<(), ScimError> {
    let is_removal = op == Op::Remove || shaped.is_none();
    match holder.get_mut(attribute.name) {
        None if is_removal => Ok(()),
        None if attribute.has_many => Err(no_target(attribute)),
        None => {
            let parts = Map::from_iter(shaped.map(|value| (part.name.to_owned(), value)));
            holder.insert(attribute.name.to_owned(), Value::Object(parts));
            Ok(())
        }
        Some(Value::Object(parts)) => {
            set_part(parts, part, shaped);
            if parts.is_empty() {
                holder.remove(attribute.name);
            }
            Ok(())
        }
        Some(Value::Array(values)) => {
            for value in values.iter_mut().filter_map(Value::as_object_mut) {
                set_part(value, part, shaped.clone());
            }
            check_primary(attribute, values)
        }
        Some(_) => Err(no_target(attribute)),
    }
}

fn at_values(
    document: &mut Document,
    op: Op,
    selected: &PatchValuePath,
    value: Option<Value>,
) -> Result<(), ScimError> {
    let invalid = |detail: String| ScimError::bad(ErrorType::InvalidPath, detail);
    let named = match Place::of(document.kind, &selected.attr, ErrorType::InvalidPath)? {
        Place::Attribute(named) if named.attribute.has_many && named.part.is_none() => named,
        Place::Attribute(_) | Place::Extension(_) => {
            return Err(invalid(format!("'{}' has no several values", selected.attr)));
        }
    };
    let attribute = named.attribute;
    let test = Test::of_values(attribute, &selected.filter)
        .map_err(|error| ScimError { kind: Some(ErrorType::InvalidPath), ..error })?;
    let part = match &selected.sub_attr {
        None => None,
        Some(name) => Some(
            attribute
                .part(name)
                .ok_or_else(|| invalid(format!("'{}' has no part '{name}'", attribute.name)))?,
        ),
    };
    check_mutable(Named { part, ..named })?;
    let holder = holder(document, named)?;
    let matches = |value: &Value| value.as_object().is_some_and(|value| test.matches(value));
    match (op, part) {
        (Op::Remove, None) => retain(holder, attribute, |value| !matches(value)),
        (Op::Remove, Some(part)) => {
            for value in values_mut(holder, attribute).filter(|value| matches(value)) {
                if let Value::Object(parts) = value {
                    parts.remove(part.name);
                }
            }
        }
        (Op::Add | Op::Replace, _) => {
            let is_there = values_mut(holder, attribute).any(|value| matches(value));
            if !is_there {
                // Entra ID adds an e-mail address as `emails[type eq "work"].value`.
                let described = test.described().filter(|_| op == Op::Add);
                let described = described.ok_or_else(|| no_target(attribute))?;
                append(holder, attribute, vec![Value::Object(described)])?;
            }
            set_selected(holder, op, attribute, part, value.unwrap_or_default(), matches)?;
        }
    }
    tidy_extension(document, named);
    Ok(())
}

fn set_selected(
    holder: &mut Map<String, Value>,
    op: Op,
    attribute: &'static Attribute,
    part: Option<&'static Attribute>,
    value: Value,
    matches: impl Fn(&Value) -> bool,
) -> Result<(), ScimError> {
    let becomes_primary;
    match part {
        Some(part) => {
            let shaped = shape(part, value, Unknown::Refused)?;
            becomes_primary = part.name == "primary" && shaped == Some(Value::Bool(true));
            let selected = selected_places(holder, attribute, &matches);
            for (place, target) in values_mut(holder, attribute).enumerate() {
                match target {
                    Value::Object(parts) if selected.contains(&place) => {
                        set_part(parts, part, shaped.clone());
                    }
                    other if becomes_primary => unset_primary(other),
                    _ => {}
                }
            }
        }
        None => {
            let Some(Value::Object(parts)) = shape_one(attribute, value, Unknown::Refused)? else {
                let detail = format!("the value of '{}' must be an object", attribute.name);
                return Err(ScimError::bad(ErrorType::InvalidValue, detail));
            };
            becomes_primary = parts.get("primary") == Some(&Value::Bool(true));
            let selected = selected_places(holder, attribute, &matches);
            for (place, target) in values_mut(holder, attribute).enumerate() {
                match target {
                    Value::Object(target) if selected.contains(&place) => {
                        if op == Op::Replace {
                            target.clear();
                        }
                        target.extend(parts.clone());
                    }
                    other if becomes_primary => unset_primary(other),
                    _ => {}
                }
            }
        }
    }
    match holder.get(attribute.name) {
        Some(Value::Array(values)) => check_primary(attribute, values),
        Some(_) | None => Ok(()),
    }
}

fn selected_places(
    holder: &Map<String, Value>,
    attribute: &Attribute,
    matches: &impl Fn(&Value) -> bool,
) -> BTreeSet<usize> {
    let values = holder.get(attribute.name).and_then(Value::as_array);
    let places = values.into_iter().flatten().enumerate();
    places.filter(|(_, value)| matches(value)).map(|(place, _)| place).collect()
}

fn check_mutable(named: Named) -> Result<(), ScimError> {
    let is_fixed = named.attribute.mutability != Mutability::ReadWrite;
    let fixed_part = named.part.filter(|part| part.mutability != Mutability::ReadWrite);
    let name = match (is_fixed, fixed_part) {
        (false, None) => return Ok(()),
        (_, Some(part)) => format!("{}.{}", named.attribute.name, part.name),
        (true, None) => named.attribute.name.to_owned(),
    };
    Err(ScimError::bad(ErrorType::Mutability, format!("'{name}' cannot be changed")))
}
