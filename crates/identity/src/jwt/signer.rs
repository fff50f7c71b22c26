//! Signs the gateway's own tokens, with Ed25519.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Algorithm, JwtError, KeySet, PublicKey};

/// A private key of the gateway's own. It has no `Debug` of its content.
pub struct Signer {
    pair: Ed25519KeyPair,
    public: PublicKey,
    jwk: Value,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.public.thumbprint())
    }
}

impl Signer {
    /// The key of this seed (RFC 8032 section 5.1.5); its id is its thumbprint.
    ///
    /// # Errors
    /// [`JwtError::BadMember`] when no key can be made. The gateway is to blame.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, JwtError> {
        let bad = JwtError::BadMember("key");
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| bad.clone())?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        let mut jwk = json!({
            "kty": "OKP", "crv": "Ed25519", "x": x, "use": "sig", "alg": Algorithm::EdDsa.name(),
        });
        let thumbprint = PublicKey::read(&jwk).map_err(|_| bad.clone())?.thumbprint().to_owned();
        if let Some(members) = jwk.as_object_mut() {
            members.insert("kid".to_owned(), Value::String(thumbprint));
        }
        let public = PublicKey::read(&jwk).map_err(|_| bad)?;
        Ok(Self { pair, public, jwk })
    }

    /// A compact JWS of these claims.
    #[must_use]
    pub fn sign(&self, typ: &str, claims: &Value) -> String {
        let header = json!({
            "typ": typ, "alg": Algorithm::EdDsa.name(), "kid": self.public.thumbprint(),
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The public key, as a set to verify with.
    #[must_use]
    pub fn keys(&self) -> KeySet {
        KeySet::of(vec![self.public.clone()])
    }

    /// The public key, as it is published (RFC 7517 section 5).
    #[must_use]
    pub fn published(&self) -> Value {
        json!({ "keys": [self.jwk] })
    }
}
