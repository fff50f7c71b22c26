//! What is wrong with a policy text, where, and what would be right.

use corral_model::ids::ResourceName;
use serde::Serialize;

/// Whether a problem keeps a policy from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Error,
    /// It is used as it stands, and probably does not do what its author wants.
    Warning,
}

/// One problem in one source. Whoever wrote the policy is to blame.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PolicyProblem {
    /// The source that it is in.
    pub source: ResourceName,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    pub severity: Severity,
    /// What is wrong.
    pub text: String,
    /// What would be right, where that is known.
    pub help: Option<String>,
}

impl std::fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: {severity}: {}", self.source, self.line, self.column, self.text)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}
