//! Logins at targets that begin: a few at a time, however many clients come at once. A server that
//! makes a process for each connection would else have hundreds that all want the processor, and
//! sessions that are open would wait for a turn behind them; on this machine, the gateway's own.

use std::sync::Arc;
use std::time::Duration;

use corral_model::limits;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

/// The turns of one listener.
#[derive(Debug)]
pub(crate) struct Dials {
    local: Arc<Semaphore>,
    remote: Arc<Semaphore>,
}

/// Where the server is that is logged in at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    /// On this machine.
    Local,
    Remote,
}

/// A login at a target that has its turn. It ends when this is dropped, or after
/// [`limits::TARGET_LOGIN_TURN`]: who waits for a target that is slow or far away holds up nobody.
#[derive(Debug)]
pub(crate) struct Dial {
    _is_over: oneshot::Sender<()>,
}

impl Dials {
    /// [`limits::TARGET_LOGIN_TURNS`] turns, and [`limits::LOCAL_TARGET_LOGIN_TURNS`].
    pub(crate) fn new() -> Self {
        let turns = |count| Arc::new(Semaphore::new(count));
        Self {
            local: turns(limits::LOCAL_TARGET_LOGIN_TURNS),
            remote: turns(limits::TARGET_LOGIN_TURNS),
        }
    }

    /// Waits for a turn, in the order of asking. None when there was none within
    /// [`limits::TARGET_LOGIN_DEADLINE`].
    pub(crate) async fn take(&self, place: Where) -> Option<Dial> {
        self.take_for(place, limits::TARGET_LOGIN_TURN).await
    }

    async fn take_for(&self, place: Where, time: Duration) -> Option<Dial> {
        let turns = match place {
            Where::Local => &self.local,
            Where::Remote => &self.remote,
        };
        let turn = timeout(limits::TARGET_LOGIN_DEADLINE, turns.clone().acquire_owned());
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

    const TURNS: [(Where, usize); 2] = [
        (Where::Local, limits::LOCAL_TARGET_LOGIN_TURNS),
        (Where::Remote, limits::TARGET_LOGIN_TURNS),
    ];

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_over_with_its_login_or_after_its_time() {
        let dials = Dials::new();
        for (place, turns) in TURNS {
            let started = Instant::now();
            let mut taken = Vec::new();
            for _ in 0..turns {
                taken.push(dials.take(place).await.expect("a turn"));
            }
            assert!(started.elapsed().is_zero());
            taken.pop();
            taken.push(dials.take(place).await.expect("that of the login that is over"));
            assert!(started.elapsed().is_zero());
            let late = dials.take(place).await;
            assert!(late.is_some());
            assert!(started.elapsed() >= limits::TARGET_LOGIN_TURN);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let dials = Dials::new();
        for (place, turns) in TURNS {
            let started = Instant::now();
            let mut taken = Vec::new();
            for _ in 0..turns {
                taken.push(dials.take_for(place, limits::TARGET_LOGIN_DEADLINE * 2).await);
            }
            assert!(dials.take(place).await.is_none());
            assert_eq!(started.elapsed().as_secs(), limits::TARGET_LOGIN_DEADLINE.as_secs());
        }
    }
}
