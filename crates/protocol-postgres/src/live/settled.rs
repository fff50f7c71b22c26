//! Names of statements and portals that the target has not confirmed yet.
//!
//! Such a name is believed when its message is sent. An error makes the target skip what is behind
//! it, up to the next Sync: so far the belief does no harm, and behind the Sync it would, since the
//! target may still have something else under that name. What names it there waits for the answer.

use super::Live;
use super::client::front;
use super::extended::as_compared;
use super::pending::{Pending, Running};
use super::store::{Store, Undo};
use crate::analysis::StatementKind;
use crate::codec::Head;
use crate::codec::client::{Named, decode_bind, decode_execute, decode_named, decode_parse};
use crate::link::Link;

impl Live {
    /// Whether the message at the front names, makes or closes what is not certain.
    pub(super) fn is_unsettled(&self, head: Head, link: &Link) -> bool {
        let is_of_names = matches!(head.tag, b'P' | b'B' | b'D' | b'E' | b'C');
        if self.transaction.is_answered() || self.is_skipping || !is_of_names {
            return false;
        }
        let Some(sync) = self.queue.iter().rposition(Pending::is_sync) else { return false };
        let frame = front(link, head);
        // What cannot be read is refused without waiting.
        match head.tag {
            b'P' => decode_parse(frame)
                .is_ok_and(|parse| self.is_remade(sync, Named::Statement, parse.name)),
            b'B' => decode_bind(frame).is_ok_and(|bind| {
                self.is_used(sync, Named::Statement, bind.statement)
                    || self.is_remade(sync, Named::Portal, bind.portal)
            }),
            b'E' => decode_execute(frame)
                .is_ok_and(|execute| self.is_used(sync, Named::Portal, execute.portal)),
            _ => decode_named(frame).is_ok_and(|(named, name)| self.is_used(sync, named, name)),
        }
    }

    /// A name is used that an unanswered message in front of that Sync changes, and none behind it.
    fn is_used(&self, sync: usize, named: Named, name: &str) -> bool {
        let Ok(name) = as_compared(name) else { return false };
        let changes = |pending: &Pending| pending.changes(named, name);
        !self.queue.range(sync..).any(changes) && self.queue.range(..sync).any(changes)
    }

    /// A name is made anew. Where there is one already the target refuses that, and keeps it; but
    /// what has no name makes room for the next at once.
    fn is_remade(&self, sync: usize, named: Named, name: &str) -> bool {
        !name.is_empty() && self.is_used(sync, named, name)
    }

    /// Takes back what a message did here that the target refused or skipped. Gives what will not
    /// run because of that.
    pub(super) fn take_back(&mut self, undo: Undo) -> Vec<Running> {
        let (named, name) = undo.name();
        let name = name.to_owned();
        if !self.queue.iter().any(|pending| pending.touches(named, &name)) {
            return self.store.undo(undo);
        }
        // The name is another message's by now. What that replaced was never made.
        let mut ended = Store::done(undo);
        let mut later = self.queue.iter_mut().filter_map(Pending::undo_mut);
        if let Some(later) = later.find(|undo| undo.name() == (named, name.as_str())) {
            ended.extend(later.forget_old());
        }
        ended
    }
}

impl Pending {
    fn undo(&self) -> Option<&Undo> {
        let (Self::Parse { undo, .. } | Self::Bind { undo, .. } | Self::Close { undo, .. }) = self
        else {
            return None;
        };
        undo.as_deref()
    }

    fn undo_mut(&mut self) -> Option<&mut Undo> {
        let (Self::Parse { undo, .. } | Self::Bind { undo, .. } | Self::Close { undo, .. }) = self
        else {
            return None;
        };
        undo.as_deref_mut()
    }

    /// A message of the protocol that makes or closes this name.
    fn changes(&self, named: Named, name: &str) -> bool {
        self.undo().is_some_and(|undo| undo.name() == (named, name))
    }

    /// The same, or a statement of SQL's that does.
    fn touches(&self, named: Named, name: &str) -> bool {
        let kinds = self.running().map(|running| running.analysis.kinds.as_slice());
        self.changes(named, name)
            || kinds.unwrap_or_default().iter().any(|kind| kind.forgets(named, name))
    }
}

impl StatementKind {
    /// Whether it makes or closes this name: its old meaning is not to come back.
    fn forgets(&self, named: Named, name: &str) -> bool {
        let is_all_or = |found: &Option<String>| found.as_deref().is_none_or(|one| one == name);
        match (self, named) {
            (Self::Prepare { name: made }, Named::Statement)
            | (Self::DeclareCursor { name: made, .. }, Named::Portal) => made == name,
            (Self::Deallocate { name: closed }, Named::Statement)
            | (Self::CloseCursor { name: closed }, Named::Portal) => is_all_or(closed),
            (Self::DiscardAll | Self::Unknown, _) => true,
            _ => false,
        }
    }
}
