//! Held statements and the people who decide them.

use corral_gate::decision::HoldTerm;
use corral_model::Principal;
use corral_model::event::ApprovalState;
use corral_model::ids::{ApprovalId, PolicyVersion, PrincipalName, RunId, SessionId, TargetName};
use corral_model::statement::{Effects, ObjectRef, Parameter};
use time::OffsetDateTime;

use super::{App, AppError, Caller};

/// One person's answer to one approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub by: PrincipalName,
    pub is_approval: bool,
    pub reason: String,
    pub at: OffsetDateTime,
}

/// A held statement as approvers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalView {
    pub id: ApprovalId,
    pub state: ApprovalState,
    pub decision_id: String,
    pub principal: Principal,
    pub sponsor: PrincipalName,
    pub run: Option<RunId>,
    pub run_path: Option<String>,
    pub session: SessionId,
    pub target: TargetName,
    /// The exact text that runs when it is approved.
    pub statement: String,
    pub parameters: Vec<Parameter>,
    pub verbs: Vec<String>,
    pub effects: Effects,
    pub objects: Vec<ObjectRef>,
    pub in_transaction: bool,
    pub policy_version: PolicyVersion,
    /// All must be satisfied.
    pub terms: Vec<HoldTerm>,
    pub answers: Vec<Answer>,
    pub requested_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
    pub decided_at: Option<OffsetDateTime>,
}

impl App {
    /// The approvals that the caller may see: all (administrator), those that it may answer and
    /// its own requests (principal), its own and below (run). Newest first.
    ///
    /// # Errors
    /// [`AppError::Unavailable`].
    pub async fn list_approvals(
        &self,
        caller: &Caller,
        state: Option<ApprovalState>,
    ) -> Result<Vec<ApprovalView>, AppError> {
        let _ = (caller, state);
        todo!()
    }

    /// # Errors
    /// [`AppError::NotFound`], also for one that the caller may not see.
    pub async fn show_approval(&self, caller: &Caller, id: &str) -> Result<ApprovalView, AppError> {
        let _ = (caller, id);
        todo!()
    }

    /// Says yes. The statement runs when every term has its quorum of different people.
    ///
    /// # Errors
    /// [`AppError::Denied`] for the requester, the run's sponsor, a run, the administrator's
    /// token, or somebody who is in none of the named groups. [`AppError::Invalid`] without a
    /// reason. [`AppError::Conflict`] when it is no longer pending, or this person has already
    /// answered.
    pub async fn approve(
        &self,
        caller: &Caller,
        id: &str,
        reason: &str,
    ) -> Result<ApprovalView, AppError> {
        let _ = (caller, id, reason);
        todo!()
    }

    /// Says no: the statement is refused.
    ///
    /// # Errors
    /// As [`App::approve`].
    pub async fn deny(
        &self,
        caller: &Caller,
        id: &str,
        reason: &str,
    ) -> Result<ApprovalView, AppError> {
        let _ = (caller, id, reason);
        todo!()
    }
}
