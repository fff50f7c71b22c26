//! Who asks: a token becomes a [`Caller`].

use corral_model::ids::RunId;
use corral_model::{Principal, Secret};
use time::OffsetDateTime;

use super::{App, AppError};

/// Who calls the gateway's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The holder of `admin.token`: administers, but opens no sessions and approves nothing.
    Admin,
    /// Somebody who signed in; the digest is of the login token.
    Principal { principal: Principal, token_digest: String },
    /// A run, by its run token.
    Run { run: RunId, principal: Principal },
}

/// What `corral whoami` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whoami {
    /// `admin`, `user`, `workload` or `run`.
    pub kind: &'static str,
    /// `admin`, the principal's name, or the run's path.
    pub name: String,
    pub sponsor: Option<String>,
    pub groups: Vec<String>,
    pub run: Option<RunId>,
    pub expires_at: Option<OffsetDateTime>,
}

impl App {
    /// Finds out whose token this is. Live state decides: an ended run, a disabled principal or
    /// sponsor, or an expired token is nobody.
    ///
    /// # Errors
    /// [`AppError::Unauthenticated`]: the caller is to blame.
    pub async fn authenticate(&self, token: &Secret) -> Result<Caller, AppError> {
        let _ = token;
        todo!()
    }

    /// # Errors
    /// [`AppError::Unauthenticated`] when the caller ended in the meantime.
    pub async fn whoami(&self, caller: &Caller) -> Result<Whoami, AppError> {
        let _ = caller;
        todo!()
    }
}
