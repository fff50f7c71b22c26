//! The webhook by which a workload's CI system says that jobs have ended.

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
        let first = || self.trust.first().map(|rule| rule.issuer.as_str());
        webhook.issuer.as_deref().or_else(first)
    }
}

/// What is wrong with a workload's webhook: key, text, help.
pub(super) fn faults(spec: &WorkloadSpec) -> Vec<(&'static str, String, &'static str)> {
    let Some(webhook) = &spec.webhook else { return Vec::new() };
    let mut faults = Vec::new();
    let issuer = spec.webhook_issuer();
    let is_other = |rule: &super::TrustRule| Some(rule.issuer.as_str()) != issuer;
    let help = "name one of trust's issuers: an event ends the jobs of one issuer only";
    if spec.trust.iter().all(is_other) {
        let text = "the webhook speaks of an issuer whose tokens start nothing here";
        faults.push(("webhook.issuer", text.to_owned(), help));
    } else if webhook.issuer.is_none() && spec.trust.iter().any(is_other) {
        let text = "trust has several issuers, and the webhook names none of them";
        faults.push(("webhook.issuer", text.to_owned(), help));
    }
    faults
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
