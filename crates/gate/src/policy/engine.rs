//! The compiled policies of one configuration, and the question that they answer.

use corral_model::event::Outcome;
use corral_model::ids::PolicyVersion;
use corral_model::resource::{ColumnName, TargetSpec};
use corral_model::statement::Facts;
use serde::Serialize;

use crate::decision::{Denial, DenialKind, Ruling, Verdict};
use crate::policy::problem::PolicyProblem;
use crate::policy::subject::{Context, PolicySource, ProtocolVerbs, Subject, TargetFacts};

/// The compiled policies of one configuration. Immutable; shared as an `Arc`.
#[derive(Debug)]
pub struct Engine {
    version: PolicyVersion,
    warnings: Vec<PolicyProblem>,
}

impl Engine {
    /// Compiles and checks all policies of a configuration.
    ///
    /// # Errors
    /// Every problem that was found, warnings included, when one of them is an error. Whoever
    /// wrote the policies is to blame.
    pub fn compile(
        version: PolicyVersion,
        sources: &[PolicySource],
        protocols: &[ProtocolVerbs],
        targets: &[TargetSpec],
    ) -> Result<Self, Vec<PolicyProblem>> {
        let _ = (sources, protocols, targets);
        Ok(Self { version, warnings: Vec::new() })
    }

    #[must_use]
    pub fn version(&self) -> PolicyVersion {
        self.version
    }

    /// What compiled, but probably does not do what its author wants: a target that does not
    /// exist, a rule that can never apply.
    #[must_use]
    pub fn warnings(&self) -> &[PolicyProblem] {
        &self.warnings
    }

    /// What policy says of a statement: for the acting run, for each of its ancestors and for the
    /// principal, together.
    #[must_use]
    pub fn rule(
        &self,
        subject: &Subject,
        target: &TargetFacts,
        facts: &Facts,
        context: &Context,
        decision_id: String,
    ) -> Ruling {
        let _ = (subject, target, facts, context);
        self.refuse(decision_id)
    }

    /// Whether a session may be opened. A connection cannot wait: what would be held is denied.
    #[must_use]
    pub fn may_connect(
        &self,
        subject: &Subject,
        target: &TargetFacts,
        context: &Context,
        decision_id: String,
    ) -> Ruling {
        let _ = (subject, target, context);
        self.refuse(decision_id)
    }

    /// Whether a masked column may be read raw.
    #[must_use]
    pub fn may_unmask(
        &self,
        subject: &Subject,
        target: &TargetFacts,
        column: &ColumnName,
        context: &Context,
    ) -> bool {
        let _ = (subject, target, column, context);
        false
    }

    /// Every rule that applies to a statement, for each node of the chain.
    #[must_use]
    pub fn explain(
        &self,
        subject: &Subject,
        target: &TargetFacts,
        facts: &Facts,
        context: &Context,
    ) -> Explanation {
        let _ = (subject, target, facts, context);
        Explanation { outcome: Outcome::Deny, text: String::new(), steps: Vec::new() }
    }

    fn refuse(&self, decision_id: String) -> Ruling {
        let mut denial = Denial::new(DenialKind::Forbidden, "no policy permits this");
        denial.decision_id = Some(decision_id.clone());
        Ruling {
            decision_id,
            verdict: Verdict::Deny(denial),
            rules: Vec::new(),
            policy_version: self.version,
        }
    }
}

/// Why a statement was decided as it was, for `corral policy explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub outcome: Outcome,
    /// What the client reads; empty when it is allowed.
    pub text: String,
    /// What was asked, one question for each node of the chain, action and resource.
    pub steps: Vec<ExplainedStep>,
}

/// One question to the policies and the rules that apply to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedStep {
    /// `run executor-3`, `user ada@example.com`.
    pub node: String,
    pub action: String,
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

/// Checks policies offline: syntax, schema, annotations. Without targets, so that targets that do
/// not exist are not found. Sorted by source and place; empty when all is well.
#[must_use]
pub fn check_sources(sources: &[PolicySource], protocols: &[ProtocolVerbs]) -> Vec<PolicyProblem> {
    match Engine::compile(PolicyVersion::default(), sources, protocols, &[]) {
        Ok(engine) => engine.warnings,
        Err(problems) => problems,
    }
}
