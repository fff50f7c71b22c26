//! Ending what may not go on: runs and sessions whose principal, sponsor, target or time is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corral_gate::policy::Context;
use corral_model::event::EventBody;
use corral_model::{CloseReason, RunEnd, RunId};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::App;
use super::config::Config;
use super::live::sessions::LiveSession;
use super::offboard::Disabled;

/// How long the store lists what has ended. The record keeps it; this is only what lists show.
const HISTORY_KEPT: time::Duration = time::Duration::days(90);
/// Time between two looks for what is over that long.
const HISTORY_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// Longest sleep of the task that watches deadlines: a store that was away is tried again.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

impl App {
    /// Ends a run and everything below it: first in memory, where it counts, then its sessions,
    /// then in the record and the store.
    pub(super) async fn end_tree(&self, id: &RunId, reason: RunEnd, by: &str) -> Disabled {
        self.end_trees(std::slice::from_ref(id), reason, by).await
    }

    /// Ends runs and everything below them. Nothing waits for the store before all of them are
    /// dead in memory and their sessions were told.
    pub(super) async fn end_trees(&self, roots: &[RunId], reason: RunEnd, by: &str) -> Disabled {
        let mut total = Disabled::default();
        let at = OffsetDateTime::now_utc();
        let mut rows: Vec<(RunId, RunEnd)> = Vec::new();
        for root in roots {
            let ended = self.live.runs().end(root);
            for (place, run) in ended.iter().enumerate() {
                let own = if place == 0 { reason } else { RunEnd::ParentEnded };
                let (close, text) = close_of(reason);
                let closed = self.end_sessions(close, text, |session| {
                    session.run.as_ref().is_some_and(|of_session| of_session.id() == run.id())
                });
                total.runs_ended += 1;
                total.sessions_closed += closed;
                let body =
                    EventBody::RunEnded { reason: own, by: by.to_owned(), sessions_closed: closed };
                self.note(self.origin_of_run(run), body);
                rows.push((run.id().clone(), own));
            }
        }
        if !rows.is_empty() {
            let runs = rows.len();
            tracing::info!(runs, sessions = total.sessions_closed, ?reason, "runs ended");
            if let Err(error) = self.store.end_runs(&rows, at).await {
                // They are dead in memory; without this they would come back with a restart.
                tracing::error!(%error, runs, "ended runs are not stored yet; trying again");
                self.live.unstored().extend(rows);
            }
        }
        total
    }

    /// Ends every run and session that the configuration in use no longer allows: its principal
    /// or sponsor is disabled or gone, its target is gone, it may not connect any more.
    pub(super) async fn sweep(&self) -> Disabled {
        let config = self.config();
        let roots = self
            .live
            .runs()
            .roots_where(|run| config.standing_under(run.principal(), run.sponsor()).is_err());
        let mut total = self.end_trees(&roots, RunEnd::SponsorDisabled, "gateway").await;
        total.sessions_closed += self.end_sessions(
            CloseReason::Disabled,
            "this session's principal or sponsor is no longer active",
            |session| config.standing_under(&session.principal, &session.sponsor).is_err(),
        );
        total.sessions_closed += self.end_sessions(
            CloseReason::Killed,
            "the right to this session was taken away; connect again to see why",
            |session| !may_stay(&config, session),
        );
        self.renew_bounds(&config);
        total
    }

    /// New limits count for runs that are active.
    fn renew_bounds(&self, config: &Config) {
        for run in self.live.runs().all() {
            if let Ok(standing) = config.standing_under(run.principal(), run.sponsor()) {
                let bounds = corral_gate::budget::run_bounds(
                    &config.limits,
                    run.principal(),
                    &standing.groups,
                );
                run.budget().set_bounds(bounds);
            }
        }
    }

    /// Watches deadlines until it is dropped: runs, approvals, login tokens.
    pub(crate) async fn watch_deadlines(self: Arc<Self>) {
        let mut tidy_at = Instant::now();
        loop {
            if tidy_at <= Instant::now() {
                self.forget_history().await;
                tidy_at = Instant::now() + HISTORY_INTERVAL;
            }
            let soon = Instant::now() + WATCH_INTERVAL;
            let runs = self.live.runs().next_deadline();
            let approvals = self.live.approvals().next_deadline();
            let next = [runs, approvals].into_iter().flatten().min();
            let due = next.map_or(soon, |next| next.min(soon));
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.signals.deadlines.notified() => {}
            }
            self.expire_now().await;
        }
    }

    /// Ends what is over at this moment.
    pub(crate) async fn expire_now(self: &Arc<Self>) {
        let now = Instant::now();
        let over = self.live.runs().expired(now);
        for id in over {
            self.end_tree(&id, RunEnd::Expired, "gateway").await;
        }
        let abandoned = self.live.runs().abandoned(now);
        for id in abandoned {
            self.end_tree(&id, RunEnd::WrapperLost, "gateway").await;
        }
        self.expire_approvals();
        self.expire_logins(now).await;
        self.store_unstored().await;
        self.finish_unfinished().await;
    }

    /// A token that is over is ended in the store before it is forgotten here, so that a clock
    /// that was set back does not make it valid again.
    async fn expire_logins(&self, now: Instant) {
        let over = self.live.logins().expired(now);
        for token in over {
            if let Err(error) = self.store.revoke_token(&token, OffsetDateTime::now_utc()).await {
                tracing::warn!(%error, "login tokens that are over are ended later");
                return;
            }
            self.live.logins().remove(&token);
        }
    }

    async fn forget_history(&self) {
        let before = OffsetDateTime::now_utc() - HISTORY_KEPT;
        if let Err(error) = self.store.forget_before(before).await {
            tracing::warn!(%error, "old runs and approvals are forgotten later");
        }
        self.forget_relay_history(before).await;
    }

    async fn store_unstored(&self) {
        let waiting: BTreeMap<RunId, RunEnd> = self.live.unstored().drain(..).collect();
        if waiting.is_empty() {
            return;
        }
        let rows: Vec<(RunId, RunEnd)> = waiting.into_iter().collect();
        if self.store.end_runs(&rows, OffsetDateTime::now_utc()).await.is_err() {
            self.live.unstored().extend(rows);
        }
    }
}

/// What a session is told when its run ends.
fn close_of(reason: RunEnd) -> (CloseReason, &'static str) {
    match reason {
        RunEnd::Done => (CloseReason::Killed, "the run of this session has ended"),
        RunEnd::Killed => (CloseReason::Killed, "the run of this session was killed"),
        RunEnd::Expired => (CloseReason::Expired, "the run of this session has expired"),
        RunEnd::ParentEnded => (CloseReason::Killed, "the parent of this session's run has ended"),
        RunEnd::WrapperLost => {
            (CloseReason::Killed, "the wrapper of this session's run ended or does not answer")
        }
        RunEnd::SponsorDisabled => {
            (CloseReason::Disabled, "the sponsor of this session's run is no longer active")
        }
    }
}

/// Whether a live session would be let in again, as it is.
fn may_stay(config: &Config, session: &LiveSession) -> bool {
    let Some(target) = config.targets.get(&session.target) else { return false };
    let standing = config.standing_under(&session.principal, &session.sponsor);
    let Ok(standing) = standing else { return false };
    let subject = corral_gate::policy::Subject {
        principal: session.principal.clone(),
        groups: standing.groups,
        runs: session.run.as_ref().map(|run| run.nodes()).unwrap_or_default(),
    };
    let context = Context {
        in_transaction: false,
        time: OffsetDateTime::now_utc(),
        tls: session.is_tls,
        source_ip: session.client_ip,
    };
    let id = super::new_id("d");
    let ruling = config.engine.may_connect(&subject, &target.facts, &context, id);
    let may_connect = matches!(ruling.verdict, corral_gate::Verdict::Allow);
    // Where the target has a login without the masked columns, whoever is masked must use it.
    let has_floor = target.spec.masked_credential.is_some();
    let must_use_floor =
        has_floor && session.sees_raw && !config.masked(&subject, target, &context).is_empty();
    may_connect && !must_use_floor
}
