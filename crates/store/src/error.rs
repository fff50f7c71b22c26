//! What can go wrong with the store. No variant holds a bound value, so none holds a secret.

use std::path::PathBuf;

use corral_model::ids::PolicyVersion;
use corral_model::resource::ResourceKind;

use crate::seal::SealError;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The machine, or whoever chose the path, is to blame.
    #[error("{path}: cannot {doing}: {source}")]
    File { path: PathBuf, doing: &'static str, source: std::io::Error },
    /// The machine is to blame: disk, rights, another process.
    #[error("the store cannot {doing}")]
    Database { doing: &'static str, source: sqlx::Error },
    /// The file was written by another version, or damaged.
    #[error(
        "the store does not fit this version of corral; use the version that wrote it, or restore \
         a backup"
    )]
    Migration { source: Box<sqlx::migrate::MigrateError> },
    /// Somebody changed the file by hand, or it is damaged.
    #[error("the store holds {what} that cannot be read")]
    Corrupt { what: String },
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The caller named something that is not there.
    #[error("{kind} '{name}' does not exist")]
    NoSuchResource { kind: ResourceKind, name: String },
    /// The caller named one resource in two changes.
    #[error("{kind} '{name}' is changed twice at once; name it once")]
    ChangedTwice { kind: ResourceKind, name: String },
    /// Somebody else was faster; read again and retry.
    #[error(
        "the configuration changed meanwhile (version {} instead of {})", found.0, expected.0
    )]
    VersionMoved { expected: PolicyVersion, found: PolicyVersion },
    /// The caller is to blame.
    #[error("{count} changes at once; at most {max} are applied together")]
    TooManyChanges { count: usize, max: usize },
    /// The caller is to blame: see [`corral_model::resource::TargetSpec::goes_elsewhere`].
    #[error(
        "target '{target}' changes its address, protocol or tls, so {key}.password must be given \
         again"
    )]
    PasswordNeeded { target: String, key: &'static str },
    /// The caller is to blame: see
    /// [`corral_model::resource::IdentityProviderSpec::goes_elsewhere`].
    #[error(
        "identity provider '{provider}' changes its issuer, client_id or ca_file, so {key} must be \
         given again"
    )]
    SecretNeeded { provider: String, key: &'static str },
    /// The caller is to blame: see
    /// [`corral_model::resource::WorkloadSpec::poll_goes_elsewhere`].
    #[error("workload '{workload}' changes poll.api or poll.ca, so poll.token must be given again")]
    PollTokenNeeded { workload: String },
    /// Nothing outlives its parent.
    #[error("the parent run has ended")]
    ParentEnded,
    /// A job's token starts one run.
    #[error("this token was used before")]
    TokenUsed,
    /// A job has one root run.
    #[error("this job has its root run already")]
    JobStarted,
}

impl StoreError {
    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }
}

/// Says what was being done when the database failed.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Database { doing, source })
    }
}
