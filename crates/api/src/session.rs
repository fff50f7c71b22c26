//! Sessions: one client connection to one target.

use corral_model::CloseReason;
use corral_model::ids::{ApprovalId, PrincipalName, RunId, SessionId, TargetName};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

/// Whether a session is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    Open,
    Closed,
}

/// One session, in `sessions list` and `sessions show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    #[schema(value_type = String)]
    pub id: SessionId,
    pub state: SessionState,
    /// Absent for a person's own session.
    #[schema(value_type = Option<String>)]
    pub run_id: Option<RunId>,
    /// Names from the root run to this one.
    pub run_path: Option<String>,
    #[schema(value_type = String)]
    pub principal: PrincipalName,
    #[schema(value_type = Option<String>)]
    pub sponsor: Option<PrincipalName>,
    #[schema(value_type = String)]
    pub target: TargetName,
    pub protocol: String,
    pub client_address: String,
    pub tls: bool,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: OffsetDateTime,
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub closed_at: Option<OffsetDateTime>,
    #[schema(value_type = Option<String>)]
    pub close_reason: Option<CloseReason>,
    /// Statements decided so far.
    pub statements: u64,
    /// The approval that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub waiting_for: Option<ApprovalId>,
}

/// Which sessions `GET /api/v1/sessions` answers with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SessionQuery {
    /// Only those in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub state: Option<SessionState>,
    /// Only those of this run and of what is below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub run: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub target: Option<TargetName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub principal: Option<PrincipalName>,
    /// The newest so many; 1000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}
