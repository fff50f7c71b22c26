//! HTTP to the gateway: one shape of error, an exit code for each way to fail.

use std::time::Duration;

use corral_api::sign_in::OAuthError;
use corral_api::{ApiError, ErrorBody, ErrorCode};
use corral_model::{Secret, TraceParent};
use reqwest::header::{CONNECTION, UPGRADE};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Upgraded};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::discover::{Authority, Found};
use crate::failure::{Exit, Failure};
use crate::stream::Lines;

/// Dialling, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A whole answer that is no stream; longer than the gateway takes to give up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// A gateway, as whoever holds the token.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    found: Found,
}

impl Client {
    /// # Errors
    /// When the authority's file holds no certificate.
    pub(crate) fn new(found: Found) -> Result<Self, Failure> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .https_only(true)
            // Requests may be upgraded, which HTTP/2 does in another way.
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("corral/", env!("CARGO_PKG_VERSION")));
        let (pem, place) = match &found.authority {
            Authority::File { path, pem } => (Some(pem), path.display().to_string()),
            Authority::Pem(pem) => (Some(pem), "the saved login".to_owned()),
            Authority::System => (None, String::new()),
        };
        if let Some(pem) = pem {
            let no_certificate =
                || Failure::failed(format!("{place} holds no certificate in PEM format"));
            let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|_| no_certificate())?;
            if certificates.is_empty() {
                return Err(no_certificate());
            }
            builder = builder.tls_certs_only(certificates);
        }
        if is_loopback(&found.gateway) {
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|error| Failure::failed(format!("cannot prepare TLS: {}", chain(&error))))?;
        let base = format!("{}{}", found.gateway, corral_api::BASE);
        Ok(Self { http, base, found })
    }

    #[must_use]
    pub(crate) fn found(&self) -> &Found {
        &self.found
    }

    /// The same gateway, as somebody else.
    #[must_use]
    pub(crate) fn with_token(&self, token: Secret) -> Self {
        let mut client = self.clone();
        client.found.token = Some(token);
        client
    }

    /// The token, where a command cannot do without one.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn token(&self) -> Result<&Secret, Failure> {
        self.found.token.as_ref().ok_or_else(|| {
            Failure::new(Exit::Denied, format!("no token for {}", self.found.gateway)).with_hint(
                "sign in with `corral login`, or pass --token-file, --data or CORRAL_TOKEN",
            )
        })
    }

    /// # Errors
    /// Whatever kept the answer away.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        self.ask(path, &Value::Null).await
    }

    /// A `get` with a query.
    ///
    /// # Errors
    /// Whatever kept the answer away.
    pub(crate) async fn ask<T, Q>(&self, path: &[&str], query: &Q) -> Result<T, Failure>
    where
        T: DeserializeOwned,
        Q: Serialize,
    {
        let request = self.request(Method::GET, &with_query(self.url(path), query)?)?;
        self.answer(request.timeout(ANSWER_TIMEOUT)).await
    }

    /// # Errors
    /// Whatever kept the answer away.
    pub(crate) async fn post<T, B>(&self, path: &[&str], body: &B) -> Result<T, Failure>
    where
        T: DeserializeOwned,
        B: Serialize,
    {
        let request = self.request(Method::POST, &self.url(path))?.json(body);
        self.answer(request.timeout(ANSWER_TIMEOUT)).await
    }

    /// # Errors
    /// Whatever kept the answer away.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        let request = self.request(Method::DELETE, &self.url(path))?;
        self.answer(request.timeout(ANSWER_TIMEOUT)).await
    }

    /// A `post` without a body that has no answer but its status; the only requests besides
    /// [`Client::post_open`] that may be sent without a token.
    ///
    /// # Errors
    /// Whatever kept it from being done.
    pub(crate) async fn tell(&self, path: &[&str]) -> Result<(), Failure> {
        let request = self.request(Method::POST, &self.url(path))?.timeout(ANSWER_TIMEOUT);
        self.send(request).await.map(|_| ())
    }

    /// A `post` that needs no token.
    ///
    /// # Errors
    /// Whatever kept the answer away.
    pub(crate) async fn post_open<T, B>(&self, path: &[&str], body: &B) -> Result<T, Failure>
    where
        T: DeserializeOwned,
        B: Serialize,
    {
        let request = self.http.post(self.url(path)).json(body);
        self.answer(request.timeout(ANSWER_TIMEOUT)).await
    }

    /// A `get` that needs no token.
    ///
    /// # Errors
    /// Whatever kept the answer away.
    pub(crate) async fn get_open<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        self.answer(self.http.get(self.url(path)).timeout(ANSWER_TIMEOUT)).await
    }

    /// A form for an OAuth endpoint, which needs no token; the inner error is the endpoint's own
    /// word (RFC 6749 section 5.2).
    ///
    /// `trace` goes along as a claim.
    ///
    /// # Errors
    /// Whatever kept the answer away.
    pub(crate) async fn post_form<T: DeserializeOwned>(
        &self,
        path: &str,
        form: &str,
        trace: Option<&TraceParent>,
    ) -> Result<Result<T, OAuthError>, Failure> {
        let mut request = self
            .http
            .post(format!("{}{path}", self.found.gateway))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned())
            .timeout(ANSWER_TIMEOUT);
        if let Some(trace) = trace {
            request = request.header("traceparent", trace.to_string());
        }
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| self.broken(&error))?;
        if status.is_success() {
            let read = serde_json::from_slice(&bytes);
            return read.map(Ok).map_err(|_| strange_answer(status));
        }
        if let Ok(refusal) = serde_json::from_slice::<OAuthError>(&bytes) {
            return Ok(Err(refusal));
        }
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => Err(body.error.into()),
            Err(_) => Err(strange_answer(status)),
        }
    }

    /// An answer of lines that may go on for ever.
    ///
    /// # Errors
    /// Whatever kept it from beginning.
    pub(crate) async fn lines<Q: Serialize>(
        &self,
        path: &[&str],
        query: &Q,
    ) -> Result<Lines, Failure> {
        let request = self.request(Method::GET, &with_query(self.url(path), query)?)?;
        let response = self.send(request).await?;
        Ok(Lines::new(response))
    }

    /// A connection that was a request, by the name of what it becomes.
    ///
    /// # Errors
    /// Whatever kept it from becoming that.
    pub(crate) async fn upgrade<Q: Serialize>(
        &self,
        path: &[&str],
        query: &Q,
        name: &'static str,
        header: Option<(&'static str, &Secret)>,
    ) -> Result<Upgraded, Failure> {
        let mut request = self
            .request(Method::GET, &with_query(self.url(path), query)?)?
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, name);
        if let Some((name, value)) = header {
            request = request.header(name, value.reveal());
        }
        let upgraded = async {
            let response = self.send(request).await?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Err(strange_answer(response.status()));
            }
            response.upgrade().await.map_err(|error| self.broken(&error))
        };
        let late = |_| {
            let text = format!("the gateway at {} does not answer", self.found.gateway);
            Failure::new(Exit::Unreachable, text)
        };
        tokio::time::timeout(ANSWER_TIMEOUT, upgraded).await.map_err(late)?
    }

    fn request(&self, method: Method, url: &str) -> Result<RequestBuilder, Failure> {
        Ok(self.http.request(method, url).bearer_auth(self.token()?.reveal()))
    }

    fn url(&self, path: &[&str]) -> String {
        let mut url = self.base.clone();
        for segment in path {
            url.push('/');
            url.push_str(&encoded(segment));
        }
        url
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let response = self.send(request).await?;
        let bytes = response.bytes().await.map_err(|error| self.broken(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            // serde would quote the value, and that may be a token.
            Failure::failed(format!(
                "the gateway's answer cannot be read (line {}, column {})",
                error.line(),
                error.column()
            ))
            .with_hint("is this `corral` of the same version as the gateway?")
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let bytes = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => Err(body.error.into()),
            Err(_) => Err(strange_answer(status)),
        }
    }

    fn broken(&self, error: &reqwest::Error) -> Failure {
        let gateway = &self.found.gateway;
        let what = if error.is_timeout() {
            format!("the gateway at {gateway} does not answer")
        } else {
            format!("the gateway at {gateway} cannot be reached: {}", root_cause(error))
        };
        let failure = Failure::new(Exit::Unreachable, what);
        if chain(error).contains("certificate") {
            return failure.with_hint("--ca-file or CORRAL_CA_FILE names the gateway's ca.pem");
        }
        failure
    }
}

/// A refusal of the token service, in the API's words.
pub(crate) fn of_oauth(error: OAuthError) -> ApiError {
    let code = match error.error.as_str() {
        "access_denied" => ErrorCode::Denied,
        "invalid_grant" | "invalid_client" | "invalid_dpop_proof" => ErrorCode::Unauthenticated,
        "temporarily_unavailable" => ErrorCode::Unavailable,
        _ => ErrorCode::Invalid,
    };
    let text = error.error_description.unwrap_or(error.error);
    ApiError::new(code, text)
}

/// An answer that is not this API's.
fn strange_answer(status: StatusCode) -> Failure {
    let code = match status {
        StatusCode::NOT_FOUND => corral_api::ErrorCode::NotFound,
        _ => corral_api::ErrorCode::Internal,
    };
    let text = format!("what answers there is not a gateway, or has another version ({status})");
    Failure::from(ApiError::new(code, text))
}

fn is_loopback(gateway: &str) -> bool {
    let host = host_of(gateway);
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The host of `https://host:port`, without brackets.
#[must_use]
pub(crate) fn host_of(gateway: &str) -> &str {
    let rest = gateway.strip_prefix("https://").unwrap_or(gateway);
    if let Some((host, _)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    rest.split_once(':').map_or(rest, |(host, _)| host)
}

fn with_query<Q: Serialize>(url: String, query: &Q) -> Result<String, Failure> {
    let value = serde_json::to_value(query)
        .map_err(|error| Failure::failed(format!("cannot write the query: {error}")))?;
    let Value::Object(keys) = value else { return Ok(url) };
    let mut url = url;
    let mut separator = '?';
    for (name, value) in keys {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text,
            other => other.to_string(),
        };
        url.push(separator);
        url.push_str(&encoded(&name));
        url.push('=');
        url.push_str(&encoded(&text));
        separator = '&';
    }
    Ok(url)
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
#[must_use]
pub(crate) fn encoded(text: &str) -> String {
    let mut url = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                url.push(char::from(byte));
            }
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use corral_api::RunQuery;

    use super::*;

    #[test]
    fn names_with_slashes_and_at_signs_stay_one_segment() {
        assert_eq!(encoded("ada@example.com/x y"), "ada%40example.com%2Fx%20y");
    }

    #[test]
    fn a_query_leaves_out_what_is_absent() {
        let query = RunQuery { active: true, principal: Some("a b".to_owned()), root: None };
        let url = with_query("u".to_owned(), &query).expect("is written");
        assert_eq!(url, "u?active=true&principal=a%20b");
        assert_eq!(with_query("u".to_owned(), &Value::Null).expect("is written"), "u");
    }

    #[test]
    fn hosts_are_read_with_and_without_brackets() {
        let check = |gateway: &str, host: &str, loopback: bool| {
            assert_eq!((host_of(gateway), is_loopback(gateway)), (host, loopback));
        };
        check("https://127.0.0.1:41000", "127.0.0.1", true);
        check("https://[::1]:41000", "::1", true);
        check("https://localhost", "localhost", true);
        check("https://gate.example.com:443", "gate.example.com", false);
    }
}
