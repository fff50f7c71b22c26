//! Sessions: one client connection to one target.

use std::collections::BTreeMap;

use corral_model::ids::{ApprovalId, PrincipalName, RunId, SessionId, TargetName};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

/// Where a live session is in its life. Closed ones are in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Admitted, logging in at the target.
    Opening,
    Open,
    /// A statement waits for approval.
    Held,
    /// Told to end.
    Ending,
}

impl SessionState {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Held => "held",
            Self::Ending => "ending",
        }
    }
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
    #[schema(value_type = String)]
    pub sponsor: PrincipalName,
    #[schema(value_type = String)]
    pub target: TargetName,
    pub protocol: String,
    pub client_address: String,
    pub tls: bool,
    /// What the client says of itself: never decides anything.
    pub claims: BTreeMap<String, String>,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub started_at: OffsetDateTime,
    /// Decided so far.
    pub statements: u64,
    pub rows: u64,
    pub bytes_to_client: u64,
    pub bytes_to_target: u64,
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
    /// Only those of this run and of what is below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub run: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub target: Option<TargetName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}
