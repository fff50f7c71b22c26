//! Answers to many questions become one verdict: any denial denies, any hold holds, and what an
//! ancestor may not do, a run may not do.

use std::sync::Arc;

use std::collections::BTreeSet;

use crate::decision::{Denial, DenialKind, HoldTerm, Verdict};
use crate::policy::rules::{POLICY_ERROR, Rule, RuleEffect};

/// The rules that apply to one question.
#[derive(Debug, Default)]
pub(crate) struct Answer<'a> {
    pub(crate) permits: Vec<&'a Rule>,
    pub(crate) forbids: Vec<&'a Rule>,
    /// Rules that could not be evaluated, and why.
    pub(crate) errors: Vec<(Option<&'a Rule>, String)>,
}

/// What one question came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Allow,
    Hold,
    NoPermit,
    Forbid,
    Error,
}

impl<'a> Answer<'a> {
    pub(crate) fn outcome(&self, needs_permit: bool) -> Outcome {
        let is_plain = |rule: &&&'a Rule| rule.effect == RuleEffect::Forbid;
        if !self.errors.is_empty() {
            Outcome::Error
        } else if self.forbids.iter().any(|rule| is_plain(&rule)) {
            Outcome::Forbid
        } else if needs_permit && self.permits.is_empty() {
            Outcome::NoPermit
        } else if self.forbids.is_empty() {
            Outcome::Allow
        } else {
            Outcome::Hold
        }
    }
}

/// A verdict before it has a decision's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    pub(crate) rules: Arc<[String]>,
    /// Some rule that was asked reads the time: true for this moment only.
    pub(crate) is_of_the_moment: bool,
}

/// Collects answers.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    permits: BTreeSet<String>,
    plain: BTreeSet<String>,
    reasons: Vec<String>,
    forbidden: Option<String>,
    not_permitted: Option<String>,
    terms: Vec<HoldTerm>,
    error: Option<String>,
}

impl Collector {
    pub(crate) fn error(&mut self, internal: String) {
        self.error.get_or_insert(internal);
    }

    /// `not_permitted` and `forbidden` word the first refusal of each kind.
    pub(crate) fn add(
        &mut self,
        answer: &Answer<'_>,
        needs_permit: bool,
        not_permitted: impl FnOnce() -> String,
        forbidden: impl FnOnce() -> String,
    ) {
        match answer.outcome(needs_permit) {
            Outcome::Error => {
                let details = answer.errors.iter().map(|(_, error)| error.as_str());
                self.error(details.collect::<Vec<_>>().join("; "));
            }
            Outcome::Forbid => self.forbid(answer, forbidden),
            Outcome::NoPermit => {
                self.not_permitted.get_or_insert_with(not_permitted);
            }
            Outcome::Hold => {
                for term in answer.forbids.iter().filter_map(|rule| rule.hold_term()) {
                    if !self.terms.contains(&term) {
                        self.terms.push(term);
                    }
                }
            }
            Outcome::Allow if needs_permit => {
                self.permits.extend(answer.permits.iter().map(|rule| rule.name.clone()));
            }
            Outcome::Allow => {}
        }
    }

    fn forbid(&mut self, answer: &Answer<'_>, forbidden: impl FnOnce() -> String) {
        let plain = answer.forbids.iter().filter(|rule| rule.effect == RuleEffect::Forbid);
        for rule in plain {
            self.plain.insert(rule.name.clone());
            if let Some(reason) = &rule.reason
                && !self.reasons.contains(reason)
            {
                self.reasons.push(reason.clone());
            }
        }
        self.forbidden.get_or_insert_with(forbidden);
    }

    pub(crate) fn judge(mut self, is_of_the_moment: bool) -> Judged {
        let (verdict, rules) = if let Some(internal) = self.error {
            let text = "a policy could not be evaluated, so nothing is permitted";
            deny(vec![POLICY_ERROR.to_owned()], text.to_owned(), Some(internal))
        } else if let Some(forbidden) = self.forbidden {
            self.reasons.sort();
            let text = if self.reasons.is_empty() { forbidden } else { self.reasons.join(" ") };
            deny(self.plain.into_iter().collect(), text, None)
        } else if let Some(not_permitted) = self.not_permitted {
            deny(Vec::new(), not_permitted, None)
        } else if self.terms.is_empty() {
            (Verdict::Allow, self.permits.into_iter().collect())
        } else {
            self.terms.sort_by(|a, b| a.rule.cmp(&b.rule));
            let rules = self.terms.iter().map(|term| term.rule.clone()).collect();
            (Verdict::Hold(self.terms), rules)
        };
        Judged { verdict, rules: rules.into(), is_of_the_moment }
    }
}

fn deny(rules: Vec<String>, text: String, internal: Option<String>) -> (Verdict, Vec<String>) {
    let mut denial = Denial::new(DenialKind::Forbidden, text);
    denial.rules.clone_from(&rules);
    denial.internal = internal;
    (Verdict::Deny(denial), rules)
}
