//! What sign-ins at identity providers leave: the grant with which the gateway asks whether a
//! person is still somebody there, and the sessions by which a logout there finds the person.

use std::collections::BTreeSet;

use corral_model::ids::{PrincipalName, ResourceName};
use corral_model::secret::Secret;
use sqlx::{Sqlite, Transaction};
use time::OffsetDateTime;

use crate::error::{Doing, StoreError};
use crate::rows::{Columns, from_ms, to_ms};
use crate::store::Store;

/// What is sealed is bound to this purpose and `PROVIDER PERSON`.
const PURPOSE: &str = "grant";

/// A person's last grant at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    pub person: PrincipalName,
    pub provider: ResourceName,
    pub refresh_token: Secret,
    /// Since when the provider could not answer for the person.
    pub failing_since: Option<OffsetDateTime>,
}

fn sealed_name(provider: &ResourceName, person: &PrincipalName) -> String {
    format!("{provider} {person}")
}

impl Store {
    /// Keeps a person's newest grant in the place of every earlier one; without a refresh token
    /// there is nothing to ask with.
    ///
    /// # Errors
    /// [`StoreError::Seal`], [`StoreError::Database`].
    pub async fn keep_grant(
        &self,
        person: &PrincipalName,
        provider: &ResourceName,
        refresh_token: Option<&Secret>,
        at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let name = sealed_name(provider, person);
        let seal = |token: &Secret| self.seal.seal(PURPOSE, &name, token);
        let sealed = refresh_token.map(seal).transpose()?;
        sqlx::query(
            "INSERT INTO grants (person, provider, sealed, checked_at_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT (person) DO UPDATE SET provider = excluded.provider,
                 sealed = excluded.sealed, checked_at_ms = excluded.checked_at_ms,
                 failing_since_ms = NULL",
        )
        .bind(person.as_str())
        .bind(provider.as_str())
        .bind(sealed)
        .bind(to_ms(at))
        .execute(&self.write)
        .await
        .doing("be written")?;
        Ok(())
    }

    /// The provider still answers for the person; whether it said all that it was asked is for
    /// [`Store::grant_answered`]. A token that it gave takes the place of `shown`,
    /// unless the person signed in again meanwhile and `shown` is no longer what is kept.
    ///
    /// # Errors
    /// [`StoreError::Seal`], [`StoreError::Database`].
    pub async fn renew_grant(
        &self,
        shown: &GrantRow,
        given: Option<&Secret>,
        at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let name = sealed_name(&shown.provider, &shown.person);
        let mut change = self.begin().await?;
        let kept: Option<Option<String>> =
            sqlx::query_scalar("SELECT sealed FROM grants WHERE person = $1 AND provider = $2")
                .bind(shown.person.as_str())
                .bind(shown.provider.as_str())
                .fetch_optional(&mut *change)
                .await
                .doing("be read")?;
        let Some(Some(sealed)) = kept else { return Ok(()) };
        if self.seal.open(PURPOSE, &name, &sealed)? != shown.refresh_token {
            return Ok(());
        }
        let sealed = self.seal.seal(PURPOSE, &name, given.unwrap_or(&shown.refresh_token))?;
        sqlx::query("UPDATE grants SET sealed = $2, checked_at_ms = $3 WHERE person = $1")
            .bind(shown.person.as_str())
            .bind(sealed)
            .bind(to_ms(at))
            .execute(&mut *change)
            .await
            .doing("be written")?;
        change.commit().await.doing("keep a change")
    }

    /// Whether this is still the person's grant: somebody who signed in again has another one.
    ///
    /// # Errors
    /// [`StoreError::Seal`], [`StoreError::Database`].
    pub async fn holds_grant(&self, grant: &GrantRow) -> Result<bool, StoreError> {
        let kept: Option<Option<String>> =
            sqlx::query_scalar("SELECT sealed FROM grants WHERE person = $1 AND provider = $2")
                .bind(grant.person.as_str())
                .bind(grant.provider.as_str())
                .fetch_optional(&self.read)
                .await
                .doing("be read")?;
        let Some(Some(sealed)) = kept else { return Ok(false) };
        let name = sealed_name(&grant.provider, &grant.person);
        Ok(self.seal.open(PURPOSE, &name, &sealed)? == grant.refresh_token)
    }

    /// The grants that were last looked at before this time, of people with a live login or a run
    /// that they answer for; those that waited longest first. None of the providers that are
    /// left out.
    ///
    /// # Errors
    /// [`StoreError::Seal`], [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn grants_due(
        &self,
        before: OffsetDateTime,
        now: OffsetDateTime,
        left_out: &BTreeSet<ResourceName>,
        limit: u32,
    ) -> Result<Vec<GrantRow>, StoreError> {
        let left_out: Vec<&str> = left_out.iter().map(ResourceName::as_str).collect();
        let rows = sqlx::query(
            "SELECT * FROM grants WHERE checked_at_ms <= $1 AND sealed IS NOT NULL
               AND (EXISTS (SELECT 1 FROM tokens WHERE purpose = 'login'
                        AND principal_kind = 'user' AND principal = grants.person
                        AND revoked_at_ms IS NULL AND expires_at_ms > $2)
                 OR EXISTS (SELECT 1 FROM runs WHERE sponsor = grants.person
                        AND ended_at_ms IS NULL))
               AND provider NOT IN (SELECT value FROM json_each($4))
             ORDER BY checked_at_ms LIMIT $3",
        )
        .bind(to_ms(before))
        .bind(to_ms(now))
        .bind(i64::from(limit))
        .bind(serde_json::Value::from(left_out).to_string())
        .fetch_all(&self.read)
        .await
        .doing("be read")?;
        rows.iter()
            .map(|row| {
                let columns = Columns(row);
                let (person, provider) = (columns.id("person")?, columns.id("provider")?);
                let name = sealed_name(&provider, &person);
                let refresh_token = self.seal.open(PURPOSE, &name, &columns.text("sealed")?)?;
                let failing_since = columns.optional_time("failing_since_ms")?;
                Ok(GrantRow { person, provider, refresh_token, failing_since })
            })
            .collect()
    }

    /// The provider could not answer; gives since when that is so.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn grant_unanswered(
        &self,
        person: &PrincipalName,
        at: OffsetDateTime,
    ) -> Result<OffsetDateTime, StoreError> {
        let since: Option<i64> = sqlx::query_scalar(
            "UPDATE grants SET checked_at_ms = $2, failing_since_ms = COALESCE(failing_since_ms, $2)
             WHERE person = $1 RETURNING failing_since_ms",
        )
        .bind(person.as_str())
        .bind(to_ms(at))
        .fetch_optional(&self.write)
        .await
        .doing("be written")?;
        since.map_or(Ok(at), from_ms)
    }

    /// The provider said all that it was asked about a person.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn grant_answered(&self, person: &PrincipalName) -> Result<(), StoreError> {
        sqlx::query("UPDATE grants SET failing_since_ms = NULL WHERE person = $1")
            .bind(person.as_str())
            .execute(&self.write)
            .await
            .doing("be written")?;
        Ok(())
    }

    /// # Errors
    /// [`StoreError::Database`].
    pub async fn forget_grant(&self, person: &PrincipalName) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM grants WHERE person = $1")
            .bind(person.as_str())
            .execute(&self.write)
            .await
            .doing("be written")?;
        Ok(())
    }

    /// Keeps whose session at a provider this is, and forgets those that are over.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn keep_provider_session(
        &self,
        provider: &ResourceName,
        sid: &str,
        person: &PrincipalName,
        until: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let mut change = self.begin().await?;
        sqlx::query("DELETE FROM provider_sessions WHERE until_ms < $1")
            .bind(to_ms(now))
            .execute(&mut *change)
            .await
            .doing("be written")?;
        sqlx::query(
            "INSERT INTO provider_sessions (provider, sid, person, until_ms)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (provider, sid)
             DO UPDATE SET person = excluded.person, until_ms = excluded.until_ms",
        )
        .bind(provider.as_str())
        .bind(sid)
        .bind(person.as_str())
        .bind(to_ms(until))
        .execute(&mut *change)
        .await
        .doing("be written")?;
        change.commit().await.doing("keep a change")
    }

    /// Whose session at a provider this is.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn person_of_provider_session(
        &self,
        provider: &ResourceName,
        sid: &str,
    ) -> Result<Option<PrincipalName>, StoreError> {
        let row =
            sqlx::query("SELECT person FROM provider_sessions WHERE provider = $1 AND sid = $2")
                .bind(provider.as_str())
                .bind(sid)
                .fetch_optional(&self.read)
                .await
                .doing("be read")?;
        row.map(|row| Columns(&row).id("person")).transpose()
    }
}

/// A name that is given again later must not inherit anything.
pub(crate) async fn forget(
    change: &mut Transaction<'static, Sqlite>,
    person: &str,
) -> Result<(), StoreError> {
    for text in
        ["DELETE FROM grants WHERE person = $1", "DELETE FROM provider_sessions WHERE person = $1"]
    {
        sqlx::query(text).bind(person).execute(&mut **change).await.doing("be written")?;
    }
    Ok(())
}
