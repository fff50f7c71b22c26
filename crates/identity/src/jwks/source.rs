//! Keeps one issuer's keys and decides when it is asked again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corral_model::limits;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use reqwest::Url;
use time::OffsetDateTime;

use super::fetch::{self, Discovery, JwksError};
use crate::fetch::{FetchError, usable_url};
use crate::jwt::{Claims, JwtError, KeySet, Rules, Unverified};

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySourceOptions {
    /// Exactly as `iss` has it.
    pub issuer: String,
    /// Where its keys are; None: where its configuration document says.
    pub jwks_uri: Option<String>,
    /// Certificates that are trusted for it, PEM; None: the system's.
    pub ca_pem: Option<String>,
}

/// Why a token of this issuer was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VerifyError {
    /// The token is to blame.
    #[error(transparent)]
    Token(#[from] JwtError),
    /// The issuer is to blame, or the way to it.
    #[error("the issuer's keys are not known: {0}")]
    Keys(#[from] JwksError),
}

/// What one fetch gives.
#[derive(Debug, Clone)]
struct Fetched {
    keys: Arc<KeySet>,
    /// None where only the keys' address is known.
    discovery: Option<Arc<Discovery>>,
}

type Fetch = Shared<BoxFuture<'static, Result<Fetched, JwksError>>>;

/// A fetch that somebody began. Whoever waits drives it; nobody owns it.
#[derive(Clone)]
struct Running {
    fetch: Fetch,
    began_at: OffsetDateTime,
}

#[derive(Default)]
struct State {
    known: Option<(Fetched, OffsetDateTime)>,
    running: Option<Running>,
    asked_at: Option<OffsetDateTime>,
    /// Why the last fetch gave nothing.
    failed: Option<JwksError>,
}

/// The keys of one issuer. Shared by everybody who verifies its tokens.
pub struct KeySource {
    issuer: String,
    jwks_uri: Option<Url>,
    client: reqwest::Client,
    state: Mutex<State>,
}

impl std::fmt::Debug for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySource").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl KeySource {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// [`FetchError::BadUrl`], [`FetchError::BadCertificates`]: the configuration is to blame.
    pub fn new(options: &KeySourceOptions) -> Result<Self, JwksError> {
        let issuer = usable_url(&options.issuer)?;
        let jwks_uri = options.jwks_uri.as_deref().map(usable_url).transpose()?;
        let client =
            fetch::client(options.ca_pem.as_deref(), jwks_uri.as_ref().unwrap_or(&issuer))?;
        Ok(Self { issuer: options.issuer.clone(), jwks_uri, client, state: Mutex::default() })
    }

    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The client that is used for this issuer: with its certificates, without redirects, with a
    /// deadline of [`limits::JWKS_DEADLINE`].
    #[must_use]
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Verifies a token with this issuer's keys. `rules` should name this issuer.
    ///
    /// # Errors
    /// [`VerifyError`].
    ///
    /// # Limits
    /// Waits for the issuer at most [`limits::JWKS_DEADLINE`], and only when the token names a key
    /// that is not known, or the keys are old.
    pub async fn verify(
        &self,
        token: &str,
        rules: &Rules<'_>,
        now: OffsetDateTime,
    ) -> Result<Claims, VerifyError> {
        let unverified = Unverified::parse(token)?;
        let known = self.usable(now).await?;
        match known.keys.find(unverified.header()) {
            Ok(_) => Ok(unverified.verify(&known.keys, rules, now)?),
            Err(JwtError::UnknownKey) => {
                let newer = self.ask_again(&known, now).await?;
                Ok(unverified.verify(&newer.keys, rules, now)?)
            }
            Err(other) => Err(other.into()),
        }
    }

    /// What the issuer says of itself.
    ///
    /// # Errors
    /// [`JwksError`]; [`JwksError::BadEndpoint`] when only the address of its keys is configured.
    pub async fn discovery(&self, now: OffsetDateTime) -> Result<Arc<Discovery>, JwksError> {
        let known = self.usable(now).await?;
        let url = || self.issuer.clone();
        known.discovery.ok_or_else(|| JwksError::BadEndpoint { url: url(), member: "issuer" })
    }

    /// Keys that may be used at this time. Old ones are asked for again by whoever comes first;
    /// the others use what is known meanwhile.
    async fn usable(&self, now: OffsetDateTime) -> Result<Fetched, JwksError> {
        let running = {
            let mut state = self.lock();
            match state.known_within(limits::JWKS_AGE_MAX, now) {
                Some(known) if state.known_within(limits::JWKS_FRESH, now).is_some() => {
                    return Ok(known);
                }
                Some(known) if state.running_at(now).is_some() => return Ok(known),
                Some(known) => match self.begin(&mut state, now) {
                    Some(running) => running,
                    None => return Ok(known),
                },
                None => self.join_or_begin(&mut state, now)?,
            }
        };
        match self.finish(running, now).await {
            Ok(fetched) => Ok(fetched),
            Err(error) => self.lock().known_within(limits::JWKS_AGE_MAX, now).ok_or(error),
        }
    }

    /// Keys after a token named one that these do not hold.
    async fn ask_again(
        &self,
        known: &Fetched,
        now: OffsetDateTime,
    ) -> Result<Fetched, VerifyError> {
        let running = {
            let mut state = self.lock();
            match &state.known {
                // Somebody else asked meanwhile.
                Some((newer, _)) if !Arc::ptr_eq(&newer.keys, &known.keys) => {
                    return Ok(newer.clone());
                }
                Some(_) | None => match self.join_or_begin(&mut state, now) {
                    Ok(running) => running,
                    // What is known was read a moment ago: the key is not published.
                    Err(_) if state.failed.is_none() => return Err(JwtError::UnknownKey.into()),
                    Err(error) => return Err(error.into()),
                },
            }
        };
        Ok(self.finish(running, now).await?)
    }

    fn join_or_begin(&self, state: &mut State, now: OffsetDateTime) -> Result<Running, JwksError> {
        if let Some(running) = state.running_at(now) {
            return Ok(running);
        }
        self.begin(state, now).ok_or_else(|| match &state.failed {
            Some(error) => error.clone(),
            None => JwksError::AskedJustNow { issuer: self.issuer.clone() },
        })
    }

    /// Begins a fetch, unless one began a moment ago.
    fn begin(&self, state: &mut State, now: OffsetDateTime) -> Option<Running> {
        if state.asked_at.is_some_and(|at| is_within(at, limits::JWKS_INTERVAL, now)) {
            return None;
        }
        let (client, issuer) = (self.client.clone(), self.issuer.clone());
        let jwks_uri = self.jwks_uri.clone();
        let work = async move {
            let url = jwks_uri.as_ref().map_or_else(|| issuer.clone(), Url::to_string);
            let both = async {
                let (discovery, jwks_uri) = match jwks_uri {
                    Some(jwks_uri) => (None, jwks_uri),
                    None => {
                        let discovery = fetch::discovery(&client, &issuer).await?;
                        let jwks_uri = discovery.jwks_uri.clone();
                        (Some(Arc::new(discovery)), jwks_uri)
                    }
                };
                let keys = Arc::new(fetch::keys(&client, &jwks_uri).await?);
                Ok(Fetched { keys, discovery })
            };
            let in_time = tokio::time::timeout(limits::JWKS_DEADLINE, both).await;
            let deadline = limits::JWKS_DEADLINE;
            in_time.unwrap_or(Err(FetchError::TooSlow { url, deadline }.into()))
        };
        let running = Running { fetch: work.boxed().shared(), began_at: now };
        state.asked_at = Some(now);
        state.running = Some(running.clone());
        Some(running)
    }

    /// Drives a fetch to its end, together with whoever else waits for it.
    async fn finish(&self, running: Running, now: OffsetDateTime) -> Result<Fetched, JwksError> {
        let result = running.fetch.clone().await;
        let mut state = self.lock();
        let is_current =
            state.running.as_ref().is_some_and(|other| other.fetch.ptr_eq(&running.fetch));
        // The first who hears the answer keeps it.
        if is_current {
            state.running = None;
            match &result {
                Ok(fetched) => {
                    state.known = Some((fetched.clone(), now));
                    state.failed = None;
                }
                Err(error) => state.failed = Some(error.clone()),
            }
        }
        result
    }

    /// Nothing panics while it is held, and every change is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn known_within(&self, age: Duration, now: OffsetDateTime) -> Option<Fetched> {
        let (fetched, read_at) = self.known.as_ref()?;
        is_within(*read_at, age, now).then(|| fetched.clone())
    }

    /// The fetch that runs, unless everybody who waited for it left long ago.
    fn running_at(&self, now: OffsetDateTime) -> Option<Running> {
        let running = self.running.as_ref()?;
        is_within(running.began_at, 2 * limits::JWKS_DEADLINE, now).then(|| running.clone())
    }
}

/// Whether `at` is less than this long ago. A clock that was set back makes everything old; who
/// looked at the clock a moment before somebody else asked did not see it set back.
fn is_within(at: OffsetDateTime, span: Duration, now: OffsetDateTime) -> bool {
    at <= now + limits::JWKS_DEADLINE && now < at + span
}
