//! What FETCH of a cursor may run. The target fixes the plan of a cursor when it is opened; the
//! names in the body of a function are looked up when the body runs, and the body itself may be
//! another one by then. Such a cursor is analysed again at each FETCH.

use std::collections::HashMap;
use std::sync::Arc;

use corral_model::Effect;
use corral_model::limits;

use super::task::Analysed;
use crate::analysis::{Analysis, StatementKind};

/// Cursors of one name that a FETCH may meet, and that may run bodies: a DECLARE may have failed,
/// or another one's cursor come back. More than these make the name unknown.
const SAME_NAME_MAX: usize = 8;

/// A cursor or portal whose functions may run later.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) text: Arc<str>,
    /// When it was opened.
    pub(crate) analysed: Arc<Analysed>,
}

#[derive(Debug)]
struct Named {
    /// Number of the last Sync or Query before the last DECLARE of it.
    epoch: u64,
    /// Only those that may run a body.
    opened: Vec<Opened>,
}

/// The cursors that SQL opened in this session.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    /// More than the target still has: of one that is gone it says so itself.
    known: HashMap<String, Named>,
    /// Any of them may run a body.
    has_bodies: bool,
    /// Outside any transaction after this Sync or Query.
    ended: u64,
}

impl Cursors {
    /// What FETCH of this name may run besides a plan; None when that cannot be told.
    pub(crate) fn find(&self, name: &str) -> Option<&[Opened]> {
        self.known.get(name).map(|named| named.opened.as_slice())
    }

    /// A text was sent. Code that nobody knows may open cursors, and close others.
    pub(crate) fn sent(&mut self, analysis: &Analysis) {
        if analysis.facts.effects.contains(Effect::Unknown) {
            self.known.clear();
        }
    }

    /// A text was sent that may open cursors, after the Sync of this number.
    pub(crate) fn open(&mut self, text: &Arc<str>, analysed: &Arc<Analysed>, epoch: u64) {
        for kind in &analysed.analysis.kinds {
            if let StatementKind::DeclareCursor { name, .. } = kind {
                self.open_one(name, text, analysed, epoch);
            }
        }
    }

    fn open_one(&mut self, name: &str, text: &Arc<str>, analysed: &Arc<Analysed>, epoch: u64) {
        if self.known.len() >= limits::PREPARED_PER_SESSION_MAX {
            let ended = self.ended;
            self.known.retain(|_, named| named.epoch >= ended);
            if self.known.len() >= limits::PREPARED_PER_SESSION_MAX {
                self.known.clear();
            }
        }
        let named = self.known.entry(name.to_owned());
        let named = named.or_insert_with(|| Named { epoch, opened: Vec::new() });
        named.epoch = epoch;
        let is_known = named.opened.iter().any(|old| Arc::ptr_eq(&old.analysed, analysed));
        if !runs_bodies(&analysed.analysis) || is_known {
            return;
        }
        if named.opened.len() >= SAME_NAME_MAX {
            self.known.remove(name);
            return;
        }
        named.opened.push(Opened { text: text.clone(), analysed: analysed.clone() });
        self.has_bodies = true;
    }

    /// The target is outside any transaction, after the Sync of this number: a cursor that could
    /// run a body is gone. Those WITH HOLD have none that is known.
    pub(crate) fn transaction_ended(&mut self, epoch: u64) {
        self.ended = epoch;
        if !self.has_bodies {
            return;
        }
        for named in self.known.values_mut().filter(|named| named.epoch < epoch) {
            named.opened.clear();
        }
        self.has_bodies = self.known.values().any(|named| !named.opened.is_empty());
    }
}

/// Whether it may run bodies that were looked at. What is unknown was decided as that.
pub(super) fn runs_bodies(analysis: &Analysis) -> bool {
    analysis.has_bodies && !analysis.facts.effects.contains(Effect::Unknown)
}

/// Whether names in it mean what they mean when it runs, and not what they meant when it was bound.
/// FETCH has none; its cursor is looked at apart.
pub(super) fn resolves_late(analysis: &Analysis) -> bool {
    analysis.resolves_late
        && analysis.needs_names
        && !matches!(analysis.kinds.as_slice(), [StatementKind::Fetch { .. }])
        && !analysis.facts.effects.contains(Effect::Unknown)
}
