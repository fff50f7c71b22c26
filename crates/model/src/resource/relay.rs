//! What a relay is, and the addresses that it may dial.
//!
//! The gateway and the relay read the same list with the same code: the gateway before it asks,
//! the relay before it dials, and again for each address that a name resolves to.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::ids::ResourceName;
use crate::limits;

/// Processes near targets, under one name, that dial out to the gateway and move bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelaySpec {
    pub name: ResourceName,
    /// Everything that it may dial, and nothing else.
    pub addresses: Vec<AllowedAddress>,
}

/// One entry of a relay's list: `db.internal:5432`, `*.internal:443`, `10.0.0.7:22`,
/// `10.0.0.0/8:22`, `[fd00::1]:22` or `[fd00::/8]:22`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AllowedAddress {
    host: AllowedHost,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum AllowedHost {
    /// In lower case, without a dot at its end.
    Name(String),
    /// Any name below this one: `.internal`.
    Below(String),
    Network {
        address: IpAddr,
        /// Bits of the address that count: all of them for a single address.
        prefix: u8,
    },
}

/// Why a text is not an address that a relay may be allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllowedAddressError {
    #[error("'{0}' does not end in a port between 1 and 65535, such as db.internal:5432")]
    BadPort(String),
    #[error(
        "'{0}' names no host, '*.domain', IP address or network; an IPv6 network is written \
         [fd00::]/8:22"
    )]
    BadHost(String),
    #[error("'{0}' has bits set behind its prefix; the network is written {1}")]
    HostBits(String, String),
    #[error("'{0}' has a longer prefix than its address has bits")]
    BadPrefix(String),
}

/// What a list says of a host and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachable {
    /// The list names this very host or IP address: wherever its name leads.
    Named,
    /// A `*.domain` covers it: wherever its name leads that is not the relay's own machine or
    /// link, unless a network of the list covers that.
    Below,
    /// No name covers it, but networks of the list have this port: only where it resolves to an
    /// address inside of them.
    Inside,
    /// Nothing of the list covers it.
    Refused,
}

impl AllowedAddress {
    /// Reads one entry.
    ///
    /// # Errors
    /// [`AllowedAddressError`]: whoever wrote the text is to blame.
    pub fn parse(text: &str) -> Result<Self, AllowedAddressError> {
        let bad_port = || AllowedAddressError::BadPort(text.to_owned());
        let bad_host = || AllowedAddressError::BadHost(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad_port)?;
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port: u16 =
            port.parse().ok().filter(|port| is_number && *port != 0).ok_or_else(bad_port)?;
        if let Some(domain) = host.strip_prefix("*.") {
            let domain = host_name(domain).ok_or_else(bad_host)?;
            return Ok(Self { host: AllowedHost::Below(format!(".{domain}")), port });
        }
        let host = match read_network(host, text)? {
            Some(network) => network,
            None => AllowedHost::Name(host_name(host).ok_or_else(bad_host)?),
        };
        Ok(Self { host, port })
    }

    fn covers_ip(&self, ip: IpAddr, port: u16) -> bool {
        match &self.host {
            AllowedHost::Network { address, prefix } => {
                self.port == port && masked(ip, *prefix) == Some(*address)
            }
            AllowedHost::Name(_) | AllowedHost::Below(_) => false,
        }
    }
}

/// What a list says of a host, a name or an IP address without brackets, and a port.
#[must_use]
pub fn reachable(list: &[AllowedAddress], host: &str, port: u16) -> Reachable {
    if let Some(ip) = read_ip(host) {
        let is_covered = covers_ip(list, ip, port);
        return if is_covered { Reachable::Named } else { Reachable::Refused };
    }
    let Some(name) = host_name(host) else { return Reachable::Refused };
    let of_port = || list.iter().filter(|allowed| allowed.port == port);
    let has = |is_it: fn(&AllowedHost, &str) -> bool| {
        of_port().any(|allowed| is_it(&allowed.host, &name))
    };
    if has(|host, name| matches!(host, AllowedHost::Name(known) if known == name)) {
        return Reachable::Named;
    }
    if has(|host, name| matches!(host, AllowedHost::Below(domain) if name.ends_with(domain))) {
        return Reachable::Below;
    }
    match has(|host, _| matches!(host, AllowedHost::Network { .. })) {
        true => Reachable::Inside,
        false => Reachable::Refused,
    }
}

/// Whether a relay may connect to this address, that a host of this kind resolved to.
#[must_use]
pub fn may_connect(list: &[AllowedAddress], reach: Reachable, ip: IpAddr, port: u16) -> bool {
    let ip = ip.to_canonical();
    match reach {
        Reachable::Named => true,
        Reachable::Below => !is_of_the_machine(ip) || covers_ip(list, ip, port),
        Reachable::Inside => covers_ip(list, ip, port),
        Reachable::Refused => false,
    }
}

/// Addresses that mean the relay's own machine or link, such as a cloud's metadata service, and
/// those that are no single machine's.
fn is_of_the_machine(ip: IpAddr) -> bool {
    let is_special = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast();
    is_special
        || match ip {
            IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        }
}

fn covers_ip(list: &[AllowedAddress], ip: IpAddr, port: u16) -> bool {
    let ip = ip.to_canonical();
    list.iter().any(|allowed| allowed.covers_ip(ip, port))
}

fn read_ip(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(|ip| IpAddr::V6(ip).to_canonical()),
        None => host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical()),
    }
}

/// `10.0.0.7`, `10.0.0.0/8`, `[fd00::1]`, `[fd00::]/8` or `[fd00::/8]`; None for what is a name.
fn read_network(host: &str, text: &str) -> Result<Option<AllowedHost>, AllowedAddressError> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = inner.filter(|inner| inner.contains('/')).unwrap_or(host);
    let (address, prefix) = match host.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (host, None),
    };
    let is_bare_v6 = inner.is_none() && !address.starts_with('[') && address.contains(':');
    let address = match read_ip(address) {
        Some(address) if !is_bare_v6 => address,
        Some(_) => return Err(AllowedAddressError::BadHost(text.to_owned())),
        None if prefix.is_some() => return Err(AllowedAddressError::BadHost(text.to_owned())),
        None => return Ok(None),
    };
    let prefix: u8 = match prefix {
        None => bits(address),
        Some(prefix) => {
            let is_number = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
            let prefix = prefix.parse().ok().filter(|prefix| is_number && *prefix <= bits(address));
            prefix.ok_or_else(|| AllowedAddressError::BadPrefix(text.to_owned()))?
        }
    };
    match masked(address, prefix) {
        Some(network) if network == address => Ok(Some(AllowedHost::Network { address, prefix })),
        Some(network) => {
            let network = format!("{network}/{prefix}");
            Err(AllowedAddressError::HostBits(text.to_owned(), network))
        }
        None => Err(AllowedAddressError::BadPrefix(text.to_owned())),
    }
}

fn bits(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The network of an address; None when it has fewer bits than the prefix. An IPv4 address is
/// never inside an IPv6 network, because [`AllowedAddress::covers_ip`] compares whole addresses.
fn masked(ip: IpAddr, prefix: u8) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => {
            let behind = 32_u32.checked_sub(u32::from(prefix))?;
            let mask = u32::MAX.checked_shl(behind).unwrap_or(0);
            Some(IpAddr::V4((u32::from(ip) & mask).into()))
        }
        IpAddr::V6(ip) => {
            let behind = 128_u32.checked_sub(u32::from(prefix))?;
            let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
            Some(IpAddr::V6((u128::from(ip) & mask).into()))
        }
    }
}

/// A DNS name in lower case, without the dot of the root at its end. A name whose last label is
/// a number is none: resolvers take `127.1` and `0x7f000001` for addresses.
fn host_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        !label.is_empty() && label.len() <= 63 && label.chars().all(is_good)
    };
    let is_name = name.len() <= limits::HOST_NAME_BYTES_MAX && name.split('.').all(is_label);
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit());
    (is_name && !is_number).then_some(name)
}

impl std::fmt::Display for AllowedAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            AllowedHost::Name(name) => write!(f, "{name}")?,
            AllowedHost::Below(domain) => write!(f, "*{domain}")?,
            AllowedHost::Network { address, prefix } => {
                match address {
                    IpAddr::V4(ip) => write!(f, "{ip}")?,
                    IpAddr::V6(ip) => write!(f, "[{ip}]")?,
                }
                if *prefix != bits(*address) {
                    write!(f, "/{prefix}")?;
                }
            }
        }
        write!(f, ":{}", self.port)
    }
}

impl Serialize for AllowedAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AllowedAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<AllowedAddress> {
        entries.iter().map(|text| AllowedAddress::parse(text).expect(text)).collect()
    }

    #[test]
    fn entries_read_back_as_written() {
        for text in [
            "db.internal:5432",
            "*.internal:443",
            "10.0.0.7:22",
            "10.0.0.0/8:22",
            "0.0.0.0/0:22",
            "[fd00::1]:22",
            "[fd00::]/8:22",
            "localhost:1",
            "under_score.example:1",
        ] {
            assert_eq!(AllowedAddress::parse(text).expect(text).to_string(), text);
        }
        let same = |text: &str, as_text: &str| {
            assert_eq!(AllowedAddress::parse(text).expect(text).to_string(), as_text);
        };
        same("DB.Internal.:5432", "db.internal:5432");
        same("[fd00::/8]:22", "[fd00::]/8:22");
        same("[::ffff:10.0.0.7]:22", "10.0.0.7:22");
    }

    #[test]
    fn what_is_not_an_entry_is_refused() {
        for text in [
            "",
            "db.internal",
            "db.internal:0",
            "db.internal:65536",
            "db.internal:+22",
            ":22",
            "*:22",
            "*.:22",
            "a*.internal:22",
            "a..b:22",
            "10.0.0.1/8:22",
            "10.0.0.0/33:22",
            "10.0.0.0/:22",
            "10.0.0.0/+8:22",
            "fd00::1:22",
            "fd00::/8:22",
            "[fd00::1:22",
            "[db.internal]:22",
            "db.internal/8:22",
            "127.1:22",
            "2130706433:22",
            "0x7f000001:22",
            "db internal:22",
            "user@db:22",
            "db:22:22",
            "db\0:22",
        ] {
            assert!(AllowedAddress::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_what_the_list_covers_is_reachable() {
        let list =
            list(&["db.internal:5432", "*.example.com:443", "10.0.0.0/8:22", "[fd00::]/8:22"]);
        let check = |host: &str, port: u16, expect: Reachable| {
            assert_eq!(reachable(&list, host, port), expect, "{host}:{port}");
        };
        check("db.internal", 5432, Reachable::Named);
        check("DB.INTERNAL.", 5432, Reachable::Named);
        check("db.internal", 5433, Reachable::Refused);
        check("xdb.internal", 5432, Reachable::Refused);
        check("a.example.com", 443, Reachable::Below);
        check("a.b.example.com", 443, Reachable::Below);
        check("example.com", 443, Reachable::Refused);
        check("badexample.com", 443, Reachable::Refused);
        check("a.example.com.evil.net", 443, Reachable::Refused);
        check("10.1.2.3", 22, Reachable::Named);
        check("::ffff:10.1.2.3", 22, Reachable::Named);
        check("11.1.2.3", 22, Reachable::Refused);
        check("10.1.2.3", 23, Reachable::Refused);
        check("fd12::1", 22, Reachable::Named);
        check("[fd12::1]", 22, Reachable::Named);
        check("fe80::1", 22, Reachable::Refused);
        check("web-1", 22, Reachable::Inside);
        check("127.1", 22, Reachable::Refused);
        check("0x7f.1", 22, Reachable::Refused);
        check("", 22, Reachable::Refused);
        check("a b", 22, Reachable::Refused);
    }

    #[test]
    fn where_a_name_leads_is_checked_again() {
        let list = list(&["*.example.com:443", "10.0.0.0/8:443", "169.254.1.0/24:443"]);
        let check = |reach: Reachable, ip: &str, expect: bool| {
            let ip: IpAddr = ip.parse().expect("address");
            assert_eq!(may_connect(&list, reach, ip, 443), expect, "{reach:?} {ip}");
        };
        check(Reachable::Named, "127.0.0.1", true);
        check(Reachable::Below, "192.0.2.1", true);
        for own in ["127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "fe80::1", "224.0.0.1"] {
            check(Reachable::Below, own, false);
        }
        check(Reachable::Below, "::ffff:127.0.0.1", false);
        check(Reachable::Below, "169.254.1.9", true);
        check(Reachable::Inside, "10.9.9.9", true);
        check(Reachable::Inside, "::ffff:10.9.9.9", true);
        check(Reachable::Inside, "11.9.9.9", false);
        check(Reachable::Refused, "10.9.9.9", false);
    }
}
