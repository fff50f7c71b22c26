//! Where statements become permits. Pure: no I/O, no clock, no async.
//!
//! A protocol's [`machine::Machine`] turns bytes into [`corral_model::Statement`]s and asks for a
//! [`decision::Decision`]. A [`decision::Permit`] is made from an allowing ruling *and* the
//! recorder's receipt, and only a permit lets a statement's bytes into the
//! [`buffers::TargetBuffer`]. This crate may not know any protocol, store or record format.

pub mod blank;
pub mod budget;
pub mod buffers;
pub mod decided;
pub mod decision;
pub mod machine;
pub mod policy;
pub mod protocol;
pub mod runbook;
pub mod tap;
pub mod text;

pub use buffers::{Buffers, Harmless, TargetBuffer, shrink_idle};
pub use decided::Decided;
pub use decision::{
    Decision, Denial, DenialKind, Held, Hold, HoldTerm, Permit, Receipt, Ruling, Verdict,
};
pub use machine::{Framed, Input, Machine, Output, Work};
pub use protocol::{Actor, Admission, Credential, Login, Proof, Protocol, ProtocolSpec, Rights};
pub use tap::{Tap, TapError};
pub use text::{event_text, sha256_hex};
