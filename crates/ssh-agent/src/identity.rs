//! A key pair with the certificate that makes it worth something.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use aws_lc_rs::signature::Ed25519KeyPair;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{Algorithm, LineEnding, PrivateKey, Signature};

/// Why a key or a certificate is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("there are no random numbers for a key")]
    NoRandomness,
    #[error("the key is not an Ed25519 key in OpenSSH's form")]
    NotAKey,
    #[error("the certificate is not one in OpenSSH's form")]
    NotACertificate,
    /// Whoever gave the certificate is to blame.
    #[error("the certificate is for another key")]
    OfAnotherKey,
}

/// An Ed25519 key pair. `Debug` does not show it.
pub struct Identity {
    key: PrivateKey,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

impl Identity {
    /// A fresh one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> Result<Self, IdentityError> {
        let mut seed = [0_u8; 32];
        rand::fill(&mut seed).map_err(|_| IdentityError::NoRandomness)?;
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
        let key = PrivateKey::new(pair, "").map_err(|_| IdentityError::NotAKey)?;
        Ok(Self { key })
    }

    /// One that was kept.
    ///
    /// # Errors
    /// When the text is no Ed25519 key without a passphrase.
    pub fn read(text: &str) -> Result<Self, IdentityError> {
        let key = PrivateKey::from_openssh(text).map_err(|_| IdentityError::NotAKey)?;
        // An encrypted key is of no kind until it is decrypted.
        if key.key_data().ed25519().is_none() {
            return Err(IdentityError::NotAKey);
        }
        Ok(Self { key })
    }

    /// The private key as a file of OpenSSH's: a secret.
    ///
    /// # Errors
    /// Never for a key that was made here.
    pub fn to_file(&self) -> Result<impl std::ops::Deref<Target = String>, IdentityError> {
        self.key.to_openssh(LineEnding::LF).map_err(|_| IdentityError::NotAKey)
    }

    /// The public key on one line, `ssh-ed25519 AAAA…`.
    ///
    /// # Errors
    /// Never for a key that was made here.
    pub fn public_line(&self) -> Result<String, IdentityError> {
        self.key.public_key().to_openssh().map_err(|_| IdentityError::NotAKey)
    }

    /// The signature of `data`, in the form of the wire.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub(crate) fn sign(&self, data: &[u8]) -> Result<Vec<u8>, IdentityError> {
        use ssh_key::encoding::Encode as _;
        let pair = self.key.key_data().ed25519().ok_or(IdentityError::NotAKey)?;
        let key = Ed25519KeyPair::from_seed_unchecked(pair.private.as_ref())
            .map_err(|_| IdentityError::NotAKey)?;
        let signature = Signature::new(Algorithm::Ed25519, key.sign(data).as_ref())
            .map_err(|_| IdentityError::NotAKey)?;
        signature.encode_vec().map_err(|_| IdentityError::NotAKey)
    }
}

/// A certificate for an [`Identity`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// In the form of the wire.
    blob: Vec<u8>,
    /// Unix seconds.
    ends_s: u64,
}

impl Certificate {
    /// Reads a line of OpenSSH's form.
    ///
    /// # Errors
    /// When it is none, or for another key.
    pub fn read(line: &str, identity: &Identity) -> Result<Self, IdentityError> {
        let certificate =
            ssh_key::Certificate::from_openssh(line).map_err(|_| IdentityError::NotACertificate)?;
        if certificate.public_key() != identity.key.public_key().key_data() {
            return Err(IdentityError::OfAnotherKey);
        }
        let blob = certificate.to_bytes().map_err(|_| IdentityError::NotACertificate)?;
        Ok(Self { blob, ends_s: certificate.valid_before() })
    }

    #[must_use]
    pub(crate) fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// How much longer it is good, by this machine's clock.
    #[must_use]
    pub fn time_left(&self, now: SystemTime) -> Duration {
        let now_s = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Duration::from_secs(self.ends_s.saturating_sub(now_s))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use ssh_key::certificate::{Builder, CertType};

    use super::*;

    /// A certificate of some authority, good for five minutes from `now`.
    pub(crate) fn certificate(identity: &Identity, now: SystemTime, serial: u64) -> String {
        let authority = Identity::generate().expect("an authority");
        let key = identity.key.public_key().key_data().clone();
        let now_s = now.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let mut builder = Builder::new([7; 32], key, now_s, now_s + 300).expect("a builder");
        builder.serial(serial).expect("a serial");
        builder.cert_type(CertType::User).expect("for users");
        builder.key_id("x").expect("an id");
        builder.valid_principal("planner").expect("a principal");
        let certificate = builder.sign(&authority.key).expect("is signed");
        certificate.to_openssh().expect("is written")
    }

    #[test]
    fn an_identity_reads_back() {
        let identity = Identity::generate().expect("a key");
        let file = identity.to_file().expect("is written");
        let again = Identity::read(&file).expect("is read");
        assert_eq!(identity.public_line(), again.public_line());
        let other = Identity::generate().expect("a key");
        assert_ne!(identity.public_line(), other.public_line());
        assert_eq!(format!("{identity:?}"), "Identity(…)");
        assert_eq!(Identity::read("x").map(|_| ()), Err(IdentityError::NotAKey));
    }

    #[test]
    fn a_certificate_belongs_to_its_key() {
        let identity = Identity::generate().expect("a key");
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let line = certificate(&identity, now, 1);
        let read = Certificate::read(&line, &identity).expect("is read");
        assert_eq!(read.time_left(now), Duration::from_secs(300));
        assert_eq!(read.time_left(now + Duration::from_secs(301)), Duration::ZERO);
        let other = Identity::generate().expect("a key");
        assert_eq!(Certificate::read(&line, &other), Err(IdentityError::OfAnotherKey));
        assert_eq!(Certificate::read("x", &other), Err(IdentityError::NotACertificate));
    }
}
