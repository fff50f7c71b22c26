//! The subsystem `sftp`: every operation is decided on its path, in version 3 with OpenSSH's
//! extensions.
//!
//! ```text
//! client ─► codec::Request ─► plan ─► session: decide ─► permit ─► the planned packet ─► target
//!                               └► under the permit of an open handle ─────────────────► target
//! client ◄─ the target's packet as it is ◄─ checked against what was asked ◄─ codec::Reply
//! ```
//!
//! The gateway asks the target for the login directory once, makes every path absolute, and sends
//! what it decided on, never what the client wrote. Where symbolic links lead is the target's
//! business.

mod answers;
mod bounds;
mod codec;
mod content;
mod ends;
mod extension;
mod handles;
mod hello;
mod machine;
mod path;
mod plan;
mod serve;
mod statement;

pub(crate) use ends::{SUBSYSTEM, run};
pub use serve::{ClientSide, Ending, Opener, Piece, Side, serve};
pub use statement::{ATTRIBUTES, SFTP_READ, SFTP_WRITE};
