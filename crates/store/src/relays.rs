//! Tokens with which relays join, and the certificates that they got.

use corral_model::token::TokenDigest;
use sqlx::{Sqlite, Transaction};
use time::OffsetDateTime;

use crate::error::{Doing, StoreError};
use crate::rows::{Columns, to_ms};
use crate::store::Store;

/// What is kept of a join token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub digest: TokenDigest,
    /// The relay that it is for.
    pub relay: String,
    pub created_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
}

/// What a token that was shown is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinVerdict {
    /// It was good, for this relay, and is used up by now.
    Joins {
        relay: String,
    },
    /// Somebody has joined with it already: whoever shows it again, or showed it first, has no
    /// right to it.
    Replayed {
        relay: String,
    },
    Expired {
        relay: String,
    },
    /// It was never given, or its relay is gone.
    Unknown,
}

/// What is kept of a relay's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayCertificateRow {
    /// In lower-case hexadecimal digits.
    pub serial: String,
    pub relay: String,
    pub issued_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
    pub revoked_at: Option<OffsetDateTime>,
}

impl Store {
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn insert_join_token(&self, token: &JoinToken) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO relay_joins (digest, relay, created_at_ms, expires_at_ms)
             VALUES ($1, $2, $3, $4)",
        )
        .bind(token.digest.to_hex())
        .bind(&token.relay)
        .bind(to_ms(token.created_at))
        .bind(to_ms(token.expires_at))
        .execute(&self.write)
        .await
        .doing("be written")?;
        Ok(())
    }

    /// Uses a join token up. Of several who show it at once, one joins.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn use_join_token(
        &self,
        digest: &TokenDigest,
        now: OffsetDateTime,
    ) -> Result<JoinVerdict, StoreError> {
        let used = sqlx::query(
            "UPDATE relay_joins SET used_at_ms = $2
             WHERE digest = $1 AND used_at_ms IS NULL AND expires_at_ms > $2",
        )
        .bind(digest.to_hex())
        .bind(to_ms(now))
        .execute(&self.write)
        .await
        .doing("be written")?;
        let row = sqlx::query("SELECT * FROM relay_joins WHERE digest = $1")
            .bind(digest.to_hex())
            .fetch_optional(&self.write)
            .await
            .doing("be read")?;
        let Some(row) = row else { return Ok(JoinVerdict::Unknown) };
        let columns = Columns(&row);
        let relay = columns.text("relay")?;
        let used_before = columns.optional_number("used_at_ms")?.is_some();
        Ok(match (used.rows_affected(), used_before) {
            (0, true) => JoinVerdict::Replayed { relay },
            (0, false) => JoinVerdict::Expired { relay },
            (_, _) => JoinVerdict::Joins { relay },
        })
    }

    /// # Errors
    /// [`StoreError::Database`], also when the serial number is there already.
    pub async fn insert_relay_certificate(
        &self,
        row: &RelayCertificateRow,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO relay_certificates (serial, relay, issued_at_ms, expires_at_ms,
                 revoked_at_ms)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&row.serial)
        .bind(&row.relay)
        .bind(to_ms(row.issued_at))
        .bind(to_ms(row.expires_at))
        .bind(row.revoked_at.map(to_ms))
        .execute(&self.write)
        .await
        .doing("be written")?;
        Ok(())
    }

    /// A certificate that was issued, revoked or not.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn relay_certificate(
        &self,
        serial: &str,
    ) -> Result<Option<RelayCertificateRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM relay_certificates WHERE serial = $1")
            .bind(serial)
            .fetch_optional(&self.read)
            .await
            .doing("be read")?;
        row.map(|row| {
            let columns = Columns(&row);
            Ok(RelayCertificateRow {
                serial: columns.text("serial")?,
                relay: columns.text("relay")?,
                issued_at: columns.time("issued_at_ms")?,
                expires_at: columns.time("expires_at_ms")?,
                revoked_at: columns.optional_time("revoked_at_ms")?,
            })
        })
        .transpose()
    }

    /// Takes back every certificate of a relay, and every token that nobody has joined with.
    /// Gives how many certificates.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn revoke_relay(&self, relay: &str, at: OffsetDateTime) -> Result<u64, StoreError> {
        let mut change = self.begin().await?;
        let revoked = sqlx::query(
            "UPDATE relay_certificates SET revoked_at_ms = $2
             WHERE relay = $1 AND revoked_at_ms IS NULL AND expires_at_ms > $2",
        )
        .bind(relay)
        .bind(to_ms(at))
        .execute(&mut *change)
        .await
        .doing("be written")?;
        sqlx::query("DELETE FROM relay_joins WHERE relay = $1 AND used_at_ms IS NULL")
            .bind(relay)
            .execute(&mut *change)
            .await
            .doing("be written")?;
        change.commit().await.doing("be written")?;
        Ok(revoked.rows_affected())
    }

    /// Forgets tokens and certificates that ended before this; gives how many.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn forget_relay_history(&self, before: OffsetDateTime) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        for statement in [
            "DELETE FROM relay_joins WHERE expires_at_ms < $1",
            "DELETE FROM relay_certificates WHERE expires_at_ms < $1",
        ] {
            let done = sqlx::query(statement)
                .bind(to_ms(before))
                .execute(&self.write)
                .await
                .doing("be written")?;
            forgotten += done.rows_affected();
        }
        Ok(forgotten)
    }
}

/// A name that is given again later must not inherit anything.
pub(crate) async fn forget(
    change: &mut Transaction<'static, Sqlite>,
    relay: &str,
) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM relay_joins WHERE relay = $1",
        "DELETE FROM relay_certificates WHERE relay = $1",
    ] {
        sqlx::query(statement).bind(relay).execute(&mut **change).await.doing("be written")?;
    }
    Ok(())
}
