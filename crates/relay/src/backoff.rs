//! How long to wait before the next connection: twice as long each time, and by chance, so that
//! relays that lost a gateway together do not come back together.

use std::time::Duration;

use corral_transport::tunnel::{RECONNECT_MAX, RECONNECT_MIN};

/// The waits between failed connections.
pub(crate) struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { ceiling: RECONNECT_MIN }
    }

    /// The next wait: between half of the ceiling and all of it.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = jittered(self.ceiling, random());
        self.ceiling = self.ceiling.saturating_mul(2).min(RECONNECT_MAX);
        wait
    }
}

fn jittered(ceiling: Duration, chance: u8) -> Duration {
    let half = ceiling / 2;
    half + half * u32::from(chance) / 255
}

fn random() -> u8 {
    let mut byte = [0_u8; 1];
    match aws_lc_rs::rand::fill(&mut byte) {
        Ok(()) => byte[0],
        // Without chance, the longest wait is the safe one.
        Err(_) => u8::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_ceiling_and_are_never_short() {
        let mut backoff = Backoff::new();
        let mut ceiling = RECONNECT_MIN;
        for _ in 0..12 {
            let wait = backoff.next();
            assert!(wait >= ceiling / 2 && wait <= ceiling, "{wait:?} of {ceiling:?}");
            ceiling = (ceiling * 2).min(RECONNECT_MAX);
        }
        assert_eq!(ceiling, RECONNECT_MAX);
    }

    #[test]
    fn chance_moves_a_wait_between_half_and_all() {
        let second = Duration::from_secs(1);
        assert_eq!(jittered(second, 0), second / 2);
        assert_eq!(jittered(second, 255), second);
    }
}
