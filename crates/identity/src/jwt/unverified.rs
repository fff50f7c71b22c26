//! A token that was taken apart, and is not believed yet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corral_model::limits;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{Algorithm, Claims, JwtError, KeySet, PublicKey, Rules, json};

/// The protected header, as far as it decides anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub algorithm: Algorithm,
    pub typ: Option<String>,
    /// Which of its issuer's keys signed it.
    pub key_id: Option<String>,
    /// A key that the token brings itself. Proofs of possession alone may be verified with it.
    pub(crate) key: Option<Value>,
}

/// A compact JWS (RFC 7515 section 7.1) whose signature was not looked at.
#[derive(Clone)]
pub struct Unverified<'t> {
    header: Header,
    claims: Claims,
    signed: &'t str,
    signature: &'t str,
}

impl std::fmt::Debug for Unverified<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unverified").field("header", &self.header).finish_non_exhaustive()
    }
}

impl<'t> Unverified<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`JwtError`]: size, shape, JSON, `alg`, `crit`. Whoever showed it is to blame.
    ///
    /// # Limits
    /// [`limits::JWT_BYTES_MAX`], looked at before anything is decoded.
    pub fn parse(token: &'t str) -> Result<Self, JwtError> {
        if token.len() > limits::JWT_BYTES_MAX {
            return Err(JwtError::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::NotCompact)?;
        let (header, claims) = signed.split_once('.').ok_or(JwtError::NotCompact)?;
        if claims.contains('.') || header.is_empty() || claims.is_empty() {
            return Err(JwtError::NotCompact);
        }
        let header = Header::read(&decoded(header, "header")?)?;
        let claims = Claims(decoded(claims, "claims")?);
        Ok(Self { header, claims, signed, signature })
    }

    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What it says, of which nothing is known to be true: good for finding the rules under which
    /// it is then verified, and for nothing else.
    #[must_use]
    pub fn claimed(&self) -> &Claims {
        &self.claims
    }

    /// Verifies it under these rules with one of these keys.
    ///
    /// # Errors
    /// [`JwtError`]: the first check that failed.
    pub fn verify(
        self,
        keys: &KeySet,
        rules: &Rules<'_>,
        now: OffsetDateTime,
    ) -> Result<Claims, JwtError> {
        rules.check_header(&self.header)?;
        let key = keys.find(&self.header)?;
        self.verify_signature(key)?;
        rules.check_claims(&self.claims, now)?;
        Ok(self.claims)
    }

    /// Verifies it with the key that it brings itself (a proof of possession, RFC 9449), which is
    /// given back: who holds that key made it, and nobody knows yet who that is.
    ///
    /// # Errors
    /// [`JwtError`]: the first check that failed.
    pub fn verify_possession(
        self,
        rules: &Rules<'_>,
        now: OffsetDateTime,
    ) -> Result<(Claims, PublicKey), JwtError> {
        rules.check_header(&self.header)?;
        let jwk = self.header.key.as_ref().ok_or(JwtError::Missing("jwk"))?;
        let key = PublicKey::of_proof(jwk).ok_or(JwtError::BadMember("jwk"))?;
        if !key.fits(self.header.algorithm) {
            return Err(JwtError::KeyMismatch);
        }
        self.verify_signature(&key)?;
        rules.check_claims(&self.claims, now)?;
        Ok((self.claims, key))
    }

    fn verify_signature(&self, key: &PublicKey) -> Result<(), JwtError> {
        let algorithm = self.header.algorithm.of_library();
        let verified = jsonwebtoken::crypto::verify(
            self.signature,
            self.signed.as_bytes(),
            key.of_library(),
            algorithm,
        );
        match verified {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(JwtError::Signature),
        }
    }
}

fn decoded(part: &str, what: &'static str) -> Result<Map<String, Value>, JwtError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::NotCompact)?;
    json::object(&bytes).ok_or(JwtError::NotJson(what))
}

impl Header {
    fn read(members: &Map<String, Value>) -> Result<Self, JwtError> {
        let text = |name: &'static str| match members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(JwtError::BadMember(name)),
        };
        // `b64` (RFC 7797) changes what is signed, and is only allowed together with `crit`.
        if members.contains_key("crit") || members.contains_key("b64") {
            return Err(JwtError::Critical);
        }
        let algorithm = text("alg")?.ok_or(JwtError::Missing("alg"))?;
        let algorithm = Algorithm::parse(&algorithm).ok_or(JwtError::Algorithm)?;
        let key = members.get("jwk").cloned();
        Ok(Self { algorithm, typ: text("typ")?, key_id: text("kid")?, key })
    }
}
