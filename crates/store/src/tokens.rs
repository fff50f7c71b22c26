//! Digests of tokens: what each lets its bearer be, and until when.

use corral_model::ids::RunId;
use corral_model::principal::Principal;
use corral_model::token::{TokenDigest, TokenPurpose};
use sqlx::sqlite::SqliteRow;
use sqlx::{Executor, Sqlite};
use time::OffsetDateTime;

use crate::error::{Doing, StoreError};
use crate::rows::{Columns, to_ms, to_word};
use crate::store::Store;

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    pub digest: TokenDigest,
    pub purpose: TokenPurpose,
    pub created_at: OffsetDateTime,
    /// None: as long as it is not revoked. A run's token also ends with its run.
    pub expires_at: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
}

impl TokenRow {
    /// Whether it may be used at this time.
    #[must_use]
    pub fn is_live(&self, now: OffsetDateTime) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| now < at)
    }
}

impl Store {
    /// # Errors
    /// [`StoreError::Database`], also when the digest is there already.
    pub async fn insert_token(&self, token: &TokenRow) -> Result<(), StoreError> {
        insert(&self.write, token).await
    }

    /// Finds a token, live or not.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn token(&self, digest: &TokenDigest) -> Result<Option<TokenRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM tokens WHERE digest = $1")
            .bind(digest.to_hex())
            .fetch_optional(&self.read)
            .await
            .doing("be read")?;
        row.map(|row| read_token(&row, *digest)).transpose()
    }

    /// Ends a token; false when there was none, or it had ended.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn revoke_token(
        &self,
        digest: &TokenDigest,
        at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE tokens SET revoked_at_ms = $2 WHERE digest = $1 AND revoked_at_ms IS NULL",
        )
        .bind(digest.to_hex())
        .bind(to_ms(at))
        .execute(&self.write)
        .await
        .doing("be written")?;
        Ok(done.rows_affected() > 0)
    }

    /// Ends every token of a purpose: of the administrator, of a principal, of a run. Gives how
    /// many.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn revoke_tokens(
        &self,
        purpose: &TokenPurpose,
        at: OffsetDateTime,
    ) -> Result<u64, StoreError> {
        let parts = Parts::of(purpose)?;
        let done = sqlx::query(
            "UPDATE tokens SET revoked_at_ms = $5
             WHERE purpose = $1 AND revoked_at_ms IS NULL
               AND COALESCE(principal_kind, '') = $2 AND COALESCE(principal, '') = $3
               AND COALESCE(run_id, '') = $4",
        )
        .bind(parts.word)
        .bind(parts.principal_kind.unwrap_or_default())
        .bind(parts.principal.unwrap_or_default())
        .bind(parts.run.unwrap_or_default())
        .bind(to_ms(at))
        .execute(&self.write)
        .await
        .doing("be written")?;
        Ok(done.rows_affected())
    }

    /// Forgets the tokens that can never be used again; gives how many.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn delete_dead_tokens(&self, now: OffsetDateTime) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM tokens WHERE revoked_at_ms IS NOT NULL OR expires_at_ms <= $1",
        )
        .bind(to_ms(now))
        .execute(&self.write)
        .await
        .doing("be written")?;
        Ok(done.rows_affected())
    }
}

struct Parts<'p> {
    word: &'static str,
    principal_kind: Option<String>,
    principal: Option<&'p str>,
    run: Option<&'p str>,
}

impl<'p> Parts<'p> {
    fn of(purpose: &'p TokenPurpose) -> Result<Self, StoreError> {
        let empty = Self { word: "admin", principal_kind: None, principal: None, run: None };
        Ok(match purpose {
            TokenPurpose::Admin => empty,
            TokenPurpose::Login(principal) => Self {
                word: "login",
                principal_kind: Some(to_word(&principal.kind)?),
                principal: Some(principal.name.as_str()),
                ..empty
            },
            TokenPurpose::Run(run) => Self { word: "run", run: Some(run.as_str()), ..empty },
        })
    }
}

pub(crate) async fn insert<'e, E: Executor<'e, Database = Sqlite>>(
    executor: E,
    token: &TokenRow,
) -> Result<(), StoreError> {
    let parts = Parts::of(&token.purpose)?;
    sqlx::query(
        "INSERT INTO tokens (digest, purpose, principal_kind, principal, run_id, created_at_ms,
             expires_at_ms, revoked_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(token.digest.to_hex())
    .bind(parts.word)
    .bind(parts.principal_kind)
    .bind(parts.principal)
    .bind(parts.run)
    .bind(to_ms(token.created_at))
    .bind(token.expires_at.map(to_ms))
    .bind(token.revoked_at.map(to_ms))
    .execute(executor)
    .await
    .doing("be written")?;
    Ok(())
}

fn read_token(row: &SqliteRow, digest: TokenDigest) -> Result<TokenRow, StoreError> {
    let columns = Columns(row);
    let purpose = match columns.text("purpose")?.as_str() {
        "admin" => TokenPurpose::Admin,
        "login" => {
            let principal: Principal = columns.principal()?;
            TokenPurpose::Login(principal)
        }
        "run" => {
            let run: RunId = columns.id("run_id")?;
            TokenPurpose::Run(run)
        }
        _ => return Err(StoreError::corrupt("a token's purpose")),
    };
    Ok(TokenRow {
        digest,
        purpose,
        created_at: columns.time("created_at_ms")?,
        expires_at: columns.optional_time("expires_at_ms")?,
        revoked_at: columns.optional_time("revoked_at_ms")?,
    })
}
