//! A decision on its way into the record: borrowed from what was asked and answered, so that the
//! recorder can write its line without a copy of either.

use corral_model::Statement;
use corral_model::event::{EventBody, Outcome};
use corral_model::ids::ApprovalId;

use crate::decision::{Ruling, Verdict};
use crate::text::event_text;

/// What policy said of a statement.
#[derive(Debug, Clone, Copy)]
pub struct Decided<'a> {
    pub statement: &'a Statement,
    pub ruling: &'a Ruling,
    /// The approval that this ruling rests on.
    pub approval: Option<&'a ApprovalId>,
}

impl<'a> Decided<'a> {
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match &self.ruling.verdict {
            Verdict::Allow => Outcome::Allow,
            Verdict::Deny(_) => Outcome::Deny,
            Verdict::Hold(_) => Outcome::Hold,
        }
    }

    /// Why it is not simply allowed.
    #[must_use]
    pub fn reason(&self) -> Option<&'a str> {
        match &self.ruling.verdict {
            Verdict::Allow => None,
            Verdict::Deny(denial) => Some(&denial.client_text),
            Verdict::Hold(terms) => terms.first().map(|term| term.reason.as_str()),
        }
    }

    /// The event that says it.
    #[must_use]
    pub fn event(&self) -> EventBody {
        let Self { statement, ruling, approval } = self;
        let facts = &statement.facts;
        EventBody::StatementDecided {
            decision: ruling.decision_id.clone(),
            statement: event_text(&statement.text),
            seq_in_session: statement.seq,
            verbs: facts.verbs.iter().map(|verb| verb.name.to_owned()).collect(),
            effects: facts.effects,
            objects: facts.objects.clone(),
            functions: facts.functions.clone(),
            parameters: statement.parameters.to_vec(),
            outcome: self.outcome(),
            rules: ruling.rules.to_vec(),
            reason: self.reason().map(str::to_owned),
            policy_version: ruling.policy_version,
            in_transaction: statement.in_transaction,
            approval: approval.cloned(),
            traceparent: statement.traceparent.clone(),
            attributes: facts
                .attributes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        }
    }
}
