//! Signing in a device that has no browser of its own (RFC 8628): the pages where a person names its
//! code, and says yes or no.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use corral_api::sign_in::{CLIENT_ID, DeviceAuthorization};
use corral_model::limits;

use super::browser::{browser_of, refused, send_to_provider, unfit};
use super::grants::no_token;
use super::{DEVICE_PAGE, DEVICE_START, Fields, field};
use crate::api::Failure;
use crate::api::page::Page;
use crate::app::App;
use crate::app::sign_in::{SignInFor, percent_encoded};

pub(super) async fn device_page(
    State(app): State<Arc<App>>,
    Query(query): Query<Fields>,
) -> Response {
    match field(&query, "user_code") {
        Some(typed) => choose_for_device(&app, typed),
        None => Page::new(StatusCode::OK, "Sign in a device")
            .question(DEVICE_PAGE, "user_code", "The code that the command line shows:")
            .into_response(),
    }
}

pub(super) async fn device_typed(
    State(app): State<Arc<App>>,
    Form(form): Form<Fields>,
) -> Response {
    choose_for_device(&app, field(&form, "user_code").unwrap_or_default())
}

fn choose_for_device(app: &App, typed: &str) -> Response {
    match app.find_device(typed) {
        Ok(Some(user_code)) => {
            let mut page = Page::new(StatusCode::OK, "Sign in a device")
                .text("Your command line shows this code:")
                .strong(&user_code)
                .text("If it does not, close this page. Otherwise sign in through:");
            for name in app.sign_in_providers() {
                let name = name.as_str();
                let (code, provider) = (percent_encoded(&user_code), percent_encoded(name));
                let to = format!("{DEVICE_START}?user_code={code}&provider={provider}");
                page = page.link(&to, name);
            }
            page.into_response()
        }
        Ok(None) => Page::new(StatusCode::NOT_FOUND, "Sign in a device")
            .text("No command line waits under this code. It may have waited for too long.")
            .question(DEVICE_PAGE, "user_code", "The code that the command line shows:")
            .into_response(),
        Err(error) => refused(&error),
    }
}

pub(super) async fn device_start(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Query(query): Query<Fields>,
) -> Response {
    let typed = field(&query, "user_code").unwrap_or_default();
    match app.find_device(typed) {
        Ok(Some(user_code)) => {
            let provider = field(&query, "provider").unwrap_or_default();
            send_to_provider(&app, &headers, provider, SignInFor::Device(user_code)).await
        }
        Ok(None) => choose_for_device(&app, typed),
        Err(error) => refused(&error),
    }
}

pub(super) async fn device_confirm(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Form(form): Form<Fields>,
) -> Response {
    let is_allowed = field(&form, "answer") == Some("allow");
    let key = field(&form, "key").unwrap_or_default();
    let browser = browser_of(&headers);
    let person = browser.and_then(|browser| app.confirm_device(key, browser, is_allowed));
    match (person, is_allowed) {
        (Some(person), true) => Page::new(StatusCode::OK, "Signed in")
            .text(&format!("The command line is signed in as {person}. You may close this page."))
            .into_response(),
        (Some(_), false) => Page::new(StatusCode::OK, "Not signed in")
            .text("The command line was refused. You may close this page.")
            .into_response(),
        (None, _) => unfit("This device was answered already, or asked somebody else."),
    }
}

/// RFC 8628 section 3.1.
pub(super) async fn device_authorization(
    State(app): State<Arc<App>>,
    Form(form): Form<Fields>,
) -> Response {
    if field(&form, "client_id") != Some(CLIENT_ID) {
        return no_token(StatusCode::BAD_REQUEST, "invalid_client", None);
    }
    match app.begin_device() {
        Ok(device) => {
            let page = format!("{}{DEVICE_PAGE}", app.api_url());
            let complete = format!("{page}?user_code={}", device.user_code);
            Json(DeviceAuthorization {
                device_code: device.device_code.into(),
                user_code: device.user_code,
                verification_uri: page,
                verification_uri_complete: complete,
                expires_in: limits::SIGN_IN_DEADLINE.as_secs(),
                interval: limits::DEVICE_INTERVAL.as_secs(),
            })
            .into_response()
        }
        Err(error) => Failure::from(error).into_response(),
    }
}
