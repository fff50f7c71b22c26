//! Where a target is, and how to talk to it.

use std::path::PathBuf;

use corral_model::resource::TargetTlsMode;

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

/// A target's address with its TLS settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Address,
    pub tls: TargetTlsMode,
    /// Trusted certificates in PEM; the system's when None.
    pub ca_pem: Option<String>,
}
