//! Runs that are to last longer.

use std::time::Duration;

use corral_gate::budget;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{own_run, refused_run};
use crate::app::live::runs::LeaseTerms;
use crate::app::{App, AppError, Caller};

impl App {
    /// Lets a run live longer from now on: never longer than the limits and its parent allow.
    /// A run may not renew itself; its parent, its principal and the administrator may. One that
    /// has to be renewed at an interval may say itself that it is still there, which gives it no
    /// later end.
    ///
    /// # Errors
    /// [`AppError::Denied`], [`AppError::NotFound`], [`AppError::Conflict`] for an ended run.
    pub async fn renew_run(
        &self,
        caller: &Caller,
        id: &str,
        ttl: Option<Duration>,
    ) -> Result<OffsetDateTime, AppError> {
        let view = self.show_run(caller, id).await?;
        let run = self.live.runs().get(id).filter(|run| run.is_live(Instant::now()));
        if own_run(caller).is_some_and(|own| *own == view.run.id) {
            if let Some(run) = run.filter(|run| run.has_heartbeat() && ttl.is_none()) {
                run.beat(Instant::now());
                return Ok(run.shown_end());
            }
            let text = "a run does not renew itself; its parent, its principal or the \
                        administrator does";
            return Err(AppError::Denied(text.to_owned()));
        }
        let run = run.ok_or_else(|| AppError::Conflict("this run has ended".to_owned()))?;
        let config = self.config();
        let standing = config.standing_under(run.principal(), run.sponsor());
        let standing = standing.map_err(refused_run)?;
        let bounds = budget::run_bounds(&config.limits, run.principal(), &standing.groups);
        let now = Instant::now();
        let terms =
            LeaseTerms { asked: ttl, bounds: &bounds, age: run.age(now), parent: run.parent() };
        let lease = terms.grant(now, OffsetDateTime::now_utc());
        let expires_at = lease.expires_at;
        if !self.store.renew_run(run.id(), expires_at).await? {
            return Err(AppError::Conflict("this run has ended".to_owned()));
        }
        run.set_lease(lease);
        run.beat(now);
        // A wrapper asks for its processes' runs to last as long as its own.
        let processes = self.live.runs().processes_of(run.id());
        for process in processes {
            if self.store.renew_run(process.id(), expires_at).await? {
                process.set_lease(lease);
            }
        }
        self.signals.deadlines.notify_one();
        Ok(expires_at)
    }
}
