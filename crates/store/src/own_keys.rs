//! Secret keys of the gateway's own: made once, kept sealed.

use corral_model::secret::Secret;

use crate::error::{Doing, StoreError};
use crate::store::Store;

/// What is sealed is bound to this purpose and the key's name.
const PURPOSE: &str = "own_key";

impl Store {
    /// The key with this name. The first caller's `made` becomes the key; every later caller, on
    /// any gateway of this store, gets that one.
    ///
    /// # Errors
    /// [`StoreError::Seal`] when the row was changed or renamed; [`StoreError::Database`].
    pub async fn own_key(&self, name: &str, made: &Secret) -> Result<Secret, StoreError> {
        let sealed = self.seal.seal(PURPOSE, name, made)?;
        sqlx::query("INSERT INTO own_keys (name, sealed) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(name)
            .bind(sealed)
            .execute(&self.write)
            .await
            .doing("be written")?;
        let sealed: String = sqlx::query_scalar("SELECT sealed FROM own_keys WHERE name = $1")
            .bind(name)
            .fetch_one(&self.read)
            .await
            .doing("be read")?;
        Ok(self.seal.open(PURPOSE, name, &sealed)?)
    }
}
