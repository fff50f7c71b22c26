//! Runs: starting, the tree, ending.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use corral_gate::Denial;
use corral_gate::budget::{self, Left, RunBudget};
use corral_gate::policy::GrantError;
use corral_identity::Token;
use corral_model::event::{EventBody, Origin};
use corral_model::ids::{PrincipalName, TargetName};
use corral_model::process::LeftProcesses;
use corral_model::token::TokenPurpose;
use corral_model::{
    Principal, PrincipalKind, Process, Run, RunEnd, RunId, RunState, RunUse, Secret, TraceParent,
    Used, limits,
};
use corral_store::{JobToken, KeptRun, RunFilter as StoredFilter, StoreError, TokenRow};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::admit::left_of;
use super::caller::is_sponsor;
use super::config::{Config, NoStanding};
use super::jobs::ProvenJob;
use super::live::runs::{Age, LeaseTerms, LiveRun};
use super::offboard::Disabled;
use super::principals::new_token;
use super::refusals::{Refusal, Refused};
use super::{App, AppError, Caller, Problem, new_id};

/// What `corral runs start` asks for.
#[derive(Debug, Clone, Default)]
pub struct StartRun {
    /// 1 to 63 bytes of letters, digits, `-`, `_` and `.`.
    pub name: String,
    pub purpose: Option<String>,
    /// Empty: whatever the parent or principal may use.
    pub targets: Vec<String>,
    /// Policy actions or groups of them; empty: whatever the parent or principal may.
    pub actions: Vec<String>,
    /// It ends when nobody renews it for this long. Whole seconds.
    pub renew_within: Option<Duration>,
    /// None: 15 minutes, or less where a limit says so. Longer than the limits allow is cut.
    pub ttl: Option<Duration>,
    /// A user or workload, named by the administrator only.
    pub for_principal: Option<String>,
    /// The process that a child run is for, and the key of the parent's wrapper, who alone may
    /// say so.
    pub process: Option<(Process, Secret)>,
    /// What whoever asks says of its trace: a claim, kept with `run.started`.
    pub traceparent: Option<TraceParent>,
    /// From where it is asked for; None for a Unix socket.
    pub client_ip: Option<IpAddr>,
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
        check_ask(&ask)?;
        let config = self.config();
        let starter = self.starter(&config, caller, &ask)?;
        self.check_process(&starter, &ask).await?;
        self.start_as(&config, &starter, &ask).await
    }

    /// Starts a run, or records why not.
    pub(super) async fn start_as(
        &self,
        config: &Config,
        starter: &Starter,
        ask: &StartRun,
    ) -> Result<StartedRun, AppError> {
        let started = self.try_start(config, starter, ask).await;
        if let Err(error) = &started {
            self.refuse_run(starter.origin(config), ask, error);
        }
        started
    }

    /// Records that there is no run, and why.
    pub(super) fn refuse_run(&self, origin: Origin, ask: &StartRun, error: &AppError) {
        let reason = error.to_string();
        let address = ask.client_ip.map(|ip| ip.to_string());
        let refusal = Refusal {
            refused: if origin.run.is_some() { Refused::ChildRun } else { Refused::RootRun },
            origin: &origin,
            ip: ask.client_ip,
            address: address.as_deref(),
            name: Some(&ask.name),
            reason: &reason,
        };
        let body = EventBody::RunRefused {
            name: ask.name.clone(),
            reason: reason.clone(),
            traceparent: ask.traceparent.clone(),
        };
        self.note_refusal(&refusal, body);
    }

    /// In whose name a run is asked for.
    fn starter(
        &self,
        config: &Config,
        caller: &Caller,
        ask: &StartRun,
    ) -> Result<Starter, AppError> {
        match (caller, &ask.for_principal) {
            (Caller::Admin, Some(name)) => {
                let principal = config.principal(name).ok_or_else(|| AppError::NotFound {
                    kind: "user or workload",
                    name: name.clone(),
                })?;
                // A principal name of its own: no user can be called this.
                let started_by = PrincipalName::new(ADMIN).ok();
                Ok(Starter { principal, parent: None, started_by, job: None })
            }
            (Caller::Admin, None) => {
                let text = "the administrator's token is nobody's; say for whom with --for NAME";
                Err(AppError::Invalid(vec![Problem::new(None, text)]))
            }
            (Caller::Principal { .. } | Caller::Run { .. }, Some(_)) => {
                let text = "only the administrator starts runs for others; leave --for away";
                Err(AppError::Denied(text.to_owned()))
            }
            (Caller::Principal { principal, .. }, None) => {
                let principal = principal.clone();
                Ok(Starter { principal, parent: None, started_by: None, job: None })
            }
            (Caller::Run { run, principal }, None) => {
                let parent = self.live.runs().get(run.as_str());
                let parent = parent.ok_or_else(|| {
                    AppError::Unauthenticated("the run of this token has ended".to_owned())
                })?;
                let principal = principal.clone();
                Ok(Starter { principal, parent: Some(parent), started_by: None, job: None })
            }
        }
    }

    /// Whether a process was named by the wrapper of the run that it is to be below.
    async fn check_process(&self, starter: &Starter, ask: &StartRun) -> Result<(), AppError> {
        let Some((_, key)) = &ask.process else { return Ok(()) };
        let is_wrapper = match &starter.parent {
            Some(parent) => self.is_wrapper_key(parent.id(), key).await?,
            None => false,
        };
        if is_wrapper {
            return Ok(());
        }
        let text = "only the wrapper of a run says which of its processes a child run is for: \
                    the key is not the one that it got when it attached";
        Err(AppError::Denied(text.to_owned()))
    }

    async fn try_start(
        &self,
        config: &Config,
        starter: &Starter,
        ask: &StartRun,
    ) -> Result<StartedRun, AppError> {
        // A child is answered for by whom its root is answered for.
        let sponsor = match (&starter.parent, &starter.job) {
            (Some(parent), _) => Some(parent.sponsor()),
            (None, Some(job)) => Some(&job.sponsor),
            (None, None) => None,
        };
        let standing = match sponsor {
            Some(sponsor) => config.standing_under(&starter.principal, sponsor),
            None => config.standing(&starter.principal),
        };
        let standing = standing.map_err(refused_run)?;
        let targets = granted_targets(config, starter, &ask.targets)?;
        let actions = granted_actions(config, starter, &ask.actions)?;
        let bounds = budget::run_bounds(&config.limits, &starter.principal, &standing.groups);
        let now = Instant::now();
        let started_at = OffsetDateTime::now_utc();
        let terms = LeaseTerms {
            asked: ask.ttl,
            bounds: &bounds,
            age: Duration::ZERO,
            parent: starter.parent.as_ref(),
        };
        let lease = terms.grant(now, started_at);
        let ttl = lease.deadline.saturating_duration_since(now);
        let id = RunId::new(new_id("r")).expect("an id is hexadecimal with a prefix");
        let budget = match &starter.parent {
            None => RunBudget::root(id.clone(), bounds, Used::default()),
            Some(parent) => parent
                .budget()
                .child(id.clone(), bounds, Used::default())
                .map_err(|spent| AppError::LimitReached(Denial::from(spent).sentence()))?,
        };
        let run = Run {
            id,
            parent: starter.parent.as_ref().map(|parent| parent.id().clone()),
            principal: starter.principal.clone(),
            sponsor: sponsor.cloned().unwrap_or(standing.sponsor),
            name: ask.name.clone(),
            purpose: ask.purpose.clone(),
            targets,
            actions,
            renew_within_s: ask.renew_within.map(|within| within.as_secs()),
            depth: budget.depth(),
            started_by: starter.started_by.clone(),
            process: ask.process.as_ref().map(|(process, _)| process.clone()),
            attached: false,
            job: starter.job.as_ref().map(|job| job.job.clone()),
            started_at,
            expires_at: lease.expires_at,
            state: RunState::Active,
        };
        let token = new_token()?;
        let live = Arc::new(LiveRun::new(
            run.clone(),
            Some(token.digest()),
            starter.parent.clone(),
            budget,
            lease.deadline,
            Age::new(now),
        ));
        let job_token = starter.job.as_ref().map(|job| &job.token);
        self.keep_run(&run, job_token, &live, &token, ttl, ask.traceparent.clone()).await?;
        let path = live.path().to_owned();
        Ok(StartedRun { run, path, token: Secret::new(token.reveal().to_owned()) })
    }

    /// Stores, records and lists a new run; takes it back when it may not be any more.
    async fn keep_run(
        &self,
        run: &Run,
        job_token: Option<&JobToken>,
        live: &Arc<LiveRun>,
        token: &Token,
        ttl: Duration,
        traceparent: Option<TraceParent>,
    ) -> Result<(), AppError> {
        let row = TokenRow {
            digest: token.digest(),
            purpose: TokenPurpose::Run(run.id.clone()),
            created_at: run.started_at,
            expires_at: None,
            revoked_at: None,
        };
        let kept = match (&run.job, job_token) {
            (Some(job), Some(used)) => self.store.insert_job_run(run, job, used, &row).await,
            (Some(_) | None, _) => self.store.insert_run(run, &row).await,
        };
        kept.map_err(|error| match error {
            StoreError::ParentEnded => parent_ended(),
            StoreError::TokenUsed | StoreError::JobStarted => AppError::Denied(format!(
                "{error}; one job has one root run, and starts children below it"
            )),
            other => other.into(),
        })?;
        let is_listed = self.live.runs().insert(live.clone(), Instant::now()).is_ok();
        if !is_listed {
            let ends = [(run.id.clone(), RunEnd::ParentEnded)];
            self.store.end_runs(&ends, OffsetDateTime::now_utc()).await?;
            return Err(parent_ended());
        }
        let started = EventBody::RunStarted {
            name: run.name.clone(),
            parent: run.parent.clone(),
            purpose: run.purpose.clone(),
            targets: run.targets.clone(),
            actions: run.actions.clone(),
            ttl_s: ttl.as_secs(),
            renew_within_s: run.renew_within_s,
            started_by: run.started_by.as_ref().map(ToString::to_string),
            process: run.process.clone(),
            job: run.job.clone(),
            traceparent,
        };
        if let Err(error) = self.append(self.origin_of_run(live), started) {
            self.end_tree(&run.id, RunEnd::Killed, "gateway").await;
            return Err(error);
        }
        // Whoever disables changes the configuration first and then looks through the runs:
        // either it finds this run, or this finds the changed configuration.
        if let Err(why) = self.config().standing_under(&run.principal, &run.sponsor) {
            self.end_tree(&run.id, RunEnd::SponsorDisabled, "gateway").await;
            return Err(refused_run(why));
        }
        self.signals.deadlines.notify_one();
        Ok(())
    }

    pub(super) fn origin_of_run(&self, run: &LiveRun) -> Origin {
        Origin {
            principal: Some(run.principal().to_string()),
            sponsor: Some(run.sponsor().to_string()),
            run: Some(run.id().clone()),
            run_path: Some(run.path().to_owned()),
            session: None,
            target: None,
        }
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

    /// Ends a run and everything below it, as done. Its sessions end too. The caller may be the
    /// run itself.
    ///
    /// `left` is what the caller says that the run's command left behind.
    ///
    /// # Errors
    /// [`AppError::NotFound`]; ending an ended run changes nothing and succeeds.
    /// [`AppError::Invalid`] when `left` is too long.
    pub async fn end_run(
        &self,
        caller: &Caller,
        id: &str,
        left: Option<LeftProcesses>,
    ) -> Result<EndedRuns, AppError> {
        if let Some(left) = left {
            self.note_left(caller, id, left)?;
        }
        self.finish_run(caller, id, RunEnd::Done).await
    }

    /// Records what a command left behind, when its run is about to end.
    fn note_left(&self, caller: &Caller, id: &str, left: LeftProcesses) -> Result<(), AppError> {
        if let Some(text) = left.unfit() {
            return Err(AppError::Invalid(vec![Problem::new(None, text)]));
        }
        let LeftProcesses { count, programs } = left;
        let live = self.live.runs().get(id);
        let run = live.filter(|run| count > 0 && self.may_see_run(caller, run));
        if let Some(run) = run {
            let body = EventBody::ProcessesLeft { count, programs };
            self.note(self.origin_of_run(&run), body);
        }
        Ok(())
    }

    /// Kills a run and everything below it: cancels what runs at the targets.
    ///
    /// # Errors
    /// As [`App::end_run`].
    pub async fn kill_run(&self, caller: &Caller, id: &str) -> Result<EndedRuns, AppError> {
        self.finish_run(caller, id, RunEnd::Killed).await
    }

    async fn finish_run(
        &self,
        caller: &Caller,
        id: &str,
        reason: RunEnd,
    ) -> Result<EndedRuns, AppError> {
        let live = self.live.runs().get(id);
        match live {
            Some(run) if self.may_see_run(caller, &run) => {
                let ended = self.end_tree(run.id(), reason, &caller.label()).await;
                let Disabled { runs_ended, sessions_closed } = ended;
                Ok(EndedRuns { runs_ended, sessions_closed })
            }
            Some(_) => Err(no_run(id)),
            None => {
                self.show_run(caller, id).await?;
                Ok(EndedRuns { runs_ended: 0, sessions_closed: 0 })
            }
        }
    }

    /// Takes up what the store says is active; what ended meanwhile is ended.
    pub(super) async fn take_up(&self) -> anyhow::Result<()> {
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

/// What a run by the administrator says of who started it.
const ADMIN: &str = "admin";

/// In whose name a run is asked for.
pub(super) struct Starter {
    pub(super) principal: Principal,
    pub(super) parent: Option<Arc<LiveRun>>,
    pub(super) started_by: Option<PrincipalName>,
    /// The job whose token asks for a root run.
    pub(super) job: Option<ProvenJob>,
}

impl Starter {
    fn origin(&self, config: &Config) -> Origin {
        let sponsor = match self.principal.kind {
            PrincipalKind::User => Some(self.principal.name.to_string()),
            PrincipalKind::Workload => config
                .workloads
                .get(&self.principal.name)
                .and_then(|workload| workload.sponsor.as_ref())
                .map(ToString::to_string),
        };
        let sponsor = match (&self.parent, &self.job) {
            (Some(parent), _) => Some(parent.sponsor().to_string()),
            (None, Some(job)) => Some(job.sponsor.to_string()),
            (None, None) => sponsor,
        };
        Origin {
            principal: Some(self.principal.to_string()),
            sponsor,
            run: self.parent.as_ref().map(|parent| parent.id().clone()),
            run_path: self.parent.as_ref().map(|parent| parent.path().to_owned()),
            session: None,
            target: None,
        }
    }
}

/// The actions that are asked for, when they exist and every ancestor was granted them.
fn granted_actions(
    config: &Config,
    starter: &Starter,
    names: &[String],
) -> Result<Vec<String>, AppError> {
    let above = starter.parent.as_ref().map(|parent| parent.nodes()).unwrap_or_default();
    config.engine.check_grant(&above, names).map_err(|error| match error {
        GrantError::Unknown { .. } => {
            AppError::Invalid(vec![Problem::new(None, format!("actions: {error}"))])
        }
        GrantError::Wider { .. } => AppError::Denied(error.to_string()),
    })?;
    let mut actions = names.to_vec();
    actions.sort();
    actions.dedup();
    Ok(actions)
}

pub(super) fn check_ask(ask: &StartRun) -> Result<(), AppError> {
    let invalid = |text: String| Err(AppError::Invalid(vec![Problem::new(None, text)]));
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if ask.name.is_empty()
        || ask.name.len() > limits::ID_BYTES_MAX
        || !ask.name.chars().all(is_name)
    {
        let shown: String = ask.name.chars().take(80).collect();
        return invalid(format!(
            "'{shown}' is not a name for a run; use 1 to 63 letters, digits, '-', '_' and '.'"
        ));
    }
    let is_purpose =
        |text: &String| text.len() <= PURPOSE_BYTES_MAX && !text.chars().any(char::is_control);
    if !ask.purpose.as_ref().is_none_or(is_purpose) {
        return invalid("a purpose has at most 1000 bytes and no control characters".to_owned());
    }
    if ask.targets.len() > TARGETS_MAX {
        return invalid(format!("a run names at most {TARGETS_MAX} targets"));
    }
    if let Some(text) = ask.process.as_ref().and_then(|(process, _)| process.unfit()) {
        return invalid(text);
    }
    if ask.actions.len() > limits::RUN_ACTIONS_MAX {
        return invalid(format!("a run names at most {} actions", limits::RUN_ACTIONS_MAX));
    }
    if ask.ttl.is_some_and(|ttl| ttl < Duration::from_secs(1)) {
        return invalid("a TTL is at least 1s".to_owned());
    }
    let is_interval =
        |within: Duration| (limits::RUN_RENEW_WITHIN_MIN..=limits::RUN_TTL_MAX).contains(&within);
    if !ask.renew_within.is_none_or(is_interval) {
        let max = limits::RUN_TTL_MAX.as_secs();
        return invalid(format!("a run is renewed within 1s to {max}s"));
    }
    Ok(())
}

/// Longest purpose of a run, in bytes.
const PURPOSE_BYTES_MAX: usize = 1_000;
/// Targets that one run may name.
const TARGETS_MAX: usize = 256;

/// The targets that are asked for, when they exist and the parent may use each of them.
fn granted_targets(
    config: &Config,
    starter: &Starter,
    names: &[String],
) -> Result<Vec<TargetName>, AppError> {
    let mut targets: Vec<TargetName> = Vec::new();
    for name in names {
        let target = config.target(name).map(|target| target.spec.name.clone());
        let target =
            target.ok_or_else(|| AppError::NotFound { kind: "target", name: name.clone() })?;
        if starter.parent.as_ref().is_some_and(|parent| !parent.may_use(&target)) {
            let text = format!("target '{target}' is not granted to the parent run");
            return Err(AppError::Denied(text));
        }
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    Ok(targets)
}

fn refused_run(why: NoStanding) -> AppError {
    match why {
        NoStanding::Unknown { kind, name } => AppError::NotFound { kind, name: name.to_string() },
        NoStanding::Disabled(_)
        | NoStanding::Suspended(_)
        | NoStanding::SponsorDisabled { .. }
        | NoStanding::SponsorMissing { .. }
        | NoStanding::NoSponsor(_) => AppError::Denied(format!(
            "the run is refused: {why}; an active person must answer for it"
        )),
    }
}

fn parent_ended() -> AppError {
    AppError::Denied("the parent run has ended; nothing outlives its parent".to_owned())
}

fn no_run(id: &str) -> AppError {
    AppError::NotFound { kind: "run", name: id.to_owned() }
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
