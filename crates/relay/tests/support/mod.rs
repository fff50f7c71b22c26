//! A gateway's end for relays, an authority for their certificates, and targets that echo.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corral_relay::{RelayOptions, run_until};
use corral_transport::tunnel::{
    AllowedAddress, GATEWAY_NAME, GatewayEnd, GatewayTls, RelayPool, Settings, Tunnel, TunnelEnd,
    relay_uri,
};
use corral_transport::{Address, Endpoint, Listener, Route, Stream};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub(crate) const RELAY: &str = "eu-1";

/// Signs certificates for relays and their gateway.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// Whom a certificate is for.
pub(crate) enum Whose<'n> {
    Gateway,
    Relay(&'n str),
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Corral relays");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate and its key, PEM.
    pub(crate) fn certificate(&self, whose: Whose<'_>) -> (String, String) {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::default();
        let (name, usage) = match whose {
            Whose::Gateway => {
                let name = GATEWAY_NAME.try_into().expect("name");
                (SanType::DnsName(name), ExtendedKeyUsagePurpose::ServerAuth)
            }
            Whose::Relay(name) => {
                let uri = relay_uri(name).try_into().expect("uri");
                (SanType::URI(uri), ExtendedKeyUsagePurpose::ClientAuth)
            }
        };
        params.subject_alt_names.push(name);
        params.extended_key_usages.push(usage);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }

    /// A certificate for the key of a request.
    pub(crate) fn sign(&self, request_pem: &str, relay: &str) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(request_pem).expect("request");
        let uri = relay_uri(relay).try_into().expect("uri");
        request.params.subject_alt_names = vec![SanType::URI(uri)];
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.signed_by(&self.issuer).expect("signed").pem()
    }
}

/// Takes relays of one name into a pool.
pub(crate) struct Gateway {
    pub(crate) authority: Authority,
    pub(crate) pool: Arc<RelayPool>,
    pub(crate) address: SocketAddr,
    /// Each tunnel as it joins.
    pub(crate) joined: mpsc::Receiver<Tunnel>,
    /// How each tunnel ended, and each handshake that failed.
    pub(crate) ended: mpsc::Receiver<String>,
    task: JoinHandle<()>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Gateway {
    pub(crate) async fn start(addresses: &[String]) -> Self {
        let authority = Authority::new();
        let (certificate, key) = authority.certificate(Whose::Gateway);
        let tls = GatewayTls::new(&certificate, &key, &authority.pem).expect("usable");
        let pool = RelayPool::new(RELAY, allowed(addresses), None);
        let listener = Listener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.address();
        let (joined_in, joined) = mpsc::channel(16);
        let (ended_in, ended) = mpsc::channel(16);
        let accepting = pool.clone();
        let task = tokio::spawn(async move {
            while let Ok(accepted) = listener.accept().await {
                let (tls, pool) = (tls.clone(), accepting.clone());
                let (joined, ended) = (joined_in.clone(), ended_in.clone());
                tokio::spawn(async move {
                    let end = serve(&tls, accepted.stream, &pool, joined).await;
                    let _ = ended.send(end).await;
                });
            }
        });
        Self { authority, pool, address, joined, ended, task }
    }

    /// A relay with a certificate by this gateway's authority, once it is connected.
    pub(crate) async fn relay(&mut self, allow: &[String]) -> (Relay, Tunnel) {
        let relay = Relay::start(self, &self.authority, RELAY, allow);
        let tunnel = self.joined.recv().await.expect("joins");
        (relay, tunnel)
    }

    pub(crate) fn endpoint(&self, target: SocketAddr) -> Endpoint {
        Endpoint {
            address: Address::Tcp { host: target.ip().to_string(), port: target.port() },
            route: Route::Relay(self.pool.clone()),
            tls: corral_model_tls(),
            ca_pem: None,
        }
    }

    pub(crate) async fn dial(
        &self,
        target: SocketAddr,
    ) -> Result<Stream, corral_transport::DialError> {
        let endpoint = self.endpoint(target);
        tokio::time::timeout(Duration::from_secs(20), endpoint.dial()).await.expect("in time")
    }
}

fn corral_model_tls() -> corral_transport::TargetTlsMode {
    corral_transport::TargetTlsMode::Disable
}

async fn serve(
    tls: &GatewayTls,
    stream: Stream,
    pool: &Arc<RelayPool>,
    joined: mpsc::Sender<Tunnel>,
) -> String {
    let plain = stream.into_plain().expect("no TLS yet");
    let (io, certificate) = match tls.accept(plain).await {
        Ok(accepted) => accepted,
        Err(error) => return format!("handshake: {error:?}"),
    };
    let (tunnel, end) = GatewayEnd::start(io).await.expect("HTTP/2");
    let driven = tokio::spawn(end.run());
    let mut addresses = pool.follow();
    let mut membership = None;
    let followed = async {
        loop {
            let (version, list) = addresses.current();
            let settings = Settings {
                relay: RELAY.to_owned(),
                gateway: "test".to_owned(),
                addresses: list.to_vec(),
            };
            if let Err(error) = tunnel.set(&settings, version).await {
                return format!("settings: {error}");
            }
            if membership.is_none() {
                let from = "127.0.0.1:1".to_owned();
                membership = Some(pool.join(tunnel.clone(), certificate.clone(), from));
                let _ = joined.send(tunnel.clone()).await;
            }
            if !addresses.changed().await {
                return "pool is gone".to_owned();
            }
        }
    };
    tokio::select! {
        ended = driven => match ended.expect("no panic") {
            TunnelEnd::Closed => "closed".to_owned(),
            TunnelEnd::Ended => "ended".to_owned(),
            TunnelEnd::CutOff => "cut off".to_owned(),
            TunnelEnd::Failed(error) => format!("failed: {error}"),
        },
        ended = followed => ended,
    }
}

/// A relay process, as a task.
pub(crate) struct Relay {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) signals: watch::Sender<u32>,
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
}

impl Relay {
    pub(crate) fn start(gateway: &Gateway, by: &Authority, name: &str, allow: &[String]) -> Self {
        Self::start_with(gateway, by, name, allow, Duration::from_secs(20))
    }

    pub(crate) fn start_with(
        gateway: &Gateway,
        by: &Authority,
        name: &str,
        allow: &[String],
        drain_timeout: Duration,
    ) -> Self {
        let (certificate_pem, key_pem) = by.certificate(Whose::Relay(name));
        let directory = tempfile::tempdir().expect("directory");
        let text = serde_json::json!({
            "relay": name,
            "joined": "https://gateway.test",
            "address": gateway.address.to_string(),
            "authority_pem": gateway.authority.pem,
            "certificate_pem": certificate_pem,
            "key_pem": key_pem,
        });
        write_private(&directory.path().join("relay.json"), &text.to_string());
        let options = RelayOptions {
            join: None,
            token_file: None,
            ca_file: None,
            data_dir: directory.path().to_path_buf(),
            allow: allow.to_vec(),
            drain_timeout,
        };
        let (signals, stop) = watch::channel(0);
        let task = tokio::spawn(run_until(options, stop));
        Self { directory, signals, task }
    }

    pub(crate) fn signal(&self) {
        self.signals.send_modify(|count| *count += 1);
    }

    pub(crate) async fn ended(self) -> anyhow::Result<()> {
        let ended = tokio::time::timeout(Duration::from_secs(10), self.task).await;
        ended.expect("in time").expect("no panic")
    }
}

pub(crate) fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("mode");
}

pub(crate) fn allowed(addresses: &[String]) -> Vec<AllowedAddress> {
    addresses.iter().map(|text| AllowedAddress::parse(text).expect(text)).collect()
}

/// A target that sends back what it gets; gives its address.
pub(crate) async fn echo_target() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    address
}

/// A target that sends zeros for as long as somebody takes them, and nothing else.
pub(crate) async fn flooding_target() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let zeros = vec![0_u8; 64 * 1024];
                while socket.write_all(&zeros).await.is_ok() {}
            });
        }
    });
    address
}

/// Sends bytes and reads them back.
pub(crate) async fn echo(stream: &mut Stream, bytes: &[u8]) {
    let mut answer = vec![0_u8; bytes.len()];
    stream.write_all(bytes).await.expect("written");
    stream.flush().await.expect("flushed");
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut answer));
    read.await.expect("in time").expect("read");
    assert_eq!(answer, bytes);
}
