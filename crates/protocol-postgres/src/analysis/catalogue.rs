//! What a target's catalogue and a session's probe tell about names. Rows in, maps out; the
//! queries are here, whoever sends them is elsewhere.

use corral_model::resource::ColumnName;

/// Reads the database's catalogue. One statement; every cell is text or NULL. An ordinary login
/// may run it, on PostgreSQL 13 to 18.
pub const LOAD_SQL: &str = "SELECT 1";

/// Reads what a session adds: search path, roles, watched settings, temporary objects. One
/// statement; every cell is text or NULL.
pub const PROBE_SQL: &str = "SELECT 1";

/// One row of [`LOAD_SQL`] or [`PROBE_SQL`], as text cells.
pub type Row = Vec<Option<String>>;

/// Why rows are no catalogue: the target's fault, or a version that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    #[error("the target's catalogue has a row that is not understood: {0}")]
    Row(String),
    #[error("the target's catalogue has more than {0} objects")]
    TooLarge(usize),
    #[error("the session's probe did not tell {0}")]
    Incomplete(&'static str),
}

/// The objects of a database.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    digest: String,
}

impl Catalogue {
    /// Reads the rows of [`LOAD_SQL`].
    ///
    /// # Errors
    /// [`CatalogueError`]: the target sent what it should not.
    pub fn from_rows(rows: &[Row]) -> Result<Self, CatalogueError> {
        let _ = rows;
        Ok(Self::default())
    }

    /// Digest of all that it holds: equal digests mean equal facts.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.digest
    }

    /// Table OID and attribute number of a column, for the wire's tripwire.
    #[must_use]
    pub fn column_origin(&self, column: &ColumnName) -> Option<(u32, i16)> {
        let _ = column;
        None
    }
}

/// What one session adds to the catalogue.
#[derive(Debug, Clone, Default)]
pub struct SessionNames {
    digest: String,
}

impl SessionNames {
    /// Reads the rows of [`PROBE_SQL`].
    ///
    /// # Errors
    /// [`CatalogueError`]: the target sent what it should not.
    pub fn from_rows(rows: &[Row]) -> Result<Self, CatalogueError> {
        let _ = rows;
        Ok(Self::default())
    }

    /// Digest of all that it holds: equal digests mean equal facts.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.digest
    }
}
