//! Sealed credentials of targets, and login hashes of users and workloads. They change with
//! their resources only, in the same transaction.

use corral_model::ids::TargetName;
use corral_model::principal::{Principal, PrincipalKind};
use corral_model::resource::ResourceKind;
use corral_model::secret::Secret;
use sqlx::{Sqlite, Transaction};

use crate::error::{Doing, StoreError};
use crate::resources::SecretChange;
use crate::rows::to_word;
use crate::seal::Seal;
use crate::store::Store;

/// Which of a target's two passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CredentialPurpose {
    Credential,
    /// The database floor.
    MaskedCredential,
}

impl CredentialPurpose {
    /// Its key in manifests, and its name in what is sealed.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::MaskedCredential => "masked_credential",
        }
    }
}

impl Store {
    /// Opens a target's password; None when it has none.
    ///
    /// # Errors
    /// [`StoreError::Seal`] when the row was changed or moved there from another target.
    pub async fn credential(
        &self,
        target: &TargetName,
        purpose: CredentialPurpose,
    ) -> Result<Option<Secret>, StoreError> {
        let sealed = match self.kept_credentials.find(target, purpose) {
            Ok(kept) => kept,
            Err(moment) => {
                let sealed = self.sealed_credential(target, purpose).await?;
                self.kept_credentials.keep(moment, target, purpose, sealed.clone());
                sealed
            }
        };
        let open = |sealed: String| self.seal.open(purpose.word(), target.as_str(), &sealed);
        Ok(sealed.map(open).transpose()?)
    }

    async fn sealed_credential(
        &self,
        target: &TargetName,
        purpose: CredentialPurpose,
    ) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("SELECT sealed FROM credentials WHERE target = $1 AND purpose = $2")
            .bind(target.as_str())
            .bind(purpose.word())
            .fetch_optional(&self.read)
            .await
            .doing("be read")
    }

    /// Keeps the secret that a target gave in place of one; gives whether that was still the
    /// present one. Nothing else of the target changes.
    ///
    /// # Errors
    /// [`StoreError::Seal`] as in [`Self::credential`], [`StoreError::Database`].
    pub async fn replace_credential(
        &self,
        target: &TargetName,
        purpose: CredentialPurpose,
        secrets: (&Secret, Secret),
    ) -> Result<bool, StoreError> {
        let changing = self.kept_credentials.change();
        let replaced = self.replace_in_table(target, purpose, secrets).await;
        changing.ended();
        replaced
    }

    async fn replace_in_table(
        &self,
        target: &TargetName,
        purpose: CredentialPurpose,
        (before, after): (&Secret, Secret),
    ) -> Result<bool, StoreError> {
        let mut change = self.begin().await?;
        let sealed: Option<String> =
            sqlx::query_scalar("SELECT sealed FROM credentials WHERE target = $1 AND purpose = $2")
                .bind(target.as_str())
                .bind(purpose.word())
                .fetch_optional(&mut *change)
                .await
                .doing("be read")?;
        let open = |sealed: String| self.seal.open(purpose.word(), target.as_str(), &sealed);
        if sealed.map(open).transpose()?.as_ref() != Some(before) {
            return Ok(false);
        }
        let after = SecretChange::Set(after);
        change_credential(&mut change, &self.seal, target, purpose, after).await?;
        change.commit().await.doing("be written")?;
        Ok(true)
    }

    /// The argon2id PHC string of a user's password or a workload's secret; None when there is
    /// none, or no such principal.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn login_hash(&self, principal: &Principal) -> Result<Option<Secret>, StoreError> {
        let kind = match principal.kind {
            PrincipalKind::User => ResourceKind::User,
            PrincipalKind::Workload => ResourceKind::Workload,
        };
        let phc: Option<String> =
            sqlx::query_scalar("SELECT phc FROM login_hashes WHERE kind = $1 AND name = $2")
                .bind(kind.name())
                .bind(principal.name.as_str())
                .fetch_optional(&self.read)
                .await
                .doing("be read")?;
        Ok(phc.map(Secret::new))
    }
}

/// Gives whether anything changed; setting counts as a change even to the same value.
pub(crate) async fn change_credential(
    change: &mut Transaction<'static, Sqlite>,
    seal: &Seal,
    target: &TargetName,
    purpose: CredentialPurpose,
    secret: SecretChange,
) -> Result<bool, StoreError> {
    let done = match secret {
        SecretChange::Keep => return Ok(false),
        SecretChange::Remove => {
            sqlx::query("DELETE FROM credentials WHERE target = $1 AND purpose = $2")
                .bind(target.as_str())
                .bind(purpose.word())
                .execute(&mut **change)
                .await
        }
        SecretChange::Set(secret) => {
            let sealed = seal.seal(purpose.word(), target.as_str(), &secret)?;
            sqlx::query(
                "INSERT INTO credentials (target, purpose, sealed) VALUES ($1, $2, $3)
                 ON CONFLICT (target, purpose) DO UPDATE SET sealed = excluded.sealed",
            )
            .bind(target.as_str())
            .bind(purpose.word())
            .bind(sealed)
            .execute(&mut **change)
            .await
        }
    };
    Ok(done.doing("be written")?.rows_affected() > 0)
}

/// As [`change_credential`].
pub(crate) async fn change_login_hash(
    change: &mut Transaction<'static, Sqlite>,
    kind: ResourceKind,
    name: &str,
    phc: SecretChange,
) -> Result<bool, StoreError> {
    let done = match phc {
        SecretChange::Keep => return Ok(false),
        SecretChange::Remove => {
            sqlx::query("DELETE FROM login_hashes WHERE kind = $1 AND name = $2")
                .bind(kind.name())
                .bind(name)
                .execute(&mut **change)
                .await
        }
        SecretChange::Set(phc) => {
            sqlx::query(
                "INSERT INTO login_hashes (kind, name, phc) VALUES ($1, $2, $3)
                 ON CONFLICT (kind, name) DO UPDATE SET phc = excluded.phc",
            )
            .bind(kind.name())
            .bind(name)
            .bind(phc.reveal())
            .execute(&mut **change)
            .await
        }
    };
    Ok(done.doing("be written")?.rows_affected() > 0)
}

pub(crate) async fn has_credential(
    change: &mut Transaction<'static, Sqlite>,
    target: &TargetName,
    purpose: CredentialPurpose,
) -> Result<bool, StoreError> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM credentials WHERE target = $1 AND purpose = $2")
            .bind(target.as_str())
            .bind(purpose.word())
            .fetch_optional(&mut **change)
            .await
            .doing("be read")?;
    Ok(found.is_some())
}

pub(crate) async fn delete_credentials(
    change: &mut Transaction<'static, Sqlite>,
    target: &str,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM credentials WHERE target = $1")
        .bind(target)
        .execute(&mut **change)
        .await
        .doing("be written")?;
    Ok(())
}

/// A name that is given again later must not inherit anything.
pub(crate) async fn delete_login(
    change: &mut Transaction<'static, Sqlite>,
    kind: ResourceKind,
    principal: PrincipalKind,
    name: &str,
) -> Result<(), StoreError> {
    change_login_hash(change, kind, name, SecretChange::Remove).await?;
    sqlx::query("DELETE FROM tokens WHERE principal_kind = $1 AND principal = $2")
        .bind(to_word(&principal)?)
        .bind(name)
        .execute(&mut **change)
        .await
        .doing("be written")?;
    Ok(())
}
