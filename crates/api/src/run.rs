//! Runs: starting, listing, drawing as a tree, ending.

use corral_model::RunEnd;
use corral_model::ids::{PrincipalName, RunId, TargetName};
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
    /// Seconds, at least 1. The default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// The user or workload in whose name an administrator starts it.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub for_principal: Option<PrincipalName>,
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
    #[schema(value_type = String)]
    pub principal: PrincipalName,
    #[schema(value_type = String)]
    pub sponsor: PrincipalName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub parent: Option<RunId>,
    #[schema(value_type = Vec<String>)]
    pub targets: Vec<TargetName>,
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
    /// 0 for a root run.
    pub depth: u32,
    pub state: RunStateView,
    /// Why it ended.
    #[schema(value_type = Option<String>)]
    pub end_reason: Option<RunEnd>,
    /// Sessions that are open at this moment.
    pub sessions: u64,
    /// The administrator who started it in the principal's name.
    #[schema(value_type = Option<String>)]
    pub started_by: Option<PrincipalName>,
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

impl RunNode {
    /// Makes trees of a list. A run whose parent is not in the list becomes a root. Siblings are
    /// in the order of their start, then of their ids.
    #[must_use]
    pub fn trees(mut runs: Vec<RunView>) -> Vec<Self> {
        runs.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        let known: std::collections::BTreeSet<RunId> =
            runs.iter().map(|run| run.id.clone()).collect();
        let mut of_parent: std::collections::BTreeMap<Option<RunId>, Vec<RunView>> =
            std::collections::BTreeMap::new();
        for run in runs {
            let parent = run.parent.clone().filter(|parent| known.contains(parent));
            of_parent.entry(parent).or_default().push(run);
        }
        Self::children_of(None, &mut of_parent)
    }

    // Each list is taken out once, so a cycle in bad data ends instead of recursing for ever;
    // depth is bounded by the limit on a run's depth.
    fn children_of(
        parent: Option<&RunId>,
        of_parent: &mut std::collections::BTreeMap<Option<RunId>, Vec<RunView>>,
    ) -> Vec<Self> {
        let runs = of_parent.remove(&parent.cloned()).unwrap_or_default();
        runs.into_iter()
            .map(|run| {
                let children = Self::children_of(Some(&run.id), of_parent);
                Self::of(run, children)
            })
            .collect()
    }

    fn of(run: RunView, children: Vec<Self>) -> Self {
        Self {
            run_id: run.id,
            name: run.name,
            principal: run.principal,
            sponsor: run.sponsor,
            state: run.state,
            end_reason: run.end_reason,
            sessions: run.sessions,
            started_at: run.started_at,
            expires_at: run.expires_at,
            ended_at: run.ended_at,
            children,
        }
    }
}

/// Which runs `GET /api/v1/runs` and `GET /api/v1/runs/tree` answer with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RunQuery {
    /// Only those in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub state: Option<RunStateView>,
    /// Only this run and what is below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub root: Option<RunId>,
    /// The newest so many; 1000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
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
