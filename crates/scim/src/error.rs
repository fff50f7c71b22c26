//! Why a request was refused, in SCIM's own form (RFC 7644 section 3.12).

use serde_json::{Value, json};

/// The `scimType` of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorType {
    InvalidFilter,
    InvalidPath,
    InvalidSyntax,
    InvalidValue,
    Mutability,
    NoTarget,
    TooMany,
    Uniqueness,
}

impl ErrorType {
    /// As on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidFilter => "invalidFilter",
            Self::InvalidPath => "invalidPath",
            Self::InvalidSyntax => "invalidSyntax",
            Self::InvalidValue => "invalidValue",
            Self::Mutability => "mutability",
            Self::NoTarget => "noTarget",
            Self::TooMany => "tooMany",
            Self::Uniqueness => "uniqueness",
        }
    }
}

/// A refused request: the client is to blame, or the status says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ScimError {
    /// The HTTP status.
    pub status: u16,
    pub kind: Option<ErrorType>,
    /// What is wrong and what would be right, for the person who reads the provider's log.
    pub detail: String,
}

impl ScimError {
    #[must_use]
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, kind: None, detail: detail.into() }
    }

    /// 400 with a type.
    #[must_use]
    pub fn bad(kind: ErrorType, detail: impl Into<String>) -> Self {
        Self { status: 400, kind: Some(kind), detail: detail.into() }
    }

    /// 409: another resource has this name.
    #[must_use]
    pub fn taken(detail: impl Into<String>) -> Self {
        Self { status: 409, kind: Some(ErrorType::Uniqueness), detail: detail.into() }
    }

    #[must_use]
    pub fn body(&self) -> Value {
        let mut body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
            "status": self.status.to_string(),
            "detail": self.detail,
        });
        if let (Some(kind), Value::Object(keys)) = (self.kind, &mut body) {
            keys.insert("scimType".to_owned(), kind.name().into());
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_that_of_rfc_7644() {
        let body = ScimError::bad(ErrorType::InvalidPath, "there is no attribute 'x'").body();
        assert_eq!(body["schemas"][0], "urn:ietf:params:scim:api:messages:2.0:Error");
        assert_eq!(body["status"], "400");
        assert_eq!(body["scimType"], "invalidPath");
        assert_eq!(ScimError::new(404, "gone").body().get("scimType"), None);
    }
}
