//! Runs: starting them; the files below show them, renew them, end them and take them up again.

mod ends;
mod renewed;
mod seen;
mod taken_up;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use corral_gate::Denial;
use corral_gate::budget::{self, RunBudget};
use corral_gate::policy::GrantError;
use corral_identity::Token;
use corral_model::event::{EventBody, Origin};
use corral_model::ids::{PrincipalName, TargetName};
use corral_model::token::TokenPurpose;
use corral_model::{
    Principal, PrincipalKind, Process, Run, RunEnd, RunId, RunState, Secret, TraceParent, Used,
    limits,
};
use corral_store::{JobToken, StoreError, TokenRow};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::config::{Config, NoStanding};
use super::jobs::ProvenJob;
use super::live::runs::{Age, LeaseTerms, LiveRun};
use super::principals::new_token;
use super::refusals::{Refusal, Refused};
use super::{App, AppError, Caller, Problem, new_id};

pub use ends::EndedRuns;
pub use seen::{RunFilter, RunNode, RunView, own_run};

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
