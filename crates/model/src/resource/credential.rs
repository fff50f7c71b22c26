//! How the gateway logs in to a target: one secret, of one kind.

use serde::{Deserialize, Serialize};

use super::SecretSource;

/// How the gateway logs in to a target. The secret is sealed at apply and never shown again.
/// Which kinds a target may have is the protocol's to say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialSpec {
    /// Empty where the secret says who it is (tokens, client certificates).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretSource>,
    /// A private key in PEM or OpenSSH's form, without a passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<SecretSource>,
    /// A bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretSource>,
    /// The private key of `client_certificate`, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<SecretSource>,
    /// A certificate chain in PEM that the gateway shows. In a manifest a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<String>,
    /// The gateway makes a short-lived certificate for each session by its own authority, which
    /// the target trusts.
    #[serde(default, skip_serializing_if = "is_false")]
    pub issued: bool,
    /// Written by the gateway: the kind of the sealed secret, when it is not a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<CredentialKind>,
}

/// The kinds of secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    Password,
    PrivateKey,
    Token,
    ClientKey,
}

impl CredentialKind {
    /// Its key in manifests.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::PrivateKey => "private_key",
            Self::Token => "token",
            Self::ClientKey => "client_key",
        }
    }
}

impl CredentialSpec {
    /// The secrets that stand in the spec, by kind.
    pub fn secrets(&self) -> impl Iterator<Item = (CredentialKind, &SecretSource)> {
        [
            (CredentialKind::Password, &self.password),
            (CredentialKind::PrivateKey, &self.private_key),
            (CredentialKind::Token, &self.token),
            (CredentialKind::ClientKey, &self.client_key),
        ]
        .into_iter()
        .filter_map(|(kind, source)| source.as_ref().map(|source| (kind, source)))
    }

    /// As [`CredentialSpec::secrets`], to read what they point to.
    pub fn secrets_mut(&mut self) -> impl Iterator<Item = (CredentialKind, &mut SecretSource)> {
        [
            (CredentialKind::Password, &mut self.password),
            (CredentialKind::PrivateKey, &mut self.private_key),
            (CredentialKind::Token, &mut self.token),
            (CredentialKind::ClientKey, &mut self.client_key),
        ]
        .into_iter()
        .filter_map(|(kind, source)| source.as_mut().map(|source| (kind, source)))
    }

    /// The kind of its secret, in the spec or sealed.
    #[must_use]
    pub fn kind(&self) -> CredentialKind {
        let written = self.secrets().next().map(|(kind, _)| kind);
        written.or(self.sealed).unwrap_or(CredentialKind::Password)
    }

    /// Takes the secret out, and keeps its kind.
    pub fn strip(&mut self) {
        let kind = self.kind();
        self.sealed = Some(kind).filter(|kind| *kind != CredentialKind::Password);
        self.password = None;
        self.private_key = None;
        self.token = None;
        self.client_key = None;
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stripped_credential_keeps_the_kind_of_its_secret() {
        let mut key = CredentialSpec {
            private_key: Some(SecretSource::Value("k".into())),
            ..CredentialSpec::default()
        };
        key.strip();
        assert_eq!(key.secrets().count(), 0);
        assert_eq!(key.kind(), CredentialKind::PrivateKey);
        let json = serde_json::to_string(&key).expect("serialises");
        assert_eq!(json, r#"{"sealed":"private_key"}"#);
        let mut password = CredentialSpec { username: "u".into(), ..CredentialSpec::default() };
        password.strip();
        assert_eq!(password.sealed, None);
    }
}
