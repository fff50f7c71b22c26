//! Applying, listing and deleting resources.

use corral_model::ids::PolicyVersion;
use corral_model::resource::{Resource, ResourceKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// `POST /api/v1/apply`: all or nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// With every secret and every text read: `{"value": …}` and inline Cedar, never a file or a
    /// variable of the sender's machine. A target's `tls.ca_file` holds the PEM text itself.
    #[schema(value_type = Vec<Object>)]
    pub resources: Vec<Resource>,
    /// Validate and show what would change, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Delete what is stored and not in `resources`.
    #[serde(default)]
    pub prune: bool,
}

/// What `apply` did, or with `dry_run` would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApplyResponse {
    /// The configuration's number afterwards; it decides which policy decided.
    #[schema(value_type = u64)]
    pub version: PolicyVersion,
    pub dry_run: bool,
    pub changes: Vec<Change>,
}

/// One resource's change. `corral diff` compares `before` and `after`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    pub action: ChangeAction,
    #[schema(value_type = String, example = "Target")]
    pub kind: ResourceKind,
    pub name: String,
    /// The spec without secrets; null when it was not there. A changed secret shows as
    /// `"changed"`.
    #[schema(value_type = Option<Object>)]
    pub before: Option<Value>,
    /// Null when it is deleted.
    #[schema(value_type = Option<Object>)]
    pub after: Option<Value>,
}

/// What happens to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeAction {
    Created,
    Changed,
    Deleted,
    Unchanged,
}

impl ChangeAction {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::Unchanged => "unchanged",
        }
    }
}
