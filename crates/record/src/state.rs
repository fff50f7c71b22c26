//! What the gateway's chain knows while it is written: the sessions that hang on it, how far they
//! are signed, and what the device refused so far.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use corral_model::event::{CloseReason, EventBody, Origin};
use corral_model::ids::SessionId;
use time::{OffsetDateTime, UtcOffset};

use crate::chain::{Chain, Fill, Written};
use crate::format::{EntryKind, Hash, Head};
use crate::link::{ClosedLink, SessionHead};
use crate::recover::Recovered;
use crate::session::SessionFile;

/// What the lock protects: the gateway's chain and what hangs on it.
pub(crate) struct State {
    pub(crate) chain: Chain,
    pub(crate) segment: u64,
    pub(crate) open: BTreeMap<SessionId, OpenSession>,
    /// Sessions in `open` whose end is not written yet.
    pub(crate) closing: BTreeSet<SessionId>,
    /// Events about what already happened that the device refused, oldest first.
    pub(crate) notes: VecDeque<(OffsetDateTime, Origin, EventBody)>,
    /// Entries since the last checkpoint.
    pub(crate) unsigned_entries: u64,
    pub(crate) last_at: OffsetDateTime,
}

pub(crate) struct OpenSession {
    pub(crate) day: String,
    /// Up to where a checkpoint signed it; number 0 and the first hash when none has yet.
    pub(crate) signed: Head,
    /// None until its file exists, or when it could not be made.
    pub(crate) file: Option<Arc<SessionFile>>,
    /// Its end, when it could not be written yet.
    pub(crate) closing: Option<(OffsetDateTime, CloseReason)>,
}

impl State {
    pub(crate) fn of(recovered: Recovered, now: OffsetDateTime) -> Self {
        Self {
            chain: recovered.chain,
            segment: recovered.segment,
            open: BTreeMap::new(),
            closing: BTreeSet::new(),
            notes: VecDeque::new(),
            unsigned_entries: recovered.unsigned_entries,
            last_at: now,
        }
    }

    pub(crate) fn append(
        &mut self,
        at: OffsetDateTime,
        kind: EntryKind,
        fill: Fill<'_>,
    ) -> io::Result<Written> {
        let written = self.chain.append(kind, fill)?;
        self.unsigned_entries += 1;
        self.last_at = at;
        Ok(written)
    }

    pub(crate) fn begin_closing(
        &mut self,
        session: &SessionId,
        at: OffsetDateTime,
        reason: CloseReason,
    ) {
        if let Some(open) = self.open.get_mut(session)
            && open.closing.is_none()
        {
            open.closing = Some((at, reason));
            self.closing.insert(session.clone());
        }
    }

    /// Writes a session's last words, if they still wait, and its end into the gateway's chain.
    pub(crate) fn write_end(&mut self, session: &SessionId) -> io::Result<()> {
        let Some(open) = self.open.get(session) else { return Ok(()) };
        let Some((time, reason)) = open.closing else { return Ok(()) };
        let head = match &open.file {
            Some(file) => {
                file.flush()?;
                file.stand().head
            }
            // `signed` holds the first hash then.
            None => open.signed,
        };
        let link = ClosedLink {
            time: time.to_offset(UtcOffset::UTC),
            session: session.clone(),
            reason,
            entries: head.seq,
            hash: head.hash,
        };
        self.append(time, EntryKind::SessionClosed, &mut |buffer, _| {
            serde_json::to_writer(buffer, &link).map_err(io::Error::from)
        })?;
        self.open.remove(session);
        self.closing.remove(session);
        Ok(())
    }

    pub(crate) fn files(&self) -> Vec<(Arc<SessionFile>, u64)> {
        let with_file =
            |open: &OpenSession| Some((Arc::clone(open.file.as_ref()?), open.signed.seq));
        self.open.values().filter_map(with_file).collect()
    }

    pub(crate) fn mark_signed(&mut self, changed: &[Changed]) {
        for one in changed {
            if let Some(open) = self.open.get_mut(&one.file.id) {
                open.signed = one.head;
            }
        }
    }

    /// Every open session, as far as it is synced.
    pub(crate) fn heads_with(&self, changed: &[Changed]) -> Vec<SessionHead> {
        let changed: BTreeMap<&SessionId, Head> =
            changed.iter().map(|one| (&one.file.id, one.head)).collect();
        let head_of = |(id, open): (&SessionId, &OpenSession)| {
            let head = changed.get(id).copied().unwrap_or(open.signed);
            session_head(id, &open.day, head.seq, head.hash)
        };
        self.open.iter().map(head_of).collect()
    }
}

/// A session that wrote since it was last signed, and is synced up to `head`.
pub(crate) struct Changed {
    pub(crate) file: Arc<SessionFile>,
    pub(crate) head: Head,
    pub(crate) at: OffsetDateTime,
}

impl Changed {
    pub(crate) fn to_head(&self) -> SessionHead {
        session_head(&self.file.id, &self.file.day, self.head.seq, self.head.hash)
    }
}

fn session_head(session: &SessionId, day: &str, entries: u64, hash: Hash) -> SessionHead {
    SessionHead { session: session.clone(), day: day.to_owned(), entries, hash }
}

/// What a checkpoint signs must not be lost with the power, so it is synced first.
pub(crate) fn sync_changed(files: Vec<(Arc<SessionFile>, u64)>) -> Vec<Changed> {
    let mut changed = Vec::new();
    for (file, signed_seq) in files {
        let stand = file.stand();
        if stand.head.seq <= signed_seq {
            continue;
        }
        match stand.sink.sync() {
            Ok(()) => changed.push(Changed { file, head: stand.head, at: stand.last_at }),
            Err(error) => {
                file.doubt();
                tracing::warn!(session = %file.id, %error, "a recording cannot be synced");
            }
        }
    }
    changed
}
