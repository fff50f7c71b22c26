//! The way to targets that the gateway cannot reach itself.
//!
//! A relay near the targets dials the gateway: one TLS connection with certificates on both
//! sides, HTTP/2 inside. On it the roles are turned round: the gateway, which was called, is
//! HTTP/2's client and opens a `CONNECT` stream for each connection with a target; the relay, the
//! server, dials the address and moves bytes.
//!
//! ```text
//!   session ─► Stream::Relayed ─┐                                ┌─► pump ─► target
//!   session ─► Stream::Relayed ─┼─► GatewayEnd ══ TLS ══ RelayEnd ┼─► pump ─► target
//!   config  ─► settings ────────┘    (client)          (server)  └─► the list of addresses
//! ```
//!
//! Each stream has its own window ([`limits::RELAY_STREAM_WINDOW_BYTES`]); the connection's has
//! room for all of them, so a stream that nobody reads holds its own bytes and stalls nobody.
//! Both ends ask every [`limits::RELAY_PING_INTERVAL`] whether the other is there, and end all
//! streams when it has been silent for [`limits::RELAY_LEASE`].
//!
//! This module is common to both ends; it knows no target, no policy and no store.

mod allowed;
mod gateway_end;
mod health;
mod messages;
mod pool;
mod pump;
mod relay_end;
mod stream;
mod tls;

pub use corral_model::resource::relay::{
    AllowedAddress, AllowedAddressError, Reachable, reachable,
};

pub use allowed::{AllowList, ConnectError, connect_allowed};
pub use gateway_end::{GatewayEnd, Tunnel, TunnelEnd, TunnelError};
pub use messages::{Installed, Refused, Requested, Settings};
pub use pool::{Addresses, Member, Membership, OnRefused, RefusedBy, RelayPool};
pub use pump::{Moved, pump};
pub use relay_end::{
    Answer, Asked, AskedMessage, AskedStream, Message, RelayEnd, RelayEndError, StreamRefusal,
};
pub use stream::TunnelStream;
pub use tls::{GATEWAY_NAME, GatewayTls, RelayCertificate, RelayTls, TunnelTlsError, relay_uri};

use corral_model::limits;

/// The connection's window: every stream may hold its own, and those of messages.
fn connection_window_bytes() -> u32 {
    let streams = limits::RELAY_STREAMS_MAX.saturating_add(MESSAGE_STREAMS);
    // HTTP/2 knows no window above 2^31 - 1 (RFC 9113 section 6.9.1).
    limits::RELAY_STREAM_WINDOW_BYTES.saturating_mul(streams).min(0x7fff_ffff)
}

/// The waits of a relay before it connects again.
pub const RECONNECT_MIN: std::time::Duration = limits::RELAY_RECONNECT_MIN;
/// The longest of them.
pub const RECONNECT_MAX: std::time::Duration = limits::RELAY_RECONNECT_MAX;
/// TLS handshake and first words of a connection.
pub const HANDSHAKE_DEADLINE: std::time::Duration = limits::RELAY_HANDSHAKE_DEADLINE;
/// How long streams of a relay that stops may go on, when nobody says otherwise.
pub const DRAIN_TIMEOUT: std::time::Duration = limits::RELAY_DRAIN_TIMEOUT;

/// Streams beside those of targets: one message at a time, and room for what is being closed.
const MESSAGE_STREAMS: u32 = 64;
