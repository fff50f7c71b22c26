//! SCRAM-SHA-256 as the client of a target (RFC 5802, RFC 7677).
//!
//! As PostgreSQL does it: the user's name is empty, since the startup message has it, and a
//! password that SASLprep refuses is taken as it is (src/interfaces/libpq/fe-auth-scram.c).
//! Deriving keys from a password costs a thousand times the rest of the exchange, so those of
//! targets that proved themselves are kept ([`KnownKeys`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corral_model::limits;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

pub(crate) const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
pub(crate) const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// What the exchange is bound to (RFC 5929).
pub(crate) enum Binding {
    /// The connection has no TLS.
    Unsupported,
    /// There is TLS, and the target offers no binding.
    Unrequested,
    /// `tls-server-end-point`: the hash of the target's certificate.
    EndPoint(Vec<u8>),
}

impl Binding {
    fn header(&self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::Unrequested => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    fn encode(&self) -> String {
        let mut input = self.header().as_bytes().to_vec();
        if let Self::EndPoint(hash) = self {
            input.extend_from_slice(hash);
        }
        STANDARD.encode(input)
    }
}

/// Why the exchange ends. The target is to blame, or whoever stands in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScramError {
    Broken,
    Unproven,
}

/// An exchange of which the first message was sent.
pub(crate) struct Opening {
    nonce: String,
    binding: Binding,
}

impl Opening {
    /// `secret`: random bytes of this connection alone, from which the nonce is made.
    pub(crate) fn new(binding: Binding, secret: &[u8; 32]) -> Self {
        Self { nonce: STANDARD.encode(sign(secret, b"SCRAM nonce")), binding }
    }

    /// The first message.
    pub(crate) fn message(&self) -> String {
        format!("{}n=,r={}", self.binding.header(), self.nonce)
    }

    /// Answers the target's challenge: gives what is to be sent, and what proves the target.
    ///
    /// # Errors
    /// [`ScramError::Broken`], also for more than [`limits::SCRAM_ITERATIONS_MAX`] iterations.
    pub(crate) fn answer(
        self,
        challenge: &[u8],
        password: &str,
        known: &KnownKeys,
    ) -> Result<(String, Closing), ScramError> {
        let text = std::str::from_utf8(challenge).map_err(|_| ScramError::Broken)?;
        let challenge = Challenge::parse(text).ok_or(ScramError::Broken)?;
        let is_ours =
            challenge.nonce.strip_prefix(self.nonce.as_str()).is_some_and(|rest| !rest.is_empty());
        if !is_ours {
            return Err(ScramError::Broken);
        }
        let source = Source::of(password, &challenge);
        let keys =
            known.find(&source).unwrap_or_else(|| Arc::new(Keys::derive(password, &challenge)));

        let bare = format!("c={},r={}", self.binding.encode(), challenge.nonce);
        let exchange = format!("n=,r={},{text},{bare}", self.nonce);
        let stored_key: [u8; 32] = Sha256::digest(*keys.client).into();
        let signature = sign(&stored_key, exchange.as_bytes());
        let mut proof = *keys.client;
        for (byte, mask) in proof.iter_mut().zip(signature) {
            *byte ^= mask;
        }
        let message = format!("{bare},p={}", STANDARD.encode(proof));
        proof.zeroize();
        Ok((message, Closing { source, keys, exchange }))
    }
}

/// An exchange in which the target has yet to prove itself.
pub(crate) struct Closing {
    source: Source,
    keys: Arc<Keys>,
    exchange: String,
}

impl Closing {
    /// Checks the target's proof; its keys are known from then on.
    ///
    /// # Errors
    /// [`ScramError::Unproven`].
    pub(crate) fn finish(self, message: &[u8], known: &KnownKeys) -> Result<(), ScramError> {
        let proof = message
            .strip_prefix(b"v=")
            .and_then(|text| STANDARD.decode(text).ok())
            .ok_or(ScramError::Unproven)?;
        let mut signature = mac(&self.keys.server);
        signature.update(self.exchange.as_bytes());
        signature.verify_slice(&proof).map_err(|_| ScramError::Unproven)?;
        known.keep(self.source, self.keys);
        Ok(())
    }
}

/// `server-first-message` of RFC 5802 section 7; extensions before the nonce are mandatory ones,
/// which nobody here knows.
struct Challenge<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

impl<'a> Challenge<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut fields = text.split(',');
        let nonce = fields.next()?.strip_prefix("r=")?;
        let salt = STANDARD.decode(fields.next()?.strip_prefix("s=")?).ok()?;
        let iterations = fields.next()?.strip_prefix("i=")?.parse().ok()?;
        let is_sound = (1..=limits::SCRAM_ITERATIONS_MAX).contains(&iterations)
            && !salt.is_empty()
            && nonce.bytes().all(|byte| byte.is_ascii_graphic());
        is_sound.then_some(Self { nonce, salt, iterations })
    }
}

/// What stands for a password at one target. Whoever has both can log in, and can pretend to be
/// the target: they are secrets like the password.
struct Keys {
    client: Zeroizing<[u8; 32]>,
    server: Zeroizing<[u8; 32]>,
}

impl Keys {
    fn derive(password: &str, challenge: &Challenge<'_>) -> Self {
        let prepared = stringprep::saslprep(password);
        let text = prepared.as_deref().unwrap_or(password).as_bytes();
        let mut salted = Zeroizing::new([0_u8; 32]);
        pbkdf2::pbkdf2_hmac::<Sha256>(text, &challenge.salt, challenge.iterations, &mut *salted);
        Self {
            client: Zeroizing::new(sign(&salted, b"Client Key")),
            server: Zeroizing::new(sign(&salted, b"Server Key")),
        }
    }
}

fn mac(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = [0_u8; 64];
    block[..32].copy_from_slice(key);
    // A key of one block is used as it is, and one that is shorter is filled up with zeros.
    let made = Hmac::new(&block.into());
    block.zeroize();
    made
}

fn sign(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut mac = mac(key);
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// A digest of all that keys are derived from.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Source([u8; 32]);

impl Source {
    fn of(password: &str, challenge: &Challenge<'_>) -> Self {
        let mut digest = Sha256::new();
        digest.update(challenge.iterations.to_be_bytes());
        // usize fits into u64 wherever this runs.
        digest.update((challenge.salt.len() as u64).to_be_bytes());
        digest.update(&challenge.salt);
        digest.update(password.as_bytes());
        Self(digest.finalize().into())
    }
}

/// Keys of targets that proved themselves, at most [`limits::SCRAM_KEYS_MAX`]. They are found by
/// everything that they are derived from: after a change of the password or of the salt others are
/// derived.
#[derive(Default)]
pub(crate) struct KnownKeys(Mutex<HashMap<Source, Arc<Keys>>>);

impl std::fmt::Debug for KnownKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownKeys").finish_non_exhaustive()
    }
}

impl KnownKeys {
    fn find(&self, source: &Source) -> Option<Arc<Keys>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(source).cloned()
    }

    fn keep(&self, source: Source, keys: Arc<Keys>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= limits::SCRAM_KEYS_MAX && !known.contains_key(&source) {
            known.clear();
        }
        known.insert(source, keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of RFC 7677 section 3, but for its user's name, which PostgreSQL leaves out: the
    // keys are the RFC's.
    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
    const PASSWORD: &str = "pencil";

    fn opening() -> Opening {
        Opening { nonce: "rOprNGfwEbeRWgbNEkqO".to_owned(), binding: Binding::Unsupported }
    }

    fn challenge() -> String {
        format!("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s={SALT},i=4096")
    }

    /// The target's side, from the same keys.
    fn proof_of_target(closing: &Closing) -> Vec<u8> {
        let signature = sign(&closing.keys.server, closing.exchange.as_bytes());
        format!("v={}", STANDARD.encode(signature)).into_bytes()
    }

    #[test]
    fn the_keys_are_those_of_the_rfc() {
        let challenge = challenge();
        let challenge = Challenge::parse(&challenge).expect("a challenge");
        let keys = Keys::derive(PASSWORD, &challenge);
        // Both from the RFC's own exchange, whose text has the user's name.
        let exchange = format!(
            "n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s={SALT},i=4096,c=biws,r={nonce}",
            nonce = challenge.nonce
        );
        assert_eq!(
            STANDARD.encode(sign(&keys.server, exchange.as_bytes())),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
        let stored: [u8; 32] = Sha256::digest(*keys.client).into();
        let signature = sign(&stored, exchange.as_bytes());
        let proof: Vec<u8> =
            keys.client.iter().zip(signature).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(STANDARD.encode(proof), "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    }

    #[test]
    fn keys_are_known_only_after_the_target_proved_itself() {
        let known = KnownKeys::default();
        let (_, closing) =
            opening().answer(challenge().as_bytes(), PASSWORD, &known).expect("sound");
        assert_eq!(closing.finish(b"v=AAAA", &known), Err(ScramError::Unproven));
        assert_eq!(known.0.lock().expect("not poisoned").len(), 0);

        let (sent, closing) =
            opening().answer(challenge().as_bytes(), PASSWORD, &known).expect("sound");
        let proof = proof_of_target(&closing);
        closing.finish(&proof, &known).expect("proven");
        let (again, closing) =
            opening().answer(challenge().as_bytes(), PASSWORD, &known).expect("sound");
        assert_eq!(sent, again);
        let kept = known.find(&closing.source).expect("known");
        assert!(Arc::ptr_eq(&kept, &closing.keys), "they were derived again");
    }

    #[test]
    fn whatever_keys_are_derived_from_makes_others() {
        let base = "r=x,s=AAAA,i=4096";
        let source = |text, password| Source::of(password, &Challenge::parse(text).expect("sound"));
        let first = source(base, "one");
        assert!(first == source(base, "one"));
        assert!(first != source(base, "two"));
        assert!(first != source("r=x,s=AAAB,i=4096", "one"));
        assert!(first != source("r=x,s=AAAA,i=4097", "one"));
    }

    #[test]
    fn known_keys_are_limited() {
        let known = KnownKeys::default();
        let keys =
            Arc::new(Keys { client: Zeroizing::new([0; 32]), server: Zeroizing::new([0; 32]) });
        for number in 0..=limits::SCRAM_KEYS_MAX {
            let mut source = [0; 32];
            source[..8].copy_from_slice(&(number as u64).to_be_bytes());
            known.keep(Source(source), Arc::clone(&keys));
            assert!(known.0.lock().expect("not poisoned").len() <= limits::SCRAM_KEYS_MAX);
        }
    }

    #[test]
    fn a_challenge_that_is_not_sound_is_refused() {
        let nonce = "rOprNGfwEbeRWgbNEkqO";
        for challenge in [
            String::new(),
            format!("r={nonce},s={SALT},i=4096"),
            format!("r=other,s={SALT},i=4096"),
            format!("r={nonce}x,s=,i=4096"),
            format!("r={nonce}x,s=*,i=4096"),
            format!("r={nonce}x,s={SALT},i=0"),
            format!("r={nonce}x,s={SALT},i=100001"),
            format!("r={nonce}x,s={SALT},i=-1"),
            format!("r={nonce}x,s={SALT}"),
            format!("m=x,r={nonce}x,s={SALT},i=4096"),
            format!("e=unknown-user,r={nonce}x,s={SALT},i=4096"),
        ] {
            let answered = opening().answer(challenge.as_bytes(), PASSWORD, &KnownKeys::default());
            assert!(answered.is_err(), "{challenge}");
        }
        let answered = opening().answer(b"r=\xff", PASSWORD, &KnownKeys::default());
        assert!(answered.is_err());
    }

    #[test]
    fn the_binding_is_part_of_what_is_proven() {
        let sent = |binding| {
            let opening = Opening { nonce: "n".to_owned(), binding };
            let first = opening.message();
            let challenge = format!("r=nm,s={SALT},i=4096");
            let (answer, _) = opening
                .answer(challenge.as_bytes(), PASSWORD, &KnownKeys::default())
                .expect("sound");
            (first, answer)
        };
        let (first, answer) = sent(Binding::Unsupported);
        assert_eq!(first, "n,,n=,r=n");
        assert!(answer.starts_with("c=biws,r=nm,p="), "{answer}");
        let (first, answer) = sent(Binding::Unrequested);
        assert_eq!(first, "y,,n=,r=n");
        assert!(answer.starts_with("c=eSws,r=nm,p="), "{answer}");
        let (first, answer) = sent(Binding::EndPoint(vec![1, 2, 3]));
        assert_eq!(first, "p=tls-server-end-point,,n=,r=n");
        let bound = STANDARD.encode(b"p=tls-server-end-point,,\x01\x02\x03");
        assert!(answer.starts_with(&format!("c={bound},r=nm,p=")), "{answer}");
    }
}
