//! The end of somebody's standing, whatever took it away: one function behind every signal.
//!
//! The state comes first: the configuration is stored with a note that the rest is due. Then the
//! tokens, runs and sessions end, the event is written, and the note goes. A gateway that dies in
//! between finds the note at its next start.

use std::collections::BTreeMap;

use corral_model::event::{EventBody, Origin};
use corral_model::ids::PrincipalName;
use corral_model::resource::UserSpec;
use corral_model::{CloseReason, OffboardCause, OffboardEffect, Offboarding, Principal, RunEnd};

use super::resources::{Author, no_user};
use super::{App, AppError, Caller};

/// What the end of somebody's standing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disabled {
    pub runs_ended: u64,
    pub sessions_closed: u64,
}

impl Disabled {
    pub(super) fn add(&mut self, other: Self) {
        self.runs_ended += other.runs_ended;
        self.sessions_closed += other.sessions_closed;
    }
}

/// An offboarding whose tokens could not be ended yet.
#[derive(Debug)]
pub(super) struct Unfinished {
    offboarding: Offboarding,
    ended: Disabled,
}

impl App {
    /// Takes a person's standing away: every login token, every run below the person and below
    /// workloads that the person answers for, and every live session of these end at once. Doing
    /// it again changes nothing, and writes no second event.
    ///
    /// The caller has checked that whoever asks may.
    ///
    /// # Errors
    /// [`AppError::NotFound`] when there is no such person; [`AppError::Unavailable`] when record
    /// or store cannot be written: then nothing was changed.
    pub async fn offboard(&self, offboarding: Offboarding) -> Result<Disabled, AppError> {
        let Offboarding { person, effect, cause, by } = offboarding;
        let author = Author { by: by.clone(), cause };
        let change = |user: &mut UserSpec| match effect {
            OffboardEffect::Disabled => disable(user, cause, &by),
            OffboardEffect::Suspended => {
                user.suspended.get_or_insert(cause);
            }
        };
        self.change_user(&author, &person, change).await
    }

    /// Gives a person the standing back that was taken for this cause: what was disabled by hand
    /// stays so for everybody else. Ended runs stay ended, and old login tokens stay invalid.
    ///
    /// # Errors
    /// As [`App::offboard`].
    pub async fn reinstate(
        &self,
        person: &PrincipalName,
        cause: OffboardCause,
        by: &str,
    ) -> Result<(), AppError> {
        let before = self.config();
        let before = before.users.get(person).ok_or_else(|| no_user(person.as_str()))?;
        let is_meant = before.disabled && before.disabled_cause == Some(cause);
        if !is_meant {
            return Ok(());
        }
        let author = Author { by: by.to_owned(), cause };
        let change = |user: &mut UserSpec| {
            if user.disabled_cause == Some(cause) {
                enable(user);
            }
        };
        self.change_user(&author, person, change).await?;
        self.note_enabled(person, by);
        Ok(())
    }

    /// Disables a user by hand. Only the administrator may.
    ///
    /// # Errors
    /// [`AppError::Denied`], and as [`App::offboard`].
    pub async fn disable_user(&self, caller: &Caller, name: &str) -> Result<Disabled, AppError> {
        caller.require_admin()?;
        let person = PrincipalName::new(name).map_err(|_| no_user(name))?;
        self.offboard(Offboarding {
            person,
            effect: OffboardEffect::Disabled,
            cause: OffboardCause::ByHand,
            by: caller.label(),
        })
        .await
    }

    /// Enables a user by hand, whatever took the standing away. Ended runs stay ended, and old
    /// login tokens stay invalid.
    ///
    /// # Errors
    /// As [`App::disable_user`].
    pub async fn enable_user(&self, caller: &Caller, name: &str) -> Result<(), AppError> {
        caller.require_admin()?;
        let person = PrincipalName::new(name).map_err(|_| no_user(name))?;
        let author = Author { by: caller.label(), cause: OffboardCause::ByHand };
        let change = |user: &mut UserSpec| {
            enable(user);
            user.suspended = None;
        };
        self.change_user(&author, &person, change).await?;
        self.note_enabled(&person, &author.by);
        Ok(())
    }

    pub(super) fn note_enabled(&self, person: &PrincipalName, by: &str) {
        let body = EventBody::PrincipalEnabled { name: person.to_string(), by: by.to_owned() };
        self.note(Origin::default(), body);
    }

    /// Ends what is left of people whose new state is stored and in use. Gives what ended of all.
    pub(super) async fn end_offboarded(&self, offboardings: Vec<Offboarding>) -> Disabled {
        let mut total = Disabled::default();
        for offboarding in offboardings {
            let person = &offboarding.person;
            // Before anything that waits: sockets close at once.
            self.live.logins().remove_of(&Principal::user(person.clone()));
            self.live.sign_ins().remove_of(person);
            let ended = self.end_everything_of(person).await;
            total.add(ended);
            self.finish_offboarding(Unfinished { offboarding, ended }).await;
        }
        total
    }

    /// Ends every run and session that this person answers for.
    async fn end_everything_of(&self, person: &PrincipalName) -> Disabled {
        let mut ended = Disabled {
            runs_ended: 0,
            sessions_closed: self.end_sessions(
                CloseReason::Disabled,
                "this session's principal or sponsor is no longer active",
                |session| session.run.is_none() && session.sponsor == *person,
            ),
        };
        let roots = self.live.runs().roots_where(|run| run.sponsor() == person);
        ended.add(self.end_trees(&roots, RunEnd::SponsorDisabled, "gateway").await);
        ended
    }

    /// Makes the person's tokens invalid in the store and writes the event. What the store
    /// refuses is tried again until it is done.
    async fn finish_offboarding(&self, unfinished: Unfinished) {
        let person = unfinished.offboarding.person.clone();
        if let Err(error) = self.forget_logins(&Principal::user(person.clone())).await {
            // They are nobody's in memory; without this they would come back with the person.
            tracing::error!(%error, "login tokens of an offboarded person end later");
            self.live.unfinished().push(unfinished);
            return;
        }
        let Unfinished { offboarding: Offboarding { effect, cause, by, .. }, ended } = unfinished;
        let name = person.to_string();
        let Disabled { runs_ended, sessions_closed } = ended;
        let body = match effect {
            OffboardEffect::Disabled => {
                let cause = Some(cause);
                EventBody::PrincipalDisabled { name, by, cause, runs_ended, sessions_closed }
            }
            OffboardEffect::Suspended => {
                EventBody::PrincipalSuspended { name, by, cause, runs_ended, sessions_closed }
            }
        };
        self.note(Origin::default(), body);
        if let Err(error) = self.store.finish_offboarding(&person, effect).await {
            tracing::warn!(%error, "an offboarding is completed once more at the next start");
        }
    }

    /// Tries again what the store refused.
    pub(super) async fn finish_unfinished(&self) {
        let waiting: Vec<Unfinished> = self.live.unfinished().drain(..).collect();
        for unfinished in waiting {
            self.finish_offboarding(unfinished).await;
        }
    }

    /// What a gateway that died had not finished. The runs of such people were just ended; `runs`
    /// says how many each of them had.
    pub(super) async fn complete_offboardings(
        &self,
        runs: &BTreeMap<PrincipalName, u64>,
    ) -> anyhow::Result<()> {
        for offboarding in self.store.unfinished_offboardings().await? {
            let runs_ended = runs.get(&offboarding.person).copied().unwrap_or_default();
            let ended = Disabled { runs_ended, sessions_closed: 0 };
            self.finish_offboarding(Unfinished { offboarding, ended }).await;
        }
        Ok(())
    }
}

/// By hand goes before every other cause.
pub(super) fn disable(user: &mut UserSpec, cause: OffboardCause, by: &str) {
    let is_stronger = !user.disabled
        || (cause == OffboardCause::ByHand && user.disabled_cause != Some(OffboardCause::ByHand));
    if is_stronger {
        user.disabled = true;
        user.disabled_by = Some(by.to_owned());
        user.disabled_cause = Some(cause);
    }
}

pub(super) fn enable(user: &mut UserSpec) {
    user.disabled = false;
    user.disabled_by = None;
    user.disabled_cause = None;
}
