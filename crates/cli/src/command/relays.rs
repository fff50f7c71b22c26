//! `relays list`, `relays token`, `relays revoke`.

use std::time::Duration;

use clap::Subcommand;
use corral_api::{RelayProcessState, RelayRevoked, RelayToken, RelayTokenRequest, RelayView};
use serde_json::Value;

use crate::Context;
use crate::failure::Failure;
use crate::output;
use crate::text::{read_duration, timestamp};

/// Let relays join, see which are connected, and take them back
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "\
Examples:
  corral relays token eu-1 > join.token
  corral relay --join https://gateway:443 --token-file join.token --ca-file ca.pem --data ./relay
  corral relays list
  corral relays revoke eu-1")]
pub enum RelaysCommand {
    /// Relays, and the processes of each that are connected
    List,
    /// Print a token with which one process of a relay may join, once
    Token {
        name: String,
        /// How long it may be used [default: 1h]
        #[arg(long, value_name = "DURATION", value_parser = read_duration)]
        ttl: Option<Duration>,
    },
    /// Take back all certificates and unused tokens of a relay, end its connections
    Revoke { name: String },
}

pub(crate) async fn relays(context: &Context<'_>, command: RelaysCommand) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        RelaysCommand::List => {
            let relays: Vec<RelayView> = client.get(&["relays"]).await?;
            output::show(context.format(), &relays, |relays| table(relays))
        }
        RelaysCommand::Token { name, ttl } => {
            let request = RelayTokenRequest { ttl_s: ttl.map(|ttl| ttl.as_secs()) };
            let made: RelayToken = client.post(&["relays", &name, "tokens"], &request).await?;
            output::show(context.format(), &made, |made| made.token.secret().reveal().to_owned())
        }
        RelaysCommand::Revoke { name } => {
            let revoked: RelayRevoked =
                client.post(&["relays", &name, "revoke"], &Value::Null).await?;
            output::show(context.format(), &revoked, |done| {
                format!(
                    "revoked {}: {} certificates, {} connections closed",
                    done.name, done.certificates_revoked, done.connections_closed
                )
            })
        }
    }
}

fn table(relays: &[RelayView]) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for relay in relays {
        let addresses = relay.addresses.join(", ");
        if relay.processes.is_empty() {
            let away = ["away", "", "", ""].map(str::to_owned);
            let head = [relay.name.clone()].into_iter().chain(away);
            rows.push(head.chain([addresses.clone()]).collect());
        }
        for process in &relay.processes {
            let state = match process.state {
                RelayProcessState::Connected => "connected",
                RelayProcessState::Draining => "draining",
            };
            rows.push(vec![
                relay.name.clone(),
                state.to_owned(),
                process.address.clone(),
                timestamp(process.joined_at),
                process.streams.to_string(),
                addresses.clone(),
            ]);
        }
    }
    output::table(&["NAME", "STATE", "FROM", "SINCE", "STREAMS", "MAY DIAL"], rows)
}
