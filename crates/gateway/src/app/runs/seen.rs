//! Runs as callers see them: lists, trees, one.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use corral_gate::budget::Left;
use corral_model::{Run, RunId, RunUse, limits};
use corral_store::{KeptRun, RunFilter as StoredFilter};
use tokio::time::Instant;

use super::no_run;
use crate::app::caller::is_sponsor;
use crate::app::{App, AppError, Caller};

/// A run as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunView {
    pub run: Run,
    /// Names from the root run to this one.
    pub path: String,
    /// Live sessions of this run itself.
    pub sessions_open: u64,
    /// What was charged to this run and did happen, its descendants included.
    pub done: RunUse,
    /// What is left of its budgets and its ancestors'; none of an ended run.
    pub left: Left,
    /// What is left of its wall time.
    pub wall_time_left: Option<Duration>,
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

impl App {
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
        let is_active = (!filter.with_ended).then_some(true);
        let wanted = StoredFilter { is_active, ..StoredFilter::default() };
        let stored = self.store.kept_runs(&wanted).await?;
        let sessions = self.sessions_by_run();
        let known: HashMap<&RunId, &Run> =
            stored.iter().map(|kept| (&kept.run.id, &kept.run)).collect();
        let own = match caller {
            Caller::Admin | Caller::Principal { .. } => None,
            Caller::Run { run, .. } => Some(run),
        };
        let is_wanted = |kept: &&KeptRun| {
            let run = &kept.run;
            let is_visible = match caller {
                Caller::Admin => true,
                Caller::Principal { principal, .. } => {
                    run.principal == *principal || is_sponsor(principal, &run.sponsor)
                }
                Caller::Run { .. } => own.is_some_and(|own| is_below(run, own.as_str(), &known)),
            };
            let of_principal =
                filter.principal.as_ref().is_none_or(|name| run.principal.name.as_str() == name);
            let of_tree = filter.below.as_ref().is_none_or(|id| is_below(run, id, &known));
            is_visible && of_principal && of_tree
        };
        let view = |kept: &KeptRun| {
            let open = sessions.get(&kept.run.id).copied().unwrap_or(0);
            self.view_of_run(kept, open, &known)
        };
        Ok(stored.iter().filter(is_wanted).map(view).collect())
    }

    fn sessions_by_run(&self) -> HashMap<RunId, u64> {
        let mut counts: HashMap<RunId, u64> = HashMap::new();
        for session in self.live.sessions().select(|session| session.run.is_some()) {
            if let Some(run) = &session.run {
                *counts.entry(run.id().clone()).or_default() += 1;
            }
        }
        counts
    }

    fn view_of_run(
        &self,
        kept: &KeptRun,
        sessions_open: u64,
        known: &HashMap<&RunId, &Run>,
    ) -> RunView {
        let stored = &kept.run;
        let live = self.live.runs().get(stored.id.as_str());
        let path = match &live {
            Some(live) => live.path().to_owned(),
            None => path_of(stored, known),
        };
        // Memory is where a run ends first, and where it is renewed first.
        let run = live.as_ref().map_or_else(|| stored.clone(), |live| live.snapshot());
        let now = Instant::now();
        RunView {
            run,
            path,
            sessions_open,
            done: live.as_ref().map_or_else(|| kept.done.clone(), |live| live.done()),
            left: live.as_ref().map(|live| live.budget().left()).unwrap_or_default(),
            wall_time_left: live.as_ref().and_then(|live| live.wall_time_left(now)),
        }
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
        let mut views = self.list_runs(caller, filter).await?;
        views.sort_by(|a, b| (a.run.started_at, &a.run.id).cmp(&(b.run.started_at, &b.run.id)));
        let known: HashSet<RunId> = views.iter().map(|view| view.run.id.clone()).collect();
        let mut of_parent: HashMap<Option<RunId>, Vec<RunView>> = HashMap::new();
        for view in views {
            let parent = view.run.parent.clone().filter(|parent| known.contains(parent));
            of_parent.entry(parent).or_default().push(view);
        }
        Ok(nodes(None, &mut of_parent))
    }

    /// One run.
    ///
    /// # Errors
    /// [`AppError::NotFound`], also for a run that the caller may not see.
    pub async fn show_run(&self, caller: &Caller, id: &str) -> Result<RunView, AppError> {
        let filter = RunFilter { with_ended: true, ..RunFilter::default() };
        let runs = self.list_runs(caller, filter).await?;
        let found = runs.into_iter().find(|view| view.run.id.as_str() == id);
        found.ok_or_else(|| no_run(id))
    }
}

/// A run and its ancestors as far as they are known, at most as many as may be nested.
fn ancestry<'a>(run: &'a Run, known: &'a HashMap<&RunId, &Run>) -> impl Iterator<Item = &'a Run> {
    let parent = |run: &&'a Run| run.parent.as_ref().and_then(|id| known.get(id)).copied();
    std::iter::successors(Some(run), parent)
        .take(usize::try_from(limits::RUN_DEPTH_MAX).unwrap_or(usize::MAX) + 1)
}

fn is_below(run: &Run, id: &str, known: &HashMap<&RunId, &Run>) -> bool {
    ancestry(run, known).any(|run| run.id.as_str() == id)
}

fn path_of(run: &Run, known: &HashMap<&RunId, &Run>) -> String {
    let mut names: Vec<&str> = ancestry(run, known).map(|run| run.name.as_str()).collect();
    names.reverse();
    names.join("/")
}

// Each list is taken out once, so a cycle in bad data ends instead of recursing for ever.
fn nodes(
    parent: Option<&RunId>,
    of_parent: &mut HashMap<Option<RunId>, Vec<RunView>>,
) -> Vec<RunNode> {
    let views = of_parent.remove(&parent.cloned()).unwrap_or_default();
    views
        .into_iter()
        .map(|view| {
            let children = nodes(Some(&view.run.id), of_parent);
            RunNode { view, children }
        })
        .collect()
}

/// The id of a run that a caller itself is, for `corral runs show` without an id.
#[must_use]
pub fn own_run(caller: &Caller) -> Option<&RunId> {
    match caller {
        Caller::Run { run, .. } => Some(run),
        Caller::Admin | Caller::Principal { .. } => None,
    }
}
