//! Accepting clients.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpListener;

use crate::stream::Stream;
use crate::tcp;

/// A listening TCP socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

/// A client that connected, and from where.
#[derive(Debug)]
pub struct Accepted {
    pub stream: Stream,
    pub client_ip: Option<IpAddr>,
    /// For people: `127.0.0.1:5123`.
    pub client_address: String,
}

impl Listener {
    /// Starts to listen. Port 0 takes a free one.
    ///
    /// # Errors
    /// Whatever the system reports: the address is in use, or is not one of this machine.
    pub async fn bind(address: &str) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// Whatever the system reports, such as too many open files; the caller waits a little and
    /// tries again.
    ///
    /// # Cancel safety
    /// No connection is lost.
    pub async fn accept(&self) -> io::Result<Accepted> {
        let (stream, client) = self.socket.accept().await?;
        tcp::set_up(&stream)?;
        Ok(Accepted {
            stream: Stream::Tcp(stream),
            client_ip: Some(client.ip()),
            client_address: client.to_string(),
        })
    }
}
