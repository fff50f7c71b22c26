//! What a provider's userinfo endpoint says of a person (OpenID Connect Core section 5.3): plain
//! JSON, or a JWT that the provider signed.

use corral_model::{Secret, limits};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{OidcClient, OidcError};
use crate::fetch::{self, Bounds};
use crate::jwks::VerifyError;
use crate::jwt::{Claims, Expiry, Rules, SeveralAudiences};

const JSON: &str = "application/json";
const JWT: &str = "application/jwt";
/// A JWE in its compact form has five parts (RFC 7516 section 7.1).
const ENCRYPTED_DOTS: usize = 4;

impl OidcClient {
    /// Takes the claim that is wanted over from the provider's userinfo endpoint, where the ID
    /// token lacks it and there is such an endpoint. Nothing else is taken from there.
    ///
    /// # Errors
    /// [`OidcError::Userinfo`], [`OidcError::OtherSubject`], [`OidcError::Provider`].
    ///
    /// # Limits
    /// [`limits::JWKS_BYTES_MAX`] within [`limits::JWKS_DEADLINE`], no redirects; a JWT of
    /// [`limits::JWT_BYTES_MAX`].
    pub async fn complete(
        &self,
        claims: Claims,
        access_token: &Secret,
        now: OffsetDateTime,
    ) -> Result<Claims, OidcError> {
        let Some(wanted) = self.options.wanted.as_deref() else { return Ok(claims) };
        if claims.get(wanted).is_some() {
            return Ok(claims);
        }
        let discovery = self.keys.discovery(now).await?;
        let Some(url) = discovery.endpoint("userinfo_endpoint")? else { return Ok(claims) };
        let request = self.keys.client().get(url.clone()).bearer_auth(access_token.reveal());
        let request = request.header(ACCEPT, format!("{JSON}, {JWT}"));
        let bounds = Bounds { bytes_max: limits::JWKS_BYTES_MAX, deadline: limits::JWKS_DEADLINE };
        let answer = fetch::send(request, &url, bounds).await;
        let answer = answer.map_err(|error| OidcError::Userinfo(error.to_string()))?;
        if answer.status != reqwest::StatusCode::OK {
            return Err(unusable(&format!("it answered {}", answer.status.as_u16())));
        }
        let told = if is_jwt(&answer.headers) {
            self.signed(&answer.body, now).await?
        } else {
            plain(&answer.body)?
        };
        // Section 5.3.2: a token of somebody else could be put in between.
        if told.get("sub").and_then(Value::as_str) != claims.subject() {
            return Err(OidcError::OtherSubject);
        }
        Ok(match told.get(wanted) {
            Some(value) => claims.with(wanted, value.clone()),
            None => claims,
        })
    }

    /// Section 5.3.2: a signed answer names its issuer, and this client as its audience. It need
    /// not end: it was asked for right before.
    async fn signed(
        &self,
        body: &[u8],
        now: OffsetDateTime,
    ) -> Result<Map<String, Value>, OidcError> {
        let text = std::str::from_utf8(body).map_err(|_| unusable("its answer is no JWT"))?;
        let text = text.trim_ascii();
        if text.matches('.').count() == ENCRYPTED_DOTS {
            return Err(unusable(
                "its answer is encrypted, which is not read; register the gateway as a client \
                 without userinfo_encrypted_response_alg",
            ));
        }
        let rules = Rules {
            several: SeveralAudiences::Allow,
            expiry: Expiry::Optional,
            required: &["sub"],
            ..Rules::new(self.keys.issuer(), self.client_id())
        };
        let verified = self.keys.verify(text, &rules, now).await;
        let claims = verified.map_err(|error| match error {
            VerifyError::Token(why) => unusable(&format!("its signed answer is not taken: {why}")),
            VerifyError::Keys(why) => OidcError::Provider(why),
        })?;
        Ok(claims.as_map().clone())
    }
}

fn plain(body: &[u8]) -> Result<Map<String, Value>, OidcError> {
    serde_json::from_slice(body).map_err(|_| unusable("its answer is no JSON object"))
}

fn unusable(text: &str) -> OidcError {
    OidcError::Userinfo(text.to_owned())
}

/// Whether an answer says that it is a JWT: what it looks like does not count.
fn is_jwt(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case(JWT)
}
