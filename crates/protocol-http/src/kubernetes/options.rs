//! What only this protocol knows of a target: `options`, typed, and the credentials it takes.

use std::ops::RangeInclusive;
use std::time::Duration;

use corral_model::resource::{
    CredentialKind, HumanDuration, ParsedAddress, TargetSpec, TargetTlsMode,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Groups of custom resources in one target's options.
const KNOWN_GROUPS_MAX: usize = 256;
/// Lifetimes of tokens. A TokenRequest is for ten minutes at least (`ValidateTokenRequest`).
const TOKEN_LIFETIMES: RangeInclusive<Duration> =
    Duration::from_secs(10 * 60)..=Duration::from_secs(30 * 24 * 60 * 60);

/// A target's `options`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// As whom the gateway's requests act.
    pub(crate) impersonate: Impersonate,
    /// API groups of custom resources whose objects are plain data: what is read or written there
    /// is `read` or `write`. Those of other groups are `unknown`.
    pub(crate) known_groups: Vec<String>,
    /// Which writes are tried as a dry run first, so that they are decided on the result.
    pub(crate) preview: Preview,
    /// Clients that speak SPDY only.
    pub(crate) spdy: Spdy,
    /// How long a token should be good that the gateway asks for in place of the present one,
    /// before that ends. None: it is not renewed.
    pub(crate) token_lifetime: Option<HumanDuration>,
}

/// Who the cluster is told that a request comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Impersonate {
    /// The gateway's own account. Only Corral's record names the run.
    #[default]
    Nobody,
    /// The principal with its groups, and the run and sponsor beside them: the cluster's own
    /// rights of that user bound what the gateway may do.
    Principal,
    /// One user of the cluster for everybody, with the run, principal and sponsor beside it:
    /// usually the gateway's own account, so that the cluster's audit names the run.
    User(String),
}

/// Which writes are tried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Preview {
    /// Of objects whose fields decide what they amount to: pods and what makes them, roles,
    /// bindings, volumes of nodes.
    #[default]
    Fields,
    /// Of every object of Kubernetes' own groups.
    Writes,
    /// None: what the client sent is decided.
    Never,
}

/// What is done with an upgrade to SPDY/3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Spdy {
    /// With a sentence that says what to use instead: SPDY cannot be recorded.
    #[default]
    Refuse,
}

impl Options {
    /// Reads a target's options.
    ///
    /// # Errors
    /// What is wrong, with the key: whoever wrote the target is to blame.
    pub(crate) fn read(options: &Map<String, Value>) -> Result<Self, String> {
        let options: Self = serde_json::from_value(Value::Object(options.clone()))
            .map_err(|error| format!("options: {error}"))?;
        if options.known_groups.len() > KNOWN_GROUPS_MAX {
            return Err(format!("options.known_groups: more than {KNOWN_GROUPS_MAX}"));
        }
        if let Some(group) = options.known_groups.iter().find(|group| !is_custom_group(group)) {
            return Err(format!(
                "options.known_groups: '{group}' is not a group of custom resources; write its \
                 whole name, such as cert-manager.io"
            ));
        }
        if let Impersonate::User(user) = &options.impersonate
            && !is_plain_text(user)
        {
            let text = "options.impersonate.user: write the name of a user of the cluster";
            return Err(text.to_owned());
        }
        let is_odd = |lifetime: &HumanDuration| !TOKEN_LIFETIMES.contains(&lifetime.0);
        if options.token_lifetime.as_ref().is_some_and(is_odd) {
            return Err("options.token_lifetime: write a time from 10m to 30d".to_owned());
        }
        Ok(options)
    }
}

/// Groups of Kubernetes' own are judged by a table; a name without a dot is one of those.
fn is_custom_group(group: &str) -> bool {
    let is_reserved = group == "k8s.io" || group.ends_with(".k8s.io");
    group.contains('.')
        && !is_reserved
        && group.len() <= 253
        && group.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
}

fn is_plain_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= 253 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What is wrong with a target, as texts that begin with the key.
pub(crate) fn check(target: &TargetSpec) -> Vec<String> {
    let mut texts: Vec<String> = Options::read(&target.options).err().into_iter().collect();
    match &target.credential {
        None => texts
            .push("credential: write a token, or a client_certificate and its client_key".into()),
        Some(credential) => match credential.kind() {
            CredentialKind::Token if credential.client_certificate.is_none() => {}
            CredentialKind::ClientKey if credential.client_certificate.is_some() => {}
            CredentialKind::Token => {
                texts.push("credential: a token or a client_certificate, not both".into());
            }
            CredentialKind::ClientKey => {
                texts.push("credential.client_certificate: its chain in PEM is missing".into());
            }
            CredentialKind::Password | CredentialKind::PrivateKey => texts.push(
                "credential: this protocol takes a token, or a client_certificate and its \
                 client_key"
                    .into(),
            ),
        },
    }
    if target.credential.as_ref().is_some_and(|credential| credential.issued) {
        texts.push("credential.issued: the gateway has no authority that a cluster trusts".into());
    }
    let has_token =
        target.credential.as_ref().is_some_and(|one| one.kind() == CredentialKind::Token);
    if target.options.contains_key("token_lifetime") && !has_token {
        texts.push("options.token_lifetime: only a token is renewed".into());
    }
    if target.masked_credential.is_some() {
        let text = "masked_credential: a cluster has no account that sees fields masked";
        texts.push(text.to_owned());
    }
    let is_clear = target.tls.as_ref().is_some_and(|tls| tls.mode == TargetTlsMode::Disable);
    // An address that cannot be read is refused elsewhere.
    let is_local = target.relay.is_none()
        && ParsedAddress::parse(&target.address).map_or(true, |address| address.is_local());
    if is_clear && !is_local {
        texts.push("tls.mode: a token does not go to another machine in clear".into());
    }
    if target.database.is_some() {
        texts.push("database: a cluster has none".into());
    }
    texts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(options: Value) -> Result<Options, String> {
        let Value::Object(options) = options else { panic!("a map") };
        Options::read(&options)
    }

    #[test]
    fn options_are_typed() {
        assert_eq!(read(json!({})), Ok(Options::default()));
        let options = read(json!({
            "impersonate": "principal", "known_groups": ["cert-manager.io"],
            "preview": "writes", "spdy": "refuse",
        }));
        let options = options.expect("they are right");
        assert_eq!(options.impersonate, Impersonate::Principal);
        assert_eq!(options.known_groups, ["cert-manager.io"]);
        assert_eq!((options.preview, options.spdy), (Preview::Writes, Spdy::Refuse));
        let user = read(json!({"impersonate": {"user": "system:serviceaccount:corral:gateway"}}));
        let user = user.expect("it is right").impersonate;
        assert_eq!(user, Impersonate::User("system:serviceaccount:corral:gateway".into()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (wrong, word) in [
            (json!({"impersonat": "principal"}), "impersonat"),
            (json!({"impersonate": "me"}), "me"),
            (json!({"impersonate": {"user": ""}}), "impersonate.user"),
            (json!({"known_groups": ["apps"]}), "apps"),
            (json!({"known_groups": ["rbac.authorization.k8s.io"]}), "rbac"),
            (json!({"known_groups": "x"}), "options"),
            (json!({"token_lifetime": "1m"}), "10m"),
            (json!({"token_lifetime": "31d"}), "30d"),
            (json!({"token_lifetime": 600}), "options"),
        ] {
            let text = read(wrong.clone()).expect_err("it is wrong");
            assert!(text.starts_with("options") && text.contains(word), "{wrong}: {text}");
        }
    }

    #[test]
    fn a_target_has_a_credential_of_the_right_kind() {
        let check = |extra: Value, expect: &[&str]| {
            let mut spec = json!({"name": "k", "protocol": "kubernetes", "address": "k:6443"});
            for (key, value) in extra.as_object().expect("a map") {
                spec[key] = value.clone();
            }
            let spec: TargetSpec = serde_json::from_value(spec).expect("a target");
            let texts = check(&spec);
            assert_eq!(texts.len(), expect.len(), "{extra}: {texts:?}");
            for (text, word) in texts.iter().zip(expect) {
                assert!(text.starts_with(word), "{extra}: {text}");
            }
        };
        let token = json!({"token": {"value": "t"}});
        check(json!({"credential": token}), &[]);
        let pair = json!({"client_certificate": "pem", "client_key": {"value": "k"}});
        check(json!({"credential": pair}), &[]);
        check(json!({}), &["credential"]);
        check(json!({"credential": {"username": "u"}}), &["credential"]);
        check(json!({"credential": {"client_key": {"value": "k"}}}), &["credential"]);
        let clear = json!({"mode": "disable"});
        check(json!({"credential": token, "tls": clear}), &["tls.mode"]);
        check(json!({"credential": token, "tls": clear, "address": "127.0.0.1:1"}), &[]);
        check(json!({"credential": token, "masked_credential": token}), &["masked_credential"]);
        check(json!({"credential": token, "options": {"x": 1}}), &["options"]);
        let lifetime = json!({"token_lifetime": "1h"});
        check(json!({"credential": token, "options": lifetime}), &[]);
        check(json!({"credential": pair, "options": lifetime}), &["options.token_lifetime"]);
    }
}
