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
mod encoding;
mod link;
mod live;
mod machine;
mod native;
mod scram;
mod settings;
mod shared;
mod startup;
mod target_login;
mod turns;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use corral_gate::machine::Start;
use corral_gate::{Framed, Machine, Protocol, ProtocolSpec};
use corral_model::native::{NativeClient, Reach};
use corral_model::trace::{TraceNames, TracedObjects};

use crate::analyst::{Analyst, Grammar};
use crate::machine::PostgresMachine;
use crate::shared::Shared;

const SPEC: ProtocolSpec = ProtocolSpec {
    id: "postgres",
    title: "PostgreSQL",
    alpn: &["postgresql"],
    has_direct_tls: true,
    verbs: analysis::verbs::VERBS,
    attributes: &[],
    mount: None,
    assurance: "Every statement is analysed and decided before it runs; masked columns are replaced \
                before they reach the client.",
    traces: TraceNames {
        system: Some(("db.system.name", "postgresql")),
        code: "db.response.status_code",
        successes: &["00000"],
        rows: Some("db.response.returned_rows"),
        objects: TracedObjects::Names,
    },
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

    /// A path that already ends in a socket's name (another port than the usual) stays as it is.
    fn socket_path(&self, directory: &Path) -> PathBuf {
        let name = directory.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        if name.starts_with(".s.PGSQL.") {
            directory.to_path_buf()
        } else {
            directory.join(".s.PGSQL.5432")
        }
    }
}

impl Framed for Postgres {
    fn accept(&self, start: Start) -> Box<dyn Machine> {
        Box::new(PostgresMachine::new(start, self.shared.clone()))
    }
}
