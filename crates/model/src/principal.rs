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
