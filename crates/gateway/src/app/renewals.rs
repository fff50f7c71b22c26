//! Credentials of targets that end: before they do, the target is asked for new ones, which are
//! kept in place of the old and told to open sessions. What a credential is, the protocol knows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corral_gate::{Denial, DenialKind};
use corral_model::event::{EventBody, Origin};
use corral_model::ids::TargetName;
use corral_model::{Secret, limits};
use corral_session::{CredentialRenewal, Lifetime, Service};
use corral_store::CredentialPurpose;
use corral_transport::backoff::Backoff;
use futures_util::StreamExt as _;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::config::Target;
use super::{App, AppError, Caller};
use crate::protocols;

/// What is known of the credentials of targets that may be renewed, by target.
#[derive(Default)]
pub(crate) struct Renewals {
    kept: Mutex<BTreeMap<TargetName, Kept>>,
}

struct Kept {
    /// Of the target: what is given to one place is told to no session with another.
    revision: u64,
    /// To open sessions.
    renewed: watch::Sender<Option<Secret>>,
    next_look: Instant,
    /// None: nothing is renewed.
    lifetime: Option<Lifetime>,
    /// This process was given the present credential.
    is_given: bool,
    failing: Option<(Backoff, String)>,
}

/// How it stands with a target's credential that is renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalStatus {
    /// When the present one ends.
    pub until: Option<OffsetDateTime>,
    /// Why there is no new one, as long as that is so.
    pub failure: Option<String>,
}

impl Kept {
    fn new(revision: u64) -> Self {
        Self {
            revision,
            renewed: watch::Sender::new(None),
            next_look: Instant::now(),
            lifetime: None,
            is_given: false,
            failing: None,
        }
    }
}

impl Renewals {
    fn kept(&self) -> MutexGuard<'_, BTreeMap<TargetName, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the target gives in place of its credential from now on; None when its protocol's
    /// targets give none.
    pub(super) fn follow(&self, target: &Target) -> Option<watch::Receiver<Option<Secret>>> {
        renewal(target)?;
        let mut kept = self.kept();
        Some(of_target(&mut kept, target).renewed.subscribe())
    }

    /// Whether it is time to look at a target.
    fn is_due(&self, target: &Target, now: Instant) -> bool {
        let mut kept = self.kept();
        of_target(&mut kept, target).next_look <= now
    }

    /// Changes what is kept of a target, unless it was applied again meanwhile.
    fn change<T>(&self, target: &Target, change: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        let mut kept = self.kept();
        let kept = kept.get_mut(&target.spec.name)?;
        (kept.revision == target.revision).then(|| change(kept))
    }
}

fn of_target<'a>(kept: &'a mut BTreeMap<TargetName, Kept>, target: &Target) -> &'a mut Kept {
    let one = kept.entry(target.spec.name.clone()).or_insert_with(|| Kept::new(target.revision));
    if one.revision < target.revision {
        *one = Kept::new(target.revision);
    }
    one
}

fn renewal(target: &Target) -> Option<&'static dyn CredentialRenewal> {
    protocols::service(&target.spec.protocol).and_then(Service::renewal)
}

impl App {
    /// Renews what is due, until it is dropped.
    pub(crate) async fn watch_credentials(self: Arc<Self>) {
        let mut ticks = interval(limits::CREDENTIAL_LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let config = self.config();
            self.renewals.kept().retain(|name, _| config.targets.contains_key(name));
            // Without its store the gateway could not keep what it is given.
            if self.check_authority().is_err() {
                continue;
            }
            let now = Instant::now();
            let due = config.targets.values().filter_map(|target| {
                let renewal = renewal(target)?;
                self.renewals.is_due(target, now).then(|| (target.clone(), renewal))
            });
            let looks = due.map(|(target, renewal)| self.look_at_credential(target, renewal));
            futures_util::stream::iter(looks)
                .for_each_concurrent(limits::CREDENTIAL_RENEWALS_MAX, |look| look)
                .await;
        }
    }

    async fn look_at_credential(
        &self,
        target: Arc<Target>,
        renewal: &'static dyn CredentialRenewal,
    ) {
        let looked = self.renew_if_due(&target, renewal).await;
        let wait = match looked {
            Ok(wait) => wait,
            Err(denial) => self.renewal_failed(&target, &denial),
        };
        self.renewals.change(&target, |kept| kept.next_look = Instant::now() + wait);
    }

    /// Gives how long to wait before the next look.
    async fn renew_if_due(
        &self,
        target: &Target,
        renewal: &'static dyn CredentialRenewal,
    ) -> Result<Duration, Denial> {
        let name = &target.spec.name;
        let of_store = |error: corral_store::StoreError| {
            let mut denial = unavailable("the store cannot be read or written");
            denial.internal = Some(super::error::describe(&error));
            denial
        };
        let purpose = CredentialPurpose::Credential;
        let secret = {
            // No change comes between the place and what belongs there.
            let _changing = self.config.changing.lock().await;
            let is_same = |now: &Arc<Target>| now.revision == target.revision;
            if !self.config().target(name.as_str()).is_some_and(is_same) {
                return Ok(Duration::ZERO);
            }
            self.store.credential(name, purpose).await.map_err(of_store)?
        };
        let Some(secret) = secret else { return Ok(limits::CREDENTIAL_LOOK_MAX) };
        let lifetime = renewal.lifetime(&target.options, &secret)?;
        let is_given = self.renewals.change(target, |kept| {
            // Another gateway of this store may have been given it.
            kept.is_given &= kept.lifetime == lifetime;
            kept.lifetime = lifetime;
            kept.is_given
        });
        let (Some(lifetime), Some(is_given)) = (lifetime, is_given) else {
            return Ok(limits::CREDENTIAL_LOOK_MAX);
        };
        self.tell_sessions(target, &secret);
        let now = OffsetDateTime::now_utc();
        if let Ok(wait) = Duration::try_from(due(lifetime, is_given) - now)
            && !wait.is_zero()
        {
            // What could not be renewed was replaced by somebody.
            self.renewals.change(target, |kept| kept.failing = None);
            return Ok(wait.min(limits::CREDENTIAL_LOOK_MAX));
        }
        let endpoint = self.routed(target);
        let asked = renewal.renew(&endpoint, &target.options, &secret);
        let given = timeout(limits::CREDENTIAL_RENEWAL_DEADLINE, asked).await.map_err(|_| {
            let seconds = limits::CREDENTIAL_RENEWAL_DEADLINE.as_secs();
            unavailable(&format!("the target gave no answer within {seconds} s"))
        })??;
        let lifetime = renewal.lifetime(&target.options, &given)?;
        let until = lifetime.map(|lifetime| lifetime.until);
        let until = until.filter(|until| *until > OffsetDateTime::now_utc());
        let until = until.ok_or_else(|| unavailable("the target gave one that is over"))?;
        let pair = (&secret, given.clone());
        if !self.store.replace_credential(name, purpose, pair).await.map_err(of_store)? {
            tracing::info!(target = %name, "a credential was replaced while a new one was asked for");
            return Ok(Duration::ZERO);
        }
        self.renewals.change(target, |kept| {
            kept.lifetime = lifetime;
            kept.is_given = true;
            kept.failing = None;
        });
        self.tell_sessions(target, &given);
        self.note(of(name), EventBody::CredentialRenewed { until });
        Ok(limits::CREDENTIAL_RENEWAL_WAIT_MIN)
    }

    fn tell_sessions(&self, target: &Target, secret: &Secret) {
        self.renewals.change(target, |kept| {
            kept.renewed.send_if_modified(|told| {
                let is_other = told.as_ref() != Some(secret);
                if is_other {
                    *told = Some(secret.clone());
                }
                is_other
            });
        });
    }

    /// Gives how long to wait before the next try.
    fn renewal_failed(&self, target: &Target, denial: &Denial) -> Duration {
        let (name, reason) = (&target.spec.name, denial.client_text.clone());
        let internal = denial.internal.as_deref().unwrap_or_default();
        tracing::warn!(target = %name, reason, internal, "a credential is not renewed");
        let failed = self.renewals.change(target, |kept| {
            let is_first = kept.failing.is_none();
            let (first, max) =
                (limits::CREDENTIAL_RENEWAL_WAIT_MIN, limits::CREDENTIAL_RENEWAL_WAIT_MAX);
            let (mut backoff, _) =
                kept.failing.take().unwrap_or_else(|| (Backoff::new(first, max), String::new()));
            let wait = backoff.next_wait();
            kept.failing = Some((backoff, reason.clone()));
            (wait, is_first)
        });
        let Some((wait, is_first)) = failed else { return Duration::ZERO };
        if is_first {
            self.note(of(name), EventBody::CredentialRenewalFailed { reason });
        }
        wait
    }

    /// How it stands with the credential of a target; None when it is not renewed.
    ///
    /// # Errors
    /// [`AppError::Denied`] for everybody but the administrator, [`AppError::NotFound`].
    pub fn renewal_status(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<Option<RenewalStatus>, AppError> {
        caller.require_admin()?;
        let not_found = || AppError::NotFound { kind: "target", name: name.to_owned() };
        let target = self.config().target(name).cloned().ok_or_else(not_found)?;
        let status = self.renewals.change(&target, |kept| RenewalStatus {
            until: kept.lifetime.map(|lifetime| lifetime.until),
            failure: kept.failing.as_ref().map(|(_, reason)| reason.clone()),
        });
        Ok(status.filter(|status| status.until.is_some() || status.failure.is_some()))
    }
}

/// With a third of its time left; what somebody applied may be much shorter than what is wanted,
/// and is renewed with a third of that left.
fn due(lifetime: Lifetime, is_given: bool) -> OffsetDateTime {
    let whole = Duration::try_from(lifetime.until - lifetime.from).unwrap_or(Duration::ZERO);
    let whole = if is_given { whole } else { whole.max(lifetime.wanted) };
    lifetime.until - whole / 3
}

fn of(target: &TargetName) -> Origin {
    Origin { target: Some(target.clone()), ..Origin::default() }
}

fn unavailable(text: &str) -> Denial {
    Denial::new(DenialKind::TargetUnavailable, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_due_with_a_third_of_its_time_left() {
        let from = OffsetDateTime::UNIX_EPOCH;
        let hour = Duration::from_secs(3_600);
        let lifetime = Lifetime { from, until: from + hour, wanted: hour };
        assert_eq!(due(lifetime, true), from + hour * 2 / 3);
        assert_eq!(due(lifetime, false), from + hour * 2 / 3);
    }

    #[test]
    fn one_that_is_shorter_than_wanted_is_due_early_until_the_target_gave_it() {
        let from = OffsetDateTime::UNIX_EPOCH;
        let minute = Duration::from_secs(60);
        let short = Lifetime { from, until: from + 9 * minute, wanted: 60 * minute };
        assert!(due(short, false) < from);
        // Else a target that gives short ones only would be asked without end.
        assert_eq!(due(short, true), from + 6 * minute);
    }
}
