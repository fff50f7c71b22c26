//! Where a target is and how sure the gateway must be of it, read from a target's spec.

use std::net::{IpAddr, SocketAddr};

use super::{TargetSpec, TargetTlsMode};

/// A target's address, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParsedAddress {
    /// A host name or an IP address (without brackets), and a port.
    Tcp { host: String, port: u16 },
    /// The absolute directory of a Unix socket.
    Unix(String),
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("'{0}' has no port; write host:port, such as db.internal:5432")]
    NoPort(String),
    #[error("'{0}' does not end in a port between 1 and 65535")]
    BadPort(String),
    #[error("'{0}' is not a host name or IP address; an IPv6 address is written [::1]:5432")]
    BadHost(String),
    #[error("'{0}' is not an absolute directory without '..'")]
    BadDirectory(String),
}

impl ParsedAddress {
    /// Reads `host:port`, `[ipv6]:port` or an absolute directory.
    ///
    /// # Errors
    /// [`AddressError`]: whoever wrote the text is to blame.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.starts_with('/') {
            let is_sound = !text.contains('\0') && text.split('/').all(|part| part != "..");
            return if is_sound {
                Ok(Self::Unix(text.to_owned()))
            } else {
                Err(AddressError::BadDirectory(text.to_owned()))
            };
        }
        if text.starts_with('.') || (text.contains('/') && !text.contains(':')) {
            return Err(AddressError::BadDirectory(text.to_owned()));
        }
        let (host, port) =
            text.rsplit_once(':').ok_or_else(|| AddressError::NoPort(text.to_owned()))?;
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port: u16 = match port.parse() {
            Ok(port) if is_number && port != 0 => port,
            Ok(_) | Err(_) => return Err(AddressError::BadPort(text.to_owned())),
        };
        let host = read_host(host).ok_or_else(|| AddressError::BadHost(text.to_owned()))?;
        Ok(Self::Tcp { host, port })
    }

    /// Whether it never leaves the machine: a Unix socket, `localhost` or a loopback address.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                host.eq_ignore_ascii_case("localhost")
                    || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

fn read_host(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: std::net::Ipv6Addr = inner.parse().ok()?;
        return Some(address.to_string());
    }
    let is_host_character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_host = !text.is_empty() && text.len() <= 253 && text.chars().all(is_host_character);
    is_host.then(|| text.to_owned())
}

impl TargetSpec {
    /// Where the target is.
    ///
    /// # Errors
    /// [`AddressError`]: whoever wrote the manifest is to blame.
    pub fn parsed_address(&self) -> Result<ParsedAddress, AddressError> {
        ParsedAddress::parse(&self.address)
    }

    /// How sure the gateway must be of whom it talks to: what the manifest says, otherwise
    /// `verify-full`, and `disable` where the connection cannot leave the machine. An address
    /// that cannot be read counts as remote.
    #[must_use]
    pub fn tls_mode(&self) -> TargetTlsMode {
        // Behind a relay, loopback is the relay's machine.
        let is_local = || {
            self.relay.is_none() && self.parsed_address().is_ok_and(|address| address.is_local())
        };
        match &self.tls {
            Some(tls) => tls.mode,
            None if is_local() => TargetTlsMode::Disable,
            None => TargetTlsMode::VerifyFull,
        }
    }

    /// Whether a password that was given for `before` might now be shown to somebody else: the
    /// address changed, or how surely it is checked. The password must then be given again, so
    /// that nobody learns a sealed one by pointing its target elsewhere.
    #[must_use]
    pub fn goes_elsewhere(&self, before: &Self) -> bool {
        let trusted = |spec: &Self| spec.tls.as_ref().and_then(|tls| tls.ca_file.clone());
        self.protocol != before.protocol
            || self.address != before.address
            || self.relay != before.relay
            || self.tls_mode() != before.tls_mode()
            || trusted(self) != trusted(before)
    }

    /// The listener for this target alone, when it has one and its text can be read.
    #[must_use]
    pub fn listen_address(&self) -> Option<SocketAddr> {
        self.listen.as_deref().and_then(|text| text.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_ports_or_absolute_directories() {
        let tcp = |host: &str, port: u16| Some(ParsedAddress::Tcp { host: host.to_owned(), port });
        let check = |text: &str, expect: Option<ParsedAddress>| {
            assert_eq!(ParsedAddress::parse(text).ok(), expect, "{text}");
        };
        check("db.internal:5432", tcp("db.internal", 5432));
        check("127.0.0.1:1", tcp("127.0.0.1", 1));
        check("[::1]:5432", tcp("::1", 5432));
        check("/var/run/postgresql", Some(ParsedAddress::Unix("/var/run/postgresql".into())));
        for text in [
            "",
            "db",
            "db:",
            "db:0",
            "db:65536",
            "db:+5",
            "::1:5432",
            ":5432",
            "./run",
            "run/pg",
            "/run/../etc",
            "db name:5432",
            "[::1]",
            "user@db:5432",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn only_loopback_and_sockets_are_local() {
        for text in ["/run/pg", "localhost:1", "127.8.8.8:1", "[::1]:1"] {
            assert!(ParsedAddress::parse(text).expect(text).is_local(), "{text}");
        }
        for text in ["localhost.example.com:1", "10.0.0.1:1", "[::2]:1", "db:1"] {
            assert!(!ParsedAddress::parse(text).expect(text).is_local(), "{text}");
        }
    }
}
