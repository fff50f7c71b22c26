//! Documents that providers wrote by SCIM, kept beside the people that they describe: a change of
//! both is one transaction.

use corral_model::ids::ResourceName;
use serde_json::{Map, Value};
use sqlx::{Sqlite, Transaction};
use time::OffsetDateTime;

use crate::error::{Doing, StoreError};
use crate::rows::{Columns, to_count, to_json, to_ms};
use crate::store::Store;

/// One document.
#[derive(Debug, Clone, PartialEq)]
pub struct ScimRow {
    pub provider: ResourceName,
    pub id: String,
    /// `User` or `Group`.
    pub kind: String,
    /// Grows with every change.
    pub version: u64,
    pub created_at: OffsetDateTime,
    pub modified_at: OffsetDateTime,
    pub body: Map<String, Value>,
}

/// What becomes of one document.
#[derive(Debug, Clone, PartialEq)]
pub enum ScimChange {
    Put(Box<ScimRow>),
    Delete { provider: ResourceName, id: String },
}

impl Store {
    /// Every document, by provider and time of creation.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn scim_documents(&self) -> Result<Vec<ScimRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM scim_documents ORDER BY provider, created_at_ms, id")
            .fetch_all(&self.read)
            .await
            .doing("be read")?;
        let read = |row| {
            let columns = Columns(row);
            Ok(ScimRow {
                provider: columns.id("provider")?,
                id: columns.text("id")?,
                kind: columns.text("kind")?,
                version: columns.count("version")?,
                created_at: columns.time("created_at_ms")?,
                modified_at: columns.time("modified_at_ms")?,
                body: columns.json("body")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Keeps documents from which no change of the configuration follows, all or none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn change_scim_documents(&self, documents: &[ScimChange]) -> Result<(), StoreError> {
        let mut change = self.begin().await?;
        change_documents(&mut change, documents).await?;
        change.commit().await.doing("keep a change")
    }
}

pub(crate) async fn change_documents(
    change: &mut Transaction<'static, Sqlite>,
    documents: &[ScimChange],
) -> Result<(), StoreError> {
    for document in documents {
        match document {
            ScimChange::Put(row) => put(change, row).await?,
            ScimChange::Delete { provider, id } => {
                sqlx::query("DELETE FROM scim_documents WHERE provider = $1 AND id = $2")
                    .bind(provider.as_str())
                    .bind(id)
                    .execute(&mut **change)
                    .await
                    .doing("be written")?;
            }
        }
    }
    Ok(())
}

async fn put(change: &mut Transaction<'static, Sqlite>, row: &ScimRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO scim_documents
             (provider, id, kind, version, created_at_ms, modified_at_ms, body)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (provider, id) DO UPDATE SET
             version = excluded.version, modified_at_ms = excluded.modified_at_ms,
             body = excluded.body",
    )
    .bind(row.provider.as_str())
    .bind(&row.id)
    .bind(&row.kind)
    .bind(to_count(row.version))
    .bind(to_ms(row.created_at))
    .bind(to_ms(row.modified_at))
    .bind(to_json(&row.body)?)
    .execute(&mut **change)
    .await
    .doing("be written")?;
    Ok(())
}

/// A name that is given again later must not inherit anything.
pub(crate) async fn forget(
    change: &mut Transaction<'static, Sqlite>,
    provider: &str,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM scim_documents WHERE provider = $1")
        .bind(provider)
        .execute(&mut **change)
        .await
        .doing("be written")?;
    Ok(())
}
