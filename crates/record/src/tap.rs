//! One session's hand on the record.

use std::io;
use std::sync::Arc;

use corral_gate::{Decided, Receipt, Tap, TapError};
use corral_model::event::{CloseReason, EventBody};
use corral_model::ids::SessionId;
use corral_model::resource::Durability;
use time::OffsetDateTime;

use crate::recorder::Recorder;
use crate::session::SessionFile;

/// What a session came to, for its last entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub statements: u64,
    pub rows: u64,
    pub bytes_to_client: u64,
    pub bytes_to_target: u64,
    pub duration_ms: u64,
}

/// The recorder of one session. An append is one write on the caller's thread.
///
/// The owner calls [`SessionTap::close`]. Dropping it without is a fault that is logged; the
/// session is then closed in the record as `protocol`.
pub struct SessionTap {
    recorder: Recorder,
    file: Arc<SessionFile>,
    durability: Durability,
    /// Something was appended since the last sync.
    is_dirty: bool,
    /// The link to the session in the gateway's chain is synced.
    is_link_synced: bool,
    is_closed: bool,
    last_at: OffsetDateTime,
}

impl SessionTap {
    pub(crate) fn new(
        recorder: Recorder,
        file: Arc<SessionFile>,
        durability: Durability,
        at: OffsetDateTime,
    ) -> Self {
        Self {
            recorder,
            file,
            durability,
            is_dirty: true,
            is_link_synced: false,
            is_closed: false,
            last_at: at,
        }
    }

    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.file.id
    }

    /// Returns when everything appended before the call survives a loss of power. Sessions that
    /// wait at the same time share the work. With [`Durability::Written`] it returns at once.
    ///
    /// # Errors
    /// [`TapError::Unavailable`] when the device says no: nothing may act on the last receipt.
    ///
    /// # Cancel safety
    /// When the future is dropped, [`Tap::needs_sync`] still says that a sync is needed.
    pub async fn sync(&mut self) -> Result<(), TapError> {
        if self.is_closed {
            return Err(TapError::Closed);
        }
        if !self.needs_sync() {
            return Ok(());
        }
        let link = (!self.is_link_synced).then(|| self.recorder.gateway_sink());
        let file = Arc::clone(&self.file);
        self.recorder.sync(file, link).await.map_err(TapError::Unavailable)?;
        self.is_link_synced = true;
        self.is_dirty = false;
        Ok(())
    }

    /// Writes the session's last entry, and its end into the gateway's chain. Further calls do
    /// nothing.
    ///
    /// # Errors
    /// [`TapError::Unavailable`] when the device refuses. The recorder keeps the entry and tries
    /// again, so the caller has nothing to do but to tell.
    pub fn close(
        &mut self,
        at: OffsetDateTime,
        reason: CloseReason,
        totals: Totals,
    ) -> Result<(), TapError> {
        if self.is_closed {
            return Ok(());
        }
        self.is_closed = true;
        let body = EventBody::SessionClosed {
            reason,
            statements: totals.statements,
            rows: totals.rows,
            bytes_to_client: totals.bytes_to_client,
            bytes_to_target: totals.bytes_to_target,
            duration_ms: totals.duration_ms,
        };
        let result = self.recorder.close_session(&self.file, at, reason, body);
        match self.durability {
            Durability::Written => {}
            // Nobody waits for it. The gateway's chain says how the file ends, and is synced with
            // whatever session begins next: the end must not be lost alone.
            Durability::Synced => drop(self.recorder.sync(Arc::clone(&self.file), None)),
        }
        result.map_err(TapError::Unavailable)
    }
}

impl Tap for SessionTap {
    fn append(&mut self, at: OffsetDateTime, body: EventBody) -> Result<Receipt, TapError> {
        if self.is_closed {
            return Err(TapError::Closed);
        }
        let seq = self.file.append(at, &body).map_err(TapError::Unavailable)?;
        self.last_at = at;
        self.is_dirty = true;
        Ok(Receipt::of_written_entry(seq))
    }

    fn append_decided(
        &mut self,
        at: OffsetDateTime,
        decided: &Decided<'_>,
    ) -> Result<Receipt, TapError> {
        if self.is_closed {
            return Err(TapError::Closed);
        }
        let seq = self.file.append_decided(at, decided).map_err(TapError::Unavailable)?;
        self.last_at = at;
        self.is_dirty = true;
        Ok(Receipt::of_written_entry(seq))
    }

    fn note(&mut self, at: OffsetDateTime, body: EventBody) -> Result<(), TapError> {
        if self.is_closed {
            return Err(TapError::Closed);
        }
        self.file.note(at, body).map_err(TapError::Unavailable)?;
        self.last_at = at;
        Ok(())
    }

    fn needs_sync(&self) -> bool {
        match self.durability {
            Durability::Written => false,
            Durability::Synced => self.is_dirty,
        }
    }
}

impl Drop for SessionTap {
    fn drop(&mut self) {
        if self.is_closed {
            return;
        }
        tracing::warn!(session = %self.file.id, "a recording was dropped without being closed");
        let result: Result<(), TapError> =
            self.close(self.last_at, CloseReason::Protocol, Totals::default());
        if let Err(error) = result {
            let cause: Option<&io::Error> = match &error {
                TapError::Unavailable(cause) => Some(cause),
                TapError::Closed => None,
            };
            tracing::warn!(session = %self.file.id, ?cause, "its end is written later");
        }
    }
}
