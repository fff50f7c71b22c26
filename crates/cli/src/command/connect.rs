//! `connect`, `env`: a stock client, led to the gateway.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use clap::Args;
use corral_api::{Identity, IdentityKind};
use corral_model::ids::TargetName;
use corral_model::native::{Bare, Lifetime, NativeClient};

use crate::client::Client;
use crate::client_dir::ClientDir;
use crate::discover::Authority;
use crate::failure::{Exit, Failure};
use crate::key_agent::{Holder, KeyAgents};
use crate::native::{self, CaFile, Led};
use crate::output::Format;
use crate::saved::ConfigDir;
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
    let claim = who_connects(&client).await?;
    let ca_file = CaFile::of(&client).await?;
    let (connection, led) =
        native::client_of(&client, args.target.as_str(), Lifetime::Process).await?;
    let led = led.ok_or_else(|| {
        let protocol = &connection.protocol;
        Failure::failed(format!("corral knows no client of the protocol {protocol}"))
            .with_hint("`corral env` prints what one needs")
    })?;
    let mut clients = [led];
    let make = ClientDir::of_process;
    let prepared = native::prepare(&client, &mut clients, &ca_file, &claim, make).await?;
    let [led] = &clients;
    let (program, arguments) = command(&led.client, args.arguments, std::env::var_os("SHELL"));
    let agents =
        KeyAgents::start(&Holder::Token(client.clone()), &clients, prepared.directory.as_ref())?;
    let variables = prepared.with_path();
    let code = tokio::select! {
        code = child::run(&program, &arguments, &variables) => code?,
        never = agents.serve() => match never {},
    };
    match code {
        0 => Ok(()),
        code => Err(Failure::silent(Exit::Of(code))),
    }
}

/// The program to run, and its arguments.
fn command(
    native: &NativeClient,
    given: Vec<OsString>,
    shell: Option<OsString>,
) -> (OsString, Vec<OsString>) {
    match native.bare {
        Bare::Shell if given.is_empty() => {
            (shell.unwrap_or_else(|| OsString::from("/bin/sh")), Vec::new())
        }
        Bare::Shell | Bare::Program => {
            let own = native.arguments.iter().map(OsString::from);
            (OsString::from(&native.program), own.chain(given).collect())
        }
    }
}

pub(crate) async fn env(context: &Context<'_>, args: EnvArgs) -> Result<(), Failure> {
    let client = context.client()?;
    let (connection, led) =
        native::client_of(&client, args.target.as_str(), Lifetime::Kept).await?;
    let config = context.environment().config;
    let ca_file = lasting_ca_file(&client, config.as_ref(), &connection.ca_pem)?;
    let claim = who_connects(&client).await?;
    let mut clients: Vec<Led> = led.into_iter().collect();
    let name = directory_name(&args.target, &client.found().gateway);
    let make = || ClientDir::kept(&name, config.as_ref().map(ConfigDir::path));
    let prepared = native::prepare(&client, &mut clients, &ca_file, &claim, make).await?;
    match context.format() {
        Format::Table => {
            let programs = prepared.directory.as_ref().map(ClientDir::programs);
            output::print(&export_lines(&prepared.variables, programs.as_deref()))
        }
        format @ (Format::Json | Format::Yaml) => {
            output::show(format, &prepared.with_path(), |_| String::new())
        }
    }
}

/// A file with the authority that outlives this command.
fn lasting_ca_file(
    client: &Client,
    config: Option<&ConfigDir>,
    pem: &str,
) -> Result<CaFile, Failure> {
    match &client.found().authority {
        Authority::File { path, .. } => Ok(CaFile::lasting(path.clone())),
        Authority::Pem(_) | Authority::System => {
            let config = config.ok_or_else(|| {
                Failure::failed("there is no place to keep the gateway's certificate authority")
                    .with_hint("pass --ca-file, or set HOME or XDG_CONFIG_HOME")
            })?;
            Ok(CaFile::lasting(config.write("ca.pem", pem)?))
        }
    }
}

/// One for each target of each gateway.
fn directory_name(target: &TargetName, gateway: &str) -> String {
    let mut hasher = DefaultHasher::new();
    gateway.hash(&mut hasher);
    format!("env-{target}-{:016x}", hasher.finish())
}

/// Whose sessions these will be. The administrator's token is refused here, where it can be said
/// why: at a listener it is one more token that opens nothing.
async fn who_connects(client: &Client) -> Result<String, Failure> {
    let identity: Identity = client.get(&["whoami"]).await?;
    match identity.kind {
        IdentityKind::Admin => {
            let text = "the administrator's token is nobody's, and opens no session";
            Err(Failure::new(Exit::Denied, text).with_hint(
                "sign in with `corral login`, or act for somebody: corral run --for NAME -- CMD",
            ))
        }
        IdentityKind::User | IdentityKind::Workload | IdentityKind::Run => Ok(identity.name),
    }
}

fn export_lines(variables: &BTreeMap<String, String>, programs: Option<&Path>) -> String {
    let mut lines: Vec<String> =
        variables.iter().map(|(name, value)| format!("export {name}={}", quoted(value))).collect();
    if let Some(programs) = programs {
        let programs = programs.display();
        // The directory's path needs no quotes; evaluated twice, it stands there once.
        lines.push(format!(
            "case \":$PATH:\" in *:{programs}:*) ;; *) export PATH=\"{programs}:$PATH\" ;; esac"
        ));
    }
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
        assert_eq!(export_lines(&variables, None), "export A='b c'");
        let lines = export_lines(&BTreeMap::new(), Some(Path::new("/d/bin")));
        let expect = "case \":$PATH:\" in *:/d/bin:*) ;; *) export PATH=\"/d/bin:$PATH\" ;; esac";
        assert_eq!(lines, expect);
    }

    #[test]
    fn without_arguments_some_clients_open_a_shell() {
        let check = |bare: Bare, given: &[&str], expect: &[&str]| {
            let mut native = NativeClient::of_variables("tool", Vec::new());
            native.arguments = vec!["target".to_owned()];
            native.bare = bare;
            let given = given.iter().map(OsString::from).collect();
            let (program, arguments) = command(&native, given, Some(OsString::from("zsh")));
            let words: Vec<OsString> = std::iter::once(program).chain(arguments).collect();
            assert_eq!(words, expect);
        };
        check(Bare::Program, &[], &["tool", "target"]);
        check(Bare::Program, &["x"], &["tool", "target", "x"]);
        check(Bare::Shell, &["x"], &["tool", "target", "x"]);
        check(Bare::Shell, &[], &["zsh"]);
    }
}
