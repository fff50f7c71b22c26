//! What policy is asked with: who, where and how. What is asked about is
//! [`corral_model::statement::Facts`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use corral_model::ids::{GroupName, ResourceName, RunId, TargetName};
use corral_model::resource::TargetSpec;
use corral_model::statement::AttributeSpec;
use corral_model::{Principal, Verb};
use serde::Deserialize;
use time::OffsetDateTime;

/// One policy resource, its file already read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySource {
    /// The `Policy` resource's name, or the file's when there is no resource.
    pub name: ResourceName,
    /// Policies in Cedar's own syntax.
    pub cedar: String,
}

/// A protocol's part of the policy schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolVerbs {
    pub protocol: &'static str,
    pub verbs: &'static [Verb],
    /// Fields that its statements may have in `context`.
    pub attributes: &'static [AttributeSpec],
}

/// One run of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunNode {
    pub id: RunId,
    pub name: String,
    pub attribution: Attribution,
    /// Actions, or groups of them, that it was granted; empty for all.
    pub actions: Vec<String>,
}

/// How it is known whose a run's sessions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribution {
    /// They showed its token.
    #[default]
    Token,
    /// Its parent's wrapper saw which process of its own they are of.
    Process,
}

impl Attribution {
    /// As in a policy's `context`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Process => "process",
        }
    }
}

/// Who asks: a principal, and the runs from its root run down to the one that acts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    pub principal: Principal,
    /// The principal's groups; a run has those of its root's principal.
    pub groups: Vec<GroupName>,
    /// Root first, the acting run last; empty for a person's own session.
    pub runs: Vec<RunNode>,
}

impl Subject {
    /// Depth of the acting run: 0 for a root run, and for a session without a run.
    #[must_use]
    pub fn run_depth(&self) -> u32 {
        u32::try_from(self.runs.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Of the acting run; a session without a run showed a token.
    #[must_use]
    pub fn attribution(&self) -> Attribution {
        self.runs.last().map(|run| run.attribution).unwrap_or_default()
    }
}

/// Where: what policies and limits can say of a target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetFacts {
    pub name: TargetName,
    /// As in the target's `protocol:`.
    pub protocol: String,
    pub labels: BTreeMap<String, String>,
}

impl From<&TargetSpec> for TargetFacts {
    fn from(spec: &TargetSpec) -> Self {
        Self {
            name: spec.name.clone(),
            protocol: spec.protocol.clone(),
            labels: spec.labels.clone(),
        }
    }
}

/// How and when: the part of a policy's `context` that is not in the statement's facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Whether the session is inside a transaction block; false when a session opens.
    pub in_transaction: bool,
    /// The time of the decision.
    pub time: OffsetDateTime,
    /// Whether the client's connection is encrypted.
    pub tls: bool,
    /// None for a Unix socket.
    pub source_ip: Option<IpAddr>,
}
