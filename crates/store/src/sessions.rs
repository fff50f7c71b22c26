//! The history of sessions, for listing. The account that counts is the record.

use corral_model::event::CloseReason;
use corral_model::ids::{PrincipalName, RunId, SessionId, TargetName};
use corral_model::limits;
use corral_model::principal::Principal;
use sqlx::sqlite::SqliteRow;
use time::OffsetDateTime;

use crate::error::{Doing, StoreError};
use crate::rows::{Columns, to_count, to_json, to_ms, to_word};
use crate::store::Store;

/// What passed through a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionTotals {
    pub statements: u64,
    pub rows: u64,
    pub bytes_to_client: u64,
    pub bytes_to_target: u64,
}

/// One session, open or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    pub id: SessionId,
    pub run: Option<RunId>,
    /// Names from the root run to this one.
    pub run_path: Option<String>,
    pub principal: Principal,
    pub sponsor: PrincipalName,
    pub target: TargetName,
    pub protocol: String,
    pub client_address: String,
    pub is_tls: bool,
    /// What the client says of itself.
    pub claims: Vec<(String, String)>,
    pub opened_at: OffsetDateTime,
    /// None while it is open.
    pub closed: Option<(CloseReason, OffsetDateTime)>,
    /// As of its end; zero while it is open.
    pub totals: SessionTotals,
}

/// Which sessions. Everything that is set must fit.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    pub is_open: Option<bool>,
    pub run: Option<RunId>,
    pub principal: Option<PrincipalName>,
    pub target: Option<TargetName>,
    /// At most [`limits::LIST_LEN_MAX`], which None means too.
    pub limit: Option<u32>,
}

impl Store {
    /// Keeps a session that opens; `closed` and `totals` of the row are not looked at.
    ///
    /// # Errors
    /// [`StoreError::Database`], also when the id is taken.
    pub async fn insert_session(&self, session: &SessionRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO sessions (id, run_id, run_path, principal_kind, principal, sponsor, target,
                 protocol, client_address, tls, claims, opened_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(session.id.as_str())
        .bind(session.run.as_ref().map(RunId::as_str))
        .bind(session.run_path.as_deref())
        .bind(to_word(&session.principal.kind)?)
        .bind(session.principal.name.as_str())
        .bind(session.sponsor.as_str())
        .bind(session.target.as_str())
        .bind(&session.protocol)
        .bind(&session.client_address)
        .bind(i64::from(session.is_tls))
        .bind(to_json(&session.claims)?)
        .bind(to_ms(session.opened_at))
        .execute(&self.write)
        .await
        .doing("be written")?;
        Ok(())
    }

    /// Closes a session; false when it was not open.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn close_session(
        &self,
        id: &SessionId,
        reason: CloseReason,
        at: OffsetDateTime,
        totals: SessionTotals,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE sessions SET closed_reason = $2, closed_at_ms = $3, statements = $4,
                 row_count = $5, bytes_to_client = $6, bytes_to_target = $7
             WHERE id = $1 AND closed_at_ms IS NULL",
        )
        .bind(id.as_str())
        .bind(to_word(&reason)?)
        .bind(to_ms(at))
        .bind(to_count(totals.statements))
        .bind(to_count(totals.rows))
        .bind(to_count(totals.bytes_to_client))
        .bind(to_count(totals.bytes_to_target))
        .execute(&self.write)
        .await
        .doing("be written")?;
        Ok(done.rows_affected() > 0)
    }

    /// Closes as lost every session that stands open: none is when a gateway starts. Gives their
    /// ids.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn close_lost_sessions(
        &self,
        at: OffsetDateTime,
    ) -> Result<Vec<SessionId>, StoreError> {
        let rows = sqlx::query(
            "UPDATE sessions SET closed_reason = $1, closed_at_ms = $2
             WHERE closed_at_ms IS NULL RETURNING id",
        )
        .bind(to_word(&CloseReason::Lost)?)
        .bind(to_ms(at))
        .fetch_all(&self.write)
        .await
        .doing("be written")?;
        rows.iter().map(|row| Columns(row).id("id")).collect()
    }

    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn session(&self, id: &SessionId) -> Result<Option<SessionRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM sessions WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.read)
            .await
            .doing("be read")?;
        row.map(|row| read_session(&row)).transpose()
    }

    /// The newest sessions that fit, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM sessions
             WHERE ($1 IS NULL OR ($1 = 1 AND closed_at_ms IS NULL)
                               OR ($1 = 0 AND closed_at_ms IS NOT NULL))
               AND ($2 IS NULL OR run_id = $2)
               AND ($3 IS NULL OR principal = $3)
               AND ($4 IS NULL OR target = $4)
             ORDER BY opened_at_ms DESC, id DESC LIMIT $5",
        )
        .bind(filter.is_open.map(i64::from))
        .bind(filter.run.as_ref().map(RunId::as_str))
        .bind(filter.principal.as_ref().map(PrincipalName::as_str))
        .bind(filter.target.as_ref().map(TargetName::as_str))
        .bind(i64::from(filter.limit.unwrap_or(limits::LIST_LEN_MAX).min(limits::LIST_LEN_MAX)))
        .fetch_all(&self.read)
        .await
        .doing("be read")?;
        rows.iter().map(read_session).collect()
    }
}

fn read_session(row: &SqliteRow) -> Result<SessionRow, StoreError> {
    let columns = Columns(row);
    let reason: Option<CloseReason> = columns.optional_id("closed_reason")?;
    Ok(SessionRow {
        id: columns.id("id")?,
        run: columns.optional_id("run_id")?,
        run_path: columns.optional_text("run_path")?,
        principal: columns.principal()?,
        sponsor: columns.id("sponsor")?,
        target: columns.id("target")?,
        protocol: columns.text("protocol")?,
        client_address: columns.text("client_address")?,
        is_tls: columns.number("tls")? != 0,
        claims: columns.json("claims")?,
        opened_at: columns.time("opened_at_ms")?,
        closed: reason.zip(columns.optional_time("closed_at_ms")?),
        totals: SessionTotals {
            statements: columns.count("statements")?,
            rows: columns.count("row_count")?,
            bytes_to_client: columns.count("bytes_to_client")?,
            bytes_to_target: columns.count("bytes_to_target")?,
        },
    })
}
