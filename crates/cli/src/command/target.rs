//! `target check`, `published`: by which keys the gateway, its clients and its targets know each
//! other.

use clap::{Args, Subcommand, ValueEnum};
use corral_api::{
    ApplyRequest, ApplyResponse, GatewayInfo, PresentedView, PublishedQuery, PublishedView,
};
use corral_model::ids::TargetName;
use corral_model::resource::{Resource, TargetSpec};
use serde::Serialize;
use serde_json::Value;

use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::native::reachable_host;
use crate::{Context, output};

/// The option that pins a target's keys.
const PINNED: &str = "host_keys";

/// Look at targets
#[derive(Debug, Clone, Subcommand)]
pub enum TargetCommand {
    Check(CheckArgs),
}

/// Show the keys that a target presents now, and whether they are pinned
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  corral target check web-1
  corral target check web-1 --pin

Compare the keys with the target's own (on the host: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub)
before you pin them. Exits with 1 when the target presents a key that is not pinned.")]
pub struct CheckArgs {
    pub target: TargetName,
    /// Write them into the target's options.host_keys, in place of what stands there
    #[arg(long)]
    pub pin: bool,
}

/// Show the gateway's own keys, for clients and targets to trust
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  corral published ssh
  corral published ssh --for clients > gateway.keys
  corral published ssh --for targets > corral_ca.pub")]
pub struct PublishedArgs {
    /// The protocol
    pub protocol: String,
    /// Only what these must know
    #[arg(long = "for", value_name = "WHOM")]
    pub whom: Option<Whom>,
}

/// Who must know a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Whom {
    Clients,
    Targets,
}

pub(crate) async fn target(context: &Context<'_>, command: TargetCommand) -> Result<(), Failure> {
    match command {
        TargetCommand::Check(args) => check(context, args).await,
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Checked {
    name: String,
    keys: Vec<CheckedKey>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct CheckedKey {
    key: String,
    is_pinned: bool,
}

async fn check(context: &Context<'_>, args: CheckArgs) -> Result<(), Failure> {
    let client = context.client()?;
    let name = args.target.as_str();
    let presented: PresentedView = client.get(&["targets", name, "presented"]).await?;
    let mut spec = spec_of(&client, name).await?;
    if args.pin {
        let response = pin(&client, &mut spec, &presented.keys).await?;
        if response.changes.is_empty() {
            output::remark("corral: nothing was to change");
        }
    }
    let pinned = pinned_keys(&spec);
    let keys = presented.keys.into_iter();
    let keys = keys.map(|key| CheckedKey { is_pinned: pinned.contains(&key), key }).collect();
    let checked = Checked { name: presented.name, keys };
    output::show(context.format(), &checked, table)?;
    let is_all_pinned = checked.keys.iter().all(|key| key.is_pinned);
    match is_all_pinned && !checked.keys.is_empty() {
        true => Ok(()),
        false => Err(Failure::silent(Exit::Failed)),
    }
}

fn table(checked: &Checked) -> String {
    let rows = checked.keys.iter().map(|key| {
        let pinned = if key.is_pinned { "pinned" } else { "not pinned" };
        vec![pinned.to_owned(), key.key.clone()]
    });
    output::table(&["STATE", "KEY"], rows)
}

async fn spec_of(client: &Client, name: &str) -> Result<TargetSpec, Failure> {
    let value: Value = client.get(&["resources", "target", name]).await?;
    let Ok(Resource::Target(spec)) = serde_json::from_value::<Resource>(value) else {
        return Err(Failure::failed("the gateway's answer is no target")
            .with_hint("is this `corral` of the same version as the gateway?"));
    };
    Ok(spec)
}

fn pinned_keys(spec: &TargetSpec) -> Vec<String> {
    let keys = spec.options.get(PINNED).and_then(Value::as_array);
    let keys = keys.into_iter().flatten().filter_map(Value::as_str);
    keys.map(str::to_owned).collect()
}

async fn pin(
    client: &Client,
    spec: &mut TargetSpec,
    keys: &[String],
) -> Result<ApplyResponse, Failure> {
    spec.options.insert(PINNED.to_owned(), Value::from(keys.to_vec()));
    let resources = vec![Resource::Target(spec.clone())];
    client.post(&["apply"], &ApplyRequest { resources, dry_run: false, prune: false }).await
}

pub(crate) async fn published(context: &Context<'_>, args: PublishedArgs) -> Result<(), Failure> {
    let client = context.client()?;
    let info: GatewayInfo = client.get(&["connection"]).await?;
    let listener = info.listeners.get(&args.protocol).and_then(|address| split(address));
    let (host, port) = listener.ok_or_else(|| {
        let protocol = &args.protocol;
        let text = format!("the gateway has no listener of its own for '{protocol}'");
        Failure::new(Exit::NotFound, text)
    })?;
    let host = reachable_host(host, &client.found().gateway).to_owned();
    let query = PublishedQuery { host, port };
    let view: PublishedView = client.ask(&["published", &args.protocol], &query).await?;
    let targets = view.targets.as_deref();
    match args.whom {
        Some(Whom::Clients) => output::print(&view.clients),
        Some(Whom::Targets) => output::print(targets.ok_or_else(|| {
            Failure::new(Exit::NotFound, "the gateway makes no credentials for these targets")
        })?),
        None => output::show(context.format(), &view, |view| {
            let clients = format!("# Clients know the gateway by\n{}", view.clients.trim_end());
            let targets = view.targets.as_deref();
            let targets = targets.map(|text| format!("\n# Targets trust\n{}", text.trim_end()));
            clients + &targets.unwrap_or_default()
        }),
    }
}

/// `host:port` or `[address]:port`.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn listeners_are_split_with_and_without_brackets() {
        assert_eq!(split("127.0.0.1:22"), Some(("127.0.0.1", 22)));
        assert_eq!(split("[::1]:22"), Some(("::1", 22)));
        assert_eq!(split("x"), None);
    }

    #[test]
    fn pinned_keys_are_those_of_the_options() {
        let mut spec: TargetSpec =
            serde_json::from_value(json!({"name": "web-1", "protocol": "p", "address": "h:1"}))
                .expect("a target");
        assert_eq!(pinned_keys(&spec), [""; 0]);
        spec.options.insert(PINNED.to_owned(), json!(["a", "b"]));
        assert_eq!(pinned_keys(&spec), ["a", "b"]);
    }

    #[test]
    fn a_check_shows_each_key_with_its_state() {
        let key = |key: &str, is_pinned| CheckedKey { key: key.to_owned(), is_pinned };
        let checked = Checked { name: "w".into(), keys: vec![key("a", true), key("b", false)] };
        let text = table(&checked);
        assert!(text.contains("pinned") && text.contains("not pinned"), "{text}");
    }
}
