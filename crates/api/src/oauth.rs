//! The token service: exchange (RFC 8693), introspection (RFC 7662), metadata (RFC 8414). Requests
//! are forms, so only answers have types here.

use corral_model::ids::{PrincipalName, RunId, TargetName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::secret::WireSecret;

/// `grant_type` of an exchange.
pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// `grant_type` of a workload with a secret.
pub const CLIENT_CREDENTIALS: &str = "client_credentials";
/// A token that its issuer alone can read, or a JWT for access.
pub const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
pub const JWT_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";
pub const ID_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:id_token";
/// `type` of the one authorization detail (RFC 9396).
pub const RUN_DETAIL: &str = "corral_run";

/// The form of `POST /oauth2/token`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenRequest {
    /// `urn:ietf:params:oauth:grant-type:token-exchange` or `client_credentials`.
    pub grant_type: String,
    /// Of a job, a principal or a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_token: Option<WireSecret>,
    /// `urn:ietf:params:oauth:token-type:` and `jwt`, `id_token` or `access_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_token_type: Option<String>,
    /// `urn:ietf:params:oauth:token-type:` and `access_token` (the default) or `jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_token_type: Option<String>,
    /// A list of one [`RunDetail`], as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_details: Option<String>,
    /// The workload that is meant, where several trust such tokens; or whose secret it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// With `client_credentials`, unless it is in a Basic header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<WireSecret>,
}

/// The form of `POST /oauth2/introspect` and `POST /oauth2/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenQuestion {
    pub token: WireSecret,
}

/// What a run is to be, or which run another JWT is asked for, in `authorization_details`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunDetail {
    /// `corral_run`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of the run that is to be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Instead of everything else: the run of the subject token itself, which gets another JWT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub run_id: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Empty: whatever its parent or principal may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Policy actions, or groups of them, that it is limited to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// It ends when nobody renews it for this long, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_within_s: Option<u64>,
    /// Seconds, at least 1. The default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
}

/// The run of the token, in the answer's `authorization_details`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartedDetail {
    /// `corral_run`.
    #[serde(rename = "type")]
    pub kind: String,
    #[schema(value_type = String)]
    pub run_id: RunId,
    pub name: String,
    /// Names from the root run to this one.
    pub path: String,
    #[schema(value_type = String)]
    pub principal: PrincipalName,
    #[schema(value_type = String)]
    pub sponsor: PrincipalName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub parent: Option<RunId>,
    #[schema(value_type = Vec<String>)]
    pub targets: Vec<TargetName>,
    #[serde(default)]
    pub actions: Vec<String>,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: OffsetDateTime,
}

/// RFC 6749 section 5.1, RFC 8693 section 2.2.1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenResponse {
    pub access_token: WireSecret,
    /// `Bearer` or `DPoP`.
    pub token_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_token_type: Option<String>,
    /// Seconds, of the token. A JWT is good for 15 minutes or less, and no longer than its run.
    pub expires_in: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorization_details: Vec<StartedDetail>,
}

/// RFC 7662 section 2.2.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Introspection {
    pub active: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// `Bearer` or `DPoP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sponsor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub run_id: Option<RunId>,
    /// Names from the root run to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_path: Option<String>,
    /// The run, acting for its parent, and so on to the root (RFC 8693 section 4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub act: Option<Value>,
    /// `{"jkt": THUMBPRINT}` of the key that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub cnf: Option<Value>,
}

/// RFC 8414 section 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerMetadata {
    pub issuer: String,
    pub authorization_endpoint: String,
    pub device_authorization_endpoint: String,
    pub token_endpoint: String,
    pub introspection_endpoint: String,
    pub revocation_endpoint: String,
    pub jwks_uri: String,
    pub grant_types_supported: Vec<String>,
    pub response_types_supported: Vec<String>,
    pub code_challenge_methods_supported: Vec<String>,
    pub token_endpoint_auth_methods_supported: Vec<String>,
    pub authorization_details_types_supported: Vec<String>,
    pub dpop_signing_alg_values_supported: Vec<String>,
}
