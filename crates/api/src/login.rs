//! Signing in, and who one is.

use corral_model::PrincipalKind;
use corral_model::ids::{PrincipalName, RunId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::secret::WireSecret;

/// `POST /api/v1/login`: a local user's password or a workload's secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    #[schema(value_type = String, example = "user")]
    pub kind: PrincipalKind,
    #[schema(value_type = String, example = "ada@example.com")]
    pub name: PrincipalName,
    pub secret: WireSecret,
}

/// A login token. Only its digest is stored: this is the only time that it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginResponse {
    pub token: WireSecret,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: OffsetDateTime,
}

/// What kind of token was presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdentityKind {
    Admin,
    User,
    Workload,
    Run,
}

impl IdentityKind {
    /// Reads what [`IdentityKind::name`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Admin, Self::User, Self::Workload, Self::Run]
            .into_iter()
            .find(|kind| kind.name() == text)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
            Self::Workload => "workload",
            Self::Run => "run",
        }
    }
}

/// `GET /api/v1/whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Identity {
    pub kind: IdentityKind,
    /// The person's or the workload's name, the run's path, or `admin`.
    pub name: String,
    /// Who answers for a workload or a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sponsor: Option<String>,
    pub groups: Vec<String>,
    /// The identity provider that the person comes from; absent for local accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub run_id: Option<RunId>,
    /// When the token ends; absent for the administrator's.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<OffsetDateTime>,
}
