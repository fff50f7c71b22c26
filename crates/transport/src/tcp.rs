//! What every TCP connection of ours is set to, whoever opened it.

use std::io;

use corral_model::limits;
use rustix::net::sockopt;
use tokio::net::TcpStream;

/// Sends small messages at once, and finds out about a peer that vanished.
///
/// Small messages answer small messages here; waiting to fill a segment costs 40 ms. A watch,
/// `logs -f` or shell may be silent for hours, and a peer that lost its power or its network says
/// nothing when it goes: without probes its session would stay, and count, for ever.
///
/// # Errors
/// Whatever the system reports, such as that the connection has already ended.
pub(crate) fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_tcp_keepidle(stream, limits::TCP_KEEP_ALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, limits::TCP_KEEP_ALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, limits::TCP_KEEP_ALIVE_PROBES)?;
    sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, Endpoint, Listener, Route, Stream, TargetTlsMode};

    fn check(stream: &TcpStream) {
        assert!(stream.nodelay().expect("option"));
        assert!(sockopt::socket_keepalive(stream).expect("option"));
        assert_eq!(sockopt::tcp_keepidle(stream), Ok(limits::TCP_KEEP_ALIVE_IDLE));
        assert_eq!(sockopt::tcp_keepintvl(stream), Ok(limits::TCP_KEEP_ALIVE_INTERVAL));
        assert_eq!(sockopt::tcp_keepcnt(stream), Ok(limits::TCP_KEEP_ALIVE_PROBES));
    }

    #[tokio::test]
    async fn both_ends_of_a_session_are_probed() {
        let listener = Listener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.address();
        let endpoint = Endpoint {
            address: Address::Tcp { host: address.ip().to_string(), port: address.port() },
            route: Route::Direct,
            tls: TargetTlsMode::Disable,
            ca_pem: None,
        };
        let (dialled, accepted) = tokio::join!(endpoint.dial(), listener.accept());

        for stream in [dialled.expect("dialled"), accepted.expect("accepted").stream] {
            let Stream::Tcp(stream) = stream else { panic!("without TLS") };
            check(&stream);
        }
    }
}
