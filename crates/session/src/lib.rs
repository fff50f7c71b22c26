//! The one loop that drives a protocol machine between a client and a target.
//!
//! It knows no protocol, no store and no record format: those come in as [`corral_gate::Machine`],
//! [`scope::Authority`] and [`scope::Scope`].

mod analysts;
mod decide;
mod drive;
mod io;
pub mod scope;
mod server;

pub use analysts::{Analysts, AnalystsError};
pub use scope::{Admitted, Authority, ConnectionFacts, Control, Resolution, Scope, Totals, Usage};
pub use server::Server;
