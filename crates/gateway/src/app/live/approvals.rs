//! Statements that wait for people, and what binds each approval to its statement.

use std::collections::HashMap;
use std::sync::Arc;

use corral_gate::HoldTerm;
use corral_model::Statement;
use corral_model::ids::{ApprovalId, PrincipalName, SessionId};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::sessions::LiveSession;
use crate::app::config::hex;

/// What an approval is for: nothing else may run by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binding([u8; 32]);

impl Binding {
    /// `meaning` is the digest of the policies and the target at this moment.
    pub(crate) fn of(statement: &Statement, session: &LiveSession, meaning: &str) -> Self {
        let mut digest = Sha256::new();
        let mut add = |part: &[u8]| {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        };
        add(session.id.as_str().as_bytes());
        add(session.run.as_ref().map_or("", |run| run.id().as_str()).as_bytes());
        add(session.target.as_str().as_bytes());
        add(meaning.as_bytes());
        add(statement.text.as_bytes());
        add(statement.state_digest.as_bytes());
        add(&statement.seq.0.to_be_bytes());
        add(&[u8::from(statement.in_transaction)]);
        add(&statement.facts.statement_count.to_be_bytes());
        for parameter in statement.parameters.iter() {
            add(parameter.format.as_bytes());
            add(parameter.type_name.as_deref().unwrap_or("\0").as_bytes());
            add(&[u8::from(parameter.value.is_some())]);
            add(parameter.value.as_deref().unwrap_or("").as_bytes());
        }
        Self(digest.finalize().into())
    }

    pub(crate) fn to_hex(&self) -> String {
        hex(&self.0)
    }
}

/// One waiting statement. Who answered what is in the store.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) id: ApprovalId,
    pub(crate) terms: Vec<HoldTerm>,
    pub(crate) binding: Binding,
    pub(crate) session: Arc<LiveSession>,
    pub(crate) deadline: Instant,
    /// Set once every term is satisfied; then it can be used, once.
    pub(crate) approvers: Option<Vec<PrincipalName>>,
}

/// All approvals that are pending, or approved and not used yet.
#[derive(Debug, Default)]
pub(crate) struct ApprovalDesk {
    waiting: HashMap<ApprovalId, Waiting>,
}

impl ApprovalDesk {
    pub(crate) fn file(&mut self, waiting: Waiting) {
        self.waiting.insert(waiting.id.clone(), waiting);
    }

    pub(crate) fn get(&self, id: &ApprovalId) -> Option<Waiting> {
        self.waiting.get(id).cloned()
    }

    pub(crate) fn pending(&self) -> usize {
        self.waiting.values().filter(|waiting| waiting.approvers.is_none()).count()
    }

    /// Every term is satisfied. None when nobody waits for it any more.
    pub(crate) fn approve(
        &mut self,
        id: &ApprovalId,
        approvers: Vec<PrincipalName>,
    ) -> Option<Waiting> {
        let waiting = self.waiting.get_mut(id)?;
        waiting.approvers = Some(approvers);
        Some(waiting.clone())
    }

    /// Takes an approved one out: it can be used once. None when it is not approved.
    pub(crate) fn take_approved(&mut self, id: &ApprovalId) -> Option<Waiting> {
        let is_approved = self.waiting.get(id).is_some_and(|waiting| waiting.approvers.is_some());
        if is_approved { self.waiting.remove(id) } else { None }
    }

    /// Takes one out: it was denied, or nobody waits for it any more.
    pub(crate) fn remove(&mut self, id: &ApprovalId) -> Option<Waiting> {
        self.waiting.remove(id)
    }

    pub(crate) fn of_session(&self, session: &SessionId) -> Vec<ApprovalId> {
        let of_session = |waiting: &&Waiting| waiting.session.id == *session;
        self.waiting.values().filter(of_session).map(|waiting| waiting.id.clone()).collect()
    }

    /// Takes out everything whose wait is over.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Waiting> {
        let is_over = |waiting: &&Waiting| waiting.deadline <= now && waiting.approvers.is_none();
        let over: Vec<ApprovalId> =
            self.waiting.values().filter(is_over).map(|waiting| waiting.id.clone()).collect();
        over.iter().filter_map(|id| self.waiting.remove(id)).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let pending = self.waiting.values().filter(|waiting| waiting.approvers.is_none());
        pending.map(|waiting| waiting.deadline).min()
    }
}

impl Waiting {
    /// Whether `terms`, asked for again, hold nothing that was not approved.
    pub(crate) fn covers(&self, terms: &[HoldTerm]) -> bool {
        terms.iter().all(|term| {
            self.terms.iter().any(|approved| {
                approved.rule == term.rule
                    && approved.group == term.group
                    && approved.quorum >= term.quorum
            })
        })
    }
}
