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

/// `GET /api/v1/sessions/stream`, with `Upgrade: corral-stream`: after the answer (101) the
/// connection is a client's of the protocol, which is let in by the bearer's token and is asked
/// for no password.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SessionStreamQuery {
    /// As in a target's `protocol:`; one that is not on HTTP.
    pub protocol: String,
    /// The target; without it, the client names it as the protocol has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub target: Option<TargetName>,
    /// Let nobody in: tell the client in its protocol's own words that this is why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// The name by which `GET /api/v1/sessions/stream` is upgraded.
pub const STREAM_UPGRADE: &str = "corral-stream";
/// The name by which `GET /api/v1/runs/{id}/attach` is upgraded.
///
/// Lines follow. The gateway writes `key KEY` to the first who attaches to a run (its wrapper,
/// before it starts anything), then `ping` every second, which is answered by `pong`, and `ended`
/// when the run ended in another way.
pub const ATTACH_UPGRADE: &str = "corral-attach";
/// The header with the wrapper's key, for whoever attaches again after the gateway restarted.
pub const WRAPPER_KEY_HEADER: &str = "corral-wrapper-key";
