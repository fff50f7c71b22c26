//! Short-lived OpenSSH user certificates (PROTOCOL.certkeys): those by which clients log in, and
//! those by which the gateway logs in to targets.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use corral_gate::{Denial, DenialKind};
use corral_model::TokenDigest;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Certificate, HashAlg};
use russh::keys::{PrivateKey, PublicKey};

use crate::bounds;

/// Why a client's certificate is not taken; for the log and the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("the certificate is not for users")]
    NotForUsers,
    #[error("the certificate is not of this gateway, is expired, or is not valid yet")]
    NotValid,
    #[error("the certificate is good for longer than this gateway makes any")]
    TooLong,
    #[error("the certificate names options that this gateway does not know")]
    Options,
    #[error("the certificate names no token")]
    NoToken,
}

/// What a certificate is made of.
pub(crate) struct Request<'a> {
    pub(crate) key: &'a PublicKey,
    pub(crate) key_id: String,
    pub(crate) principal: &'a str,
    pub(crate) ttl: Duration,
    /// Such as `permit-pty`.
    pub(crate) extensions: &'a [&'a str],
}

/// Signs a user certificate.
///
/// # Errors
/// A [`Denial`] when it cannot be made: the caller's key or name is not one.
pub(crate) fn sign(
    authority: &PrivateKey,
    now: SystemTime,
    request: &Request<'_>,
) -> Result<Certificate, Denial> {
    let unmade = |_| Denial::new(DenialKind::Protocol, "no certificate can be made of this key");
    let now_s = unix_seconds(now);
    let ttl = request.ttl.min(bounds::CERTIFICATE_TTL).as_secs();
    let since = now_s.saturating_sub(bounds::CLOCK_SKEW.as_secs());
    let mut nonce = vec![0_u8; Builder::RECOMMENDED_NONCE_SIZE];
    rand::fill(&mut nonce)
        .map_err(|_| Denial::new(DenialKind::TargetUnavailable, "no random numbers"))?;
    let mut builder =
        Builder::new(nonce, request.key.key_data().clone(), since, now_s.saturating_add(ttl))
            .map_err(unmade)?;
    builder.cert_type(CertType::User).map_err(unmade)?;
    builder.key_id(request.key_id.as_str()).map_err(unmade)?;
    builder.valid_principal(request.principal).map_err(unmade)?;
    for extension in request.extensions {
        builder.extension(*extension, "").map_err(unmade)?;
    }
    builder.sign(authority).map_err(unmade)
}

/// Reads whose token a client's certificate stands for. That the client has its private key is
/// checked before.
///
/// # Errors
/// [`CertificateError`]: the client is to blame.
pub(crate) fn token_of(
    certificate: &Certificate,
    authority: &KeyData,
    now: SystemTime,
) -> Result<TokenDigest, CertificateError> {
    if certificate.cert_type() != CertType::User {
        return Err(CertificateError::NotForUsers);
    }
    if !certificate.critical_options().is_empty() {
        return Err(CertificateError::Options);
    }
    let lifetime = certificate.valid_before().saturating_sub(certificate.valid_after());
    if lifetime > (bounds::CERTIFICATE_TTL + bounds::CLOCK_SKEW).as_secs() {
        return Err(CertificateError::TooLong);
    }
    let trusted = authority.fingerprint(HashAlg::Sha256);
    certificate
        .validate_at(unix_seconds(now), [&trusted])
        .map_err(|_| CertificateError::NotValid)?;
    digest_of(certificate.key_id()).ok_or(CertificateError::NoToken)
}

/// The key id of a client's certificate: its token's digest, 64 hexadecimal digits.
pub(crate) fn key_id(token: &TokenDigest) -> String {
    token.to_hex()
}

fn digest_of(key_id: &str) -> Option<TokenDigest> {
    let digits = key_id.as_bytes();
    let mut digest = [0_u8; 32];
    if digits.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        let text = std::str::from_utf8(pair).ok().filter(|text| !text.starts_with('+'))?;
        *byte = u8::from_str_radix(text, 16).ok()?;
    }
    Some(TokenDigest(digest))
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

    const TOKEN: TokenDigest = TokenDigest([0xab; 32]);

    fn certificate(authority: &PrivateKey, now: SystemTime, ttl: Duration) -> Certificate {
        let key = keys::passing().expect("a key");
        let request = Request {
            key: key.public_key(),
            key_id: key_id(&TOKEN),
            principal: "planner",
            ttl,
            extensions: &[],
        };
        sign(authority, now, &request).expect("signed")
    }

    #[test]
    fn a_certificate_stands_for_its_token_for_five_minutes() {
        let authority = keys::passing().expect("a key");
        let trusted = authority.public_key().key_data();
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let certificate = certificate(&authority, now, Duration::from_secs(3_600));

        assert_eq!(token_of(&certificate, trusted, now), Ok(TOKEN));
        let late = now + bounds::CERTIFICATE_TTL + Duration::from_secs(1);
        assert_eq!(token_of(&certificate, trusted, late), Err(CertificateError::NotValid));
        let early = now - bounds::CLOCK_SKEW - Duration::from_secs(1);
        assert_eq!(token_of(&certificate, trusted, early), Err(CertificateError::NotValid));
        let foreign = keys::passing().expect("a key");
        let found = token_of(&certificate, foreign.public_key().key_data(), now);
        assert_eq!(found, Err(CertificateError::NotValid));
    }

    #[test]
    fn a_certificate_of_our_authority_with_other_contents_is_refused() {
        let authority = keys::passing().expect("a key");
        let trusted = authority.public_key().key_data();
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let now_s = unix_seconds(now);
        let check = |build: &dyn Fn(&mut Builder), ends: u64, expect: CertificateError| {
            let key = keys::passing().expect("a key");
            let data = key.public_key().key_data().clone();
            let mut builder = Builder::new([7; 16], data, now_s, ends).expect("a builder");
            builder.valid_principal("planner").expect("a principal");
            build(&mut builder);
            let certificate = builder.sign(&authority).expect("signed");
            assert_eq!(token_of(&certificate, trusted, now), Err(expect));
        };
        let hex = key_id(&TOKEN);
        let id = |builder: &mut Builder| {
            builder.key_id(hex.as_str()).expect("an id");
        };
        let host = |builder: &mut Builder| {
            builder.cert_type(CertType::Host).expect("host");
        };
        let options = |builder: &mut Builder| {
            id(builder);
            builder.critical_option("force-command", "id").expect("an option");
        };
        let other_id = |builder: &mut Builder| {
            builder.key_id("ada").expect("an id");
        };
        check(&host, now_s + 60, CertificateError::NotForUsers);
        check(&options, now_s + 60, CertificateError::Options);
        check(&id, now_s + 3_600, CertificateError::TooLong);
        check(&other_id, now_s + 60, CertificateError::NoToken);
    }
}
