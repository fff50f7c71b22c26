//! Checking policies and explaining decisions.

use corral_model::Event;
use corral_model::event::Outcome;
use corral_model::ids::PolicyVersion;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /api/v1/policies/check`: texts to validate against the live schema and entities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyCheckRequest {
    pub policies: Vec<PolicyText>,
}

/// One text of rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyText {
    pub name: String,
    pub cedar: String,
}

/// What is wrong with the texts; empty when nothing is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyCheckResponse {
    pub problems: Vec<PolicyProblem>,
}

/// One problem of one text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyProblem {
    /// The text's name.
    pub policy: String,
    /// From 1; absent where the problem has no place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    pub message: String,
}

/// `GET /api/v1/decisions/{id}`: one decision, as it was recorded, with its rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DecisionView {
    pub id: String,
    /// The `statement.decided` or `session.refused` event.
    #[schema(value_type = Object)]
    pub event: Event,
    /// The rules that determined it, as far as the loaded policies still hold them.
    pub rules: Vec<RuleView>,
    /// The configuration's number at this moment; the event holds the one that decided.
    #[schema(value_type = u64)]
    pub version_now: PolicyVersion,
    /// What the same facts would give at this moment; absent when the principal, run or target is
    /// gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict_now: Option<VerdictNow>,
}

/// One rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleView {
    pub id: String,
    /// `permit` or `forbid`.
    pub effect: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The policy resource that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// A verdict under the present policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerdictNow {
    #[schema(value_type = String, example = "hold")]
    pub outcome: Outcome,
    /// What a client would read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
