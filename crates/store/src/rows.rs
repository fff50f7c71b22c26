//! Between columns and types. A column that does not read is corruption, never a panic.

use corral_model::ids::PrincipalName;
use corral_model::principal::{Principal, PrincipalKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use time::OffsetDateTime;

use crate::error::{Doing, StoreError};

/// Milliseconds since 1970; a time outside of what fits stands at the edge.
pub(crate) fn to_ms(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

pub(crate) fn from_ms(ms: i64) -> Result<OffsetDateTime, StoreError> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .map_err(|_| StoreError::corrupt("a time"))
}

/// A count as SQL holds it; one that does not fit stands at the edge.
pub(crate) fn to_count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(crate) fn from_count(count: i64) -> Result<u64, StoreError> {
    u64::try_from(count).map_err(|_| StoreError::corrupt("a count"))
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::corrupt("a value without a JSON form"))
}

pub(crate) fn from_json<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::corrupt(what))
}

/// The one word that serde writes for a variant without fields.
pub(crate) fn to_word<T: Serialize>(value: &T) -> Result<String, StoreError> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        Ok(_) | Err(_) => Err(StoreError::corrupt("a variant that is not one word")),
    }
}

pub(crate) fn from_word<T: DeserializeOwned>(word: String, what: &str) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(word)).map_err(|_| StoreError::corrupt(what))
}

/// Reads the columns of one row.
pub(crate) struct Columns<'r>(pub(crate) &'r SqliteRow);

impl Columns<'_> {
    pub(crate) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.0.try_get(column).doing("read a column of text")
    }

    pub(crate) fn optional_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.0.try_get(column).doing("read a column of text")
    }

    pub(crate) fn number(&self, column: &'static str) -> Result<i64, StoreError> {
        self.0.try_get(column).doing("read a column of numbers")
    }

    pub(crate) fn optional_number(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        self.0.try_get(column).doing("read a column of numbers")
    }

    pub(crate) fn count(&self, column: &'static str) -> Result<u64, StoreError> {
        from_count(self.number(column)?)
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<OffsetDateTime, StoreError> {
        from_ms(self.number(column)?)
    }

    pub(crate) fn optional_time(
        &self,
        column: &'static str,
    ) -> Result<Option<OffsetDateTime>, StoreError> {
        self.optional_number(column)?.map(from_ms).transpose()
    }

    /// An identifier, checked as it was when it was written.
    pub(crate) fn id<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        from_word(self.text(column)?, column)
    }

    pub(crate) fn optional_id<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        self.optional_text(column)?.map(|text| from_word(text, column)).transpose()
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        from_json(&self.text(column)?, column)
    }

    /// The columns `principal_kind` and `principal`.
    pub(crate) fn principal(&self) -> Result<Principal, StoreError> {
        let kind: PrincipalKind = self.id("principal_kind")?;
        let name: PrincipalName = self.id("principal")?;
        Ok(Principal { kind, name })
    }
}
