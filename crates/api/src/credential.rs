//! Short-lived credentials for clients, and what clients and targets must know of the gateway.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

/// `POST /api/v1/credentials`, as a run or somebody who signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialRequest {
    /// As in a target's `protocol:`.
    pub protocol: String,
    /// A public key in the protocol's own form. The private one never leaves its owner.
    pub material: String,
}

/// A credential for the bearer of the token. It is worth nothing once the token has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CredentialView {
    /// In the protocol's own form; of use only to who holds the private key. Public.
    pub credential: String,
    /// How long it is good from here on, whatever the caller's clock says.
    pub ttl_s: u64,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: OffsetDateTime,
}

/// `GET /api/v1/published/{protocol}`: by which host and port the asker reaches the listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PublishedQuery {
    pub host: String,
    pub port: u16,
}

/// What a gateway publishes of itself for a protocol. Public.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishedView {
    pub protocol: String,
    /// What clients must know to recognise the gateway, in the protocol's own form.
    pub clients: String,
    /// What targets must trust to take the credentials that the gateway makes itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<String>,
}

/// `GET /api/v1/targets/{name}/renewal`: how it stands with a credential that is renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RenewalView {
    /// The target.
    pub name: String,
    /// Whether the gateway renews its credential.
    pub is_renewed: bool,
    /// When the present one ends.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<OffsetDateTime>,
    /// Why there is no new one, as long as that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// `GET /api/v1/targets/{name}/presented`: how a target presents itself at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PresentedView {
    /// The target.
    pub name: String,
    /// Its keys, in the form that pins them.
    pub keys: Vec<String>,
}
