//! What was refused, in the words of OAuth.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use corral_api::sign_in::OAuthError;

use crate::app::AppError;
use crate::possession::Unproven;

/// A request that was not carried out.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: &'static str,
    description: String,
}

impl Refusal {
    pub(super) fn new(error: &'static str, description: impl Into<String>) -> Self {
        let description = description.into();
        Self { status: StatusCode::BAD_REQUEST, error, description }
    }

    pub(super) fn invalid(description: impl Into<String>) -> Self {
        Self::new("invalid_request", description)
    }

    /// RFC 6749 section 5.2: the client did not say who it is.
    pub(super) fn bad_client(description: impl Into<String>) -> Self {
        let refusal = Self::new("invalid_client", description);
        Self { status: StatusCode::UNAUTHORIZED, ..refusal }
    }

    /// RFC 9449 section 5.
    pub(super) fn bad_proof(refused: Unproven) -> Self {
        Self::new(refused.error, refused.text)
    }

    pub(super) fn of_exchange(error: AppError) -> Self {
        let code = match &error {
            AppError::BadProof(why) => return Self::bad_proof(Unproven::of(why)),
            AppError::Unauthenticated(_) | AppError::Conflict(_) => "invalid_grant",
            // Everything is in order, but it may not: nobody answers for it, or it was done.
            AppError::Denied(_) => "access_denied",
            AppError::NotFound { .. } => "invalid_authorization_details",
            AppError::Invalid(_) => "invalid_request",
            AppError::LimitReached(_) | AppError::Unavailable(_) => "temporarily_unavailable",
        };
        let status = match &error {
            AppError::LimitReached(_) => StatusCode::TOO_MANY_REQUESTS,
            AppError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            AppError::Unauthenticated(_)
            | AppError::BadProof(_)
            | AppError::Conflict(_)
            | AppError::Denied(_)
            | AppError::NotFound { .. }
            | AppError::Invalid(_) => StatusCode::BAD_REQUEST,
        };
        Self { status, error: code, description: error.to_string() }
    }

    pub(super) fn of_client(error: AppError) -> Self {
        match error {
            AppError::Unauthenticated(text) => Self::bad_client(text),
            other => Self::of_exchange(other),
        }
    }

    /// RFC 7009 section 2.2.1.
    pub(super) fn of_revocation(error: AppError) -> Self {
        match error {
            AppError::Conflict(text) => Self::new("unsupported_token_type", text),
            other => Self::of_exchange(other),
        }
    }
}

/// RFC 6749 section 5.2 allows printable ASCII without quotes and backslashes.
fn allowed(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '"' | '\\' => '\'',
            ' '..='~' => c,
            _ => '?',
        })
        .collect()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = OAuthError {
            error: self.error.to_owned(),
            error_description: Some(allowed(&self.description)),
        };
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Basic realm=\"corral\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_plain_ascii() {
        assert_eq!(allowed("a \"b\" \\ ü\n"), "a 'b' ' ??");
    }
}
