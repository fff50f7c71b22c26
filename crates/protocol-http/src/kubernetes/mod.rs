//! The Kubernetes API: requests are judged by verb, resource, namespace and object, and answered
//! by the cluster's own API server.

mod body;
mod call;
mod change;
mod cluster;
mod diff;
mod exchange;
mod fields;
mod judge;
mod live;
mod masking;
mod native;
mod objects;
mod options;
mod outgoing;
mod parked;
mod path;
mod preview;
mod query;
mod renewal;
mod resources;
mod secrets;
mod shown;
mod status;
mod streams;
mod verbs;
mod versions;
mod watch;
mod wire;

use std::sync::Arc;

use corral_gate::{Protocol, ProtocolSpec};
use corral_model::native::{NativeClient, Reach};
use corral_model::resource::{ColumnName, TargetSpec};
use corral_model::trace::{TraceNames, TracedObjects};
use corral_session::scope::BoxFuture;
use corral_session::{
    CredentialRenewal, HttpBody, HttpClient, HttpConnection, HttpEngine, HttpTarget,
};

use crate::http_parts::sessions::Sessions;
use cluster::Cluster;
use parked::Parked;
use streams::Refusals;

const SPEC: ProtocolSpec = ProtocolSpec {
    id: "kubernetes",
    title: "Kubernetes",
    alpn: &["h2", "http/1.1"],
    has_direct_tls: true,
    verbs: &verbs::VERBS,
    attributes: &verbs::ATTRIBUTES,
    mount: Some("/k8s"),
    assurance: "Requests are decided by verb, resource, namespace, name and written object before \
                the cluster sees them; what a shell or a tunnel into a pod does is only recorded.",
    traces: TraceNames {
        system: None,
        code: "corral.code",
        // Of requests, and the exit code of a command in a container.
        successes: &["200", "201", "202", "204", "304", "0"],
        rows: None,
        objects: TracedObjects::Types,
    },
};

/// The protocol.
#[derive(Debug, Default)]
pub struct Kubernetes {
    kept: Kept,
}

/// What is kept over all connections.
#[derive(Debug, Clone, Default)]
struct Kept {
    /// Of streams.
    refusals: Arc<Refusals>,
    parked: Arc<Parked>,
}

impl Kubernetes {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Protocol for Kubernetes {
    fn spec(&self) -> &ProtocolSpec {
        &SPEC
    }

    fn native_client(&self, reach: &Reach) -> Option<NativeClient> {
        native::client(reach)
    }

    fn check_target(&self, target: &TargetSpec) -> Vec<String> {
        options::check(target)
    }

    /// The values of Secrets.
    fn classified(&self, _target: &TargetSpec) -> Vec<ColumnName> {
        secrets::always_classified()
    }
}

impl HttpEngine for Kubernetes {
    fn connect(&self, client: HttpClient) -> Arc<dyn HttpConnection> {
        let sessions = Sessions::new(client.authority, client.facts);
        Arc::new(Connection { sessions, kept: self.kept.clone() })
    }

    fn renewal(&self) -> Option<&dyn CredentialRenewal> {
        Some(&renewal::TokenRenewal)
    }
}

/// One client's connection.
struct Connection {
    sessions: Sessions<Cluster>,
    kept: Kept,
}

impl HttpConnection for Connection {
    fn call(
        self: Arc<Self>,
        target: HttpTarget,
        request: http::Request<HttpBody>,
    ) -> BoxFuture<'static, http::Response<HttpBody>> {
        Box::pin(
            async move { exchange::answer(&self.sessions, &self.kept, &target, request).await },
        )
    }
}
