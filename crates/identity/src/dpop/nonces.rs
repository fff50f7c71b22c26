//! Nonces for proofs (RFC 9449 sections 8 and 9): what a proof that was made ahead cannot know.
//!
//! Nothing is kept: a nonce says when it was given out, and carries a tag by a key that every
//! gateway of one store has. So each takes what another gave, and none knows who used it: that a
//! proof counts once is [`super::ProofMemory`]'s.
//!
//! ```text
//! base64url( seconds since 1970, 8 bytes, big endian | HMAC-SHA-256 of these, 32 bytes )
//! ```

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corral_model::limits;
use time::OffsetDateTime;

const TIME_BYTES: usize = 8;

/// Gives nonces out and knows them again.
pub struct Nonces {
    key: hmac::Key,
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonces(…)")
    }
}

impl Nonces {
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// The nonce to use from now on; the same for [`limits::PROOF_NONCE_STEP`].
    #[must_use]
    pub fn current(&self, now: OffsetDateTime) -> String {
        let step = i64::try_from(limits::PROOF_NONCE_STEP.as_secs()).unwrap_or(1);
        let given_at = now.unix_timestamp();
        let time = (given_at - given_at.rem_euclid(step)).to_be_bytes();
        let mut nonce = time.to_vec();
        nonce.extend_from_slice(hmac::sign(&self.key, &time).as_ref());
        URL_SAFE_NO_PAD.encode(nonce)
    }

    /// Whether a nonce was given out by a gateway with this key, not longer than
    /// [`limits::PROOF_NONCE_AGE_MAX`] ago.
    #[must_use]
    pub fn is_good(&self, nonce: &str, now: OffsetDateTime) -> bool {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(nonce) else { return false };
        let Some((time, tag)) = bytes.split_first_chunk::<TIME_BYTES>() else { return false };
        if hmac::verify(&self.key, time, tag).is_err() {
            return false;
        }
        let given_at = OffsetDateTime::from_unix_timestamp(i64::from_be_bytes(*time));
        // Another gateway's clock may be ahead.
        given_at.is_ok_and(|given_at| {
            given_at <= now + limits::JWT_LEEWAY && now <= given_at + limits::PROOF_NONCE_AGE_MAX
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    #[test]
    fn a_nonce_is_good_for_a_while_at_every_gateway_of_the_store() {
        let (one, other) = (Nonces::new(&[1; 32]), Nonces::new(&[1; 32]));
        let nonce = one.current(at(0));
        let age_max = limits::PROOF_NONCE_AGE_MAX.as_secs();
        let check = |seconds: u64, expect: bool| {
            assert_eq!(other.is_good(&nonce, at(seconds)), expect, "{seconds}");
        };
        check(0, true);
        check(age_max, true);
        check(age_max + 1, false);
        assert!(other.is_good(&one.current(at(1_000)), at(1_000 - 30)));
        assert!(!other.is_good(&one.current(at(1_000)), at(1_000 - 90)));
    }

    #[test]
    fn a_nonce_of_somebody_else_is_none() {
        let own = Nonces::new(&[1; 32]);
        let check = |nonce: &str| assert!(!own.is_good(nonce, at(0)), "{nonce}");
        let good = own.current(at(0));
        check(&Nonces::new(&[2; 32]).current(at(0)));
        check("");
        check("AAAA");
        check(&format!("{good}A"));
        check(&format!("{good}="));
        check(good.get(..good.len() - 1).unwrap_or_default());
        // The time of one with the tag of another.
        let later = own.current(at(1_000));
        let (time, tag) = (later.get(..10), good.get(10..));
        check(&[time.unwrap_or_default(), tag.unwrap_or_default()].concat());
    }

    #[test]
    fn a_nonce_stays_the_same_within_a_step() {
        let own = Nonces::new(&[1; 32]);
        let step = limits::PROOF_NONCE_STEP.as_secs();
        assert_eq!(own.current(at(0)), own.current(at(step - 1)));
        assert_ne!(own.current(at(0)), own.current(at(step)));
    }
}
