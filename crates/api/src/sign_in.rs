//! How the command line signs people in: as an OAuth client of the gateway, with the code flow on
//! loopback (RFC 8252) or as a device (RFC 8628). Field names are those of the RFCs.

use corral_model::ids::ResourceName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::WireSecret;

/// The one client of the gateway's authorization endpoint: public, proven by PKCE.
pub const CLIENT_ID: &str = "corral-cli";
/// Where a browser goes to sign in.
pub const AUTHORIZE_PATH: &str = "/oauth2/authorize";
/// Where a device begins to wait.
pub const DEVICE_PATH: &str = "/oauth2/device_authorization";
/// Where codes become tokens.
pub const TOKEN_PATH: &str = "/oauth2/token";
/// The path of the command line's own address on loopback.
pub const CALLBACK_PATH: &str = "/callback";
/// `grant_type` of RFC 8628.
pub const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// `grant_type` of RFC 6749 section 4.1.
pub const CODE_GRANT: &str = "authorization_code";

/// An identity provider that people may sign in through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderView {
    #[schema(value_type = String)]
    pub name: ResourceName,
}

/// A device that waits (RFC 8628 section 3.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAuthorization {
    pub device_code: WireSecret,
    pub user_code: String,
    pub verification_uri: String,
    pub verification_uri_complete: String,
    /// Seconds.
    pub expires_in: u64,
    /// Seconds between two questions.
    pub interval: u64,
}

/// A login token (RFC 6749 section 5.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInTokens {
    pub access_token: WireSecret,
    pub token_type: String,
    /// Seconds.
    pub expires_in: u64,
}

/// Why there is none (RFC 6749 section 5.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OAuthError {
    pub error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_description: Option<String>,
}
