//! Sealed secrets of workloads' webhooks.

use corral_model::ids::PrincipalName;
use corral_model::secret::Secret;
use sqlx::{Sqlite, Transaction};

use crate::error::{Doing, StoreError};
use crate::resources::SecretChange;
use crate::seal::Seal;
use crate::store::Store;

/// What is sealed is bound to this purpose and the workload's name.
const PURPOSE: &str = "webhook";

impl Store {
    /// Opens the secret of a workload's webhook; None when it has none.
    ///
    /// # Errors
    /// [`StoreError::Seal`] when the row was changed or moved; [`StoreError::Database`].
    pub async fn webhook_secret(
        &self,
        workload: &PrincipalName,
    ) -> Result<Option<Secret>, StoreError> {
        let sealed: Option<String> =
            sqlx::query_scalar("SELECT sealed FROM webhook_secrets WHERE workload = $1")
                .bind(workload.as_str())
                .fetch_optional(&self.read)
                .await
                .doing("be read")?;
        Ok(sealed.map(|sealed| self.seal.open(PURPOSE, workload.as_str(), &sealed)).transpose()?)
    }
}

/// Gives whether anything changed; setting counts as a change even to the same value.
pub(crate) async fn change_secret(
    change: &mut Transaction<'static, Sqlite>,
    seal: &Seal,
    workload: &str,
    secret: SecretChange,
) -> Result<bool, StoreError> {
    match secret {
        SecretChange::Keep => Ok(false),
        SecretChange::Remove => forget(change, workload).await,
        SecretChange::Set(secret) => {
            let sealed = seal.seal(PURPOSE, workload, &secret)?;
            sqlx::query(
                "INSERT INTO webhook_secrets (workload, sealed) VALUES ($1, $2)
                 ON CONFLICT (workload) DO UPDATE SET sealed = excluded.sealed",
            )
            .bind(workload)
            .bind(sealed)
            .execute(&mut **change)
            .await
            .doing("be written")?;
            Ok(true)
        }
    }
}

/// A name that is given again later must not inherit anything. Gives whether there was a secret.
pub(crate) async fn forget(
    change: &mut Transaction<'static, Sqlite>,
    workload: &str,
) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM webhook_secrets WHERE workload = $1")
        .bind(workload)
        .execute(&mut **change)
        .await
        .doing("be written")?;
    Ok(done.rows_affected() > 0)
}
