//! What handlers take from a request; each refusal has the one shape of an error.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, OriginalUri, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use corral_api::ErrorCode;
use corral_identity::Token;
use corral_model::Secret;
use corral_model::token::TokenDigest;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::Failure;
use crate::app::access_tokens::Shown;
use crate::app::{App, Caller};
use crate::possession;

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
    let (scheme, token) = possession::authorization(&parts.headers).map_err(unauthenticated)?;
    if !possession::is_dpop(scheme) {
        return bearer_token(parts).map(Shown::bearer);
    }
    // Nested routers see a part of the path only.
    let path = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
    let method = parts.method.as_str();
    possession::bound(&parts.headers, token, method, path.path())
        .map_err(|refused| Failure::unproven(&refused))
}

fn unauthenticated(text: &str) -> Failure {
    Failure::new(ErrorCode::Unauthenticated, text)
}

fn bearer_token(parts: &Parts) -> Result<Secret, Failure> {
    let (scheme, token) = possession::authorization(&parts.headers).map_err(unauthenticated)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthenticated(possession::FOREIGN));
    }
    Ok(Secret::new(token.to_owned()))
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
        json(&whole(request, app).await?).map(Self)
    }
}

async fn whole(request: Request, app: &Arc<App>) -> Result<Bytes, Failure> {
    Bytes::from_request(request, app).await.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Failure::of_status(error.status(), "the body is larger than allowed")
        }
        status => Failure::of_status(status, error.body_text()),
    })
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| Failure::invalid(unfit(&error)))
}

/// A JSON body that may be left out, be empty, or be `null`.
pub(super) struct MaybeBody<T>(pub(super) T);

impl<T: DeserializeOwned + Default> FromRequest<Arc<App>> for MaybeBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        if !is_json(&request) {
            return Ok(Self(T::default()));
        }
        let bytes = whole(request, app).await?;
        // Clients that name the type of every body send none here.
        let found: Option<T> = if bytes.is_empty() { None } else { json(&bytes)? };
        Ok(Self(found.unwrap_or_default()))
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
    use corral_model::limits;

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
