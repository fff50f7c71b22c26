//! Starts the gateway, keeps it going, and stops it.

use std::path::PathBuf;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::App;
use crate::gateway::Gateway;
use crate::logging;

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
    logging::start();
    let mut signals = Signals::listen()?;
    let mut gateway = Gateway::start(options).await?;
    loop {
        match signals.next(gateway.app()).await {
            Asked::Reload => gateway.reload().await,
            Asked::TargetsChanged => gateway.follow_targets().await,
            Asked::Stop => break,
        }
    }
    let hurry = async { signals.stop_again().await };
    gateway.stop_unless(hurry).await
}

/// What the gateway is asked to do.
enum Asked {
    Reload,
    TargetsChanged,
    Stop,
}

/// Signals from outside, taken from the very start.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let take = |kind: SignalKind| signal(kind).context("signals cannot be taken");
        Ok(Self {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
            hangup: take(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self, app: &App) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
            () = app.targets_changed() => Asked::TargetsChanged,
        }
    }

    async fn stop_again(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
