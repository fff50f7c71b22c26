//! Whose tokens a workload takes as its own, and which person answers for what they start.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ids::PrincipalName;
use crate::limits;

/// Where a token comes from: what names its job, its person, and jobs that nobody started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// GitHub Actions.
    Github,
    /// GitLab CI/CD.
    Gitlab,
    Buildkite,
    Circleci,
    /// Service accounts of a Kubernetes cluster.
    Kubernetes,
    /// Any other issuer of OpenID Connect: every token is a job of its own.
    #[default]
    Oidc,
}

/// A platform whose API can be asked about its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobApiKind {
    Github,
    Gitlab,
    Buildkite,
    Circleci,
}

/// One rule of `Workload.trust`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustRule {
    #[serde(default)]
    pub platform: Platform,
    /// Exactly as the tokens' `iss`; its keys are found by OpenID Connect Discovery.
    pub issuer: String,
    /// The tokens' `aud`, which must be this alone.
    pub audience: String,
    /// Claims that a token must have, all of them. An issuer serves strangers too, so at least
    /// one is needed.
    #[serde(rename = "match")]
    pub claims: BTreeMap<String, OneOrMany>,
    /// The claim that names the person who answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sponsor_claim: Option<String>,
    /// The claim's value is an account of this name in `User.accounts`; without it the value is
    /// the name of a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sponsor_account: Option<String>,
    /// Where the issuer's keys are, for one without a configuration document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// Certificates that are trusted for the issuer, PEM; the system's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// One value, or several of which one is enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

struct OneOrManyVisitor;

impl<'de> serde::de::Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text, or a list of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<OneOrMany, E> {
        Ok(OneOrMany::One(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<OneOrMany, E> {
        Ok(OneOrMany::One(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<OneOrMany, E> {
        Ok(OneOrMany::One(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<OneOrMany, E> {
        Ok(OneOrMany::One(value.to_string()))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMany, A::Error> {
        let mut values: Vec<String> = Vec::new();
        while let Some(value) = items.next_element()? {
            values.push(value);
        }
        Ok(OneOrMany::Many(values))
    }
}

/// The claims of a token, as far as a rule looks at them.
pub type ClaimMap = Map<String, Value>;

/// A claim by its name, or by names with `/` between them where it stands inside others
/// (`kubernetes.io/namespace`).
fn claim<'c>(claims: &'c ClaimMap, name: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let mut names = name.split('/');
    let first = claims.get(names.next()?)?;
    names.try_fold(first, |value, name| value.get(name))
}

/// A claim's value as a text. Some platforms write numbers, others the same as texts.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A claim as a text; empty ones count as absent.
fn claim_text(claims: &ClaimMap, name: &str) -> Option<String> {
    claim(claims, name).and_then(text).filter(|text| !text.is_empty())
}

impl TrustRule {
    /// The first claim that does not match, when there is one.
    #[must_use]
    pub fn mismatch<'r>(&'r self, claims: &ClaimMap) -> Option<&'r str> {
        let is_matched = |(name, wanted): &(&'r String, &OneOrMany)| {
            let found: Vec<String> = match claim(claims, name) {
                Some(Value::Array(values)) => values.iter().filter_map(text).collect(),
                Some(value) => text(value).into_iter().collect(),
                None => Vec::new(),
            };
            found.iter().any(|value| wanted.as_slice().contains(value))
        };
        self.claims.iter().find(|rule| !is_matched(rule)).map(|(name, _)| name.as_str())
    }

    /// Whether the rule says how the person is found, or its platform does.
    #[must_use]
    pub fn names_person(&self) -> bool {
        self.sponsor_claim.is_some() || self.platform.person_claim().is_some()
    }

    /// How the person who answers is found, for a workload with or without a named sponsor: by
    /// the rule's own claim; without one by the named sponsor; without that by the platform's.
    #[must_use]
    pub fn person(&self, claims: &ClaimMap, named: Option<&PrincipalName>) -> PersonClue {
        let by_default = self.sponsor_claim.is_none();
        if (by_default && named.is_some()) || self.platform.is_unattended(claims) {
            return PersonClue::Named;
        }
        let (claim, account, value) = match &self.sponsor_claim {
            Some(claim) => {
                (claim.as_str(), self.sponsor_account.as_deref(), claim_text(claims, claim))
            }
            None => match self.platform.person_claim() {
                None => return PersonClue::Named,
                Some((claim, account)) => {
                    let account = self.sponsor_account.as_deref().or(account);
                    (claim, account, self.platform.person_value(claims))
                }
            },
        };
        match (value, account) {
            (None, _) => PersonClue::Missing { claim: claim.to_owned() },
            (Some(id), Some(account)) => PersonClue::Account { account: account.to_owned(), id },
            (Some(name), None) => PersonClue::Name(name),
        }
    }
}

/// What a token says of the person who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PersonClue {
    /// Nothing: the workload's named sponsor answers, and without one nobody.
    Named,
    /// The user with this name.
    Name(String),
    /// The user with this account.
    Account { account: String, id: String },
    /// It should, and does not.
    Missing { claim: String },
}

impl Platform {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Buildkite => "buildkite",
            Self::Circleci => "circleci",
            Self::Kubernetes => "kubernetes",
            Self::Oidc => "oidc",
        }
    }

    /// How it is asked about its jobs; None where it cannot be.
    #[must_use]
    pub fn job_api(self) -> Option<JobApiKind> {
        match self {
            Self::Github => Some(JobApiKind::Github),
            Self::Gitlab => Some(JobApiKind::Gitlab),
            Self::Buildkite => Some(JobApiKind::Buildkite),
            Self::Circleci => Some(JobApiKind::Circleci),
            Self::Kubernetes | Self::Oidc => None,
        }
    }

    /// The claim that names the person who started the job, and the account that it is.
    fn person_claim(self) -> Option<(&'static str, Option<&'static str>)> {
        match self {
            Self::Github => Some(("actor_id", Some("github"))),
            Self::Gitlab => Some(("user_email", None)),
            // Within `sub`: org/ORG/project/PROJECT/user/USER.
            Self::Circleci => Some(("sub", Some("circleci"))),
            Self::Buildkite | Self::Kubernetes | Self::Oidc => None,
        }
    }

    fn person_value(self, claims: &ClaimMap) -> Option<String> {
        match self {
            Self::Circleci => {
                let subject = claim_text(claims, "sub")?;
                let (_, user) = subject.split_once("/user/")?;
                let user = user.split('/').next()?;
                (!user.is_empty()).then(|| user.to_owned())
            }
            Self::Github | Self::Gitlab | Self::Buildkite | Self::Kubernetes | Self::Oidc => {
                let (claim, _) = self.person_claim()?;
                claim_text(claims, claim)
            }
        }
    }

    /// Whether a bot or a schedule started the job: then the person that the token names (who
    /// last changed the schedule, the bot's owner) did not.
    #[must_use]
    pub fn is_unattended(self, claims: &ClaimMap) -> bool {
        let is = |name: &str, value: &str| claim_text(claims, name).as_deref() == Some(value);
        match self {
            Self::Github => {
                let actor = claim_text(claims, "actor").unwrap_or_default();
                is("event_name", "schedule") || actor.ends_with("[bot]")
            }
            Self::Gitlab => {
                let login = claim_text(claims, "user_login").unwrap_or_default();
                let is_access_token = (login.starts_with("project_")
                    || login.starts_with("group_"))
                    && login.contains("_bot");
                is("pipeline_source", "schedule") || is_access_token
            }
            Self::Circleci => self.person_value(claims).as_deref() == Some(CIRCLECI_SYSTEM),
            Self::Buildkite => is("build_source", "schedule"),
            Self::Kubernetes | Self::Oidc => false,
        }
    }

    /// What names one job at its issuer, `token_id` standing for the token itself. None: the token
    /// lacks what its platform always writes.
    #[must_use]
    pub fn job_key(self, claims: &ClaimMap, token_id: &str) -> Option<String> {
        let all = |names: &[&str]| -> Option<String> {
            let values: Option<Vec<String>> =
                names.iter().map(|name| claim_text(claims, name)).collect();
            Some(values?.join("/"))
        };
        match self {
            Self::Github => {
                let run = all(&["run_id", "run_attempt"])?;
                // Which job of the attempt; without it (older servers) the workflow must do, so
                // that one attempt has one root for each workflow file.
                let job = claim_text(claims, "check_run_id")
                    .or_else(|| claim_text(claims, "job_workflow_ref"))
                    .or_else(|| claim_text(claims, "workflow_ref"))?;
                Some(format!("{run}/{job}"))
            }
            Self::Gitlab | Self::Buildkite => all(&["job_id"]),
            Self::Circleci => all(&["oidc.circleci.com/job-id"]),
            Self::Kubernetes => Some(
                all(&["kubernetes.io/pod/uid"])
                    .map_or_else(|| format!("token/{token_id}"), |pod| format!("pod/{pod}")),
            ),
            Self::Oidc => Some(format!("token/{token_id}")),
        }
        .filter(|key| key.len() <= limits::JOB_KEY_BYTES_MAX)
    }

    /// The claims that are kept of a job, for people to read.
    fn kept_claims(self) -> &'static [&'static str] {
        match self {
            Self::Github => &[
                "repository",
                "ref",
                "sha",
                "workflow_ref",
                "job_workflow_ref",
                "environment",
                "event_name",
                "actor",
                "actor_id",
                "run_id",
                "run_attempt",
                "check_run_id",
            ],
            Self::Gitlab => &[
                "project_path",
                "project_id",
                "ref",
                "ref_type",
                "sha",
                "environment",
                "pipeline_source",
                "pipeline_id",
                "job_id",
                "user_login",
                "user_email",
            ],
            Self::Buildkite => &[
                "organization_slug",
                "pipeline_slug",
                "build_number",
                "build_branch",
                "build_commit",
                "build_source",
                "step_key",
                "job_id",
                "agent_id",
            ],
            Self::Circleci => &[
                "oidc.circleci.com/project-id",
                "oidc.circleci.com/vcs-origin",
                "oidc.circleci.com/vcs-ref",
                "oidc.circleci.com/pipeline-id",
                "oidc.circleci.com/workflow-id",
                "oidc.circleci.com/job-id",
            ],
            Self::Kubernetes => &[
                "kubernetes.io/namespace",
                "kubernetes.io/serviceaccount/name",
                "kubernetes.io/pod/name",
                "kubernetes.io/pod/uid",
                "kubernetes.io/node/name",
            ],
            Self::Oidc => &[],
        }
    }
}

/// The user that CircleCI names for what no person started.
const CIRCLECI_SYSTEM: &str = "d9b3fcaa-6032-405a-8c75-40079ce33c3e";

/// The job that a root run comes from: what its issuer signed and the gateway verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub platform: Platform,
    pub issuer: String,
    /// Names the job at its issuer; there is one root run for it.
    pub key: String,
    /// What people want to know of it, `sub` and what the rule looked at among it.
    pub claims: BTreeMap<String, String>,
}

impl Job {
    /// What is kept of a verified token.
    #[must_use]
    pub fn of(rule: &TrustRule, key: String, claims: &ClaimMap) -> Self {
        let of_rule = rule.claims.keys().map(String::as_str).chain(rule.sponsor_claim.as_deref());
        let of_platform = rule.platform.kept_claims().iter().copied();
        let kept = std::iter::once("sub")
            .chain(of_platform)
            .chain(of_rule)
            .filter_map(|name| Some((name.to_owned(), shortened(&claim_text(claims, name)?))));
        Self {
            platform: rule.platform,
            issuer: rule.issuer.clone(),
            key,
            claims: kept.take(limits::JOB_CLAIMS_MAX).collect(),
        }
    }

    /// Whether all of these claims were in its token; without any it is not known, so no. A claim
    /// that may have been cut is another one's too, so it is nobody's.
    #[must_use]
    pub fn has(&self, claims: &BTreeMap<String, String>) -> bool {
        let is_own = |(name, value): (&String, &String)| {
            value.chars().count() < limits::JOB_CLAIM_CHARS_MAX
                && self.claims.get(name) == Some(value)
        };
        !claims.is_empty() && claims.iter().all(is_own)
    }
}

/// Short, and safe to show: a claim goes to terminals and tables.
fn shortened(text: &str) -> String {
    let shown = text.chars().map(|c| if c.is_control() { '?' } else { c });
    shown.take(limits::JOB_CLAIM_CHARS_MAX).collect()
}

/// What is wrong with a rule: key, text, help.
#[must_use]
pub(crate) fn faults(rule: &TrustRule) -> Vec<(&'static str, String, &'static str)> {
    let mut faults = Vec::new();
    if rule.issuer.is_empty() || rule.issuer.len() > limits::ISSUER_BYTES_MAX {
        faults.push(("issuer", "issuer is empty or too long".to_owned(), "write its https URL"));
    }
    if rule.audience.is_empty() {
        faults.push((
            "audience",
            "audience is empty".to_owned(),
            "choose a name for this gateway, and have jobs ask for tokens with it",
        ));
    }
    if rule.claims.is_empty() {
        faults.push((
            "match",
            "this rule trusts every token of its issuer".to_owned(),
            "match a claim, such as {repository: shop/reports}",
        ));
    }
    if rule.claims.len() > limits::TRUST_CLAIMS_MAX {
        faults.push(("match", "too many claims".to_owned(), ""));
    }
    for (name, values) in &rule.claims {
        let values = values.as_slice();
        if name.is_empty() || values.is_empty() || values.iter().any(String::is_empty) {
            faults.push(("match", format!("'{name}' is matched with nothing"), "write a value"));
        }
    }
    if rule.sponsor_account.is_some() && !rule.names_person() {
        faults.push((
            "sponsor_account",
            "sponsor_account without sponsor_claim".to_owned(),
            "name the claim whose value is the account",
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> ClaimMap {
        value.as_object().expect("an object").clone()
    }

    fn rule(platform: Platform) -> TrustRule {
        let matched = BTreeMap::from([("sub".to_owned(), OneOrMany::One("s".to_owned()))]);
        TrustRule {
            platform,
            issuer: "https://ci.example.com".to_owned(),
            audience: "corral".to_owned(),
            claims: matched,
            sponsor_claim: None,
            sponsor_account: None,
            jwks_uri: None,
            ca: None,
        }
    }

    #[test]
    fn every_claim_must_match_one_of_its_values() {
        let check = |wanted: Value, found: Value, is_matched: bool| {
            let wanted = serde_json::from_value(wanted).expect("values");
            let rule = TrustRule { claims: wanted, ..rule(Platform::Oidc) };
            assert_eq!(rule.mismatch(&claims(found.clone())).is_none(), is_matched, "{found}");
        };
        check(json!({"a": "x"}), json!({"a": "x"}), true);
        check(json!({"a": "x"}), json!({"a": "X"}), false);
        check(json!({"a": "x"}), json!({"a": "xx"}), false);
        check(json!({"a": "x"}), json!({}), false);
        check(json!({"a": ["x", "y"]}), json!({"a": "y"}), true);
        check(json!({"a": "x", "b": "y"}), json!({"a": "x"}), false);
        check(json!({"a": "x"}), json!({"a": ["w", "x"]}), true);
        check(json!({"a": "x"}), json!({"a": {"x": 1}}), false);
        check(json!({"a": "true"}), json!({"a": true}), true);
        check(json!({"a": "7"}), json!({"a": 7}), true);
        let nested = json!({"kubernetes.io": {"namespace": "ci", "pod": {"uid": "u"}}});
        check(json!({"kubernetes.io/namespace": "ci"}), nested.clone(), true);
        check(json!({"kubernetes.io/pod/uid": "u"}), nested, true);
        check(
            json!({"oidc.circleci.com/job-id": "j"}),
            json!({"oidc.circleci.com/job-id": "j"}),
            true,
        );
    }

    #[test]
    fn bots_and_schedules_have_no_person() {
        let check = |platform: Platform, found: Value, clue: PersonClue| {
            assert_eq!(rule(platform).person(&claims(found.clone()), None), clue, "{found}");
        };
        let account = |account: &str, id: &str| PersonClue::Account {
            account: account.to_owned(),
            id: id.to_owned(),
        };
        let github = |event: &str, actor: &str| json!({"event_name": event, "actor": actor, "actor_id": "583231"});
        check(Platform::Github, github("push", "octocat"), account("github", "583231"));
        check(Platform::Github, github("schedule", "octocat"), PersonClue::Named);
        check(Platform::Github, github("push", "dependabot[bot]"), PersonClue::Named);
        let missing = PersonClue::Missing { claim: "actor_id".to_owned() };
        check(Platform::Github, json!({"actor_id": ""}), missing);
        let gitlab = |source: &str, login: &str| json!({"pipeline_source": source, "user_login": login, "user_email": "a@x"});
        check(Platform::Gitlab, gitlab("push", "ada"), PersonClue::Name("a@x".to_owned()));
        check(Platform::Gitlab, gitlab("schedule", "ada"), PersonClue::Named);
        check(Platform::Gitlab, gitlab("push", "project_7_bot_1"), PersonClue::Named);
        let circleci = |user: &str| json!({"sub": format!("org/o/project/p/user/{user}")});
        check(Platform::Circleci, circleci("u1"), account("circleci", "u1"));
        check(Platform::Circleci, circleci(CIRCLECI_SYSTEM), PersonClue::Named);
        check(Platform::Circleci, json!({"sub": "x"}), PersonClue::Missing { claim: "sub".into() });
        check(Platform::Buildkite, json!({"job_id": "j"}), PersonClue::Named);
        check(
            Platform::Kubernetes,
            json!({"sub": "system:serviceaccount:ci:x"}),
            PersonClue::Named,
        );
        check(Platform::Oidc, json!({"sub": "x"}), PersonClue::Named);
    }

    #[test]
    fn a_named_sponsor_answers_unless_the_rule_names_a_claim() {
        let ada = PrincipalName::new("ada").expect("a name");
        let found = claims(json!({"actor_id": "7", "email": "eve"}));
        let plain = rule(Platform::Github);
        assert_eq!(plain.person(&found, Some(&ada)), PersonClue::Named);
        let own = TrustRule { sponsor_claim: Some("email".to_owned()), ..rule(Platform::Github) };
        assert_eq!(own.person(&found, Some(&ada)), PersonClue::Name("eve".to_owned()));
        let gone = TrustRule { sponsor_claim: Some("nick".to_owned()), ..rule(Platform::Github) };
        let missing = PersonClue::Missing { claim: "nick".to_owned() };
        assert_eq!(gone.person(&found, Some(&ada)), missing);
    }

    #[test]
    fn a_job_has_one_key_whatever_token_shows_it() {
        let check = |platform: Platform, found: Value, key: Option<&str>| {
            let found_key = platform.job_key(&claims(found.clone()), "t");
            assert_eq!(found_key.as_deref(), key, "{found}");
        };
        let mut github = json!({"run_id": "1", "run_attempt": "2", "job_workflow_ref": "w@main"});
        check(Platform::Github, github.clone(), Some("1/2/w@main"));
        github["check_run_id"] = json!("9");
        check(Platform::Github, github, Some("1/2/9"));
        check(Platform::Github, json!({"run_id": "1"}), None);
        check(Platform::Gitlab, json!({"job_id": 5}), Some("5"));
        check(Platform::Gitlab, json!({"job_id": ""}), None);
        check(Platform::Buildkite, json!({"job_id": "b"}), Some("b"));
        check(Platform::Circleci, json!({"oidc.circleci.com/job-id": "c"}), Some("c"));
        check(Platform::Circleci, json!({}), None);
        let pod = json!({"kubernetes.io": {"pod": {"uid": "u"}}});
        check(Platform::Kubernetes, pod, Some("pod/u"));
        check(Platform::Kubernetes, json!({}), Some("token/t"));
        check(Platform::Oidc, json!({}), Some("token/t"));
        let long = "x".repeat(limits::JOB_KEY_BYTES_MAX + 1);
        check(Platform::Gitlab, json!({"job_id": long}), None);
    }

    #[test]
    fn kept_claims_are_short_and_harmless() {
        let long = "x".repeat(10_000);
        let found = json!({"sub": "a\u{1b}[31mb", "repository": long, "other": "secret"});
        let job = Job::of(&rule(Platform::Github), "1".to_owned(), &claims(found));
        assert_eq!(job.claims.get("sub").map(String::as_str), Some("a?[31mb"));
        let repository = job.claims.get("repository").map(String::len);
        assert_eq!(repository, Some(limits::JOB_CLAIM_CHARS_MAX));
        assert!(!job.claims.contains_key("other"));
    }

    #[test]
    fn a_job_has_the_claims_that_are_wholly_its_own() {
        let long = "x".repeat(limits::JOB_CLAIM_CHARS_MAX);
        let found = json!({"sub": "s", "run_id": "1", "run_attempt": "2", "ref": long});
        let job = Job::of(&rule(Platform::Github), "1/2".to_owned(), &claims(found));
        let check = |wanted: Value, is_had: bool| {
            let wanted = serde_json::from_value(wanted).expect("claims");
            assert_eq!(job.has(&wanted), is_had, "{wanted:?}");
        };
        check(json!({"run_id": "1", "run_attempt": "2"}), true);
        check(json!({"run_id": "1", "run_attempt": "1"}), false);
        check(json!({"run_id": "1", "check_run_id": "9"}), false);
        check(json!({"run_id": "11"}), false);
        check(json!({"ref": long}), false);
        check(json!({}), false);
    }

    #[test]
    fn a_rule_without_a_match_trusts_strangers_and_is_refused() {
        assert!(faults(&rule(Platform::Github)).is_empty());
        let open = TrustRule { claims: BTreeMap::new(), ..rule(Platform::Github) };
        assert_eq!(faults(&open).len(), 1);
        let nothing = BTreeMap::from([("ref".to_owned(), OneOrMany::Many(Vec::new()))]);
        let empty = TrustRule { claims: nothing, ..rule(Platform::Github) };
        assert_eq!(faults(&empty).len(), 1);
    }
}
