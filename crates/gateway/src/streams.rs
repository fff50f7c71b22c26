//! Connections for the protocols' servers that came as upgraded requests of the `https` listener.

use std::collections::BTreeMap;
use std::sync::Arc;

use corral_model::limits;
use corral_session::http::into_stream;
use corral_session::{ConnectionFacts, Server};
use hyper::upgrade::OnUpgrade;
use tokio_util::task::TaskTracker;

/// The servers, and the sessions that they serve beside those of their listeners.
#[derive(Clone)]
pub(crate) struct Streams {
    servers: Arc<BTreeMap<&'static str, Arc<Server>>>,
    sessions: TaskTracker,
}

impl Streams {
    /// `servers` that can be handed a connection; `sessions` are waited for when the gateway stops.
    pub(crate) fn new(servers: BTreeMap<&'static str, Arc<Server>>, sessions: TaskTracker) -> Self {
        Self { servers: Arc::new(servers), sessions }
    }

    /// The server of a protocol whose clients have connections of their own.
    pub(crate) fn server(&self, protocol: &str) -> Option<Arc<Server>> {
        self.servers.get(protocol).cloned()
    }

    /// Serves the connection once it is one.
    pub(crate) fn carry(&self, server: Arc<Server>, on_upgrade: OnUpgrade, facts: ConnectionFacts) {
        self.sessions.spawn(async move {
            let upgraded = tokio::time::timeout(limits::LOGIN_DEADLINE, on_upgrade).await;
            match upgraded.ok().and_then(Result::ok).and_then(into_stream) {
                Some(stream) => server.serve_shown(stream, facts).await,
                None => server.not_handed_over(&facts),
            }
        });
    }
}
