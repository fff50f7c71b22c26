//! `connect`, `env`: a stock client, led to the gateway.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::Args;
use corral_api::{Identity, TargetConnection};
use corral_model::ids::TargetName;

use crate::client::Client;
use crate::discover::Authority;
use crate::failure::{Exit, Failure};
use crate::native::{self, CaFile, Filling, reachable_host};
use crate::{Context, child, output};

/// Open a target's usual client
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  corral connect orders-db
  corral connect orders-db -- -c 'select 1'")]
pub struct ConnectArgs {
    pub target: TargetName,
    /// Arguments of the client
    #[arg(last = true, value_name = "ARGS")]
    pub arguments: Vec<OsString>,
}

/// Print the environment that leads stock clients to a target
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  eval \"$(corral env orders-db)\"
  corral env orders-db -o json

The lines hold your token.")]
pub struct EnvArgs {
    pub target: TargetName,
}

pub(crate) async fn connect(context: &Context<'_>, args: ConnectArgs) -> Result<(), Failure> {
    let client = context.client()?;
    let ca_file = CaFile::of(&client).await?;
    let connection = connection(&client, &args.target).await?;
    let native = connection.client.clone().ok_or_else(|| {
        let protocol = &connection.protocol;
        Failure::failed(format!("corral knows no client of the protocol {protocol}"))
            .with_hint("`corral env` prints what one needs")
    })?;
    let claim = who(&client).await?;
    let filling = Filling {
        host: reachable_host(&connection.host, &client.found().gateway),
        token: client.token()?.reveal(),
        ca_file: ca_file.path(),
        claim: &claim,
    };
    let variables = native::fill(&native.variables, &filling);
    let program = OsString::from(&native.program);
    match child::run(&program, &args.arguments, &variables).await? {
        0 => Ok(()),
        code => Err(Failure::silent(Exit::Of(code))),
    }
}

pub(crate) async fn env(context: &Context<'_>, args: EnvArgs) -> Result<(), Failure> {
    let client = context.client()?;
    let connection = connection(&client, &args.target).await?;
    // The file has to outlive this command.
    let ca_file = match &client.found().authority {
        Authority::File { path, .. } => path.clone(),
        Authority::Pem(_) | Authority::System => {
            let config = context.environment().config.ok_or_else(|| {
                Failure::failed("there is no place to keep the gateway's certificate authority")
                    .with_hint("pass --ca-file, or set HOME or XDG_CONFIG_HOME")
            })?;
            config.write("ca.pem", &connection.ca_pem)?
        }
    };
    let claim = who(&client).await?;
    let filling = Filling {
        host: reachable_host(&connection.host, &client.found().gateway),
        token: client.token()?.reveal(),
        ca_file: &ca_file,
        claim: &claim,
    };
    let variables = connection.client.map(|native| native.variables).unwrap_or_default();
    let filled = native::fill(&variables, &filling);
    output::show(context.format(), &filled, export_lines)
}

async fn connection(client: &Client, target: &TargetName) -> Result<TargetConnection, Failure> {
    client.get(&["targets", target.as_str(), "connection"]).await
}

async fn who(client: &Client) -> Result<String, Failure> {
    let identity: Identity = client.get(&["whoami"]).await?;
    Ok(identity.name)
}

fn export_lines(variables: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> =
        variables.iter().map(|(name, value)| format!("export {name}={}", quoted(value))).collect();
    lines.join("\n")
}

/// As a POSIX shell reads it back.
fn quoted(text: &str) -> String {
    let is_plain = !text.is_empty()
        && text.chars().all(|c| {
            c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '@' | ',' | '+')
        });
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_is_exported() {
        let check = |text: &str, expect: &str| assert_eq!(quoted(text), expect);
        check("orders-db", "orders-db");
        check("", "''");
        check("it's $HOME", "'it'\\''s $HOME'");
        let variables = BTreeMap::from([("A".to_owned(), "b c".to_owned())]);
        assert_eq!(export_lines(&variables), "export A='b c'");
    }
}
