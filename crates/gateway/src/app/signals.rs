//! What a provider's transmitter says happened (CAEP, RISC), and global token revocation: who is
//! meant, and what ends by it.
//!
//! Whoever is not known here is no error: it is recorded, and nothing happens. An event is taken
//! once by its `jti`, which is noted after its effect, so that a transmitter that got no answer
//! is heard again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use corral_identity::jwks::{JwksError, KeySource, KeySourceOptions, VerifyError};
use corral_identity::jwt::{Claims, Expiry, JwtError, Rules, SeveralAudiences, Unverified};
use corral_identity::signals::{self, Effect, Signal, Subject};
use corral_identity::token::{digest_of, is_same};
use corral_model::event::{EventBody, Origin};
use corral_model::ids::{GroupName, PrincipalName};
use corral_model::resource::{IdentityProviderSpec, ProviderSecret, SignalsSpec, UserSpec};
use corral_model::{OffboardCause, OffboardEffect, Offboarding, Secret, limits};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::bad_deliveries::Weight;
use super::sign_in::groups_of;
use super::{App, AppError};

/// The keys of every provider's transmitter, by issuer and address.
#[derive(Debug, Default)]
pub(super) struct Transmitters(Mutex<BTreeMap<(String, String), Arc<KeySource>>>);

impl Transmitters {
    /// Forgets transmitters that no provider names any more.
    pub(super) fn follow<'s>(&self, signals: impl Iterator<Item = &'s SignalsSpec>) {
        let known: Vec<(String, String)> = signals.map(key).collect();
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|source, _| known.contains(source));
    }

    /// The keys of a transmitter; asks nobody yet.
    fn of(&self, signals: &SignalsSpec) -> Result<Arc<KeySource>, JwksError> {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sources.get(&key(signals)) {
            return Ok(known.clone());
        }
        let source = Arc::new(KeySource::new(&KeySourceOptions {
            issuer: signals.issuer.clone(),
            jwks_uri: Some(signals.jwks_uri.clone()),
            ca_pem: None,
        })?);
        sources.insert(key(signals), source.clone());
        Ok(source)
    }
}

fn key(signals: &SignalsSpec) -> (String, String) {
    (signals.issuer.clone(), signals.jwks_uri.clone())
}

/// Why an event was not taken (RFC 8935 section 2.4). Each text may be sent to the transmitter.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    #[error("{0}")]
    InvalidRequest(String),
    #[error("{0}")]
    InvalidKey(String),
    #[error("the issuer is not the transmitter of an identity provider")]
    InvalidIssuer,
    #[error("the token is for another audience")]
    InvalidAudience,
    #[error("{0}")]
    Unauthenticated(String),
    #[error("too many pushes that cannot be verified; stop for a minute")]
    TooMany,
    /// Nobody of this subject is known; an event about one is no error.
    #[error("nobody is known by this subject")]
    UnknownSubject,
    /// The gateway is to blame, or the way to the transmitter's keys: it is worth asking again.
    #[error("{0}")]
    Unavailable(String),
}

impl From<AppError> for SignalError {
    fn from(error: AppError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<VerifyError> for SignalError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Token(error) => Self::from(error),
            VerifyError::Keys(error) => {
                tracing::warn!(%error, "the keys of a transmitter are not known");
                Self::Unavailable("the transmitter's keys cannot be read; try again".to_owned())
            }
        }
    }
}

impl From<JwtError> for SignalError {
    fn from(error: JwtError) -> Self {
        match error {
            JwtError::Issuer => Self::InvalidIssuer,
            JwtError::Audience | JwtError::SeveralAudiences => Self::InvalidAudience,
            JwtError::Algorithm
            | JwtError::UnknownKey
            | JwtError::AmbiguousKey
            | JwtError::KeyMismatch
            | JwtError::Signature => Self::InvalidKey(error.to_string()),
            other => Self::InvalidRequest(other.to_string()),
        }
    }
}

impl App {
    /// Takes a security event token that was pushed, with the bearer token that came with it.
    ///
    /// # Errors
    /// [`SignalError`].
    pub async fn take_event(
        &self,
        bearer: Option<&Secret>,
        token: &str,
        from: Option<IpAddr>,
    ) -> Result<(), SignalError> {
        let (provider, claims) = match self.verified_event(bearer, token).await {
            Ok(verified) => verified,
            Err(error) => {
                let issuer = Unverified::parse(token)
                    .ok()
                    .and_then(|token| token.claimed().issuer().map(ToOwned::to_owned));
                let provider = issuer.as_deref().and_then(|issuer| self.provider_of(issuer));
                return Err(self.refuse_push("an event", provider.as_ref(), issuer, error, from));
            }
        };
        let scope = format!("event {}", provider.name);
        let id = claims.id().ok_or_else(|| missing("jti"))?.to_owned();
        if self.store.was_taken(&scope, &id).await.map_err(AppError::from)? {
            return Ok(());
        }
        let read = signals::read(claims.as_map());
        let read = read.map_err(|error| SignalError::InvalidRequest(error.to_string()))?;
        for signal in &read {
            self.follow_signal(&provider, signal).await?;
        }
        self.remember(&scope, &id).await
    }

    /// Whose transmitter an event is of, and what it says.
    async fn verified_event(
        &self,
        bearer: Option<&Secret>,
        token: &str,
    ) -> Result<(IdentityProviderSpec, Claims), SignalError> {
        let claimed = Unverified::parse(token).map_err(SignalError::from)?;
        let issuer = claimed.claimed().issuer().map(ToOwned::to_owned);
        let issuer = issuer.ok_or_else(|| missing("iss"))?;
        let provider = self.provider_of(&issuer).ok_or(SignalError::InvalidIssuer)?;
        let signals = provider.signals.as_ref().ok_or(SignalError::InvalidIssuer)?;
        self.check_bearer(&provider, bearer).await?;
        let rules = Rules {
            types: &["secevent+jwt"],
            several: SeveralAudiences::Allow,
            expiry: Expiry::Optional,
            age_max: Some(limits::SIGNAL_AGE_MAX),
            required: &["jti", "iat", "events"],
            ..Rules::new(&signals.issuer, &signals.audience)
        };
        let claims = self.verify_signal(signals, token, &rules).await?;
        Ok((provider, claims))
    }

    /// The provider whose transmitter has this issuer.
    fn provider_of(&self, issuer: &str) -> Option<IdentityProviderSpec> {
        let config = self.config();
        let is_it = |provider: &&IdentityProviderSpec| {
            provider.signals.as_ref().is_some_and(|signals| signals.issuer == issuer)
        };
        config.providers.values().find(is_it).cloned()
    }

    /// Counts a push that cannot be verified, and records it unless it belongs to a burst. Of an
    /// issuer that is no provider's nothing is recorded.
    fn refuse_push(
        &self,
        what: &str,
        provider: Option<&IdentityProviderSpec>,
        claimed: Option<String>,
        error: SignalError,
        from: Option<IpAddr>,
    ) -> SignalError {
        if matches!(error, SignalError::Unavailable(_)) {
            return error;
        }
        let weight = self.count_bad_push("push", &claimed.unwrap_or_default(), from);
        if let Some(provider) = provider {
            let reason = format!("{what} is not taken: {error}");
            self.note_bad_push(weight, provider.name.as_str(), None, reason, from);
        }
        match weight {
            Weight::Single => error,
            Weight::Burst | Weight::Silent => SignalError::TooMany,
        }
    }

    /// Takes back everything that a subject was given (draft-parecki-oauth-global-token-revocation):
    /// the person is suspended until the next sign-in. `bearer` is the token of the provider's
    /// transmitter, or a JWT of it.
    ///
    /// # Errors
    /// [`SignalError`].
    pub async fn revoke_globally(
        &self,
        bearer: &Secret,
        subject: &Value,
        from: Option<IpAddr>,
    ) -> Result<(), SignalError> {
        let (provider, used) = match self.revoking_provider(bearer).await {
            Ok(verified) => verified,
            Err(error) => return Err(self.refuse_push("a revocation", None, None, error, from)),
        };
        let subjects = Subject::read(subject)
            .map_err(|error| SignalError::InvalidRequest(error.to_string()))?;
        if subjects.is_empty() {
            let text = "the format of the subject is not read here; use email, iss_sub or opaque";
            return Err(SignalError::InvalidRequest(text.to_owned()));
        }
        let people = self.people_meant(&provider, &subjects);
        let by = format!("revocation {}", provider.name);
        for person in &people {
            let (person, by) = (person.clone(), by.clone());
            let (effect, cause) = (OffboardEffect::Suspended, OffboardCause::Revoked);
            self.offboard(Offboarding { person, effect, cause, by }).await?;
        }
        let event = "global-token-revocation".to_owned();
        self.note_signal(&provider, event, Effect::Suspend, &people);
        if let Some(id) = used {
            self.remember(&format!("revocation {}", provider.name), &id).await?;
        }
        if people.is_empty() { Err(SignalError::UnknownSubject) } else { Ok(()) }
    }

    /// Whose transmitter asks for a revocation, and the `jti` that is used up by it.
    async fn revoking_provider(
        &self,
        bearer: &Secret,
    ) -> Result<(IdentityProviderSpec, Option<String>), SignalError> {
        let refused = || SignalError::Unauthenticated("this token is no provider's".to_owned());
        let config = self.config();
        let mut by_token: Option<IdentityProviderSpec> = None;
        for provider in config.providers.values().filter(|provider| provider.signals.is_some()) {
            if self.is_signals_token(provider, bearer).await? == Some(true) {
                by_token = Some(provider.clone());
            }
        }
        if let Some(provider) = by_token {
            return Ok((provider, None));
        }
        let claimed = Unverified::parse(bearer.reveal()).map_err(|_| refused())?;
        let issuer = claimed.claimed().issuer().unwrap_or_default();
        let of_issuer = config.providers.values().find_map(|provider| {
            let signals = provider.signals.as_ref()?;
            (signals.issuer == issuer).then_some((provider, signals))
        });
        let (provider, signals) = of_issuer.ok_or_else(refused)?;
        let rules = Rules {
            types: &["global-token-revocation+jwt", "jwt"],
            age_max: Some(limits::REVOCATION_AGE_MAX),
            required: &["jti", "iat"],
            ..Rules::new(&signals.issuer, &signals.audience)
        };
        let claims = match self.verify_signal(signals, bearer.reveal(), &rules).await {
            Ok(claims) => claims,
            Err(error @ SignalError::Unavailable(_)) => return Err(error),
            Err(error) => return Err(SignalError::Unauthenticated(error.to_string())),
        };
        let id = claims.id().ok_or_else(refused)?.to_owned();
        let scope = format!("revocation {}", provider.name);
        if self.store.was_taken(&scope, &id).await.map_err(AppError::from)? {
            return Err(SignalError::Unauthenticated("this token was used before".to_owned()));
        }
        Ok((provider.clone(), Some(id)))
    }

    async fn verify_signal(
        &self,
        signals: &SignalsSpec,
        token: &str,
        rules: &Rules<'_>,
    ) -> Result<Claims, SignalError> {
        let keys = self.transmitters.of(signals).map_err(VerifyError::from)?;
        Ok(keys.verify(token, rules, OffsetDateTime::now_utc()).await?)
    }

    /// Where a provider's transmitter has a bearer token, it must be shown.
    async fn check_bearer(
        &self,
        provider: &IdentityProviderSpec,
        bearer: Option<&Secret>,
    ) -> Result<(), SignalError> {
        let nothing = Secret::new(String::new());
        match self.is_signals_token(provider, bearer.unwrap_or(&nothing)).await? {
            None | Some(true) => Ok(()),
            Some(false) => {
                let text = "this needs the bearer token of the provider's transmitter";
                Err(SignalError::Unauthenticated(text.to_owned()))
            }
        }
    }

    /// None when the provider's transmitter has no token.
    async fn is_signals_token(
        &self,
        provider: &IdentityProviderSpec,
        shown: &Secret,
    ) -> Result<Option<bool>, SignalError> {
        let secret = self.store.provider_secret(&provider.name, ProviderSecret::Signals).await;
        let secret = secret.map_err(AppError::from)?;
        let shown = digest_of(shown.reveal());
        Ok(secret.map(|secret| is_same(&digest_of(secret.reveal()), &shown)))
    }

    async fn follow_signal(
        &self,
        provider: &IdentityProviderSpec,
        signal: &Signal,
    ) -> Result<(), SignalError> {
        let people = match signal.effect {
            Effect::Nothing => Vec::new(),
            Effect::Suspend | Effect::Reevaluate | Effect::Disable | Effect::Reinstate => {
                self.people_meant(provider, &signal.subjects)
            }
        };
        let by = format!("signal {}", provider.name);
        let cause = OffboardCause::Signal;
        let (effect, groups) = match (signal.effect, changed(provider, &signal.claims)) {
            (Effect::Reevaluate, Changed::Groups(groups)) => (Effect::Reevaluate, groups),
            (Effect::Reevaluate, Changed::NothingHere) => (Effect::Nothing, Vec::new()),
            (Effect::Reevaluate, Changed::Unclear) => (Effect::Suspend, Vec::new()),
            (effect, _) => (effect, Vec::new()),
        };
        for person in &people {
            let effect = match effect {
                Effect::Suspend => OffboardEffect::Suspended,
                Effect::Reevaluate => {
                    self.take_groups_over(person, &by, cause, groups.clone()).await?;
                    continue;
                }
                Effect::Disable => OffboardEffect::Disabled,
                Effect::Reinstate if self.is_inactive_by_scim(provider, person) => continue,
                Effect::Reinstate => {
                    self.reinstate(person, cause, &by).await?;
                    continue;
                }
                Effect::Nothing => continue,
            };
            let (person, by) = (person.clone(), by.clone());
            self.offboard(Offboarding { person, effect, cause, by }).await?;
        }
        self.note_signal(provider, signal.event.clone(), effect, &people);
        Ok(())
    }

    fn note_signal(
        &self,
        provider: &IdentityProviderSpec,
        signal: String,
        effect: Effect,
        people: &[PrincipalName],
    ) {
        let effect = match (effect, people) {
            (Effect::Nothing, _) | (_, []) => "none",
            (Effect::Suspend, _) => "suspended",
            (Effect::Reevaluate, _) => "reevaluated",
            (Effect::Disable, _) => "disabled",
            (Effect::Reinstate, _) => "reinstated",
        };
        let body = EventBody::SignalReceived {
            provider: provider.name.to_string(),
            signal,
            effect: effect.to_owned(),
            people: people.iter().map(ToString::to_string).collect(),
        };
        self.note(Origin::default(), body);
    }

    /// The provider's people whom one of the subjects means.
    fn people_meant(
        &self,
        provider: &IdentityProviderSpec,
        subjects: &[Subject],
    ) -> Vec<PrincipalName> {
        let users = &self.config().users;
        let mut meant: BTreeSet<PrincipalName> = BTreeSet::new();
        for subject in subjects {
            let key = match subject {
                Subject::Email(key) | Subject::IssSub { sub: key, .. } | Subject::Opaque(key) => {
                    key
                }
            };
            let written = self.scim_names_of(&provider.name, key);
            let written = written.iter().filter_map(|name| users.get(name));
            let known = users.of_subject(&provider.name, key).chain(users.in_any_case(key));
            let is_meant = |user: &&UserSpec| {
                user.signs_in_by() == Some(&provider.name)
                    && self.is_subject(provider, user, subject)
            };
            meant.extend(known.chain(written).filter(is_meant).map(|user| user.name.clone()));
        }
        meant.into_iter().collect()
    }

    fn is_subject(
        &self,
        provider: &IdentityProviderSpec,
        user: &UserSpec,
        subject: &Subject,
    ) -> bool {
        let own = user.identity.as_ref().and_then(|identity| identity.subject.as_deref());
        let written = self.scim_account(&provider.name, user.name.as_str());
        let has_id = |id: &str| {
            let is_written = |written: &super::scim::Account| {
                written.id == id || written.external_id.as_deref() == Some(id)
            };
            own == Some(id) || written.as_ref().is_some_and(is_written)
        };
        match subject {
            Subject::Email(email) => {
                let is_it = |other: &str| other.eq_ignore_ascii_case(email);
                let emails = written.as_ref().map(|written| written.emails.as_slice());
                is_it(user.name.as_str())
                    || emails.unwrap_or_default().iter().any(|other| is_it(other))
            }
            Subject::IssSub { iss, sub } => {
                let of_signals = provider.signals.as_ref().map(|signals| &signals.issuer);
                let of_oidc = provider.oidc.as_ref().map(|oidc| &oidc.issuer);
                (of_signals == Some(iss) || of_oidc == Some(iss)) && has_id(sub)
            }
            Subject::Opaque(id) => has_id(id),
        }
    }

    fn is_inactive_by_scim(&self, provider: &IdentityProviderSpec, person: &PrincipalName) -> bool {
        let written = self.scim_account(&provider.name, person.as_str());
        written.is_some_and(|written| !written.is_active)
    }

    async fn remember(&self, scope: &str, id: &str) -> Result<(), SignalError> {
        let now = OffsetDateTime::now_utc();
        let until = now + limits::SIGNAL_AGE_MAX + 2 * limits::JWT_LEEWAY;
        self.store.once(scope, id, until, now).await.map_err(AppError::from)?;
        Ok(())
    }
}

/// What it means here that claims of a person changed.
enum Changed {
    /// The person's groups are these, and nothing else is otherwise.
    Groups(Vec<GroupName>),
    /// Nothing: the gateway takes none of these claims from anywhere.
    NothingHere,
    /// It cannot be told.
    Unclear,
}

fn changed(provider: &IdentityProviderSpec, claims: &Map<String, Value>) -> Changed {
    let user_claim = provider.oidc.as_ref().map_or("sub", |oidc| oidc.user_claim.as_str());
    let groups_claim = provider.oidc.as_ref().and_then(|oidc| oidc.groups_claim.as_ref());
    let names_the_person = [user_claim, "sub", "email", "email_verified"]
        .iter()
        .any(|name| groups_claim.is_none_or(|groups| groups != name) && claims.contains_key(*name));
    let of_saml = provider.saml.as_ref().and_then(|saml| saml.groups_attribute.as_ref());
    if names_the_person || claims.is_empty() {
        return Changed::Unclear;
    }
    let Some(claim) = groups_claim else {
        // SCIM alone says the groups, and says the new ones by itself; another sign-in would
        // bring none.
        let is_scim_the_source = provider.scim.is_some() && of_saml.is_none();
        return if is_scim_the_source { Changed::NothingHere } else { Changed::Unclear };
    };
    let Some(groups) = claims.get(claim) else { return Changed::Unclear };
    match groups_of(provider, claim, Some(groups)) {
        Ok(groups) => Changed::Groups(groups),
        Err(why) => {
            tracing::info!(provider = %provider.name, why, "changed groups cannot be read");
            Changed::Unclear
        }
    }
}

fn missing(claim: &str) -> SignalError {
    SignalError::InvalidRequest(format!("the token has no {claim}"))
}
