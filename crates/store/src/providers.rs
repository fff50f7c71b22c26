//! Sealed secrets of identity providers, and what may happen once only: identifiers of tokens and
//! assertions that were taken.

use corral_model::ids::ResourceName;
use corral_model::resource::{IdentityProviderSpec, ProviderSecret};
use corral_model::secret::Secret;
use sqlx::{Sqlite, Transaction};
use time::OffsetDateTime;

use crate::error::{Doing, StoreError};
use crate::rows::to_ms;
use crate::seal::Seal;
use crate::store::Store;

/// What is sealed is bound to this purpose and `PROVIDER KEY`.
const PURPOSE: &str = "provider";

fn sealed_name(provider: &str, which: ProviderSecret) -> String {
    format!("{provider} {}", which.key())
}

impl Store {
    /// Opens a secret of an identity provider; None when it has none.
    ///
    /// # Errors
    /// [`StoreError::Seal`] when the row was changed or moved; [`StoreError::Database`].
    pub async fn provider_secret(
        &self,
        provider: &ResourceName,
        which: ProviderSecret,
    ) -> Result<Option<Secret>, StoreError> {
        let sealed: Option<String> = sqlx::query_scalar(
            "SELECT sealed FROM provider_secrets WHERE provider = $1 AND purpose = $2",
        )
        .bind(provider.as_str())
        .bind(which.key())
        .fetch_optional(&self.read)
        .await
        .doing("be read")?;
        let name = sealed_name(provider.as_str(), which);
        Ok(sealed.map(|sealed| self.seal.open(PURPOSE, &name, &sealed)).transpose()?)
    }

    /// Takes note of something that may happen once within `scope`; false when it happened
    /// before. What is over at `now` is forgotten on the way, so `until` is at least as late as
    /// the thing itself could be shown again.
    ///
    /// # Errors
    /// [`StoreError::Database`]: it is not known whether it happened before, so refuse it.
    pub async fn once(
        &self,
        scope: &str,
        id: &str,
        until: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let mut change = self.begin().await?;
        sqlx::query("DELETE FROM once WHERE until_ms < $1")
            .bind(to_ms(now))
            .execute(&mut *change)
            .await
            .doing("be written")?;
        let done = sqlx::query(
            "INSERT INTO once (scope, id, until_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(scope)
        .bind(id)
        .bind(to_ms(until))
        .execute(&mut *change)
        .await
        .doing("be written")?;
        change.commit().await.doing("keep a change")?;
        Ok(done.rows_affected() > 0)
    }

    /// Whether something that may happen once within `scope` happened before.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn was_taken(&self, scope: &str, id: &str) -> Result<bool, StoreError> {
        let found: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM once WHERE scope = $1 AND id = $2")
                .bind(scope)
                .bind(id)
                .fetch_optional(&self.read)
                .await
                .doing("be read")?;
        Ok(found.is_some())
    }
}

/// Gives whether anything changed; setting counts as a change even to the same value.
pub(crate) async fn change_secrets(
    change: &mut Transaction<'static, Sqlite>,
    seal: &Seal,
    spec: &IdentityProviderSpec,
    given: Vec<(ProviderSecret, Secret)>,
    goes_elsewhere: bool,
) -> Result<bool, StoreError> {
    let provider = spec.name.as_str();
    let mut is_changed = false;
    for which in ProviderSecret::ALL {
        let secret = given.iter().find(|(of, _)| *of == which).map(|(_, secret)| secret);
        let done = match (spec.has_part_of(which), secret) {
            (true, Some(secret)) => {
                let sealed = seal.seal(PURPOSE, &sealed_name(provider, which), secret)?;
                sqlx::query(
                    "INSERT INTO provider_secrets (provider, purpose, sealed) VALUES ($1, $2, $3)
                     ON CONFLICT (provider, purpose) DO UPDATE SET sealed = excluded.sealed",
                )
                .bind(provider)
                .bind(which.key())
                .bind(sealed)
                .execute(&mut **change)
                .await
            }
            (true, None) => {
                if goes_elsewhere && which == ProviderSecret::OidcClient {
                    require_no_secret(change, provider, which).await?;
                }
                continue;
            }
            (false, _) => {
                sqlx::query("DELETE FROM provider_secrets WHERE provider = $1 AND purpose = $2")
                    .bind(provider)
                    .bind(which.key())
                    .execute(&mut **change)
                    .await
            }
        };
        is_changed |= done.doing("be written")?.rows_affected() > 0;
    }
    Ok(is_changed)
}

/// A kept secret would go to a place that it was not given for.
async fn require_no_secret(
    change: &mut Transaction<'static, Sqlite>,
    provider: &str,
    which: ProviderSecret,
) -> Result<(), StoreError> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM provider_secrets WHERE provider = $1 AND purpose = $2")
            .bind(provider)
            .bind(which.key())
            .fetch_optional(&mut **change)
            .await
            .doing("be read")?;
    match found {
        None => Ok(()),
        Some(_) => {
            Err(StoreError::SecretNeeded { provider: provider.to_owned(), key: which.key() })
        }
    }
}

/// A name that is given again later must not inherit anything.
pub(crate) async fn forget(
    change: &mut Transaction<'static, Sqlite>,
    provider: &str,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM provider_secrets WHERE provider = $1")
        .bind(provider)
        .execute(&mut **change)
        .await
        .doing("be written")?;
    Ok(())
}
