//! Connections that have not logged in yet: a bounded number of places.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of one listener.
#[derive(Debug, Clone)]
pub(crate) struct Pending(Arc<Semaphore>);

impl Pending {
    pub(crate) fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }

    /// None when all places are taken.
    pub(crate) fn take(&self) -> Option<LoginSlot> {
        self.0.clone().try_acquire_owned().ok().map(LoginSlot)
    }
}

/// A place among the connections that have not logged in. Dropping it gives it back.
#[derive(Debug)]
pub struct LoginSlot(#[expect(dead_code, reason = "held, never read")] OwnedSemaphorePermit);
