//! The one shape of an error.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What every answer with a status of 400 or above carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    pub error: ApiError,
}

/// What went wrong, for a program (`code`) and for a person (`message`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    pub code: ErrorCode,
    /// What was wrong, where, and what would be right. Never an internal error.
    pub message: String,
    /// The decision that refused it, where there was one; `corral policy explain` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
}

impl ApiError {
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), decision: None }
    }
}

/// Why a request failed. Each code has one HTTP status and one exit code of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request cannot be understood, or what it asks for is not valid.
    Invalid,
    /// No token, or one that is wrong, expired or revoked.
    Unauthenticated,
    /// The right is missing.
    Denied,
    NotFound,
    /// The thing is in another state than the request needs: an approval that was decided.
    Conflict,
    /// The request is larger than a limit.
    TooLarge,
    /// Too many at once, or a budget is spent.
    LimitReached,
    /// The record, the store or the gateway cannot do it at the moment; the same request may
    /// succeed later.
    Unavailable,
    /// A defect of the gateway. Its log says more.
    Internal,
}

impl ErrorCode {
    pub const ALL: [Self; 9] = [
        Self::Invalid,
        Self::Unauthenticated,
        Self::Denied,
        Self::NotFound,
        Self::Conflict,
        Self::TooLarge,
        Self::LimitReached,
        Self::Unavailable,
        Self::Internal,
    ];

    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 422,
            Self::Unauthenticated => 401,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::LimitReached => 429,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }

    /// What a command that met this error exits with (CONTRACT section 2).
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Unauthenticated | Self::Denied => 3,
            Self::NotFound => 4,
            Self::Invalid
            | Self::Conflict
            | Self::TooLarge
            | Self::LimitReached
            | Self::Unavailable
            | Self::Internal => 1,
        }
    }
}
