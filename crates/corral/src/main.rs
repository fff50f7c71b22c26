//! The one binary: `corral up` is the gateway, everything else its client.

use std::process::ExitCode;

use clap::Parser;
use corral_cli::{CommandLine, Globals, RelayArgs, TopCommand, UpArgs};
use corral_gateway::UpOptions;
use corral_relay::RelayOptions;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let result = match line.command {
        TopCommand::Up(args) => up(line.globals, args),
        TopCommand::Relay(args) => relay(line.globals, args),
        TopCommand::Client(command) => {
            let verbs = corral_gateway::protocol_verbs();
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map(|runtime| runtime.block_on(corral_cli::run(line.globals, command, &verbs)))
                .map_err(anyhow::Error::from)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("corral: {error:#}");
        ExitCode::FAILURE
    })
}

fn up(globals: Globals, args: UpArgs) -> anyhow::Result<ExitCode> {
    let is_client_flag_given =
        globals.gateway.is_some() || globals.token_file.is_some() || globals.ca_file.is_some();
    if is_client_flag_given {
        eprintln!("corral: `up` starts a gateway; --gateway, --token-file and --ca-file find one");
        return Ok(ExitCode::from(2));
    }
    let options = UpOptions { config: args.config, data_dir: globals.data };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(corral_gateway::up(options))?;
    Ok(ExitCode::SUCCESS)
}

fn relay(globals: Globals, args: RelayArgs) -> anyhow::Result<ExitCode> {
    let Some(data_dir) = globals.data else {
        eprintln!("corral: `relay` needs --data DIR, where its key and certificate are kept");
        return Ok(ExitCode::from(2));
    };
    if globals.gateway.is_some() {
        eprintln!("corral: `relay` takes the gateway's address as --join URL, not as --gateway");
        return Ok(ExitCode::from(2));
    }
    let options = RelayOptions {
        join: args.join,
        token_file: globals.token_file,
        ca_file: globals.ca_file,
        data_dir,
        allow: args.allow,
        drain_timeout: args.drain_timeout.unwrap_or(corral_relay::DRAIN_TIMEOUT),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(corral_relay::run(options))?;
    Ok(ExitCode::SUCCESS)
}
