//! Dialling for a gateway: what the lists allow, and nothing else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use corral_model::limits;
use corral_model::resource::relay::{AllowedAddress, Reachable, may_connect, reachable};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::tcp;

/// What a relay may dial: each list must allow it. The first is the gateway's, a second one may
/// be its operator's own.
#[derive(Debug, Clone, Default)]
pub struct AllowList {
    /// None until the gateway has sent it: nothing is allowed.
    pub of_gateway: Option<Arc<[AllowedAddress]>>,
    /// None when the operator leaves it to the gateway.
    pub of_operator: Option<Arc<[AllowedAddress]>>,
}

/// Why a target was not dialled.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The gateway asked for what it may not ask for.
    #[error("this address is not one that the relay may dial")]
    NotAllowed,
    #[error("the name does not resolve")]
    Resolve(#[source] io::Error),
    #[error("the name resolves to no address that the relay may dial")]
    NoneAllowed,
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("no connection in time")]
    Deadline,
}

impl AllowList {
    fn lists(&self) -> Option<impl Iterator<Item = &[AllowedAddress]>> {
        let of_gateway = self.of_gateway.as_deref()?;
        Some([Some(of_gateway), self.of_operator.as_deref()].into_iter().flatten())
    }

    /// The addresses among `found` that every list allows for this host.
    fn admit(&self, host: &str, port: u16, found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let may = |address: &SocketAddr| {
            self.lists().is_some_and(|mut lists| {
                lists.all(|list| may_connect(list, reachable(list, host, port), address.ip(), port))
            })
        };
        found.into_iter().filter(may).collect()
    }

    fn refuses(&self, host: &str, port: u16) -> bool {
        let is_refused =
            |list: &[AllowedAddress]| reachable(list, host, port) == Reachable::Refused;
        self.lists().is_none_or(|mut lists| lists.any(is_refused))
    }
}

/// Resolves a host and connects to the first of its allowed addresses that answers. The address
/// that was checked is the one that is dialled; the name is not asked for again.
///
/// # Errors
/// [`ConnectError`].
///
/// # Limits
/// [`limits::RELAY_DIAL_DEADLINE`].
///
/// # Cancel safety
/// Dropped, no connection is left.
pub async fn connect_allowed(
    allowed: &AllowList,
    host: &str,
    port: u16,
) -> Result<TcpStream, ConnectError> {
    if allowed.refuses(host, port) {
        return Err(ConnectError::NotAllowed);
    }
    let connect = async {
        let found = lookup_host((host, port)).await.map_err(ConnectError::Resolve)?;
        let admitted = allowed.admit(host, port, found.collect());
        let mut last = ConnectError::NoneAllowed;
        for address in admitted {
            match TcpStream::connect(address).await {
                Ok(target) => {
                    tcp::set_up(&target).map_err(ConnectError::Connect)?;
                    return Ok(target);
                }
                Err(error) => last = ConnectError::Connect(error),
            }
        }
        Err(last)
    };
    timeout(limits::RELAY_DIAL_DEADLINE, connect).await.map_err(|_| ConnectError::Deadline)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Option<Arc<[AllowedAddress]>> {
        Some(entries.iter().map(|text| AllowedAddress::parse(text).expect(text)).collect())
    }

    #[tokio::test]
    async fn only_what_every_list_allows_is_dialled() {
        let listener = crate::listen::Listener::bind("127.0.0.1:0").await.expect("free port");
        let port = listener.address().port();
        let at = |host: &str| format!("{host}:{port}");
        let dial = async |of_gateway: Option<&str>, of_operator: Option<&str>, host: &str| {
            let of_gateway = of_gateway.and_then(|text| list(&[text]));
            let of_operator = of_operator.and_then(|text| list(&[text]));
            connect_allowed(&AllowList { of_gateway, of_operator }, host, port).await
        };
        let exact = at("127.0.0.1");
        let network = at("127.0.0.0/8");
        let name = at("localhost");
        let elsewhere = at("10.0.0.0/8");

        dial(Some(&exact), None, "127.0.0.1").await.expect("named");
        dial(Some(&network), None, "127.0.0.1").await.expect("inside the network");
        dial(Some(&name), None, "localhost").await.expect("named");
        dial(Some(&network), None, "localhost").await.expect("resolves into the network");
        dial(Some(&name), Some(&network), "localhost").await.expect("both allow it");

        let no_list = dial(None, None, "127.0.0.1").await;
        assert!(matches!(no_list, Err(ConnectError::NotAllowed)));
        let other = dial(Some(&elsewhere), None, "127.0.0.1").await;
        assert!(matches!(other, Err(ConnectError::NotAllowed)));
        let outside = dial(Some(&elsewhere), None, "localhost").await;
        assert!(matches!(outside, Err(ConnectError::NoneAllowed)), "{outside:?}");
        let operator = dial(Some(&exact), Some(&elsewhere), "127.0.0.1").await;
        assert!(matches!(operator, Err(ConnectError::NotAllowed)));
        let operator = dial(Some(&name), Some(&elsewhere), "localhost").await;
        assert!(matches!(operator, Err(ConnectError::NoneAllowed)), "{operator:?}");
    }
}
