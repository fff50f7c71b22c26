//! What gateway and relay say to each other beside the streams: JSON in requests that the gateway
//! makes. The relay asks for nothing; its name is in its certificate alone.
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `PUT /settings` | [`Settings`] | 204 |
//! | `POST /renewal` | none | 200, [`Requested`] |
//! | `PUT /certificate` | [`Installed`] | 204 |
//! | `PUT /refused` | [`Refused`] | 204; the gateway closes the connection |

use bytes::{Bytes, BytesMut};
use corral_model::limits;
use corral_model::resource::relay::AllowedAddress;
use h2::RecvStream;
use serde::{Deserialize, Serialize};

pub(super) const SETTINGS: &str = "/settings";
pub(super) const RENEWAL: &str = "/renewal";
pub(super) const CERTIFICATE: &str = "/certificate";
pub(super) const REFUSED: &str = "/refused";

/// What the relay must know: sent first, and again at every change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The relay's name, as its certificate says it.
    pub relay: String,
    /// The gateway's name.
    pub gateway: String,
    /// All that may be dialled.
    pub addresses: Vec<AllowedAddress>,
}

/// A relay's request for its next certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requested {
    /// PKCS#10 in PEM.
    pub request_pem: String,
}

/// A certificate that was signed on a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    pub certificate_pem: String,
}

/// Why the gateway does not take this relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    pub reason: String,
}

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum MessageError {
    #[error("the connection ended within a message")]
    Ended(#[source] h2::Error),
    #[error("a message has more than {} bytes", limits::RELAY_MESSAGE_BYTES_MAX)]
    TooLong,
}

/// Reads a whole message.
pub(super) async fn read_body(mut body: RecvStream) -> Result<Bytes, MessageError> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(MessageError::Ended)?;
        if whole.len().saturating_add(chunk.len()) > limits::RELAY_MESSAGE_BYTES_MAX {
            return Err(MessageError::TooLong);
        }
        whole.extend_from_slice(&chunk);
        body.flow_control().release_capacity(chunk.len()).map_err(MessageError::Ended)?;
    }
    Ok(whole.freeze())
}
