//! Signing in through an identity provider: the gateway as an authorization server for its command
//! line (RFC 6749, 7636, 8252, 8628), and the pages that a person sees on the way.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Form, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use corral_api::sign_in::{AUTHORIZE_PATH, DEVICE_PATH, ProviderView};
use corral_model::limits;

use self::browser::{authorize, callback};
use self::device::{device_authorization, device_confirm, device_page, device_start, device_typed};
use self::grants::no_token;
use super::Failure;
use crate::app::{App, AppError};

pub(super) use self::browser::{browser_of, next_page, redirect, refused};
pub(super) use self::grants::{code_grant, device_grant};

mod browser;
mod command_line;
mod device;
mod grants;

const DEVICE_PAGE: &str = "/auth/device";
const DEVICE_START: &str = "/auth/device/start";
const DEVICE_CONFIRM: &str = "/auth/device/confirm";

pub(super) type Fields = Vec<(String, String)>;

/// Where people and their clients come.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(AUTHORIZE_PATH, get(authorize))
        .route("/auth/callback/{provider}", get(callback))
        .route(DEVICE_PAGE, get(device_page).post(device_typed))
        .route(DEVICE_START, get(device_start))
        .route(DEVICE_CONFIRM, post(device_confirm))
        .route(DEVICE_PATH, post(device_authorization))
        .route("/oidc/backchannel-logout", post(backchannel_logout))
        .layer(DefaultBodyLimit::max(2 * limits::JWT_BYTES_MAX))
}

/// Below the versioned API.
pub(super) fn v1_routes() -> Router<Arc<App>> {
    Router::new().route("/providers", get(providers))
}

async fn providers(State(app): State<Arc<App>>) -> Json<Vec<ProviderView>> {
    Json(app.sign_in_providers().into_iter().map(|name| ProviderView { name }).collect())
}

/// The value of a parameter that stands there once; RFC 6749 section 3.1: twice is an error.
pub(super) fn field<'f>(fields: &'f [(String, String)], name: &str) -> Option<&'f str> {
    let mut found = fields.iter().filter(|(known, value)| known == name && !value.is_empty());
    let one = found.next()?;
    found.next().is_none().then_some(one.1.as_str())
}

/// OpenID Connect Back-Channel Logout 1.0 sections 2.5 and 2.8.
async fn backchannel_logout(State(app): State<Arc<App>>, Form(form): Form<Fields>) -> Response {
    let Some(token) = field(&form, "logout_token") else {
        let text = "logout_token is missing";
        return no_token(StatusCode::BAD_REQUEST, "invalid_request", Some(text));
    };
    match app.backchannel_logout(token).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(AppError::Invalid(problems)) => {
            let text = problems.first().map(ToString::to_string);
            no_token(StatusCode::BAD_REQUEST, "invalid_request", text.as_deref())
        }
        Err(error) => Failure::from(error).into_response(),
    }
}
