//! Sealed credentials in memory, so that the start of a session asks no database.
//!
//! What is kept is what the table holds, sealed; who opens it needs the key all the same. Only this
//! process writes its store, and every change of the table says when it begins and when it has
//! ended: nothing is kept in between. A change that never says how it ended, because whoever
//! waited for it was cancelled, leaves nothing to be kept ever after: slower, never stale.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use corral_model::ids::TargetName;

use crate::credentials::CredentialPurpose;

/// At most two for each target: only credentials of configured targets are asked for, and any
/// change of the configuration forgets all.
#[derive(Default)]
pub(crate) struct KeptCredentials(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    sealed: HashMap<(TargetName, CredentialPurpose), Option<String>>,
    /// Changes that have begun and of which no end is known.
    open_changes: u64,
    /// Changes that ended.
    ended: u64,
}

/// When somebody looked; a read that began then may be kept if nothing changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(u64);

/// A change of the table that has begun.
#[must_use = "a change whose end is not told turns keeping off"]
pub(crate) struct Changing<'a>(&'a KeptCredentials);

impl KeptCredentials {
    /// What is kept, or the moment from which the table is read.
    pub(crate) fn find(
        &self,
        target: &TargetName,
        purpose: CredentialPurpose,
    ) -> Result<Option<String>, Moment> {
        let kept = self.lock();
        let found = kept.sealed.get(&(target.clone(), purpose));
        found.cloned().ok_or(Moment(kept.ended))
    }

    /// Keeps what was read since `moment`, unless something changed, or is about to.
    pub(crate) fn keep(
        &self,
        moment: Moment,
        target: &TargetName,
        purpose: CredentialPurpose,
        sealed: Option<String>,
    ) {
        let mut kept = self.lock();
        if kept.open_changes == 0 && Moment(kept.ended) == moment {
            kept.sealed.insert((target.clone(), purpose), sealed);
        }
    }

    /// To be called before a change of the table begins.
    pub(crate) fn change(&self) -> Changing<'_> {
        let mut kept = self.lock();
        kept.open_changes += 1;
        kept.sealed.clear();
        Changing(self)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Every change below leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Changing<'_> {
    /// The change was kept or undone, and is seen by whoever reads from now on.
    pub(crate) fn ended(self) {
        let mut kept = self.0.lock();
        kept.open_changes -= 1;
        kept.ended += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: CredentialPurpose = CredentialPurpose::Credential;

    fn target() -> TargetName {
        TargetName::new("orders-db").expect("a name")
    }

    fn moment(kept: &KeptCredentials) -> Moment {
        kept.find(&target(), OWN).expect_err("nothing is kept")
    }

    #[test]
    fn what_was_read_is_found_until_a_change_begins() {
        let kept = KeptCredentials::default();
        kept.keep(moment(&kept), &target(), OWN, Some("sealed".to_owned()));
        assert_eq!(kept.find(&target(), OWN), Ok(Some("sealed".to_owned())));
        let other = CredentialPurpose::MaskedCredential;
        assert!(kept.find(&target(), other).is_err(), "each purpose has its own");
        let change = kept.change();
        assert!(kept.find(&target(), OWN).is_err());
        change.ended();
        assert!(kept.find(&target(), OWN).is_err());
    }

    #[test]
    fn what_was_read_before_or_during_a_change_is_not_kept() {
        let kept = KeptCredentials::default();
        let before = moment(&kept);
        let change = kept.change();
        kept.keep(before, &target(), OWN, Some("old".to_owned()));
        let during = moment(&kept);
        kept.keep(during, &target(), OWN, Some("old".to_owned()));
        change.ended();
        kept.keep(before, &target(), OWN, Some("old".to_owned()));
        kept.keep(during, &target(), OWN, Some("old".to_owned()));
        kept.keep(moment(&kept), &target(), OWN, Some("new".to_owned()));
        assert_eq!(kept.find(&target(), OWN), Ok(Some("new".to_owned())));
    }

    #[test]
    fn a_change_whose_end_is_unknown_turns_keeping_off() {
        let kept = KeptCredentials::default();
        drop(kept.change());
        kept.change().ended();
        kept.keep(moment(&kept), &target(), OWN, Some("sealed".to_owned()));
        assert!(kept.find(&target(), OWN).is_err());
    }
}
