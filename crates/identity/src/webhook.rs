//! Webhooks by which CI systems say that a job has ended: whether one is signed, and which jobs
//! it means.
//!
//! Nothing of a delivery is read before its signature was found good. A job's end is said once
//! and for all, so a replayed delivery says nothing else than the first one did.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corral_model::limits;
use corral_model::secret::Secret;
use serde_json::Value;
use subtle::ConstantTimeEq;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::token::{digest_of, is_same};

/// Secrets of Standard Webhooks start so; the key follows in base64.
const KEY_PREFIX: &str = "whsec_";

/// What GitLab calls a job that does not go on.
const GITLAB_FINISHED: [&str; 4] = ["success", "failed", "canceled", "skipped"];

/// Why a delivery was not taken. Says nothing of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// Whoever sent it is to blame, as for all but [`WebhookError::NoSecret`].
    #[error(
        "the delivery is not signed; there must be X-Hub-Signature-256, Webhook-Signature or \
         X-Gitlab-Token"
    )]
    Unsigned,
    #[error("the delivery's signature or token is not that of the webhook's secret")]
    Signature,
    #[error("the delivery's timestamp is missing or too far from the gateway's clock")]
    Timestamp,
    /// Whoever applied the workload is to blame.
    #[error("the workload's webhook has no secret")]
    NoSecret,
    #[error("the body is not JSON; choose the content type application/json")]
    NotJson,
    #[error("the event does not say which job it is about: {0} is missing")]
    Incomplete(&'static str),
    #[error("the event names too many jobs")]
    TooMany,
}

/// What came, with the headers that may sign it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Delivery<'d> {
    /// `X-Hub-Signature-256`: `sha256=` and the HMAC-SHA256 of the body in hexadecimal (GitHub).
    pub hub_signature: Option<&'d str>,
    /// `Webhook-Signature`: `v1,` and the HMAC-SHA256 of `ID.TIMESTAMP.BODY` in base64, several
    /// of them apart by spaces (Standard Webhooks; GitLab's signing token).
    pub signature: Option<&'d str>,
    /// `Webhook-Id`.
    pub id: Option<&'d str>,
    /// `Webhook-Timestamp`, in seconds since 1970.
    pub timestamp: Option<&'d str>,
    /// `X-Gitlab-Token`: the secret itself.
    pub token: Option<&'d str>,
    pub body: &'d [u8],
}

impl Delivery<'_> {
    /// Whether whoever sent this knows the secret. Of several signatures the strongest counts,
    /// so that a bad one is not made good by a token beside it. Takes as long wherever a wrong
    /// signature differs.
    ///
    /// # Errors
    /// [`WebhookError::Unsigned`], [`WebhookError::Signature`], [`WebhookError::Timestamp`].
    ///
    /// # Limits
    /// [`limits::WEBHOOK_CLOCK_SKEW_MAX`] between the timestamp and `now`;
    /// [`limits::WEBHOOK_SIGNATURES_MAX`].
    pub fn check(&self, secret: &Secret, now: OffsetDateTime) -> Result<(), WebhookError> {
        let is_good = if let Some(shown) = self.signature {
            self.is_signed(shown, secret, now)?
        } else if let Some(shown) = self.hub_signature {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
            let right = format!("sha256={}", hexadecimal(hmac::sign(&key, self.body).as_ref()));
            right.as_bytes().ct_eq(shown.as_bytes()).into()
        } else if let Some(shown) = self.token {
            is_same(&digest_of(secret.reveal()), &digest_of(shown))
        } else {
            return Err(WebhookError::Unsigned);
        };
        if is_good { Ok(()) } else { Err(WebhookError::Signature) }
    }

    fn is_signed(
        &self,
        shown: &str,
        secret: &Secret,
        now: OffsetDateTime,
    ) -> Result<bool, WebhookError> {
        let (Some(id), Some(timestamp)) = (self.id, self.timestamp) else {
            return Err(WebhookError::Timestamp);
        };
        let seconds: i64 = timestamp.parse().map_err(|_| WebhookError::Timestamp)?;
        if now.unix_timestamp().abs_diff(seconds) > limits::WEBHOOK_CLOCK_SKEW_MAX.as_secs() {
            return Err(WebhookError::Timestamp);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key_of(secret));
        let mut context = hmac::Context::with_key(&key);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(self.body);
        let right = format!("v1,{}", STANDARD.encode(context.sign().as_ref()));
        let is_right = |one: &str| bool::from(right.as_bytes().ct_eq(one.as_bytes()));
        Ok(shown.split(' ').take(limits::WEBHOOK_SIGNATURES_MAX).any(is_right))
    }
}

/// A secret with the prefix of Standard Webhooks is a key in base64; any other is the key itself.
fn key_of(secret: &Secret) -> Zeroizing<Vec<u8>> {
    let text = secret.reveal();
    let decoded = text.strip_prefix(KEY_PREFIX).and_then(|key| STANDARD.decode(key).ok());
    Zeroizing::new(decoded.unwrap_or_else(|| text.as_bytes().to_vec()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Claims that name jobs which have ended: those whose tokens had all of them.
pub type EndedJob = BTreeMap<String, String>;

/// Which jobs a signed event says have ended; none when it is about something else.
///
/// - GitHub `workflow_job` and `workflow_run` with `action: completed`.
/// - GitLab job events, and the jobs in pipeline events, with a status that is final.
/// - `{"type": "job.ended", "data": {"claims": {NAME: VALUE, …}}}`, from anywhere else.
///
/// # Errors
/// [`WebhookError::NotJson`], [`WebhookError::Incomplete`], [`WebhookError::TooMany`].
///
/// # Limits
/// [`limits::WEBHOOK_JOBS_MAX`].
pub fn ended_jobs(body: &[u8]) -> Result<Vec<EndedJob>, WebhookError> {
    let event: Value = serde_json::from_slice(body).map_err(|_| WebhookError::NotJson)?;
    let word = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
    let is_completed = word("action") == "completed";
    if let Some(job) = event.get("workflow_job") {
        return if is_completed { github_job(job) } else { Ok(Vec::new()) };
    }
    if let Some(run) = event.get("workflow_run") {
        return if is_completed { github_run(run) } else { Ok(Vec::new()) };
    }
    match (word("object_kind"), word("type")) {
        ("build", _) if is_final(event.get("build_status")) => {
            Ok(vec![gitlab_job(event.get("build_id"))?])
        }
        ("pipeline", _) => {
            let builds = event.get("builds").and_then(Value::as_array);
            let builds = builds.ok_or(WebhookError::Incomplete("builds"))?;
            if builds.len() > limits::WEBHOOK_JOBS_MAX {
                return Err(WebhookError::TooMany);
            }
            let finished = builds.iter().filter(|build| is_final(build.get("status")));
            finished.map(|build| gitlab_job(build.get("id"))).collect()
        }
        (_, "job.ended") => Ok(vec![any_job(&event)?]),
        _ => Ok(Vec::new()),
    }
}

/// One job of one attempt. Its id is that of its check run, which newer tokens name.
fn github_job(job: &Value) -> Result<Vec<EndedJob>, WebhookError> {
    Ok(vec![BTreeMap::from([
        claim("run_id", job.get("run_id"))?,
        claim("run_attempt", job.get("run_attempt"))?,
        claim("check_run_id", job.get("id"))?,
    ])])
}

/// All jobs of one attempt.
fn github_run(run: &Value) -> Result<Vec<EndedJob>, WebhookError> {
    let id = claim("run_id", run.get("id"))?;
    Ok(vec![BTreeMap::from([id, claim("run_attempt", run.get("run_attempt"))?])])
}

fn gitlab_job(id: Option<&Value>) -> Result<EndedJob, WebhookError> {
    Ok(BTreeMap::from([claim("job_id", id)?]))
}

fn is_final(status: Option<&Value>) -> bool {
    status.and_then(Value::as_str).is_some_and(|status| GITLAB_FINISHED.contains(&status))
}

fn any_job(event: &Value) -> Result<EndedJob, WebhookError> {
    let missing = WebhookError::Incomplete("data.claims");
    let claims = event.get("data").and_then(|data| data.get("claims")).and_then(Value::as_object);
    let claims = claims.filter(|claims| !claims.is_empty()).ok_or(missing)?;
    if claims.len() > limits::JOB_CLAIMS_MAX {
        return Err(WebhookError::TooMany);
    }
    let text = |(name, value): (&String, &Value)| Some((name.clone(), text(value)?));
    claims.iter().map(text).collect::<Option<EndedJob>>().ok_or(missing)
}

fn claim(name: &'static str, value: Option<&Value>) -> Result<(String, String), WebhookError> {
    let value = value.and_then(text).ok_or(WebhookError::Incomplete(name))?;
    Ok((name.to_owned(), value))
}

/// Numbers in events are texts in tokens.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The example of GitHub's documentation on validating deliveries.
    const GITHUB_SECRET: &str = "It's a Secret to Everybody";
    const GITHUB_SIGNATURE: &str =
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    /// The example of the Standard Webhooks specification.
    const STANDARD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const STANDARD_BODY: &[u8] = br#"{"test": 2432232314}"#;
    const STANDARD_SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const STANDARD_TIME: i64 = 1_614_265_330;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).expect("a time")
    }

    fn standard() -> Delivery<'static> {
        Delivery {
            signature: Some(STANDARD_SIGNATURE),
            id: Some("msg_p5jXN8AQM9LWM0D4loKWxJek"),
            timestamp: Some("1614265330"),
            body: STANDARD_BODY,
            ..Delivery::default()
        }
    }

    fn check(delivery: Delivery<'_>, secret: &str, now: i64) -> Result<(), WebhookError> {
        delivery.check(&Secret::new(secret.to_owned()), at(now))
    }

    #[test]
    fn github_signs_the_body() {
        let good = Delivery {
            hub_signature: Some(GITHUB_SIGNATURE),
            body: b"Hello, World!",
            ..Delivery::default()
        };
        assert_eq!(check(good, GITHUB_SECRET, 0), Ok(()));
        assert_eq!(check(good, "another", 0), Err(WebhookError::Signature));
        let body = Delivery { body: b"Hello, World?", ..good };
        assert_eq!(check(body, GITHUB_SECRET, 0), Err(WebhookError::Signature));
        let cut = GITHUB_SIGNATURE.get(..GITHUB_SIGNATURE.len() - 1);
        for wrong in ["", "sha256=", cut.expect("ascii"), "sha1=757107ea"] {
            let wrong = Delivery { hub_signature: Some(wrong), ..good };
            assert_eq!(check(wrong, GITHUB_SECRET, 0), Err(WebhookError::Signature));
        }
        let unsigned = Delivery { hub_signature: None, ..good };
        assert_eq!(check(unsigned, GITHUB_SECRET, 0), Err(WebhookError::Unsigned));
    }

    #[test]
    fn standard_webhooks_sign_id_time_and_body() {
        let (good, now) = (standard(), STANDARD_TIME);
        assert_eq!(check(good, STANDARD_SECRET, now), Ok(()));
        assert_eq!(check(good, STANDARD_SECRET, now + 300), Ok(()));
        let rotated = format!("v1,AAAA v1a,x {STANDARD_SIGNATURE}");
        let rotated = Delivery { signature: Some(&rotated), ..good };
        assert_eq!(check(rotated, STANDARD_SECRET, now), Ok(()));
        for late in [now + 301, now - 301] {
            assert_eq!(check(good, STANDARD_SECRET, late), Err(WebhookError::Timestamp));
        }
        for timestamp in [None, Some(""), Some("soon"), Some("99999999999999999999")] {
            let wrong = Delivery { timestamp, ..good };
            assert_eq!(check(wrong, STANDARD_SECRET, now), Err(WebhookError::Timestamp));
        }
        let moved = Delivery { timestamp: Some("1614265331"), ..good };
        let renamed = Delivery { id: Some("msg_other"), ..good };
        let changed = Delivery { body: b"{}", ..good };
        for wrong in [moved, renamed, changed] {
            assert_eq!(check(wrong, STANDARD_SECRET, now), Err(WebhookError::Signature));
        }
        // A secret that somebody chose is the key as it stands.
        let plain = STANDARD_SECRET.trim_start_matches(KEY_PREFIX);
        assert_eq!(check(good, plain, now), Err(WebhookError::Signature));
    }

    #[test]
    fn gitlab_shows_the_secret_and_a_bad_signature_beside_it_is_bad() {
        let shown = Delivery { token: Some("the-secret"), ..Delivery::default() };
        assert_eq!(check(shown, "the-secret", 0), Ok(()));
        assert_eq!(check(shown, "the-secre", 0), Err(WebhookError::Signature));
        let both = Delivery { hub_signature: Some("sha256=00"), ..shown };
        assert_eq!(check(both, "the-secret", 0), Err(WebhookError::Signature));
        let both = Delivery { signature: Some("v1,AAAA"), ..shown };
        assert_eq!(check(both, "the-secret", 0), Err(WebhookError::Timestamp));
    }

    #[test]
    fn each_platform_names_the_job_that_ended() {
        let check = |event: Value, jobs: &[Value]| {
            let found = ended_jobs(event.to_string().as_bytes()).expect("is read");
            let found = serde_json::to_value(found).expect("JSON");
            assert_eq!(found, json!(jobs), "{event}");
        };
        let job = json!({"id": 9, "run_id": 1, "run_attempt": 2});
        let named = json!({"run_id": "1", "run_attempt": "2", "check_run_id": "9"});
        check(json!({"action": "completed", "workflow_job": job}), &[named]);
        check(json!({"action": "in_progress", "workflow_job": job}), &[]);
        let run = json!({"id": 1, "run_attempt": 2});
        let named = json!({"run_id": "1", "run_attempt": "2"});
        check(json!({"action": "completed", "workflow_run": run}), &[named]);
        check(json!({"action": "requested", "workflow_run": run}), &[]);
        let build =
            |status: &str| json!({"object_kind": "build", "build_id": 5, "build_status": status});
        for status in GITLAB_FINISHED {
            check(build(status), &[json!({"job_id": "5"})]);
        }
        for status in ["created", "pending", "running", "canceling", "manual", ""] {
            check(build(status), &[]);
        }
        let builds = json!([{"id": 5, "status": "failed"}, {"id": 6, "status": "running"}]);
        check(json!({"object_kind": "pipeline", "builds": builds}), &[json!({"job_id": "5"})]);
        let claims = json!({"job_id": "b", "build_number": 7});
        let named = json!({"job_id": "b", "build_number": "7"});
        check(json!({"type": "job.ended", "data": {"claims": claims}}), &[named]);
        for other in [json!({"zen": "ping"}), json!({"type": "job.started"}), json!([]), json!(1)] {
            check(other, &[]);
        }
    }

    #[test]
    fn an_event_that_names_no_job_is_refused() {
        let check = |event: Value, why: WebhookError| {
            assert_eq!(ended_jobs(event.to_string().as_bytes()), Err(why), "{event}");
        };
        let incomplete = WebhookError::Incomplete;
        let job = json!({"id": 9, "run_attempt": 2});
        check(json!({"action": "completed", "workflow_job": job}), incomplete("run_id"));
        let job = json!({"run_id": 1, "run_attempt": 2, "id": null});
        check(json!({"action": "completed", "workflow_job": job}), incomplete("check_run_id"));
        check(json!({"action": "completed", "workflow_run": {"id": ""}}), incomplete("run_id"));
        let build = json!({"object_kind": "build", "build_status": "failed"});
        check(build, incomplete("job_id"));
        check(json!({"object_kind": "pipeline"}), incomplete("builds"));
        let many = vec![json!({"id": 1, "status": "failed"}); limits::WEBHOOK_JOBS_MAX + 1];
        check(json!({"object_kind": "pipeline", "builds": many}), WebhookError::TooMany);
        for data in [json!(null), json!({"claims": {}}), json!({"claims": {"a": [1]}})] {
            check(json!({"type": "job.ended", "data": data}), incomplete("data.claims"));
        }
        assert_eq!(ended_jobs(b"payload=%7B%7D"), Err(WebhookError::NotJson));
        assert_eq!(ended_jobs(b""), Err(WebhookError::NotJson));
    }
}
