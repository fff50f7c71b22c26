//! JSON that can be read in one way only: RFC 8259 with unique keys and bounded depth.

use std::collections::BTreeSet;
use std::fmt;

use corral_model::limits::OBJECT_DEPTH_MAX;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::BodyError;

const TWICE: &str = "a key stands twice";
const DEEP: &str = "it nests too deep";

/// Reads one document.
///
/// # Errors
/// When it is no JSON, has a key twice, or nests deeper than [`OBJECT_DEPTH_MAX`].
pub(crate) fn read(text: &[u8]) -> Result<Value, BodyError> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict { levels_left: OBJECT_DEPTH_MAX }.deserialize(&mut reader);
    let value = value.and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| {
        let text = error.to_string();
        if text.starts_with(TWICE) {
            BodyError::DuplicateKey
        } else if text.starts_with(DEEP) || text.starts_with("recursion limit exceeded") {
            BodyError::TooDeep { limit: OBJECT_DEPTH_MAX }
        } else {
            let (line, column) = (error.line(), error.column());
            BodyError::Malformed {
                format: "JSON",
                line: u64::try_from(line).unwrap_or_default(),
                column: u64::try_from(column).unwrap_or_default(),
            }
        }
    })
}

/// Reads any value with unique keys.
#[derive(Clone, Copy)]
pub(super) struct Strict {
    pub(super) levels_left: usize,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.levels_left.checked_sub(1) {
            Some(levels_left) => Ok(Self { levels_left }),
            None => Err(E::custom(DEEP)),
        }
    }
}

pub(super) fn is_duplicate(text: &str) -> bool {
    text.contains(TWICE)
}

pub(super) fn is_deep(text: &str) -> bool {
    text.contains(DEEP)
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        // Infinities and NaN, which YAML has, are no JSON.
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("no finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values: Vec<Value> = Vec::new();
        while let Some(value) = access.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(TWICE));
            }
            let value = access.next_value_seed(inner)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Writes JSON that a YAML 1.1 reader takes for the same value: what is no printable ASCII and
/// inside the basic plane is escaped, since such readers fold or refuse some of it.
#[must_use]
pub(crate) fn write_for_yaml(value: &Value) -> String {
    let json = value.to_string();
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        let code = u32::from(character);
        match code {
            0x20..=0x7E | 0x1_0000.. => text.push(character),
            _ => text.push_str(&format!("\\u{code:04x}")),
        }
    }
    text
}

/// JSON with sorted keys and without blanks.
#[must_use]
pub(crate) fn sorted(value: &Value) -> String {
    let mut out = String::new();
    write_sorted(value, &mut out);
    out
}

fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let keys: BTreeSet<&String> = map.keys().collect();
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_sorted(map.get(key).unwrap_or(&Value::Null), out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_sorted(item, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn text_for_yaml_is_the_same_json(text in any::<String>()) {
            let value = serde_json::json!({ text.as_str(): [text.as_str()] });
            let written = write_for_yaml(&value);
            prop_assert_eq!(read(written.as_bytes()), Ok(value.clone()));
            prop_assert_eq!(super::super::yaml::read(written.as_bytes()), Ok(value));
        }

        #[test]
        fn numbers_are_kept(whole in any::<i64>(), fraction in -1.0e300_f64..1.0e300) {
            let value = serde_json::json!([whole, fraction]);
            prop_assert_eq!(read(value.to_string().as_bytes()), Ok(value));
        }
    }
}
