//! Logins at targets that begin: a few at a time, however many clients come at once. A server that
//! makes a process for each connection would else have hundreds that all want the processor, and
//! sessions that are open would wait for a turn behind them.

use std::sync::Arc;
use std::time::Duration;

use corral_model::limits;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

/// The turns of one listener.
#[derive(Debug)]
pub(crate) struct Dials {
    turns: Arc<Semaphore>,
}

/// A login at a target that has its turn. It ends when this is dropped, or after
/// [`limits::TARGET_LOGIN_TURN`]: who waits for a target that is slow or far away holds up nobody.
#[derive(Debug)]
pub(crate) struct Dial {
    _is_over: oneshot::Sender<()>,
}

impl Dials {
    /// [`limits::TARGET_LOGIN_TURNS`] turns.
    pub(crate) fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(limits::TARGET_LOGIN_TURNS)) }
    }

    /// Waits for a turn, in the order of asking. None when there was none within
    /// [`limits::TARGET_LOGIN_DEADLINE`].
    pub(crate) async fn take(&self) -> Option<Dial> {
        self.take_for(limits::TARGET_LOGIN_TURN).await
    }

    async fn take_for(&self, time: Duration) -> Option<Dial> {
        let turn = timeout(limits::TARGET_LOGIN_DEADLINE, self.turns.clone().acquire_owned());
        // It is never closed.
        let turn = turn.await.ok()?.ok()?;
        let (is_over, over) = oneshot::channel();
        tokio::spawn(async move {
            // Dropped or late, either ends it.
            let _ = timeout(time, over).await;
            drop(turn);
        });
        Some(Dial { _is_over: is_over })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_over_with_its_login_or_after_its_time() {
        let dials = Dials::new();
        let started = Instant::now();
        let mut taken = Vec::new();
        for _ in 0..limits::TARGET_LOGIN_TURNS {
            taken.push(dials.take().await.expect("a turn"));
        }
        assert!(started.elapsed().is_zero());
        taken.pop();
        taken.push(dials.take().await.expect("that of the login that is over"));
        assert!(started.elapsed().is_zero());
        let late = dials.take().await;
        assert!(late.is_some());
        assert!(started.elapsed() >= limits::TARGET_LOGIN_TURN);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let dials = Dials::new();
        let started = Instant::now();
        let mut taken = Vec::new();
        for _ in 0..limits::TARGET_LOGIN_TURNS {
            taken.push(dials.take_for(limits::TARGET_LOGIN_DEADLINE * 2).await);
        }
        assert!(dials.take().await.is_none());
        assert_eq!(started.elapsed().as_secs(), limits::TARGET_LOGIN_DEADLINE.as_secs());
    }
}
