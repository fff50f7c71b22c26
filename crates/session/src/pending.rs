//! Connections that have not logged in yet: a bounded number of places, a bounded queue for them,
//! and turns on the processor, so that those who log in hold up nobody who has.

use std::num::NonZero;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::ready;
use std::thread::available_parallelism;

use corral_model::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::PollSemaphore;

/// Why a connection got no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPlace {
    #[error("too many connections that have not logged in")]
    TooManyWait,
    #[error("no place to log in was free in time")]
    Late,
}

/// The places of one listener.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    places: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Pending {
    /// [`limits::PENDING_LOGINS_MAX`] places, and [`limits::WAITING_LOGINS_MAX`] that wait.
    pub(crate) fn new() -> Self {
        Self::with(limits::PENDING_LOGINS_MAX, limits::WAITING_LOGINS_MAX)
    }

    fn with(places: usize, waiting: usize) -> Self {
        // More at once only wait for each other.
        let turns = available_parallelism().map_or(1, NonZero::get);
        let semaphore = |count| Arc::new(Semaphore::new(count));
        Self { places: semaphore(places), queue: semaphore(waiting), turns: semaphore(turns) }
    }

    /// Takes a place, in the order of asking.
    ///
    /// # Errors
    /// [`NoPlace`], at once or after [`limits::WAITING_LOGIN_DEADLINE`].
    pub(crate) async fn take(&self) -> Result<LoginSlot, NoPlace> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(LoginSlot::new(place));
        }
        let _waiting = self.queue.try_acquire().map_err(|_| NoPlace::TooManyWait)?;
        let place = timeout(limits::WAITING_LOGIN_DEADLINE, self.places.clone().acquire_owned());
        // In a box: few have to wait, and all would keep the room for it.
        let place = Box::pin(place).await;
        // It is never closed.
        place.ok().and_then(Result::ok).map(LoginSlot::new).ok_or(NoPlace::Late)
    }

    /// Drives a session that begins with a login. Until that is over, which is when its slot is
    /// dropped, the session is polled in turn with other logins only: handshakes are work, and
    /// hundreds that are ready at once would stand in front of every session that is open.
    pub(crate) async fn in_turns(
        &self,
        login: Login,
        mut session: Pin<Box<impl Future<Output = ()>>>,
    ) {
        let mut turns = Some(PollSemaphore::new(self.turns.clone()));
        std::future::poll_fn(|cx| {
            if login.is_over() {
                turns = None;
            }
            // Given back at the end of this poll. None once turns are no longer needed.
            let _turn = match &mut turns {
                Some(turns) => ready!(turns.poll_acquire(cx)),
                None => None,
            };
            session.as_mut().poll(cx)
        })
        .await;
    }
}

/// A place among the connections that have not logged in. Dropping it gives it back.
#[derive(Debug)]
pub struct LoginSlot {
    _place: OwnedSemaphorePermit,
    alive: Arc<()>,
}

impl LoginSlot {
    fn new(place: OwnedSemaphorePermit) -> Self {
        Self { _place: place, alive: Arc::new(()) }
    }

    /// The login that holds this place.
    pub(crate) fn login(&self) -> Login {
        Login(Arc::downgrade(&self.alive))
    }
}

/// A login that is going on, or over.
#[derive(Debug)]
pub(crate) struct Login(Weak<()>);

impl Login {
    fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_waits_for_one_and_not_for_ever() {
        let pending = Pending::with(1, 1);
        let first = pending.take().await.expect("a place");
        let (second, third) = tokio::join!(pending.take(), pending.take());
        // The third came while the second waited in the only place to wait in.
        assert_eq!(third.map(drop), Err(NoPlace::TooManyWait));
        assert_eq!(second.map(drop), Err(NoPlace::Late));

        let started = Instant::now();
        let (taken, ()) = tokio::join!(pending.take(), async { drop(first) });
        taken.expect("the place that became free");
        assert!(started.elapsed() < limits::WAITING_LOGIN_DEADLINE);
    }

    /// Counts its polls and is never done.
    async fn counting(polls: Arc<AtomicUsize>, slot: Option<LoginSlot>) {
        let _slot = slot;
        std::future::poll_fn(|_| {
            polls.fetch_add(1, Ordering::Relaxed);
            Poll::<()>::Pending
        })
        .await;
    }

    #[tokio::test]
    async fn only_a_login_needs_a_turn() {
        let pending = Pending::with(2, 0);
        let all = u32::try_from(pending.turns.available_permits()).expect("few");
        let taken = pending.turns.clone().acquire_many_owned(all).await.expect("open");
        let (logging_in, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));

        let slot = pending.take().await.expect("a place");
        let (login, session) = (slot.login(), counting(logging_in.clone(), Some(slot)));
        let mut first = run(pending.clone(), login, session);
        let slot = pending.take().await.expect("a place");
        let login = slot.login();
        drop(slot);
        let second = run(pending.clone(), login, counting(open.clone(), None));
        tokio::task::yield_now().await;
        assert_eq!(logging_in.load(Ordering::Relaxed), 0, "it has no turn");
        assert_eq!(open.load(Ordering::Relaxed), 1, "it needs none");

        drop(taken);
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(logging_in.load(Ordering::Relaxed), 1);
        assert_eq!(pending.turns.available_permits(), all as usize, "the turn was given back");
        first.abort();
        let _ = (&mut first).await;
        second.abort();
    }

    fn run(
        pending: Pending,
        login: Login,
        session: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move { pending.in_turns(login, Box::pin(session)).await })
    }
}
