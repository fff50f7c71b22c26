//! PostgreSQL on the wire, pure: frames, login, statements, rows, and the analysis of SQL.
//!
//! [`Postgres`] is the protocol as the gateway lists it; everything else follows one connection's
//! way: `startup`, `target_login`, `live`. This crate opens nothing, waits for nothing and knows
//! neither policy nor record. See its README for versions, and for what is refused.

pub mod analysis;
pub mod analyst;
pub mod codec;
mod conditions;
mod deny;
mod digest;
mod link;
mod live;
mod machine;
mod native;
mod settings;
mod shared;
mod startup;
mod target_login;

use std::sync::Arc;

use corral_gate::machine::Start;
use corral_gate::{Machine, Protocol, ProtocolSpec};
use corral_model::native::{NativeClient, Reach};

use crate::analyst::{Analyst, Grammar};
use crate::machine::PostgresMachine;
use crate::shared::Shared;

const SPEC: ProtocolSpec = ProtocolSpec {
    id: "postgres",
    title: "PostgreSQL",
    alpn: &["postgresql"],
    has_direct_tls: true,
    verbs: analysis::verbs::VERBS,
};

/// PostgreSQL, protocol versions 3.0 to 3.2 with clients and 3.0 with targets. One value serves
/// all sessions: it keeps the targets' catalogues and the analyses that sessions share.
#[derive(Debug)]
pub struct Postgres {
    shared: Arc<Shared>,
}

impl Postgres {
    #[must_use]
    pub fn new() -> Self {
        Self::with_analyst(Arc::new(Grammar))
    }

    /// With another analysis than this crate's own: for tests of the wire.
    #[must_use]
    pub fn with_analyst(analyst: Arc<dyn Analyst>) -> Self {
        Self { shared: Arc::new(Shared::new(analyst)) }
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Self::new()
    }
}

impl Protocol for Postgres {
    fn spec(&self) -> &ProtocolSpec {
        &SPEC
    }

    fn native_client(&self, reach: &Reach) -> Option<NativeClient> {
        Some(native::client(reach))
    }

    fn accept(&self, start: Start) -> Box<dyn Machine> {
        Box::new(PostgresMachine::new(start, self.shared.clone()))
    }
}
