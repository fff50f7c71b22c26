//! Approvals: statements that wait for people.

use corral_model::event::ApprovalState;
use corral_model::ids::{ApprovalId, PolicyVersion, PrincipalName, RunId, SessionId, TargetName};
use corral_model::statement::{Effects, ObjectRef, Parameter};
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
    #[schema(value_type = String)]
    pub sponsor: PrincipalName,
    /// The decision that holds the statement.
    pub decision: String,
    #[schema(value_type = u64)]
    pub policy_version: PolicyVersion,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub parameters: Vec<Parameter>,
    pub verbs: Vec<String>,
    #[schema(value_type = Vec<String>)]
    pub effects: Effects,
    #[schema(value_type = Vec<Object>)]
    pub objects: Vec<ObjectRef>,
    /// Whether locks may be held while it waits.
    pub in_transaction: bool,
    /// Every one must be satisfied.
    pub terms: Vec<ApprovalTerm>,
    pub answers: Vec<ApprovalAnswer>,
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
}

/// One person's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalAnswer {
    #[schema(value_type = String)]
    pub by: PrincipalName,
    /// Yes or no.
    pub approved: bool,
    pub reason: String,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub at: OffsetDateTime,
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
}
