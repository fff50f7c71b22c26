//! What SQL's PREPARE made in this session, so that EXECUTE has the effects of its statement.
//!
//! Only what is certain is told: whatever may have made a name anew, or may do so before its
//! transaction ends, makes the session forget. EXECUTE of an unknown name is unknown.

use std::collections::HashMap;
use std::sync::Arc;

use corral_model::Effect;
use corral_model::ids::StatementSeq;
use corral_model::limits;

use crate::analysis::{Analysis, Names, SessionChange, StatementKind};

/// One PREPARE.
#[derive(Debug, Clone)]
pub(crate) struct SqlPrepared {
    /// Its whole text.
    pub(crate) text: Arc<str>,
    /// Under which it was prepared; None when its facts hold under all names.
    pub(crate) names: Option<Arc<Names>>,
    by: StatementSeq,
    /// The target said that it is done.
    is_certain: bool,
}

/// Those of one session. Names are the server's own: protocol-level statements share them.
#[derive(Debug, Default)]
pub(crate) struct SqlStatements {
    known: HashMap<String, SqlPrepared>,
    /// Of all texts; at most [`limits::SQL_TEXT_BYTES_MAX`].
    bytes: usize,
    /// Code that nobody knows was sent, and may run until the target is outside any transaction
    /// after this epoch: in a cursor, or in a trigger at the commit.
    distrusted: Option<u64>,
}

impl SqlStatements {
    /// What the target surely has under this name.
    pub(crate) fn find(&self, name: &str) -> Option<&SqlPrepared> {
        self.known.get(name).filter(|prepared| prepared.is_certain)
    }

    /// A text was sent, before the Sync of this number.
    pub(crate) fn sent(&mut self, analysis: &Analysis, epoch: u64) {
        let is_unknown = analysis.facts.effects.contains(Effect::Unknown);
        if is_unknown || analysis.session_change.catalogue {
            self.distrusted = Some(epoch);
        }
        if is_unknown || analysis.session_change != SessionChange::default() {
            self.forget_all();
        }
        for kind in &analysis.kinds {
            match kind {
                StatementKind::Prepare { name }
                | StatementKind::Deallocate { name: Some(name) } => {
                    self.forget(name);
                }
                StatementKind::Deallocate { name: None } | StatementKind::DiscardAll => {
                    self.forget_all();
                }
                _ => {}
            }
        }
    }

    /// A PREPARE was sent as the only statement of its Query.
    pub(crate) fn remember(
        &mut self,
        name: &str,
        text: &Arc<str>,
        names: Option<Arc<Names>>,
        by: StatementSeq,
    ) {
        self.forget(name);
        let has_room = self.known.len() < limits::PREPARED_PER_SESSION_MAX
            && self.bytes + text.len() <= limits::SQL_TEXT_BYTES_MAX;
        if has_room && self.distrusted.is_none() {
            self.bytes += text.len();
            let prepared = SqlPrepared { text: text.clone(), names, by, is_certain: false };
            self.known.insert(name.to_owned(), prepared);
        }
    }

    /// The target did, or failed to do, what the statement of this number asked for.
    pub(crate) fn answered(&mut self, analysis: &Analysis, by: StatementSeq, has_failed: bool) {
        let [StatementKind::Prepare { name }] = analysis.kinds.as_slice() else { return };
        let Some(prepared) = self.known.get_mut(name).filter(|known| known.by == by) else {
            return;
        };
        prepared.is_certain = !has_failed;
        if has_failed {
            self.forget(name);
        }
    }

    /// The name is, or may be, another statement's from now on.
    pub(crate) fn forget(&mut self, name: &str) {
        if let Some(prepared) = self.known.remove(name) {
            self.bytes -= prepared.text.len();
        }
    }

    fn forget_all(&mut self) {
        self.known.clear();
        self.bytes = 0;
    }

    /// The target is outside any transaction, after the Sync of this number.
    pub(crate) fn transaction_ended(&mut self, epoch: u64) {
        self.distrusted = self.distrusted.filter(|distrusted| *distrusted > epoch);
    }
}
