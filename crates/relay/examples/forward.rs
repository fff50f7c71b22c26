//! The two ends of a tunnel without a gateway around them, for `bench/relay.py`: what `ssh -L` is
//! to sshd. `forward near DIR TARGET` makes an authority and a relay's identity in DIR, prints the
//! address that forwards to TARGET once the relay is connected; `forward relay DIR` is the relay.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use corral_relay::{RelayOptions, run};
use corral_transport::tunnel::{
    AllowedAddress, GATEWAY_NAME, GatewayEnd, GatewayTls, RelayPool, Settings, relay_uri,
};
use corral_transport::{Address, Endpoint, Listener, Route, TargetTlsMode};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

const RELAY: &str = "bench";
/// As a session reads from its sockets.
const COPY_BYTES: usize = 32 * 1024;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["near", directory, target] => near(Path::new(directory), target).await,
        ["relay", directory] => {
            let options = RelayOptions {
                join: None,
                token_file: None,
                ca_file: None,
                data_dir: directory.into(),
                allow: Vec::new(),
                drain_timeout: Duration::from_secs(1),
            };
            run(options).await
        }
        _ => bail!("forward near DIR TARGET | forward relay DIR"),
    }
}

fn identities(directory: &Path, address: &str) -> anyhow::Result<GatewayTls> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    let authority_pem = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let sign = |name: SanType, usage: ExtendedKeyUsagePurpose| -> anyhow::Result<_> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(name);
        params.extended_key_usages.push(usage);
        Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
    };
    let own = SanType::DnsName(GATEWAY_NAME.try_into()?);
    let (own, own_key) = sign(own, ExtendedKeyUsagePurpose::ServerAuth)?;
    let relay = SanType::URI(relay_uri(RELAY).try_into()?);
    let (certificate_pem, key_pem) = sign(relay, ExtendedKeyUsagePurpose::ClientAuth)?;
    let identity = serde_json::json!({
        "relay": RELAY, "joined": "https://bench", "address": address,
        "authority_pem": authority_pem, "certificate_pem": certificate_pem, "key_pem": key_pem,
    });
    let path = directory.join("relay.json");
    std::fs::write(&path, identity.to_string())?;
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(GatewayTls::new(&own, &own_key, &authority_pem)?)
}

async fn near(directory: &Path, target: &str) -> anyhow::Result<()> {
    let relays = Listener::bind("127.0.0.1:0").await?;
    let tls = identities(directory, &relays.address().to_string())?;
    let (host, port) = target.rsplit_once(':').context("TARGET is host:port")?;
    let addresses = vec![AllowedAddress::parse(target)?];
    let pool = RelayPool::new(RELAY, addresses.clone(), None);
    let plain = relays.accept().await?.stream.into_plain();
    let plain = plain.map_err(|_| anyhow::anyhow!("TLS already"))?;
    let (io, certificate) = tls.accept(plain).await?;
    let (tunnel, end) = GatewayEnd::start(io).await?;
    let driven = tokio::spawn(end.run());
    let settings = Settings { relay: RELAY.into(), gateway: "bench".into(), addresses };
    tunnel.set(&settings, 1).await?;
    let _membership = pool.join(tunnel, certificate, "bench".to_owned());
    let endpoint = Arc::new(Endpoint {
        address: Address::Tcp { host: host.to_owned(), port: port.parse()? },
        route: Route::Relay(pool),
        tls: TargetTlsMode::Disable,
        ca_pem: None,
    });
    let clients = Listener::bind("127.0.0.1:0").await?;
    println!("{}", clients.address());
    let serve = async {
        loop {
            let mut client = clients.accept().await?.stream;
            let endpoint = endpoint.clone();
            tokio::spawn(async move {
                if let Ok(mut far) = endpoint.dial().await {
                    let sizes = (COPY_BYTES, COPY_BYTES);
                    let _ = tokio::io::copy_bidirectional_with_sizes(
                        &mut client,
                        &mut far,
                        sizes.0,
                        sizes.1,
                    )
                    .await;
                }
            });
        }
    };
    tokio::select! {
        served = serve => served,
        _ = driven => Ok(()),
    }
}
