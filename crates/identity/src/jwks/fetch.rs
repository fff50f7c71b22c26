//! Reads an issuer's documents: https only (http on loopback), no redirects, within a time and a
//! size.

use std::net::IpAddr;
use std::sync::Arc;

use corral_model::limits;
use reqwest::Url;
use serde_json::{Map, Value};

use crate::jwt::{JwtError, KeySet, json};

/// Why an issuer's keys are not known. It names addresses, which are not secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JwksError {
    /// The configuration is to blame.
    #[error("'{0}' is no address of an issuer: https://HOST/PATH, or http on loopback")]
    BadUrl(String),
    /// The configuration is to blame.
    #[error("the issuer's certificates cannot be read; they are PEM")]
    BadCertificates,
    /// The machine is to blame.
    #[error("TLS cannot be prepared")]
    NoTls,
    /// The issuer, or the network, is to blame.
    #[error("{url}: cannot be reached")]
    Unreachable { url: String, source: Arc<reqwest::Error> },
    /// The issuer is to blame.
    #[error("{url}: answered {status}")]
    Status { url: String, status: u16 },
    /// The issuer is to blame.
    #[error("{url}: the answer is larger than {max} bytes", max = limits::JWKS_BYTES_MAX)]
    TooLarge { url: String },
    /// The issuer, or the network, is to blame.
    #[error("{url}: no whole answer within {max:?}", max = limits::JWKS_DEADLINE)]
    TooSlow { url: String },
    /// The issuer is to blame.
    #[error("{url}: {why}")]
    Unreadable { url: String, why: JwtError },
    /// The issuer, or the configuration, is to blame.
    #[error("{url}: the document is of another issuer; 'issuer' must be exactly '{issuer}'")]
    OtherIssuer { url: String, issuer: String },
    /// The issuer is to blame.
    #[error("{url}: '{member}' is missing, or no address that may be used")]
    BadEndpoint { url: String, member: &'static str },
    /// Whoever shows tokens with unknown keys, or the issuer, is to blame.
    #[error("{issuer}: was asked for its keys a moment ago; try again in a few seconds")]
    AskedJustNow { issuer: String },
}

/// What an issuer says of itself (OpenID Connect Discovery 1.0 section 3). `issuer` was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    url: String,
    members: Map<String, Value>,
    pub jwks_uri: Url,
}

impl Discovery {
    /// One of its endpoints (`authorization_endpoint`, `token_endpoint`, …), when it has it.
    ///
    /// # Errors
    /// [`JwksError::BadEndpoint`] when it is there and may not be used. The issuer is to blame.
    pub fn endpoint(&self, member: &'static str) -> Result<Option<Url>, JwksError> {
        match self.members.get(member) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let url = value.as_str().and_then(|text| usable_url(text).ok());
                let bad = || JwksError::BadEndpoint { url: self.url.clone(), member };
                url.map(Some).ok_or_else(bad)
            }
        }
    }

    /// Any other member.
    #[must_use]
    pub fn get(&self, member: &str) -> Option<&Value> {
        self.members.get(member)
    }
}

/// An address that may be asked: https, or http on loopback; no user, no fragment.
pub(super) fn usable_url(text: &str) -> Result<Url, JwksError> {
    let bad = || JwksError::BadUrl(text.to_owned());
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

/// A client for one issuer.
pub(super) fn client(ca_pem: Option<&str>, url: &Url) -> Result<reqwest::Client, JwksError> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(limits::JWKS_DEADLINE)
        .user_agent(concat!("corral/", env!("CARGO_PKG_VERSION")));
    if let Some(pem) = ca_pem {
        let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
            .map_err(|_| JwksError::BadCertificates)?;
        if certificates.is_empty() {
            return Err(JwksError::BadCertificates);
        }
        builder = builder.tls_certs_only(certificates);
    }
    if url.scheme() == "http" {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|_| JwksError::NoTls)
}

/// Reads the configuration document of an issuer.
pub(super) async fn discovery(
    client: &reqwest::Client,
    issuer: &str,
) -> Result<Discovery, JwksError> {
    // Section 4.1: a slash at the end is taken away before the well-known part is added.
    let text = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let url = usable_url(&text)?;
    let body = get(client, &url).await?;
    let url = url.to_string();
    let Some(members) = json::object(&body) else {
        return Err(JwksError::Unreadable {
            url,
            why: JwtError::NotJson("issuer's configuration"),
        });
    };
    if members.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err(JwksError::OtherIssuer { url, issuer: issuer.to_owned() });
    }
    let jwks_uri = members.get("jwks_uri").and_then(Value::as_str);
    match jwks_uri.map(usable_url) {
        Some(Ok(jwks_uri)) => Ok(Discovery { url, members, jwks_uri }),
        Some(Err(_)) | None => Err(JwksError::BadEndpoint { url, member: "jwks_uri" }),
    }
}

/// Reads a set of keys.
pub(super) async fn keys(client: &reqwest::Client, url: &Url) -> Result<KeySet, JwksError> {
    let body = get(client, url).await?;
    KeySet::read(&body).map_err(|why| JwksError::Unreadable { url: url.to_string(), why })
}

async fn get(client: &reqwest::Client, url: &Url) -> Result<Vec<u8>, JwksError> {
    let failed = |error: reqwest::Error| {
        let url = url.to_string();
        if error.is_timeout() {
            JwksError::TooSlow { url }
        } else {
            JwksError::Unreachable { url, source: Arc::new(error.without_url()) }
        }
    };
    let accept = (reqwest::header::ACCEPT, "application/json");
    let request = client.get(url.clone()).header(accept.0, accept.1);
    let mut response = request.send().await.map_err(failed)?;
    if response.status() != reqwest::StatusCode::OK {
        let status = response.status().as_u16();
        return Err(JwksError::Status { url: url.to_string(), status });
    }
    let mut body: Vec<u8> = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > limits::JWKS_BYTES_MAX {
            return Err(JwksError::TooLarge { url: url.to_string() });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
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
