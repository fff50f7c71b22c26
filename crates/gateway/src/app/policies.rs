//! Policies: checking a text, explaining a decision.

use corral_gate::Verdict;
use corral_model::Event;
use corral_model::ids::PolicyVersion;

use super::{App, AppError, Caller, Problem};

/// Why something was decided, and what the present policy would say.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The `statement.decided` (or `session.refused`) entry of the record.
    pub event: Event,
    /// The rules that determined it, with their reasons, as far as they still stand.
    pub rules: Vec<ExplainedRule>,
    pub version_now: PolicyVersion,
    /// The same facts asked again; None when the principal, run or target is gone.
    pub verdict_now: Option<Verdict>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedRule {
    pub id: String,
    /// `permit` or `forbid`.
    pub effect: String,
    pub reason: Option<String>,
    /// Name of the `Policy` that holds it.
    pub policy: Option<String>,
}

impl App {
    /// Checks Cedar texts (name, text) against the schema of this gateway's protocols, without
    /// storing them. An empty list means that they are right.
    ///
    /// # Errors
    /// [`AppError::Denied`] for a run.
    pub fn check_policies(
        &self,
        caller: &Caller,
        policies: &[(String, String)],
    ) -> Result<Vec<Problem>, AppError> {
        let _ = (caller, policies);
        todo!()
    }

    /// Explains the decision with this id, from the record.
    ///
    /// # Errors
    /// [`AppError::NotFound`], also when the caller may not see its session.
    pub async fn explain(
        &self,
        caller: &Caller,
        decision_id: &str,
    ) -> Result<Explanation, AppError> {
        let _ = (caller, decision_id);
        todo!()
    }

    /// The Cedar schema that policies are checked against, in Cedar's own syntax.
    #[must_use]
    pub fn policy_schema(&self) -> String {
        todo!()
    }
}
