//! How to reach the gateway and its targets.

use std::collections::BTreeMap;

use corral_model::ids::TargetName;
use corral_model::native::NativeClient;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// `GET /api/v1/version`; needs no token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionInfo {
    pub name: String,
    pub version: String,
}

/// What is asked of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ClientQuery {
    /// For files that serve longer than the process that writes them, which then keeps no key
    /// agent.
    #[serde(default)]
    pub kept: bool,
}

/// `GET /api/v1/protocols`: what the gateway can serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProtocolView {
    /// As in a target's `protocol:`.
    pub id: String,
    pub title: String,
    /// What is decided soundly for its sessions, and what is only recorded.
    pub assurance: String,
}

/// `GET /api/v1/connection`: the gateway's listeners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayInfo {
    pub name: String,
    pub version: String,
    /// By protocol, `address:port`, as in ready.json.
    pub listeners: BTreeMap<String, String>,
    /// What a client of the targets that the asker may use is told; one entry for each protocol.
    pub clients: Vec<ListenerClient>,
    /// The certificate authority of the listeners' certificates, PEM. Public.
    pub ca_pem: String,
}

/// A listener that is shared by all targets of a protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListenerClient {
    pub protocol: String,
    /// As in [`TargetConnection::host`].
    pub host: String,
    pub port: u16,
    /// As in [`TargetConnection::client`]; where the asker may use several targets, one of them
    /// stays to be chosen.
    #[schema(value_type = Object)]
    pub client: NativeClient,
}

/// `GET /api/v1/targets/{name}/connection`: what a stock client needs beside a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetConnection {
    /// The target's name.
    #[schema(value_type = String)]
    pub name: TargetName,
    pub protocol: String,
    /// Where the gateway listens. An unspecified address (`0.0.0.0`, `::`) means: the host by
    /// which its API was reached.
    pub host: String,
    pub port: u16,
    /// What the client asks for as its database: it names the target. Absent where the listener
    /// belongs to the target.
    pub database: Option<String>,
    /// The usual client of the protocol, and the variables that lead it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub client: Option<NativeClient>,
    /// The certificate authority of the listener's certificate, PEM. Public.
    pub ca_pem: String,
}

/// `DIR/ready.json` (CONTRACT section 2): there while the gateway accepts connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyFile {
    pub version: String,
    pub pid: u32,
    /// `https://127.0.0.1:41000`.
    pub api: String,
    pub ca_file: String,
    pub admin_token_file: String,
    /// By protocol, `address:port`.
    pub listeners: BTreeMap<String, String>,
}
