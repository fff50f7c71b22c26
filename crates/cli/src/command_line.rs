//! The whole command line, `up` included, whose work is the gateway's.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{Command, Globals};

/// An access gateway: agents, jobs and people reach databases, hosts and clusters through it, each
/// statement with a permit, each event on record.
#[derive(Debug, Clone, Parser)]
#[command(name = "corral", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 denied, 4 not found, 5 gateway unreachable.

Which gateway, in this order: --gateway, --token-file and --ca-file; --data DIR; CORRAL_GATEWAY,
CORRAL_TOKEN and CORRAL_CA_FILE; what `corral login` saved.

Examples:
  corral up --data ./corral-data
  corral --data ./corral-data apply -f shop.yaml
  corral run --name planner --target orders-db -- python3 planner.py")]
pub struct CommandLine {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: TopCommand,
}

/// `up`, or a client of what it starts.
#[derive(Debug, Clone, Subcommand)]
pub enum TopCommand {
    Up(UpArgs),
    Relay(RelayArgs),
    #[command(flatten)]
    Client(Command),
}

/// Run a relay in the foreground, near targets that the gateway cannot reach
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  corral relay --join https://gate:8443 --token-file join.token --ca-file ca.pem --data ./relay
  corral relay --data ./relay

--token-file holds a token from `corral relays token NAME`; it is used once, at the first start.
--data holds the relay's key and certificate. SIGTERM lets streams finish for --drain-timeout while
other relays of the same name take over; a second one ends it at once.")]
pub struct RelayArgs {
    /// The gateway's API, https://HOST:PORT, at the first start
    #[arg(long, value_name = "URL")]
    pub join: Option<String>,
    /// Dial this address at most, whatever the gateway says; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    pub allow: Vec<String>,
    /// How long streams may go on once the relay stops [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = crate::text::read_duration)]
    pub drain_timeout: Option<std::time::Duration>,
}

/// Run the gateway in the foreground
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  corral up
  corral up --data /var/lib/corral --config /etc/corral.yaml

Without a configuration: loopback listeners on free ports, everything else in --data DIR
(./corral-data when absent). DIR/ready.json says where, once connections are accepted.
SIGTERM drains and ends, a second one ends at once, SIGHUP reads certificates and configuration
again.")]
pub struct UpArgs {
    /// The configuration, corral.yaml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
