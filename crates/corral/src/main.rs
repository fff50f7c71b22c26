//! The one binary: `corral up` is the gateway, everything else its client.

use std::process::ExitCode;

use clap::Parser;
use corral_cli::{CommandLine, Globals, TopCommand, UpArgs};
use corral_gateway::UpOptions;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let result = match line.command {
        TopCommand::Up(args) => up(line.globals, args),
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
