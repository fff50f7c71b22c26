//! The authority for relays: its key is the gateway's own, sealed in the store; it signs nothing
//! but relays' certificates, and the one that this gateway shows them.

use anyhow::Context;
use corral_model::Secret;
use corral_store::Store;
use corral_transport::tunnel::{GATEWAY_NAME, GatewayTls, RelayCertificate, relay_uri};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

/// The key's name in the store.
const KEY: &str = "relay_authority";
const LIFETIME: Duration = Duration::days(3650);
/// Clocks of relays may be behind by this much.
const BEFORE: Duration = Duration::hours(1);

/// Signs certificates for relays.
pub(crate) struct RelayAuthority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    pub(crate) tls: GatewayTls,
}

/// A certificate that was made.
pub(crate) struct Issued {
    pub(crate) pem: String,
    pub(crate) facts: RelayCertificate,
    pub(crate) expires_at: OffsetDateTime,
}

/// What a relay sent, proven to be from whoever holds the key.
pub(crate) struct RelayRequest(CertificateSigningRequestParams);

impl RelayRequest {
    /// Reads a request. Nothing of it is used but its key.
    pub(crate) fn read(pem: &str) -> Option<Self> {
        CertificateSigningRequestParams::from_pem(pem).ok().map(Self)
    }
}

impl RelayAuthority {
    /// The authority of this store, made when it is asked for first.
    pub(crate) async fn load(store: &Store, now: OffsetDateTime) -> anyhow::Result<Self> {
        let made = KeyPair::generate().context("no key can be made")?;
        let made = Secret::new(made.serialize_pem());
        let key = store.own_key(KEY, &made).await.context("the authority for relays")?;
        let key = KeyPair::from_pem(key.reveal()).map_err(|_| {
            anyhow::anyhow!("the key of the authority for relays is damaged in the store")
        })?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Corral relays");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        params.not_before = now - BEFORE;
        params.not_after = now + LIFETIME;
        let pem = params.self_signed(&key).context("the authority cannot be signed")?.pem();
        let issuer = Issuer::new(params, key);

        let own = KeyPair::generate().context("no key can be made")?;
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::DnsName(GATEWAY_NAME.try_into()?));
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        params.not_before = now - BEFORE;
        params.not_after = now + LIFETIME;
        let certificate = params.signed_by(&own, &issuer).context("it cannot be signed")?;
        let tls = GatewayTls::new(&certificate.pem(), &own.serialize_pem(), &pem)
            .context("TLS for relays")?;
        Ok(Self { issuer, pem, tls })
    }

    /// Signs a certificate that names this relay, whatever the request says of itself.
    pub(crate) fn sign(
        &self,
        request: &RelayRequest,
        relay: &str,
        now: OffsetDateTime,
        lifetime: std::time::Duration,
    ) -> anyhow::Result<Issued> {
        let expires_at = now + lifetime;
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::URI(relay_uri(relay).try_into()?));
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        params.key_usages.push(KeyUsagePurpose::DigitalSignature);
        params.serial_number = Some(serial()?);
        params.not_before = now - BEFORE;
        params.not_after = expires_at;
        let certificate =
            params.signed_by(&request.0.public_key, &self.issuer).context("it cannot be signed")?;
        let facts = RelayCertificate::read(certificate.der()).context("what was signed")?;
        Ok(Issued { pem: certificate.pem(), facts, expires_at })
    }
}

/// 127 random bits: never negative, never the same.
fn serial() -> anyhow::Result<SerialNumber> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("no random bytes"))?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn authority(directory: &std::path::Path) -> RelayAuthority {
        let seal = corral_store::SealSource::File(directory.join("seal.key"));
        let store = Store::open(&directory.join("corral.db"), &seal).await.expect("opens");
        RelayAuthority::load(&store, OffsetDateTime::now_utc()).await.expect("an authority")
    }

    #[tokio::test]
    async fn a_certificate_names_whom_the_gateway_says_and_not_whom_the_request_says() {
        let directory = tempfile::tempdir().expect("directory");
        let authority = authority(directory.path()).await;
        let key = KeyPair::generate().expect("key");
        let mut lying =
            CertificateParams::new(vec!["gateway.relay.corral".to_owned()]).expect("params");
        lying.distinguished_name.push(DnType::CommonName, "us-1");
        lying.subject_alt_names.push(SanType::URI(relay_uri("us-1").try_into().expect("uri")));
        lying.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        let request = lying.serialize_request(&key).expect("request").pem().expect("pem");
        let request = RelayRequest::read(&request).expect("readable");
        let now = OffsetDateTime::now_utc();
        let minute = std::time::Duration::from_secs(60);
        let issued = authority.sign(&request, "eu-1", now, minute).expect("signed");
        assert_eq!(issued.facts.relay, "eu-1");
        let shown = RelayCertificate::read_pem(&issued.pem).expect("readable");
        assert_eq!(shown, issued.facts);
        let ends = i64::try_from(shown.ends_at.as_secs()).expect("a time");
        assert_eq!(ends, issued.expires_at.unix_timestamp());
        let again = authority.sign(&request, "eu-1", now, minute).expect("signed");
        assert_ne!(again.facts.serial, issued.facts.serial);
    }

    #[tokio::test]
    async fn a_request_that_was_changed_is_not_read() {
        let key = KeyPair::generate().expect("key");
        let request = CertificateParams::default().serialize_request(&key).expect("request");
        let mut der = request.der().to_vec();
        *der.last_mut().expect("bytes") ^= 1;
        assert!(CertificateSigningRequestParams::from_der(&der.into()).is_err());
        for text in ["", "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"]
        {
            assert!(RelayRequest::read(text).is_none(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn the_authority_stays_the_same_over_a_restart() {
        let directory = tempfile::tempdir().expect("directory");
        let first = authority(directory.path()).await;
        let second = authority(directory.path()).await;
        let key = KeyPair::generate().expect("key");
        let request = CertificateParams::default().serialize_request(&key).expect("request");
        let request = RelayRequest::read(&request.pem().expect("pem")).expect("readable");
        let minute = std::time::Duration::from_secs(60);
        let now = OffsetDateTime::now_utc();
        let issued = first.sign(&request, "eu-1", now, minute).expect("signed");
        // A relay that joined before the restart connects after it, in both directions of trust.
        let tls =
            corral_transport::tunnel::RelayTls::new(&issued.pem, &key.serialize_pem(), &first.pem);
        let tls = tls.expect("usable");
        let listener = corral_transport::Listener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.address().to_string();
        let accept = async {
            let accepted = listener.accept().await.expect("connects");
            second.tls.accept(accepted.stream.into_plain().expect("plain")).await
        };
        let (accepted, connected) = tokio::join!(accept, tls.connect(&address));
        connected.expect("the relay trusts the gateway");
        let (_, shown) = accepted.expect("the gateway trusts the relay");
        assert_eq!(shown, issued.facts);
    }
}
