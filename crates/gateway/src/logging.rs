//! The operational log: ids, counts and durations, on standard error.

use tracing_subscriber::EnvFilter;

/// What is logged when `CORRAL_LOG` says nothing.
const DEFAULT: &str = "info,sqlx=warn,hyper=warn";

/// Starts logging. `CORRAL_LOG` chooses what (`debug`, `corral_session=trace`); a program that
/// logs already keeps its own.
pub(crate) fn start() {
    let asked = std::env::var("CORRAL_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    let filter = asked.unwrap_or_else(|| EnvFilter::new(DEFAULT));
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal);
    // Somebody else's subscriber, as in tests, stays.
    let _ = subscriber.try_init();
}
