//! Joining: a one-time token and a certificate request for a certificate.

use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::identity::{self, Identity, Keeper};
use crate::{RelayOptions, read_text};

const DEADLINE: Duration = Duration::from_secs(30);
const PATH: &str = "/api/v1/relays/join";

/// As the gateway's API reads it. It holds the token: it has no `Debug`.
#[derive(Serialize)]
struct Join {
    token: String,
    request_pem: String,
}

/// As the gateway's API answers.
#[derive(Deserialize)]
struct Joined {
    relay: String,
    certificate_pem: String,
    authority_pem: String,
    /// Where relays reach the gateway, when it is not where its API is.
    host: Option<String>,
    port: u16,
}

#[derive(Deserialize)]
struct Refusal {
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    message: String,
}

/// Joins the gateway and keeps what it answered.
pub(crate) async fn join(options: &RelayOptions) -> anyhow::Result<Keeper> {
    let (Some(url), Some(token_file)) = (&options.join, &options.token_file) else {
        bail!(
            "{} holds no relay yet; the first start needs --join URL and --token-file FILE, with \
             a token from `corral relays token NAME`",
            options.data_dir.display()
        );
    };
    let url = url.trim_end_matches('/');
    let base: reqwest::Url = url.parse().with_context(|| format!("--join: '{url}' is no URL"))?;
    let api_host = base.host_str().filter(|_| base.scheme() == "https");
    let api_host = api_host.with_context(|| format!("--join: '{url}' is not https://HOST:PORT"))?;
    let token = read_text(token_file, "--token-file")?;
    let (key_pem, request_pem) = identity::request()?;
    let http = client(options)?;
    let answer = http
        .post(format!("{url}{PATH}"))
        .json(&Join { token, request_pem })
        .send()
        .await
        .with_context(|| format!("cannot reach the gateway at {url}"))?;
    let status = answer.status();
    if !status.is_success() {
        let refusal: Option<Refusal> = answer.json().await.ok();
        let said = refusal.and_then(|refusal| refusal.error).map(|problem| problem.message);
        bail!("the gateway refuses: {}", said.unwrap_or_else(|| status.to_string()));
    }
    let joined: Joined = answer.json().await.context("the gateway's answer cannot be read")?;
    let host = joined.host.as_deref().unwrap_or(api_host);
    let is_v6 = host.contains(':') && !host.starts_with('[');
    let host = if is_v6 { format!("[{host}]") } else { host.to_owned() };
    let identity = Identity {
        relay: joined.relay,
        joined: url.to_owned(),
        address: format!("{host}:{}", joined.port),
        authority_pem: joined.authority_pem,
        certificate_pem: joined.certificate_pem,
        key_pem,
    };
    identity::check(&identity).context("the gateway's answer is not usable")?;
    Keeper::create(&options.data_dir, identity)
}

fn client(options: &RelayOptions) -> anyhow::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .timeout(DEADLINE)
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("corral-relay/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = &options.ca_file {
        let pem = read_text(path, "--ca-file")?;
        let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .with_context(|| format!("--ca-file: {} holds no certificate", path.display()))?;
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().context("cannot prepare TLS")
}
