//! Runs: starting, the tree, ending.

use std::time::Duration;

use corral_model::{Run, RunId, Secret};
use time::OffsetDateTime;

use super::{App, AppError, Caller};

/// What `corral runs start` asks for.
#[derive(Debug, Clone, Default)]
pub struct StartRun {
    /// 1 to 63 bytes of letters, digits, `-`, `_` and `.`.
    pub name: String,
    pub purpose: Option<String>,
    /// Empty: whatever the parent or principal may use.
    pub targets: Vec<String>,
    /// None: 15 minutes, or less where a limit says so. Longer than the limits allow is cut.
    pub ttl: Option<Duration>,
    /// A user or workload, named by the administrator only.
    pub for_principal: Option<String>,
}

/// A run with its token, shown once.
#[derive(Debug, Clone)]
pub struct StartedRun {
    pub run: Run,
    pub path: String,
    pub token: Secret,
}

/// A run as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunView {
    pub run: Run,
    /// Names from the root run to this one.
    pub path: String,
    /// Live sessions of this run itself.
    pub sessions_open: u64,
    /// Statements, rows and bytes charged to this run, its descendants included.
    pub statements: u64,
    pub rows: u64,
    pub bytes: u64,
}

/// A run with its children, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunNode {
    pub view: RunView,
    pub children: Vec<RunNode>,
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Ended runs as well.
    pub with_ended: bool,
    pub principal: Option<String>,
    /// Runs with this id and everything below it.
    pub below: Option<String>,
}

/// What ending a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedRuns {
    pub runs_ended: u64,
    pub sessions_closed: u64,
}

impl App {
    /// Starts a root run for a signed-in principal (or for `for_principal`, by the
    /// administrator), or a child run for a run.
    ///
    /// # Errors
    /// [`AppError::Denied`] when the sponsor is disabled or missing, or a target is not within
    /// the parent's grant; recorded as `run.refused`. [`AppError::LimitReached`] for depth and
    /// children. [`AppError::NotFound`] for an unknown principal or target.
    /// [`AppError::Invalid`] for a bad name or TTL.
    pub async fn start_run(&self, caller: &Caller, ask: StartRun) -> Result<StartedRun, AppError> {
        let _ = (caller, ask);
        todo!()
    }

    /// The runs that the caller may see: all (administrator), those of or sponsored by it
    /// (principal), itself and below (run). Newest first.
    ///
    /// # Errors
    /// [`AppError::Unavailable`].
    pub async fn list_runs(
        &self,
        caller: &Caller,
        filter: RunFilter,
    ) -> Result<Vec<RunView>, AppError> {
        let _ = (caller, filter);
        todo!()
    }

    /// The same runs as trees.
    ///
    /// # Errors
    /// [`AppError::Unavailable`].
    pub async fn run_tree(
        &self,
        caller: &Caller,
        filter: RunFilter,
    ) -> Result<Vec<RunNode>, AppError> {
        let _ = (caller, filter);
        todo!()
    }

    /// # Errors
    /// [`AppError::NotFound`], also for a run that the caller may not see.
    pub async fn show_run(&self, caller: &Caller, id: &str) -> Result<RunView, AppError> {
        let _ = (caller, id);
        todo!()
    }

    /// Lets a run live longer from now on: never longer than the limits and its parent allow.
    /// A run may not renew itself; its parent, its principal and the administrator may.
    ///
    /// # Errors
    /// [`AppError::Denied`], [`AppError::NotFound`], [`AppError::Conflict`] for an ended run.
    pub async fn renew_run(
        &self,
        caller: &Caller,
        id: &str,
        ttl: Option<Duration>,
    ) -> Result<OffsetDateTime, AppError> {
        let _ = (caller, id, ttl);
        todo!()
    }

    /// Ends a run and everything below it, as done. Its sessions end too. The caller may be the
    /// run itself.
    ///
    /// # Errors
    /// [`AppError::NotFound`]; ending an ended run changes nothing and succeeds.
    pub async fn end_run(&self, caller: &Caller, id: &str) -> Result<EndedRuns, AppError> {
        let _ = (caller, id);
        todo!()
    }

    /// Kills a run and everything below it: cancels what runs at the targets.
    ///
    /// # Errors
    /// As [`App::end_run`].
    pub async fn kill_run(&self, caller: &Caller, id: &str) -> Result<EndedRuns, AppError> {
        let _ = (caller, id);
        todo!()
    }
}

/// The id of a run that a caller itself is, for `corral runs show` without an id.
#[must_use]
pub fn own_run(caller: &Caller) -> Option<&RunId> {
    match caller {
        Caller::Run { run, .. } => Some(run),
        Caller::Admin | Caller::Principal { .. } => None,
    }
}
