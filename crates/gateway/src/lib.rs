//! The process that enforces everything: wiring, the state that sessions share, and handlers.
//!
//! `up` starts and stops it. `app` is what it can do, as plain functions; `api` is HTTP over
//! them. Only `protocols` names a protocol.

pub mod api;
pub mod app;
mod certificates;
mod data_dir;
mod events;
pub mod gateway;
mod https;
mod listeners;
mod logging;
mod metrics;
mod mounted;
mod possession;
mod protocols;
mod settings;
mod streams;
mod traces;
pub mod up;

pub use gateway::Gateway;
pub use protocols::verbs as protocol_verbs;
pub use up::{UpOptions, up};
