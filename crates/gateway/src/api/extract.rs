//! What handlers take from a request; each refusal has the one shape of an error.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, OriginalUri, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use corral_api::ErrorCode;
use corral_identity::Token;
use corral_model::token::TokenDigest;
use corral_model::{Secret, limits};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::Failure;
use crate::app::access_tokens::{Shown, ShownProof};
use crate::app::{App, Caller};

/// The header of a proof (RFC 9449 section 4.1).
const DPOP: &str = "dpop";

/// Whoever the request's bearer token stands for.
pub(super) struct SignedIn(pub(super) Caller);

impl FromRequestParts<Arc<App>> for SignedIn {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let shown = shown(parts)?;
        Ok(Self(app.authenticate_shown(&shown).await?))
    }
}

/// The digest of the request's bearer token, which may be anybody's: it goes beside [`SignedIn`].
pub(super) struct ShownToken(pub(super) TokenDigest);

impl FromRequestParts<Arc<App>> for ShownToken {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Failure> {
        let token = bearer_token(parts)?;
        let token = Token::parse(token.reveal()).map_err(|_| {
            Failure::new(ErrorCode::Unauthenticated, "the token is not one of this gateway")
        })?;
        Ok(Self(token.digest()))
    }
}

/// The token of a request, with the proof of its key where it is bound to one (RFC 9449 section
/// 7.1).
fn shown(parts: &Parts) -> Result<Shown, Failure> {
    let (scheme, token) = authorization(parts)?;
    let is_bound = scheme.eq_ignore_ascii_case("dpop");
    if !is_bound {
        return bearer_token(parts).map(Shown::bearer);
    }
    // Nested routers see a part of the path only.
    let path = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
    let proof = proof_of(&parts.headers, parts.method.as_str(), path.path())?;
    match proof {
        Some(proof) => Ok(Shown { token: Secret::new(token.to_owned()), proof: Some(proof) }),
        None => Err(Failure::new(ErrorCode::Unauthenticated, "send a proof in the DPoP header")),
    }
}

/// The proof in a request's one `DPoP` header.
pub(super) fn proof_of(
    headers: &HeaderMap,
    method: &str,
    path: &str,
) -> Result<Option<ShownProof>, Failure> {
    let refuse = |text: &str| Failure::new(ErrorCode::Unauthenticated, text);
    let mut found = headers.get_all(DPOP).iter();
    let Some(value) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(refuse("several DPoP headers were sent; send one"));
    }
    let jwt = value.to_str().map_err(|_| refuse("the DPoP header holds no proof"))?;
    let (jwt, method, path) = (jwt.to_owned(), method.to_owned(), path.to_owned());
    Ok(Some(ShownProof { jwt, method, path }))
}

fn bearer_token(parts: &Parts) -> Result<Secret, Failure> {
    let (scheme, token) = authorization(parts)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(foreign());
    }
    Ok(Secret::new(token.to_owned()))
}

fn foreign() -> Failure {
    let text = "the token is not one of this gateway; sign in with `corral login`";
    Failure::new(ErrorCode::Unauthenticated, text)
}

/// Scheme and token of a request's `Authorization` header.
fn authorization(parts: &Parts) -> Result<(&str, &str), Failure> {
    let refuse = |text: &str| Failure::new(ErrorCode::Unauthenticated, text);
    let value = parts
        .headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| refuse("this needs a token; sign in with `corral login`"))?;
    let text = value.to_str().map_err(|_| foreign())?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    let token = token.trim();
    if token.is_empty() || token.len() > limits::ACCESS_TOKEN_BYTES_MAX {
        return Err(foreign());
    }
    Ok((scheme, token))
}

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        if !is_json(&request) {
            return Err(Failure::of_status(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "this path takes JSON; send `content-type: application/json`",
            ));
        }
        let bytes = match Bytes::from_request(request, app).await {
            Ok(bytes) => bytes,
            Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                return Err(Failure::of_status(error.status(), "the body is larger than allowed"));
            }
            Err(error) => return Err(Failure::of_status(error.status(), error.body_text())),
        };
        serde_json::from_slice(&bytes).map(Self).map_err(|error| Failure::invalid(unfit(&error)))
    }
}

fn is_json(request: &Request) -> bool {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// What is wrong with a body, by its place: serde's own words would quote a value, which may be
/// a secret.
fn unfit(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => "the body is not JSON",
        Category::Data => "the body is not what this path takes",
    };
    let (line, column) = (error.line(), error.column());
    format!("{what}: line {line}, column {column}; /api/openapi.json says what would be right")
}

/// The query of the URL.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        match Query::<T>::from_request_parts(parts, app).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(error) => Err(Failure::invalid(error.body_text())),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request as HttpRequest;

    use super::*;

    fn token_of(header_value: Option<&str>) -> Option<String> {
        let mut request = HttpRequest::builder();
        if let Some(value) = header_value {
            request = request.header(header::AUTHORIZATION, value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        bearer_token(&parts).ok().map(|token| token.reveal().to_owned())
    }

    #[test]
    fn only_a_plausible_bearer_token_is_looked_up() {
        let too_long = format!("Bearer {}", "x".repeat(limits::ACCESS_TOKEN_BYTES_MAX + 1));
        assert_eq!(token_of(Some("Bearer crl_x")).as_deref(), Some("crl_x"));
        assert_eq!(token_of(Some("bearer crl_x")).as_deref(), Some("crl_x"));
        for wrong in [None, Some("Bearer"), Some("Bearer  "), Some("Basic crl_x"), Some("crl_x")] {
            assert_eq!(token_of(wrong), None, "{wrong:?}");
        }
        assert_eq!(token_of(Some(&too_long)), None);
    }

    #[test]
    fn an_unfit_body_is_told_by_its_place_and_never_quoted() {
        let check = |text: &str, words: &str| {
            let error = serde_json::from_str::<u8>(text).expect_err("is unfit");
            let text = unfit(&error);
            assert!(text.contains(words) && text.contains("line 2"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        };
        check("\n \"hunter2\"", "not what this path takes");
        check("\n hunter2", "not JSON");
    }
}
