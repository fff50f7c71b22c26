//! Approvals: statements that wait for people.

use corral_model::event::ApprovalState;
use corral_model::ids::{ApprovalId, PolicyVersion, PrincipalName, RunId, SessionId, TargetName};
use corral_model::statement::Parameter;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

/// One approval, in `approvals list` and `approvals show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalView {
    #[schema(value_type = String)]
    pub id: ApprovalId,
    #[schema(value_type = String, example = "pending")]
    pub state: ApprovalState,
    /// Null for a person's own session.
    #[schema(value_type = Option<String>)]
    pub run_id: Option<RunId>,
    #[schema(value_type = String)]
    pub session_id: SessionId,
    #[schema(value_type = String)]
    pub target: TargetName,
    /// The exact text that will run.
    pub statement: String,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub requested_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: OffsetDateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_path: Option<String>,
    #[schema(value_type = String)]
    pub principal: PrincipalName,
    #[schema(value_type = Option<String>)]
    pub sponsor: Option<PrincipalName>,
    /// The decision that holds the statement.
    pub decision: String,
    #[schema(value_type = u64)]
    pub policy_version: PolicyVersion,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub parameters: Vec<Parameter>,
    /// Whether locks may be held while it waits.
    pub in_transaction: bool,
    /// Every one must be satisfied.
    pub terms: Vec<ApprovalTerm>,
    /// Who approved so far, or who denied it.
    #[schema(value_type = Vec<String>)]
    pub decided_by: Vec<PrincipalName>,
    /// The last person's reason.
    pub decision_reason: Option<String>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub decided_at: Option<OffsetDateTime>,
}

/// One rule's demand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalTerm {
    pub rule: String,
    /// Whose members may approve.
    pub group: String,
    /// How many different people.
    pub quorum: u32,
    pub reason: String,
    #[schema(value_type = Vec<String>)]
    pub approved_by: Vec<PrincipalName>,
}

/// `POST /api/v1/approvals/{id}/approve` and `…/deny`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalDecision {
    /// Kept in the record; not empty.
    pub reason: String,
}

/// Which approvals `GET /api/v1/approvals` answers with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ApprovalQuery {
    /// Only those in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub state: Option<ApprovalState>,
    /// The newest so many; 1000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}
