//! Reads a [`SecretSource`] without ever quoting what was written: serde's own errors show the
//! value that did not fit, and here that is likely a password.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::SecretSource;

const EXPECTED: &str = "a secret is written {value: \"TEXT\"}, {env: VARIABLE} or {file: PATH}";

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourceVisitor)
    }
}

struct SourceVisitor;

impl<'de> Visitor<'de> for SourceVisitor {
    type Value = SecretSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{value: TEXT}, {env: VARIABLE} or {file: PATH}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretSource, A::Error> {
        let key: Option<String> = map.next_key()?;
        let source = match key.as_deref() {
            Some("value") => SecretSource::Value(map.next_value::<SecretText>()?.0),
            Some("env") => SecretSource::Env(map.next_value::<SecretText>()?.0),
            Some("file") => SecretSource::File(map.next_value::<SecretText>()?.0),
            Some(_) | None => return Err(A::Error::custom(EXPECTED)),
        };
        match map.next_key::<IgnoredAny>()? {
            None => Ok(source),
            Some(_) => Err(A::Error::custom(EXPECTED)),
        }
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<SecretSource, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<SecretSource, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<SecretSource, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<SecretSource, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<SecretSource, E> {
        Err(E::custom(EXPECTED))
    }
}

struct SecretText(String);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

const EXPECTED_TEXT: &str = "a text is expected here; put it in quotes";

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = SecretText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<SecretText, E> {
        Ok(SecretText(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<SecretText, E> {
        Ok(SecretText(text))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<SecretText, E> {
        Err(E::custom(EXPECTED_TEXT))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<SecretText, E> {
        Err(E::custom(EXPECTED_TEXT))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<SecretText, E> {
        Err(E::custom(EXPECTED_TEXT))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<SecretText, E> {
        Err(E::custom(EXPECTED_TEXT))
    }

    fn visit_unit<E: Error>(self) -> Result<SecretText, E> {
        Err(E::custom(EXPECTED_TEXT))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<SecretText, A::Error> {
        Err(A::Error::custom(EXPECTED_TEXT))
    }
}
