//! Runs that were active when the gateway ended.

use std::sync::Arc;
use std::time::Duration;

use corral_gate::budget::{self, RunBudget};
use corral_model::{RunEnd, RunId, limits};
use corral_store::KeptRun;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::app::App;
use crate::app::admit::left_of;
use crate::app::live::runs::{Age, LiveRun};

impl App {
    /// Takes up what the store says is active; what ended meanwhile is ended.
    pub(in crate::app) async fn take_up(&self) -> anyhow::Result<()> {
        let wall = OffsetDateTime::now_utc();
        let now = Instant::now();
        let config = self.config();
        let mut ends: Vec<(RunId, RunEnd)> = Vec::new();
        for KeptRun { run, done } in self.store.active_runs().await? {
            let left = left_of(run.expires_at, wall, limits::RUN_TTL_MAX).min(left_of(
                run.expires_at,
                run.started_at,
                limits::RUN_TTL_MAX,
            ));
            let parent = run.parent.as_ref().map(|id| self.live.runs().get(id.as_str()));
            let standing = config.standing_under(&run.principal, &run.sponsor);
            let reason = match (&parent, &standing) {
                (Some(None), _) => Some(RunEnd::ParentEnded),
                (_, Err(_)) => Some(RunEnd::SponsorDisabled),
                (Some(Some(_)) | None, Ok(_)) if left.is_zero() => Some(RunEnd::Expired),
                (Some(Some(_)) | None, Ok(_)) => None,
            };
            let (Some(standing), None) = (standing.ok(), reason) else {
                ends.push((run.id, reason.unwrap_or(RunEnd::SponsorDisabled)));
                continue;
            };
            let bounds = budget::run_bounds(&config.limits, &run.principal, &standing.groups);
            let parent = parent.flatten();
            let age = Age {
                since: now,
                before: Duration::try_from(wall - run.started_at).unwrap_or_default(),
            };
            let wall_time = bounds.wall_time.as_ref().map(|bound| bound.max);
            let left = wall_time.map_or(left, |max| left.min(max.saturating_sub(age.before)));
            let budget = match &parent {
                None => Ok(RunBudget::root(run.id.clone(), bounds, done.used)),
                Some(parent) => parent.budget().child(run.id.clone(), bounds, done.used),
            };
            let id = run.id.clone();
            let is_listed = budget.is_ok_and(|budget| {
                let is_held = run.attached;
                let live = LiveRun::new(run, None, parent, budget, now + left, age);
                let live = live.having_done(done);
                if is_held {
                    live.await_wrapper(now + limits::ATTACH_RETURN);
                }
                self.live.runs().insert(Arc::new(live), now).is_ok()
            });
            if !is_listed {
                ends.push((id, RunEnd::ParentEnded));
            }
        }
        self.store.end_runs(&ends, wall).await?;
        self.store.withdraw_pending_approvals(wall).await?;
        self.store.delete_dead_tokens(wall).await?;
        Ok(())
    }
}
