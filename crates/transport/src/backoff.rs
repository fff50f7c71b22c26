//! How long to wait before the next try: twice as long each time, and by chance, so that those who
//! lost something together do not come back for it together.

use std::time::Duration;

/// The waits between failed tries.
#[derive(Debug, Clone)]
pub struct Backoff {
    ceiling: Duration,
    max: Duration,
}

impl Backoff {
    /// The first wait is at most `first`, later ones at most `max`.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { ceiling: first.min(max), max }
    }

    /// The next wait: between half of the ceiling and all of it.
    pub fn next_wait(&mut self) -> Duration {
        let wait = jittered(self.ceiling, chance());
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        wait
    }
}

fn jittered(ceiling: Duration, chance: u8) -> Duration {
    let half = ceiling / 2;
    half + half * u32::from(chance) / 255
}

/// A random byte, by which waits of many are told apart; the largest where there is no chance.
#[must_use]
pub fn chance() -> u8 {
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
        let (first, max) = (Duration::from_millis(500), Duration::from_secs(30));
        let mut backoff = Backoff::new(first, max);
        let mut ceiling = first;
        for _ in 0..12 {
            let wait = backoff.next_wait();
            assert!(wait >= ceiling / 2 && wait <= ceiling, "{wait:?} of {ceiling:?}");
            ceiling = (ceiling * 2).min(max);
        }
        assert_eq!(ceiling, max);
    }

    #[test]
    fn chance_moves_a_wait_between_half_and_all() {
        let second = Duration::from_secs(1);
        assert_eq!(jittered(second, 0), second / 2);
        assert_eq!(jittered(second, 255), second);
    }
}
