//! Signing in through an identity provider: the gateway as an authorization server for its command
//! line (RFC 6749, 7636, 8252, 8628), and the pages that a person sees on the way.
//!
//! A browser is known by a cookie that only it has: an answer of a provider, and a yes for a
//! device, count only together with it.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Form, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use corral_api::sign_in::{
    AUTHORIZE_PATH, CALLBACK_PATH, CLIENT_ID, DEVICE_PATH, DeviceAuthorization, OAuthError,
    ProviderView, SignInTokens,
};
use corral_identity::Token;
use corral_identity::token::digest_of;
use corral_model::limits;
use corral_model::token::TokenDigest;
use time::OffsetDateTime;

use super::Failure;
use super::page::Page;
use crate::app::sign_in::{Next, NoToken, ProviderAnswer, SignInFor, percent_encoded};
use crate::app::{App, AppError};

/// `__Host-`: over TLS, of this host alone, for every path (RFC 6265bis section 4.1.3.2).
const COOKIE: &str = "__Host-corral-sign-in";
const DEVICE_PAGE: &str = "/auth/device";
const DEVICE_START: &str = "/auth/device/start";
const DEVICE_CONFIRM: &str = "/auth/device/confirm";
/// A state of the command line's, in bytes; it makes 43.
const STATE_BYTES_MAX: usize = 256;

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

/// RFC 6749 section 4.1.1. Until the redirect address is known to be a command line's, errors are
/// told to the person and to nobody else.
async fn authorize(
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

/// What a command line asks for, when it asks as it should.
fn command_line(query: &[(String, String)]) -> Option<SignInFor> {
    let redirect_uri = field(query, "redirect_uri").filter(|uri| is_loopback(uri))?;
    let challenge = field(query, "code_challenge")?;
    let state = field(query, "state");
    let is_sound = field(query, "client_id") == Some(CLIENT_ID)
        && field(query, "response_type") == Some("code")
        && field(query, "code_challenge_method") == Some("S256")
        && challenge.len() == 43
        && state.is_none_or(|state| state.len() <= STATE_BYTES_MAX);
    is_sound.then(|| SignInFor::CommandLine {
        redirect_uri: redirect_uri.to_owned(),
        state: state.map(str::to_owned),
        challenge: challenge.to_owned(),
    })
}

/// RFC 8252 section 7.3: an address of this machine's own, by number, with any port.
fn is_loopback(uri: &str) -> bool {
    let rest = uri.strip_prefix("http://127.0.0.1:").or_else(|| uri.strip_prefix("http://[::1]:"));
    let port = rest.and_then(|rest| rest.strip_suffix(CALLBACK_PATH));
    port.is_some_and(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

async fn send_to_provider(
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
pub(super) fn browser_of(headers: &HeaderMap) -> Option<TokenDigest> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';'));
    let own = pairs.find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))?;
    Token::parse(own).ok().map(|token| token.digest())
}

pub(super) fn redirect(to: &str) -> Response {
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
async fn callback(
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

pub(super) fn next_page(next: Next) -> Response {
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

async fn device_page(State(app): State<Arc<App>>, Query(query): Query<Fields>) -> Response {
    match field(&query, "user_code") {
        Some(typed) => choose_for_device(&app, typed),
        None => Page::new(StatusCode::OK, "Sign in a device")
            .question(DEVICE_PAGE, "user_code", "The code that the command line shows:")
            .into_response(),
    }
}

async fn device_typed(State(app): State<Arc<App>>, Form(form): Form<Fields>) -> Response {
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

async fn device_start(
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

async fn device_confirm(
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
async fn device_authorization(State(app): State<Arc<App>>, Form(form): Form<Fields>) -> Response {
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

/// RFC 6749 section 4.1.3.
pub(super) async fn code_grant(app: &App, form: impl Fn(&str) -> Option<String>) -> Response {
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
pub(super) async fn device_grant(app: &App, form: impl Fn(&str) -> Option<String>) -> Response {
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

fn no_token(status: StatusCode, error: &str, description: Option<&str>) -> Response {
    let description = description.map(str::to_owned);
    let body = OAuthError { error: error.to_owned(), error_description: description };
    (status, Json(body)).into_response()
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

fn unfit(text: &str) -> Response {
    Page::new(StatusCode::BAD_REQUEST, "Not signed in").text(text).into_response()
}

/// What went wrong, for the person; details are in the record.
pub(super) fn refused(error: &AppError) -> Response {
    let code = Failure::status_of(error);
    Page::new(code, "Not signed in").text(&error.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_command_line_on_this_machine_is_sent_a_code() {
        let check = |uri: &str, is_taken: bool| assert_eq!(is_loopback(uri), is_taken, "{uri}");
        check("http://127.0.0.1:40000/callback", true);
        check("http://[::1]:1/callback", true);
        check("http://127.0.0.1/callback", false);
        check("http://127.0.0.1:0/callback", false);
        check("http://127.0.0.1:99999/callback", false);
        check("http://127.0.0.1:80@evil.example/callback", false);
        check("http://127.0.0.1:80/x/callback", false);
        check("http://127.0.0.1:80/callback?x", false);
        check("http://127.0.0.1.evil.example:80/callback", false);
        check("http://localhost:80/callback", false);
        check("https://evil.example/callback", false);
        check("", false);
    }

    fn query(changed: (&str, &str)) -> Fields {
        let sound = [
            ("client_id", "corral-cli"),
            ("response_type", "code"),
            ("redirect_uri", "http://127.0.0.1:40000/callback"),
            ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
            ("code_challenge_method", "S256"),
            ("state", "s"),
        ];
        let own = |(name, value): (&str, &str)| {
            let value = if name == changed.0 { changed.1 } else { value };
            (name.to_owned(), value.to_owned())
        };
        sound.into_iter().map(own).collect()
    }

    #[test]
    fn a_request_without_a_proof_key_is_not_begun() {
        assert!(command_line(&query(("", ""))).is_some());
        for changed in [
            ("client_id", "other"),
            ("response_type", "token"),
            ("code_challenge", "short"),
            ("code_challenge", ""),
            ("code_challenge_method", "plain"),
            ("code_challenge_method", ""),
            ("redirect_uri", "https://evil.example/callback"),
        ] {
            assert_eq!(command_line(&query(changed)), None, "{changed:?}");
        }
        let mut twice = query(("", ""));
        twice.push(("redirect_uri".into(), "http://127.0.0.1:1/callback".into()));
        assert_eq!(command_line(&twice), None);
    }

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
