//! What only this protocol knows of a target: its `options`, typed.

use corral_gate::{Denial, DenialKind};
use corral_model::resource::{CredentialKind, TargetSpec};
use russh::keys::PublicKey;
use russh::keys::ssh_key::Algorithm;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Environment variables that a client may set when a target names none.
const ENVIRONMENT: [&str; 2] = ["LANG", "LC_*"];

/// As they stand in the target's resource.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    host_keys: Vec<String>,
    logins: Vec<String>,
    environment: Option<Vec<String>>,
    subsystems: Vec<String>,
    forward_to: Vec<String>,
    forward_listen: Vec<String>,
}

/// A target's options.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// The keys by which the target is recognised. Without one, nobody connects.
    pub(crate) host_keys: Vec<PublicKey>,
    /// Logins beside the credential's own username.
    pub(crate) logins: Vec<String>,
    /// Names of environment variables; a `*` at the end stands for anything.
    pub(crate) environment: Vec<String>,
    /// Subsystems beside `sftp`; they are decided as `exec`.
    pub(crate) subsystems: Vec<String>,
    /// Where clients may open connections to through the target.
    pub(crate) forward_to: Vec<Place>,
    /// Where the target may listen for clients.
    pub(crate) forward_listen: Vec<Place>,
}

/// A host with a port, as it stands in a forward. Port 0 in an option means any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u32,
}

impl Place {
    /// Reads `host:port`, `[v6]:port` or `host:*`.
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port =
            if port == "*" { 0 } else { port.parse().ok().filter(|port: &u16| *port > 0)? };
        let is_name = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '*');
        is_name.then(|| Self { host: host.to_ascii_lowercase(), port: u32::from(port) })
    }

    /// Whether a forward to this host and port is meant. Names are compared, not addresses: who
    /// writes another name of the same host is refused.
    pub(crate) fn covers(&self, host: &str, port: u32) -> bool {
        self.host == host.to_ascii_lowercase() && (self.port == 0 || self.port == port)
    }
}

impl Options {
    /// # Errors
    /// What is wrong, as texts that begin with the key.
    pub(crate) fn parse(options: &Map<String, Value>) -> Result<Self, Vec<String>> {
        let written: Written = serde_json::from_value(Value::Object(options.clone()))
            .map_err(|error| vec![format!("options: {error}")])?;
        let mut wrong: Vec<String> = Vec::new();
        let mut host_keys: Vec<PublicKey> = Vec::new();
        for (index, text) in written.host_keys.iter().enumerate() {
            match PublicKey::from_openssh(text) {
                Ok(key) => host_keys.push(key),
                Err(_) => wrong.push(format!(
                    "options.host_keys[{index}]: write a line of ssh-keyscan without the host: \
                     ssh-ed25519 AAAA…"
                )),
            }
        }
        let forward_to = places("forward_to", &written.forward_to, &mut wrong);
        let forward_listen = places("forward_listen", &written.forward_listen, &mut wrong);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let usual = || ENVIRONMENT.map(str::to_owned).to_vec();
        Ok(Self {
            host_keys,
            logins: written.logins,
            environment: written.environment.unwrap_or_else(usual),
            subsystems: written.subsystems,
            forward_to,
            forward_listen,
        })
    }

    /// The options of an admitted session's target.
    ///
    /// # Errors
    /// A [`Denial`] when they are not ones that [`check`] lets pass.
    pub(crate) fn of_session(options: &Map<String, Value>) -> Result<Self, Denial> {
        Self::parse(options).map_err(|wrong| {
            let mut denial =
                Denial::new(DenialKind::TargetUnavailable, "the target's options cannot be read");
            denial.internal = Some(wrong.join("; "));
            denial
        })
    }

    /// Whether a client may set this environment variable.
    pub(crate) fn lets_variable(&self, name: &str) -> bool {
        self.environment.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == allowed,
        })
    }

    /// The algorithms of the pinned keys.
    pub(crate) fn host_key_algorithms(&self) -> Vec<Algorithm> {
        self.host_keys.iter().map(PublicKey::algorithm).collect()
    }
}

fn places(key: &str, written: &[String], wrong: &mut Vec<String>) -> Vec<Place> {
    let mut places = Vec::new();
    for (index, text) in written.iter().enumerate() {
        match Place::parse(text) {
            Some(place) => places.push(place),
            None => wrong.push(format!("options.{key}[{index}]: write host:port, or host:*")),
        }
    }
    places
}

/// What is wrong with a target, as texts that begin with the key.
pub(crate) fn check(target: &TargetSpec) -> Vec<String> {
    let mut wrong = Options::parse(&target.options).err().unwrap_or_default();
    if let Some(credential) = &target.credential {
        let is_known = match credential.kind() {
            CredentialKind::Password | CredentialKind::PrivateKey => true,
            CredentialKind::Token | CredentialKind::ClientKey => false,
        };
        if !is_known {
            let text = "credential: this protocol knows a password, a private_key, or issued: true";
            wrong.push(text.to_owned());
        }
        if credential.username.is_empty() {
            wrong.push("credential.username: name the login at the target".to_owned());
        }
    } else {
        wrong.push("credential: name the login at the target, with its secret".to_owned());
    }
    if target.masked_credential.is_some() || !target.classify.is_empty() {
        wrong.push("classify: nothing is masked in this protocol".to_owned());
    }
    if target.database.is_some() {
        wrong.push("database: this protocol has none".to_owned());
    }
    if target.tls.is_some() {
        wrong.push("tls: this protocol encrypts by itself; pin options.host_keys".to_owned());
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Options, Vec<String>> {
        Options::parse(&serde_json::from_str(json).expect("JSON"))
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_named() {
        let check = |json: &str, start: &str| {
            let wrong = parse(json).expect_err("refused");
            assert!(wrong.iter().any(|text| text.starts_with(start)), "{json}: {wrong:?}");
        };
        check(r#"{"hostkeys":[]}"#, "options: unknown field");
        check(r#"{"host_keys":["AAAA"]}"#, "options.host_keys[0]:");
        check(r#"{"forward_to":["db:5432","db"]}"#, "options.forward_to[1]:");
        check(r#"{"forward_listen":["0:70000"]}"#, "options.forward_listen[0]:");
        check(r#"{"forward_to":["*:22"]}"#, "options.forward_to[0]:");
    }

    #[test]
    fn variables_are_allowed_by_name_or_by_start() {
        let usual = parse("{}").expect("empty");
        assert!(usual.lets_variable("LANG") && usual.lets_variable("LC_ALL"));
        assert!(!usual.lets_variable("LD_PRELOAD") && !usual.lets_variable("LANGUAGE"));
        let none = parse(r#"{"environment":[]}"#).expect("a list");
        assert!(!none.lets_variable("LANG"));
    }

    #[test]
    fn forwards_are_compared_by_name_and_port() {
        let options = parse(r#"{"forward_to":["db:5432","[::1]:80","web:*"]}"#).expect("places");
        let is_covered =
            |host: &str, port: u32| options.forward_to.iter().any(|place| place.covers(host, port));
        assert!(is_covered("DB", 5432) && is_covered("::1", 80) && is_covered("web", 1));
        assert!(!is_covered("db", 5433) && !is_covered("db.example", 5432));
    }
}
