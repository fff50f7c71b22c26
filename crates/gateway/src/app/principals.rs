//! People and workloads: signing in and out, disabling and enabling.

use corral_model::{Principal, Secret};
use time::OffsetDateTime;

use super::{App, AppError, Caller};

/// A login token, shown once.
#[derive(Debug, Clone)]
pub struct SignedIn {
    pub principal: Principal,
    pub token: Secret,
    pub expires_at: OffsetDateTime,
}

/// What disabling a principal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disabled {
    pub runs_ended: u64,
    pub sessions_closed: u64,
}

impl App {
    /// Signs a user in by password.
    ///
    /// # Errors
    /// [`AppError::Unauthenticated`], with the same text and the same work whether the name or
    /// the password is wrong or the user is disabled. [`AppError::LimitReached`] when too many
    /// passwords are checked at once.
    pub async fn sign_in_user(&self, name: &str, password: Secret) -> Result<SignedIn, AppError> {
        let _ = (name, password);
        todo!()
    }

    /// Signs a workload in by its secret.
    ///
    /// # Errors
    /// As [`App::sign_in_user`].
    pub async fn sign_in_workload(&self, name: &str, secret: Secret) -> Result<SignedIn, AppError> {
        let _ = (name, secret);
        todo!()
    }

    /// Makes the caller's login token invalid and ends the sessions opened with it.
    ///
    /// # Errors
    /// [`AppError::Conflict`] when the caller is not signed in by a login token.
    pub async fn sign_out(&self, caller: &Caller) -> Result<(), AppError> {
        let _ = caller;
        todo!()
    }

    /// Disables a user: its tokens, its runs, the runs that it sponsors, and their live sessions
    /// end at once. Only the administrator may.
    ///
    /// # Errors
    /// [`AppError::Denied`], [`AppError::NotFound`], [`AppError::Unavailable`].
    pub async fn disable_user(&self, caller: &Caller, name: &str) -> Result<Disabled, AppError> {
        let _ = (caller, name);
        todo!()
    }

    /// Enables a user again. Ended runs stay ended, and old login tokens stay invalid.
    ///
    /// # Errors
    /// As [`App::disable_user`].
    pub async fn enable_user(&self, caller: &Caller, name: &str) -> Result<(), AppError> {
        let _ = (caller, name);
        todo!()
    }
}
