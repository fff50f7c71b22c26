//! Whether people are still somebody at their provider: asked now and then with the grant of their
//! last sign-in, and told by the provider itself when a person's session there ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use corral_identity::jwt::Unverified;
use corral_identity::oidc::{Logout, OidcError};
use corral_model::ids::{PrincipalName, ResourceName};
use corral_model::resource::ProviderSecret;
use corral_model::{GroupName, OffboardCause, OffboardEffect, Offboarding, limits};
use corral_store::GrantRow;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::sign_in::vouched;
use super::{App, AppError};

/// Grants that are read from the store at once.
const BATCH_LEN_MAX: u32 = 1_000;
/// Shortest sleep between two looks, whatever the interval.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl App {
    /// Asks after people until it is dropped: each with a live login or run once in `interval`.
    /// Each provider has a round of its own, so that one that hangs delays nobody else's people.
    pub(crate) async fn watch_people(self: Arc<Self>, interval: Duration) {
        let pause = (interval / 10).clamp(LOOK_INTERVAL, Duration::from_secs(30));
        let mut running: BTreeSet<ResourceName> = BTreeSet::new();
        let mut rounds = FuturesUnordered::new();
        let mut look = Instant::now() + pause;
        loop {
            tokio::select! {
                Some(provider) = rounds.next(), if !rounds.is_empty() => {
                    running.remove(&provider);
                    continue;
                }
                () = tokio::time::sleep_until(look) => {}
            }
            look = Instant::now() + pause;
            let now = OffsetDateTime::now_utc();
            let due = self.store.grants_due(now - interval, now, &running, BATCH_LEN_MAX).await;
            let due = due.unwrap_or_else(|error| {
                tracing::error!(%error, "people cannot be asked after");
                Vec::new()
            });
            let mut by_provider: BTreeMap<ResourceName, Vec<GrantRow>> = BTreeMap::new();
            for grant in due {
                by_provider.entry(grant.provider.clone()).or_default().push(grant);
            }
            for (provider, grants) in by_provider {
                running.insert(provider.clone());
                let app = &self;
                rounds.push(async move {
                    let asks = grants.into_iter().map(|grant| app.ask_after(grant));
                    futures_util::stream::iter(asks)
                        .buffer_unordered(limits::IDENTITY_RECHECKS_MAX)
                        .for_each(|()| std::future::ready(()))
                        .await;
                    provider
                });
            }
        }
    }

    /// Asks a provider after one person, and acts on the answer.
    async fn ask_after(&self, mut grant: GrantRow) {
        let now = OffsetDateTime::now_utc();
        let answer = self.renew(&mut grant, now).await;
        let done = match answer {
            Ok(()) => self.store.grant_answered(&grant.person).await.map_err(AppError::from),
            Err(Unanswered::Refused(why)) => {
                tracing::info!(provider = %grant.provider, why, "a grant is over");
                self.refresh_failed(&grant).await
            }
            Err(Unanswered::Unknown(why)) => {
                tracing::warn!(provider = %grant.provider, why, "a person cannot be asked after");
                self.unanswered(&grant, now).await
            }
        };
        if let Err(error) = done {
            tracing::error!(%error, "what a provider said of a person is acted on later");
        }
    }

    /// `grant` is the one that is kept afterwards.
    async fn renew(&self, grant: &mut GrantRow, now: OffsetDateTime) -> Result<(), Unanswered> {
        let unknown = |error: AppError| Unanswered::Unknown(error.to_string());
        let of_store = |error: corral_store::StoreError| Unanswered::Unknown(error.to_string());
        let (provider, client) = self.oidc_client(grant.provider.as_str()).map_err(unknown)?;
        let secret = self.store.provider_secret(&provider.name, ProviderSecret::OidcClient);
        let secret = secret.await.map_err(of_store)?;
        let renewed = client.renew(&grant.refresh_token, secret.as_ref(), now).await;
        let renewed = renewed.map_err(|error| match error {
            OidcError::Refused => Unanswered::Refused("the provider refuses it".to_owned()),
            other => Unanswered::Unknown(other.to_string()),
        })?;
        // First of all: the provider may take the token that was shown only once.
        let given = renewed.refresh_token.as_ref();
        self.store.renew_grant(grant, given, now).await.map_err(of_store)?;
        if let Some(given) = renewed.refresh_token {
            grant.refresh_token = given;
        }
        let claims = renewed.claims.transpose();
        let claims = claims.map_err(|error| Unanswered::Unknown(error.to_string()))?;
        let Some((claims, oidc)) = claims.zip(provider.oidc.as_ref()) else {
            return Ok(());
        };
        let user = self.config().users.get(&grant.person).cloned();
        let identity = user.and_then(|user| user.identity);
        let is_same =
            identity.is_some_and(|identity| identity.subject.as_deref() == claims.subject());
        if !is_same {
            return Err(Unanswered::Refused("it is somebody else's".to_owned()));
        }
        let claims = client.complete(claims, &renewed.access_token, now).await;
        let claims = claims.map_err(|error| match error {
            OidcError::OtherSubject => Unanswered::Refused(error.to_string()),
            other => Unanswered::Unknown(other.to_string()),
        })?;
        // A renewed ID token may leave claims out; the groups count where they are named.
        let has_groups =
            oidc.groups_claim.as_ref().is_some_and(|claim| claims.get(claim).is_some());
        if has_groups {
            let vouched = vouched(&provider, oidc, &claims).map_err(Unanswered::Refused)?;
            if let Some(groups) = vouched.groups {
                let (by, cause) = (provider.name.to_string(), OffboardCause::RefreshFailed);
                self.take_groups_over(&grant.person, &by, cause, groups).await.map_err(unknown)?;
            }
        }
        Ok(())
    }

    /// Makes a person's groups those that a provider names.
    pub(super) async fn take_groups_over(
        &self,
        person: &PrincipalName,
        by: &str,
        cause: OffboardCause,
        groups: Vec<GroupName>,
    ) -> Result<(), AppError> {
        let author = super::resources::Author { by: by.to_owned(), cause };
        self.change_user(&author, person, |user| user.groups = groups).await.map(drop)
    }

    async fn unanswered(&self, grant: &GrantRow, now: OffsetDateTime) -> Result<(), AppError> {
        let since = self.store.grant_unanswered(&grant.person, now).await?;
        if now - since < limits::IDENTITY_UNREACHABLE_MAX {
            return Ok(());
        }
        self.refresh_failed(grant).await
    }

    async fn refresh_failed(&self, grant: &GrantRow) -> Result<(), AppError> {
        // The answer may be about a grant that a newer sign-in has replaced.
        if !self.store.holds_grant(grant).await? {
            return Ok(());
        }
        let ended = self
            .offboard(Offboarding {
                person: grant.person.clone(),
                effect: OffboardEffect::Suspended,
                cause: OffboardCause::RefreshFailed,
                by: grant.provider.to_string(),
            })
            .await;
        match ended {
            // Deleted meanwhile: then the grant is gone as well.
            Ok(_) | Err(AppError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        self.store.forget_grant(&grant.person).await?;
        Ok(())
    }

    /// A provider says that a person's session there has ended (OpenID Connect Back-Channel Logout
    /// 1.0). Everybody whom it means is suspended.
    ///
    /// # Errors
    /// [`AppError::Invalid`] when this is no logout token for this gateway, or was shown before;
    /// [`AppError::Unavailable`] when that cannot be told, or not everything was done.
    pub async fn backchannel_logout(&self, token: &str) -> Result<(), AppError> {
        let refuse = |text: String| AppError::Invalid(vec![super::Problem::new(None, text)]);
        let now = OffsetDateTime::now_utc();
        let issuer = {
            let claimed = Unverified::parse(token).map_err(|error| refuse(error.to_string()))?;
            claimed.claimed().issuer().map(str::to_owned)
        };
        let config = self.config();
        let providers: Vec<&ResourceName> = config
            .providers
            .values()
            .filter(|provider| {
                provider.oidc.as_ref().is_some_and(|oidc| Some(&oidc.issuer) == issuer.as_ref())
            })
            .map(|provider| &provider.name)
            .collect();
        let mut refused = refuse("no identity provider here has this issuer".to_owned());
        for provider in providers {
            let (_, client) = self.oidc_client(provider.as_str())?;
            match client.logout(token, now).await {
                Ok(logout) => return self.log_out(provider, logout, now).await,
                Err(OidcError::Provider(error)) => {
                    tracing::warn!(%error, %provider, "a logout cannot be checked");
                    let text = "the provider's keys are not known at the moment; try again";
                    refused = AppError::Unavailable(text.to_owned());
                }
                // It may be for another client of the same provider.
                Err(error) => refused = refuse(error.to_string()),
            }
        }
        Err(refused)
    }

    async fn log_out(
        &self,
        provider: &ResourceName,
        logout: Logout,
        now: OffsetDateTime,
    ) -> Result<(), AppError> {
        let until = now + 2 * limits::LOGOUT_TOKEN_AGE_MAX;
        let scope = format!("logout {provider}");
        if !self.store.once(&scope, &logout.id, until, now).await? {
            let text = "this logout token was shown before";
            return Err(AppError::Invalid(vec![super::Problem::new(None, text)]));
        }
        let config = self.config();
        let subject = logout.subject.as_deref();
        let by_subject =
            subject.and_then(|subject| config.users.of_subject(provider, subject).next());
        let mut person = by_subject.map(|user| user.name.clone());
        if let (None, Some(sid)) = (&person, &logout.sid) {
            person = self.store.person_of_provider_session(provider, sid).await?;
        }
        // Somebody who never signed in here has nothing to end.
        let Some(person) = person else { return Ok(()) };
        let (effect, cause) = (OffboardEffect::Suspended, OffboardCause::Logout);
        self.offboard(Offboarding { person, effect, cause, by: provider.to_string() })
            .await
            .map(drop)
    }
}

/// Why a provider did not confirm a person.
enum Unanswered {
    /// It said no.
    Refused(String),
    /// It said nothing that could be understood.
    Unknown(String),
}
