//! The webhook by which a workload's CI system says that jobs have ended, and whose jobs those
//! are.

use serde::{Deserialize, Serialize};

use super::{SecretSource, WorkloadSpec};

/// `Workload.webhook`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSpec {
    /// What deliveries are signed with, or GitLab's secret token. Kept when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretSource>,
    /// Whose jobs it speaks of, as in `trust`; the only issuer there when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

impl WorkloadSpec {
    /// The issuer whose jobs this workload's webhook may end; None without a webhook.
    #[must_use]
    pub fn webhook_issuer(&self) -> Option<&str> {
        let webhook = self.webhook.as_ref()?;
        self.issuer_or_first(webhook.issuer.as_deref())
    }

    pub(super) fn issuer_or_first<'s>(&'s self, named: Option<&'s str>) -> Option<&'s str> {
        named.or_else(|| self.trust.first().map(|rule| rule.issuer.as_str()))
    }

    /// What is wrong with the issuer whose jobs `what` is about: key, text, help.
    pub(super) fn faults_of_issuer(
        &self,
        what: &str,
        key: &'static str,
        named: Option<&str>,
    ) -> Vec<(&'static str, String, &'static str)> {
        let issuer = self.issuer_or_first(named);
        let is_other = |rule: &super::TrustRule| Some(rule.issuer.as_str()) != issuer;
        let text = if self.trust.iter().all(is_other) {
            format!("the {what} is about an issuer whose tokens start nothing here")
        } else if named.is_none() && self.trust.iter().any(is_other) {
            format!("trust has several issuers, and the {what} names none of them")
        } else {
            return Vec::new();
        };
        vec![(key, text, "name one of trust's issuers: only its jobs are ended")]
    }
}

/// What is wrong with a workload's webhook: key, text, help.
pub(super) fn faults(spec: &WorkloadSpec) -> Vec<(&'static str, String, &'static str)> {
    let Some(webhook) = &spec.webhook else { return Vec::new() };
    spec.faults_of_issuer("webhook", "webhook.issuer", webhook.issuer.as_deref())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_webhook_speaks_of_one_issuer_that_is_trusted() {
        let check = |issuers: &[&str], webhook: Value, issuer: Option<&str>, count: usize| {
            let rule =
                |issuer: &&str| json!({"issuer": issuer, "audience": "a", "match": {"b": "c"}});
            let trust: Vec<Value> = issuers.iter().map(rule).collect();
            let mut spec = json!({"name": "ci", "trust": trust});
            if !webhook.is_null() {
                spec["webhook"] = webhook.clone();
            }
            let spec: WorkloadSpec = serde_json::from_value(spec).expect("a workload");
            let found: Vec<&str> = faults(&spec).iter().map(|(key, _, _)| *key).collect();
            assert_eq!(found.len(), count, "{webhook}: {found:?}");
            if count == 0 {
                assert_eq!(spec.webhook_issuer(), issuer, "{webhook}");
            }
        };
        let (one, other) = ("https://one.example", "https://other.example");
        check(&[one], Value::Null, None, 0);
        check(&[one], json!({}), Some(one), 0);
        check(&[one, one], json!({"secret": {"env": "X"}}), Some(one), 0);
        check(&[one, other], json!({"issuer": other}), Some(other), 0);
        check(&[one, other], json!({}), None, 1);
        check(&[one], json!({"issuer": other}), None, 1);
        check(&[], json!({}), None, 1);
        check(&[], json!({"issuer": one}), None, 1);
    }
}
