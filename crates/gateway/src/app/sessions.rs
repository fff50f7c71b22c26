//! Live sessions: listing, showing, killing.

use std::sync::Arc;

use corral_gate::{Denial, DenialKind};
use corral_model::ids::{ApprovalId, PrincipalName, RunId, SessionId, TargetName};
use corral_model::{CloseReason, Principal};
use time::OffsetDateTime;

use super::caller::is_sponsor;
use super::live::sessions::LiveSession;
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
    /// The approval that it waits for.
    pub waiting_for: Option<ApprovalId>,
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
        let is_wanted = |session: &LiveSession| {
            let of_run = filter
                .run
                .as_ref()
                .is_none_or(|id| session.run.as_ref().is_some_and(|run| run.is_within(id)));
            let of_target =
                filter.target.as_ref().is_none_or(|name| session.target.as_str() == name);
            let of_principal = filter
                .principal
                .as_ref()
                .is_none_or(|name| session.principal.name.as_str() == name);
            of_run && of_target && of_principal && self.may_see_session(caller, session)
        };
        let sessions = self.live.sessions().select(is_wanted);
        sessions.iter().map(|session| session.view()).collect()
    }

    /// A live session.
    ///
    /// # Errors
    /// [`AppError::NotFound`]: not live, or not the caller's to see. The record has closed ones.
    pub fn show_session(&self, caller: &Caller, id: &str) -> Result<SessionView, AppError> {
        self.find_session(caller, id).map(|session| session.view())
    }

    /// Ends a session and cancels what it has running.
    ///
    /// # Errors
    /// As [`App::show_session`].
    #[expect(clippy::unused_async, reason = "several gateways will have to ask the store")]
    pub async fn kill_session(&self, caller: &Caller, id: &str) -> Result<(), AppError> {
        let session = self.find_session(caller, id)?;
        tracing::info!(session = %session.id, "a session is killed");
        session.end(CloseReason::Killed, ended_by("this session was killed"));
        Ok(())
    }

    fn find_session(&self, caller: &Caller, id: &str) -> Result<Arc<LiveSession>, AppError> {
        let session = self.live.sessions().get(id);
        session
            .filter(|session| self.may_see_session(caller, session))
            .ok_or_else(|| AppError::NotFound { kind: "live session", name: id.to_owned() })
    }

    fn may_see_session(&self, caller: &Caller, session: &LiveSession) -> bool {
        match (caller, &session.run) {
            (Caller::Admin, _) => true,
            (_, Some(run)) => self.may_see_run(caller, run),
            (Caller::Principal { principal, .. }, None) => {
                session.principal == *principal || is_sponsor(principal, &session.sponsor)
            }
            (Caller::Run { .. }, None) => false,
        }
    }

    /// Ends the sessions for which `is_meant` holds. Returns how many were not ending already.
    pub(super) fn end_sessions(
        &self,
        reason: CloseReason,
        text: &str,
        is_meant: impl Fn(&LiveSession) -> bool,
    ) -> u64 {
        let sessions = self.live.sessions().select(is_meant);
        let ended = sessions.iter().filter(|session| session.end(reason, ended_by(text)));
        u64::try_from(ended.count()).unwrap_or(u64::MAX)
    }
}

fn ended_by(text: &str) -> Denial {
    Denial::new(DenialKind::Ended, text)
}
