//! What runs use of their budgets: kept in the store, so that a restart gives nothing back, and
//! the end of a run whose budget is spent.

use std::sync::Arc;

use corral_gate::budget::Spent;
use corral_model::{RunEnd, RunId, RunUse, limits};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::App;
use super::error::describe;
use super::live::runs::LiveRun;

impl App {
    /// A session was refused because a budget is spent: where nothing more can be done with the
    /// run that it belongs to, that run ends, once what it has in flight had its time.
    pub(super) fn budget_spent(&self, spent: &Spent) {
        if let Some(run) = spent.run.as_ref().filter(|_| spent.kind.ends_run()) {
            let due = Instant::now() + limits::BUDGET_GRACE;
            self.live.spent().entry(run.clone()).or_insert(due);
        }
    }

    /// The runs that end now because a budget is spent.
    pub(super) fn spent_by(&self, now: Instant) -> Vec<(RunId, RunEnd)> {
        let mut spent = self.live.spent();
        let due: Vec<RunId> =
            spent.iter().filter(|(_, due)| **due <= now).map(|(run, _)| run.clone()).collect();
        due.iter().for_each(|run| {
            spent.remove(run);
        });
        due.into_iter().map(|run| (run, RunEnd::BudgetSpent)).collect()
    }

    /// Stores what runs used, every [`limits::BUDGET_STORE_INTERVAL`], until it is dropped.
    pub(crate) async fn watch_usage(self: Arc<Self>) {
        let mut ticks = interval(limits::BUDGET_STORE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.keep_usage().await;
        }
    }

    /// Stores what runs used since it was stored last. What cannot be stored is tried again.
    pub(crate) async fn keep_usage(&self) {
        let mut runs: Vec<Arc<LiveRun>> = self.live.runs().all();
        runs.extend(self.live.parting().iter().map(|(_, run)| run.clone()));
        let changed: Vec<(Arc<LiveRun>, RunUse)> =
            runs.into_iter().filter_map(|run| run.unkept().map(|done| (run, done))).collect();
        let rows: Vec<(RunId, RunUse)> =
            changed.iter().map(|(run, done)| (run.id().clone(), done.clone())).collect();
        if !rows.is_empty() {
            if let Err(error) = self.store.keep_use(&rows).await {
                let (runs, error) = (rows.len(), describe(&error));
                tracing::warn!(%error, runs, "what runs used is not stored yet; trying again");
                return;
            }
            changed.into_iter().for_each(|(run, done)| run.kept(done));
        }
        let now = Instant::now();
        self.live.parting().retain(|(ended, _)| now < *ended + limits::RUN_PARTING);
    }
}
