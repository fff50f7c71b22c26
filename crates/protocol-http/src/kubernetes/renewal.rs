//! New tokens for the service account as which the gateway calls a cluster, by the TokenRequest
//! API (`POST …/serviceaccounts/NAME/token`, authentication.k8s.io/v1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corral_gate::{Denial, DenialKind};
use corral_model::Secret;
use corral_session::scope::BoxFuture;
use corral_session::{CredentialRenewal, HttpBody, Lifetime};
use corral_transport::{Endpoint, TargetTlsMode};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::options::Options;
use crate::http_parts::bodies::{empty, full};
use crate::http_parts::headers::sensitive;
use crate::http_parts::target::{TargetError, ask_once};

/// The answer to a TokenRequest, in bytes: a token is about one kilobyte.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const ACCOUNT: &str = "system:serviceaccount:";

/// Renews tokens of service accounts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TokenRenewal;

impl CredentialRenewal for TokenRenewal {
    fn lifetime(
        &self,
        options: &Map<String, Value>,
        secret: &Secret,
    ) -> Result<Option<Lifetime>, Denial> {
        let options = Options::read(options).map_err(|error| unavailable(&error))?;
        let Some(wanted) = options.token_lifetime else { return Ok(None) };
        let token = AccountToken::read(secret)?;
        let Some(until) = token.until else { return Ok(None) };
        Ok(Some(Lifetime { from: token.from, until, wanted: wanted.0 }))
    }

    fn renew<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: &'a Map<String, Value>,
        secret: &'a Secret,
    ) -> BoxFuture<'a, Result<Secret, Denial>> {
        Box::pin(renew(endpoint, options, secret))
    }
}

async fn renew(
    endpoint: &Endpoint,
    options: &Map<String, Value>,
    secret: &Secret,
) -> Result<Secret, Denial> {
    let options = Options::read(options).map_err(|error| unavailable(&error))?;
    let wanted = options.token_lifetime.ok_or_else(|| unavailable("no renewal is asked for"))?;
    if endpoint.tls == TargetTlsMode::Disable && !endpoint.is_local() {
        return Err(unavailable("the gateway sends no token in clear to another machine"));
    }
    let present = AccountToken::read(secret)?;
    let request = present.request(secret, wanted.0.as_secs())?;
    let answer = ask_once(endpoint, request, ANSWER_BYTES_MAX).await.map_err(|error| {
        let text = match &error {
            TargetError::Answer(_) => "the cluster's answer to the TokenRequest cannot be read",
            _ => "the cluster cannot be reached",
        };
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        let mut denial = unavailable(text);
        denial.internal = Some(format!("{error}{}", source.unwrap_or_default()));
        denial
    })?;
    let status = answer.status();
    if status != StatusCode::CREATED {
        let hint = match status {
            StatusCode::UNAUTHORIZED => "; the present token is no longer good, apply a new one",
            StatusCode::FORBIDDEN => "; permit it to create serviceaccounts/token for itself",
            _ => "",
        };
        let code = status.as_u16();
        return Err(unavailable(&format!("the cluster answered the TokenRequest {code}{hint}")));
    }
    let unreadable = || unavailable("the cluster's answer to the TokenRequest has no token");
    let answer: TokenAnswer = serde_json::from_slice(answer.body()).map_err(|_| unreadable())?;
    let given = Secret::new(answer.status.token);
    let token = AccountToken::read(&given)?;
    if !token.is_as(&present) {
        return Err(unavailable("the cluster gave a token of another account or for others"));
    }
    try_out(endpoint, &given).await?;
    Ok(given)
}

/// Shows a new token once, before the present one is given up for it. An API server refuses a
/// token that it does not take with 401 on every path, also where nobody needs one.
async fn try_out(endpoint: &Endpoint, given: &Secret) -> Result<(), Denial> {
    let refused = || unavailable("the cluster does not take the token that it gave");
    let request = Request::builder()
        .uri("/version")
        .header(AUTHORIZATION, bearer(given).ok_or_else(refused)?)
        .body(empty())
        .map_err(|_| refused())?;
    let answer = ask_once(endpoint, request, ANSWER_BYTES_MAX).await.map_err(|_| refused())?;
    let status = answer.status();
    let is_taken = status.is_success() || status == StatusCode::FORBIDDEN;
    if is_taken { Ok(()) } else { Err(refused()) }
}

fn bearer(token: &Secret) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {}", token.reveal().trim()))
}

#[derive(Deserialize)]
struct TokenAnswer {
    status: TokenStatus,
}

#[derive(Deserialize)]
struct TokenStatus {
    token: String,
}

/// What a token says of itself. Nobody verifies it here: it is the gateway's own credential, and
/// whether it is good is the cluster's to say.
#[derive(Debug, PartialEq, Eq)]
struct AccountToken {
    subject: String,
    issuer: Option<String>,
    /// Of the account: one that is made again under the same name is another.
    uid: Option<String>,
    audiences: Vec<String>,
    from: OffsetDateTime,
    /// Tokens that lie in a Secret have no end.
    until: Option<OffsetDateTime>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    aud: Audiences,
    iss: Option<String>,
    iat: Option<i64>,
    exp: Option<i64>,
    #[serde(default, rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

/// The claims of BoundServiceAccountTokens (`pkg/serviceaccount/claims.go`).
#[derive(Deserialize, Default)]
struct Kubernetes {
    serviceaccount: Option<Reference>,
    pod: Option<Value>,
    secret: Option<Value>,
    node: Option<Value>,
}

#[derive(Deserialize)]
struct Reference {
    uid: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl AccountToken {
    fn read(secret: &Secret) -> Result<Self, Denial> {
        let other = || unavailable("the token is no service account's, so it cannot be renewed");
        let mut parts = secret.reveal().trim().split('.');
        let (Some(_), Some(claims), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(other());
        };
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| other())?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| other())?;
        let Kubernetes { serviceaccount, pod, secret: of_secret, node } = claims.kubernetes;
        if pod.is_some() || of_secret.is_some() || node.is_some() {
            return Err(unavailable(
                "the token is bound to a pod, secret or node and ends with it, so it is not \
                 renewed; give one of `kubectl create token`",
            ));
        }
        let time = |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| other());
        let until = claims.exp.map(time).transpose()?;
        let from = claims.iat.map(time).transpose()?;
        let audiences = match claims.aud {
            Audiences::One(one) => vec![one],
            Audiences::Several(several) => several,
        };
        let token = Self {
            from: from.or(until).unwrap_or(OffsetDateTime::UNIX_EPOCH),
            subject: claims.sub,
            issuer: claims.iss,
            uid: serviceaccount.and_then(|account| account.uid),
            audiences,
            until,
        };
        token.account().ok_or_else(other)?;
        Ok(token)
    }

    /// Namespace and name, when they can stand in a path as they are.
    fn account(&self) -> Option<(&str, &str)> {
        let (namespace, name) = self.subject.strip_prefix(ACCOUNT)?.split_once(':')?;
        let is_name = |text: &str| {
            let is_plain =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
            (1..=253).contains(&text.len())
                && text.bytes().all(is_plain)
                && text.bytes().any(|byte| byte != b'.')
        };
        (is_name(namespace) && is_name(name)).then_some((namespace, name))
    }

    /// Of the same account of the same issuer, for the same audiences.
    fn is_as(&self, other: &Self) -> bool {
        let all_in = |one: &Self, other: &Self| {
            one.audiences.iter().all(|audience| other.audiences.contains(audience))
        };
        (&self.subject, &self.issuer, &self.uid) == (&other.subject, &other.issuer, &other.uid)
            && all_in(self, other)
            && all_in(other, self)
    }

    /// Asks for a token of the same account for the same audiences.
    fn request(&self, secret: &Secret, seconds: u64) -> Result<Request<HttpBody>, Denial> {
        let unusable = || unavailable("the token cannot be shown to the cluster");
        let (namespace, name) = self.account().ok_or_else(unusable)?;
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": self.audiences, "expirationSeconds": seconds},
        });
        let json = HeaderValue::from_static("application/json");
        Request::builder()
            .method(Method::POST)
            .uri(format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"))
            .header(AUTHORIZATION, bearer(secret).ok_or_else(unusable)?)
            .header(CONTENT_TYPE, json.clone())
            .header(ACCEPT, json)
            .body(full(body.to_string()))
            .map_err(|_| unusable())
    }
}

fn unavailable(text: &str) -> Denial {
    Denial::new(DenialKind::TargetUnavailable, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &Value) -> Secret {
        Secret::new(format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string())))
    }

    fn options(options: Value) -> Map<String, Value> {
        let Value::Object(options) = options else { panic!("a map") };
        options
    }

    #[test]
    fn a_token_is_renewed_where_the_target_asks_for_it_and_it_ends() {
        let claims = json!({"sub": "system:serviceaccount:corral:gateway", "aud": ["a"],
                            "iat": 1_000, "exp": 4_600});
        let asked = options(json!({"token_lifetime": "1h"}));
        let lifetime = TokenRenewal.lifetime(&asked, &token(&claims)).expect("it can be");
        let lifetime = lifetime.expect("it ends");
        assert_eq!(lifetime.from.unix_timestamp(), 1_000);
        assert_eq!(lifetime.until.unix_timestamp(), 4_600);
        assert_eq!(lifetime.wanted.as_secs(), 3_600);
        assert_eq!(TokenRenewal.lifetime(&options(json!({})), &token(&claims)), Ok(None));
        let endless = json!({"sub": "system:serviceaccount:corral:gateway"});
        assert_eq!(TokenRenewal.lifetime(&asked, &token(&endless)), Ok(None));
    }

    #[test]
    fn other_tokens_are_said_to_be_no_service_accounts() {
        let asked = options(json!({"token_lifetime": "1h"}));
        let of = |sub: &str| token(&json!({"sub": sub, "exp": 4_600}));
        for secret in [
            Secret::new("opaque".to_owned()),
            Secret::new("a.b.c".to_owned()),
            Secret::new("e30.e30.c2ln.x".to_owned()),
            of("ada"),
            of("system:serviceaccount:corral"),
            of("system:serviceaccount:corral:"),
            of("system:serviceaccount:..:gateway"),
            of("system:serviceaccount:corral:gate/way"),
            of("system:serviceaccount:corral:gateway:more"),
        ] {
            let denial = TokenRenewal.lifetime(&asked, &secret).expect_err("it is none");
            assert!(denial.client_text.contains("no service account's"), "{denial:?}");
        }
    }

    #[test]
    fn the_same_account_and_audiences_are_asked_for() {
        let secret = token(&json!({"sub": "system:serviceaccount:corral:gateway", "aud": "one",
                                   "iat": 1_000, "exp": 4_600}));
        let read = AccountToken::read(&secret).expect("an account's");
        let request = read.request(&secret, 600).expect("it can be asked");
        let path = "/api/v1/namespaces/corral/serviceaccounts/gateway/token";
        assert_eq!(request.uri(), path);
        assert!(request.headers()[AUTHORIZATION].is_sensitive());
        let with = |key: &str, value: Value| {
            let mut claims = json!({"sub": "system:serviceaccount:corral:gateway", "aud": ["one"],
                                    "iat": 2_000, "exp": 9_600});
            claims[key] = value;
            AccountToken::read(&token(&claims)).expect("an account's")
        };
        assert!(with("iat", json!(3_000)).is_as(&read));
        for (key, value) in [
            ("aud", json!(["one", "two"])),
            ("aud", json!([])),
            ("sub", json!("system:serviceaccount:corral:admin")),
            ("iss", json!("https://other.example")),
            ("kubernetes.io", json!({"serviceaccount": {"name": "gateway", "uid": "another"}})),
        ] {
            assert!(!with(key, value.clone()).is_as(&read), "{key} {value}");
        }
    }

    #[test]
    fn a_bound_token_is_not_made_into_one_that_is_not() {
        let asked = options(json!({"token_lifetime": "1h"}));
        for bound in ["pod", "secret", "node"] {
            let secret =
                token(&json!({"sub": "system:serviceaccount:corral:gateway", "exp": 4_600,
                                       "kubernetes.io": {bound: {"name": "x", "uid": "u"}}}));
            let denial = TokenRenewal.lifetime(&asked, &secret).expect_err("it is bound");
            assert!(denial.client_text.contains("is bound to"), "{denial:?}");
        }
    }
}
