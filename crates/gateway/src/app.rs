//! What the gateway can do, as functions with plain arguments and results.
//!
//! Handlers and sessions call these; nothing here knows HTTP, a protocol or a socket. Every
//! function that acts for somebody takes the [`Caller`] first and checks what that caller may.

pub mod about;
pub mod approvals;
pub mod audit;
pub mod caller;
pub mod error;
pub mod policies;
pub mod principals;
pub mod record_key;
pub mod resources;
pub mod runs;
pub mod sessions;

pub use caller::Caller;
pub use error::{AppError, Problem};

/// The gateway's state, shared by all sessions and handlers as `Arc<App>`.
pub struct App {}
