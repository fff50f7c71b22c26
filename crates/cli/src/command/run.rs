//! `run`: a command as a run, which ends with it.

use std::ffi::OsString;
use std::path::Path;

use clap::Args;
use corral_api::{EndRunRequest, EndedView, StartRunResponse};
use corral_model::ids::TargetName;
use corral_model::native::Lifetime;
use corral_model::process::LeftProcesses;

use crate::attribution::control::{self, CONTROL_VARIABLE};
use crate::attribution::guard::Guarded;
use crate::attribution::{Attribution, CONTROL_SOCKET, Held, Ports, leftovers, open_files};
use crate::client::Client;
use crate::client_dir::ClientDir;
use crate::command::runs::WhatArgs;
use crate::failure::{Exit, Failure};
use crate::key_agent::{Holder, KeyAgents};
use crate::native::{self, CaFile};
use crate::{Context, exchange, output};

/// Start a run, run a command in it, end the run with the command
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  corral run --name planner --target orders-db --ttl 15m -- python3 planner.py
  corral run --target orders-db -- ./report.sh
  CORRAL_TOKEN=$ID_TOKEN corral run --target orders-db -- ./report.sh     (in a CI job)
  corral --data ./corral-data run --for nightly-report --name me -- bash

CMD gets the variables that stock clients of the targets read (docs/cli.md lists them), and
CORRAL_GATEWAY, CORRAL_TOKEN, CORRAL_CA_FILE and CORRAL_RUN_ID: a `corral run` within CMD starts a
child run of the process that calls it. A token that a CI system or cluster signed starts the root run of its job, once: what
else the job starts is a child below it. Each process that connects to a target gets a child run
of its own, named after what it runs. The exit code is CMD's; 128 and the signal's number when a
signal ended it. The run ends with CMD, and when `corral run` itself is killed or stopped; what CMD
leaves behind is ended.")]
pub struct RunArgs {
    /// The run's name; the command's when absent
    #[arg(long)]
    pub name: Option<String>,
    #[command(flatten)]
    pub what: WhatArgs,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

pub(crate) async fn run(context: &Context<'_>, args: RunArgs) -> Result<(), Failure> {
    let mut words = args.command.into_iter();
    let program = words.next().ok_or_else(|| Failure::usage("name a command after --"))?;
    let arguments: Vec<OsString> = words.collect();
    let name = args.name.unwrap_or_else(|| name_of(&program));
    let client = starter(context.client()?).await?;
    let request = args.what.request(name);
    let started = exchange::start(&client, &request).await?;
    let as_run = client.with_token(started.token.secret().clone());
    let result = in_run(&as_run, &started, &program, &arguments).await;
    let left = match &result {
        Ok((_, guarded)) => leftovers::left(guarded.pid()),
        Err(_) => None,
    };
    end(&as_run, &started, left).await;
    let (code, guarded) = result?;
    guarded.end().await;
    match code {
        0 => Ok(()),
        code => Err(Failure::silent(Exit::Of(code))),
    }
}

/// Whoever starts the run: within another one, the process that called this program, which the
/// wrapper there knows. A token that is not that run's was given on purpose, and counts.
async fn starter(client: Client) -> Result<Client, Failure> {
    let Some(socket) = control::socket() else { return Ok(client) };
    if !client.token().is_ok_and(|token| control::is_token_of(&socket, token)) {
        return Ok(client);
    }
    Ok(match control::ask(&socket).await? {
        Some(token) => client.with_token(token),
        None => client,
    })
}

async fn in_run(
    as_run: &Client,
    started: &StartRunResponse,
    program: &OsString,
    arguments: &[OsString],
) -> Result<(u8, Guarded), Failure> {
    // First of all: who attaches first is the wrapper.
    let held = Held::new(as_run, &started.run_id).await?;
    let key = held.key().clone();
    // From here to the end of this process, also while leftovers are ended.
    tokio::spawn(held.answer());
    let ca_file = CaFile::of(as_run).await?;
    let targets: Vec<String> = started.targets.iter().map(TargetName::to_string).collect();
    let mut clients = native::clients_of(as_run, &targets, Lifetime::Process).await?;
    let ports = Ports::open(&mut clients).await?;
    let make = ClientDir::of_process;
    let prepared = native::prepare(as_run, &mut clients, &ca_file, &started.name, make).await?;
    let mut variables = prepared.with_path();
    variables.extend(own_variables(as_run, started, ca_file.path()));
    let attribution = match &prepared.directory {
        Some(directory) => {
            let control = directory.path().join(CONTROL_SOCKET).display().to_string();
            variables.insert(CONTROL_VARIABLE.to_owned(), control);
            control::say_whose(directory, as_run.token()?)?;
            Some(Attribution::start(as_run, &key, &clients, ports, directory)?)
        }
        None => {
            // That of a run around this one would answer for its own processes.
            variables.insert(CONTROL_VARIABLE.to_owned(), String::new());
            None
        }
    };
    let children = attribution.as_ref().map(Attribution::children);
    let agents = match &children {
        Some(children) => {
            let holder = Holder::Processes(children.clone());
            KeyAgents::start(&holder, &clients, prepared.directory.as_ref())?
        }
        None => KeyAgents::none(),
    };
    let attributed = async {
        match attribution {
            Some(attribution) => attribution.serve().await,
            None => std::future::pending().await,
        }
    };
    let files_before = open_files::raise();
    let mut guarded = Guarded::start(program, arguments, &variables, files_before).await?;
    let guard = guarded.pid();
    let code = tokio::select! {
        code = guarded.wait() => code?,
        never = attributed => match never {},
        never = agents.serve() => match never {},
        failure = leftovers::reap(guard) => return Err(failure),
    };
    if let Some(children) = children {
        children.settle().await;
    }
    Ok((code, guarded))
}

/// The gateway, as this run: what a `corral` within the command finds.
fn own_variables(
    as_run: &Client,
    started: &StartRunResponse,
    ca_file: &Path,
) -> [(String, String); 4] {
    [
        ("CORRAL_GATEWAY", as_run.found().gateway.clone()),
        ("CORRAL_TOKEN", started.token.secret().reveal().to_owned()),
        ("CORRAL_CA_FILE", ca_file.display().to_string()),
        ("CORRAL_RUN_ID", started.run_id.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

/// Ends the run. That it ended already (killed, expired, its gateway gone) is no failure of the
/// command, whose exit code is what the caller waits for.
async fn end(as_run: &Client, started: &StartRunResponse, left: Option<LeftProcesses>) {
    let path = ["runs", started.run_id.as_str(), "end"];
    let ended: Result<EndedView, Failure> = as_run.post(&path, &EndRunRequest { left }).await;
    if let Err(failure) = ended
        && failure.exit == Exit::Unreachable
    {
        let run = &started.run_id;
        output::remark(&format!(
            "corral: run {run} was not ended: {}; it ends with its TTL",
            failure.message
        ));
    }
}

/// The file name of a program, with what a run's name may not hold replaced.
fn name_of(program: &OsString) -> String {
    let file = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    let name: String = file
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' })
        .take(63)
        .collect();
    if name.is_empty() { "run".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_after_its_command() {
        let check = |program: &str, name: &str| {
            assert_eq!(name_of(&OsString::from(program)), name);
        };
        check("/usr/bin/python3", "python3");
        check("./my script.sh", "my-script.sh");
        check("/", "run");
    }
}
