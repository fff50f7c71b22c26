//! The record: an append-only, hash-chained, signed account of everything.
//!
//! [`Recorder`] writes, [`SessionTap`] is one session's place in it, [`Reader`] reads and
//! searches, [`verify()`] proves that nothing was changed, [`render`] shows. The format is in
//! [`mod@format`] and in `docs/record.md`. This crate may know `model` and `gate` only: no
//! protocol, no store, no API. Time comes from the callers; no order depends on it.

mod chain;
mod error;
mod follow;
pub mod format;
mod key;
mod layout;
mod link;
mod recorder;
mod recover;
mod scan;
mod session;
mod sink;
mod sync;
mod tap;
mod text;

pub use error::RecordError;
pub use follow::{Followed, Follower};
pub use key::{KeyError, PublicKey};
pub use recorder::Recorder;
pub use recover::Recovery;
pub use sink::{Disk, FileDisk, Sink};
pub use tap::{SessionTap, Totals};
pub use text::{event_text, sha256_hex};
