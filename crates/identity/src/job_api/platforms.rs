//! What each platform's API is asked about a job, and how its answer is read.

use corral_model::limits;
use corral_model::resource::{Job, JobApiKind};
use reqwest::Url;
use serde_json::Value;

use crate::jwt::json;

/// What an API says of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    GoesOn,
    Ended,
}

/// States in which a job may still act, and those from which it does not come back.
struct States {
    going_on: &'static [&'static str],
    ended: &'static [&'static str],
}

/// <https://docs.github.com/en/rest/actions/workflow-jobs>: `status`.
const GITHUB: States = States {
    going_on: &["queued", "in_progress", "waiting", "requested", "pending"],
    ended: &["completed"],
};

/// <https://docs.gitlab.com/api/jobs/>: `status`. A job that is being cancelled still runs its
/// `after_script`.
const GITLAB: States = States {
    going_on: &[
        "created",
        "waiting_for_resource",
        "waiting_for_callback",
        "preparing",
        "pending",
        "running",
        "canceling",
        "manual",
        "scheduled",
    ],
    ended: &["success", "failed", "canceled", "skipped"],
};

/// <https://buildkite.com/docs/apis/rest-api/jobs>: `state`; the REST API writes `passed` or
/// `failed` where <https://buildkite.com/docs/pipelines/configure/defining-steps#job-states> has
/// `finished`.
const BUILDKITE: States = States {
    going_on: &[
        "pending",
        "waiting",
        "blocked",
        "unblocked",
        "limiting",
        "limited",
        "platform_limiting",
        "platform_limited",
        "scheduled",
        "reserved",
        "assigned",
        "accepted",
        "running",
        "canceling",
        "timing_out",
    ],
    ended: &[
        "finished",
        "passed",
        "failed",
        "canceled",
        "timed_out",
        "skipped",
        "broken",
        "expired",
        "waiting_failed",
        "blocked_failed",
        "unblocked_failed",
    ],
};

/// <https://circleci.com/docs/api/v2/#tag/Workflow/operation/listWorkflowJobs>: `status`.
const CIRCLECI: States = States {
    going_on: &["queued", "not_running", "running", "on_hold", "blocked"],
    ended: &[
        "success",
        "failed",
        "canceled",
        "retried",
        "infrastructure_fail",
        "timedout",
        "terminated-unknown",
        "not_run",
        "unauthorized",
    ],
};

impl States {
    fn read(&self, state: Option<&Value>) -> Result<JobState, &'static str> {
        let state = state.and_then(Value::as_str).ok_or("it does not say the job's state")?;
        if self.ended.contains(&state) {
            Ok(JobState::Ended)
        } else if self.going_on.contains(&state) {
            Ok(JobState::GoesOn)
        } else {
            Err("it says a state that is not known")
        }
    }
}

/// A question about one job: where it is asked, and what its answer must name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    path: Vec<String>,
    about: About,
}

/// The job as its token named it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum About {
    GithubJob {
        id: String,
        run: String,
        attempt: String,
    },
    /// Of an attempt whose tokens do not say which of its jobs they are for.
    GithubAttempt {
        repository: String,
        run: String,
        attempt: String,
    },
    GitlabJob {
        id: String,
        project: String,
    },
    BuildkiteJob {
        id: String,
    },
    CircleciJob {
        id: String,
    },
}

impl Question {
    /// The question about a job, by the claims that its issuer signed:
    ///
    /// - GitHub: [`/repos/{owner}/{repo}/actions/jobs/{job_id}`][job]; where the token named no
    ///   `check_run_id`, which is the job's id, [`…/actions/runs/{run_id}/attempts/{attempt}`][run].
    /// - GitLab: [`/projects/{id}/jobs/{job_id}`](https://docs.gitlab.com/api/jobs/).
    /// - Buildkite: [`/organizations/{org}/pipelines/{pipeline}/builds/{number}/jobs/{id}`][bk].
    /// - CircleCI: [`/workflow/{id}/job`][cc], which lists the workflow's jobs.
    ///
    /// [job]: https://docs.github.com/en/rest/actions/workflow-jobs
    /// [run]: https://docs.github.com/en/rest/actions/workflow-runs
    /// [bk]: https://buildkite.com/docs/apis/rest-api/jobs
    /// [cc]: https://circleci.com/docs/api/v2/
    ///
    /// # Errors
    /// The claim that is missing, cut, or no plain name: then nothing is asked.
    pub fn of(job: &Job) -> Result<Self, &'static str> {
        let claim = |name: &'static str| part(job, name).ok_or(name);
        let (path, about) = match job.platform.job_api().ok_or("platform")? {
            JobApiKind::Github => {
                let (run, attempt) = (claim("run_id")?, claim("run_attempt")?);
                let repository = claim("repository")?;
                let (owner, name) = repository.split_once('/').ok_or("repository")?;
                let actions = ["repos", owner, name, "actions"].map(str::to_owned).to_vec();
                match part(job, "check_run_id") {
                    Some(id) => {
                        let path = [actions, vec!["jobs".to_owned(), id.clone()]].concat();
                        (path, About::GithubJob { id, run, attempt })
                    }
                    None => {
                        let of_run = ["runs", &run, "attempts", &attempt].map(str::to_owned);
                        let path = [actions, of_run.to_vec()].concat();
                        (path, About::GithubAttempt { repository, run, attempt })
                    }
                }
            }
            JobApiKind::Gitlab => {
                let (project, id) = (claim("project_id")?, claim("job_id")?);
                let path = ["projects", &project, "jobs", &id].map(str::to_owned).to_vec();
                (path, About::GitlabJob { id, project })
            }
            JobApiKind::Buildkite => {
                let (organization, pipeline) =
                    (claim("organization_slug")?, claim("pipeline_slug")?);
                let (build, id) = (claim("build_number")?, claim("job_id")?);
                let path = [
                    "organizations",
                    &organization,
                    "pipelines",
                    &pipeline,
                    "builds",
                    &build,
                    "jobs",
                    &id,
                ];
                (path.map(str::to_owned).to_vec(), About::BuildkiteJob { id })
            }
            JobApiKind::Circleci => {
                let workflow = claim("oidc.circleci.com/workflow-id")?;
                let id = claim("oidc.circleci.com/job-id")?;
                let path = ["workflow", &workflow, "job"].map(str::to_owned).to_vec();
                (path, About::CircleciJob { id })
            }
        };
        Ok(Self { path, about })
    }

    /// Where it is asked, below the API's own address.
    pub(super) fn url(&self, api: &Url) -> Option<Url> {
        let mut url = api.clone();
        url.path_segments_mut().ok()?.pop_if_empty().extend(&self.path);
        Some(url)
    }

    /// What an answer says of the job.
    ///
    /// # Errors
    /// Why the answer does not count. The API is to blame.
    pub fn read(&self, body: &[u8]) -> Result<JobState, &'static str> {
        let answer = Value::Object(json::object(body).ok_or("it is no JSON object")?);
        let names = |pairs: &[(&str, &str)]| {
            let is_named = |(pointer, value): &(&str, &str)| is(answer.pointer(pointer), value);
            if pairs.iter().all(is_named) { Ok(()) } else { Err("it is about another job") }
        };
        match &self.about {
            About::GithubJob { id, run, attempt } => {
                names(&[("/id", id), ("/run_id", run), ("/run_attempt", attempt)])?;
                GITHUB.read(answer.get("status"))
            }
            About::GithubAttempt { repository, run, attempt } => {
                names(&[("/id", run), ("/run_attempt", attempt)])?;
                let found = answer.pointer("/repository/full_name").and_then(Value::as_str);
                if !found.is_some_and(|found| found.eq_ignore_ascii_case(repository)) {
                    return Err("it is about another repository");
                }
                GITHUB.read(answer.get("status"))
            }
            About::GitlabJob { id, project } => {
                names(&[("/id", id), ("/pipeline/project_id", project)])?;
                GITLAB.read(answer.get("status"))
            }
            About::BuildkiteJob { id } => {
                names(&[("/id", id)])?;
                BUILDKITE.read(answer.get("state"))
            }
            About::CircleciJob { id } => {
                let items = answer.get("items").and_then(Value::as_array);
                let mut items = items.ok_or("it does not list the workflow's jobs")?.iter();
                let job = items.find(|job| is(job.get("id"), id));
                CIRCLECI.read(job.ok_or("it does not list the job")?.get("status"))
            }
        }
    }
}

/// A claim that is a plain part of an address: whole, and nothing that leads elsewhere.
fn part(job: &Job, name: &str) -> Option<String> {
    let value = job.claims.get(name)?;
    let is_plain = |part: &str| {
        let is_sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && part != "." && part != ".." && part.chars().all(is_sound)
    };
    // Only a repository has two parts: its owner and its name.
    let mut parts = value.splitn(2, '/');
    let is_whole = value.chars().count() < limits::JOB_CLAIM_CHARS_MAX;
    let is_repository = name == "repository" && value.contains('/');
    let is_good = is_whole && parts.all(is_plain) && (is_repository || !value.contains('/'));
    is_good.then(|| value.clone())
}

/// Numbers in answers are texts in tokens.
fn is(found: Option<&Value>, wanted: &str) -> bool {
    match found {
        Some(Value::String(text)) => text == wanted,
        Some(Value::Number(number)) => number.to_string() == wanted,
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use corral_model::resource::Platform;
    use serde_json::json;

    use super::*;

    fn job(platform: Platform, claims: Value) -> Job {
        let claims: BTreeMap<String, String> = serde_json::from_value(claims).expect("claims");
        Job { platform, issuer: "i".to_owned(), key: "k".to_owned(), claims }
    }

    fn github() -> Job {
        let claims = json!({"repository": "octo-org/octo.repo", "run_id": "29679449",
            "run_attempt": "1", "check_run_id": "399444496"});
        job(Platform::Github, claims)
    }

    fn gitlab() -> Job {
        job(Platform::Gitlab, json!({"project_id": "1", "job_id": "8"}))
    }

    fn buildkite() -> Job {
        let claims = json!({"organization_slug": "acme-inc", "pipeline_slug": "super-duper-app",
            "build_number": "27", "job_id": "0184990a-4782-42b5-afc1-16715b10b8ff"});
        job(Platform::Buildkite, claims)
    }

    fn circleci() -> Job {
        let claims = json!({"oidc.circleci.com/workflow-id": "5034460f-c7c4-4c43-9457-de07e2029e7b",
            "oidc.circleci.com/job-id": "b8b1e1a5-0f4c-4a2b-8a6c-5f0f6f0c5d11"});
        job(Platform::Circleci, claims)
    }

    #[test]
    fn each_platform_is_asked_where_it_documents() {
        let check = |job: &Job, api: &str, url: &str| {
            let api = Url::parse(api).expect("an address");
            let found = Question::of(job).expect("a question").url(&api).expect("has a path");
            assert_eq!(found.as_str(), url);
        };
        let api = "https://api.github.com";
        let repository = "https://api.github.com/repos/octo-org/octo.repo/actions";
        check(&github(), api, &format!("{repository}/jobs/399444496"));
        let mut older = github();
        older.claims.remove("check_run_id");
        check(&older, api, &format!("{repository}/runs/29679449/attempts/1"));
        check(&gitlab(), "https://x.example/api/v4/", "https://x.example/api/v4/projects/1/jobs/8");
        let url = "https://api.buildkite.com/v2/organizations/acme-inc/pipelines/super-duper-app/\
                   builds/27/jobs/0184990a-4782-42b5-afc1-16715b10b8ff";
        check(&buildkite(), "https://api.buildkite.com/v2", url);
        let url = "https://circleci.com/api/v2/workflow/5034460f-c7c4-4c43-9457-de07e2029e7b/job";
        check(&circleci(), "https://circleci.com/api/v2", url);
    }

    #[test]
    fn a_claim_that_leads_elsewhere_is_not_asked_about() {
        let check = |name: &'static str, value: &str| {
            let mut job = github();
            job.claims.insert(name.to_owned(), value.to_owned());
            assert_eq!(Question::of(&job), Err(name), "{value}");
        };
        let long = format!("a/{}", "x".repeat(limits::JOB_CLAIM_CHARS_MAX));
        for value in ["", "shop", "../..", "a/..", "a/b/c", "a/b?c", "a/b%2Fc", "/b", "a/", &long] {
            check("repository", value);
        }
        for value in ["", "..", "1/2", "1?2", "1#2", "1 2"] {
            check("run_id", value);
        }
        assert_eq!(Question::of(&job(Platform::Gitlab, json!({"job_id": "8"}))), Err("project_id"));
        assert_eq!(Question::of(&job(Platform::Oidc, json!({"sub": "x"}))), Err("platform"));
    }

    fn check(job: &Job, answer: &Value, expect: Result<JobState, &'static str>) {
        let question = Question::of(job).expect("a question");
        assert_eq!(question.read(answer.to_string().as_bytes()), expect, "{answer}");
    }

    fn with(answer: &Value, pointer: &str, value: &Value) -> Value {
        let mut answer = answer.clone();
        *answer.pointer_mut(pointer).expect("is there") = value.clone();
        answer
    }

    const OTHER: Result<JobState, &str> = Err("it is about another job");
    const UNKNOWN: Result<JobState, &str> = Err("it says a state that is not known");

    fn check_states(job: &Job, answer: &Value, pointer: &str, states: &States) {
        for state in states.going_on {
            check(job, &with(answer, pointer, &json!(state)), Ok(JobState::GoesOn));
        }
        for state in states.ended {
            check(job, &with(answer, pointer, &json!(state)), Ok(JobState::Ended));
        }
        for state in [json!("paused"), json!("")] {
            check(job, &with(answer, pointer, &state), UNKNOWN);
        }
        let absent = Err("it does not say the job's state");
        check(job, &with(answer, pointer, &Value::Null), absent);
    }

    #[test]
    fn github_names_the_job_its_run_and_its_attempt() {
        let url = "https://api.github.com/repos/octo-org/octo.repo/actions/runs/29679449";
        let answer = json!({"id": 399_444_496, "run_id": 29_679_449, "run_url": url,
            "run_attempt": 1, "status": "in_progress", "conclusion": null});
        check_states(&github(), &answer, "/status", &GITHUB);
        check(&github(), &with(&answer, "/id", &json!(1)), OTHER);
        check(&github(), &with(&answer, "/run_id", &json!(1)), OTHER);
        check(&github(), &with(&answer, "/run_attempt", &json!(2)), OTHER);
    }

    #[test]
    fn github_names_the_attempt_where_no_job_is_known() {
        let mut older = github();
        older.claims.remove("check_run_id");
        let answer = json!({"id": 29_679_449, "run_attempt": 1, "status": "queued",
            "repository": {"id": 1, "full_name": "Octo-Org/Octo.Repo"}});
        check_states(&older, &answer, "/status", &GITHUB);
        check(&older, &with(&answer, "/id", &json!(1)), OTHER);
        check(&older, &with(&answer, "/run_attempt", &json!(2)), OTHER);
        let other = with(&answer, "/repository/full_name", &json!("octo-org/other"));
        check(&older, &other, Err("it is about another repository"));
    }

    #[test]
    fn gitlab_names_the_job_and_its_project() {
        let answer = json!({"id": 8, "name": "rubocop", "status": "running",
            "pipeline": {"id": 6, "project_id": 1, "ref": "main", "status": "pending"}});
        check_states(&gitlab(), &answer, "/status", &GITLAB);
        check(&gitlab(), &with(&answer, "/id", &json!(7)), OTHER);
        check(&gitlab(), &with(&answer, "/pipeline/project_id", &json!(2)), OTHER);
        check(&gitlab(), &with(&answer, "/pipeline", &json!(null)), OTHER);
    }

    #[test]
    fn buildkite_names_the_job() {
        let answer = json!({"id": "0184990a-4782-42b5-afc1-16715b10b8ff", "type": "script",
            "state": "running"});
        check_states(&buildkite(), &answer, "/state", &BUILDKITE);
        check(&buildkite(), &with(&answer, "/id", &json!("0184")), OTHER);
    }

    #[test]
    fn circleci_lists_the_job() {
        let beside = json!({"id": "74be7583-44de-42a6-be75-8344de52a6f2", "status": "success"});
        let own = json!({"id": "b8b1e1a5-0f4c-4a2b-8a6c-5f0f6f0c5d11", "status": "running"});
        let answer = json!({"items": [beside, own], "next_page_token": null});
        check_states(&circleci(), &answer, "/items/1/status", &CIRCLECI);
        let alone = json!({"items": [beside], "next_page_token": null});
        check(&circleci(), &alone, Err("it does not list the job"));
        check(&circleci(), &json!({}), Err("it does not list the workflow's jobs"));
    }

    #[test]
    fn what_is_no_object_or_has_a_key_twice_is_no_answer() {
        let question = Question::of(&gitlab()).expect("a question");
        let twice =
            br#"{"id": 8, "pipeline": {"project_id": 1}, "status": "running", "status": "failed"}"#;
        for body in [b"".as_slice(), b"<html>", b"[]", b"null", b"{", twice] {
            assert_eq!(question.read(body), Err("it is no JSON object"));
        }
    }
}
