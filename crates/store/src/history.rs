//! Forgets what is long over, so that the file does not grow for ever. The record keeps its own
//! account; versions of the configuration stay, because decisions are explained with them.

use corral_model::limits;
use time::OffsetDateTime;

use crate::error::{Doing, StoreError};
use crate::rows::to_ms;
use crate::store::Store;

/// How many rows were forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    pub sessions: u64,
    pub approvals: u64,
    pub runs: u64,
    pub tokens: u64,
}

impl Store {
    /// Forgets sessions, approvals and runs that ended before a time, and tokens that expired or
    /// were revoked before it. What is open, pending or active stays, and so does every run that
    /// has a run below it which stays.
    ///
    /// # Errors
    /// [`StoreError::Database`]; nothing was forgotten then.
    ///
    /// # Limits
    /// One transaction; other writers wait for it.
    pub async fn forget_before(&self, time: OffsetDateTime) -> Result<Forgotten, StoreError> {
        let before = to_ms(time);
        let mut change = self.begin().await?;
        let sessions = sqlx::query("DELETE FROM sessions WHERE closed_at_ms < $1")
            .bind(before)
            .execute(&mut *change)
            .await
            .doing("forget sessions")?;
        let approvals = sqlx::query("DELETE FROM approvals WHERE closed_at_ms < $1")
            .bind(before)
            .execute(&mut *change)
            .await
            .doing("forget approvals")?;
        let tokens = sqlx::query(
            "DELETE FROM tokens WHERE revoked_at_ms < $1 OR expires_at_ms < $1
                OR run_id IN (SELECT id FROM runs WHERE ended_at_ms < $1)",
        )
        .bind(before)
        .execute(&mut *change)
        .await
        .doing("forget tokens")?;
        // Jobs that old are over; a token of theirs is remembered for as long as it is good.
        sqlx::query("DELETE FROM jobs WHERE started_at_ms < $1")
            .bind(before)
            .execute(&mut *change)
            .await
            .doing("forget jobs")?;
        sqlx::query("DELETE FROM used_tokens WHERE expires_at_ms < $1")
            .bind(before)
            .execute(&mut *change)
            .await
            .doing("forget used tokens")?;
        let mut runs = 0_u64;
        // Leaves first, a level each time; no tree is deeper.
        for _ in 0..=limits::RUN_DEPTH_MAX {
            let done = sqlx::query(
                "DELETE FROM runs WHERE ended_at_ms < $1
                   AND NOT EXISTS (SELECT 1 FROM runs AS child WHERE child.parent = runs.id)",
            )
            .bind(before)
            .execute(&mut *change)
            .await
            .doing("forget runs")?;
            runs += done.rows_affected();
            if done.rows_affected() == 0 {
                break;
            }
        }
        change.commit().await.doing("keep a change")?;
        Ok(Forgotten {
            sessions: sessions.rows_affected(),
            approvals: approvals.rows_affected(),
            runs,
            tokens: tokens.rows_affected(),
        })
    }
}
