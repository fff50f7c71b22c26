//! Reading the record through the gateway, and following events as they happen.

use std::sync::Arc;

use corral_model::Event;
use time::OffsetDateTime;
use tokio::sync::broadcast;

use super::{App, AppError, Caller};

/// Which events to find. Every given field must match.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub since: Option<OffsetDateTime>,
    pub until: Option<OffsetDateTime>,
    /// `statement.decided`, or a prefix such as `session.`.
    pub event: Option<String>,
    pub principal: Option<String>,
    /// This run and everything below it.
    pub run: Option<String>,
    pub session: Option<String>,
    pub target: Option<String>,
    pub verb: Option<String>,
    /// `schema.table` or `table`.
    pub table: Option<String>,
    /// Case-insensitive part of the statement.
    pub text: Option<String>,
    /// `allow`, `deny` or `hold`.
    pub outcome: Option<String>,
    /// Oldest first up to this many; at most 10,000, and 1,000 when absent.
    pub limit: Option<usize>,
}

/// Events as they happen, already filtered for the caller.
pub struct EventStream {
    pub(crate) receiver: broadcast::Receiver<Arc<Event>>,
}

impl EventStream {
    /// The next event. `Err(n)`: `n` events were missed because this follower was too slow.
    /// None: the gateway stops.
    ///
    /// # Cancel safety
    /// No event is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, u64>> {
        match self.receiver.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl App {
    /// Finds recorded events. The administrator sees all; others see what concerns the runs and
    /// sessions that they may see.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for a bad filter, [`AppError::Unavailable`].
    pub async fn search_events(
        &self,
        caller: &Caller,
        filter: EventFilter,
    ) -> Result<Vec<Event>, AppError> {
        let _ = (caller, filter);
        todo!()
    }

    /// All events of a session, or of a run and everything below it, in time's order: what a
    /// replay shows.
    ///
    /// # Errors
    /// [`AppError::NotFound`], [`AppError::Unavailable`].
    pub async fn replay(
        &self,
        caller: &Caller,
        session_or_run: &str,
    ) -> Result<Vec<Event>, AppError> {
        let _ = (caller, session_or_run);
        todo!()
    }

    /// Follows events from now on.
    ///
    /// # Errors
    /// [`AppError::Denied`] for a run.
    pub fn follow_events(&self, caller: &Caller) -> Result<EventStream, AppError> {
        let _ = caller;
        todo!()
    }
}
