//! The process near the targets. It dials out to the gateway, takes what the gateway asks for
//! through that one connection, connects to the addresses that it may dial, and moves bytes.
//!
//! It decides nothing, reads nothing of what it moves, and stores no secret but its own key. To
//! read it whole: [`run`] here, `join` (once), `identity` (what is on disk), `link` (one
//! connection). What both ends share is in `corral_transport::tunnel`.

mod identity;
mod join;
mod link;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use corral_transport::backoff::Backoff;
use corral_transport::tunnel::{AllowedAddress, RECONNECT_MAX, RECONNECT_MIN};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;

pub use corral_transport::tunnel::DRAIN_TIMEOUT;

use identity::Keeper;
use link::{Ended, Link, asked_to_stop};

/// What is logged when `CORRAL_LOG` says nothing.
const LOG_DEFAULT: &str = "info,h2=warn,hyper=warn,reqwest=warn";
/// A connection that lasted this long was a good one: the next wait is short again.
const GOOD_CONNECTION: Duration = Duration::from_secs(15);

/// How `corral relay` was called.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// `--join`: the gateway's API. Needed once; later it must be the same or absent.
    pub join: Option<String>,
    /// `--token-file`: a join token. Needed once.
    pub token_file: Option<PathBuf>,
    /// `--ca-file`: the authority of the gateway's API, PEM; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// `--data`: where the relay's key and certificate are kept.
    pub data_dir: PathBuf,
    /// `--allow`: addresses that may be dialled at most, whatever the gateway says; all that the
    /// gateway says when empty.
    pub allow: Vec<String>,
    /// `--drain-timeout`: how long streams may go on once the relay stops.
    pub drain_timeout: Duration,
}

/// Runs a relay until SIGTERM or SIGINT, and then until its last stream has ended or
/// `drain_timeout` has passed; a second signal ends it at once. Sets up logging to stderr itself.
///
/// # Errors
/// When it cannot join, or its data directory cannot be used: the text says what would be right.
/// A gateway that cannot be reached is no error; it is tried again.
pub async fn run(options: RelayOptions) -> anyhow::Result<()> {
    start_log();
    let stop = signals()?;
    run_until(options, stop).await
}

/// As [`run`], with the number of signals so far instead of signals.
///
/// # Errors
/// As [`run`].
pub async fn run_until(
    options: RelayOptions,
    mut stop: watch::Receiver<u32>,
) -> anyhow::Result<()> {
    let of_operator = allowed(&options.allow)?;
    let keeper = match Keeper::load(&options.data_dir)? {
        Some(keeper) => {
            keeper.must_be_of(options.join.as_deref())?;
            keeper
        }
        None => join::join(&options).await?,
    };
    let keeper = Arc::new(keeper);
    tracing::info!(relay = keeper.relay(), gateway = keeper.address(), "relay starts");
    let mut backoff = Backoff::new(RECONNECT_MIN, RECONNECT_MAX);
    loop {
        let started = Instant::now();
        let link = Link { keeper: keeper.clone(), of_operator: of_operator.clone() };
        match in_a_task(link, stop.clone(), options.drain_timeout).await {
            Ended::Stopped => break,
            Ended::Lost(error) => tracing::warn!("{error:#}"),
        }
        if started.elapsed() > GOOD_CONNECTION {
            backoff = Backoff::new(RECONNECT_MIN, RECONNECT_MAX);
        }
        let wait = backoff.next_wait();
        tracing::info!(wait_ms = wait.as_millis(), "connecting again");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = asked_to_stop(&mut stop, 1) => break,
        }
    }
    tracing::info!("relay stopped");
    Ok(())
}

/// Serves one connection in a task of the runtime's. The thread that waits for the whole program
/// is no worker: driven there, each frame would wake a worker, and each answer that thread.
async fn in_a_task(link: Link, mut stop: watch::Receiver<u32>, drain: Duration) -> Ended {
    // Dropped, it aborts the task.
    let mut connection = JoinSet::new();
    connection.spawn(async move { link.run(&mut stop, drain).await });
    match connection.join_next().await {
        Some(Ok(ended)) => ended,
        Some(Err(error)) => Ended::Lost(error.into()),
        None => Ended::Stopped,
    }
}

fn allowed(texts: &[String]) -> anyhow::Result<Option<Arc<[AllowedAddress]>>> {
    if texts.is_empty() {
        return Ok(None);
    }
    let read = |text: &String| AllowedAddress::parse(text).context("--allow");
    texts.iter().map(read).collect::<anyhow::Result<Arc<[_]>>>().map(Some)
}

/// Counts the signals that ask to stop.
fn signals() -> anyhow::Result<watch::Receiver<u32>> {
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be taken")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be taken")?;
    let (counted, count) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            let is_alive = tokio::select! {
                signal = terminate.recv() => signal.is_some(),
                signal = interrupt.recv() => signal.is_some(),
            };
            if !is_alive {
                return;
            }
            counted.send_modify(|count| *count += 1);
        }
    });
    Ok(count)
}

fn start_log() {
    let asked = std::env::var("CORRAL_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    let filter = asked.unwrap_or_else(|| EnvFilter::new(LOG_DEFAULT));
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal);
    // Somebody else's subscriber, as in tests, stays.
    let _ = subscriber.try_init();
}

/// The text of a file, without the white space around it.
fn read_text(path: &std::path::Path, what: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{what}: cannot read {}", path.display()))?;
    let text = text.trim();
    if text.is_empty() {
        bail!("{what}: {} is empty", path.display());
    }
    Ok(text.to_owned())
}
