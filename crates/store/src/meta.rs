//! The gateway's id, its name, and the value that proves the seal key.

use sqlx::sqlite::SqlitePool;

use crate::error::{Doing, StoreError};
use crate::seal::{Seal, SealError, SealSource, StoreAge};
use crate::store::Store;

/// Who this gateway is, for as long as its store lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// 16 hexadecimal digits, made at the first start.
    pub id: String,
    /// As events name it; the id until somebody sets a name.
    pub name: String,
}

impl Store {
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn gateway(&self) -> Result<Gateway, StoreError> {
        let id = value(&self.read, "gateway_id").await?;
        let id = id.ok_or_else(|| StoreError::corrupt("no gateway id"))?;
        let name = value(&self.read, "gateway_name").await?;
        Ok(Gateway { name: name.unwrap_or_else(|| id.clone()), id })
    }

    /// # Errors
    /// [`StoreError::Database`].
    pub async fn set_gateway_name(&self, name: &str) -> Result<(), StoreError> {
        set_value(&self.write, "gateway_name", name).await
    }
}

/// Loads the key, and proves it against the store or leaves the proof there.
pub(crate) async fn open_seal(write: &SqlitePool, source: &SealSource) -> Result<Seal, StoreError> {
    let id = match value(write, "gateway_id").await? {
        Some(id) => id,
        None => {
            let id = random_id()?;
            set_value(write, "gateway_id", &id).await?;
            id
        }
    };
    match value(write, "seal_check").await? {
        Some(check) => {
            let seal = Seal::load(source, StoreAge::Sealed)?;
            seal.check(&id, &check)?;
            Ok(seal)
        }
        None => {
            let seal = Seal::load(source, StoreAge::New)?;
            set_value(write, "seal_check", &seal.check_value(&id)?).await?;
            Ok(seal)
        }
    }
}

fn random_id() -> Result<String, SealError> {
    let mut bytes = [0_u8; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SealError::CannotSeal)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

async fn value(pool: &SqlitePool, name: &str) -> Result<Option<String>, StoreError> {
    sqlx::query_scalar("SELECT value FROM meta WHERE name = $1")
        .bind(name)
        .fetch_optional(pool)
        .await
        .doing("be read")
}

async fn set_value(pool: &SqlitePool, name: &str, value: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO meta (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .bind(name)
    .bind(value)
    .execute(pool)
    .await
    .doing("be written")?;
    Ok(())
}
