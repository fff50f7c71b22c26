//! Reports over runs: who is responsible for what, what nobody uses, what was refused or reaped.

use corral_model::RunEnd;
use corral_model::ids::{PrincipalName, RunId, TargetName};
use corral_model::process::LeftProcesses;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// `GET /api/v1/reports/sponsors`: what each person answers for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SponsorReport {
    #[schema(value_type = String)]
    pub sponsor: PrincipalName,
    pub runs_active: u64,
    pub runs_ended: u64,
    /// Open at this moment.
    pub sessions: u64,
    /// Of all of them, each statement once.
    pub statements: u64,
    pub writes: u64,
    pub rows: u64,
    pub bytes: u64,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub last_started_at: OffsetDateTime,
}

/// `GET /api/v1/reports/dormant`: a workload without an active run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DormantReport {
    #[schema(value_type = String)]
    pub workload: PrincipalName,
    /// Absent when nobody is active who could answer for it.
    #[schema(value_type = Option<String>)]
    pub sponsor: Option<PrincipalName>,
    /// Its newest run; absent when none is remembered.
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_started_at: Option<OffsetDateTime>,
}

/// `GET /api/v1/reports/grants`: what a run was granted by name and never used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantReport {
    #[schema(value_type = String)]
    pub run_id: RunId,
    pub path: String,
    #[schema(value_type = String)]
    pub sponsor: PrincipalName,
    pub is_active: bool,
    #[schema(value_type = Vec<String>)]
    pub unused_targets: Vec<TargetName>,
    pub unused_actions: Vec<String>,
}

/// `GET /api/v1/reports/refused`: a root run that was refused, or several that were counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedReport {
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub time: OffsetDateTime,
    pub principal: Option<String>,
    pub sponsor: Option<String>,
    /// Of several: the last one's.
    pub name: String,
    pub count: u64,
    pub reason: String,
}

/// `GET /api/v1/reports/orphans`: a run that did not end by itself, but because what it hung on
/// was gone, or whose command left processes behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrphanReport {
    #[schema(value_type = String)]
    pub run_id: RunId,
    pub path: String,
    #[schema(value_type = String)]
    pub sponsor: PrincipalName,
    #[schema(value_type = String)]
    pub reason: RunEnd,
    /// What its command left behind, as its wrapper claims, which ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub claimed_left: Option<LeftProcesses>,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub ended_at: OffsetDateTime,
}
