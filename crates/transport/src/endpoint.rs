//! Where a target is, and how to talk to it.

use std::path::PathBuf;
use std::sync::Arc;

use corral_model::resource::TargetTlsMode;

use crate::tunnel::RelayPool;

/// Where a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Address {
    /// Loopback addresses and Unix sockets never leave the machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                host == "localhost"
                    || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

/// How the gateway gets there.
#[derive(Debug, Clone, Default)]
pub enum Route {
    #[default]
    Direct,
    /// Through any of these relays.
    Relay(Arc<RelayPool>),
}

/// A target's address with its TLS settings, and the way there.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub address: Address,
    pub route: Route,
    pub tls: TargetTlsMode,
    /// Trusted certificates in PEM; the system's when None.
    pub ca_pem: Option<String>,
}

impl Endpoint {
    /// Whether it never leaves the gateway's machine: behind a relay, loopback is the relay's.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.route, Route::Direct) && self.address.is_local()
    }
}
