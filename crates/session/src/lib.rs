//! The one loop that drives a protocol machine between a client and a target.
//!
//! It knows no protocol, no store and no record format: those come in as [`corral_gate::Machine`],
//! [`scope::Authority`] and [`scope::Scope`].

pub mod scope;

pub use scope::{Admitted, Authority, ConnectionFacts, Control, Resolution, Scope, Totals, Usage};
