//! `corral.yaml`: how the gateway itself runs. What it protects are resources, which are applied.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use corral_model::limits;
use corral_model::resource::HumanDuration;
use serde::Deserialize;

use crate::app::access_tokens::DpopNonces;
use crate::protocols;

/// Name of the listener that serves the API.
pub(crate) const HTTPS: &str = "https";
/// Name of the listener for relays.
pub(crate) const RELAY: &str = "relay";

/// The file as it is written. Every key may be absent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Name of this gateway in events; the host's name when absent.
    name: Option<String>,
    /// Relative to the file.
    data_dir: Option<PathBuf>,
    /// Protocol id or `https`, to `address:port`.
    #[serde(default)]
    listeners: BTreeMap<String, String>,
    /// Host name or address by which clients reach the gateway, when it is not a listener's own.
    public_address: Option<String>,
    tls: Option<TlsFiles>,
    drain_timeout: Option<HumanDuration>,
    /// How long a relay's certificate is good; it is renewed long before.
    relay_certificate_lifetime: Option<HumanDuration>,
    /// How often people are asked after at their identity provider.
    identity_recheck_interval: Option<HumanDuration>,
    /// How long a JWT of a run is good, unless the run ends before.
    access_token_lifetime: Option<HumanDuration>,
    /// Whether every proof of a key has a nonce of the gateway.
    require_dpop_nonce: Option<bool>,
    events: Option<Events>,
    seal_key: Option<SecretPlace>,
    otlp: Option<Otlp>,
}

/// Where traces go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Otlp {
    /// `https://HOST:PORT` of a collector, to which `/v1/traces` is added.
    pub(crate) endpoint: String,
    /// Headers of every request, such as a token; each value is read at the start.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, SecretPlace>,
    /// Whom to trust instead of the system's authorities, PEM; relative to the file.
    pub(crate) ca_file: Option<PathBuf>,
}

/// A certificate of one's own instead of one by the gateway's CA.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsFiles {
    /// Chain in PEM, the server's certificate first; relative to the file.
    pub(crate) certificate_file: PathBuf,
    pub(crate) key_file: PathBuf,
    /// What clients must trust, PEM; becomes `DIR/ca.pem`.
    pub(crate) ca_file: PathBuf,
}

/// Where events go as JSON lines, besides the record.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Events {
    Stdout,
    /// Appended to; relative to the file.
    File(PathBuf),
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SecretPlace {
    /// In this environment variable.
    Env(String),
    /// Relative to the file.
    File(PathBuf),
}

impl SecretPlace {
    fn below(self, base: &Path) -> Self {
        match self {
            Self::Env(name) => Self::Env(name),
            Self::File(path) => Self::File(base.join(path)),
        }
    }
}

/// The settings with their defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) data_dir: PathBuf,
    /// One for each protocol and `https`.
    pub(crate) listeners: BTreeMap<String, SocketAddr>,
    pub(crate) public_address: Option<String>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) drain_timeout: Duration,
    pub(crate) relay_certificate_lifetime: Duration,
    pub(crate) identity_recheck_interval: Duration,
    pub(crate) access_token_lifetime: Duration,
    pub(crate) dpop_nonces: DpopNonces,
    pub(crate) events: Option<Events>,
    pub(crate) seal_key: Option<SecretPlace>,
    pub(crate) otlp: Option<Otlp>,
}

impl Settings {
    /// Reads the file, or takes the defaults without one. `data_dir` wins over the file's.
    pub(crate) fn load(config: Option<&Path>, data_dir: Option<&Path>) -> anyhow::Result<Self> {
        let (file, base) = match config {
            Some(path) => (read(path)?, path.parent().unwrap_or(Path::new("")).to_path_buf()),
            None => (File::default(), PathBuf::new()),
        };
        let place = |path: PathBuf| base.join(path);
        let data_dir = match (data_dir, file.data_dir) {
            (Some(dir), _) => dir.to_path_buf(),
            (None, Some(dir)) => place(dir),
            (None, None) => PathBuf::from("corral-data"),
        };
        let name = match file.name {
            Some(name) => checked_name(name)?,
            None => host_name().unwrap_or_else(|| "gateway".to_owned()),
        };
        Ok(Self {
            name,
            data_dir: std::path::absolute(&data_dir)
                .with_context(|| format!("{} is not a usable path", data_dir.display()))?,
            listeners: listeners(&file.listeners)?,
            public_address: file.public_address,
            tls: file.tls.map(|tls| TlsFiles {
                certificate_file: place(tls.certificate_file),
                key_file: place(tls.key_file),
                ca_file: place(tls.ca_file),
            }),
            drain_timeout: file.drain_timeout.map_or(limits::DRAIN_TIMEOUT, |d| d.0),
            relay_certificate_lifetime: relay_lifetime(file.relay_certificate_lifetime)?,
            identity_recheck_interval: recheck_interval(file.identity_recheck_interval)?,
            access_token_lifetime: access_token_lifetime(file.access_token_lifetime)?,
            dpop_nonces: match file.require_dpop_nonce {
                Some(true) => DpopNonces::Required,
                Some(false) | None => DpopNonces::Unused,
            },
            events: file.events.map(|events| match events {
                Events::Stdout => Events::Stdout,
                Events::File(path) => Events::File(place(path)),
            }),
            seal_key: file.seal_key.map(|key| key.below(&base)),
            otlp: file.otlp.map(|otlp| Otlp {
                endpoint: otlp.endpoint,
                headers: otlp.headers.into_iter().map(|(k, v)| (k, v.below(&base))).collect(),
                ca_file: otlp.ca_file.map(place),
            }),
        })
    }
}

fn read(path: &Path) -> anyhow::Result<File> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    if bytes.len() > limits::MANIFEST_BYTES_MAX {
        bail!("{shown} has {} bytes; at most {}", bytes.len(), limits::MANIFEST_BYTES_MAX);
    }
    let text = String::from_utf8(bytes).with_context(|| format!("{shown} is not UTF-8"))?;
    parse(&text).with_context(|| format!("{shown} is not a valid configuration"))
}

fn parse(text: &str) -> anyhow::Result<File> {
    let is_empty = text.lines().all(|line| line.trim().is_empty() || line.starts_with('#'));
    if is_empty {
        return Ok(File::default());
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_aliases: 0,
            max_anchors: 0,
            max_depth: limits::MANIFEST_DEPTH_MAX,
            max_nodes: limits::MANIFEST_NODES_MAX,
        },
        merge_keys: serde_saphyr::options::MergeKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    // The library's message has line and column, and without the snippet nothing of the file.
    serde_saphyr::from_str_with_options(text, options).map_err(|e| anyhow::anyhow!("{e}"))
}

fn listeners(written: &BTreeMap<String, String>) -> anyhow::Result<BTreeMap<String, SocketAddr>> {
    let known: Vec<&str> = protocols::listening_ids().chain([HTTPS, RELAY]).collect();
    if let Some(unknown) = written.keys().find(|name| !known.contains(&name.as_str())) {
        bail!("listeners: '{unknown}' is not a listener; there are {}", known.join(", "));
    }
    let mut listeners = BTreeMap::new();
    for name in known {
        let address = match written.get(name) {
            Some(text) => text.parse::<SocketAddr>().with_context(|| {
                format!("listeners: {name}: '{text}' is not ADDRESS:PORT, such as 127.0.0.1:0")
            })?,
            None => SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        listeners.insert(name.to_owned(), address);
    }
    Ok(listeners)
}

/// Not shorter than what a renewal needs.
fn relay_lifetime(written: Option<HumanDuration>) -> anyhow::Result<Duration> {
    match written {
        None => Ok(limits::RELAY_CERTIFICATE_LIFETIME),
        Some(HumanDuration(lifetime)) if lifetime >= Duration::from_secs(10) => Ok(lifetime),
        Some(short) => bail!("relay_certificate_lifetime: {short} is too short; write 10s or more"),
    }
}

/// A provider is not asked more often than it can stand.
fn recheck_interval(written: Option<HumanDuration>) -> anyhow::Result<Duration> {
    match written {
        None => Ok(limits::IDENTITY_RECHECK_INTERVAL),
        Some(HumanDuration(every)) if every >= Duration::from_secs(1) => Ok(every),
        Some(short) => bail!("identity_recheck_interval: {short} is too short; write 1s or more"),
    }
}

/// Tokens say when they end in whole seconds.
fn access_token_lifetime(written: Option<HumanDuration>) -> anyhow::Result<Duration> {
    match written {
        None => Ok(limits::ACCESS_TOKEN_TTL),
        Some(HumanDuration(lifetime)) if lifetime >= Duration::from_secs(1) => Ok(lifetime),
        Some(short) => bail!("access_token_lifetime: {short} is too short; write 1s or more"),
    }
}

fn checked_name(name: String) -> anyhow::Result<String> {
    let is_good = !name.is_empty()
        && name.len() <= limits::ID_BYTES_MAX
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !is_good {
        bail!("name: '{name}' is not a name; use 1 to 63 letters, digits, '-', '_' and '.'");
    }
    Ok(name)
}

/// The host's name as the kernel knows it, when it can be in a certificate and an event.
pub(crate) fn host_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    checked_name(text.trim().to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_an_error_with_line_and_column() {
        let error = parse("name: one\nlistners: {}\n").expect_err("unknown key");
        let text = format!("{error:#}");
        assert!(text.contains("listners"), "{text}");
        assert!(text.contains("line 2"), "{text}");
    }

    #[test]
    fn what_is_not_right_is_refused() {
        let check = |text: &str, expect: &str| {
            let directory = tempfile::tempdir().expect("directory");
            let path = directory.path().join("corral.yaml");
            std::fs::write(&path, text).expect("written");
            let error = Settings::load(Some(&path), None).expect_err(text);
            let error = format!("{error:#}");
            assert!(error.contains(expect), "{error}");
        };
        check("listeners: {telnet: 127.0.0.1:0}", "telnet");
        check("listeners: {https: here}", "ADDRESS:PORT");
        check("drain_timeout: soon", "soon");
        check("relay_certificate_lifetime: 1s", "too short");
        check("access_token_lifetime: 10ms", "too short");
        check("require_dpop_nonce: maybe", "line 1");
        check("name: a b", "'a b'");
        check("name: a\nname: b\n", "name");
        check("events: stderr", "stderr");
        check("otlp: {headers: {}}", "endpoint");
        check("otlp: {endpoint: 'https://c', headers: {a: plain}}", "plain");
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("corral.yaml");
        let text = "data_dir: data\nevents: {file: events.jsonl}\ndrain_timeout: 2s\n";
        std::fs::write(&path, text).expect("written");
        let settings = Settings::load(Some(&path), None).expect("valid");
        assert_eq!(settings.data_dir, directory.path().join("data"));
        assert_eq!(settings.events, Some(Events::File(directory.path().join("events.jsonl"))));
        assert_eq!(settings.drain_timeout, Duration::from_secs(2));
        let given = directory.path().join("other");
        let settings = Settings::load(Some(&path), Some(&given)).expect("valid");
        assert_eq!(settings.data_dir, given);
    }

    #[test]
    fn without_a_file_everything_listens_on_loopback() {
        let settings = Settings::load(None, None).expect("defaults");
        assert!(settings.listeners.values().all(|address| address.ip().is_loopback()));
        assert!(settings.listeners.contains_key(HTTPS));
    }
}
