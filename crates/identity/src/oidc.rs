//! The gateway as a client of an OpenID provider: the code flow with PKCE, and the renewal of a
//! grant. Grants are made by the `oauth2` crate, ID tokens are verified by [`crate::jwt`], and
//! what the provider says of itself comes from [`crate::jwks`].
//!
//! Knows no person and keeps nothing: what a sign-in needs until its end is in [`Begun`].

use std::sync::Arc;

use corral_model::{Secret, limits};
use oauth2::basic::{BasicErrorResponse, BasicErrorResponseType, BasicTokenType};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet,
    EndpointSet, ExtraTokenFields, HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, RefreshToken, RequestTokenError, Scope, StandardRevocableToken,
    StandardTokenResponse, TokenResponse as _, TokenUrl,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::jwks::{Discovery, JwksError, KeySource, VerifyError};
use crate::jwt::{Claims, JwtError, Rules, SeveralAudiences};

mod userinfo;

/// Why a person was not signed in, or a grant not renewed.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// The provider, the way to it, or the configuration is to blame.
    #[error(transparent)]
    Provider(#[from] JwksError),
    /// The provider is to blame, or the way to it.
    #[error("the token endpoint cannot be used: {0}")]
    Call(String),
    /// The provider says that this grant is good for nothing (any more).
    #[error("the provider refuses the grant")]
    Refused,
    /// The provider does not take the gateway as its client: the configuration is to blame.
    #[error("the provider refuses this client: {0}")]
    Client(String),
    /// Whoever brought the answer is to blame (RFC 9207: it may be another provider's).
    #[error("the answer does not come from this provider (iss)")]
    OtherIssuer,
    /// The provider is to blame.
    #[error("the ID token is not taken: {0}")]
    Token(JwtError),
    /// The provider is to blame.
    #[error("the provider gave no ID token")]
    NoIdToken,
    /// The provider, or the way to it, is to blame.
    #[error("its userinfo endpoint cannot be used: {0}")]
    Userinfo(String),
    /// The provider is to blame, or whoever stands between.
    #[error("the userinfo endpoint speaks of somebody else (sub)")]
    OtherSubject,
}

/// What a client is configured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcOptions {
    pub client_id: String,
    pub scopes: Vec<String>,
    pub prompt: Option<String>,
    /// A claim that is asked for at the provider's userinfo endpoint where an ID token lacks it.
    pub wanted: Option<String>,
}

/// A sign-in on its way: kept here, while the person is at the provider.
#[derive(Debug, Clone)]
pub struct Begun {
    /// Comes back with the answer, and finds it.
    pub state: String,
    nonce: Secret,
    verifier: Secret,
    redirect_uri: String,
}

/// What the provider vouches for.
#[derive(Debug)]
pub struct Grant {
    /// Of a verified ID token for this client.
    pub claims: Claims,
    /// With which the gateway can ask again later.
    pub refresh_token: Option<Secret>,
}

/// A renewed grant.
#[derive(Debug)]
pub struct Renewed {
    /// Of a new ID token, when the provider gave one; for [`OidcClient::complete`]. One that is not
    /// taken does not undo the renewal: the token that was shown may be good for nothing by then.
    pub claims: Option<Result<Claims, OidcError>>,
    /// Asks at the userinfo endpoint.
    pub access_token: Secret,
    /// Goes into the place of the one that was shown.
    pub refresh_token: Option<Secret>,
}

/// The client of one provider.
#[derive(Debug)]
pub struct OidcClient {
    keys: Arc<KeySource>,
    options: OidcOptions,
}

#[derive(Deserialize, Serialize)]
struct IdTokenField {
    #[serde(default)]
    id_token: Option<String>,
}

impl ExtraTokenFields for IdTokenField {}

impl std::fmt::Debug for IdTokenField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdTokenField(…)")
    }
}

type Answer = StandardTokenResponse<IdTokenField, BasicTokenType>;

type Client = oauth2::Client<
    BasicErrorResponse,
    Answer,
    oauth2::basic::BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    oauth2::basic::BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

impl OidcClient {
    #[must_use]
    pub fn new(keys: Arc<KeySource>, options: OidcOptions) -> Self {
        Self { keys, options }
    }

    /// The keys of this provider.
    #[must_use]
    pub fn keys(&self) -> &KeySource {
        &self.keys
    }

    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.options.client_id
    }

    /// Where the person goes, and what is kept meanwhile.
    ///
    /// # Errors
    /// [`OidcError::Provider`].
    ///
    /// # Limits
    /// Waits for the provider at most [`limits::JWKS_DEADLINE`].
    pub async fn begin(
        &self,
        redirect_uri: &str,
        now: OffsetDateTime,
    ) -> Result<(String, Begun), OidcError> {
        let discovery = self.keys.discovery(now).await?;
        let client = self.client(&discovery, None)?.set_redirect_uri(redirect(redirect_uri)?);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let nonce = CsrfToken::new_random_len(32);
        let mut request = client
            .authorize_url(|| CsrfToken::new_random_len(32))
            .set_pkce_challenge(challenge)
            .add_scopes(self.options.scopes.iter().cloned().map(Scope::new))
            .add_extra_param("nonce", nonce.secret().clone());
        if let Some(prompt) = &self.options.prompt {
            request = request.add_extra_param("prompt", prompt.clone());
        }
        let (url, state) = request.url();
        let begun = Begun {
            state: state.into_secret(),
            nonce: Secret::new(nonce.into_secret()),
            verifier: Secret::new(verifier.into_secret()),
            redirect_uri: redirect_uri.to_owned(),
        };
        Ok((url.to_string(), begun))
    }

    /// Takes the provider's answer: the code, and who it says that it is (`iss`).
    ///
    /// # Errors
    /// [`OidcError`].
    pub async fn finish(
        &self,
        begun: &Begun,
        code: &str,
        issuer: Option<&str>,
        secret: Option<&Secret>,
        now: OffsetDateTime,
    ) -> Result<Grant, OidcError> {
        let discovery = self.keys.discovery(now).await?;
        // RFC 9207 section 2.4.
        let names_itself = "authorization_response_iss_parameter_supported";
        let must_name = discovery.get(names_itself).and_then(serde_json::Value::as_bool);
        match issuer {
            Some(issuer) if issuer != self.keys.issuer() => return Err(OidcError::OtherIssuer),
            None if must_name == Some(true) => return Err(OidcError::OtherIssuer),
            Some(_) | None => {}
        }
        let client =
            self.client(&discovery, secret)?.set_redirect_uri(redirect(&begun.redirect_uri)?);
        let verifier = PkceCodeVerifier::new(begun.verifier.reveal().to_owned());
        let http = self.http();
        let answer = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(verifier)
            .request_async(&http)
            .await
            .map_err(of_request)?;
        let token = answer.extra_fields().id_token.as_deref().ok_or(OidcError::NoIdToken)?;
        let claims = self.verify(token, Some(begun.nonce.reveal()), now).await?;
        let claims = self.complete(claims, &access_token(&answer), now).await?;
        Ok(Grant { claims, refresh_token: refresh_token(&answer) })
    }

    /// Asks whether a grant is still good.
    ///
    /// # Errors
    /// [`OidcError::Refused`] when it is not; every other error says nothing about it.
    pub async fn renew(
        &self,
        shown: &Secret,
        secret: Option<&Secret>,
        now: OffsetDateTime,
    ) -> Result<Renewed, OidcError> {
        let discovery = self.keys.discovery(now).await?;
        let client = self.client(&discovery, secret)?;
        let shown = RefreshToken::new(shown.reveal().to_owned());
        let http = self.http();
        let request = client.exchange_refresh_token(&shown);
        let answer = request.request_async(&http).await.map_err(of_request)?;
        let claims = match answer.extra_fields().id_token.as_deref() {
            Some(token) => Some(self.verify(token, None, now).await),
            None => None,
        };
        let access_token = access_token(&answer);
        Ok(Renewed { claims, access_token, refresh_token: refresh_token(&answer) })
    }

    /// OpenID Connect Core section 3.1.3.7.
    async fn verify(
        &self,
        token: &str,
        nonce: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<Claims, OidcError> {
        let client_id = self.options.client_id.as_str();
        let rules = Rules {
            several: SeveralAudiences::IssuedTo(client_id),
            nonce,
            required: &["sub", "iat"],
            ..Rules::new(self.keys.issuer(), client_id)
        };
        self.keys.verify(token, &rules, now).await.map_err(|error| match error {
            VerifyError::Token(error) => OidcError::Token(error),
            VerifyError::Keys(error) => OidcError::Provider(error),
        })
    }

    fn client(&self, discovery: &Discovery, secret: Option<&Secret>) -> Result<Client, OidcError> {
        let issuer = || self.keys.issuer().to_owned();
        let endpoint = |member: &'static str| {
            let missing = || JwksError::BadEndpoint { url: issuer(), member };
            let url = discovery.endpoint(member)?.ok_or_else(missing)?;
            Ok::<String, JwksError>(url.to_string())
        };
        let bad = |_| OidcError::Call("its address cannot be read".to_owned());
        let auth_url = AuthUrl::new(endpoint("authorization_endpoint")?).map_err(bad)?;
        let token_url = TokenUrl::new(endpoint("token_endpoint")?).map_err(bad)?;
        let mut client = oauth2::Client::new(ClientId::new(self.options.client_id.clone()))
            .set_auth_uri(auth_url)
            .set_token_uri(token_url)
            .set_auth_type(auth_type(discovery));
        if let Some(secret) = secret {
            client = client.set_client_secret(ClientSecret::new(secret.reveal().to_owned()));
        }
        Ok(client)
    }

    fn http(&self) -> impl Fn(HttpRequest) -> Calling + use<> {
        let client = self.keys.client().clone();
        move |request| Box::pin(call(client.clone(), request))
    }
}

type Calling =
    std::pin::Pin<Box<dyn Future<Output = Result<HttpResponse, CallError>> + Send + 'static>>;

/// In the header unless the provider takes the secret in the form only.
fn auth_type(discovery: &Discovery) -> AuthType {
    let methods = discovery.get("token_endpoint_auth_methods_supported");
    let methods = methods.and_then(serde_json::Value::as_array);
    let takes = |name: &str| {
        methods.is_some_and(|methods| methods.iter().any(|method| method.as_str() == Some(name)))
    };
    if takes("client_secret_post") && !takes("client_secret_basic") {
        AuthType::RequestBody
    } else {
        AuthType::BasicAuth
    }
}

fn redirect(text: &str) -> Result<RedirectUrl, OidcError> {
    let bad = |_| OidcError::Call("the gateway's own address cannot be read".to_owned());
    RedirectUrl::new(text.to_owned()).map_err(bad)
}

fn access_token(answer: &Answer) -> Secret {
    Secret::new(answer.access_token().secret().clone())
}

fn refresh_token(answer: &Answer) -> Option<Secret> {
    answer.refresh_token().map(|token| Secret::new(token.secret().clone()))
}

fn of_request(error: RequestTokenError<CallError, BasicErrorResponse>) -> OidcError {
    match error {
        RequestTokenError::ServerResponse(answer) => match answer.error() {
            BasicErrorResponseType::InvalidGrant => OidcError::Refused,
            // Only the kind: a description may repeat what was sent.
            BasicErrorResponseType::InvalidClient | BasicErrorResponseType::UnauthorizedClient => {
                OidcError::Client(answer.error().to_string())
            }
            other => OidcError::Call(format!("it answered '{other}'")),
        },
        RequestTokenError::Request(error) => OidcError::Call(error.to_string()),
        RequestTokenError::Parse(..) => OidcError::Call("its answer cannot be read".to_owned()),
        RequestTokenError::Other(_) => OidcError::Call("its answer is none".to_owned()),
    }
}

/// Why a request had no answer that can be used.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("it cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("no whole answer in time")]
    TooSlow,
    #[error("the answer is larger than {max} bytes", max = limits::JWKS_BYTES_MAX)]
    TooLarge,
    #[error("it answered {0}")]
    Status(u16),
    #[error("the request cannot be made")]
    BadRequest,
}

async fn call(client: reqwest::Client, request: HttpRequest) -> Result<HttpResponse, CallError> {
    let failed = |error: reqwest::Error| {
        if error.is_timeout() {
            CallError::TooSlow
        } else {
            CallError::Unreachable(error.without_url())
        }
    };
    let (parts, body) = request.into_parts();
    let sent = client
        .request(parts.method, parts.uri.to_string())
        .headers(parts.headers)
        .body(body)
        .send()
        .await;
    let mut response = sent.map_err(failed)?;
    let status = response.status();
    // A broken or busy server says nothing about a grant, whatever stands in its answer.
    if status.is_server_error() || status == reqwest::StatusCode::TOO_MANY_REQUESTS {
        return Err(CallError::Status(status.as_u16()));
    }
    let mut bytes: Vec<u8> = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > limits::JWKS_BYTES_MAX {
            return Err(CallError::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    let mut answer = oauth2::http::Response::builder().status(status);
    for (name, value) in response.headers() {
        answer = answer.header(name, value);
    }
    answer.body(bytes).map_err(|_| CallError::BadRequest)
}

/// The event that makes a token a logout token (OpenID Connect Back-Channel Logout 1.0, 2.4).
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Whose sessions a provider ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logout {
    pub subject: Option<String>,
    /// The session at the provider.
    pub sid: Option<String>,
    /// To be taken once only.
    pub id: String,
}

impl OidcClient {
    /// Verifies a logout token (OpenID Connect Back-Channel Logout 1.0 section 2.6). Whether it
    /// was shown before is for the caller to say.
    ///
    /// # Errors
    /// [`OidcError`].
    pub async fn logout(&self, token: &str, now: OffsetDateTime) -> Result<Logout, OidcError> {
        let header = crate::jwt::Unverified::parse(token).map_err(OidcError::Token)?;
        // Absent in tokens of older providers, and then `events` alone tells what it is.
        let types: &[&str] = match header.header().typ {
            Some(_) => &["logout+jwt", "jwt"],
            None => &[],
        };
        let rules = Rules {
            several: SeveralAudiences::Allow,
            types,
            expiry: crate::jwt::Expiry::Optional,
            age_max: Some(limits::LOGOUT_TOKEN_AGE_MAX),
            required: &["jti", "events"],
            ..Rules::new(self.keys.issuer(), self.client_id())
        };
        let claims = self.keys.verify(token, &rules, now).await.map_err(|error| match error {
            VerifyError::Token(error) => OidcError::Token(error),
            VerifyError::Keys(error) => OidcError::Provider(error),
        })?;
        logout_of(&claims).map_err(OidcError::Token)
    }
}

fn logout_of(claims: &Claims) -> Result<Logout, JwtError> {
    if !claims.at(&["events", LOGOUT_EVENT]).is_some_and(serde_json::Value::is_object) {
        return Err(JwtError::BadMember("events"));
    }
    // An ID token could be taken for a logout token otherwise.
    if claims.get("nonce").is_some() {
        return Err(JwtError::BadMember("nonce"));
    }
    let text = |name: &'static str| match claims.get(name) {
        None => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(JwtError::BadMember(name)),
    };
    let (subject, sid) = (text("sub")?, text("sid")?);
    if subject.is_none() && sid.is_none() {
        return Err(JwtError::Missing("sub"));
    }
    let id = text("jti")?.ok_or(JwtError::Missing("jti"))?;
    Ok(Logout { subject, sid, id })
}
