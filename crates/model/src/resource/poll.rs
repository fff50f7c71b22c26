//! How the API of a workload's CI system is asked whether jobs still go on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{HumanDuration, SecretSource, WorkloadSpec};
use crate::limits;

/// `Workload.poll`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PollSpec {
    /// Where the API is: `https://api.github.com`, `https://gitlab.example/api/v4`,
    /// `https://api.buildkite.com/v2`, `https://circleci.com/api/v2`.
    pub api: String,
    /// What the API is shown. Kept when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretSource>,
    /// Time between two questions about one job; [`limits::JOB_POLL_INTERVAL`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<HumanDuration>,
    /// Whose jobs it is asked about, as in `trust`; the only issuer there when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Certificates that are trusted for the API, PEM; the system's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

impl PollSpec {
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.every.map_or(limits::JOB_POLL_INTERVAL, |every| every.0)
    }
}

impl WorkloadSpec {
    /// The issuer whose jobs are asked about; None without a poll.
    #[must_use]
    pub fn poll_issuer(&self) -> Option<&str> {
        let poll = self.poll.as_ref()?;
        self.issuer_or_first(poll.issuer.as_deref())
    }

    /// Whether a kept token would be shown to somebody else than it was given for.
    #[must_use]
    pub fn poll_goes_elsewhere(&self, before: &Self) -> bool {
        let place =
            |spec: &Self| spec.poll.as_ref().map(|poll| (poll.api.clone(), poll.ca.clone()));
        place(self) != place(before)
    }
}

/// What is wrong with a workload's poll: key, text, help.
pub(super) fn faults(spec: &WorkloadSpec) -> Vec<(&'static str, String, &'static str)> {
    let Some(poll) = &spec.poll else { return Vec::new() };
    let mut faults = spec.faults_of_issuer("poll", "poll.issuer", poll.issuer.as_deref());
    let issuer = spec.poll_issuer();
    let has_no_api = |rule: &&super::TrustRule| {
        Some(rule.issuer.as_str()) == issuer && rule.platform.job_api().is_none()
    };
    if let Some(rule) = spec.trust.iter().find(has_no_api) {
        let text = format!("jobs of platform '{}' have no API to be asked", rule.platform.name());
        let help = "write trust's platform: github, gitlab, buildkite or circleci";
        faults.push(("poll", text, help));
    }
    let max = limits::JOB_POLL_INTERVAL_MAX;
    if poll.every.is_some_and(|every| every.0 > max) {
        let text = format!("poll.every is above {}", HumanDuration(max));
        faults.push(("poll.every", text, "write 1h or less, such as 30s"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://ci.example";

    fn workload(platforms: &[(&str, &str)], poll: &Value) -> WorkloadSpec {
        let rule = |(platform, issuer): &(&str, &str)| json!({"platform": platform, "issuer": issuer, "audience": "a", "match": {"b": "c"}});
        let trust: Vec<Value> = platforms.iter().map(rule).collect();
        let spec = json!({"name": "ci", "trust": trust, "poll": poll});
        serde_json::from_value(spec).expect("a workload")
    }

    #[test]
    fn a_poll_asks_about_one_issuer_whose_platform_has_an_api() {
        let check = |platforms: &[(&str, &str)], more: Value, keys: &[&str]| {
            let mut poll = json!({"api": "https://api.ci.example"});
            for (key, value) in more.as_object().expect("an object") {
                poll[key] = value.clone();
            }
            let spec = workload(platforms, &poll);
            let found: Vec<&str> = faults(&spec).iter().map(|(key, _, _)| *key).collect();
            assert_eq!(found, keys, "{platforms:?} {more}");
        };
        for platform in ["github", "gitlab", "buildkite", "circleci"] {
            check(&[(platform, ISSUER)], json!({}), &[]);
        }
        check(&[("oidc", ISSUER)], json!({}), &["poll"]);
        let both = [("github", ISSUER), ("oidc", "https://other.example")];
        check(&both, json!({}), &["poll.issuer"]);
        check(&both, json!({"issuer": ISSUER}), &[]);
        check(&both, json!({"issuer": "https://other.example"}), &["poll"]);
        check(&[], json!({}), &["poll.issuer"]);
        check(&[("github", ISSUER)], json!({"every": "1h"}), &[]);
        check(&[("github", ISSUER)], json!({"every": "61m"}), &["poll.every"]);
    }

    #[test]
    fn a_token_is_for_one_api_and_its_certificates() {
        let spec = |poll: Value| workload(&[("github", ISSUER)], &poll);
        let one = spec(json!({"api": "https://one.example"}));
        let slower = spec(json!({"api": "https://one.example", "every": "1m"}));
        assert!(!slower.poll_goes_elsewhere(&one));
        assert!(spec(json!({"api": "https://two.example"})).poll_goes_elsewhere(&one));
        let trusted = spec(json!({"api": "https://one.example", "ca": "PEM"}));
        assert!(trusted.poll_goes_elsewhere(&one));
    }
}
