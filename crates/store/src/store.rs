//! Opens the file, brings it up to date and checks that its seal key is the right one.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use corral_model::limits;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, SqlSafeStr, Sqlite, Transaction};

use crate::beat::StoreFile;
use crate::error::{Doing, StoreError};
use crate::kept_credentials::KeptCredentials;
use crate::seal::{Seal, SealSource};

/// The state of one gateway. Cheap to clone; clones share the connections.
///
/// One connection writes, so that writers queue instead of failing; several read. Every write is
/// synced before it returns.
#[derive(Clone)]
pub struct Store {
    pub(crate) write: SqlitePool,
    pub(crate) read: SqlitePool,
    pub(crate) seal: Arc<Seal>,
    pub(crate) file: Arc<StoreFile>,
    pub(crate) kept_credentials: Arc<KeptCredentials>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens the store, makes it (mode 0600) when it is not there, and brings its tables up to
    /// date. A seal key file is made only together with the store.
    ///
    /// # Errors
    /// [`StoreError::File`], [`StoreError::Database`], [`StoreError::Migration`], and
    /// [`StoreError::Seal`] when the key is missing, readable by others, or not the store's.
    ///
    /// # Limits
    /// [`limits::STORE_READERS_MAX`] readers; a caller waits [`limits::STORE_WAIT_MAX`] for a
    /// connection.
    ///
    /// # Cancel safety
    /// A start that was cancelled is completed by the next one.
    pub async fn open(path: &Path, seal: &SealSource) -> Result<Self, StoreError> {
        make_private(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(limits::STORE_BUSY_TIMEOUT)
            .foreign_keys(true)
            .pragma("trusted_schema", "OFF")
            .disable_statement_logging();
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(limits::STORE_WAIT_MAX)
            .idle_timeout(None)
            .max_lifetime(None)
            // The one that writes must never be left in a change that nobody ends any more: each
            // later one would fail. A rollback that SQLite did by itself (a full disk, a failed
            // read) leaves sqlx so.
            .before_acquire(|connection, _| {
                let is_free = !connection.is_in_transaction();
                Box::pin(async move { Ok(is_free) })
            })
            .connect_with(options.clone())
            .await
            .doing("be opened")?;
        migrate(&write).await?;
        let read = SqlitePoolOptions::new()
            // Opened at once, so that files open under load are files open at rest.
            .min_connections(limits::STORE_READERS_MAX)
            .max_connections(limits::STORE_READERS_MAX)
            .acquire_timeout(limits::STORE_WAIT_MAX)
            .connect_with(options.read_only(true))
            .await
            .doing("be opened for reading")?;
        let seal = crate::meta::open_seal(&write, seal).await?;
        let file = Arc::new(StoreFile::at(path)?);
        let kept_credentials = Arc::default();
        Ok(Self { write, read, seal: Arc::new(seal), file, kept_credentials })
    }

    /// Waits for what is being written and closes the file.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    /// Begins a change that is kept whole or not at all: dropped, it is undone.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.write.begin_with("BEGIN IMMEDIATE").await.doing("begin a change")
    }
}

/// Makes the file before SQLite does, so that it, its log and its index are never readable by
/// others.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let failed = |doing: &'static str| {
        move |source: io::Error| StoreError::File { path: path.to_owned(), doing, source }
    };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::set_permissions(path, Permissions::from_mode(0o600))
                .map_err(failed("make the store private"))
        }
        Err(error) => Err(failed("make the store")(error)),
    }
}

async fn migrate(write: &SqlitePool) -> Result<(), StoreError> {
    let texts = [
        (1, "start", include_str!("../migrations/0001_start.sql")),
        (2, "own_keys", include_str!("../migrations/0002_own_keys.sql")),
        (3, "relays", include_str!("../migrations/0003_relays.sql")),
        (4, "jobs", include_str!("../migrations/0004_jobs.sql")),
        (5, "people", include_str!("../migrations/0005_people.sql")),
        (6, "scim", include_str!("../migrations/0006_scim.sql")),
        (7, "grants", include_str!("../migrations/0007_grants.sql")),
        (8, "processes", include_str!("../migrations/0008_processes.sql")),
        (9, "webhooks", include_str!("../migrations/0009_webhooks.sql")),
        (10, "workload_secrets", include_str!("../migrations/0010_workload_secrets.sql")),
    ];
    let migrations = texts
        .into_iter()
        .map(|(version, name, text)| {
            let kind = MigrationType::Simple;
            Migration::new(version, name.into(), kind, text.into_sql_str(), false)
        })
        .collect::<Vec<_>>();
    Migrator::with_migrations(migrations)
        .run(write)
        .await
        .map_err(|source| StoreError::Migration { source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::SealKey;

    #[tokio::test]
    async fn every_connection_is_safe_against_a_crash() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let seal = SealSource::Key(SealKey::from_bytes([1; 32]));
        let store = Store::open(&directory.path().join("corral.db"), &seal).await.expect("opens");
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
            .fetch_one(&store.write)
            .await
            .expect("answers");
        assert_eq!(mode, "wal");
        for (pragma, expect) in
            [("PRAGMA synchronous", 2), ("PRAGMA foreign_keys", 1), ("PRAGMA trusted_schema", 0)]
        {
            let found: i64 =
                sqlx::query_scalar(pragma).fetch_one(&store.write).await.expect("answers");
            assert_eq!(found, expect, "{pragma}");
        }
        let written = sqlx::query("DELETE FROM meta").execute(&store.read).await;
        assert!(written.is_err(), "readers cannot write");
    }

    #[tokio::test]
    async fn a_change_that_sqlite_ended_by_itself_does_not_stop_the_next_one() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let seal = SealSource::Key(SealKey::from_bytes([1; 32]));
        let store = Store::open(&directory.path().join("corral.db"), &seal).await.expect("opens");
        for _ in 0..2 {
            let mut change = store.begin().await.expect("begins");
            // As SQLite does when the disk is full: sqlx is not told.
            sqlx::query("ROLLBACK").execute(&mut *change).await.expect("rolls back");
            drop(change);
            let next = store.begin().await.expect("the next one begins");
            next.commit().await.expect("and is kept");
            store.beat().await.expect("what was written is read");
        }
    }
}
