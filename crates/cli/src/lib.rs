//! Every command of `corral` but `up`: clients of the gateway's API, and the offline ones.
//!
//! One file for each command. This crate knows the API's types; it may not know the gateway, its
//! store, or any protocol: how a stock client is led to a target is told by the gateway.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use corral_gate::policy::ProtocolVerbs;

mod attribution;
mod child;
mod client;
mod client_dir;
mod command;
mod command_line;
mod discover;
mod event_line;
mod exchange;
mod failure;
mod key_agent;
mod manifest;
mod native;
mod output;
mod saved;
mod sign_in;
mod stream;
mod text;
mod tree;
mod words;

pub use command_line::{CommandLine, RelayArgs, TopCommand, UpArgs};
pub use output::Format;

use client::Client;
use command::{
    approvals, audit, below, carry, connect, credential, guard, login, policy, relays, replay,
    resources, run, runs, sessions, target, users,
};
use discover::{Environment, Flags};
use failure::Failure;

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Gateway and output")]
pub struct Globals {
    /// The gateway's address, https://HOST:PORT [env: CORRAL_GATEWAY]
    #[arg(long, global = true, value_name = "URL")]
    pub gateway: Option<String>,
    /// A file that holds a token and nothing else [env: CORRAL_TOKEN, the token itself]
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The gateway's certificate authority, PEM [env: CORRAL_CA_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// A gateway's data directory: be the administrator of that gateway. For `up` and `relay`, where
    /// they keep everything
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// How to print
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
    Whoami(login::WhoamiArgs),
    Apply(resources::ApplyArgs),
    Diff(resources::DiffArgs),
    Get(resources::GetArgs),
    Delete(resources::DeleteArgs),
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    Run(run::RunArgs),
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    Connect(connect::ConnectArgs),
    Env(connect::EnvArgs),
    #[command(subcommand)]
    Target(target::TargetCommand),
    Published(target::PublishedArgs),
    #[command(hide = true)]
    Credential(credential::CredentialArgs),
    #[command(hide = true)]
    Carry(carry::CarryArgs),
    #[command(hide = true)]
    Guard(guard::GuardArgs),
    #[command(hide = true)]
    Below(below::BelowArgs),
    #[command(name = "k8s-credential")]
    K8sCredential(credential::K8sCredentialArgs),
    #[command(subcommand)]
    Approvals(approvals::ApprovalsCommand),
    #[command(subcommand)]
    Sessions(sessions::SessionsCommand),
    Replay(replay::ReplayArgs),
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    #[command(subcommand)]
    Relays(relays::RelaysCommand),
    #[command(subcommand)]
    Users(users::UsersCommand),
    /// Print the OpenAPI document of the gateway's API
    #[command(hide = true)]
    Openapi,
}

/// Runs one command. `protocols` are the verbs of every protocol that this binary serves, which
/// policies are checked against without a gateway.
pub async fn run(globals: Globals, command: Command, protocols: &[ProtocolVerbs]) -> ExitCode {
    let context = Context { globals, protocols };
    match carry_out(&context, command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("{failure}");
            }
            ExitCode::from(failure.exit.code())
        }
    }
}

/// What commands share.
pub(crate) struct Context<'a> {
    globals: Globals,
    pub(crate) protocols: &'a [ProtocolVerbs],
}

impl Context<'_> {
    /// The format that `-o` asked for, else a table.
    fn format(&self) -> Format {
        self.globals.output.unwrap_or(Format::Table)
    }

    /// The format that `-o` asked for, else JSON: for what is made to be read by a script.
    fn format_for_scripts(&self) -> Format {
        self.globals.output.unwrap_or(Format::Json)
    }

    fn environment(&self) -> Environment {
        Environment::of_process()
    }

    fn client(&self) -> Result<Client, Failure> {
        let flags = Flags {
            gateway: self.globals.gateway.clone(),
            token_file: self.globals.token_file.clone(),
            ca_file: self.globals.ca_file.clone(),
            data: self.globals.data.clone(),
        };
        Client::new(discover::discover(&flags, &self.environment())?)
    }
}

async fn carry_out(context: &Context<'_>, command: Command) -> Result<(), Failure> {
    match command {
        Command::Login(args) => login::login(context, args).await,
        Command::Logout(args) => login::logout(context, args).await,
        Command::Whoami(args) => login::whoami(context, args).await,
        Command::Apply(args) => resources::apply(context, args).await,
        Command::Diff(args) => resources::diff(context, args).await,
        Command::Get(args) => resources::get(context, args).await,
        Command::Delete(args) => resources::delete(context, args).await,
        Command::Policy(command) => policy::policy(context, command).await,
        Command::Run(args) => run::run(context, args).await,
        Command::Runs(command) => runs::runs(context, command).await,
        Command::Connect(args) => connect::connect(context, args).await,
        Command::Env(args) => connect::env(context, args).await,
        Command::Target(command) => target::target(context, command).await,
        Command::Published(args) => target::published(context, args).await,
        Command::Credential(args) => credential::credential(context, args).await,
        Command::Carry(args) => carry::carry(args).await,
        Command::Guard(args) => guard::guard(args).await,
        Command::Below(args) => below::below(args),
        Command::K8sCredential(args) => credential::k8s_credential(context, args).await,
        Command::Approvals(command) => approvals::approvals(context, command).await,
        Command::Sessions(command) => sessions::sessions(context, command).await,
        Command::Replay(args) => replay::replay(context, args).await,
        Command::Audit(command) => audit::audit(context, command).await,
        Command::Relays(command) => relays::relays(context, command).await,
        Command::Users(command) => users::users(context, command).await,
        Command::Openapi => openapi(),
    }
}

fn openapi() -> Result<(), Failure> {
    let text = corral_api::openapi()
        .to_pretty_json()
        .map_err(|error| Failure::failed(format!("cannot write the document: {error}")))?;
    output::print(&text)
}
