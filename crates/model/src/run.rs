//! One execution of an agent.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::ids::{PrincipalName, RunId, TargetName};
use crate::principal::Principal;
use crate::process::Process;
use crate::resource::Job;

/// A root run comes from a principal, a child run from a parent run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub id: RunId,
    pub parent: Option<RunId>,
    /// The principal at the root of the tree.
    pub principal: Principal,
    /// The person who answers for the tree; the principal itself when it is a person.
    pub sponsor: PrincipalName,
    pub name: String,
    pub purpose: Option<String>,
    /// Targets that this run may use; empty means whatever its parent or principal may.
    pub targets: Vec<TargetName>,
    /// Policy actions, or groups of them, that this run may use (`read`, `update`); empty means
    /// whatever its parent or principal may. A right that policy gives counts within them only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// It ends when nobody renews it for this long, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_within_s: Option<u64>,
    /// 0 for a root run.
    pub depth: u32,
    /// The administrator who started it in somebody's name.
    pub started_by: Option<PrincipalName>,
    /// The process that it was started for, as its parent's wrapper observed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// A wrapper holds it, or held it: it ends when the wrapper does.
    #[serde(default)]
    pub attached: bool,
    /// The job whose token started it, as its issuer signed it; a root run's only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Job>,
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    pub state: RunState,
}

/// Whether a run may still act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    Active,
    Ended {
        reason: RunEnd,
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
    },
}

impl RunState {
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Active)
    }
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    /// Its owner said that it is done.
    Done,
    /// Somebody killed it.
    Killed,
    /// Its TTL passed.
    Expired,
    /// Its parent ended.
    ParentEnded,
    /// Its sponsor or its principal was disabled.
    SponsorDisabled,
    /// The wrapper that held it ended without a word, or no longer answers.
    WrapperLost,
    /// A budget of it is spent: statements, rows, bytes or wall time.
    BudgetSpent,
    /// It was to be renewed at an interval, and was not.
    RenewMissed,
    /// The CI system that started its job said that the job has ended.
    JobEnded,
}

/// What a run and everything below it used of its budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Used {
    pub statements: u64,
    /// Statements that may do more than read.
    pub writes: u64,
    pub rows: u64,
    pub bytes: u64,
}

/// What is kept of what a run did, so that neither a restart nor its end forgets it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunUse {
    pub used: Used,
    /// Targets that sessions of it, or below it, were opened to.
    pub targets: BTreeSet<TargetName>,
    /// Verbs of the statements that it, and what is below it, was allowed.
    pub actions: BTreeSet<String>,
}
