//! What a token says, by name.

use serde_json::{Map, Value};
use time::OffsetDateTime;

/// The claims of a token. [`super::Unverified::verify`] gives those of a verified one.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims(pub(super) Map<String, Value>);

impl std::fmt::Debug for Claims {
    /// Names only: values may be what its bearer keeps to itself.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Claims {
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The same claims with one that another source, which is trusted as much, has said.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    /// A claim that is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// A claim reached through objects: `kubernetes.io` / `namespace`.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get(*first)?, |value, name| value.get(*name))
    }

    /// A claim that is one text or a list of texts; empty when it is neither.
    #[must_use]
    pub fn texts(&self, name: &str) -> Vec<&str> {
        texts(self.0.get(name)).unwrap_or_default()
    }

    /// `iss`.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.text("iss")
    }

    /// `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.text("sub")
    }

    /// `jti`.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.text("jti")
    }

    /// `exp`.
    #[must_use]
    pub fn expires_at(&self) -> Option<OffsetDateTime> {
        self.time("exp").ok().flatten()
    }

    /// `iat`.
    #[must_use]
    pub fn issued_at(&self) -> Option<OffsetDateTime> {
        self.time("iat").ok().flatten()
    }

    /// All of them.
    #[must_use]
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// A NumericDate (RFC 7519 section 2): seconds since 1970, possibly with a fraction.
    ///
    /// # Errors
    /// When it is there and is not one.
    pub(super) fn time(&self, name: &str) -> Result<Option<OffsetDateTime>, ()> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let seconds = match (value.as_i64(), value.as_f64()) {
            (Some(whole), _) => whole,
            (None, Some(real)) if real.is_finite() && real.abs() < 1e12 => {
                // Towards the past: a fraction lets nothing live longer.
                real.floor() as i64
            }
            (None, Some(_) | None) => return Err(()),
        };
        OffsetDateTime::from_unix_timestamp(seconds).map(Some).map_err(|_| ())
    }
}

/// One text, or a list of nothing but texts.
pub(super) fn texts(value: Option<&Value>) -> Option<Vec<&str>> {
    match value? {
        Value::String(one) => Some(vec![one.as_str()]),
        Value::Array(many) => many.iter().map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}
