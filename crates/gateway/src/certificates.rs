//! The gateway's own certificate authority, and its server certificate: made once, kept in the
//! data directory, renewed before they end.

use std::net::IpAddr;

use anyhow::{Context, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::data_dir::DataDir;
use crate::settings::{Settings, host_name};

pub(crate) const CA_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca.key";
const SERVER_FILE: &str = "server.pem";
const SERVER_KEY_FILE: &str = "server.key";
/// When the certificates end and which names the server's has, so that nothing must parse them.
const FACTS_FILE: &str = "server.json";

const CA_LIFETIME: Duration = Duration::days(3650);
const SERVER_LIFETIME: Duration = Duration::days(397);
/// A certificate that ends sooner than this is renewed at start and at SIGHUP.
const RENEW_BEFORE: Duration = Duration::days(30);

/// What a listener needs, and what its clients trust.
#[derive(Clone)]
pub(crate) struct Certificates {
    pub(crate) chain_pem: Vec<u8>,
    pub(crate) key_pem: Vec<u8>,
    pub(crate) ca_pem: String,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Facts {
    names: Vec<String>,
    #[serde(with = "time::serde::rfc3339")]
    server_ends: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    ca_ends: OffsetDateTime,
}

/// The configured certificate, or the gateway's own, made or renewed where needed.
pub(crate) fn load(
    directory: &DataDir,
    settings: &Settings,
    now: OffsetDateTime,
) -> anyhow::Result<Certificates> {
    match &settings.tls {
        Some(files) => {
            let read = |path: &std::path::Path| {
                std::fs::read(path).with_context(|| format!("tls: cannot read {}", path.display()))
            };
            let ca = read(&files.ca_file)?;
            let ca_pem = String::from_utf8(ca).context("tls: ca_file is not PEM")?;
            directory.replace(CA_FILE, ca_pem.as_bytes())?;
            Ok(Certificates {
                chain_pem: read(&files.certificate_file)?,
                key_pem: read(&files.key_file)?,
                ca_pem,
            })
        }
        None => own(directory, &names(settings), now),
    }
}

/// Loopback, the host's name, and where clients are told to connect.
fn names(settings: &Settings) -> Vec<String> {
    let mut names: Vec<String> = ["127.0.0.1", "::1", "localhost"].map(str::to_owned).to_vec();
    names.extend(host_name());
    names.extend(settings.public_address.clone());
    names.extend(
        settings
            .listeners
            .values()
            .map(std::net::SocketAddr::ip)
            .filter(|ip| !ip.is_unspecified())
            .map(|ip: IpAddr| ip.to_string()),
    );
    names.sort();
    names.dedup();
    names
}

fn own(directory: &DataDir, names: &[String], now: OffsetDateTime) -> anyhow::Result<Certificates> {
    if let Some(kept) = kept(directory, names, now)? {
        return Ok(kept);
    }
    let authority = authority(directory, now)?;
    let key = KeyPair::generate().context("cannot make a key")?;
    let mut params = CertificateParams::new(names.to_vec()).with_context(|| {
        format!("one of these is not a name for a certificate: {}", names.join(", "))
    })?;
    params.distinguished_name.push(DnType::CommonName, "Corral gateway");
    params.use_authority_key_identifier_extension = true;
    params.key_usages.push(KeyUsagePurpose::DigitalSignature);
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    params.not_before = now - Duration::days(1);
    params.not_after = now + SERVER_LIFETIME;
    let certificate =
        params.signed_by(&key, &authority.issuer).context("cannot sign the certificate")?;
    let facts = Facts {
        names: names.to_vec(),
        server_ends: now + SERVER_LIFETIME,
        ca_ends: authority.ends,
    };
    let chain_pem = certificate.pem().into_bytes();
    let key_pem = key.serialize_pem().into_bytes();
    directory.replace(SERVER_FILE, &chain_pem)?;
    directory.replace(SERVER_KEY_FILE, &key_pem)?;
    directory.replace(FACTS_FILE, &serde_json::to_vec(&facts)?)?;
    Ok(Certificates { chain_pem, key_pem, ca_pem: authority.pem })
}

fn kept(
    directory: &DataDir,
    names: &[String],
    now: OffsetDateTime,
) -> anyhow::Result<Option<Certificates>> {
    let Some(facts) = facts(directory)? else { return Ok(None) };
    let is_good = facts.names == names
        && facts.server_ends - now > RENEW_BEFORE
        && facts.ca_ends - now > RENEW_BEFORE;
    if !is_good {
        return Ok(None);
    }
    let read = (
        directory.read(SERVER_FILE)?,
        directory.read(SERVER_KEY_FILE)?,
        directory.read(CA_FILE)?.and_then(|pem| String::from_utf8(pem).ok()),
    );
    Ok(match read {
        (Some(chain_pem), Some(key_pem), Some(ca_pem)) => {
            Some(Certificates { chain_pem, key_pem, ca_pem })
        }
        _ => None,
    })
}

fn facts(directory: &DataDir) -> anyhow::Result<Option<Facts>> {
    let Some(bytes) = directory.read(FACTS_FILE)? else { return Ok(None) };
    // A file that somebody broke only means that a certificate is made again.
    Ok(serde_json::from_slice(&bytes).ok())
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    ends: OffsetDateTime,
}

fn authority(directory: &DataDir, now: OffsetDateTime) -> anyhow::Result<Authority> {
    let stored = (directory.read(CA_FILE)?, directory.read(CA_KEY_FILE)?, facts(directory)?);
    if let (Some(pem), Some(key), Some(facts)) = stored
        && facts.ca_ends - now > SERVER_LIFETIME
    {
        let path = directory.file(CA_KEY_FILE);
        let pem = String::from_utf8(pem).context("ca.pem is not PEM")?;
        let key = String::from_utf8(key).context("ca.key is not PEM")?;
        let Ok(key) = KeyPair::from_pem(&key) else {
            bail!("{} is not a readable key; remove it to make a new authority", path.display());
        };
        let issuer = Issuer::from_ca_cert_pem(&pem, key)
            .with_context(|| format!("{} and ca.pem do not fit together", path.display()))?;
        return Ok(Authority { issuer, pem, ends: facts.ca_ends });
    }
    let key = KeyPair::generate().context("cannot make a key")?;
    let mut params = CertificateParams::new(Vec::<String>::new()).context("no names")?;
    params.distinguished_name.push(DnType::CommonName, "Corral gateway CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    params.key_usages.push(KeyUsagePurpose::CrlSign);
    params.not_before = now - Duration::days(1);
    params.not_after = now + CA_LIFETIME;
    let certificate = params.self_signed(&key).context("cannot sign the authority")?;
    let pem = certificate.pem();
    directory.replace(CA_KEY_FILE, key.serialize_pem().as_bytes())?;
    directory.replace(CA_FILE, pem.as_bytes())?;
    Ok(Authority { issuer: Issuer::new(params, key), pem, ends: now + CA_LIFETIME })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, DataDir) {
        let parent = tempfile::tempdir().expect("directory");
        let directory = DataDir::open(&parent.path().join("data")).expect("free");
        (parent, directory)
    }

    #[test]
    fn certificates_are_kept_and_renewed_before_they_end() {
        let (_parent, directory) = directory();
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
        let first = own(&directory, &names, now).expect("made");
        let again = own(&directory, &names, now + Duration::days(300)).expect("kept");
        assert_eq!(first.chain_pem, again.chain_pem);

        let later = own(&directory, &names, now + Duration::days(380)).expect("renewed");
        assert_ne!(first.chain_pem, later.chain_pem);
        assert_eq!(first.ca_pem, later.ca_pem, "clients keep trusting the same authority");

        let much_later = own(&directory, &names, now + Duration::days(3640)).expect("renewed");
        assert_ne!(first.ca_pem, much_later.ca_pem);
    }

    #[test]
    fn another_name_makes_another_certificate() {
        let (_parent, directory) = directory();
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
        let first = own(&directory, &["localhost".to_owned()], now).expect("made");
        let second = own(&directory, &["gw.example.com".to_owned()], now).expect("made");
        assert_ne!(first.chain_pem, second.chain_pem);
    }
}
