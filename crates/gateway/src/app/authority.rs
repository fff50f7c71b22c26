//! Whether this gateway may still decide: it lives on a lease of its store. When the store has
//! not read and written for [`limits::STORE_LEASE`], somebody may have been offboarded without
//! this gateway having heard of it: it admits nothing, ends what it has, and begins again once the
//! store answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use corral_gate::{Denial, DenialKind};
use corral_model::event::{EventBody, Origin};
use corral_model::{CloseReason, limits};
use tokio::time::{Instant, sleep, timeout};

use super::App;

const AWAY: &str = "the gateway cannot ask its store, so it decides nothing until it can again";

/// How long the gateway may decide without asking its store.
#[derive(Debug)]
pub(crate) struct Authority {
    /// What the lease's end is counted from.
    start: Instant,
    /// Milliseconds after `start`.
    until_ms: AtomicU64,
}

impl Authority {
    /// A lease that starts now: the store was just read.
    pub(crate) fn new(now: Instant) -> Self {
        let until_ms = AtomicU64::new(millis(limits::STORE_LEASE));
        Self { start: now, until_ms }
    }

    /// The store answered a question that was asked at `asked`.
    fn renew(&self, asked: Instant) {
        let until = asked.saturating_duration_since(self.start) + limits::STORE_LEASE;
        self.until_ms.store(millis(until), Ordering::Release);
    }

    /// What is left of the lease.
    fn left(&self, now: Instant) -> Duration {
        let until = Duration::from_millis(self.until_ms.load(Ordering::Acquire));
        until.saturating_sub(now.saturating_duration_since(self.start))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl App {
    /// Whether anything may be decided at the moment.
    ///
    /// # Errors
    /// The [`Denial`] that a client reads when the lease is over.
    pub(crate) fn check_authority(&self) -> Result<(), Denial> {
        self.check_authority_at(Instant::now())
    }

    /// As [`App::check_authority`], for who knows what time it is.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn check_authority_at(&self, now: Instant) -> Result<(), Denial> {
        if self.authority.left(now).is_zero() {
            return Err(Denial::new(DenialKind::Shutdown, AWAY));
        }
        Ok(())
    }

    /// Asks the store until it is dropped, and ends every session when it does not answer.
    pub(crate) async fn watch_authority(self: Arc<Self>) {
        loop {
            let left = self.authority.left(Instant::now());
            if left.is_zero() {
                self.lose_authority().await;
                continue;
            }
            // The lease may end while the store makes one wait.
            if self.ask_store(left.min(limits::STORE_BEAT_TIMEOUT)).await {
                sleep(limits::STORE_BEAT_INTERVAL).await;
            } else {
                let left = self.authority.left(Instant::now());
                sleep(left.min(limits::STORE_BEAT_INTERVAL / 4)).await;
            }
        }
    }

    /// Whether the store read and wrote in time.
    async fn ask_store(&self, patience: Duration) -> bool {
        let asked = Instant::now();
        match timeout(patience, self.store.beat()).await {
            Ok(Ok(())) => {
                self.authority.renew(asked);
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(error = %super::error::describe(&error), "the store failed");
                false
            }
            Err(_) => {
                tracing::warn!("the store does not answer in time");
                false
            }
        }
    }

    /// The lease is over: ends every session, and returns when the store is back.
    async fn lose_authority(&self) {
        let lost_at = Instant::now();
        tracing::error!("the lease of the store is over; no session goes on without it");
        let sessions_closed = self.end_without_authority();
        self.note(Origin::default(), EventBody::AuthorityLost { sessions_closed });
        while !self.ask_store(limits::STORE_BEAT_TIMEOUT).await {
            // One that was let in at the last moment.
            self.end_without_authority();
            sleep(limits::STORE_BEAT_INTERVAL / 4).await;
        }
        let away_ms = millis(lost_at.elapsed());
        tracing::info!(away_ms, "the store is back");
        self.note(Origin::default(), EventBody::AuthorityRegained { away_ms });
    }

    fn end_without_authority(&self) -> u64 {
        let all = self.live.sessions().select(|_| true);
        let denial = || Denial::new(DenialKind::Shutdown, AWAY);
        let ended = all.iter().filter(|session| session.end(CloseReason::Authority, denial()));
        u64::try_from(ended.count()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_the_question_and_not_from_the_answer() {
        let start = Instant::now();
        let authority = Authority::new(start);
        let second = Duration::from_secs(1);
        assert_eq!(authority.left(start + second), limits::STORE_LEASE - second);
        authority.renew(start + 5 * second);
        assert_eq!(authority.left(start + 8 * second), limits::STORE_LEASE - 3 * second);
        assert_eq!(authority.left(start + 15 * second), Duration::ZERO);
        assert_eq!(authority.left(start + 99 * second), Duration::ZERO);
    }
}
