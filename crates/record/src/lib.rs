//! The record: an append-only, hash-chained, signed account of everything.
//!
//! [`Recorder`] writes, [`SessionTap`] is one session's place in it, [`Reader`] reads and
//! searches, [`verify()`] proves that nothing was changed, [`render`] shows. The format is in
//! [`mod@format`] and in `docs/record.md`. This crate may know `model` and `gate` only: no
//! protocol, no store, no API. Time comes from the callers; no order depends on it.

mod bundle;
mod chain;
mod error;
mod follow;
pub mod format;
mod journal;
mod json;
mod key;
mod layout;
mod line;
mod link;
#[cfg(test)]
mod power;
mod read;
mod recorder;
mod recover;
pub mod render;
mod replay;
mod scan;
mod search;
mod session;
mod signer;
mod sink;
mod state;
mod sync;
mod tap;
mod unsynced;
mod verify;

pub use bundle::{Bundled, bundle};
pub use error::RecordError;
pub use follow::{Followed, Follower};
pub use key::{KeyError, PublicKey};
pub use read::{Events, ReadError, Reader};
pub use recorder::Recorder;
pub use recover::Recovery;
pub use search::{Filter, Found, Order};
pub use session::Outlet;
pub use sink::{Disk, FileDisk, Sink};
pub use tap::{SessionTap, Totals};
pub use verify::{BadEntry, Verified, VerifyError, verify};
