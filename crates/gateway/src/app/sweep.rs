//! Ending what may not go on: runs and sessions whose principal, sponsor, target or time is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use corral_gate::policy::Context;
use corral_gate::{Denial, DenialKind};
use corral_model::event::EventBody;
use corral_model::ids::PrincipalName;
use corral_model::{CloseReason, Principal, RunEnd, RunId};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::App;
use super::config::Config;
use super::live::runs::LiveRun;
use super::live::sessions::LiveSession;
use super::offboard::Disabled;

/// How long the store lists what has ended. The record keeps it; this is only what lists show.
const HISTORY_KEPT: time::Duration = time::Duration::days(90);
/// Time between two looks for what is over that long.
const HISTORY_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// Longest sleep of the task that watches deadlines: a store that was away is tried again.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

impl App {
    /// Ends a run and everything below it, as [`App::end_trees`] does.
    pub(super) async fn end_tree(&self, id: &RunId, reason: RunEnd, by: &str) -> Disabled {
        self.end_all(&[(id.clone(), reason)], by).await
    }

    /// Ends runs and everything below them for one reason, as [`App::end_all`] does.
    pub(super) async fn end_trees(&self, roots: &[RunId], reason: RunEnd, by: &str) -> Disabled {
        let roots: Vec<(RunId, RunEnd)> = roots.iter().map(|id| (id.clone(), reason)).collect();
        self.end_all(&roots, by).await
    }

    /// Ends runs and everything below them: all of them first in memory, where it counts, then
    /// their sessions, then in the record and the store.
    async fn end_all(&self, roots: &[(RunId, RunEnd)], by: &str) -> Disabled {
        let mut ended: Vec<EndedRun> = Vec::new();
        for (root, reason) in roots {
            for (place, run) in self.live.runs().end(root).into_iter().enumerate() {
                let own = if place == 0 { *reason } else { RunEnd::ParentEnded };
                ended.push(EndedRun { run, own, of_root: *reason, sessions_closed: 0 });
            }
        }
        if ended.is_empty() {
            return Disabled::default();
        }
        let sessions_closed = self.end_sessions_of(&mut ended);
        let now = Instant::now();
        self.live.parting().extend(ended.iter().map(|ended| (now, ended.run.clone())));
        let mut rows: Vec<(RunId, RunEnd)> = Vec::new();
        for EndedRun { run, own, sessions_closed, .. } in &ended {
            let (by, sessions_closed) = (by.to_owned(), *sessions_closed);
            let body = EventBody::RunEnded { reason: *own, by, sessions_closed };
            self.note(self.origin_of_run(run), body);
            rows.push((run.id().clone(), *own));
        }
        let runs = rows.len();
        tracing::info!(runs, sessions = sessions_closed, "runs ended");
        if let Err(error) = self.store.end_runs(&rows, OffsetDateTime::now_utc()).await {
            // They are dead in memory; without this they would come back with a restart.
            tracing::error!(%error, runs, "ended runs are not stored yet; trying again");
            self.live.unstored().extend(rows);
        }
        self.keep_usage().await;
        Disabled { runs_ended: u64::try_from(runs).unwrap_or(u64::MAX), sessions_closed }
    }

    /// Ends the sessions of runs that ended, in one look through all sessions.
    fn end_sessions_of(&self, ended: &mut [EndedRun]) -> u64 {
        let places: HashMap<RunId, usize> =
            ended.iter().enumerate().map(|(at, ended)| (ended.run.id().clone(), at)).collect();
        let place_of = |session: &LiveSession| {
            session.run.as_ref().and_then(|run| places.get(run.id())).copied()
        };
        let mut total = 0;
        for session in self.live.sessions().select(|session| place_of(session).is_some()) {
            let Some(ended) = place_of(&session).and_then(|place| ended.get_mut(place)) else {
                continue;
            };
            let (close, denial) = close_of(ended.of_root);
            if session.end(close, denial) {
                ended.sessions_closed += 1;
                total += 1;
            }
        }
        total
    }

    /// Ends every run and session that the configuration in use no longer allows: its principal
    /// or sponsor is disabled or gone, its target is gone, it may not connect any more.
    pub(super) async fn sweep(&self, swept: &Swept) -> Disabled {
        let config = self.config();
        let roots = self.live.runs().roots_where(|run| {
            swept.holds(&config, run.principal(), run.sponsor())
                && config.standing_under(run.principal(), run.sponsor()).is_err()
        });
        let mut total = self.end_trees(&roots, RunEnd::SponsorDisabled, "gateway").await;
        let is_swept =
            |session: &LiveSession| swept.holds(&config, &session.principal, &session.sponsor);
        total.sessions_closed += self.end_sessions(
            CloseReason::Disabled,
            "this session's principal or sponsor is no longer active",
            |session| {
                is_swept(session)
                    && config.standing_under(&session.principal, &session.sponsor).is_err()
            },
        );
        total.sessions_closed += self.end_sessions(
            CloseReason::Killed,
            "the right to this session was taken away; connect again to see why",
            |session| is_swept(session) && !may_stay(&config, session),
        );
        self.renew_bounds(&config, swept);
        total
    }

    /// New limits count for runs that are active.
    fn renew_bounds(&self, config: &Config, swept: &Swept) {
        let all = self.live.runs().all();
        for run in all.into_iter().filter(|run| swept.holds(config, run.principal(), run.sponsor()))
        {
            if let Ok(standing) = config.standing_under(run.principal(), run.sponsor()) {
                let bounds = corral_gate::budget::run_bounds(
                    &config.limits,
                    run.principal(),
                    &standing.groups,
                );
                run.set_bounds(bounds, Instant::now());
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
        let mut over = self.live.runs().over(now);
        over.extend(self.spent_by(now));
        let abandoned = self.live.runs().abandoned(now);
        over.extend(abandoned.into_iter().map(|run| (run, RunEnd::WrapperLost)));
        self.end_all(&over, "gateway").await;
        self.expire_approvals();
        self.expire_logins(now).await;
        self.note_refusals(now);
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

/// Whose runs and sessions a change of the configuration may have touched.
pub(super) enum Swept {
    Everything,
    /// Nothing but these people changed.
    People(BTreeSet<PrincipalName>),
}

impl Swept {
    /// What somebody may do follows from themselves, from whoever answers for them, and from
    /// whoever answered when it began.
    fn holds(&self, config: &Config, principal: &Principal, sponsor: &PrincipalName) -> bool {
        match self {
            Self::Everything => true,
            Self::People(people) => {
                let workload = config.workloads.get(&principal.name);
                let answers = workload.and_then(|workload| workload.sponsor.as_ref());
                people.contains(sponsor)
                    || people.contains(&principal.name)
                    || answers.is_some_and(|answers| people.contains(answers))
            }
        }
    }
}

/// A run that ended, alone or with what was above it.
struct EndedRun {
    run: Arc<LiveRun>,
    own: RunEnd,
    /// Of the run at the top of what ended.
    of_root: RunEnd,
    sessions_closed: u64,
}

/// What a session is told when its run ends.
fn close_of(reason: RunEnd) -> (CloseReason, Denial) {
    let ended = |close: CloseReason, text: &str| (close, Denial::new(DenialKind::Ended, text));
    match reason {
        RunEnd::Done => ended(CloseReason::Killed, "the run of this session has ended"),
        RunEnd::Killed => ended(CloseReason::Killed, "the run of this session was killed"),
        RunEnd::Expired => ended(CloseReason::Expired, "the run of this session has expired"),
        RunEnd::ParentEnded => {
            ended(CloseReason::Killed, "the parent of this session's run has ended")
        }
        RunEnd::WrapperLost => {
            let text = "the wrapper of this session's run ended or does not answer";
            ended(CloseReason::Killed, text)
        }
        RunEnd::SponsorDisabled => {
            let text = "the sponsor of this session's run is no longer active";
            ended(CloseReason::Disabled, text)
        }
        RunEnd::BudgetSpent => {
            let text = "a budget of this session's run, or of one above it, is spent";
            (CloseReason::Budget, Denial::new(DenialKind::BudgetSpent, text))
        }
        RunEnd::JobEnded => ended(CloseReason::Killed, "the job of this session's run has ended"),
        RunEnd::RenewMissed => {
            ended(CloseReason::Expired, "the run of this session was not renewed in time")
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
