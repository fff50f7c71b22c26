//! Following the record while it is written. A slow follower is told what it missed; it never
//! holds anything up.

use std::sync::Arc;

use corral_model::Event;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// What a follower gets.
#[derive(Debug, Clone)]
pub enum Followed {
    Event(Arc<Event>),
    /// So many events went by unseen; they are in the record.
    Missed(u64),
}

/// Gets every event that is written after it was made.
///
/// # Limits
/// [`corral_model::limits::EVENT_STREAM_LEN_MAX`] events wait for the slowest follower.
pub struct Follower {
    receiver: broadcast::Receiver<Arc<Event>>,
}

impl Follower {
    pub(crate) fn new(receiver: broadcast::Receiver<Arc<Event>>) -> Self {
        Self { receiver }
    }

    /// The next event; None once the recorder is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Followed> {
        match self.receiver.recv().await {
            Ok(event) => Some(Followed::Event(event)),
            Err(RecvError::Lagged(count)) => Some(Followed::Missed(count)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next event if one waits.
    pub fn try_next(&mut self) -> Option<Followed> {
        match self.receiver.try_recv() {
            Ok(event) => Some(Followed::Event(event)),
            Err(TryRecvError::Lagged(count)) => Some(Followed::Missed(count)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}
