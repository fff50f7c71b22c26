//! Starts the gateway and stops it.

use std::path::PathBuf;

/// How `corral up` was called.
#[derive(Debug, Clone, Default)]
pub struct UpOptions {
    /// `--config`: corral.yaml.
    pub config: Option<PathBuf>,
    /// `--data`: the directory that holds the store, the record and the keys. It wins over the
    /// configuration's `data_dir`; `./corral-data` when neither says anything.
    pub data_dir: Option<PathBuf>,
}

/// Runs a gateway until SIGTERM or SIGINT. Sets up logging to stderr itself.
///
/// # Errors
/// When it cannot start (the text says what, where, and what would be right), or when it could
/// not stop cleanly.
pub async fn up(options: UpOptions) -> anyhow::Result<()> {
    let _ = options;
    anyhow::bail!("not yet")
}
