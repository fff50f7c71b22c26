//! Public keys as issuers publish them (JWK, RFC 7517), and which of them a token may use.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corral_model::limits;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;

use super::error::KeyError;
use super::{Algorithm, Header, JwtError, json};

/// Smaller ones can be factored (NIST SP 800-131A), larger ones cost too much to check.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
/// RSA's exponent; honest ones have three.
const RSA_EXPONENT_BYTES_MAX: usize = 4;

/// What can be done with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// One public key. Secret and symmetric keys are never made into one.
#[derive(Clone)]
pub struct PublicKey {
    id: Option<String>,
    kind: Kind,
    /// The only algorithm for which its issuer publishes it, when it says so.
    only: Option<Algorithm>,
    thumbprint: String,
    key: DecodingKey,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({:?}, {})", self.kind, self.thumbprint)
    }
}

/// A JWK's members that matter. Others are allowed and mean nothing here.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    /// A secret part: whoever publishes it gave the key away.
    d: Option<Value>,
}

impl PublicKey {
    /// Reads a published key.
    pub(crate) fn read(jwk: &Value) -> Result<Self, KeyError> {
        let jwk = Jwk::deserialize(jwk).map_err(|_| KeyError::Unreadable)?;
        let is_for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
            && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !is_for_signatures || jwk.d.is_some() {
            return Err(KeyError::Useless);
        }
        let only = match &jwk.alg {
            None => None,
            Some(name) => Some(Algorithm::parse(name).ok_or(KeyError::Useless)?),
        };
        let (kind, key, canonical) = jwk.parts()?;
        let thumbprint = digest::digest(&digest::SHA256, canonical.as_bytes());
        let thumbprint = URL_SAFE_NO_PAD.encode(thumbprint);
        let read = Self { id: jwk.kid, kind, only, thumbprint, key };
        let is_sound = only.is_none_or(|algorithm| read.fits(algorithm));
        if is_sound { Ok(read) } else { Err(KeyError::Useless) }
    }

    /// The key that a proof brings: no private parts, whatever else it says of itself.
    pub(super) fn of_proof(jwk: &Value) -> Option<Self> {
        Self::read(jwk).ok()
    }

    /// SHA-256 of its canonical form, in base64url (RFC 7638): the same for the same key.
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        let is_of_kind = match algorithm {
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => self.kind == Kind::Rsa,
            Algorithm::Es256 => self.kind == Kind::P256,
            Algorithm::Es384 => self.kind == Kind::P384,
            Algorithm::EdDsa => self.kind == Kind::Ed25519,
        };
        is_of_kind && self.only.is_none_or(|only| only == algorithm)
    }

    pub(super) fn of_library(&self) -> &DecodingKey {
        &self.key
    }
}

impl Jwk {
    /// The key with the JSON of RFC 7638 section 3.2, whose members stand in this order. Every
    /// value was decoded before, so that none holds a character that JSON would escape.
    fn parts(&self) -> Result<(Kind, DecodingKey, String), KeyError> {
        let curve = self.crv.as_deref();
        match (self.kty.as_str(), curve) {
            ("RSA", None) => {
                let (n, e) =
                    (sized(&self.n, RSA_BYTES)?, sized(&self.e, 1..=RSA_EXPONENT_BYTES_MAX)?);
                let key =
                    DecodingKey::from_rsa_components(n, e).map_err(|_| KeyError::Unreadable)?;
                Ok((Kind::Rsa, key, format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#)))
            }
            ("EC", Some("P-256")) => self.on_curve(Kind::P256, "P-256", 32),
            ("EC", Some("P-384")) => self.on_curve(Kind::P384, "P-384", 48),
            ("OKP", Some("Ed25519")) => {
                let x = sized(&self.x, 32..=32)?;
                let key = DecodingKey::from_ed_components(x).map_err(|_| KeyError::Unreadable)?;
                let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
                Ok((Kind::Ed25519, key, canonical))
            }
            (_, _) => Err(KeyError::Useless),
        }
    }

    fn on_curve(
        &self,
        kind: Kind,
        curve: &str,
        bytes: usize,
    ) -> Result<(Kind, DecodingKey, String), KeyError> {
        let (x, y) = (sized(&self.x, bytes..=bytes)?, sized(&self.y, bytes..=bytes)?);
        let key = DecodingKey::from_ec_components(x, y).map_err(|_| KeyError::Unreadable)?;
        let canonical = format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#);
        Ok((kind, key, canonical))
    }
}

/// A member in base64url whose bytes are as many as these.
fn sized(
    member: &Option<String>,
    bytes: std::ops::RangeInclusive<usize>,
) -> Result<&str, KeyError> {
    let text = member.as_deref().ok_or(KeyError::Unreadable)?;
    let decoded = URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Unreadable)?;
    // A leading zero would make a short modulus look long, and give a key two thumbprints.
    let is_sound = bytes.contains(&decoded.len())
        && (bytes.start() == bytes.end() || decoded.first().is_some_and(|first| *first != 0));
    if is_sound { Ok(text) } else { Err(KeyError::Useless) }
}

/// The keys of one issuer.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<PublicKey>,
}

impl KeySet {
    pub(super) fn of(keys: Vec<PublicKey>) -> Self {
        Self { keys }
    }

    /// Reads a JWK set (RFC 7517 section 5). Keys that verify no signature here are left out, as
    /// section 5 asks.
    ///
    /// # Errors
    /// [`JwtError::NotJson`]; [`JwtError::BadMember`] when there is no list, it is longer than
    /// [`limits::JWKS_KEYS_MAX`], or no key is left. The issuer is to blame.
    pub fn read(document: &[u8]) -> Result<Self, JwtError> {
        let members = json::object(document).ok_or(JwtError::NotJson("issuer's set of keys"))?;
        let list = members.get("keys").and_then(Value::as_array);
        let list = list.filter(|list| list.len() <= limits::JWKS_KEYS_MAX);
        let list = list.ok_or(JwtError::BadMember("issuer's list of keys"))?;
        let keys: Vec<PublicKey> =
            list.iter().filter_map(|jwk| PublicKey::read(jwk).ok()).collect();
        if keys.is_empty() {
            return Err(JwtError::BadMember("issuer's list of keys"));
        }
        Ok(Self { keys })
    }

    /// How many keys it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The one key that a token with this header may be verified with.
    pub(crate) fn find(&self, header: &Header) -> Result<&PublicKey, JwtError> {
        let is_named = |key: &&PublicKey| match &header.key_id {
            Some(id) => key.id.as_ref() == Some(id),
            None => true,
        };
        let named: Vec<&PublicKey> = self.keys.iter().filter(is_named).collect();
        let mut fitting = named.iter().filter(|key| key.fits(header.algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(JwtError::AmbiguousKey),
            (None, _) if named.is_empty() || header.key_id.is_none() => Err(JwtError::UnknownKey),
            (None, _) => Err(JwtError::KeyMismatch),
        }
    }
}
