//! Approvals: asked for once, voted on, closed once, used once.
//!
//! Every change of state compares the state before with the one expected, inside the single
//! writer's transaction, so that of two racing answers exactly one counts. Who may vote, and how
//! many votes are enough, is for the caller to judge.

use corral_model::event::ApprovalState;
use corral_model::ids::{
    ApprovalId, GroupName, PolicyVersion, PrincipalName, RunId, SessionId, TargetName,
};
use corral_model::limits;
use corral_model::principal::Principal;
use corral_model::statement::{Effects, ObjectRef, Parameter};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use time::OffsetDateTime;

use crate::error::{Doing, StoreError};
use crate::rows::{Columns, to_json, to_ms, to_word};
use crate::store::Store;

/// One rule that holds the statement, and who can satisfy it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalTerm {
    pub rule: String,
    pub group: String,
    /// How many different people.
    pub quorum: u32,
    pub reason: String,
}

/// What is asked: all that is shown to the approver and bound by the answer. It never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    pub decision_id: String,
    pub run_id: Option<RunId>,
    /// Names from the root run to this one.
    pub run_path: Option<String>,
    pub session_id: SessionId,
    pub principal: Principal,
    pub sponsor: PrincipalName,
    pub target: TargetName,
    pub database: Option<String>,
    /// The exact text that will run.
    pub statement: String,
    pub parameters: Vec<Parameter>,
    pub verbs: Vec<String>,
    pub effects: Effects,
    pub objects: Vec<ObjectRef>,
    pub in_transaction: bool,
    /// All terms must be satisfied, each by its own people.
    pub terms: Vec<ApprovalTerm>,
    /// Digest, in hexadecimal, of everything that must be the same when the statement runs.
    pub binding: String,
    pub policy_version: PolicyVersion,
}

/// What one approver said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoteVerdict {
    Approve,
    Deny,
}

/// One approver's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    pub approver: PrincipalName,
    /// The groups that the approver was in at that time.
    pub groups: Vec<GroupName>,
    pub verdict: VoteVerdict,
    pub reason: String,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// An approval with all that happened to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Approval {
    pub id: ApprovalId,
    pub state: ApprovalState,
    pub request: ApprovalRequest,
    pub requested_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
    /// In the order in which they were given.
    pub votes: Vec<Vote>,
    /// When the state stopped being pending.
    pub closed_at: Option<OffsetDateTime>,
    /// When the statement was let through on it.
    pub used_at: Option<OffsetDateTime>,
}

/// Why a vote does not count.
#[derive(Debug, thiserror::Error)]
pub enum VoteError {
    #[error("there is no approval '{0}'")]
    NoSuchApproval(ApprovalId),
    /// The state says how it was closed.
    #[error("the approval is not pending any more: it is {}", state_word(*.0))]
    NotPending(ApprovalState),
    #[error("'{0}' has answered already")]
    AnsweredAlready(PrincipalName),
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn state_word(state: ApprovalState) -> &'static str {
    match state {
        ApprovalState::Pending => "pending",
        ApprovalState::Approved => "approved",
        ApprovalState::Denied => "denied",
        ApprovalState::Expired => "expired",
        ApprovalState::Withdrawn => "withdrawn",
    }
}

impl Store {
    /// Keeps a request, pending and without votes.
    ///
    /// # Errors
    /// [`StoreError::Database`], also when the id is taken.
    pub async fn insert_approval(
        &self,
        id: &ApprovalId,
        request: &ApprovalRequest,
        requested_at: OffsetDateTime,
        expires_at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO approvals (id, state, requested_at_ms, expires_at_ms, request, votes)
             VALUES ($1, 'pending', $2, $3, $4, '[]')",
        )
        .bind(id.as_str())
        .bind(to_ms(requested_at))
        .bind(to_ms(expires_at))
        .bind(to_json(request)?)
        .execute(&self.write)
        .await
        .doing("be written")?;
        Ok(())
    }

    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn approval(&self, id: &ApprovalId) -> Result<Option<Approval>, StoreError> {
        let row = sqlx::query("SELECT * FROM approvals WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.read)
            .await
            .doing("be read")?;
        row.map(|row| read_approval(&row)).transpose()
    }

    /// The newest approvals, of one state or of every state, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    ///
    /// # Limits
    /// [`limits::LIST_LEN_MAX`] rows.
    pub async fn approvals(
        &self,
        state: Option<ApprovalState>,
        limit: u32,
    ) -> Result<Vec<Approval>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM approvals WHERE ($1 IS NULL OR state = $1)
             ORDER BY requested_at_ms DESC, id DESC LIMIT $2",
        )
        .bind(state.map(state_word))
        .bind(i64::from(limit.min(limits::LIST_LEN_MAX)))
        .fetch_all(&self.read)
        .await
        .doing("be read")?;
        rows.iter().map(read_approval).collect()
    }

    /// Adds a vote to a pending approval and gives it the state that `judge` says of it with
    /// that vote. Both happen, or neither. A vote at or after the expiry does not count.
    ///
    /// # Errors
    /// [`VoteError`].
    ///
    /// # Cancel safety
    /// Cancelled before it returns, the vote counted wholly or not at all.
    pub async fn vote(
        &self,
        id: &ApprovalId,
        vote: Vote,
        judge: impl FnOnce(&Approval) -> ApprovalState + Send,
    ) -> Result<Approval, VoteError> {
        let mut change = self.begin().await?;
        let row = sqlx::query("SELECT * FROM approvals WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut *change)
            .await
            .doing("be read")?;
        let row = row.ok_or_else(|| VoteError::NoSuchApproval(id.clone()))?;
        let mut approval = read_approval(&row)?;
        if approval.state != ApprovalState::Pending {
            return Err(VoteError::NotPending(approval.state));
        }
        if approval.expires_at <= vote.at {
            return Err(VoteError::NotPending(ApprovalState::Expired));
        }
        if approval.votes.iter().any(|earlier| earlier.approver == vote.approver) {
            return Err(VoteError::AnsweredAlready(vote.approver));
        }
        let at = vote.at;
        approval.votes.push(vote);
        approval.state = judge(&approval);
        approval.closed_at = (approval.state != ApprovalState::Pending).then_some(at);
        sqlx::query(
            "UPDATE approvals SET votes = $2, state = $3, closed_at_ms = $4
             WHERE id = $1 AND state = 'pending'",
        )
        .bind(id.as_str())
        .bind(to_json(&approval.votes)?)
        .bind(state_word(approval.state))
        .bind(approval.closed_at.map(to_ms))
        .execute(&mut *change)
        .await
        .doing("be written")?;
        change.commit().await.doing("keep a change")?;
        Ok(approval)
    }

    /// Closes a pending approval without a vote (expired, withdrawn); false when it was not
    /// pending any more.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn close_approval(
        &self,
        id: &ApprovalId,
        state: ApprovalState,
        at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE approvals SET state = $2, closed_at_ms = $3
             WHERE id = $1 AND state = 'pending'",
        )
        .bind(id.as_str())
        .bind(to_word(&state)?)
        .bind(to_ms(at))
        .execute(&self.write)
        .await
        .doing("be written")?;
        Ok(done.rows_affected() > 0)
    }

    /// Uses an approved approval up, for a statement whose binding is still the same. True
    /// exactly once.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn use_approval(
        &self,
        id: &ApprovalId,
        binding: &str,
        at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let mut change = self.begin().await?;
        let row = sqlx::query("SELECT * FROM approvals WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut *change)
            .await
            .doing("be read")?;
        let Some(row) = row else { return Ok(false) };
        if read_approval(&row)?.request.binding != binding {
            return Ok(false);
        }
        let done = sqlx::query(
            "UPDATE approvals SET used_at_ms = $2
             WHERE id = $1 AND state = 'approved' AND used_at_ms IS NULL AND expires_at_ms > $2",
        )
        .bind(id.as_str())
        .bind(to_ms(at))
        .execute(&mut *change)
        .await
        .doing("be written")?;
        change.commit().await.doing("keep a change")?;
        Ok(done.rows_affected() > 0)
    }

    /// Withdraws every pending approval: their clients are gone when a gateway starts. Gives
    /// their ids.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn withdraw_pending_approvals(
        &self,
        at: OffsetDateTime,
    ) -> Result<Vec<ApprovalId>, StoreError> {
        let rows = sqlx::query(
            "UPDATE approvals SET state = 'withdrawn', closed_at_ms = $1
             WHERE state = 'pending' RETURNING id",
        )
        .bind(to_ms(at))
        .fetch_all(&self.write)
        .await
        .doing("be written")?;
        rows.iter().map(|row| Columns(row).id("id")).collect()
    }
}

fn read_approval(row: &SqliteRow) -> Result<Approval, StoreError> {
    let columns = Columns(row);
    Ok(Approval {
        id: columns.id("id")?,
        state: columns.id("state")?,
        request: columns.json("request")?,
        requested_at: columns.time("requested_at_ms")?,
        expires_at: columns.time("expires_at_ms")?,
        votes: columns.json("votes")?,
        closed_at: columns.optional_time("closed_at_ms")?,
        used_at: columns.optional_time("used_at_ms")?,
    })
}
