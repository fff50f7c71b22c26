//! What providers push: security events (RFC 8935) and global token revocation.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use corral_model::{Secret, limits};
use corral_session::ConnectionFacts;
use serde_json::{Value, json};

use crate::app::App;
use crate::app::signals::SignalError;

pub(super) fn routes() -> Router<Arc<App>> {
    let limit = DefaultBodyLimit::max(limits::JWT_BYTES_MAX);
    Router::new()
        .route("/ssf/events", post(take_event))
        .route("/oauth2/global-token-revocation", post(revoke))
        .layer(limit)
}

/// RFC 8935 section 2: 202 when the event was taken, whether or not it had an effect.
async fn take_event(
    State(app): State<Arc<App>>,
    Extension(client): Extension<ConnectionFacts>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let media_type = media_type(&headers);
    if media_type != "application/secevent+jwt" {
        let text = "send `content-type: application/secevent+jwt`".to_owned();
        return refusal_of_event(&SignalError::InvalidRequest(text));
    }
    let Ok(token) = std::str::from_utf8(&body) else {
        let text = "the body is no security event token".to_owned();
        return refusal_of_event(&SignalError::InvalidRequest(text));
    };
    let work = {
        let (app, token) = (app.clone(), token.trim().to_owned());
        async move { app.take_event(bearer(&headers).as_ref(), &token, client.client_ip).await }
    };
    match app.to_its_end(work).await.unwrap_or_else(|| Err(unfinished())) {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(error) => refusal_of_event(&error),
    }
}

/// RFC 8935 section 2.3.
fn refusal_of_event(error: &SignalError) -> Response {
    let (status, code) = match error {
        SignalError::InvalidRequest(_) | SignalError::UnknownSubject => {
            (StatusCode::BAD_REQUEST, "invalid_request")
        }
        SignalError::InvalidKey(_) => (StatusCode::BAD_REQUEST, "invalid_key"),
        SignalError::InvalidIssuer => (StatusCode::BAD_REQUEST, "invalid_issuer"),
        SignalError::InvalidAudience => (StatusCode::BAD_REQUEST, "invalid_audience"),
        SignalError::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "authentication_failed"),
        SignalError::TooMany => (StatusCode::TOO_MANY_REQUESTS, "access_denied"),
        SignalError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
    };
    let body = json!({"err": code, "description": error.to_string()});
    with_challenge((status, Json(body)).into_response())
}

/// The draft's section 3: 204 when everything of the subject was taken back.
async fn revoke(
    State(app): State<Arc<App>>,
    Extension(client): Extension<ConnectionFacts>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let own = app.clone();
    let work = async move {
        let text = "this needs the token, or a JWT, of a provider's transmitter";
        let unknown = || SignalError::Unauthenticated(text.to_owned());
        let bearer = bearer(&headers).ok_or_else(unknown)?;
        let read = serde_json::from_slice::<Value>(&body).ok();
        let subject = read.as_ref().and_then(|body| body.get("sub_id"));
        let nothing = Value::Null;
        own.revoke_globally(&bearer, subject.unwrap_or(&nothing), client.client_ip).await
    };
    match app.to_its_end(work).await.unwrap_or_else(|| Err(unfinished())) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            let (status, code) = match &error {
                SignalError::UnknownSubject => (StatusCode::NOT_FOUND, "unknown_subject"),
                SignalError::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "invalid_token"),
                SignalError::TooMany => (StatusCode::TOO_MANY_REQUESTS, "slow_down"),
                SignalError::Unavailable(_) => {
                    (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
                }
                SignalError::InvalidRequest(_)
                | SignalError::InvalidKey(_)
                | SignalError::InvalidIssuer
                | SignalError::InvalidAudience => (StatusCode::BAD_REQUEST, "invalid_request"),
            };
            let body = json!({"error": code, "error_description": error.to_string()});
            with_challenge((status, Json(body)).into_response())
        }
    }
}

fn unfinished() -> SignalError {
    SignalError::Unavailable("the change failed inside the gateway; try again".to_owned())
}

fn with_challenge(mut response: Response) -> Response {
    if response.status() == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer realm=\"corral signals\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    media_type.trim().to_ascii_lowercase()
}

fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    let is_plausible = scheme.eq_ignore_ascii_case("bearer")
        && !token.is_empty()
        && token.len() <= limits::JWT_BYTES_MAX;
    is_plausible.then(|| Secret::new(token.to_owned()))
}
