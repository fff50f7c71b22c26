//! Runs: started with their token, renewed, ended as a tree.

use corral_model::ids::{PrincipalName, RunId};
use corral_model::limits;
use corral_model::resource::Job;
use corral_model::run::{Run, RunEnd, RunState, RunUse, Used};
use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite, Transaction};
use time::OffsetDateTime;

use crate::error::{Doing, StoreError};
use crate::rows::{Columns, from_count, from_json, to_count, to_json, to_ms, to_word};
use crate::store::Store;
use crate::tokens::{self, TokenRow};

/// Which runs. Everything that is set must fit.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub is_active: Option<bool>,
    /// Of the principal at the root, user or workload.
    pub principal: Option<PrincipalName>,
    pub sponsor: Option<PrincipalName>,
    pub parent: Option<RunId>,
    /// At most [`limits::LIST_LEN_MAX`], which None means too.
    pub limit: Option<u32>,
}

/// The token of a job that starts a root run: single use, and one run for each job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobToken {
    /// Its `jti`, or its digest.
    pub id: String,
    /// It is remembered until then; afterwards it is refused for its age.
    pub expires_at: OffsetDateTime,
}

/// A run with what it did, as far as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRun {
    pub run: Run,
    pub done: RunUse,
}

impl Store {
    /// Keeps a run and its token, both or neither. A child is kept only while its parent is
    /// active.
    ///
    /// # Errors
    /// [`StoreError::ParentEnded`]; [`StoreError::Database`], also when the id is taken.
    ///
    /// # Cancel safety
    /// Cancelled before it returns, both were kept or neither.
    pub async fn insert_run(&self, run: &Run, token: &TokenRow) -> Result<(), StoreError> {
        let mut change = self.begin().await?;
        insert(&mut change, run, token).await?;
        change.commit().await.doing("keep a change")
    }

    /// The same for the root run of a job, once: nothing is kept when this token, or another one of
    /// the job, started a run before.
    ///
    /// # Errors
    /// [`StoreError::TokenUsed`], [`StoreError::JobStarted`]; as [`Store::insert_run`].
    ///
    /// # Cancel safety
    /// Cancelled before it returns, all was kept or nothing.
    pub async fn insert_job_run(
        &self,
        run: &Run,
        job: &Job,
        job_token: &JobToken,
        token: &TokenRow,
    ) -> Result<(), StoreError> {
        let mut change = self.begin().await?;
        claim_job(&mut change, run, job, job_token).await?;
        insert(&mut change, run, token).await?;
        change.commit().await.doing("keep a change")
    }

    /// Ends runs together, with their tokens; those that had ended stay as they are. Gives the
    /// ids that this call ended, in the given order.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    ///
    /// # Cancel safety
    /// Cancelled before it returns, all were ended or none.
    pub async fn end_runs(
        &self,
        ends: &[(RunId, RunEnd)],
        at: OffsetDateTime,
    ) -> Result<Vec<RunId>, StoreError> {
        let mut change = self.begin().await?;
        let mut ended: Vec<RunId> = Vec::new();
        for (id, reason) in ends {
            let done = sqlx::query(
                "UPDATE runs SET ended_reason = $2, ended_at_ms = $3
                 WHERE id = $1 AND ended_at_ms IS NULL",
            )
            .bind(id.as_str())
            .bind(to_word(reason)?)
            .bind(to_ms(at))
            .execute(&mut *change)
            .await
            .doing("be written")?;
            if done.rows_affected() > 0 {
                ended.push(id.clone());
            }
            sqlx::query(
                "UPDATE tokens SET revoked_at_ms = $2 WHERE run_id = $1 AND revoked_at_ms IS NULL",
            )
            .bind(id.as_str())
            .bind(to_ms(at))
            .execute(&mut *change)
            .await
            .doing("be written")?;
        }
        change.commit().await.doing("keep a change")?;
        Ok(ended)
    }

    /// Keeps what runs did, all of it or nothing.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    ///
    /// # Cancel safety
    /// Cancelled before it returns, everything was kept or nothing.
    pub async fn keep_use(&self, rows: &[(RunId, RunUse)]) -> Result<(), StoreError> {
        let mut change = self.begin().await?;
        for (id, done) in rows {
            sqlx::query(
                "UPDATE runs SET used_statements = $2, used_writes = $3, used_rows = $4,
                     used_bytes = $5, used_targets = $6, used_actions = $7 WHERE id = $1",
            )
            .bind(id.as_str())
            .bind(to_count(done.used.statements))
            .bind(to_count(done.used.writes))
            .bind(to_count(done.used.rows))
            .bind(to_count(done.used.bytes))
            .bind(to_json(&done.targets)?)
            .bind(to_json(&done.actions)?)
            .execute(&mut *change)
            .await
            .doing("be written")?;
        }
        change.commit().await.doing("keep a change")
    }

    /// Changes when an active run and its tokens expire; false when it had ended.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn renew_run(
        &self,
        id: &RunId,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let mut change = self.begin().await?;
        let done =
            sqlx::query("UPDATE runs SET expires_at_ms = $2 WHERE id = $1 AND ended_at_ms IS NULL")
                .bind(id.as_str())
                .bind(to_ms(expires_at))
                .execute(&mut *change)
                .await
                .doing("be written")?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(
            "UPDATE tokens SET expires_at_ms = $2
             WHERE run_id = $1 AND revoked_at_ms IS NULL AND expires_at_ms IS NOT NULL",
        )
        .bind(id.as_str())
        .bind(to_ms(expires_at))
        .execute(&mut *change)
        .await
        .doing("be written")?;
        change.commit().await.doing("keep a change")?;
        Ok(true)
    }

    /// Keeps that a run ends with its wrapper; false when it had ended.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn attach_run(&self, id: &RunId) -> Result<bool, StoreError> {
        let done =
            sqlx::query("UPDATE runs SET attached = 1 WHERE id = $1 AND ended_at_ms IS NULL")
                .bind(id.as_str())
                .execute(&self.write)
                .await
                .doing("be written")?;
        Ok(done.rows_affected() > 0)
    }

    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn run(&self, id: &RunId) -> Result<Option<Run>, StoreError> {
        let row = sqlx::query("SELECT * FROM runs WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.read)
            .await
            .doing("be read")?;
        row.map(|row| read_run(&row)).transpose()
    }

    /// The newest runs that fit, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>, StoreError> {
        let kept = self.kept_runs(filter).await?;
        Ok(kept.into_iter().map(|kept| kept.run).collect())
    }

    /// The same with what they did.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn kept_runs(&self, filter: &RunFilter) -> Result<Vec<KeptRun>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM runs
             WHERE ($1 IS NULL OR ($1 = 1 AND ended_at_ms IS NULL)
                               OR ($1 = 0 AND ended_at_ms IS NOT NULL))
               AND ($2 IS NULL OR principal = $2)
               AND ($3 IS NULL OR sponsor = $3)
               AND ($4 IS NULL OR parent = $4)
             ORDER BY started_at_ms DESC, id DESC LIMIT $5",
        )
        .bind(filter.is_active.map(i64::from))
        .bind(filter.principal.as_ref().map(PrincipalName::as_str))
        .bind(filter.sponsor.as_ref().map(PrincipalName::as_str))
        .bind(filter.parent.as_ref().map(RunId::as_str))
        .bind(i64::from(filter.limit.unwrap_or(limits::LIST_LEN_MAX).min(limits::LIST_LEN_MAX)))
        .fetch_all(&self.read)
        .await
        .doing("be read")?;
        rows.iter().map(read_kept).collect()
    }

    /// Every run that has not ended, parents before children: what a starting gateway takes up.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn active_runs(&self) -> Result<Vec<KeptRun>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM runs WHERE ended_at_ms IS NULL ORDER BY depth, started_at_ms, id",
        )
        .fetch_all(&self.read)
        .await
        .doing("be read")?;
        rows.iter().map(read_kept).collect()
    }
}

async fn insert(
    change: &mut Transaction<'_, Sqlite>,
    run: &Run,
    token: &TokenRow,
) -> Result<(), StoreError> {
    if let Some(parent) = &run.parent {
        let active: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM runs WHERE id = $1 AND ended_at_ms IS NULL")
                .bind(parent.as_str())
                .fetch_optional(&mut **change)
                .await
                .doing("be read")?;
        if active.is_none() {
            return Err(StoreError::ParentEnded);
        }
    }
    let (ended_reason, ended_at) = match &run.state {
        RunState::Active => (None, None),
        RunState::Ended { reason, at } => (Some(to_word(reason)?), Some(to_ms(*at))),
    };
    sqlx::query(
        "INSERT INTO runs (id, parent, principal_kind, principal, sponsor, name, purpose,
             targets, depth, started_by, started_at_ms, expires_at_ms, ended_reason,
             ended_at_ms, process, attached, job, actions, renew_within_s)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
             $18, $19)",
    )
    .bind(run.id.as_str())
    .bind(run.parent.as_ref().map(RunId::as_str))
    .bind(to_word(&run.principal.kind)?)
    .bind(run.principal.name.as_str())
    .bind(run.sponsor.as_str())
    .bind(&run.name)
    .bind(run.purpose.as_deref())
    .bind(to_json(&run.targets)?)
    .bind(i64::from(run.depth))
    .bind(run.started_by.as_ref().map(PrincipalName::as_str))
    .bind(to_ms(run.started_at))
    .bind(to_ms(run.expires_at))
    .bind(ended_reason)
    .bind(ended_at)
    .bind(run.process.as_ref().map(to_json).transpose()?)
    .bind(i64::from(run.attached))
    .bind(run.job.as_ref().map(to_json).transpose()?)
    .bind(to_json(&run.actions)?)
    .bind(run.renew_within_s.map(to_count))
    .execute(&mut **change)
    .await
    .doing("be written")?;
    tokens::insert(&mut **change, token).await?;
    Ok(())
}

/// Marks a token and its job as used; whoever comes second is refused, on any gateway.
async fn claim_job(
    change: &mut Transaction<'_, Sqlite>,
    run: &Run,
    job: &Job,
    token: &JobToken,
) -> Result<(), StoreError> {
    let taken = sqlx::query(
        "INSERT INTO used_tokens (issuer, token_id, expires_at_ms) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING",
    )
    .bind(&job.issuer)
    .bind(&token.id)
    .bind(to_ms(token.expires_at))
    .execute(&mut **change)
    .await
    .doing("be written")?;
    if taken.rows_affected() == 0 {
        return Err(StoreError::TokenUsed);
    }
    let claimed = sqlx::query(
        "INSERT INTO jobs (issuer, job_key, run_id, started_at_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(&job.issuer)
    .bind(&job.key)
    .bind(run.id.as_str())
    .bind(to_ms(run.started_at))
    .execute(&mut **change)
    .await
    .doing("be written")?;
    if claimed.rows_affected() == 0 {
        return Err(StoreError::JobStarted);
    }
    Ok(())
}

fn read_kept(row: &SqliteRow) -> Result<KeptRun, StoreError> {
    let columns = Columns(row);
    let used = Used {
        statements: columns.count("used_statements")?,
        writes: columns.count("used_writes")?,
        rows: columns.count("used_rows")?,
        bytes: columns.count("used_bytes")?,
    };
    let (targets, actions) = (columns.json("used_targets")?, columns.json("used_actions")?);
    Ok(KeptRun { run: read_run(row)?, done: RunUse { used, targets, actions } })
}

fn read_run(row: &SqliteRow) -> Result<Run, StoreError> {
    let columns = Columns(row);
    let ended_reason: Option<RunEnd> = columns.optional_id("ended_reason")?;
    let state = match (ended_reason, columns.optional_time("ended_at_ms")?) {
        (None, None) => RunState::Active,
        (Some(reason), Some(at)) => RunState::Ended { reason, at },
        (Some(_), None) | (None, Some(_)) => return Err(StoreError::corrupt("a run's state")),
    };
    let depth = u32::try_from(columns.number("depth")?)
        .map_err(|_| StoreError::corrupt("a run's depth"))?;
    Ok(Run {
        id: columns.id("id")?,
        parent: columns.optional_id("parent")?,
        principal: columns.principal()?,
        sponsor: columns.id("sponsor")?,
        name: columns.text("name")?,
        purpose: columns.optional_text("purpose")?,
        targets: columns.json("targets")?,
        actions: columns.json("actions")?,
        renew_within_s: columns.optional_number("renew_within_s")?.map(from_count).transpose()?,
        depth,
        started_by: columns.optional_id("started_by")?,
        process: columns
            .optional_text("process")?
            .map(|text| from_json(&text, "a run's process"))
            .transpose()?,
        attached: columns.number("attached")? != 0,
        job: columns.optional_text("job")?.map(|text| from_json(&text, "a job")).transpose()?,
        started_at: columns.time("started_at_ms")?,
        expires_at: columns.time("expires_at_ms")?,
        state,
    })
}
