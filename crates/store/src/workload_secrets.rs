//! Sealed secrets that the gateway shares with the CI systems of workloads.

use corral_model::ids::PrincipalName;
use corral_model::resource::{WorkloadSecret, WorkloadSpec};
use corral_model::secret::Secret;
use sqlx::{Sqlite, Transaction};

use crate::error::{Doing, StoreError};
use crate::seal::Seal;
use crate::store::Store;

/// What is sealed is bound to this purpose and the workload's name.
fn purpose(which: WorkloadSecret) -> &'static str {
    match which {
        WorkloadSecret::Webhook => "webhook",
        WorkloadSecret::Poll => "poll",
    }
}

impl Store {
    /// Opens a secret of a workload; None when it has none.
    ///
    /// # Errors
    /// [`StoreError::Seal`] when the row was changed or moved; [`StoreError::Database`].
    pub async fn workload_secret(
        &self,
        workload: &PrincipalName,
        which: WorkloadSecret,
    ) -> Result<Option<Secret>, StoreError> {
        let sealed: Option<String> = sqlx::query_scalar(
            "SELECT sealed FROM workload_secrets WHERE workload = $1 AND purpose = $2",
        )
        .bind(workload.as_str())
        .bind(purpose(which))
        .fetch_optional(&self.read)
        .await
        .doing("be read")?;
        let open = |sealed: String| self.seal.open(purpose(which), workload.as_str(), &sealed);
        Ok(sealed.map(open).transpose()?)
    }
}

/// Gives whether anything changed; setting counts as a change even to the same value.
pub(crate) async fn change_secrets(
    change: &mut Transaction<'static, Sqlite>,
    seal: &Seal,
    spec: &WorkloadSpec,
    before: Option<&WorkloadSpec>,
    given: &[(WorkloadSecret, Secret)],
) -> Result<bool, StoreError> {
    let workload = spec.name.as_str();
    let goes_elsewhere = before.is_some_and(|before| spec.poll_goes_elsewhere(before));
    let mut is_changed = false;
    for which in WorkloadSecret::ALL {
        let secret = given.iter().find(|(of, _)| *of == which).map(|(_, secret)| secret);
        let done = match (spec.has_part_of(which), secret) {
            (true, Some(secret)) => {
                let sealed = seal.seal(purpose(which), workload, secret)?;
                sqlx::query(
                    "INSERT INTO workload_secrets (workload, purpose, sealed) VALUES ($1, $2, $3)
                     ON CONFLICT (workload, purpose) DO UPDATE SET sealed = excluded.sealed",
                )
                .bind(workload)
                .bind(purpose(which))
                .bind(sealed)
                .execute(&mut **change)
                .await
            }
            (true, None) => {
                if goes_elsewhere && which == WorkloadSecret::Poll {
                    require_no_secret(change, workload, which).await?;
                }
                continue;
            }
            (false, _) => {
                sqlx::query("DELETE FROM workload_secrets WHERE workload = $1 AND purpose = $2")
                    .bind(workload)
                    .bind(purpose(which))
                    .execute(&mut **change)
                    .await
            }
        };
        is_changed |= done.doing("be written")?.rows_affected() > 0;
    }
    Ok(is_changed)
}

/// A kept token would be shown to an API that it was not given for.
async fn require_no_secret(
    change: &mut Transaction<'static, Sqlite>,
    workload: &str,
    which: WorkloadSecret,
) -> Result<(), StoreError> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM workload_secrets WHERE workload = $1 AND purpose = $2")
            .bind(workload)
            .bind(purpose(which))
            .fetch_optional(&mut **change)
            .await
            .doing("be read")?;
    match found {
        None => Ok(()),
        Some(_) => Err(StoreError::PollTokenNeeded { workload: workload.to_owned() }),
    }
}

/// A name that is given again later must not inherit anything.
pub(crate) async fn forget(
    change: &mut Transaction<'static, Sqlite>,
    workload: &str,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM workload_secrets WHERE workload = $1")
        .bind(workload)
        .execute(&mut **change)
        .await
        .doing("be written")?;
    Ok(())
}
