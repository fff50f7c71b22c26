//! Live sessions: listing, showing, killing.

use corral_model::Principal;
use corral_model::ids::{PrincipalName, RunId, SessionId, TargetName};
use time::OffsetDateTime;

use super::{App, AppError, Caller};

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// Admitted, logging in at the target.
    Opening,
    Open,
    /// A statement waits for approval.
    Held,
    /// Told to end.
    Ending,
}

impl SessionState {
    /// As in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Held => "held",
            Self::Ending => "ending",
        }
    }
}

/// A live session as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    pub id: SessionId,
    pub state: SessionState,
    pub principal: Principal,
    pub sponsor: PrincipalName,
    pub run: Option<RunId>,
    pub run_path: Option<String>,
    pub target: TargetName,
    pub protocol: String,
    pub client_address: String,
    pub is_tls: bool,
    /// What the client says of itself: never decides anything.
    pub claims: Vec<(String, String)>,
    pub started_at: OffsetDateTime,
    pub statements: u64,
    pub rows: u64,
    pub bytes_to_client: u64,
    pub bytes_to_target: u64,
}

/// Which sessions to list.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// Of this run and everything below it.
    pub run: Option<String>,
    pub target: Option<String>,
    pub principal: Option<String>,
}

impl App {
    /// The live sessions that the caller may see (as [`App::list_runs`]), oldest first.
    #[must_use]
    pub fn list_sessions(&self, caller: &Caller, filter: &SessionFilter) -> Vec<SessionView> {
        let _ = (caller, filter);
        todo!()
    }

    /// # Errors
    /// [`AppError::NotFound`]: not live, or not the caller's to see. The record has closed ones.
    pub fn show_session(&self, caller: &Caller, id: &str) -> Result<SessionView, AppError> {
        let _ = (caller, id);
        todo!()
    }

    /// Ends a session and cancels what it has running.
    ///
    /// # Errors
    /// As [`App::show_session`].
    pub async fn kill_session(&self, caller: &Caller, id: &str) -> Result<(), AppError> {
        let _ = (caller, id);
        todo!()
    }
}
