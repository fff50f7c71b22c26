//! Certificates of a tunnel: both ends show one, both by the authority for relays.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use corral_model::limits;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::stream::Plain;
use crate::tcp;

/// The name in a gateway's certificate for relays: who it is, not where.
pub const GATEWAY_NAME: &str = "gateway.relay.corral";
/// A relay's certificate names it in a URI behind this.
const RELAY_URI: &str = "corral:relay:";
const ALPN: &[u8] = b"corral-relay/1";

/// The URI by which a certificate names a relay.
#[must_use]
pub fn relay_uri(relay: &str) -> String {
    format!("{RELAY_URI}{relay}")
}

/// Why a tunnel's TLS cannot be set up, or another end not be taken.
#[derive(Debug, thiserror::Error)]
pub enum TunnelTlsError {
    #[error("a certificate or key is not readable PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("certificates and key are not usable")]
    Rustls(#[source] rustls::Error),
    #[error("the authority's certificate is not usable")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the other end speaks no corral-relay/1")]
    Alpn,
    #[error("the certificate names no relay, or not one alone")]
    Unnamed,
    #[error("the name of a gateway is not one that a certificate can have")]
    GatewayName,
}

/// Whom a certificate by the authority names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayCertificate {
    pub relay: String,
    /// In lower-case hexadecimal digits.
    pub serial: String,
    /// Since 1970.
    pub ends_at: Duration,
}

impl RelayCertificate {
    /// As [`RelayCertificate::read`], of the first certificate in a PEM text.
    ///
    /// # Errors
    /// [`TunnelTlsError::Pem`], [`TunnelTlsError::Unnamed`].
    pub fn read_pem(pem: &str) -> Result<Self, TunnelTlsError> {
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(TunnelTlsError::Pem)?;
        Self::read(&certificate)
    }

    /// Reads a certificate whose chain was checked already.
    ///
    /// # Errors
    /// [`TunnelTlsError::Unnamed`]: it does not name one relay, and nothing else.
    pub fn read(der: &[u8]) -> Result<Self, TunnelTlsError> {
        let unnamed = || TunnelTlsError::Unnamed;
        let (_, certificate) =
            x509_parser::certificate::X509Certificate::from_der(der).map_err(|_| unnamed())?;
        let names = certificate.subject_alternative_name().map_err(|_| unnamed())?;
        let names = names.ok_or_else(unnamed)?;
        let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else {
            return Err(unnamed());
        };
        let relay = uri.strip_prefix(RELAY_URI).ok_or_else(unnamed)?;
        let ends_at = u64::try_from(certificate.validity().not_after.timestamp());
        Ok(Self {
            relay: relay.to_owned(),
            serial: hex(certificate.raw_serial()),
            ends_at: Duration::from_secs(ends_at.map_err(|_| unnamed())?),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The gateway's side of a tunnel's TLS.
#[derive(Clone)]
pub struct GatewayTls {
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for GatewayTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GatewayTls")
    }
}

impl GatewayTls {
    /// TLS 1.3, and a certificate by this authority at the other end. Certificate, key and
    /// authority are PEM.
    ///
    /// # Errors
    /// [`TunnelTlsError`]: whoever made them is to blame.
    pub fn new(
        certificate_pem: &str,
        key_pem: &str,
        authority_pem: &str,
    ) -> Result<Self, TunnelTlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(roots(authority_pem)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(TunnelTlsError::Verifier)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TunnelTlsError::Rustls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain(certificate_pem)?, key(key_pem)?)
            .map_err(TunnelTlsError::Rustls)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Every connection shows its certificate; none is taken up again from before.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Does the handshake, and reads whom the relay's certificate names. Whether that certificate
    /// is still good is the caller's question.
    ///
    /// # Errors
    /// [`TunnelTlsError`]: the other end is to blame. The caller bounds the time.
    pub async fn accept(
        &self,
        socket: Plain,
    ) -> Result<(tokio_rustls::server::TlsStream<BufReader<Plain>>, RelayCertificate), TunnelTlsError>
    {
        let stream =
            self.acceptor.accept(buffered(socket)).await.map_err(TunnelTlsError::Handshake)?;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(ALPN) {
            return Err(TunnelTlsError::Alpn);
        }
        let shown = session.peer_certificates().and_then(|chain| chain.first());
        let certificate = RelayCertificate::read(shown.ok_or(TunnelTlsError::Unnamed)?)?;
        Ok((stream, certificate))
    }
}

/// The relay's side of a tunnel's TLS.
#[derive(Clone)]
pub struct RelayTls {
    connector: TlsConnector,
}

impl std::fmt::Debug for RelayTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RelayTls")
    }
}

impl RelayTls {
    /// TLS 1.3 towards a gateway whose certificate is by this authority. All are PEM.
    ///
    /// # Errors
    /// [`TunnelTlsError`]: whoever made them is to blame.
    pub fn new(
        certificate_pem: &str,
        key_pem: &str,
        authority_pem: &str,
    ) -> Result<Self, TunnelTlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TunnelTlsError::Rustls)?
            .with_root_certificates(roots(authority_pem)?)
            .with_client_auth_cert(chain(certificate_pem)?, key(key_pem)?)
            .map_err(TunnelTlsError::Rustls)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Connects to a gateway's listener for relays, `host:port`, and does the handshake.
    ///
    /// # Errors
    /// [`TunnelTlsError::Handshake`]: the gateway, or the network, is to blame. The caller bounds
    /// the time. That a gateway does not take the certificate shows at the first read.
    pub async fn connect(
        &self,
        address: &str,
    ) -> Result<tokio_rustls::client::TlsStream<BufReader<TcpStream>>, TunnelTlsError> {
        let socket = TcpStream::connect(address).await.map_err(TunnelTlsError::Handshake)?;
        tcp::set_up(&socket).map_err(TunnelTlsError::Handshake)?;
        let name = ServerName::try_from(GATEWAY_NAME).map_err(|_| TunnelTlsError::GatewayName)?;
        let stream = self
            .connector
            .connect(name, buffered(socket))
            .await
            .map_err(TunnelTlsError::Handshake)?;
        match stream.get_ref().1.alpn_protocol() {
            Some(ALPN) => Ok(stream),
            Some(_) | None => Err(TunnelTlsError::Alpn),
        }
    }
}

/// TLS takes 4 KiB of a socket at a time: a call to the system for each would cost more than
/// the cipher.
fn buffered<S: tokio::io::AsyncRead>(socket: S) -> BufReader<S> {
    BufReader::with_capacity(limits::RELAY_READ_BYTES, socket)
}

fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, TunnelTlsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(TunnelTlsError::Pem)
}

fn key(pem: &str) -> Result<PrivateKeyDer<'static>, TunnelTlsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(TunnelTlsError::Pem)
}

fn roots(authority_pem: &str) -> Result<RootCertStore, TunnelTlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(authority_pem)? {
        roots.add(certificate).map_err(TunnelTlsError::Rustls)?;
    }
    Ok(roots)
}
