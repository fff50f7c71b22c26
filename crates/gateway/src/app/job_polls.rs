//! Asks the APIs of CI systems whether the jobs of live runs still go on, where a workload says so.
//!
//! Each workload has a round of its own, so that an API that hangs delays nobody else's. A job
//! that has ended, or that an API which knew it no longer knows, ends its run. An API that fails
//! ends nothing: the run has its TTL. Which jobs to ask after is what is live, so a gateway that
//! was started again goes on with what it took up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use corral_identity::job_api::{AskError, JobApi, JobApiOptions, JobState, Question, Told};
use corral_model::event::{EventBody, Origin};
use corral_model::ids::PrincipalName;
use corral_model::resource::{Job, PollSpec, WorkloadSecret, WorkloadSpec};
use corral_model::{RunId, Secret, limits};
use corral_transport::backoff::chance;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::App;
use super::error::describe;
use super::job_ends::job_of;

/// Longest sleep between two looks at which workloads there are.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is known of one workload's jobs and API, from one round to the next.
#[derive(Debug)]
struct Poll {
    due: Instant,
    api: Option<(JobApiOptions, JobApi)>,
    asked: BTreeMap<RunId, Asked>,
    /// Rounds in a row in which something failed.
    failures: u32,
}

/// What was answered about one job.
#[derive(Debug, Clone, Default)]
struct Asked {
    at: Option<Instant>,
    etag: Option<String>,
    is_known: bool,
    gone_answers: u32,
}

/// Why a round did not tell everything.
struct Failure {
    reason: String,
    /// Whatever job is asked about, it would be the same.
    is_of_api: bool,
    retry_after: Option<Duration>,
}

impl Failure {
    fn of_api(reason: String) -> Self {
        Self { reason, is_of_api: true, retry_after: None }
    }

    fn of_job(reason: String) -> Self {
        Self { reason, is_of_api: false, retry_after: None }
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        let reason = describe(&error).to_string();
        Self { reason, is_of_api: error.is_of_api(), retry_after: error.retry_after() }
    }
}

/// The API of a workload's CI system; None when it is not to be asked.
pub(super) fn options(workload: &WorkloadSpec) -> Option<JobApiOptions> {
    let poll = workload.poll.as_ref()?;
    let issuer = workload.poll_issuer()?;
    let rule = workload.trust.iter().find(|rule| rule.issuer == issuer)?;
    let kind = rule.platform.job_api()?;
    Some(JobApiOptions { kind, api: poll.api.clone(), ca_pem: poll.ca.clone() })
}

impl App {
    /// Asks after jobs until it is dropped.
    pub(crate) async fn watch_jobs(self: Arc<Self>) {
        let mut waiting: BTreeMap<PrincipalName, Poll> = BTreeMap::new();
        let mut running: BTreeSet<PrincipalName> = BTreeSet::new();
        let mut rounds = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            let config = self.config();
            let polled = |name: &PrincipalName| {
                config.workloads.get(name).is_some_and(|workload| workload.poll.is_some())
            };
            waiting.retain(|name, _| polled(name));
            for name in config.workloads.keys().filter(|name| polled(name)) {
                if !running.contains(name) && !waiting.contains_key(name) {
                    waiting.insert(name.clone(), Poll::new(now));
                }
            }
            let due = waiting.extract_if(.., |_, poll| poll.due <= now);
            for (name, mut poll) in due {
                running.insert(name.clone());
                let app = &self;
                rounds.push(async move {
                    app.ask_round(&name, &mut poll).await;
                    (name, poll)
                });
            }
            let next = waiting.values().map(|poll| poll.due).min();
            let soon = now + LOOK_INTERVAL;
            let next = next.map_or(soon, |next| next.min(soon));
            tokio::select! {
                Some((name, poll)) = rounds.next(), if !rounds.is_empty() => {
                    running.remove(&name);
                    waiting.insert(name, poll);
                }
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Asks after every job of a workload once, unless the API fails.
    async fn ask_round(&self, name: &PrincipalName, poll: &mut Poll) {
        let config = self.config();
        // Also where nothing can be asked: no round follows at once.
        poll.due = Instant::now() + limits::JOB_POLL_INTERVAL;
        let Some(workload) = config.workloads.get(name) else { return };
        let (Some(spec), Some(options)) = (&workload.poll, options(workload)) else { return };
        let jobs = self.jobs_of(workload, &options);
        poll.asked.retain(|id, _| jobs.iter().any(|(live, _)| live == id));
        if jobs.is_empty() {
            poll.due = Instant::now() + spec.interval();
            return;
        }
        let failure = match self.api_of(name, poll, options).await {
            Ok((api, token)) => self.ask_all(name, poll, jobs, &api, &token).await,
            Err(failure) => Some(failure),
        };
        self.conclude(name, poll, spec, failure.as_ref());
    }

    /// The live root runs of the issuer that is asked about.
    fn jobs_of(&self, workload: &WorkloadSpec, options: &JobApiOptions) -> Vec<(RunId, Job)> {
        let Some(issuer) = workload.poll_issuer() else { return Vec::new() };
        self.live.runs().roots_with(|run| {
            let job = job_of(run, &workload.name, issuer)?;
            (job.platform.job_api() == Some(options.kind)).then(|| (run.id().clone(), job.clone()))
        })
    }

    /// The API and its token as they are configured at the moment.
    async fn api_of(
        &self,
        name: &PrincipalName,
        poll: &mut Poll,
        options: JobApiOptions,
    ) -> Result<(JobApi, Secret), Failure> {
        let token = self.store.workload_secret(name, WorkloadSecret::Poll).await;
        let token = token.map_err(|error| Failure::of_api(describe(&error).to_string()))?;
        let no_token = || Failure::of_api("the workload's poll has no token".to_owned());
        let token = token.ok_or_else(no_token)?;
        let api = match &poll.api {
            Some((known, api)) if *known == options => api.clone(),
            Some(_) | None => {
                let api = JobApi::new(&options);
                let api = api.map_err(|error| Failure::of_api(describe(&error).to_string()))?;
                // What another API said of a job counts for nothing here.
                poll.asked.clear();
                poll.api = Some((options, api.clone()));
                api
            }
        };
        Ok((api, token))
    }

    /// Those that were asked after longest ago come first: what an API that fails in the middle
    /// leaves out comes first the next time.
    async fn ask_all(
        &self,
        name: &PrincipalName,
        poll: &mut Poll,
        mut jobs: Vec<(RunId, Job)>,
        api: &JobApi,
        token: &Secret,
    ) -> Option<Failure> {
        jobs.sort_by_key(|(id, _)| poll.asked.get(id).and_then(|asked| asked.at));
        let mut first: Option<Failure> = None;
        let asks = jobs.into_iter().map(|(id, job)| {
            let etag = poll.asked.get(&id).and_then(|asked| asked.etag.clone());
            async move {
                let told = match Question::of(&job) {
                    Ok(question) => {
                        let now = OffsetDateTime::now_utc();
                        let told = api.ask(&question, token, etag.as_deref(), now).await;
                        told.map_err(Failure::from)
                    }
                    Err(claim) => Err(Failure::of_job(format!(
                        "run {id}: its token's '{claim}' does not say which job to ask about"
                    ))),
                };
                (id, told)
            }
        });
        // Futures in the stream borrow nothing of `poll`, which their answers change.
        let asks: Vec<_> = asks.collect();
        let mut answers =
            futures_util::stream::iter(asks).buffer_unordered(limits::JOB_POLLS_AT_ONCE_MAX);
        while let Some((id, told)) = answers.next().await {
            let asked = poll.asked.entry(id.clone()).or_default();
            asked.at = Some(Instant::now());
            match told.and_then(|told| asked.take(told)) {
                Ok(JobState::GoesOn) => {}
                Ok(JobState::Ended) => self.end_jobs(&[id], &format!("poll {name}")).await,
                Err(failure) => {
                    if failure.is_of_api {
                        return Some(failure);
                    }
                    first.get_or_insert(failure);
                }
            }
        }
        first
    }

    /// Records when an API starts and ceases to fail, and says when it is asked again.
    fn conclude(
        &self,
        name: &PrincipalName,
        poll: &mut Poll,
        spec: &PollSpec,
        failure: Option<&Failure>,
    ) {
        let (workload, interval) = (name.to_string(), spec.interval());
        match failure {
            None => {
                if poll.failures > 0 {
                    tracing::info!(workload, "jobs are asked after again");
                    let body = EventBody::PollRecovered { workload };
                    self.note(Origin::default(), body);
                }
                poll.failures = 0;
                poll.due = Instant::now() + jittered(interval, chance());
            }
            Some(failure) => {
                let reason = failure.reason.clone();
                tracing::warn!(workload, reason, "jobs cannot be asked after");
                if poll.failures == 0 {
                    let body = EventBody::PollFailed { workload, reason };
                    self.note(Origin::default(), body);
                }
                poll.failures = poll.failures.saturating_add(1);
                let wait = if failure.is_of_api {
                    let asked = failure.retry_after.unwrap_or_default();
                    jittered(backoff(interval, poll.failures), chance()).max(asked)
                } else {
                    jittered(interval, chance())
                };
                poll.due = Instant::now() + wait;
            }
        }
    }
}

impl Poll {
    fn new(now: Instant) -> Self {
        Self { due: now, api: None, asked: BTreeMap::new(), failures: 0 }
    }
}

impl Asked {
    /// What an answer means for the run.
    ///
    /// An API hides what a token may not see behind the same answer as what there is not. So a
    /// job that it never showed is not gone, and one that it showed is gone when it says so
    /// [`limits::JOB_GONE_ANSWERS`] times in a row.
    fn take(&mut self, told: Told) -> Result<JobState, Failure> {
        match told {
            Told::State { state, etag } => {
                (self.is_known, self.gone_answers, self.etag) = (true, 0, etag);
                Ok(state)
            }
            Told::Unchanged => {
                self.gone_answers = 0;
                Ok(JobState::GoesOn)
            }
            Told::Gone if self.is_known => {
                self.gone_answers += 1;
                let is_gone = self.gone_answers >= limits::JOB_GONE_ANSWERS;
                Ok(if is_gone { JobState::Ended } else { JobState::GoesOn })
            }
            Told::Gone => Err(Failure::of_job(
                "the API knows no job that it is asked about; check poll.api, and what its token \
                 may read"
                    .to_owned(),
            )),
        }
    }
}

/// The wait after so many failures in a row: twice as long each time.
fn backoff(interval: Duration, failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    let max = limits::JOB_POLL_BACKOFF_MAX.max(interval);
    interval.saturating_mul(factor).min(max)
}

/// Between three quarters of a wait and all of it, so that gateways that were started together do
/// not ask together.
fn jittered(wait: Duration, chance: u8) -> Duration {
    let part = wait / 4;
    wait - part + part * u32::from(chance) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(state: JobState) -> Told {
        Told::State { state, etag: Some("\"a\"".to_owned()) }
    }

    #[test]
    fn a_job_is_gone_when_an_api_that_knew_it_says_so_twice_in_a_row() {
        let mut asked = Asked::default();
        assert!(asked.take(Told::Gone).is_err());
        assert!(asked.take(Told::Gone).is_err(), "what was never known is not gone");
        let goes_on = |told: Result<JobState, Failure>| matches!(told, Ok(JobState::GoesOn));
        assert!(goes_on(asked.take(state(JobState::GoesOn))));
        assert_eq!(asked.etag.as_deref(), Some("\"a\""));
        assert!(goes_on(asked.take(Told::Gone)));
        assert!(goes_on(asked.take(Told::Unchanged)));
        assert!(goes_on(asked.take(Told::Gone)));
        assert!(matches!(asked.take(Told::Gone), Ok(JobState::Ended)));
        assert!(matches!(Asked::default().take(state(JobState::Ended)), Ok(JobState::Ended)));
    }

    #[test]
    fn an_api_that_fails_is_asked_less_and_less() {
        let second = Duration::from_secs(1);
        let check = |interval: u32, failures: u32, seconds: u64| {
            let found = backoff(second * interval, failures);
            assert_eq!(found, Duration::from_secs(seconds), "{interval} {failures}");
        };
        check(30, 1, 60);
        check(30, 2, 120);
        check(30, 9, 300);
        check(1, 40, 300);
        check(3600, 1, 3600);
        assert_eq!(jittered(4 * second, 0), 3 * second);
        assert_eq!(jittered(4 * second, 255), 4 * second);
    }
}
