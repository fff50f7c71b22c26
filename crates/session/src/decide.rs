//! Asks for rulings, has them recorded, and makes decisions of them.

use corral_gate::decision::{Decision, Denial, DenialKind, Held, Receipt, Ruling, Verdict};
use corral_gate::{Decided, TapError};
use corral_model::Statement;
use corral_model::event::{ApprovalState, EventBody};
use corral_model::ids::{ApprovalId, StatementSeq};
use corral_model::limits;
use time::OffsetDateTime;

use crate::handle::Foreseen;
use crate::scope::{Resolution, Scope};

/// A statement that waits for people.
struct HeldStatement {
    held: Held,
    statement: Statement,
    decision_id: String,
}

const RECORD_UNAVAILABLE: &str = "the record cannot be written; the statement was not run";

/// A session's scope, and the statements that wait for people. The only place where decisions
/// are made.
pub(crate) struct Decider {
    pub(crate) scope: Box<dyn Scope>,
    held: Vec<HeldStatement>,
}

impl Decider {
    pub(crate) fn new(scope: Box<dyn Scope>) -> Self {
        Self { scope, held: Vec::new() }
    }

    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Would this statement be denied? Only a denial is recorded: nothing runs yet.
    ///
    /// # Errors
    /// The [`Denial`].
    pub(crate) fn check(&mut self, statement: &Statement) -> Result<Foreseen, Denial> {
        let ruling = self.scope.check(statement);
        match &ruling.verdict {
            Verdict::Allow => Ok(Foreseen::Allowed),
            Verdict::Hold(_) => Ok(Foreseen::Held),
            Verdict::Deny(denial) => {
                let denial =
                    Denial { decision_id: Some(ruling.decision_id.clone()), ..denial.clone() };
                let decided = Decided { statement, ruling: &ruling, approval: None };
                match self.scope.tap().append_decided(OffsetDateTime::now_utc(), &decided) {
                    Ok(_) => Err(denial),
                    Err(error) => Err(unrecorded(&error)),
                }
            }
        }
    }

    /// Decides a statement: ruling, record, and only then a permit.
    pub(crate) async fn decide(&mut self, statement: Box<Statement>) -> Decision {
        let ruling = self.scope.rule(&statement);
        let decided = Decided { statement: &statement, ruling: &ruling, approval: None };
        let receipt = match self.append_decided(&decided).await {
            Ok(receipt) => receipt,
            Err(error) => return Decision::Deny(unrecorded(&error)),
        };
        match &ruling.verdict {
            Verdict::Allow | Verdict::Deny(_) => Decision::of(statement.seq, ruling, receipt),
            // In a box: a session's task has room for all that is awaited in it.
            Verdict::Hold(_) => Box::pin(self.hold(*statement, ruling, receipt)).await,
        }
    }

    /// People decided a held statement, or its wait ended. None when nothing waits for this
    /// approval any more.
    pub(crate) async fn resolve(
        &mut self,
        approval: &ApprovalId,
        resolution: Resolution,
    ) -> Option<(StatementSeq, Decision)> {
        let index = self.held.iter().position(|waiting| waiting.held.approval == *approval)?;
        let waiting = self.held.swap_remove(index);
        let seq = waiting.held.seq;
        Some((seq, self.decide_resolved(waiting, resolution).await))
    }

    /// The client no longer waits.
    ///
    /// # Errors
    /// [`TapError`] when that cannot be recorded: the session must end.
    pub(crate) fn withdraw(&mut self, seq: StatementSeq) -> Result<(), TapError> {
        let index = self.held.iter().position(|waiting| waiting.held.seq == seq);
        let Some(waiting) = index.map(|index| self.held.swap_remove(index)) else { return Ok(()) };
        let body = approval_decided(
            &waiting,
            ApprovalState::Withdrawn,
            Vec::new(),
            "the client cancelled or left".to_owned(),
        );
        self.scope.withdraw(&waiting.held.approval, seq);
        self.note(body)
    }

    /// Records something that happened.
    ///
    /// # Errors
    /// [`TapError`] when no more can be kept: the session must end.
    pub(crate) fn note(&mut self, body: EventBody) -> Result<(), TapError> {
        self.scope.tap().note(OffsetDateTime::now_utc(), body)
    }

    /// Records something before anything depends on it, and waits for the group sync where the
    /// target asks for it.
    ///
    /// # Errors
    /// [`TapError`]: then nothing may act on it.
    pub(crate) async fn append_durably(&mut self, body: EventBody) -> Result<Receipt, TapError> {
        let receipt = self.append(body)?;
        self.make_durable().await?;
        Ok(receipt)
    }

    async fn append_decided(&mut self, decided: &Decided<'_>) -> Result<Receipt, TapError> {
        let receipt = self.scope.tap().append_decided(OffsetDateTime::now_utc(), decided)?;
        self.make_durable().await?;
        Ok(receipt)
    }

    /// Waits for the group sync where the target asks for it.
    async fn make_durable(&mut self) -> Result<(), TapError> {
        if self.scope.tap().needs_sync() {
            self.scope.sync().await?;
        }
        Ok(())
    }

    fn append(&mut self, body: EventBody) -> Result<Receipt, TapError> {
        self.scope.tap().append(OffsetDateTime::now_utc(), body)
    }

    async fn hold(&mut self, statement: Statement, ruling: Ruling, receipt: Receipt) -> Decision {
        if self.held.len() >= limits::SESSION_HOLDS_MAX {
            let text = "too many statements of this session wait for approval";
            let denial = Denial::new(DenialKind::Forbidden, text);
            return Decision::Deny(Denial { decision_id: Some(ruling.decision_id), ..denial });
        }
        let (approval, notice) = match self.scope.hold(&statement, &ruling).await {
            Ok(filed) => filed,
            Err(denial) => {
                return Decision::Deny(Denial { decision_id: Some(ruling.decision_id), ..denial });
            }
        };
        let (groups, wait) = terms(&ruling.verdict);
        let body = EventBody::ApprovalRequested {
            approval: approval.clone(),
            decision: ruling.decision_id.clone(),
            groups,
            expires_at: OffsetDateTime::now_utc() + wait,
        };
        if let Err(error) = self.append_durably(body).await {
            self.scope.withdraw(&approval, statement.seq);
            return Decision::Deny(unrecorded(&error));
        }
        let (held, decision) = Decision::hold(statement.seq, approval, notice, receipt);
        self.held.push(HeldStatement { held, statement, decision_id: ruling.decision_id });
        decision
    }

    async fn decide_resolved(
        &mut self,
        waiting: HeldStatement,
        resolution: Resolution,
    ) -> Decision {
        let (state, by, reason, refusal) = match resolution {
            Resolution::Approved { by, reason } => (ApprovalState::Approved, by, reason, None),
            Resolution::Denied { by, reason } => {
                let text = format!("the approval was denied by {by}: {reason}");
                let denial = Denial::new(DenialKind::ApprovalDenied, text);
                (ApprovalState::Denied, vec![by], reason, Some(denial))
            }
            Resolution::Expired => {
                let text = "nobody approved this statement in time";
                let denial = Denial::new(DenialKind::ApprovalExpired, text);
                (ApprovalState::Expired, Vec::new(), text.to_owned(), Some(denial))
            }
        };
        let decision_id = waiting.decision_id.clone();
        if let Err(error) = self.append(approval_decided(&waiting, state, by, reason)) {
            return Decision::Deny(unrecorded(&error));
        }
        if let Some(denial) = refusal {
            return Decision::Deny(Denial { decision_id: Some(decision_id), ..denial });
        }
        let HeldStatement { held, statement, .. } = waiting;
        let ruling = self.scope.rule_approved(&statement, &held.approval);
        let approval = Some(&held.approval);
        let decided = Decided { statement: &statement, ruling: &ruling, approval };
        match self.append_decided(&decided).await {
            Ok(receipt) => held.approve(ruling, receipt),
            Err(error) => Decision::Deny(unrecorded(&error)),
        }
    }
}

fn unrecorded(error: &TapError) -> Denial {
    tracing::warn!(%error, "a statement is refused because it cannot be recorded");
    Denial::new(DenialKind::RecordUnavailable, RECORD_UNAVAILABLE)
}

fn terms(verdict: &Verdict) -> (Vec<String>, std::time::Duration) {
    match verdict {
        Verdict::Hold(terms) => {
            let groups = terms.iter().map(|term| term.group.clone()).collect();
            let wait = terms.iter().filter_map(|term| term.expires_in).min();
            (groups, wait.unwrap_or(limits::APPROVAL_WAIT))
        }
        Verdict::Allow | Verdict::Deny(_) => (Vec::new(), limits::APPROVAL_WAIT),
    }
}

fn approval_decided(
    waiting: &HeldStatement,
    state: ApprovalState,
    by: Vec<String>,
    reason: String,
) -> EventBody {
    EventBody::ApprovalDecided {
        approval: waiting.held.approval.clone(),
        decision: waiting.decision_id.clone(),
        state,
        by,
        reason,
    }
}
