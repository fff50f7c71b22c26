//! Offboardings that are not finished: what must be completed when the gateway starts again.

use corral_model::ids::PrincipalName;
use corral_model::principal::{OffboardEffect, Offboarding};
use sqlx::{Sqlite, Transaction};

use crate::error::{Doing, StoreError};
use crate::rows::{Columns, to_word};
use crate::store::Store;

impl Store {
    /// Offboardings that were kept with a change of the configuration and not finished, by name.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn unfinished_offboardings(&self) -> Result<Vec<Offboarding>, StoreError> {
        let rows = sqlx::query("SELECT * FROM offboardings ORDER BY person, effect")
            .fetch_all(&self.read)
            .await
            .doing("be read")?;
        rows.iter()
            .map(|row| {
                let columns = Columns(row);
                Ok(Offboarding {
                    person: columns.id("person")?,
                    effect: columns.id("effect")?,
                    cause: columns.id("cause")?,
                    by: columns.text("by_whom")?,
                })
            })
            .collect()
    }

    /// Tokens, runs and sessions ended, and the event was written.
    ///
    /// # Errors
    /// [`StoreError::Database`]: it is completed once more at the next start.
    pub async fn finish_offboarding(
        &self,
        person: &PrincipalName,
        effect: OffboardEffect,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM offboardings WHERE person = $1 AND effect = $2")
            .bind(person.as_str())
            .bind(to_word(&effect)?)
            .execute(&self.write)
            .await
            .doing("be written")?;
        Ok(())
    }
}

pub(crate) async fn begin(
    change: &mut Transaction<'static, Sqlite>,
    offboardings: &[Offboarding],
) -> Result<(), StoreError> {
    for offboarding in offboardings {
        sqlx::query(
            "INSERT INTO offboardings (person, effect, cause, by_whom) VALUES ($1, $2, $3, $4)
             ON CONFLICT (person, effect)
             DO UPDATE SET cause = excluded.cause, by_whom = excluded.by_whom",
        )
        .bind(offboarding.person.as_str())
        .bind(to_word(&offboarding.effect)?)
        .bind(to_word(&offboarding.cause)?)
        .bind(&offboarding.by)
        .execute(&mut **change)
        .await
        .doing("be written")?;
    }
    Ok(())
}
