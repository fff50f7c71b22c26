//! Asks, within bounds, and tells what kind of answer came.

use std::time::Duration;

use corral_model::limits;
use corral_model::resource::JobApiKind;
use corral_model::secret::Secret;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::platforms::{JobState, Question};
use crate::fetch::{self, Bounds, FetchError};

const BOUNDS: Bounds =
    Bounds { bytes_max: limits::JOB_POLL_BYTES_MAX, deadline: limits::JOB_POLL_DEADLINE };

/// Where an API is, and how it is spoken with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobApiOptions {
    pub kind: JobApiKind,
    pub api: String,
    /// Certificates that are trusted for it, PEM; None: the system's.
    pub ca_pem: Option<String>,
}

/// The API of one CI system.
#[derive(Debug, Clone)]
pub struct JobApi {
    kind: JobApiKind,
    api: Url,
    client: reqwest::Client,
}

/// What an API told of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Its state, and the tag by which the next question may ask for changes only.
    State { state: JobState, etag: Option<String> },
    /// The same as with the tag that was sent.
    Unchanged,
    /// There is no such job, or none that the token may see.
    Gone,
}

/// Why nothing was told of a job.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The API is to blame, or the configuration: 401 and 403 are about the token.
    #[error("{url}: answered {status}")]
    Status { url: String, status: u16, retry_after: Option<Duration> },
    /// The API is to blame.
    #[error("{url}: the answer does not count: {why}")]
    Answer { url: String, why: &'static str },
    /// The configuration is to blame.
    #[error("poll.token has characters that no header may have")]
    Token,
}

impl AskError {
    /// Whether the next question would fare no better, whatever job it is about.
    #[must_use]
    pub fn is_of_api(&self) -> bool {
        match self {
            Self::Fetch(_) | Self::Status { .. } | Self::Token => true,
            Self::Answer { .. } => false,
        }
    }

    /// How long the API asks to be left alone.
    ///
    /// # Limits
    /// [`limits::JOB_POLL_RETRY_AFTER_MAX`].
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Fetch(_) | Self::Answer { .. } | Self::Token => None,
        }
    }
}

impl JobApi {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// [`FetchError::BadUrl`], [`FetchError::BadCertificates`]: the configuration is to blame.
    pub fn new(options: &JobApiOptions) -> Result<Self, FetchError> {
        let api = fetch::usable_url(&options.api)?;
        let client = fetch::client(options.ca_pem.as_deref(), &api, BOUNDS.deadline)?;
        Ok(Self { kind: options.kind, api, client })
    }

    /// Asks about one job. `etag` is what an earlier answer to the same question came with.
    ///
    /// # Errors
    /// [`AskError`]: then nothing is known of the job.
    ///
    /// # Limits
    /// [`limits::JOB_POLL_DEADLINE`], [`limits::JOB_POLL_BYTES_MAX`]; redirects are not followed.
    pub async fn ask(
        &self,
        question: &Question,
        token: &Secret,
        etag: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<Told, AskError> {
        let no_path = || FetchError::BadUrl(self.api.to_string());
        let url = question.url(&self.api).ok_or_else(no_path)?;
        let mut headers = self.headers(token).ok_or(AskError::Token)?;
        if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
            headers.insert(header::IF_NONE_MATCH, etag);
        }
        let had_tag = headers.contains_key(header::IF_NONE_MATCH);
        let request = self.client.get(url.clone()).headers(headers);
        let answer = fetch::send(request, &url, BOUNDS).await?;
        match answer.status {
            StatusCode::OK => {
                let wrong = |why| AskError::Answer { url: url.to_string(), why };
                let state = question.read(&answer.body).map_err(wrong)?;
                let etag = answer.headers.get(header::ETAG);
                let etag = etag.and_then(|etag| etag.to_str().ok()).map(str::to_owned);
                Ok(Told::State { state, etag })
            }
            StatusCode::NOT_MODIFIED if had_tag => Ok(Told::Unchanged),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Told::Gone),
            status => Err(AskError::Status {
                url: url.to_string(),
                status: status.as_u16(),
                retry_after: retry_after(&answer.headers, now),
            }),
        }
    }

    /// How each API is shown its token. None: it has characters that no header may have.
    fn headers(&self, token: &Secret) -> Option<HeaderMap> {
        let (name, text) = match self.kind {
            JobApiKind::Gitlab => (HeaderName::from_static("private-token"), token.reveal().into()),
            JobApiKind::Circleci => {
                (HeaderName::from_static("circle-token"), token.reveal().into())
            }
            JobApiKind::Github | JobApiKind::Buildkite => {
                (header::AUTHORIZATION, format!("Bearer {}", token.reveal()))
            }
        };
        let text: zeroize::Zeroizing<String> = zeroize::Zeroizing::new(text);
        let mut shown = HeaderValue::from_str(&text).ok()?;
        shown.set_sensitive(true);
        let accepted = match self.kind {
            JobApiKind::Github => "application/vnd.github+json",
            JobApiKind::Gitlab | JobApiKind::Buildkite | JobApiKind::Circleci => "application/json",
        };
        let mut headers = HeaderMap::new();
        headers.insert(name, shown);
        headers.insert(header::ACCEPT, HeaderValue::from_static(accepted));
        if self.kind == JobApiKind::Github {
            let version = HeaderName::from_static("x-github-api-version");
            headers.insert(version, HeaderValue::from_static("2022-11-28"));
        }
        Some(headers)
    }
}

/// RFC 9110 section 10.2.3; without it GitHub's own words for the same, which count once nothing
/// remains (<https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api>).
fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let until = |at: OffsetDateTime| Duration::try_from(at - now).unwrap_or_default();
    let asked = match text("retry-after") {
        Some(asked) => match asked.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => OffsetDateTime::parse(asked, &Rfc2822).ok().map(until),
        },
        None if text("x-ratelimit-remaining") == Some("0") => {
            let reset: Option<i64> = text("x-ratelimit-reset").and_then(|at| at.parse().ok());
            reset.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok()).map(until)
        }
        None => None,
    };
    asked.map(|asked| asked.min(limits::JOB_POLL_RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_is_left_alone_for_as_long_as_it_asks_and_no_longer_than_an_hour() {
        let now = OffsetDateTime::from_unix_timestamp(784_111_777).expect("a time");
        let check = |pairs: &[(&'static str, &'static str)], seconds: Option<u64>| {
            let pairs = pairs.iter().map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            let found = retry_after(&pairs.collect(), now);
            assert_eq!(found, seconds.map(Duration::from_secs));
        };
        check(&[], None);
        check(&[("retry-after", "120")], Some(120));
        check(&[("retry-after", "99999999999999")], Some(3600));
        check(&[("retry-after", "99999999999999999999999")], None);
        check(&[("retry-after", "-1")], None);
        check(&[("retry-after", "soon")], None);
        // The example of RFC 9110 section 5.6.7, a minute and an hour later.
        check(&[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")], Some(60));
        check(&[("retry-after", "Sun, 06 Nov 1994 08:40:37 GMT")], Some(0));
        let left = ("x-ratelimit-remaining", "0");
        check(&[left, ("x-ratelimit-reset", "784111807")], Some(30));
        check(&[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "784111807")], None);
        check(&[left], None);
    }

    #[test]
    fn a_token_is_shown_as_each_api_wants_it_and_never_printed() {
        let check = |kind: JobApiKind, name: &str, shown: &str| {
            let api = "https://api.example".to_owned();
            let api = JobApi::new(&JobApiOptions { kind, api, ca_pem: None }).expect("a client");
            let headers = api.headers(&Secret::new("hunter2".to_owned())).expect("a token");
            assert_eq!(headers.get(name).and_then(|value| value.to_str().ok()), Some(shown));
            assert!(!format!("{headers:?}").contains("hunter2"));
            assert!(api.headers(&Secret::new("a\nb".to_owned())).is_none());
        };
        check(JobApiKind::Github, "authorization", "Bearer hunter2");
        check(JobApiKind::Gitlab, "private-token", "hunter2");
        check(JobApiKind::Buildkite, "authorization", "Bearer hunter2");
        check(JobApiKind::Circleci, "circle-token", "hunter2");
    }
}
