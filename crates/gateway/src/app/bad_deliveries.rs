//! How often one address pushed what was not signed as it should be: webhooks of workloads and
//! events of providers. Who goes on is told to stop, and is recorded once.
//!
//! What is signed as it should be is always taken: an address may be shared, and nobody silences
//! a CI system by sending rubbish beside it. Whether a name exists makes no difference here, so
//! that the answers do not tell it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use corral_identity::token::digest_of;
use corral_model::limits;
use corral_model::token::TokenDigest;
use tokio::time::Instant;

/// What becomes of a delivery that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// It is refused and recorded.
    Single,
    /// It is one too many: recorded as the beginning of a burst.
    Burst,
    /// It belongs to a burst that was recorded.
    Silent,
}

/// Whoever it was pushed for, by the digest of the name, and where it came from. None: one of
/// those for whom there was no room.
type Key = Option<(TokenDigest, Option<IpAddr>)>;

#[derive(Debug, Clone, Copy)]
struct Count {
    bad: u32,
    last: Instant,
}

/// The counts of those who pushed lately.
#[derive(Debug, Default)]
pub(super) struct BadDeliveries(Mutex<HashMap<Key, Count>>);

impl BadDeliveries {
    /// Counts one.
    ///
    /// # Limits
    /// [`limits::BAD_PUSHERS_MAX`] names with addresses; more share one count.
    pub(super) fn count(&self, name: &str, address: Option<IpAddr>, now: Instant) -> Weight {
        // Nothing panics while it is held.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |count: &Count| now.duration_since(count.last) >= limits::BAD_PUSHES_QUIET;
        let mut key = Some((digest_of(name), address.map(network)));
        if !counts.contains_key(&key) && counts.len() >= limits::BAD_PUSHERS_MAX {
            counts.retain(|_, count| !is_over(count));
            if counts.len() >= limits::BAD_PUSHERS_MAX {
                key = None;
            }
        }
        let count = counts.entry(key).or_insert(Count { bad: 0, last: now });
        if is_over(count) {
            count.bad = 0;
        }
        count.last = now;
        count.bad = count.bad.saturating_add(1);
        match count.bad {
            bad if bad <= limits::BAD_PUSHES_MAX => Weight::Single,
            bad if bad == limits::BAD_PUSHES_MAX + 1 => Weight::Burst,
            _ => Weight::Silent,
        }
    }
}

/// Who has one address of IPv6 has its whole network of 64 bits.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn a_burst_is_told_once_until_it_is_over() {
        let (bad, now) = (BadDeliveries::default(), Instant::now());
        let from = address("192.0.2.1");
        for _ in 0..limits::BAD_PUSHES_MAX {
            assert_eq!(bad.count("ci", from, now), Weight::Single);
        }
        assert_eq!(bad.count("ci", from, now), Weight::Burst);
        // As long as it goes on, however slowly.
        let mut at = now;
        for _ in 0..100 {
            at += limits::BAD_PUSHES_QUIET - Duration::from_secs(1);
            assert_eq!(bad.count("ci", from, at), Weight::Silent);
        }
        // Others are none of it.
        assert_eq!(bad.count("ci", address("192.0.2.2"), at), Weight::Single);
        assert_eq!(bad.count("other", from, at), Weight::Single);
        assert_eq!(bad.count("ci", from, at + limits::BAD_PUSHES_QUIET), Weight::Single);
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let (bad, now) = (BadDeliveries::default(), Instant::now());
        for host in 1..=limits::BAD_PUSHES_MAX {
            let from = address(&format!("2001:db8::{host:x}"));
            assert_eq!(bad.count("ci", from, now), Weight::Single);
        }
        assert_eq!(bad.count("ci", address("2001:db8::ffff:1"), now), Weight::Burst);
        assert_eq!(bad.count("ci", address("2001:db8:0:1::1"), now), Weight::Single);
        assert_eq!(
            network("::ffff:192.0.2.1".parse().expect("an address")).to_string(),
            "192.0.2.1"
        );
    }

    #[test]
    fn memory_is_bounded_and_no_way_to_be_heard_more() {
        let (bad, now) = (BadDeliveries::default(), Instant::now());
        let mut heard = 0;
        for number in 0..2 * limits::BAD_PUSHERS_MAX {
            let weight = bad.count(&number.to_string(), address("192.0.2.1"), now);
            heard += usize::from(weight != Weight::Silent);
        }
        let known = bad.0.lock().expect("is whole").len();
        assert_eq!(known, limits::BAD_PUSHERS_MAX + 1);
        let shared = usize::try_from(limits::BAD_PUSHES_MAX).expect("fits") + 1;
        assert_eq!(heard, limits::BAD_PUSHERS_MAX + shared);
        // Room comes back with time.
        let later = now + limits::BAD_PUSHES_QUIET;
        assert_eq!(bad.count("late", address("192.0.2.1"), later), Weight::Single);
        assert_eq!(bad.0.lock().expect("is whole").len(), 1);
    }
}
