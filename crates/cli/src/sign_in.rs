//! Signing in through an identity provider: in a browser that comes back to this machine (RFC
//! 8252, 7636), or on another device with a code (RFC 8628).

use std::process::Stdio;
use std::time::Duration;

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corral_api::sign_in::{
    AUTHORIZE_PATH, CALLBACK_PATH, CLIENT_ID, CODE_GRANT, DEVICE_GRANT, DEVICE_PATH,
    DeviceAuthorization, SignInTokens, TOKEN_PATH,
};
use corral_model::{Secret, limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use crate::client::{Client, encoded};
use crate::failure::Failure;

/// The head of the browser's request, in bytes: an address and its headers.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Until that head has arrived.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// Slowest that a gateway may ask to be asked.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Opens a browser, waits for it to come back, and gives the token.
///
/// # Errors
/// When nobody came back in time, or the gateway gives no token.
pub(crate) async fn by_browser(
    client: &Client,
    provider: Option<&str>,
) -> Result<SignInTokens, Failure> {
    let cannot = |error: std::io::Error| Failure::failed(format!("cannot listen here: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(cannot)?;
    let port = listener.local_addr().map_err(cannot)?.port();
    let redirect_uri = format!("http://127.0.0.1:{port}{CALLBACK_PATH}");
    let (state, verifier) = (random_text()?, Secret::new(random_text()?));
    let challenge = digest::digest(&digest::SHA256, verifier.reveal().as_bytes());
    let challenge = URL_SAFE_NO_PAD.encode(challenge.as_ref());
    let mut query = vec![
        ("response_type", "code"),
        ("client_id", CLIENT_ID),
        ("redirect_uri", redirect_uri.as_str()),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
        ("state", state.as_str()),
    ];
    query.extend(provider.map(|name| ("provider", name)));
    let url = format!("{}{AUTHORIZE_PATH}?{}", client.found().gateway, form(&query));
    eprintln!("Sign in here, if no browser opens:\n{url}");
    open_browser(&url);
    let waiting = timeout(limits::SIGN_IN_DEADLINE, come_back(&listener, &state));
    let code = waiting.await.map_err(|_| {
        Failure::failed("nobody signed in in time")
            .with_hint("without a browser on this machine use `corral login --device`")
    })??;
    let body = [
        ("grant_type", CODE_GRANT),
        ("client_id", CLIENT_ID),
        ("code", code.reveal()),
        ("redirect_uri", redirect_uri.as_str()),
        ("code_verifier", verifier.reveal()),
    ];
    match client.post_form(TOKEN_PATH, &form(&body), None).await? {
        Ok(tokens) => Ok(tokens),
        Err(refusal) => Err(no_token(&refusal.error)),
    }
}

/// Shows a code for a browser elsewhere, and waits for it.
///
/// # Errors
/// When nobody signed in in time, or the gateway gives no token.
pub(crate) async fn by_device(client: &Client) -> Result<SignInTokens, Failure> {
    let asked = client.post_form(DEVICE_PATH, &form(&[("client_id", CLIENT_ID)]), None).await?;
    let device: DeviceAuthorization = asked.map_err(|refusal| no_token(&refusal.error))?;
    eprintln!(
        "Open {} in a browser and enter the code {}\nor open {}",
        device.verification_uri, device.user_code, device.verification_uri_complete
    );
    let deadline = Instant::now() + Duration::from_secs(device.expires_in);
    let mut interval = Duration::from_secs(device.interval.max(1)).min(INTERVAL_MAX);
    let body = form(&[
        ("grant_type", DEVICE_GRANT),
        ("client_id", CLIENT_ID),
        ("device_code", device.device_code.secret().reveal()),
    ]);
    while Instant::now() < deadline {
        tokio::time::sleep(interval).await;
        match client.post_form(TOKEN_PATH, &body, None).await? {
            Ok(tokens) => return Ok(tokens),
            Err(refusal) if refusal.error == "authorization_pending" => {}
            // RFC 8628 section 3.5.
            Err(refusal) if refusal.error == "slow_down" => {
                interval = (interval + Duration::from_secs(5)).min(INTERVAL_MAX);
            }
            Err(refusal) => return Err(no_token(&refusal.error)),
        }
    }
    Err(no_token("expired_token"))
}

fn no_token(error: &str) -> Failure {
    let text = match error {
        "access_denied" => "the sign-in was refused in the browser",
        "expired_token" => "nobody signed in in time",
        "invalid_grant" => "the sign-in is not valid any more; try again",
        _ => "the gateway gave no token",
    };
    Failure::new(crate::failure::Exit::Denied, text)
}

/// 256 random bits, in characters that need no quoting.
fn random_text() -> Result<String, Failure> {
    let mut bytes = [0_u8; 32];
    rand::fill(&mut bytes).map_err(|_| Failure::failed("the system gives no random bytes"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let pairs = fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<String>>().join("&")
}

/// A browser that cannot be opened is no failure: the address was shown.
fn open_browser(url: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let program = std::env::var("BROWSER").unwrap_or_else(|_| program.to_owned());
    let spawned = tokio::process::Command::new(program)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = spawned {
        tracing::debug!(%error, "no browser could be opened");
    }
}

/// The code that the browser brings back. Requests that are not this sign-in's change nothing.
async fn come_back(listener: &TcpListener, state: &str) -> Result<Secret, Failure> {
    loop {
        let accepted = listener.accept().await;
        let (mut stream, _) =
            accepted.map_err(|error| Failure::failed(format!("cannot listen here: {error}")))?;
        let Ok(Some(target)) = timeout(REQUEST_DEADLINE, request_target(&mut stream)).await else {
            continue;
        };
        let code = code_of(&target, state);
        let answer = match code {
            Some(_) => ("200 OK", "You are signed in. You may close this page."),
            None => ("404 Not Found", "There is nothing here."),
        };
        let (status, text) = answer;
        let response = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncache-control: \
             no-store\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
            text.len()
        );
        // A browser that left before it was answered has brought its code all the same.
        let _ = stream.write_all(response.as_bytes()).await;
        let _ = stream.shutdown().await;
        if let Some(code) = code {
            return Ok(code);
        }
    }
}

/// The target of a GET request; None for anything else.
async fn request_target(stream: &mut TcpStream) -> Option<String> {
    let mut head: Vec<u8> = Vec::new();
    let mut chunk = [0_u8; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        head.extend_from_slice(chunk.get(..read)?);
        if head.len() > REQUEST_BYTES_MAX {
            return None;
        }
    }
    let text = std::str::from_utf8(&head).ok()?;
    let mut words = text.lines().next()?.split(' ');
    let is_get = words.next() == Some("GET");
    words.next().filter(|_| is_get).map(str::to_owned)
}

/// What was begun here comes back with its own state; codes are plain text.
fn code_of(target: &str, state: &str) -> Option<Secret> {
    let query = target.strip_prefix(CALLBACK_PATH)?.strip_prefix('?')?;
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let code = value("code").filter(|code| !code.is_empty())?;
    let is_plain = code.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    (value("state") == Some(state) && is_plain).then(|| Secret::new(code.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_begun_here_is_taken() {
        let check = |target: &str, code: Option<&str>| {
            let found = code_of(target, "st-1");
            assert_eq!(found.as_ref().map(Secret::reveal), code, "{target}");
        };
        check("/callback?code=crl_a&state=st-1&iss=x", Some("crl_a"));
        check("/callback?code=crl_a&state=st-2", None);
        check("/callback?code=crl_a", None);
        check("/callback?state=st-1", None);
        check("/callback?code=a%0Ab&state=st-1", None);
        check("/other?code=crl_a&state=st-1", None);
        check("/callback", None);
    }

    #[test]
    fn a_form_keeps_its_values_apart() {
        assert_eq!(form(&[("a", "1&b=2"), ("c", "x y")]), "a=1%26b%3D2&c=x%20y");
    }
}
