//! Why something was not done, in words that the caller may read.

use corral_identity::dpop::ProofError;

/// Why the gateway did not do what was asked. Every text may be shown to the caller: no secret,
/// no path, no internal error. Handlers map each variant to one status.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No, wrong, expired or foreign token; ended run (401).
    #[error("{0}")]
    Unauthenticated(String),
    /// The proof of the key that a token is bound to is not good (401).
    #[error(transparent)]
    BadProof(#[from] ProofError),
    /// The right is missing: a refused root run, a refused self-approval (403, exit code 3).
    #[error("{0}")]
    Denied(String),
    /// (404, exit code 4)
    #[error("there is no {kind} '{name}'")]
    NotFound { kind: &'static str, name: String },
    /// What was sent is wrong (422); all problems, not only the first.
    #[error("{}", join(.0))]
    Invalid(Vec<Problem>),
    /// It is no longer in the state that this needs (409).
    #[error("{0}")]
    Conflict(String),
    /// A limit is reached (429).
    #[error("{0}")]
    LimitReached(String),
    /// The store or the record cannot be used at the moment (503). The reason is in the log.
    #[error("{0}")]
    Unavailable(String),
}

/// One thing that is wrong with what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `Policy/shop`, where it belongs to one resource.
    pub resource: Option<String>,
    /// What is wrong and what would be right.
    pub text: String,
    /// Line and column in the Cedar text, from 1, where known.
    pub line: Option<u32>,
    pub column: Option<u32>,
}

impl Problem {
    #[must_use]
    pub fn new(resource: Option<String>, text: impl Into<String>) -> Self {
        Self { resource, text: text.into(), line: None, column: None }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(resource) = &self.resource {
            write!(f, "{resource}: ")?;
        }
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.text)
    }
}

fn join(problems: &[Problem]) -> String {
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    texts.join("\n")
}

impl From<corral_store::StoreError> for AppError {
    fn from(error: corral_store::StoreError) -> Self {
        match error {
            corral_store::StoreError::VersionMoved { .. } => Self::Conflict(error.to_string()),
            corral_store::StoreError::PasswordNeeded { .. }
            | corral_store::StoreError::SecretNeeded { .. }
            | corral_store::StoreError::PollTokenNeeded { .. } => {
                Self::Invalid(vec![Problem::new(None, error.to_string())])
            }
            other => {
                tracing::error!(error = %describe(&other), "the store failed");
                Self::Unavailable("the gateway's store does not answer; try again".to_owned())
            }
        }
    }
}

/// An error with its causes, for the log.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<String>>().join(": ")
}
