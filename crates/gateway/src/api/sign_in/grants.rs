//! What a command line gets for its code, or its device's (RFC 6749 section 4.1.3, RFC 8628 section
//! 3.4).

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use corral_api::sign_in::{CLIENT_ID, OAuthError, SignInTokens};
use time::OffsetDateTime;

use crate::api::Failure;
use crate::app::App;
use crate::app::sign_in::NoToken;

/// RFC 6749 section 4.1.3.
pub(in crate::api) async fn code_grant(
    app: &App,
    form: impl Fn(&str) -> Option<String>,
) -> Response {
    let all = (form("client_id"), form("code"), form("redirect_uri"), form("code_verifier"));
    let (Some(client), Some(code), Some(redirect_uri), Some(verifier)) = all else {
        let text = "send client_id, code, redirect_uri and code_verifier";
        return no_token(StatusCode::BAD_REQUEST, "invalid_request", Some(text));
    };
    if client != CLIENT_ID {
        return no_token(StatusCode::BAD_REQUEST, "invalid_client", None);
    }
    tokens(app.redeem_code(&code, &redirect_uri, &verifier).await)
}

/// RFC 8628 section 3.4.
pub(in crate::api) async fn device_grant(
    app: &App,
    form: impl Fn(&str) -> Option<String>,
) -> Response {
    let (Some(client), Some(device_code)) = (form("client_id"), form("device_code")) else {
        let text = "send client_id and device_code";
        return no_token(StatusCode::BAD_REQUEST, "invalid_request", Some(text));
    };
    if client != CLIENT_ID {
        return no_token(StatusCode::BAD_REQUEST, "invalid_client", None);
    }
    tokens(app.redeem_device(&device_code).await)
}

fn tokens(outcome: Result<crate::app::principals::SignedIn, NoToken>) -> Response {
    let signed_in = match outcome {
        Ok(signed_in) => signed_in,
        Err(NoToken::Unavailable(text)) => return Failure::unavailable(text).into_response(),
        Err(other) => return no_token(StatusCode::BAD_REQUEST, word_of(&other), None),
    };
    let left = signed_in.expires_at - OffsetDateTime::now_utc();
    Json(SignInTokens {
        access_token: signed_in.token.into(),
        token_type: "Bearer".to_owned(),
        expires_in: u64::try_from(left.whole_seconds()).unwrap_or(0),
    })
    .into_response()
}

fn word_of(why: &NoToken) -> &'static str {
    match why {
        NoToken::InvalidGrant => "invalid_grant",
        NoToken::AuthorizationPending => "authorization_pending",
        NoToken::SlowDown => "slow_down",
        NoToken::AccessDenied => "access_denied",
        NoToken::ExpiredToken => "expired_token",
        NoToken::Unavailable(_) => "temporarily_unavailable",
    }
}

pub(super) fn no_token(status: StatusCode, error: &str, description: Option<&str>) -> Response {
    let description = description.map(str::to_owned);
    let body = OAuthError { error: error.to_owned(), error_description: description };
    (status, Json(body)).into_response()
}
