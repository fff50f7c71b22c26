//! Makes tokens and their digests. A token is random and long, so its plain SHA-256 finds and
//! protects it; nothing that a person chose is ever kept this way.

use aws_lc_rs::{digest, rand};
use corral_model::limits;
use corral_model::secret::Secret;
use corral_model::token::TokenDigest;

/// Every token starts so, for people and for scanners that look for leaked secrets.
pub const TOKEN_PREFIX: &str = "crl_";

/// 256 random bits in base 32 are 52 characters; with the prefix 56, below the 64 that the
/// contract allows.
const RANDOM_BYTES: usize = 32;
const TEXT_LEN: usize = TOKEN_PREFIX.len() + (RANDOM_BYTES * 8).div_ceil(5);
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The machine is to blame.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// Whoever showed it is to blame. It says nothing of what was shown.
    #[error("this is not a token; a token starts with crl_ and has 56 characters")]
    NotAToken,
}

/// A token as its bearer holds it. Shown once, kept as a digest only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token(Secret);

impl Token {
    /// Makes a token of 256 random bits.
    ///
    /// # Errors
    /// [`TokenError::NoRandomness`].
    pub fn generate() -> Result<Self, TokenError> {
        let mut bytes = zeroize::Zeroizing::new([0_u8; RANDOM_BYTES]);
        rand::fill(bytes.as_mut_slice()).map_err(|_| TokenError::NoRandomness)?;
        let mut text = String::with_capacity(TEXT_LEN);
        text.push_str(TOKEN_PREFIX);
        push_base32(&mut text, bytes.as_slice());
        Ok(Self(Secret::new(text)))
    }

    /// Takes what a client showed, when it has a token's shape. Whether such a token was ever
    /// given is for the store to say.
    ///
    /// # Errors
    /// [`TokenError::NotAToken`].
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        if is_token_shaped(text) {
            Ok(Self(Secret::new(text.to_owned())))
        } else {
            Err(TokenError::NotAToken)
        }
    }

    /// The token itself, to be shown to its bearer.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }

    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        digest_of(self.0.reveal())
    }
}

/// The digest of a text, whatever its shape.
#[must_use]
pub fn digest_of(text: &str) -> TokenDigest {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    let mut bytes = [0_u8; 32];
    for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    TokenDigest(bytes)
}

/// Whether two digests are the same, in time that does not depend on where they differ.
#[must_use]
pub fn is_same(one: &TokenDigest, other: &TokenDigest) -> bool {
    use subtle::ConstantTimeEq;
    one.0.ct_eq(&other.0).into()
}

/// Length and prefix are public; every character after them is looked at, so that the time
/// tells nothing of which one is wrong.
fn is_token_shaped(text: &str) -> bool {
    if text.len() != TEXT_LEN || text.len() > limits::TOKEN_BYTES_MAX {
        return false;
    }
    let Some(body) = text.strip_prefix(TOKEN_PREFIX) else { return false };
    body.bytes().fold(true, |is_sound, byte| {
        is_sound & (byte.is_ascii_lowercase() | (b'2'..=b'7').contains(&byte))
    })
}

fn push_base32(text: &mut String, bytes: &[u8]) {
    let (mut bits, mut bit_count) = (0_u32, 0_u32);
    let mut push = |five: u32| {
        let index = (five & 31) as usize;
        text.push(char::from(ALPHABET.get(index).copied().unwrap_or(b'a')));
    };
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        bit_count += 8;
        while bit_count >= 5 {
            bit_count -= 5;
            push(bits >> bit_count);
        }
        bits &= (1 << bit_count) - 1;
    }
    if bit_count > 0 {
        push(bits << (5 - bit_count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_prefixed_short_and_reads_back() {
        let token = Token::generate().expect("random bytes");
        assert!(token.reveal().starts_with("crl_"));
        assert_eq!(token.reveal().len(), 56);
        assert!(token.reveal().len() <= limits::TOKEN_BYTES_MAX);
        let read = Token::parse(token.reveal()).expect("a token");
        assert!(is_same(&read.digest(), &token.digest()));
        let other = Token::generate().expect("random bytes");
        assert!(!is_same(&other.digest(), &token.digest()));
    }

    #[test]
    fn nothing_shows_a_token() {
        let token = Token::generate().expect("random bytes");
        let shown = format!("{token:?} {:?}", token.digest());
        assert_eq!(shown, "Token(Secret(…)) TokenDigest(…)");
    }

    #[test]
    fn what_has_another_shape_is_no_token() {
        let sound = Token::generate().expect("random bytes");
        let sound = sound.reveal();
        let body = sound.strip_prefix("crl_").expect("the prefix");
        let texts = [
            String::new(),
            "crl_".to_owned(),
            body.to_owned(),
            format!("{sound}a"),
            format!("crm_{body}"),
            format!("crl_{}", body.to_uppercase()),
            format!("crl_{}1", body.get(1..).expect("ascii")),
            format!("crl_{}é", body.get(2..).expect("ascii")),
        ];
        for text in texts {
            assert_eq!(Token::parse(&text), Err(TokenError::NotAToken), "{text}");
        }
    }

    #[test]
    fn base32_is_that_of_rfc_4648_in_lower_case() {
        let check = |bytes: &str, expect: &str| {
            let mut text = String::new();
            push_base32(&mut text, bytes.as_bytes());
            assert_eq!(text, expect, "{bytes}");
        };
        check("", "");
        check("f", "my");
        check("foo", "mzxw6");
        check("foobar", "mzxw6ytboi");
    }

    #[test]
    fn the_digest_is_plain_sha_256() {
        let expect = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest_of("abc").to_hex(), expect);
    }
}
