//! Runs: starting, listing, drawing as a tree, ending.

use std::collections::BTreeMap;

use corral_model::ids::{PrincipalName, RunId, TargetName};
use corral_model::process::LeftProcesses;
use corral_model::resource::Platform;
use corral_model::{Process, RunEnd, TraceParent};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::secret::WireSecret;

/// `POST /api/v1/runs`: a root run of a principal, or a child run when the token is a run's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRunRequest {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Empty: whatever its parent or principal may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub targets: Vec<TargetName>,
    /// Policy actions or groups of them, such as `read`: policy permits within these only. Empty:
    /// whatever its parent or principal may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// Seconds within which it has to be renewed, again and again; it ends when nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_within_s: Option<u64>,
    /// Seconds, at least 1. The default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// The user or workload in whose name an administrator starts it.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub for_principal: Option<PrincipalName>,
    /// The process that a child run is for, as the parent's wrapper observes it. Only the wrapper
    /// may say so: `wrapper` is the key that it got when it attached to the parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub process: Option<Process>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapper: Option<WireSecret>,
    /// W3C `traceparent` of whoever asks: kept as a claim, never trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub traceparent: Option<TraceParent>,
}

/// A run's token. Only its digest is stored: this is the only time that it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartRunResponse {
    #[schema(value_type = String)]
    pub run_id: RunId,
    pub token: WireSecret,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: OffsetDateTime,
    pub name: String,
    /// Names from the root run to this one: `ci-job/planner/executor-3`.
    pub path: String,
    #[schema(value_type = String)]
    pub principal: PrincipalName,
    #[schema(value_type = String)]
    pub sponsor: PrincipalName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub parent: Option<RunId>,
    #[schema(value_type = Vec<String>)]
    pub targets: Vec<TargetName>,
    /// Policy actions that it is limited to; empty when it is not.
    #[serde(default)]
    pub actions: Vec<String>,
}

/// What is left of budgets: the least of a run's own and its ancestors'. Absent where nothing
/// limits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct BudgetLeft {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statements: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Of the run's own wall time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_time_s: Option<u64>,
}

/// Whether a run may still act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStateView {
    Active,
    Ended,
}

/// One run, in `runs list` and `runs show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    #[schema(value_type = String)]
    pub id: RunId,
    pub name: String,
    #[schema(value_type = Option<String>)]
    pub parent: Option<RunId>,
    /// Names from the root run to this one: `ci-job/planner/executor-3`.
    pub path: String,
    #[schema(value_type = String)]
    pub principal: PrincipalName,
    #[schema(value_type = String)]
    pub sponsor: PrincipalName,
    pub purpose: Option<String>,
    #[schema(value_type = Vec<String>)]
    pub targets: Vec<TargetName>,
    /// Policy actions that it is limited to; empty when it is not.
    #[serde(default)]
    pub actions: Vec<String>,
    /// It has to be renewed within this many seconds, again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_within_s: Option<u64>,
    /// 0 for a root run.
    pub depth: u32,
    pub state: RunStateView,
    /// Why it ended.
    #[schema(value_type = Option<String>)]
    pub end_reason: Option<RunEnd>,
    /// Sessions of this run itself that are open at this moment.
    pub sessions: u64,
    /// Charged to this run so far, what is below it included.
    pub statements: u64,
    /// Of these, statements that may do more than read.
    #[serde(default)]
    pub writes: u64,
    pub rows: u64,
    pub bytes: u64,
    /// Of an active run.
    #[serde(default)]
    pub left: BudgetLeft,
    /// Targets that sessions of it, or below it, were opened to.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub used_targets: Vec<TargetName>,
    /// Verbs of the statements that it, and what is below it, was allowed.
    #[serde(default)]
    pub used_actions: Vec<String>,
    /// The administrator who started it in the principal's name.
    #[schema(value_type = Option<String>)]
    pub started_by: Option<PrincipalName>,
    /// The process that it was started for: observed by its parent's wrapper, not verified by the
    /// gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub process: Option<Process>,
    /// A wrapper holds it: it ends when the wrapper ends or no longer answers.
    #[serde(default)]
    pub attached: bool,
    /// The job whose token started it: what its issuer signed and the gateway verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobView>,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub started_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: OffsetDateTime,
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<OffsetDateTime>,
}

/// The job of a root run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// `github`, `gitlab`, `buildkite`, `circleci`, `kubernetes` or `oidc`.
    #[schema(value_type = String)]
    pub platform: Platform,
    pub issuer: String,
    /// Names the job at its issuer.
    pub key: String,
    pub claims: BTreeMap<String, String>,
}

/// One node of `runs tree`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunNode {
    #[schema(value_type = String)]
    pub run_id: RunId,
    pub name: String,
    #[schema(value_type = String)]
    pub principal: PrincipalName,
    #[schema(value_type = String)]
    pub sponsor: PrincipalName,
    pub state: RunStateView,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub end_reason: Option<RunEnd>,
    /// Sessions that are open at this moment.
    pub sessions: u64,
    /// As in [`RunView::process`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub process: Option<Process>,
    /// Charged so far, what is below it included.
    #[serde(default)]
    pub statements: u64,
    #[serde(default)]
    pub rows: u64,
    /// Of an active run.
    #[serde(default)]
    pub left: BudgetLeft,
    /// Policy actions that it is limited to; empty when it is not.
    #[serde(default)]
    pub actions: Vec<String>,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub started_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: OffsetDateTime,
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<OffsetDateTime>,
    #[schema(no_recursion)]
    pub children: Vec<RunNode>,
}

/// Which runs `GET /api/v1/runs` and `GET /api/v1/runs/tree` answer with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RunQuery {
    /// Leave out runs that ended.
    #[serde(default)]
    pub active: bool,
    /// Only those of this person or workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Only this run and what is below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub root: Option<RunId>,
}

/// `POST /api/v1/runs/{id}/end`; the body may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndRunRequest {
    /// What the run's command left behind, which whoever asks ends: recorded as a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub left: Option<LeftProcesses>,
}

/// `POST /api/v1/runs/{id}/renew`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewRunRequest {
    /// Seconds, counted from the request. What limits allow when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
}

/// What ending or killing a run took with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndedView {
    pub id: String,
    /// Runs that ended: the run itself and everything below it.
    pub runs_ended: u64,
    pub sessions_closed: u64,
}
