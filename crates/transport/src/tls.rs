//! TLS towards clients, with a certificate that can be changed while connections run.

use std::io;
use std::sync::{Arc, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;

use crate::stream::{Plain, Stream};
use crate::tls_stream::ServerTlsStream;

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate or key is not readable PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("the certificate file holds no certificate")]
    NoCertificate,
    #[error("certificate and key are not usable")]
    Rustls(#[source] rustls::Error),
}

/// Whether a client that comes again may go on with the keys of its last connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumption {
    Offered,
    /// Where no client asks for it: tickets cost time in each handshake, and memory.
    Refused,
}

/// The server's side of TLS. Cloning shares the certificate.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<RwLock<Arc<ServerConfig>>>,
    resumption: Resumption,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    /// TLS 1.2 and 1.3 with this chain (the server's certificate first) and key, in PEM. A client
    /// that offers ALPN names must offer one of `alpn`.
    ///
    /// # Errors
    /// [`TlsError`]: whoever wrote the files is to blame.
    pub fn new(
        chain_pem: &[u8],
        key_pem: &[u8],
        alpn: &[&str],
        resumption: Resumption,
    ) -> Result<Self, TlsError> {
        let config = server_config(chain_pem, key_pem, alpn, resumption)?;
        Ok(Self { config: Arc::new(RwLock::new(config)), resumption })
    }

    /// Uses another certificate for connections from here on.
    ///
    /// # Errors
    /// [`TlsError`]; the old certificate stays in use.
    pub fn replace(&self, chain_pem: &[u8], key_pem: &[u8]) -> Result<(), TlsError> {
        let alpn: Vec<String> = self
            .current()
            .alpn_protocols
            .iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        let alpn: Vec<&str> = alpn.iter().map(String::as_str).collect();
        let config = server_config(chain_pem, key_pem, &alpn, self.resumption)?;
        match self.config.write() {
            Ok(mut slot) => *slot = config,
            Err(poisoned) => *poisoned.into_inner() = config,
        }
        Ok(())
    }

    /// Does the handshake.
    ///
    /// # Errors
    /// Whatever the client did wrong, or a lost connection. The caller bounds the time.
    ///
    /// # Cancel safety
    /// The connection is lost when this is dropped.
    pub async fn accept(&self, plain: Plain) -> io::Result<Stream> {
        let stream = ServerTlsStream::accept(self.current(), plain).await?;
        Ok(Stream::ServerTls(Box::new(stream)))
    }

    fn current(&self) -> Arc<ServerConfig> {
        match self.config.read() {
            Ok(slot) => slot.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }
}

impl Stream {
    /// The ALPN name that a TLS handshake with a client agreed on.
    #[must_use]
    pub fn client_alpn(&self) -> Option<&[u8]> {
        match self {
            Self::ServerTls(stream) => stream.alpn(),
            Self::Tcp(_) | Self::Unix(_) | Self::Relayed(_) | Self::TargetTls(_) => None,
        }
    }
}

fn server_config(
    chain_pem: &[u8],
    key_pem: &[u8],
    alpn: &[&str],
    resumption: Resumption,
) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<_, _>>()
        .map_err(TlsError::Pem)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(TlsError::Pem)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Rustls)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Rustls)?;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    match resumption {
        Resumption::Offered => {}
        Resumption::Refused => {
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
    }
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use rustls::ClientConfig;
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio_rustls::TlsConnector;

    use super::*;

    /// How many tickets a client has when it got its first byte.
    async fn tickets(resumption: Resumption) -> u32 {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let tls = ServerTls::new(chain.as_bytes(), key.as_bytes(), &[], resumption).expect("TLS");
        tls.replace(chain.as_bytes(), key.as_bytes()).expect("TLS");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let (near, far) = UnixStream::pair().expect("sockets");
        let connector = TlsConnector::from(Arc::new(client));
        let (client, server) =
            tokio::join!(connector.connect(name, near), tls.accept(Plain::Unix(far)));
        let (mut client, mut server) = (client.expect("TLS"), server.expect("TLS"));
        server.write_all(b"x").await.expect("written");
        server.flush().await.expect("flushed");
        client.read_exact(&mut [0]).await.expect("read");
        client.get_ref().1.tls13_tickets_received()
    }

    #[tokio::test]
    async fn tickets_are_given_where_they_are_offered_and_after_another_certificate_too() {
        assert!(tickets(Resumption::Offered).await > 0);
        assert_eq!(tickets(Resumption::Refused).await, 0);
    }
}
