//! Values as the table wants them: names in the table's spelling, types checked, what nobody may
//! write left out.

use serde_json::{Map, Value};

use crate::bounds;
use crate::error::{ErrorType, ScimError};
use crate::path::same;
use crate::schema::{Attribute, Mutability, Type};

/// What is done with a name that the table does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// A whole document may say more than is kept.
    LeftOut,
    /// A patch says what is to be changed: what cannot be done is refused.
    Refused,
}

/// One attribute's value; none when it is empty (RFC 7643 section 2.5).
///
/// # Errors
/// `invalidValue`, `tooMany`: whoever sent the value is to blame.
pub(crate) fn shape(
    attribute: &'static Attribute,
    value: Value,
    unknown: Unknown,
) -> Result<Option<Value>, ScimError> {
    if value.is_null() {
        return Ok(None);
    }
    if !attribute.has_many {
        return shape_one(attribute, value, unknown);
    }
    let values = match value {
        Value::Array(values) => values,
        single => vec![single],
    };
    check_count(attribute.name, values.len())?;
    let mut shaped: Vec<Value> = Vec::with_capacity(values.len());
    for value in values {
        if let Some(value) = shape_one(attribute, value, unknown)? {
            shaped.push(value);
        }
    }
    check_primary(attribute, &shaped)?;
    Ok((!shaped.is_empty()).then_some(Value::Array(shaped)))
}

/// # Errors
/// `tooMany`.
pub(crate) fn check_count(name: &str, count: usize) -> Result<(), ScimError> {
    let most = match name {
        "members" => bounds::MEMBERS_MAX,
        _ => bounds::VALUES_MAX,
    };
    if count <= most {
        return Ok(());
    }
    Err(ScimError::bad(ErrorType::TooMany, format!("'{name}' has {count} values; at most {most}")))
}

/// At most one value is the primary one (RFC 7643 section 2.4).
pub(crate) fn check_primary(attribute: &Attribute, values: &[Value]) -> Result<(), ScimError> {
    let primaries = values.iter().filter(|value| is_primary(value)).count();
    match primaries {
        0 | 1 => Ok(()),
        more => {
            let name = attribute.name;
            let detail = format!("{more} values of '{name}' are primary; at most one may be");
            Err(ScimError::bad(ErrorType::InvalidValue, detail))
        }
    }
}

pub(crate) fn is_primary(value: &Value) -> bool {
    value.get("primary") == Some(&Value::Bool(true))
}

/// One value of an attribute that has one or several.
pub(crate) fn shape_one(
    attribute: &'static Attribute,
    value: Value,
    unknown: Unknown,
) -> Result<Option<Value>, ScimError> {
    let wrong = |expected: &str| {
        let name = attribute.name;
        ScimError::bad(ErrorType::InvalidValue, format!("'{name}' must be {expected}"))
    };
    let shaped = match (attribute.of, value) {
        (_, Value::Null) => return Ok(None),
        (Type::Boolean, Value::Bool(is_it)) => Value::Bool(is_it),
        // Entra ID writes truth values as texts.
        (Type::Boolean, Value::String(text)) if same(&text, "true") => Value::Bool(true),
        (Type::Boolean, Value::String(text)) if same(&text, "false") => Value::Bool(false),
        (Type::Boolean, _) => return Err(wrong("true or false")),
        (Type::Text | Type::Reference | Type::Binary | Type::Time, Value::String(text)) => {
            if text.len() > bounds::TEXT_BYTES_MAX {
                return Err(wrong(&format!("at most {} bytes long", bounds::TEXT_BYTES_MAX)));
            }
            Value::String(text)
        }
        (Type::Text | Type::Reference | Type::Binary | Type::Time, _) => {
            return Err(wrong("a text"));
        }
        (Type::Complex, Value::Object(keys)) => {
            let parts = shape_parts(attribute.parts, keys, attribute.name, unknown)?;
            return Ok((!parts.is_empty()).then_some(Value::Object(parts)));
        }
        // `"manager": "ID"` and `"members": ["ID"]` are common short forms.
        (Type::Complex, Value::String(text)) if attribute.part("value").is_some() => {
            let keys = Map::from_iter([("value".to_owned(), Value::String(text))]);
            return shape_one(attribute, Value::Object(keys), unknown);
        }
        (Type::Complex, _) => return Err(wrong("an object")),
    };
    Ok(Some(shaped))
}

/// The parts of a complex value, or the attributes of an extension.
pub(crate) fn shape_parts(
    parts: &'static [Attribute],
    keys: Map<String, Value>,
    holder: &str,
    unknown: Unknown,
) -> Result<Map<String, Value>, ScimError> {
    let mut shaped = Map::new();
    for (key, value) in keys {
        // Some clients write into an extension which one it is.
        if same(&key, "schemas") {
            continue;
        }
        let Some(part) = crate::schema::find(parts, &key) else {
            match unknown {
                Unknown::LeftOut => continue,
                Unknown::Refused => {
                    let detail = format!("'{holder}' has no '{key}'; /Schemas lists what it has");
                    return Err(ScimError::bad(ErrorType::InvalidPath, detail));
                }
            }
        };
        if part.mutability == Mutability::ReadOnly {
            continue;
        }
        if let Some(value) = shape(part, value, unknown)? {
            shaped.insert(part.name.to_owned(), value);
        }
    }
    Ok(shaped)
}
