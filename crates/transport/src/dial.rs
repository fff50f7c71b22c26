//! Connecting to targets, and TLS towards them.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest;
use corral_model::Secret;
use corral_model::resource::TargetTlsMode;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::FromDer;

use crate::endpoint::{Address, Endpoint, Route};
use crate::stream::Stream;
use crate::tcp;
use crate::tunnel::TunnelError;

/// Why a target cannot be reached. For the log: a client never reads it.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("cannot connect to the target")]
    Connect(#[source] io::Error),
    #[error("the TLS handshake with the target failed")]
    Handshake(#[source] io::Error),
    #[error("the target's CA file is not readable PEM")]
    Ca(#[source] rustls::pki_types::pem::Error),
    #[error("no trusted certificate is configured, and the system has none")]
    NoRoots,
    #[error("the target's host name is not one that a certificate can name")]
    ServerName,
    #[error("TLS cannot be set up")]
    Rustls(#[source] rustls::Error),
    #[error("TLS is already running")]
    AlreadyTls,
    #[error("the gateway's own certificate or key for the target is not readable PEM")]
    Identity(#[source] rustls::pki_types::pem::Error),
    #[error("the target's relay may not dial its address")]
    NotAllowed,
    #[error("no relay of the target's name is connected")]
    NoRelay,
    #[error("the target's relay did not open a stream")]
    Relay(#[source] TunnelError),
    #[error("a Unix socket is not reached through a relay")]
    SocketBehindRelay,
}

/// A target's connection after its TLS handshake.
#[derive(Debug)]
pub struct TargetTlsStream {
    pub stream: Stream,
    /// `tls-server-end-point` (RFC 5929 section 4.1), for channel binding; None where the
    /// certificate's signature algorithm has no hash for it.
    pub end_point: Option<Vec<u8>>,
}

/// What the gateway offers in a target's handshake besides the usual.
#[derive(Debug, Clone, Copy, Default)]
pub struct TlsOffer<'a> {
    /// ALPN names, the preferred one first; none are sent when it is empty.
    pub alpn: &'a [&'a str],
    pub identity: Option<ClientIdentity<'a>>,
}

/// How the gateway shows a target who it is.
#[derive(Clone, Copy)]
pub struct ClientIdentity<'a> {
    /// The certificate's chain, its own first.
    pub chain_pem: &'a str,
    pub key: &'a Secret,
}

impl std::fmt::Debug for ClientIdentity<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientIdentity")
    }
}

impl Endpoint {
    /// Connects without TLS, directly or through a relay; protocols that start TLS later do so
    /// with [`start_target_tls`].
    ///
    /// # Errors
    /// [`DialError`]: the target, the network, or the relay is to blame. The caller bounds the
    /// time.
    pub async fn dial(&self) -> Result<Stream, DialError> {
        match (&self.route, &self.address) {
            (Route::Direct, address) => direct(address).await,
            (Route::Relay(pool), Address::Tcp { host, port }) => {
                pool.connect(host, *port).await.map(Stream::Relayed)
            }
            (Route::Relay(_), Address::Unix(_)) => Err(DialError::SocketBehindRelay),
        }
    }
}

async fn direct(address: &Address) -> Result<Stream, DialError> {
    match address {
        Address::Tcp { host, port } => {
            let stream =
                TcpStream::connect((host.as_str(), *port)).await.map_err(DialError::Connect)?;
            tcp::set_up(&stream).map_err(DialError::Connect)?;
            Ok(Stream::Tcp(stream))
        }
        Address::Unix(path) => {
            UnixStream::connect(path).await.map(Stream::Unix).map_err(DialError::Connect)
        }
    }
}

/// Does the client's side of a TLS handshake with a target.
///
/// # Errors
/// [`DialError`]: the target's certificate does not name its host or is not trusted
/// (`verify-full`), or the handshake failed.
pub async fn start_target_tls(
    stream: Stream,
    endpoint: &Endpoint,
) -> Result<TargetTlsStream, DialError> {
    start_target_tls_with(stream, endpoint, TlsOffer::default()).await
}

/// As [`start_target_tls`], with ALPN and a certificate of the gateway's own.
///
/// # Errors
/// As [`start_target_tls`]; [`DialError::Identity`] when whoever wrote the credential is to
/// blame.
pub async fn start_target_tls_with(
    stream: Stream,
    endpoint: &Endpoint,
    offer: TlsOffer<'_>,
) -> Result<TargetTlsStream, DialError> {
    let plain = stream.into_plain().map_err(|_| DialError::AlreadyTls)?;
    let config = client_config(endpoint, offer)?;
    let host = match &endpoint.address {
        Address::Tcp { host, .. } => host.clone(),
        Address::Unix(_) => "localhost".to_owned(),
    };
    let name = ServerName::try_from(host).map_err(|_| DialError::ServerName)?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, plain)
        .await
        .map_err(DialError::Handshake)?;
    let end_point = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .and_then(|certificate| server_end_point(certificate));
    Ok(TargetTlsStream { stream: Stream::TargetTls(Box::new(stream)), end_point })
}

impl Stream {
    /// The ALPN name that a TLS handshake with a target agreed on.
    #[must_use]
    pub fn target_alpn(&self) -> Option<&[u8]> {
        if let Self::TargetTls(stream) = self { stream.get_ref().1.alpn_protocol() } else { None }
    }
}

fn client_config(endpoint: &Endpoint, offer: TlsOffer<'_>) -> Result<ClientConfig, DialError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(DialError::Rustls)?;
    let builder = match endpoint.tls {
        TargetTlsMode::VerifyFull => builder.with_root_certificates(roots(endpoint)?),
        TargetTlsMode::Require | TargetTlsMode::Disable => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate { provider })),
    };
    let mut config = match offer.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain: Vec<CertificateDer<'static>> =
                CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes())
                    .collect::<Result<_, _>>()
                    .map_err(DialError::Identity)?;
            let key = PrivateKeyDer::from_pem_slice(identity.key.reveal().as_bytes())
                .map_err(DialError::Identity)?;
            builder.with_client_auth_cert(chain, key).map_err(DialError::Rustls)?
        }
    };
    config.alpn_protocols = offer.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(config)
}

fn roots(endpoint: &Endpoint) -> Result<RootCertStore, DialError> {
    let mut store = RootCertStore::empty();
    match &endpoint.ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(DialError::Ca)?;
                store.add(certificate).map_err(DialError::Rustls)?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
        }
    }
    if store.is_empty() { Err(DialError::NoRoots) } else { Ok(store) }
}

/// `tls: {mode: require}`: encrypted, without knowing with whom. The handshake's signature is
/// still checked, so that the certificate shown is the one in use (channel binding relies on it).
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate's hash by the hash of its signature algorithm; SHA-256 in place of MD5 and
/// SHA-1 (RFC 5929 section 4.1). The same algorithms as in PostgreSQL's `be-secure-openssl.c`.
fn server_end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
    let algorithm = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // md5, sha1 and sha256 with RSA; ECDSA with SHA-1 and SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::ServerTls;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Server {
        address: std::net::SocketAddr,
        ca_pem: String,
    }

    async fn tls_echo_server(name: &str) -> Server {
        let key = rcgen::generate_simple_self_signed([name.to_owned()]).expect("certificate");
        let chain = key.cert.pem();
        let key = key.signing_key.serialize_pem();
        let tls =
            ServerTls::new(chain.as_bytes(), key.as_bytes(), &[], crate::tls::Resumption::Offered)
                .expect("usable certificate");
        let listener = crate::listen::Listener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.address();
        tokio::spawn(async move {
            while let Ok(accepted) = listener.accept().await {
                let Ok(plain) = accepted.stream.into_plain() else { return };
                if let Ok(mut stream) = tls.accept(plain).await {
                    let mut byte = [0_u8; 1];
                    if stream.read_exact(&mut byte).await.is_ok() {
                        let _ = stream.write_all(&byte).await;
                        let _ = stream.flush().await;
                    }
                }
            }
        });
        Server { address, ca_pem: chain }
    }

    fn endpoint(server: &Server, host: &str, tls: TargetTlsMode, ca: Option<&str>) -> Endpoint {
        Endpoint {
            address: Address::Tcp { host: host.to_owned(), port: server.address.port() },
            route: Route::Direct,
            tls,
            ca_pem: ca.map(str::to_owned),
        }
    }

    async fn echo(endpoint: &Endpoint) -> Result<(), DialError> {
        let stream = endpoint.dial().await?;
        let mut tls = start_target_tls(stream, endpoint).await?;
        assert!(tls.end_point.is_some(), "an ECDSA certificate has a channel binding");
        tls.stream.write_all(b"x").await.map_err(DialError::Handshake)?;
        tls.stream.flush().await.map_err(DialError::Handshake)?;
        let mut byte = [0_u8; 1];
        tls.stream.read_exact(&mut byte).await.map_err(DialError::Handshake)?;
        Ok(())
    }

    #[tokio::test]
    async fn verify_full_takes_only_a_trusted_certificate_that_names_the_host() {
        let right = tls_echo_server("localhost").await;
        let wrong_name = tls_echo_server("elsewhere.example").await;
        let full = TargetTlsMode::VerifyFull;

        echo(&endpoint(&right, "localhost", full, Some(&right.ca_pem))).await.expect("trusted");

        let refused = [
            endpoint(&right, "localhost", full, Some(&wrong_name.ca_pem)),
            endpoint(&wrong_name, "localhost", full, Some(&wrong_name.ca_pem)),
        ];
        for endpoint in refused {
            assert!(matches!(echo(&endpoint).await, Err(DialError::Handshake(_))));
        }
    }

    #[tokio::test]
    async fn require_encrypts_without_asking_who_it_is() {
        let server = tls_echo_server("elsewhere.example").await;
        echo(&endpoint(&server, "localhost", TargetTlsMode::Require, None)).await.expect("works");
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_a_connect_error() {
        let listener = crate::listen::Listener::bind("127.0.0.1:0").await.expect("free port");
        let port = listener.address().port();
        drop(listener);
        let endpoint = Endpoint {
            address: Address::Tcp { host: "127.0.0.1".into(), port },
            route: Route::Direct,
            tls: TargetTlsMode::Disable,
            ca_pem: None,
        };
        assert!(matches!(endpoint.dial().await, Err(DialError::Connect(_))));
    }
}
