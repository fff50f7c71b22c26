//! What handlers take from a request; each refusal has the one shape of an error.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header;
use axum::http::request::Parts;
use corral_api::ErrorCode;
use corral_model::{Secret, limits};
use serde::de::DeserializeOwned;

use super::Failure;
use crate::app::{App, Caller};

/// Whoever the request's bearer token stands for.
pub(super) struct SignedIn(pub(super) Caller);

impl FromRequestParts<Arc<App>> for SignedIn {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let token = bearer_token(parts)?;
        Ok(Self(app.authenticate(&token).await?))
    }
}

fn bearer_token(parts: &Parts) -> Result<Secret, Failure> {
    let refuse = |text: &str| Failure::new(ErrorCode::Unauthenticated, text);
    let value = parts
        .headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| refuse("this needs a token; sign in with `corral login`"))?;
    let text = value.to_str().map_err(|_| refuse("the token is not one of this gateway"))?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    let token = token.trim();
    let is_plausible = scheme.eq_ignore_ascii_case("bearer")
        && !token.is_empty()
        && token.len() <= limits::TOKEN_BYTES_MAX;
    if !is_plausible {
        return Err(refuse("the token is not one of this gateway; sign in with `corral login`"));
    }
    Ok(Secret::new(token.to_owned()))
}

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        match Json::<T>::from_request(request, app).await {
            Ok(Json(value)) => Ok(Self(value)),
            // serde's own words would quote the value, which may be a secret.
            Err(JsonRejection::JsonDataError(error)) => Err(Failure::invalid(format!(
                "the body is not what this path takes, at {}; see /api/openapi.json",
                place_of(&error)
            ))),
            Err(JsonRejection::JsonSyntaxError(_)) => Err(Failure::invalid("the body is not JSON")),
            Err(error) => Err(Failure::of_status(error.status(), error.body_text())),
        }
    }
}

/// `resources[0].tls.mode`: where in the body, without the value.
fn place_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<serde_json::Error>() {
            return format!("line {}, column {}", found.line(), found.column());
        }
        source = error.source();
    }
    "an unknown place".to_owned()
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
