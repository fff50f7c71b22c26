//! Proofs that whoever shows a token holds the key that it is bound to (DPoP, RFC 9449).
//!
//! A proof is for one method and address, young, and taken once by this gateway; several gateways
//! do not know of each other's, so a proof that was overheard is good for [`limits::PROOF_AGE_MAX`]
//! at another gateway of the same name, with a nonce or without. A nonce is against proofs that
//! were made ahead: `iat` is what their maker says.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corral_model::limits;
use corral_model::token::TokenDigest;
use reqwest::Url;
use time::OffsetDateTime;

use crate::jwt::{Expiry, JwtError, Rules, Unverified};
use crate::token::digest_of;

mod nonces;

pub use nonces::Nonces;

/// Why a proof was not taken. Whoever sent it is to blame, but for [`ProofError::TooMany`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error("the DPoP proof is refused: {0}")]
    Token(#[from] JwtError),
    #[error("the DPoP proof is for another method (htm)")]
    Method,
    #[error("the DPoP proof is for another address (htu)")]
    Address,
    /// RFC 9449 sections 8 and 9: the client asks again with the nonce that it is given.
    #[error("the DPoP proof needs the nonce that the DPoP-Nonce header gives (nonce)")]
    Nonce,
    #[error("the DPoP proof is for another token (ath)")]
    OtherToken,
    #[error("the DPoP proof is by another key than the one that the token is bound to")]
    OtherKey,
    #[error("the DPoP proof was used before (jti)")]
    Replayed,
    #[error("the DPoP proof's jti is longer than {max} bytes", max = limits::NAME_BYTES_MAX)]
    LongId,
    /// The gateway, or a flood, is to blame.
    #[error("too many DPoP proofs at once; try again in a minute")]
    TooMany,
}

/// The request that a proof came with.
#[derive(Debug, Clone, Copy)]
pub struct ProvenRequest<'r> {
    pub method: &'r str,
    /// The addresses by which the request may be called; queries are not compared.
    pub urls: &'r [String],
    /// The access token that was shown with it; None at the token endpoint.
    pub bound: Option<BoundToken<'r>>,
    /// Where the proof must have a nonce.
    pub nonces: Option<&'r Nonces>,
}

/// An access token, with the thumbprint of the key that it is bound to.
#[derive(Clone, Copy)]
pub struct BoundToken<'r> {
    pub token: &'r str,
    pub key: &'r str,
}

impl std::fmt::Debug for BoundToken<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoundToken").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A proof that is good, and was not used up.
#[derive(Debug)]
pub struct CheckedProof {
    key: String,
    id: TokenDigest,
    issued_at: OffsetDateTime,
}

impl CheckedProof {
    /// Thumbprint of the key that it proves.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Proofs that were taken, for as long as they would be taken again.
#[derive(Default)]
pub struct ProofMemory {
    seen: Mutex<HashMap<TokenDigest, OffsetDateTime>>,
}

impl std::fmt::Debug for ProofMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProofMemory(…)")
    }
}

impl ProofMemory {
    /// Checks a proof and uses it up; gives the thumbprint of the key that it proves.
    ///
    /// # Errors
    /// As [`check`] and [`ProofMemory::use_up`].
    pub fn take(
        &self,
        proof: &str,
        request: ProvenRequest<'_>,
        now: OffsetDateTime,
    ) -> Result<String, ProofError> {
        let checked = check(proof, request, now)?;
        self.use_up(&checked, now)?;
        Ok(checked.key)
    }

    /// Takes a proof that was checked: nobody takes it again. Whoever asked should have shown
    /// something else by then: anybody can make a key and proofs with it.
    ///
    /// # Errors
    /// [`ProofError::Replayed`], [`ProofError::TooMany`].
    ///
    /// # Limits
    /// [`limits::PROOFS_MAX`] proofs within [`limits::PROOF_AGE_MAX`].
    pub fn use_up(&self, proof: &CheckedProof, now: OffsetDateTime) -> Result<(), ProofError> {
        // Nothing panics while it is held.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= limits::PROOFS_MAX {
            seen.retain(|_, until| now <= *until);
        }
        if seen.len() >= limits::PROOFS_MAX {
            return Err(ProofError::TooMany);
        }
        let until = proof.issued_at + limits::PROOF_AGE_MAX + 2 * limits::JWT_LEEWAY;
        match seen.insert(proof.id, until) {
            None => Ok(()),
            Some(_) => Err(ProofError::Replayed),
        }
    }
}

/// Checks a proof for the request that it came with.
///
/// # Errors
/// [`ProofError`]: whoever sent it is to blame.
pub fn check(
    proof: &str,
    request: ProvenRequest<'_>,
    now: OffsetDateTime,
) -> Result<CheckedProof, ProofError> {
    let rules = Rules {
        types: &["dpop+jwt"],
        expiry: Expiry::Optional,
        age_max: Some(limits::PROOF_AGE_MAX),
        required: &["jti", "htm", "htu"],
        ..Rules::proof()
    };
    let (claims, key) = Unverified::parse(proof)?.verify_possession(&rules, now)?;
    if claims.text("htm") != Some(request.method) {
        return Err(ProofError::Method);
    }
    let address = claims.text("htu").and_then(without_query);
    let is_meant = |url: &String| without_query(url) == address;
    if address.is_none() || !request.urls.iter().any(is_meant) {
        return Err(ProofError::Address);
    }
    if let Some(nonces) = request.nonces
        && !claims.text("nonce").is_some_and(|nonce| nonces.is_good(nonce, now))
    {
        return Err(ProofError::Nonce);
    }
    if let Some(bound) = request.bound {
        if key.thumbprint() != bound.key {
            return Err(ProofError::OtherKey);
        }
        let digest = digest::digest(&digest::SHA256, bound.token.as_bytes());
        if claims.text("ath") != Some(URL_SAFE_NO_PAD.encode(digest).as_str()) {
            return Err(ProofError::OtherToken);
        }
    }
    let id = claims.id().filter(|id| id.len() <= limits::NAME_BYTES_MAX);
    let id = id.ok_or(ProofError::LongId)?;
    let issued_at = claims.issued_at().ok_or(JwtError::Missing("iat"))?;
    let key = key.thumbprint().to_owned();
    let id = digest_of(&format!("{key}\0{id}"));
    Ok(CheckedProof { key, id, issued_at })
}

/// An address without its query and fragment (RFC 9449 section 4.3), as URLs are normalised.
fn without_query(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    Some(url)
}
