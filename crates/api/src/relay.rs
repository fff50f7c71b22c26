//! Relays: tokens to join with, joining, and which are connected.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::secret::WireSecret;

/// `POST /api/v1/relays/{name}/tokens`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RelayTokenRequest {
    /// How long it may be used; an hour when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
}

/// A token with which one process of a relay may join, once. Shown here and never again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayToken {
    /// The relay.
    pub name: String,
    pub token: WireSecret,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: OffsetDateTime,
}

/// `POST /api/v1/relays/join`: what a relay process sends, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RelayJoinRequest {
    pub token: WireSecret,
    /// PKCS#10 in PEM. Only its key is used: the token says whose it is.
    pub request_pem: String,
}

/// What a relay process must know from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayJoinResponse {
    pub relay: String,
    pub certificate_pem: String,
    /// By which the gateway's certificate on its listener for relays is.
    pub authority_pem: String,
    /// Host of that listener, when it is not the API's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    pub port: u16,
}

/// A relay and the processes of it that are connected to this gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayView {
    pub name: String,
    /// What it may dial.
    pub addresses: Vec<String>,
    pub processes: Vec<RelayProcessView>,
}

/// One connected relay process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayProcessView {
    /// Serial number of its certificate.
    pub id: String,
    pub address: String,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub joined_at: OffsetDateTime,
    /// Connections with targets that go through it.
    pub streams: u64,
    pub state: RelayProcessState,
}

/// Whether a relay process takes new streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RelayProcessState {
    Connected,
    /// It stops once its streams have ended.
    Draining,
}

/// What revoking a relay ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayRevoked {
    pub name: String,
    pub certificates_revoked: u64,
    pub connections_closed: u64,
}
