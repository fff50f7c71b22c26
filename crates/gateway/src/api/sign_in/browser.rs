//! A person's browser on its way to the provider and back. It is known by a cookie that only it has:
//! an answer of a provider, and a yes for a device, count only together with it.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use corral_api::sign_in::AUTHORIZE_PATH;
use corral_identity::Token;
use corral_identity::token::digest_of;
use corral_model::limits;
use corral_model::token::TokenDigest;

use super::command_line::command_line;
use super::{DEVICE_CONFIRM, Fields, field};
use crate::api::Failure;
use crate::api::page::Page;
use crate::app::sign_in::{Next, ProviderAnswer, SignInFor, percent_encoded};
use crate::app::{App, AppError};

/// `__Host-`: over TLS, of this host alone, for every path (RFC 6265bis section 4.1.3.2).
const COOKIE: &str = "__Host-corral-sign-in";

/// RFC 6749 section 4.1.1. Until the redirect address is known to be a command line's, errors are
/// told to the person and to nobody else.
pub(super) async fn authorize(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Query(query): Query<Fields>,
) -> Response {
    let Some(purpose) = command_line(&query) else {
        return unfit("This address is not one that `corral login` makes. Start it again.");
    };
    let providers = app.sign_in_providers();
    let provider = match (field(&query, "provider"), providers.as_slice()) {
        (Some(name), _) => name.to_owned(),
        (None, [only]) => only.to_string(),
        (None, []) => return unfit("This gateway has no identity provider."),
        (None, _) => {
            let mut page = Page::new(StatusCode::OK, "Sign in").text("Sign in through:");
            for name in &providers {
                let mut to =
                    format!("{AUTHORIZE_PATH}?provider={}", percent_encoded(name.as_str()));
                for (key, value) in &query {
                    to.push_str(&format!("&{}={}", percent_encoded(key), percent_encoded(value)));
                }
                page = page.link(&to, name.as_str());
            }
            return page.into_response();
        }
    };
    send_to_provider(&app, &headers, &provider, purpose).await
}

pub(super) async fn send_to_provider(
    app: &App,
    headers: &HeaderMap,
    provider: &str,
    purpose: SignInFor,
) -> Response {
    let (browser, cookie) = match browser_of(headers) {
        Some(browser) => (browser, None),
        None => match Token::generate() {
            Ok(token) => (token.digest(), Some(token)),
            Err(_) => return refused(&AppError::Unavailable("no random numbers".to_owned())),
        },
    };
    let url = match app.begin_sign_in(provider, purpose, browser).await {
        Ok(url) => url,
        Err(error) => return refused(&error),
    };
    let mut response = redirect(&url);
    if let Some(token) = cookie {
        let max_age = limits::SIGN_IN_DEADLINE.as_secs();
        let value = format!(
            "{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={max_age}",
            token.reveal()
        );
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(header::SET_COOKIE, value);
        }
    }
    response
}

/// The browser that the cookie names.
pub(in crate::api) fn browser_of(headers: &HeaderMap) -> Option<TokenDigest> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';'));
    let own = pairs.find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))?;
    Token::parse(own).ok().map(|token| token.digest())
}

pub(in crate::api) fn redirect(to: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(to) else {
        return unfit("The provider's address cannot be used.");
    };
    let headers = [
        (header::LOCATION, location),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// The provider's answer comes back.
pub(super) async fn callback(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(provider): Path<String>,
    Query(query): Query<Fields>,
) -> Response {
    let text = |name: &str| field(&query, name).map(str::to_owned);
    let answer = ProviderAnswer {
        state: text("state").unwrap_or_default(),
        code: text("code"),
        error: text("error"),
        issuer: text("iss"),
    };
    // A browser that nobody knows belongs to no sign-in.
    let browser = browser_of(&headers).unwrap_or_else(|| digest_of(""));
    match app.finish_sign_in(&provider, &answer, browser).await {
        Ok(next) => next_page(next),
        Err(error) => refused(&error),
    }
}

pub(in crate::api) fn next_page(next: Next) -> Response {
    match next {
        Next::Redirect(to) => redirect(&to),
        Next::Confirm { key, user_code, person } => Page::new(StatusCode::OK, "Confirm a device")
            .text(&format!("You are {person}. A command line asks to sign in as you. Its code:"))
            .strong(&user_code)
            .text("Allow it only when you started it yourself and it shows this same code.")
            .form(
                DEVICE_CONFIRM,
                &[("key", key.reveal())],
                &[("answer", "allow", "Allow"), ("answer", "deny", "Deny")],
            )
            .into_response(),
    }
}

pub(super) fn unfit(text: &str) -> Response {
    Page::new(StatusCode::BAD_REQUEST, "Not signed in").text(text).into_response()
}

/// What went wrong, for the person; details are in the record.
pub(in crate::api) fn refused(error: &AppError) -> Response {
    let code = Failure::status_of(error);
    Page::new(code, "Not signed in").text(&error.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_known_by_its_own_cookie_only() {
        let token = Token::generate().expect("random bytes");
        let check = |cookie: &str, is_known: bool| {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_str(cookie).expect("a header");
            headers.insert(header::COOKIE, value);
            assert_eq!(browser_of(&headers), is_known.then(|| token.digest()), "{cookie}");
        };
        check(&format!("a=b; {COOKIE}={}", token.reveal()), true);
        check(&format!("corral-sign-in={}", token.reveal()), false);
        check(&format!("{COOKIE}=x"), false);
        check("", false);
    }
}
