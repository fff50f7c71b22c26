//! The process that enforces everything: wiring, the state that sessions share, and handlers.
//!
//! `up` starts and stops it. `app` is what it can do, as plain functions; `api` is HTTP over
//! them. Only `protocols` names a protocol.

pub mod api;
pub mod app;
pub mod up;

pub use up::{UpOptions, up};
