//! Reads a document of somebody else's server: https only (http on loopback), no redirects, within
//! a time and a size.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, StatusCode, Url};

/// Why a document was not read. It names addresses, which are not secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// The configuration is to blame.
    #[error("'{0}' is no address that may be asked: https://HOST/PATH, or http on loopback")]
    BadUrl(String),
    /// The configuration is to blame.
    #[error("the server's certificates cannot be read; they are PEM")]
    BadCertificates,
    /// The machine is to blame.
    #[error("TLS cannot be prepared")]
    NoTls,
    /// The server, or the network, is to blame.
    #[error("{url}: cannot be reached")]
    Unreachable { url: String, source: Arc<reqwest::Error> },
    /// The server is to blame.
    #[error("{url}: the answer is larger than {max} bytes")]
    TooLarge { url: String, max: usize },
    /// The server, or the network, is to blame.
    #[error("{url}: no whole answer within {deadline:?}")]
    TooSlow { url: String, deadline: Duration },
}

/// How much of a server's answer is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) bytes_max: usize,
    pub(crate) deadline: Duration,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Empty unless the status is 200: of any other answer the body is not read.
    pub(crate) body: Vec<u8>,
}

/// An address that may be asked: https, or http on loopback; no user, no fragment.
pub(crate) fn usable_url(text: &str) -> Result<Url, FetchError> {
    let bad = || FetchError::BadUrl(text.to_owned());
    let url = Url::parse(text).map_err(|_| bad())?;
    let host = url.host_str().ok_or_else(bad)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback =
        host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback);
    let is_plain =
        url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if is_safe && is_plain { Ok(url) } else { Err(bad()) }
}

/// A client for one server, whose whole answer comes within `deadline` or not at all.
pub(crate) fn client(
    ca_pem: Option<&str>,
    url: &Url,
    deadline: Duration,
) -> Result<reqwest::Client, FetchError> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(deadline)
        .user_agent(concat!("corral/", env!("CARGO_PKG_VERSION")));
    if let Some(pem) = ca_pem {
        let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
            .map_err(|_| FetchError::BadCertificates)?;
        if certificates.is_empty() {
            return Err(FetchError::BadCertificates);
        }
        builder = builder.tls_certs_only(certificates);
    }
    if url.scheme() == "http" {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|_| FetchError::NoTls)
}

/// Sends a request of a [`client`] that was made with the same deadline.
pub(crate) async fn send(
    request: RequestBuilder,
    url: &Url,
    bounds: Bounds,
) -> Result<Answer, FetchError> {
    let failed = |error: reqwest::Error| {
        let url = url.to_string();
        if error.is_timeout() {
            FetchError::TooSlow { url, deadline: bounds.deadline }
        } else {
            FetchError::Unreachable { url, source: Arc::new(error.without_url()) }
        }
    };
    let mut response = request.send().await.map_err(failed)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body: Vec<u8> = Vec::new();
    while status == StatusCode::OK
        && let Some(chunk) = response.chunk().await.map_err(failed)?
    {
        if body.len() + chunk.len() > bounds.bytes_max {
            return Err(FetchError::TooLarge { url: url.to_string(), max: bounds.bytes_max });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_are_asked() {
        let check = |text: &str, is_usable: bool| {
            assert_eq!(usable_url(text).is_ok(), is_usable, "{text}");
        };
        check("https://token.actions.githubusercontent.com", true);
        check("https://idp.example.com:8443/realms/shop", true);
        check("http://127.0.0.1:8080", true);
        check("http://[::1]:8080", true);
        check("http://localhost:8080", true);
        check("http://idp.example.com", false);
        check("http://127.0.0.1.example.com", false);
        check("http://localhost.example.com", false);
        check("file:///etc/passwd", false);
        check("https://user:pw@idp.example.com", false);
        check("https://idp.example.com/#x", false);
        check("idp.example.com", false);
    }
}
