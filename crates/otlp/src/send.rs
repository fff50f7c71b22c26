//! One batch to the collector: OTLP over HTTP, with a time, a size and an end to its attempts.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost_otlp::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use tokio::time::{Instant, sleep};

use crate::bounds;

/// Where traces go below an endpoint (OTLP specification, "OTLP/HTTP Request").
const TRACES: &str = "v1/traces";
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// Why a collector cannot be used. The configuration is to blame; no secret is in the text.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    #[error("endpoint: '{0}' is no address of a collector: https://HOST:PORT, or http on loopback")]
    Endpoint(String),
    #[error("headers: '{0}' is no name of a header, or its value cannot be one")]
    Header(String),
    #[error("ca_file: no certificates in PEM")]
    Certificates,
    #[error("TLS cannot be prepared")]
    Tls,
}

/// A collector that takes OTLP over HTTP.
#[derive(Debug, Clone)]
pub struct Collector {
    client: reqwest::Client,
    url: Url,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The collector took it, but for so many spans.
    Taken { rejected: u64 },
    /// The collector does not want it, or was away for too long.
    Lost(&'static str),
}

/// What one attempt came to.
enum Attempt {
    Done(Delivery),
    Again { why: &'static str, after: Option<Duration> },
}

impl Collector {
    /// `headers` are sent with every request; their values may be secret. `ca_pem` replaces the
    /// system's authorities.
    ///
    /// # Errors
    /// [`CollectorError`]: the configuration is to blame.
    pub fn new(
        endpoint: &str,
        headers: impl IntoIterator<Item = (String, String)>,
        ca_pem: Option<&str>,
    ) -> Result<Self, CollectorError> {
        let url =
            traces_url(endpoint).ok_or_else(|| CollectorError::Endpoint(endpoint.to_owned()))?;
        let mut sent = HeaderMap::new();
        for (name, value) in headers {
            let header = name.parse::<HeaderName>().ok();
            let mut value = HeaderValue::from_str(&value).ok();
            if let Some(value) = &mut value {
                value.set_sensitive(true);
            }
            match (header, value) {
                (Some(header), Some(value)) => drop(sent.insert(header, value)),
                _ => return Err(CollectorError::Header(name)),
            }
        }
        sent.insert(CONTENT_TYPE, PROTOBUF);
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(bounds::REQUEST_DEADLINE)
            .default_headers(sent)
            .user_agent(concat!("corral/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = ca_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|_| CollectorError::Certificates)?;
            if certificates.is_empty() {
                return Err(CollectorError::Certificates);
            }
            builder = builder.tls_certs_only(certificates);
        }
        if url.scheme() == "http" {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|_| CollectorError::Tls)?;
        Ok(Self { client, url })
    }

    /// Delivers a batch, or gives it up.
    ///
    /// # Limits
    /// [`bounds::RETRY_FOR`] for all attempts, [`bounds::REQUEST_DEADLINE`] for each.
    pub(crate) async fn deliver(self, batch: Bytes) -> Delivery {
        let give_up = Instant::now() + bounds::RETRY_FOR;
        let mut pause = bounds::RETRY_FIRST;
        loop {
            let (why, after) = match self.attempt(batch.clone()).await {
                Attempt::Done(delivery) => return delivery,
                Attempt::Again { why, after } => (why, after),
            };
            let wait = after.unwrap_or(pause).min(bounds::RETRY_INTERVAL_MAX);
            if Instant::now() + wait >= give_up {
                return Delivery::Lost(why);
            }
            sleep(wait).await;
            pause = pause.saturating_mul(2);
        }
    }

    async fn attempt(&self, batch: Bytes) -> Attempt {
        let sent = self.client.post(self.url.clone()).body(batch).send().await;
        let Ok(response) = sent else {
            return Attempt::Again { why: "it cannot be reached", after: None };
        };
        let status = response.status();
        if status.is_success() {
            return Attempt::Done(Delivery::Taken { rejected: rejected(response).await });
        }
        // OTLP specification, "Retryable Response Codes": these four, and no others.
        match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                let after = response.headers().get(RETRY_AFTER);
                let seconds = after.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
                let after = seconds.map(|seconds| Duration::from_secs(seconds.max(1)));
                Attempt::Again { why: "it has no room", after }
            }
            _ => Attempt::Done(Delivery::Lost("it refuses them")),
        }
    }
}

/// Spans that the collector did not take. What cannot be read says nothing of any.
async fn rejected(mut response: reqwest::Response) -> u64 {
    let mut answer: Vec<u8> = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        if answer.len() + chunk.len() > bounds::ANSWER_BYTES_MAX {
            return 0;
        }
        answer.extend_from_slice(&chunk);
    }
    let answer = ExportTraceServiceResponse::decode(answer.as_slice()).unwrap_or_default();
    let rejected = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
    u64::try_from(rejected).unwrap_or_default()
}

/// https, or http on loopback; no user, no query, no fragment.
fn traces_url(endpoint: &str) -> Option<Url> {
    let mut url = Url::parse(endpoint).ok()?;
    let bare = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    let is_loopback =
        bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback);
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !is_safe || !is_plain {
        return None;
    }
    let path = format!("{}/{TRACES}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_go_below_the_endpoint() {
        let check = |endpoint: &str, expect: Option<&str>| {
            assert_eq!(traces_url(endpoint).as_ref().map(Url::as_str), expect, "{endpoint}");
        };
        let traces = "https://collector:4318/v1/traces";
        check("https://collector:4318", Some(traces));
        check("https://collector:4318/", Some(traces));
        check("https://c.example/otlp/", Some("https://c.example/otlp/v1/traces"));
        check("http://127.0.0.1:4318", Some("http://127.0.0.1:4318/v1/traces"));
        check("http://[::1]:4318", Some("http://[::1]:4318/v1/traces"));
        check("http://collector:4318", None);
        check("https://me:secret@collector:4318", None);
        check("https://collector:4318/?key=x", None);
        check("collector:4318", None);
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_its_secret() {
        let headers = [("authorization".to_owned(), "a\nb".to_owned())];
        let error = Collector::new("https://c", headers, None).expect_err("no value");
        assert_eq!(error.to_string().matches("a\nb").count(), 0);
        assert!(error.to_string().contains("authorization"));
        let none: [(String, String); 0] = [];
        assert!(matches!(
            Collector::new("https://c", none, Some("no certificate")),
            Err(CollectorError::Certificates)
        ));
    }
}
