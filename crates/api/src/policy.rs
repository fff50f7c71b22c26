//! Checking policies and explaining decisions.

use corral_model::Event;
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
    /// The `statement.decided` event.
    #[schema(value_type = Object)]
    pub event: Event,
    /// The rules that determined it, as far as the loaded policies still hold them.
    pub rules: Vec<RuleView>,
    /// Whether the policies changed since: the rules shown may differ from those that decided.
    pub policy_changed: bool,
}

/// One rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleView {
    /// Its `@id`, or `POLICY#NUMBER`.
    pub id: String,
    /// The policy resource that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Its text; shown to administrators only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}
