//! Prepared statements and portals, as the target has them.
//!
//! Entries are made when a message is sent, and unmade when the target skipped or refused it. A
//! name that stands here and not at the target only leads to the target's own error; a name that
//! stands at the target and not here is refused.

use std::collections::HashMap;
use std::sync::Arc;

use corral_model::Effect;
use corral_model::limits;
use corral_model::statement::Parameter;

use super::by_name::ByName;
use super::cursors::resolves_late;
use super::pending::Running;
use super::task::Analysed;
use crate::codec::client::Named;

/// A statement that was checked and prepared.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) text: Arc<str>,
    /// As it was when the target resolved its names.
    pub(crate) analysed: Arc<Analysed>,
    /// OIDs that the client gave.
    pub(crate) types: Arc<[u32]>,
}

/// A statement with its values.
#[derive(Debug)]
pub(crate) struct Portal {
    pub(crate) text: Arc<str>,
    /// Under the names of the moment at which it was bound: the target keeps those.
    pub(crate) analysed: Arc<Analysed>,
    pub(crate) parameters: Arc<[Parameter]>,
    /// OIDs that the client gave in its Parse.
    pub(crate) types: Arc<[u32]>,
    /// Decided when it was bound, and not executed yet: the first Execute runs under this permit.
    pub(crate) bound: Option<Box<Running>>,
    /// Executed with a row limit, and not at its end: goes on under the same permit.
    pub(crate) suspended: Option<Box<Running>>,
    /// Number of the last Sync or Query before it was bound.
    pub(crate) epoch: u64,
    /// Of its Bind, from 1: another portal may have its name by the time that the target answers.
    pub(crate) number: u64,
}

impl Portal {
    /// The permit under which an Execute goes on, whatever has changed since it was given.
    pub(crate) fn take_going_on(&mut self, is_doubtful: bool) -> Option<Box<Running>> {
        let bound = self.bound.take();
        let is_unknown = self.analysed.analysis.facts.effects.contains(Effect::Unknown);
        if self.suspended.is_none()
            || resolves_late(&self.analysed.analysis)
            || (is_doubtful && !is_unknown)
        {
            return bound;
        }
        bound.or_else(|| self.suspended.take())
    }

    /// What has a permit and is not at its end.
    fn take_unfinished(&mut self) -> impl Iterator<Item = Running> + use<> {
        [self.bound.take(), self.suspended.take()].into_iter().flatten().map(|running| *running)
    }
}

fn unfinished(portal: Option<Box<Portal>>) -> Vec<Running> {
    portal.map(|mut portal| portal.take_unfinished().collect()).unwrap_or_default()
}

/// How to take back what a message did here.
#[derive(Debug)]
pub(crate) enum Undo {
    Statement(String, Option<Arc<Prepared>>),
    Portal(String, Option<Box<Portal>>),
}

impl Undo {
    /// The name that the message made or closed.
    pub(crate) fn name(&self) -> (Named, &str) {
        match self {
            Self::Statement(name, _) => (Named::Statement, name),
            Self::Portal(name, _) => (Named::Portal, name),
        }
    }

    /// What the message replaced is not to come back. Gives what will not run because of that.
    pub(crate) fn forget_old(&mut self) -> Vec<Running> {
        match self {
            Self::Statement(_, old) => {
                *old = None;
                Vec::new()
            }
            Self::Portal(_, old) => unfinished(old.take()),
        }
    }
}

/// Both kinds of names.
#[derive(Debug, Default)]
pub(crate) struct Store {
    statements: ByName<Arc<Prepared>>,
    portals: ByName<Box<Portal>>,
    /// Binds so far.
    bound: u64,
    /// Names that Bind gave in this transaction, with the epoch of the last one. More than the
    /// target still has: what closes a portal may fail, or be taken back.
    named: HashMap<String, u64>,
    /// Epoch of the last Bind whose name had no room.
    unnamed: Option<u64>,
}

impl Store {
    pub(crate) fn statement(&self, name: &str) -> Option<&Arc<Prepared>> {
        self.statements.get(name)
    }

    pub(crate) fn portal(&self, name: &str) -> Option<&Portal> {
        self.portals.get(name).map(AsRef::as_ref)
    }

    pub(crate) fn portal_mut(&mut self, name: &str) -> Option<&mut Portal> {
        self.portals.get_mut(name).map(AsMut::as_mut)
    }

    /// The portal of this name, if it is still the one of that Bind.
    pub(crate) fn same_portal_mut(&mut self, name: &str, number: u64) -> Option<&mut Portal> {
        self.portal_mut(name).filter(|portal| portal.number == number)
    }

    /// The number for the next portal.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.bound += 1;
        self.bound
    }

    /// The number of the last portal.
    pub(crate) fn last_number(&self) -> u64 {
        self.bound
    }

    /// Whether there is a statement that has a name.
    pub(crate) fn has_named_statement(&self) -> bool {
        self.statements.len() > usize::from(self.statements.get("").is_some())
    }

    /// Whether another name may be added.
    pub(crate) fn has_room(&self, named: Named, name: &str) -> bool {
        match named {
            Named::Statement => {
                self.statements.len() < limits::PREPARED_PER_SESSION_MAX
                    || self.statements.get(name).is_some()
            }
            Named::Portal => {
                self.portals.len() < limits::PREPARED_PER_SESSION_MAX
                    || self.portals.get(name).is_some()
            }
        }
    }

    pub(crate) fn prepare(&mut self, name: String, prepared: Prepared) -> Undo {
        let old = self.statements.insert(name.clone(), Arc::new(prepared));
        Undo::Statement(name, old)
    }

    pub(crate) fn bind(&mut self, name: String, portal: Portal) -> Undo {
        self.remember_name(&name, portal.epoch);
        let old = self.portals.insert(name.clone(), Box::new(portal));
        Undo::Portal(name, old)
    }

    fn remember_name(&mut self, name: &str, epoch: u64) {
        // SQL cannot name the unnamed one.
        if name.is_empty() {
            return;
        }
        if let Some(known) = self.named.get_mut(name) {
            *known = epoch;
        } else if self.named.len() < limits::PREPARED_PER_SESSION_MAX {
            self.named.insert(name.to_owned(), epoch);
        } else {
            self.unnamed = Some(epoch);
        }
    }

    /// Whether the target may have a portal of this name that came by Bind.
    pub(crate) fn may_be_bound(&self, name: &str) -> bool {
        self.unnamed.is_some() || self.named.contains_key(name)
    }

    /// The client closes a name. Closing a statement closes its portals at the target, which
    /// then answers for itself.
    pub(crate) fn close(&mut self, named: Named, name: &str) -> Undo {
        match named {
            Named::Statement => Undo::Statement(name.to_owned(), self.statements.remove(name)),
            Named::Portal => Undo::Portal(name.to_owned(), self.portals.remove(name)),
        }
    }

    /// The target skipped or refused the message. Gives what will not run because of that.
    pub(crate) fn undo(&mut self, undo: Undo) -> Vec<Running> {
        match undo {
            Undo::Statement(name, Some(old)) => {
                self.statements.insert(name, old);
                Vec::new()
            }
            Undo::Statement(name, None) => {
                self.statements.remove(&name);
                Vec::new()
            }
            Undo::Portal(name, Some(old)) => unfinished(self.portals.insert(name, old)),
            Undo::Portal(name, None) => unfinished(self.portals.remove(&name)),
        }
    }

    /// The target did what the message asked for. Gives what the message ended.
    pub(crate) fn done(undo: Undo) -> Vec<Running> {
        match undo {
            Undo::Statement(..) => Vec::new(),
            Undo::Portal(_, old) => unfinished(old),
        }
    }

    /// SQL made, or will make, this name anew. Gives a portal that was not at its end.
    pub(crate) fn forget(&mut self, named: Named, name: Option<&str>) -> Vec<Running> {
        match (named, name) {
            (Named::Statement, Some(name)) => {
                self.statements.remove(name);
                Vec::new()
            }
            (Named::Statement, None) => {
                self.statements = ByName::default();
                Vec::new()
            }
            (Named::Portal, Some(name)) => unfinished(self.portals.remove(name)),
            (Named::Portal, None) => {
                self.portals.drain().flat_map(|portal| unfinished(Some(portal))).collect()
            }
        }
    }

    /// A transaction ended: portals bound before the Sync of this number are gone.
    pub(crate) fn end_transaction(&mut self, epoch: u64) -> Vec<Running> {
        self.named.retain(|_, bound| *bound >= epoch);
        self.unnamed = self.unnamed.filter(|bound| *bound >= epoch);
        let mut unfinished: Vec<Running> = Vec::new();
        self.portals.retain(|portal| {
            let stays = portal.epoch >= epoch;
            if !stays {
                unfinished.extend(portal.take_unfinished());
            }
            stays
        });
        unfinished
    }

    /// What was not at its end when the session ends.
    pub(crate) fn drain_unfinished(&mut self) -> Vec<Running> {
        self.forget(Named::Portal, None)
    }
}
