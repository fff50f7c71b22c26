//! Relay processes of one name: any of them that is there, the least busy first.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use corral_model::resource::relay::{AllowedAddress, Reachable, reachable};
use tokio::sync::watch;

use super::gateway_end::{Tunnel, TunnelError};
use super::stream::TunnelStream;
use super::tls::RelayCertificate;
use crate::dial::DialError;

/// Whose list does not have an address that a stream was asked for to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBy {
    /// The relay's resource: nothing was asked of a relay.
    Gateway,
    /// The list of the relay's operator, or what its resolver made of the name.
    Relay,
}

/// Hears of each stream that was not opened for that: the relay's name, host, port, and by whom.
pub type OnRefused = Arc<dyn Fn(&str, &str, u16, RefusedBy) + Send + Sync>;

/// All connected relay processes of one name, and what they may dial.
pub struct RelayPool {
    name: String,
    on_refused: Option<OnRefused>,
    addresses: watch::Sender<Versioned>,
    members: Mutex<Vec<Arc<Member>>>,
    next_id: AtomicU64,
    turn: AtomicUsize,
}

/// A list of addresses; each change of it has a higher number.
#[derive(Debug, Clone)]
struct Versioned {
    version: u64,
    addresses: Arc<[AllowedAddress]>,
}

/// One connected relay process.
pub struct Member {
    id: u64,
    pub tunnel: Tunnel,
    pub certificate: RelayCertificate,
    /// From where it connected, for people.
    pub address: String,
    pub joined_at: SystemTime,
}

/// Holds a relay process in its pool; dropped, it is out.
pub struct Membership {
    pool: Arc<RelayPool>,
    member: Arc<Member>,
}

impl std::fmt::Debug for RelayPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayPool").field("name", &self.name).finish_non_exhaustive()
    }
}

impl RelayPool {
    /// A pool without relays. `on_refused` hears of streams to addresses that are not allowed.
    #[must_use]
    pub fn new(
        name: &str,
        addresses: Vec<AllowedAddress>,
        on_refused: Option<OnRefused>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            on_refused,
            addresses: watch::Sender::new(Versioned { version: 1, addresses: addresses.into() }),
            members: Mutex::new(Vec::new()),
            next_id: AtomicU64::new(1),
            turn: AtomicUsize::new(0),
        })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Allows these addresses from here on. Streams that are open stay.
    pub fn allow(&self, addresses: &[AllowedAddress]) {
        self.addresses.send_if_modified(|current| {
            let is_changed = *current.addresses != *addresses;
            if is_changed {
                current.addresses = addresses.into();
                current.version = current.version.saturating_add(1);
            }
            is_changed
        });
    }

    /// The list in use and its version, and then each change of it.
    #[must_use]
    pub fn follow(&self) -> Addresses {
        Addresses(self.addresses.subscribe())
    }

    /// Takes a relay process in, which must have the current settings.
    #[must_use]
    pub fn join(
        self: &Arc<Self>,
        tunnel: Tunnel,
        certificate: RelayCertificate,
        address: String,
    ) -> Membership {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let joined_at = SystemTime::now();
        let member = Arc::new(Member { id, tunnel, certificate, address, joined_at });
        self.lock().push(member.clone());
        Membership { pool: self.clone(), member }
    }

    /// Those that are connected, in the order in which they joined.
    #[must_use]
    pub fn members(&self) -> Vec<Arc<Member>> {
        self.lock().clone()
    }

    /// Opens a stream to a target through one of them. One that has gone meanwhile, is full or
    /// cannot reach the target is followed by the next.
    ///
    /// # Errors
    /// [`DialError::NotAllowed`], [`DialError::NoRelay`], or the last one's [`DialError::Relay`].
    pub(crate) async fn connect(&self, host: &str, port: u16) -> Result<TunnelStream, DialError> {
        let Versioned { version, addresses } = self.addresses.borrow().clone();
        if reachable(&addresses, host, port) == Reachable::Refused {
            self.refused(host, port, RefusedBy::Gateway);
            return Err(DialError::NotAllowed);
        }
        let mut last = DialError::NoRelay;
        for member in self.by_load() {
            match member.tunnel.connect(host, port, version).await {
                Ok(stream) => return Ok(stream),
                // This relay's operator, or its resolver, says no; another's may not.
                Err(TunnelError::NotAllowed) => last = DialError::NotAllowed,
                Err(error) => last = DialError::Relay(error),
            }
        }
        if matches!(last, DialError::NotAllowed) {
            self.refused(host, port, RefusedBy::Relay);
        }
        Err(last)
    }

    fn refused(&self, host: &str, port: u16, by: RefusedBy) {
        if let Some(on_refused) = &self.on_refused {
            on_refused(&self.name, host, port, by);
        }
    }

    /// The least busy first; those that are equally busy take turns.
    fn by_load(&self) -> Vec<Arc<Member>> {
        let mut members: Vec<Arc<Member>> = self.members();
        members.retain(|member| member.tunnel.is_open());
        if !members.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % members.len();
            members.rotate_left(turn);
        }
        members.sort_by_key(|member| member.tunnel.streams());
        members
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Member>>> {
        self.members.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Follows a pool's list.
pub struct Addresses(watch::Receiver<Versioned>);

impl Addresses {
    /// The list in use, and its version.
    #[must_use]
    pub fn current(&mut self) -> (u64, Arc<[AllowedAddress]>) {
        let current = self.0.borrow_and_update();
        (current.version, current.addresses.clone())
    }

    /// Waits until the list is another than the one that was seen last. False when there will be
    /// none.
    ///
    /// # Cancel safety
    /// No change is lost.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

impl Membership {
    #[must_use]
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.pool.lock().retain(|member| member.id != self.member.id);
    }
}
