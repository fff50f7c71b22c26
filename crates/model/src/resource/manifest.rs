//! YAML manifests: text to resources, with line and column in every error.
//!
//! A manifest may hold a secret, so no error quotes the lines around its place.

use std::fmt;

use super::Resource;

/// What is wrong with a manifest, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    pub file: String,
    /// From 1; 0 when it concerns the whole file.
    pub line: u64,
    /// From 1, in characters.
    pub column: u64,
    pub text: String,
    /// What would be right.
    pub help: Option<String>,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.text)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ManifestError {}

/// What is wrong with one resource, by the path of its key (`run.ttl_max`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    pub key: String,
    pub text: String,
    pub help: Option<String>,
}

mod read;
mod validate;

pub use read::parse;
pub use validate::validate;

/// Writes a resource as one YAML document, `kind` first.
///
/// # Errors
/// The serialiser's own, which no resource that was parsed causes.
pub fn to_yaml(resource: &Resource) -> Result<String, ManifestError> {
    serde_saphyr::to_string(resource).map_err(|error| ManifestError {
        file: format!("{}/{}", resource.kind(), resource.name()),
        line: 0,
        column: 0,
        text: error.to_string(),
        help: None,
    })
}
