//! Where people come from: an identity provider by OpenID Connect or SAML, how its groups become
//! ours, and the tokens of what it may tell the gateway (SCIM, security events).
//!
//! Knows no protocol beyond the names of its settings: who speaks it checks what was said.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{SecretSource, TextSource};
use crate::ids::{GroupName, ResourceName};

/// An identity provider. Exactly one of `oidc` and `saml` is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityProviderSpec {
    /// Part of the addresses that the provider is told: `/auth/callback/NAME`, `/scim/v2`.
    pub name: ResourceName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saml: Option<SamlSpec>,
    /// Their group to ours; a group that is not listed counts for nothing. Empty: every group
    /// counts, under its own name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, GroupName>,
    #[serde(default)]
    pub sign_in: FirstSignIn,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scim: Option<ScimSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signals: Option<SignalsSpec>,
}

/// Who may sign in for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstSignIn {
    /// Whom SCIM made, and users whose manifest names this provider.
    #[default]
    Provisioned,
    /// Everybody whom the provider vouches for: the first sign-in makes the user.
    Create,
}

/// The gateway as a client of an OpenID provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcSpec {
    /// The issuer, exactly as its tokens name it; `http` on loopback only.
    pub issuer: String,
    pub client_id: String,
    /// Absent for a public client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretSource>,
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// OpenID Connect Core section 3.1.2.1; many providers give refresh tokens with `consent` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The claim that becomes the user's name. `email` counts only with `email_verified`.
    #[serde(default = "default_user_claim")]
    pub user_claim: String,
    /// The claim with the person's groups. Absent: the groups of manifests or SCIM stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_claim: Option<String>,
    /// Certificates that are trusted for it, PEM; the system's when absent. In a manifest a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
}

fn default_scopes() -> Vec<String> {
    ["openid", "email", "profile"].map(str::to_owned).to_vec()
}

/// The claim with an e-mail address, which counts only when the provider verified it.
pub const EMAIL_CLAIM: &str = "email";

fn default_user_claim() -> String {
    EMAIL_CLAIM.to_owned()
}

/// The gateway as a service provider of a SAML identity provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamlSpec {
    /// The provider's metadata: its name, address and signing certificates.
    pub metadata: TextSource,
    /// The attribute that becomes the user's name; the `NameID` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_attribute: Option<String>,
    /// The attribute with the person's groups. Absent: the groups of manifests or SCIM stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_attribute: Option<String>,
}

/// The provider may make, change and disable its people by SCIM 2.0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScimSpec {
    /// The bearer token that it shows. Sealed at apply; absent where it stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretSource>,
}

/// The provider may push security events (RFC 8935) of CAEP and RISC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalsSpec {
    /// The issuer of its event tokens.
    pub issuer: String,
    /// The audience that they must name.
    pub audience: String,
    /// Where their keys are.
    pub jwks_uri: String,
    /// The bearer token that the transmitter shows. Sealed at apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretSource>,
}

/// Which secret of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProviderSecret {
    OidcClient,
    Scim,
    Signals,
}

impl ProviderSecret {
    pub const ALL: [Self; 3] = [Self::OidcClient, Self::Scim, Self::Signals];

    /// Its key in manifests.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::OidcClient => "oidc.client_secret",
            Self::Scim => "scim.token",
            Self::Signals => "signals.token",
        }
    }
}

impl IdentityProviderSpec {
    /// The secret as the manifest has it; `None` when it is not written there.
    #[must_use]
    pub fn secret(&self, which: ProviderSecret) -> Option<&SecretSource> {
        match which {
            ProviderSecret::OidcClient => self.oidc.as_ref()?.client_secret.as_ref(),
            ProviderSecret::Scim => self.scim.as_ref()?.token.as_ref(),
            ProviderSecret::Signals => self.signals.as_ref()?.token.as_ref(),
        }
    }

    /// The same, to be replaced.
    pub fn secret_mut(&mut self, which: ProviderSecret) -> Option<&mut Option<SecretSource>> {
        match which {
            ProviderSecret::OidcClient => self.oidc.as_mut().map(|oidc| &mut oidc.client_secret),
            ProviderSecret::Scim => self.scim.as_mut().map(|scim| &mut scim.token),
            ProviderSecret::Signals => self.signals.as_mut().map(|signals| &mut signals.token),
        }
    }

    /// Whether the part that a secret belongs to is there at all.
    #[must_use]
    pub fn has_part_of(&self, which: ProviderSecret) -> bool {
        match which {
            ProviderSecret::OidcClient => self.oidc.is_some(),
            ProviderSecret::Scim => self.scim.is_some(),
            ProviderSecret::Signals => self.signals.is_some(),
        }
    }

    /// Takes the secrets out.
    pub fn strip(&mut self) {
        for which in ProviderSecret::ALL {
            if let Some(secret) = self.secret_mut(which) {
                *secret = None;
            }
        }
    }

    /// Whether a kept client secret would be sent to somebody else than it was given for.
    #[must_use]
    pub fn goes_elsewhere(&self, before: &Self) -> bool {
        let place = |spec: &Self| {
            let oidc = spec.oidc.as_ref();
            oidc.map(|oidc| (oidc.issuer.clone(), oidc.client_id.clone(), oidc.ca_file.clone()))
        };
        place(self) != place(before)
    }

    /// Whether the provider says which groups its people are in; otherwise manifests do.
    #[must_use]
    pub fn decides_groups(&self) -> bool {
        self.oidc.as_ref().is_some_and(|oidc| oidc.groups_claim.is_some())
            || self.saml.as_ref().is_some_and(|saml| saml.groups_attribute.is_some())
            || self.scim.is_some()
    }

    /// What a group of theirs is called here; `None` when it counts for nothing.
    #[must_use]
    pub fn group(&self, theirs: &str) -> Option<GroupName> {
        if self.groups.is_empty() {
            return GroupName::new(theirs).ok();
        }
        self.groups.get(theirs).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(groups: &[(&str, &str)]) -> IdentityProviderSpec {
        let groups = groups
            .iter()
            .map(|(theirs, ours)| ((*theirs).to_owned(), GroupName::new(*ours).expect("a name")));
        IdentityProviderSpec {
            name: ResourceName::new("corp").expect("a name"),
            oidc: None,
            saml: None,
            groups: groups.collect(),
            sign_in: FirstSignIn::Provisioned,
            scim: Some(ScimSpec { token: Some(SecretSource::Value("s".into())) }),
            signals: None,
        }
    }

    #[test]
    fn a_group_that_a_mapping_leaves_out_counts_for_nothing() {
        let check = |provider: &IdentityProviderSpec, theirs: &str, expect: Option<&str>| {
            let found = provider.group(theirs);
            assert_eq!(found.as_ref().map(GroupName::as_str), expect, "{theirs}");
        };
        let mapped = provider(&[("DB Admins", "dba")]);
        check(&mapped, "DB Admins", Some("dba"));
        check(&mapped, "dba", None);
        let plain = provider(&[]);
        check(&plain, "dba", Some("dba"));
        check(&plain, "DB Admins", None);
    }

    #[test]
    fn a_stripped_provider_keeps_its_parts_without_secrets() {
        let mut spec = provider(&[]);
        spec.strip();
        assert!(spec.has_part_of(ProviderSecret::Scim));
        assert!(ProviderSecret::ALL.iter().all(|which| spec.secret(*which).is_none()));
    }
}
