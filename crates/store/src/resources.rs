//! The configuration: every resource in every version that it ever had.
//!
//! A change is applied whole or not at all and makes one new version, so that a decision can be
//! explained, and a recorded session decided again, under the configuration of its time.

use std::collections::BTreeSet;

use corral_model::ids::{PolicyVersion, TargetName};
use corral_model::limits;
use corral_model::principal::{Offboarding, PrincipalKind};
use corral_model::resource::{ProviderSecret, Resource, ResourceKind, WorkloadSecret};
use corral_model::secret::Secret;
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};
use time::OffsetDateTime;

use crate::credentials::{self, CredentialPurpose};
use crate::error::{Doing, StoreError};
use crate::offboardings;
use crate::people;
use crate::providers;
use crate::rows::{Columns, from_count, from_json, to_count, to_json, to_ms};
use crate::scim::{self, ScimChange};
use crate::store::Store;
use crate::workload_secrets;

/// What becomes of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SecretChange {
    /// Stays as it is, or absent.
    #[default]
    Keep,
    Remove,
    Set(Secret),
}

/// A resource to be created or changed, with its secrets apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Its secrets are left out when it is stored, wherever the spec says that they are.
    pub resource: Resource,
    /// A target's password. Removed when the spec has no `credential`, whatever stands here.
    pub credential: SecretChange,
    /// The same for `masked_credential`.
    pub masked_credential: SecretChange,
    /// The argon2id PHC string of a user's password or a workload's secret, never the password.
    pub login_hash: SecretChange,
    /// Of a workload's webhook and poll; those that are not named stay. Removed when the spec is
    /// without the part that they belong to.
    pub workload_secrets: Vec<(WorkloadSecret, Secret)>,
    /// Of an identity provider; those that are not named stay. Removed when the spec is without
    /// the part that they belong to.
    pub provider_secrets: Vec<(ProviderSecret, Secret)>,
}

impl Put {
    /// Keeps all secrets as they are.
    #[must_use]
    pub fn new(resource: Resource) -> Self {
        Self {
            resource,
            credential: SecretChange::Keep,
            masked_credential: SecretChange::Keep,
            login_hash: SecretChange::Keep,
            workload_secrets: Vec::new(),
            provider_secrets: Vec::new(),
        }
    }
}

/// One change of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Put(Box<Put>),
    /// With all that hangs on it: sealed credentials, login hash, login tokens.
    Delete {
        kind: ResourceKind,
        name: String,
    },
}

/// Changes that are applied together.
#[derive(Debug, Clone, PartialEq)]
pub struct Apply {
    pub changes: Vec<Change>,
    /// The version that the changes were checked against; another one refuses them.
    pub expected: Option<PolicyVersion>,
    pub by: String,
    pub at: OffsetDateTime,
    /// Whose standing these changes take away: kept until each is finished.
    pub offboardings: Vec<Offboarding>,
    /// What providers wrote of the people who change; kept when anything changes at all.
    pub documents: Vec<ScimChange>,
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeEffect {
    Created,
    Changed,
    Unchanged,
    Deleted,
}

/// One resource that was named in a change, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub effect: ChangeEffect,
    /// As in manifests.
    pub kind: String,
    pub name: String,
}

impl std::fmt::Display for Changed {
    /// As in events: `created target/orders-db`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let effect = match self.effect {
            ChangeEffect::Created => "created",
            ChangeEffect::Changed => "changed",
            ChangeEffect::Unchanged => "unchanged",
            ChangeEffect::Deleted => "deleted",
        };
        write!(f, "{effect} {}/{}", self.kind.to_ascii_lowercase(), self.name)
    }
}

/// What an [`Apply`] did, in the order of its changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The version from now on; the earlier one when nothing changed.
    pub version: PolicyVersion,
    pub changes: Vec<Changed>,
}

/// One entry of the configuration's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    pub version: PolicyVersion,
    pub by: String,
    pub at: OffsetDateTime,
    /// Without those that were unchanged.
    pub changes: Vec<Changed>,
}

impl Store {
    /// The version of the configuration: 0 before the first change.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn config_version(&self) -> Result<PolicyVersion, StoreError> {
        let version: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM configs")
            .fetch_one(&self.read)
            .await
            .doing("be read")?;
        from_count(version).map(PolicyVersion)
    }

    /// Every resource with the version that it belongs to, read at one moment, by kind and name.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn snapshot(&self) -> Result<(PolicyVersion, Vec<Resource>), StoreError> {
        let mut reading = self.read.begin().await.doing("begin reading")?;
        let version: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM configs")
            .fetch_one(&mut *reading)
            .await
            .doing("be read")?;
        let rows = sqlx::query(
            "SELECT spec FROM resources WHERE until_version IS NULL ORDER BY kind, name",
        )
        .fetch_all(&mut *reading)
        .await
        .doing("be read")?;
        let resources: Result<Vec<Resource>, StoreError> =
            rows.iter().map(|row| Columns(row).json("spec")).collect();
        Ok((PolicyVersion(from_count(version)?), resources?))
    }

    /// Resources by name, of one kind or of every kind.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn resources(&self, kind: Option<ResourceKind>) -> Result<Vec<Resource>, StoreError> {
        let (_, mut resources) = self.snapshot().await?;
        resources.retain(|found| kind.is_none_or(|kind| found.resource_kind() == kind));
        Ok(resources)
    }

    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn resource(
        &self,
        kind: ResourceKind,
        name: &str,
    ) -> Result<Option<Resource>, StoreError> {
        let row = sqlx::query(
            "SELECT spec FROM resources WHERE kind = $1 AND name = $2 AND until_version IS NULL",
        )
        .bind(kind.name())
        .bind(name)
        .fetch_optional(&self.read)
        .await
        .doing("be read")?;
        row.map(|row| Columns(&row).json("spec")).transpose()
    }

    /// The resources as they were at a version, of one kind or of every kind, by kind and name.
    /// A version that was never reached gives the newest.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn resources_at(
        &self,
        version: PolicyVersion,
        kind: Option<ResourceKind>,
    ) -> Result<Vec<Resource>, StoreError> {
        let rows = sqlx::query(
            "SELECT spec FROM resources
             WHERE from_version <= $1 AND (until_version IS NULL OR until_version > $1)
               AND (kind = $2 OR $2 IS NULL)
             ORDER BY kind, name",
        )
        .bind(to_count(version.0))
        .bind(kind.map(ResourceKind::name))
        .fetch_all(&self.read)
        .await
        .doing("be read")?;
        rows.iter().map(|row| Columns(row).json("spec")).collect()
    }

    /// The newest changes of the configuration, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn config_changes(&self, limit: u32) -> Result<Vec<ConfigChange>, StoreError> {
        let rows = sqlx::query(
            "SELECT version, changed_by, at_ms, changes FROM configs
             ORDER BY version DESC LIMIT $1",
        )
        .bind(i64::from(limit.min(limits::LIST_LEN_MAX)))
        .fetch_all(&self.read)
        .await
        .doing("be read")?;
        rows.iter()
            .map(|row| {
                let columns = Columns(row);
                Ok(ConfigChange {
                    version: PolicyVersion(columns.count("version")?),
                    by: columns.text("changed_by")?,
                    at: columns.time("at_ms")?,
                    changes: columns.json("changes")?,
                })
            })
            .collect()
    }

    /// Applies all changes, or none. The version grows by one when anything changed.
    ///
    /// # Errors
    /// [`StoreError::VersionMoved`], [`StoreError::NoSuchResource`] for a deletion,
    /// [`StoreError::PasswordNeeded`], [`StoreError::SecretNeeded`],
    /// [`StoreError::PollTokenNeeded`], [`StoreError::ChangedTwice`],
    /// [`StoreError::TooManyChanges`]: the caller is to blame.
    /// [`StoreError::Seal`], [`StoreError::Database`].
    ///
    /// # Limits
    /// [`limits::APPLY_CHANGES_MAX`] changes.
    ///
    /// # Cancel safety
    /// Cancelled before it returns, all was applied or nothing was.
    pub async fn apply(&self, apply: Apply) -> Result<Applied, StoreError> {
        check_changes(&apply.changes)?;
        let changing = self.kept_credentials.change();
        let applied = self.apply_checked(apply).await;
        changing.ended();
        applied
    }

    async fn apply_checked(&self, apply: Apply) -> Result<Applied, StoreError> {
        let mut change = self.begin().await?;
        let found: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM configs")
            .fetch_one(&mut *change)
            .await
            .doing("be read")?;
        let found = PolicyVersion(from_count(found)?);
        if let Some(expected) = apply.expected.filter(|expected| *expected != found) {
            return Err(StoreError::VersionMoved { expected, found });
        }
        let next = PolicyVersion(found.0 + 1);
        let mut changes: Vec<Changed> = Vec::with_capacity(apply.changes.len());
        for one in apply.changes {
            changes.push(match one {
                Change::Put(put) => self.put(&mut change, *put, next).await?,
                Change::Delete { kind, name } => delete(&mut change, kind, name, next).await?,
            });
        }
        let effective: Vec<&Changed> =
            changes.iter().filter(|one| one.effect != ChangeEffect::Unchanged).collect();
        if effective.is_empty() {
            return Ok(Applied { version: found, changes });
        }
        scim::change_documents(&mut change, &apply.documents).await?;
        sqlx::query(
            "INSERT INTO configs (version, changed_by, at_ms, changes) VALUES ($1, $2, $3, $4)",
        )
        .bind(to_count(next.0))
        .bind(&apply.by)
        .bind(to_ms(apply.at))
        .bind(to_json(&effective)?)
        .execute(&mut *change)
        .await
        .doing("be written")?;
        offboardings::begin(&mut change, &apply.offboardings).await?;
        change.commit().await.doing("keep a change")?;
        Ok(Applied { version: next, changes })
    }

    async fn put(
        &self,
        change: &mut Transaction<'static, Sqlite>,
        put: Put,
        version: PolicyVersion,
    ) -> Result<Changed, StoreError> {
        let resource = put.resource.without_secrets();
        let (kind, name) = (resource.resource_kind(), resource.name().to_owned());
        let spec = to_json(&resource)?;
        let earlier: Option<String> = sqlx::query_scalar(
            "SELECT spec FROM resources WHERE kind = $1 AND name = $2 AND until_version IS NULL",
        )
        .bind(kind.name())
        .bind(&name)
        .fetch_optional(&mut **change)
        .await
        .doing("be read")?;
        let earlier: Option<Resource> =
            earlier.map(|spec| from_json(&spec, "a resource")).transpose()?;
        let mut effect = match &earlier {
            None => ChangeEffect::Created,
            Some(earlier) if *earlier == resource => ChangeEffect::Unchanged,
            Some(_) => ChangeEffect::Changed,
        };
        let goes_elsewhere = if let (Some(Resource::Target(before)), Resource::Target(after)) =
            (&earlier, &resource)
        {
            after.goes_elsewhere(before)
        } else {
            false
        };
        if effect != ChangeEffect::Unchanged {
            end_holding(change, kind, &name, version).await?;
            sqlx::query(
                "INSERT INTO resources (kind, name, from_version, spec) VALUES ($1, $2, $3, $4)",
            )
            .bind(kind.name())
            .bind(&name)
            .bind(to_count(version.0))
            .bind(spec)
            .execute(&mut **change)
            .await
            .doing("be written")?;
        }
        let is_secret_changed = match &resource {
            Resource::Target(spec) => {
                let mut is_changed = false;
                for (purpose, is_in_spec, secret) in [
                    (CredentialPurpose::Credential, spec.credential.is_some(), put.credential),
                    (
                        CredentialPurpose::MaskedCredential,
                        spec.masked_credential.is_some(),
                        put.masked_credential,
                    ),
                ] {
                    let secret = if is_in_spec { secret } else { SecretChange::Remove };
                    if goes_elsewhere && secret == SecretChange::Keep {
                        require_no_credential(change, &spec.name, purpose).await?;
                    }
                    let (seal, target) = (&self.seal, &spec.name);
                    is_changed |=
                        credentials::change_credential(change, seal, target, purpose, secret)
                            .await?;
                }
                is_changed
            }
            Resource::User(_) => {
                credentials::change_login_hash(change, kind, &name, put.login_hash).await?
            }
            Resource::Workload(spec) => {
                let before = match &earlier {
                    Some(Resource::Workload(before)) => Some(before),
                    Some(_) | None => None,
                };
                let (seal, given) = (&self.seal, &put.workload_secrets);
                let is_changed =
                    workload_secrets::change_secrets(change, seal, spec, before, given).await?;
                let login = put.login_hash;
                credentials::change_login_hash(change, kind, &name, login).await? || is_changed
            }
            Resource::IdentityProvider(spec) => {
                let goes_elsewhere = match &earlier {
                    Some(Resource::IdentityProvider(before)) => spec.goes_elsewhere(before),
                    Some(_) | None => false,
                };
                let given = put.provider_secrets;
                providers::change_secrets(change, &self.seal, spec, given, goes_elsewhere).await?
            }
            Resource::Policy(_)
            | Resource::Limit(_)
            | Resource::Command(_)
            | Resource::Relay(_) => false,
        };
        if is_secret_changed && effect == ChangeEffect::Unchanged {
            effect = ChangeEffect::Changed;
        }
        Ok(Changed { effect, kind: kind.name().to_owned(), name })
    }
}

/// A kept password would go to a place that it was not given for.
async fn require_no_credential(
    change: &mut Transaction<'static, Sqlite>,
    target: &TargetName,
    purpose: CredentialPurpose,
) -> Result<(), StoreError> {
    if credentials::has_credential(change, target, purpose).await? {
        let (target, key) = (target.to_string(), purpose.word());
        return Err(StoreError::PasswordNeeded { target, key });
    }
    Ok(())
}

fn check_changes(changes: &[Change]) -> Result<(), StoreError> {
    let (count, max) = (changes.len(), limits::APPLY_CHANGES_MAX);
    if count > max {
        return Err(StoreError::TooManyChanges { count, max });
    }
    let mut seen: BTreeSet<(ResourceKind, &str)> = BTreeSet::new();
    for change in changes {
        let (kind, name) = match change {
            Change::Put(put) => (put.resource.resource_kind(), put.resource.name()),
            Change::Delete { kind, name } => (*kind, name.as_str()),
        };
        if !seen.insert((kind, name)) {
            return Err(StoreError::ChangedTwice { kind, name: name.to_owned() });
        }
    }
    Ok(())
}

/// Gives the number of rows that held: 0 or 1.
async fn end_holding(
    change: &mut Transaction<'static, Sqlite>,
    kind: ResourceKind,
    name: &str,
    version: PolicyVersion,
) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "UPDATE resources SET until_version = $3
         WHERE kind = $1 AND name = $2 AND until_version IS NULL",
    )
    .bind(kind.name())
    .bind(name)
    .bind(to_count(version.0))
    .execute(&mut **change)
    .await
    .doing("be written")?;
    Ok(done.rows_affected())
}

async fn delete(
    change: &mut Transaction<'static, Sqlite>,
    kind: ResourceKind,
    name: String,
    version: PolicyVersion,
) -> Result<Changed, StoreError> {
    if end_holding(change, kind, &name, version).await? == 0 {
        return Err(StoreError::NoSuchResource { kind, name });
    }
    match kind {
        ResourceKind::Target => credentials::delete_credentials(change, &name).await?,
        ResourceKind::User => {
            credentials::delete_login(change, kind, PrincipalKind::User, &name).await?;
            people::forget(change, &name).await?;
        }
        ResourceKind::Workload => {
            credentials::delete_login(change, kind, PrincipalKind::Workload, &name).await?;
            workload_secrets::forget(change, &name).await?;
        }
        ResourceKind::Relay => crate::relays::forget(change, &name).await?,
        ResourceKind::IdentityProvider => {
            providers::forget(change, &name).await?;
            scim::forget(change, &name).await?;
        }
        ResourceKind::Policy | ResourceKind::Limit | ResourceKind::Command => {}
    }
    Ok(Changed { effect: ChangeEffect::Deleted, kind: kind.name().to_owned(), name })
}
