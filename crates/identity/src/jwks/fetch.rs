//! Reads an issuer's documents.

use corral_model::limits;
use reqwest::{StatusCode, Url, header};
use serde_json::{Map, Value};

use crate::fetch::{self, Bounds, FetchError, usable_url};
use crate::jwt::{JwtError, KeySet, json};

/// An issuer's document, however large issuers' are.
const BOUNDS: Bounds =
    Bounds { bytes_max: limits::JWKS_BYTES_MAX, deadline: limits::JWKS_DEADLINE };

/// Why an issuer's keys are not known. It names addresses, which are not secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JwksError {
    /// See there.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The issuer is to blame.
    #[error("{url}: answered {status}")]
    Status { url: String, status: u16 },
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

/// A client for one issuer.
pub(super) fn client(ca_pem: Option<&str>, url: &Url) -> Result<reqwest::Client, JwksError> {
    Ok(fetch::client(ca_pem, url, BOUNDS.deadline)?)
}

/// Reads the configuration document of an issuer.
pub(super) async fn discovery(
    client: &reqwest::Client,
    issuer: &str,
) -> Result<Discovery, JwksError> {
    // Section 4.1: a slash at the end is taken away before the well-known part is added.
    let text = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let url = usable_url(&text)?;
    let body = get(client, &url, "application/json").await?;
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
    // A cluster's API server has keys as a set only, and many issuers have them as JSON only.
    let body = get(client, url, "application/jwk-set+json, application/json").await?;
    KeySet::read(&body).map_err(|why| JwksError::Unreadable { url: url.to_string(), why })
}

async fn get(
    client: &reqwest::Client,
    url: &Url,
    accepted: &'static str,
) -> Result<Vec<u8>, JwksError> {
    let request = client.get(url.clone()).header(header::ACCEPT, accepted);
    let answer = fetch::send(request, url, BOUNDS).await?;
    if answer.status != StatusCode::OK {
        let status = answer.status.as_u16();
        return Err(JwksError::Status { url: url.to_string(), status });
    }
    Ok(answer.body)
}
