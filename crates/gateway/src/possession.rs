//! The token of a request's head, and the proof of the key that it is bound to (RFC 9449): for the
//! API's handlers, and for protocols on HTTP, which see neither the whole path nor the gateway's
//! own keys. Texts are for the client.

use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use corral_identity::dpop::ProofError;
use corral_identity::jwt::Algorithm;
use corral_model::{Secret, limits};

use crate::app::access_tokens::{Shown, ShownProof};
use crate::app::{App, AppError};

/// The header of a proof (RFC 9449 section 4.1), and the scheme of a token that is bound.
const DPOP: &str = "dpop";

pub(crate) const FOREIGN: &str =
    "the token is not one of this gateway; sign in with `corral login`";
/// Where the next nonce is given out (RFC 9449 section 8).
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

const NO_TOKEN: &str = "this needs a token; sign in with `corral login`";
const NO_PROOF: &str = "send a proof in the DPoP header";
const NOT_VALID: &str =
    "this token is bound to no key, or is not valid: it is wrong, it expired, or its run ended";

/// Scheme and token of a head's `Authorization`.
///
/// # Errors
/// What is wrong with it: the client is to blame.
pub(crate) fn authorization(headers: &HeaderMap) -> Result<(&str, &str), &'static str> {
    let value = headers.get(AUTHORIZATION).ok_or(NO_TOKEN)?;
    let text = value.to_str().map_err(|_| FOREIGN)?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    let token = token.trim();
    if token.is_empty() || token.len() > limits::ACCESS_TOKEN_BYTES_MAX {
        return Err(FOREIGN);
    }
    Ok((scheme, token))
}

pub(crate) fn is_dpop(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case(DPOP)
}

/// Why a request proves no key: the client is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unproven {
    /// As RFC 9449 calls it (sections 5, 7.1, 8 and 9).
    pub(crate) error: &'static str,
    pub(crate) text: String,
}

impl Unproven {
    fn bad(text: &str) -> Self {
        Self { error: "invalid_dpop_proof", text: text.to_owned() }
    }

    pub(crate) fn of(error: &ProofError) -> Self {
        let text = error.to_string();
        match error {
            ProofError::Nonce => Self { error: "use_dpop_nonce", text },
            ProofError::Token(_)
            | ProofError::Method
            | ProofError::Address
            | ProofError::OtherToken
            | ProofError::OtherKey
            | ProofError::Replayed
            | ProofError::LongId
            | ProofError::TooMany => Self::bad(&text),
        }
    }

    /// Tells a client how to prove (RFC 9449 section 7.1).
    pub(crate) fn challenge(&self) -> Option<HeaderValue> {
        let names: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
        let (error, names) = (self.error, names.join(" "));
        // The names of algorithms are of letters and digits.
        HeaderValue::from_str(&format!(r#"DPoP realm="corral", error="{error}", algs="{names}""#))
            .ok()
    }
}

/// The proof in a request's one `DPoP` header. `path` is the whole one, as it was asked for.
///
/// # Errors
/// [`Unproven`].
pub(crate) fn proof_of(
    headers: &HeaderMap,
    method: &str,
    path: &str,
) -> Result<Option<ShownProof>, Unproven> {
    let mut found = headers.get_all(DPOP).iter();
    let Some(value) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(Unproven::bad("several DPoP headers were sent; send one"));
    }
    let jwt = value.to_str().map_err(|_| Unproven::bad("the DPoP header holds no proof"))?;
    let (jwt, method, path) = (jwt.to_owned(), method.to_owned(), path.to_owned());
    Ok(Some(ShownProof { jwt, method, path }))
}

/// A token that is shown with `DPoP`, and its proof.
///
/// # Errors
/// [`Unproven`].
pub(crate) fn bound(
    headers: &HeaderMap,
    token: &str,
    method: &str,
    path: &str,
) -> Result<Shown, Unproven> {
    let proof = proof_of(headers, method, path)?.ok_or_else(|| Unproven::bad(NO_PROOF))?;
    Ok(Shown { token: Secret::new(token.to_owned()), proof: Some(proof) })
}

/// Checks the proof of a request to a protocol, and takes it; an error is for the answer's head.
/// None when the request shows its token in another way.
pub(crate) fn check(app: &App, parts: &Parts) -> Option<Result<(), Unproven>> {
    // What is wrong with it is said by the protocol, in its own form.
    let (scheme, token) = authorization(&parts.headers).ok()?;
    if !is_dpop(scheme) {
        return None;
    }
    let shown = bound(&parts.headers, token, parts.method.as_str(), parts.uri.path());
    Some(shown.and_then(|shown| match app.bearer_of_jwt(&shown) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(Unproven::bad(NOT_VALID)),
        Err(AppError::BadProof(why)) => Err(Unproven::of(&why)),
        Err(error) => Err(Unproven::bad(&error.to_string())),
    }))
}

/// Whether a request proves a key, or tries to.
pub(crate) fn is_proving(headers: &HeaderMap) -> bool {
    let shows = || authorization(headers).is_ok_and(|(scheme, _)| is_dpop(scheme));
    headers.contains_key(DPOP) || shows()
}

/// Gives a client the nonce of its next proof. No cache may give it to somebody later (RFC 9449
/// section 8.2).
pub(crate) fn offer_nonce(nonce: &str, headers: &mut HeaderMap) {
    // It is of letters, digits, '-' and '_'.
    if let Ok(value) = HeaderValue::from_str(nonce) {
        headers.insert(DPOP_NONCE, value);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
