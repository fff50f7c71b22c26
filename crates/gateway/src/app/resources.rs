//! Resources: applied all or nothing, shown without secrets, deleted.

use corral_model::ids::PolicyVersion;
use corral_model::resource::Resource;

use super::{App, AppError, Caller};

/// How to apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApplyOptions {
    /// Validate and tell the changes; change nothing.
    pub dry_run: bool,
    /// Delete every resource that is not named.
    pub prune: bool,
}

/// What happens to one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    Created,
    Changed,
    Unchanged,
    Deleted,
}

impl ChangeKind {
    /// As in JSON and events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

/// One resource's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub kind: String,
    pub name: String,
    pub change: ChangeKind,
    /// Before and after as JSON without secrets; for `corral diff`. A changed secret shows as
    /// `"password": "changed"`.
    pub before: Option<serde_json::Value>,
    pub after: Option<serde_json::Value>,
}

/// What was (or with `dry_run` would be) done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub version: PolicyVersion,
    pub changes: Vec<Change>,
}

/// One resource as it is shown: its spec without secrets, as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceView {
    pub kind: String,
    pub name: String,
    /// Grows when this resource changes.
    pub revision: u64,
    pub spec: serde_json::Value,
}

impl App {
    /// Applies resources, all or nothing. Secrets come as values and texts inline: the command
    /// that reads the manifests resolves them. A credential, password or secret that is absent
    /// keeps what is stored, so that a manifest can be applied again without its secrets.
    ///
    /// # Errors
    /// [`AppError::Denied`] unless the caller administers. [`AppError::Invalid`] with every
    /// problem found; then nothing changed.
    pub async fn apply(
        &self,
        caller: &Caller,
        resources: Vec<Resource>,
        options: ApplyOptions,
    ) -> Result<Applied, AppError> {
        let _ = (caller, resources, options);
        todo!()
    }

    /// All resources of a kind (`target`, `Target` or `targets`), by name. Only the administrator
    /// sees more than the targets that it may use.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for an unknown kind, [`AppError::Denied`].
    pub fn list_resources(
        &self,
        caller: &Caller,
        kind: &str,
    ) -> Result<Vec<ResourceView>, AppError> {
        let _ = (caller, kind);
        todo!()
    }

    /// # Errors
    /// [`AppError::NotFound`] and as [`App::list_resources`].
    pub fn show_resource(
        &self,
        caller: &Caller,
        kind: &str,
        name: &str,
    ) -> Result<ResourceView, AppError> {
        let _ = (caller, kind, name);
        todo!()
    }

    /// # Errors
    /// [`AppError::NotFound`], [`AppError::Denied`], [`AppError::Invalid`] when another resource
    /// still names it.
    pub async fn delete_resource(
        &self,
        caller: &Caller,
        kind: &str,
        name: &str,
    ) -> Result<Applied, AppError> {
        let _ = (caller, kind, name);
        todo!()
    }
}
