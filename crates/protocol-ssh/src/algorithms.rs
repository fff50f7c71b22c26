//! Which algorithms are offered: nothing that `ssh-audit` calls weak, and strict key exchange.

use std::borrow::Cow;

use russh::keys::ssh_key::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, cipher, compression, kex, mac};

/// Towards clients. The order is the server's; the client's decides. No finite-field groups:
/// their arithmetic is milliseconds for anybody who only connects (CVE-2002-20001).
const CLIENT_KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

/// Towards targets: hosts that are years older than the gateway are common.
const TARGET_KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

const CIPHERS: &[cipher::Name] = &[
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

/// Encrypt-then-MAC only: the others are what prefix attacks stand on.
const CLIENT_MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];

const TARGET_MACS: &[mac::Name] =
    &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM, mac::HMAC_SHA512, mac::HMAC_SHA256];

/// Compressed data would be a way to make a small packet large.
const COMPRESSIONS: &[compression::Name] = &[compression::NONE];

/// Host keys that a target may have, best first. No `ssh-rsa` with SHA-1.
const HOST_KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// What clients are offered.
pub(crate) fn for_clients() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(CLIENT_KEX),
        key: Cow::Borrowed(&[Algorithm::Ed25519]),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(CLIENT_MACS),
        compression: Cow::Borrowed(COMPRESSIONS),
    }
}

/// What a target is offered, where it must show a key of one of these algorithms; all when none
/// is named.
pub(crate) fn for_target(pinned: &[Algorithm]) -> Preferred {
    let is_pinned = |algorithm: &&Algorithm| {
        pinned.is_empty()
            || pinned.iter().any(|pin| match (pin, algorithm) {
                (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
                (pin, algorithm) => pin == *algorithm,
            })
    };
    Preferred {
        kex: Cow::Borrowed(TARGET_KEX),
        key: HOST_KEYS.iter().filter(is_pinned).cloned().collect(),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(TARGET_MACS),
        compression: Cow::Borrowed(COMPRESSIONS),
    }
}

/// Each kind of host key that a target may have, to ask for them one by one.
pub(crate) fn host_key_kinds() -> impl Iterator<Item = Algorithm> {
    HOST_KEYS.iter().filter(|algorithm| !is_second_rsa(algorithm)).cloned()
}

fn is_second_rsa(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Rsa { hash: Some(HashAlg::Sha256) })
}
