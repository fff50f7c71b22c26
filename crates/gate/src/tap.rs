//! How a session's account is written.

use corral_model::event::EventBody;
use time::OffsetDateTime;

use crate::decided::Decided;
use crate::decision::Receipt;

/// Why an entry could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The device is full or fails; the same call may succeed later.
    #[error("the record cannot be written")]
    Unavailable(#[source] std::io::Error),
    /// The tap was closed.
    #[error("the recording is closed")]
    Closed,
}

/// The recorder of one session. Nothing is dropped: an entry is written, or the caller learns
/// that it was not.
pub trait Tap: Send {
    /// Writes an entry that something depends on.
    ///
    /// # Errors
    /// [`TapError`] when it is not in the record; then nothing may act on it.
    fn append(&mut self, at: OffsetDateTime, body: EventBody) -> Result<Receipt, TapError>;

    /// Writes the entry of a decision, as [`Tap::append`] does with its event.
    ///
    /// # Errors
    /// [`TapError`] when it is not in the record; then nothing may act on it.
    fn append_decided(
        &mut self,
        at: OffsetDateTime,
        decided: &Decided<'_>,
    ) -> Result<Receipt, TapError> {
        self.append(at, decided.event())
    }

    /// Writes an entry about something that already happened. When the device refuses, the entry
    /// is kept (a bounded number) and written before the next one.
    ///
    /// # Errors
    /// [`TapError`] when no more entries can be kept: the session must end.
    fn note(&mut self, at: OffsetDateTime, body: EventBody) -> Result<(), TapError>;

    /// Whether the last appended entry must be synced before it counts (`durability: synced`).
    /// The driver then awaits the group sync before it acts on the receipt.
    fn needs_sync(&self) -> bool;
}
