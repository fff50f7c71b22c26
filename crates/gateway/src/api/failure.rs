//! The one shape of an error, and the status of each.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use corral_api::{ApiError, ErrorBody, ErrorCode};

use crate::app::AppError;
use crate::possession::Unproven;

/// A request that was not carried out.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    error: ApiError,
    /// How to prove a key, where that was missing.
    challenge: Option<HeaderValue>,
}

impl Failure {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let status =
            StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, error: ApiError::new(code, message), challenge: None }
    }

    /// RFC 9449 section 7.1: the proof of a token's key is missing, or is not good.
    pub(super) fn unproven(refused: &Unproven) -> Self {
        let failure = Self::new(ErrorCode::Unauthenticated, refused.text.clone());
        Self { challenge: refused.challenge(), ..failure }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }

    /// A change that did not come to its end.
    pub(super) fn unfinished() -> Self {
        Self::new(ErrorCode::Internal, "the change failed inside the gateway; look at its state")
    }

    /// For what HTTP itself refuses: the status that HTTP has for it, and the nearest code.
    pub(super) fn of_status(status: StatusCode, message: impl Into<String>) -> Self {
        let code = match status {
            StatusCode::NOT_FOUND => ErrorCode::NotFound,
            StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::TooLarge,
            _ => ErrorCode::Invalid,
        };
        Self { status, error: ApiError::new(code, message), challenge: None }
    }
}

impl Failure {
    /// The status of an error of the app, for answers of another shape.
    pub(super) fn status_of(error: &AppError) -> StatusCode {
        StatusCode::from_u16(code_of(error).http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        match error {
            AppError::BadProof(why) => Self::unproven(&Unproven::of(&why)),
            other => Self::new(code_of(&other), other.to_string()),
        }
    }
}

fn code_of(error: &AppError) -> ErrorCode {
    match error {
        AppError::Unauthenticated(_) | AppError::BadProof(_) => ErrorCode::Unauthenticated,
        AppError::Denied(_) => ErrorCode::Denied,
        AppError::NotFound { .. } => ErrorCode::NotFound,
        AppError::Invalid(_) => ErrorCode::Invalid,
        AppError::Conflict(_) => ErrorCode::Conflict,
        AppError::LimitReached(_) => ErrorCode::LimitReached,
        AppError::Unavailable(_) => ErrorCode::Unavailable,
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let is_unauthenticated = self.status == StatusCode::UNAUTHORIZED;
        let mut response = (self.status, Json(ErrorBody { error: self.error })).into_response();
        if is_unauthenticated {
            let bearer = HeaderValue::from_static("Bearer realm=\"corral\"");
            let scheme = self.challenge.unwrap_or(bearer);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_app_has_its_status() {
        let check = |error: AppError, status: u16| {
            assert_eq!(Failure::from(error).into_response().status().as_u16(), status);
        };
        check(AppError::Unauthenticated("who?".into()), 401);
        check(AppError::Denied("no".into()), 403);
        check(AppError::NotFound { kind: "run", name: "x".into() }, 404);
        check(AppError::Invalid(Vec::new()), 422);
        check(AppError::Conflict("decided".into()), 409);
        check(AppError::LimitReached("full".into()), 429);
        check(AppError::Unavailable("later".into()), 503);
    }

    #[test]
    fn an_unauthenticated_answer_names_the_scheme() {
        let response = Failure::from(AppError::Unauthenticated("who?".into())).into_response();
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
    }
}
