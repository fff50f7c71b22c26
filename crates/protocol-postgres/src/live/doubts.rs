//! Whether the target still has, under the protocol's names, what came by Parse and Bind. Code that
//! nobody knows can drop a statement and PREPARE another one of its name, or a portal and open a
//! cursor in its place.
//!
//! The target knows which statements are SQL's, and is asked before the next Bind of a named one.
//! A portal that may be another one is decided as `unknown`.

use corral_model::Effect;

use crate::analysis::Analysis;

/// What cannot be relied on since unknown code was sent.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// Named statements may be SQL's.
    has_statements: bool,
    /// Named portals up to the one of this number may be other ones.
    portals: u64,
    /// Such code may run on until the target is outside any transaction after this epoch: in a
    /// cursor, or in a trigger at the commit.
    distrusted: Option<u64>,
}

impl Doubts {
    /// A text was sent, before the Sync of this number and after the Bind of that one.
    pub(crate) fn sent(&mut self, analysis: &Analysis, epoch: u64, bound: u64) {
        if analysis.facts.effects.contains(Effect::Unknown) {
            self.distrusted = Some(epoch);
            self.raise(bound);
        } else if analysis.resolves_late {
            // FETCH, SET CONSTRAINTS, COMMIT.
            self.may_run_on(bound);
        }
    }

    /// Something was sent that may let such code go on.
    pub(crate) fn may_run_on(&mut self, bound: u64) {
        if self.distrusted.is_some() {
            self.raise(bound);
        }
    }

    fn raise(&mut self, bound: u64) {
        self.has_statements = true;
        self.portals = bound;
    }

    /// Whether the target has to be asked which statements are SQL's.
    pub(crate) fn has_statements(&self) -> bool {
        self.has_statements
    }

    /// It was asked, and all that it was sent before is done by the time that it answers.
    pub(crate) fn asked(&mut self) {
        self.has_statements = false;
    }

    /// It did not answer.
    pub(crate) fn failed(&mut self) {
        self.has_statements = true;
    }

    /// Whether the portal of this name and number may be another one. SQL cannot name the unnamed.
    pub(crate) fn is_doubtful(&self, portal: &str, number: u64) -> bool {
        number <= self.portals && !portal.is_empty()
    }

    /// The target is outside any transaction, after the Sync of this number.
    pub(crate) fn transaction_ended(&mut self, epoch: u64) {
        self.distrusted = self.distrusted.filter(|distrusted| *distrusted > epoch);
    }
}
