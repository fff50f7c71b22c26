//! Who is behind a session: a person or a workload.

use serde::{Deserialize, Serialize};

use crate::ids::PrincipalName;

/// Whether a principal is a person or a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    User,
    Workload,
}

/// A person (from an identity provider or a local account) or a workload (a CI job, a service).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Principal {
    pub kind: PrincipalKind,
    pub name: PrincipalName,
}

impl Principal {
    #[must_use]
    pub fn user(name: PrincipalName) -> Self {
        Self { kind: PrincipalKind::User, name }
    }

    #[must_use]
    pub fn workload(name: PrincipalName) -> Self {
        Self { kind: PrincipalKind::Workload, name }
    }
}

impl std::fmt::Display for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name.as_str())
    }
}

/// How long somebody's standing is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OffboardEffect {
    /// Until whoever may enables the person again.
    Disabled,
    /// Until the next good sign-in.
    Suspended,
}

/// One person's standing is taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offboarding {
    pub person: PrincipalName,
    pub effect: OffboardEffect,
    pub cause: OffboardCause,
    /// Who or what did it, for people: `admin`, the name of a provider.
    pub by: String,
}

/// What took somebody's standing away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OffboardCause {
    /// An administrator, by hand or by a manifest.
    ByHand,
    /// The provider, by SCIM.
    Scim,
    /// The provider ended the person's session there (OpenID Connect Back-Channel Logout).
    Logout,
    /// The provider took all tokens back (Global Token Revocation).
    Revoked,
    /// The provider sent a security event (CAEP, RISC).
    Signal,
    /// The provider refused to renew the person's grant, or could not be asked for too long.
    RefreshFailed,
}

impl OffboardCause {
    /// As in JSON and events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ByHand => "by_hand",
            Self::Scim => "scim",
            Self::Logout => "logout",
            Self::Revoked => "revoked",
            Self::Signal => "signal",
            Self::RefreshFailed => "refresh_failed",
        }
    }
}

impl std::fmt::Display for OffboardCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
