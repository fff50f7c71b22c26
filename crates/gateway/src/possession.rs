//! The token of a request's head, and the proof of the key that it is bound to (RFC 9449): for the
//! API's handlers, and for protocols on HTTP, which see neither the whole path nor the gateway's
//! own keys. Texts are for the client.

use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use corral_identity::jwt::Algorithm;
use corral_model::{Secret, limits};
use corral_session::Possession;

use crate::app::App;
use crate::app::access_tokens::{Shown, ShownProof};

/// The header of a proof (RFC 9449 section 4.1), and the scheme of a token that is bound.
const DPOP: &str = "dpop";

pub(crate) const FOREIGN: &str =
    "the token is not one of this gateway; sign in with `corral login`";
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

/// The proof in a request's one `DPoP` header. `path` is the whole one, as it was asked for.
///
/// # Errors
/// What is wrong with it: the client is to blame.
pub(crate) fn proof_of(
    headers: &HeaderMap,
    method: &str,
    path: &str,
) -> Result<Option<ShownProof>, &'static str> {
    let mut found = headers.get_all(DPOP).iter();
    let Some(value) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err("several DPoP headers were sent; send one");
    }
    let jwt = value.to_str().map_err(|_| "the DPoP header holds no proof")?;
    let (jwt, method, path) = (jwt.to_owned(), method.to_owned(), path.to_owned());
    Ok(Some(ShownProof { jwt, method, path }))
}

/// A token that is shown with `DPoP`, and its proof.
///
/// # Errors
/// What is wrong with them: the client is to blame.
pub(crate) fn bound(
    headers: &HeaderMap,
    token: &str,
    method: &str,
    path: &str,
) -> Result<Shown, &'static str> {
    let proof = proof_of(headers, method, path)?.ok_or(NO_PROOF)?;
    Ok(Shown { token: Secret::new(token.to_owned()), proof: Some(proof) })
}

/// Checks the proof of a request to a protocol, and takes it. None when the request shows its
/// token in another way.
pub(crate) fn check(app: &App, parts: &Parts) -> Option<Possession> {
    // What is wrong with it is said by the protocol, in its own form.
    let (scheme, token) = authorization(&parts.headers).ok()?;
    if !is_dpop(scheme) {
        return None;
    }
    let shown = bound(&parts.headers, token, parts.method.as_str(), parts.uri.path());
    let shown = match shown {
        Ok(shown) => shown,
        Err(text) => return Some(Possession::Refused(text.to_owned())),
    };
    Some(match app.bearer_of_jwt(&shown) {
        Ok(Some(_)) => Possession::Proven,
        Ok(None) => Possession::Refused(NOT_VALID.to_owned()),
        Err(error) => Possession::Refused(error.to_string()),
    })
}

/// Tells a client whose proof was refused how to prove (RFC 9449 section 7.1).
pub(crate) fn challenge(headers: &mut HeaderMap) {
    let names: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
    let text =
        format!(r#"DPoP realm="corral", error="invalid_dpop_proof", algs="{}""#, names.join(" "));
    // The names of algorithms are of letters and digits.
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(WWW_AUTHENTICATE, value);
    }
}
