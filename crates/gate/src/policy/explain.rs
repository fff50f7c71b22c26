//! Why a statement was decided as it was: every question that was asked, and every rule that
//! applies to it, for `corral policy explain`.

use corral_model::event::Outcome;
use corral_model::statement::Facts;
use serde::Serialize;

use crate::decision::Verdict;
use crate::policy::engine::{Asked, Engine};
use crate::policy::requirement::{Need, Requirement, Resource};
use crate::policy::rules::{Rule, RuleEffect};
use crate::policy::schema;
use crate::policy::subject::{Context, Subject, TargetFacts};
use crate::policy::verdict::{self, Answer};

/// Why a statement was decided as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub outcome: Outcome,
    /// What the client reads; empty when it is allowed.
    pub text: String,
    /// One question for each action, resource and node of the chain; none when no policy was
    /// asked.
    pub steps: Vec<ExplainedStep>,
}

/// One question to the policies and the rules that apply to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedStep {
    /// `run executor-3 (r-17)`, `user ada@example.com`.
    pub node: String,
    pub action: String,
    /// `target orders-db`, `public.customers`.
    pub resource: String,
    pub outcome: Outcome,
    pub rules: Vec<ExplainedRule>,
}

/// A rule that applies to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedRule {
    pub rule: String,
    /// The source that it is in, and its line there.
    pub source: String,
    pub line: u32,
    /// `permit`, `forbid`, `approval` or `error`.
    pub effect: String,
    /// The rule's `@reason`, or the error.
    pub reason: Option<String>,
}

impl Engine {
    /// Every rule that applies to a statement, for each node of the chain. For people who may
    /// read policies: it names rules and what they hang on.
    #[must_use]
    pub fn explain(
        &self,
        subject: &Subject,
        target: &TargetFacts,
        facts: &Facts,
        context: &Context,
    ) -> Explanation {
        let judged = self.judge(subject, target, facts, context);
        let needed = self.needed(target, facts);
        let asked = Asked { subject, target, facts, context };
        let (outcome, text) = match &judged.verdict {
            Verdict::Allow => (Outcome::Allow, String::new()),
            Verdict::Deny(denial) => {
                let internal = denial.internal.as_ref().map(|internal| format!(" ({internal})"));
                let text = format!("{}{}", denial.client_text, internal.unwrap_or_default());
                (Outcome::Deny, text)
            }
            Verdict::Hold(terms) => {
                let reasons: Vec<&str> = terms.iter().map(|term| term.reason.as_str()).collect();
                (Outcome::Hold, reasons.join(" "))
            }
        };
        let was_asked = facts.obstacle.is_none()
            && !asked.is_too_much(&needed)
            && self.within_grants(&subject.runs, facts).is_ok();
        let steps =
            if was_asked { self.with_stack(|| self.steps(&asked, &needed)) } else { Vec::new() };
        Explanation { outcome, text, steps }
    }

    fn steps(&self, asked: &Asked<'_>, needed: &[Requirement<'_>]) -> Vec<ExplainedStep> {
        // What cannot be asked is in the explanation's text.
        let Ok(question) = self.question(asked, needed) else { return Vec::new() };
        let mut steps = Vec::new();
        for node in &question.nodes {
            for requirement in needed {
                let Ok(answer) = self.ask(&question, node, requirement, asked) else { continue };
                steps.push(ExplainedStep {
                    node: node.label.clone(),
                    action: requirement.action.to_owned(),
                    resource: resource_label(asked.target, requirement.resource),
                    outcome: match answer.outcome(requirement.need == Need::Permit) {
                        verdict::Outcome::Allow => Outcome::Allow,
                        verdict::Outcome::Hold => Outcome::Hold,
                        verdict::Outcome::NoPermit
                        | verdict::Outcome::Forbid
                        | verdict::Outcome::Error => Outcome::Deny,
                    },
                    rules: explained_rules(&answer),
                });
            }
        }
        steps
    }
}

fn explained_rules(answer: &Answer<'_>) -> Vec<ExplainedRule> {
    let explain = |rule: &Rule| ExplainedRule {
        rule: rule.name.clone(),
        source: rule.source.to_string(),
        line: rule.line,
        effect: match rule.effect {
            RuleEffect::Permit => "permit".to_owned(),
            RuleEffect::Forbid => "forbid".to_owned(),
            RuleEffect::Approval { .. } => "approval".to_owned(),
        },
        reason: rule.reason.clone(),
    };
    let errors = answer.errors.iter().map(|(rule, error)| ExplainedRule {
        effect: "error".to_owned(),
        reason: Some(error.clone()),
        ..rule.map_or_else(unnamed, explain)
    });
    let matching = answer.forbids.iter().chain(&answer.permits).map(|rule| explain(rule));
    errors.chain(matching).collect()
}

fn unnamed() -> ExplainedRule {
    ExplainedRule {
        rule: String::new(),
        source: String::new(),
        line: 0,
        effect: String::new(),
        reason: None,
    }
}

fn resource_label(target: &TargetFacts, resource: Resource<'_>) -> String {
    match resource {
        Resource::Target => format!("target {}", target.name),
        Resource::Schema(schema) => format!("schema {}", schema::dotted(&[schema])),
        Resource::Table { schema, name, .. } => schema::dotted(&[schema, name]),
        Resource::Column { schema, table, name } => schema::dotted(&[schema, table, name]),
        Resource::Namespace(name) => format!("namespace {name}"),
        Resource::Path(path) => path.to_owned(),
        Resource::Command(name) => format!("command {name}"),
    }
}
