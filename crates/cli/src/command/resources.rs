//! `apply`, `diff`, `get`, `delete`.

use std::path::PathBuf;

use clap::Args;
use corral_api::{ApplyRequest, ApplyResponse, Change, ChangeAction, ProtocolView, RenewalView};
use corral_model::resource::{Resource, ResourceKind, manifest};
use serde_json::Value;

use crate::Context;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::manifest::{load, process_variable};
use crate::output::{self, Format};

/// Apply resources, all or nothing
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  corral apply -f shop.yaml
  corral apply -f targets/ -f policies/ --prune
  corral apply -f shop.yaml --dry-run
  cat shop.yaml | corral apply -f -

Secrets ({env: …}, {file: …}) and .cedar files are read here, relative to their manifest.")]
pub struct ApplyArgs {
    /// A manifest, a directory of manifests, or - for standard input
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    pub file: Vec<PathBuf>,
    /// Validate and show what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Delete what is stored and not in the manifests
    #[arg(long)]
    pub prune: bool,
}

/// Show what apply would change, field by field
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  corral diff -f shop.yaml
  corral diff -f shop/ --prune --exit-code")]
pub struct DiffArgs {
    /// A manifest, a directory of manifests, or - for standard input
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    pub file: Vec<PathBuf>,
    /// As if what is not in the manifests were deleted
    #[arg(long)]
    pub prune: bool,
    /// Exit with 1 when something would change
    #[arg(long)]
    pub exit_code: bool,
}

/// Show resources
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  corral get targets
  corral get target orders-db -o yaml
  corral get all -o yaml > backup.yaml

Secrets are never shown.")]
pub struct GetArgs {
    /// target, user, workload, policy, limit, command or all
    #[arg(value_name = "KIND", value_parser = parse_kinds)]
    pub kind: Kinds,
    /// One resource of that kind
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// Delete a resource
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  corral delete limit agents")]
pub struct DeleteArgs {
    /// target, user, workload, policy, limit or command
    #[arg(value_name = "KIND", value_parser = parse_kind)]
    pub kind: ResourceKind,
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// One kind, or every one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    All,
    One(ResourceKind),
}

fn parse_kind(text: &str) -> Result<ResourceKind, String> {
    ResourceKind::parse(text).ok_or_else(|| {
        format!("'{text}' is no kind; kinds are target, user, workload, policy, limit and command")
    })
}

fn parse_kinds(text: &str) -> Result<Kinds, String> {
    if text == "all" {
        return Ok(Kinds::All);
    }
    parse_kind(text).map(Kinds::One)
}

/// As it stands in a path of the API.
fn path_name(kind: ResourceKind) -> String {
    kind.name().to_ascii_lowercase()
}

pub(crate) async fn apply(context: &Context<'_>, args: ApplyArgs) -> Result<(), Failure> {
    let response = send(context, &args.file, args.dry_run, args.prune).await?;
    output::show(context.format(), &response, apply_text)
}

pub(crate) async fn diff(context: &Context<'_>, args: DiffArgs) -> Result<(), Failure> {
    let response = send(context, &args.file, true, args.prune).await?;
    output::show(context.format(), &response, diff_text)?;
    let is_changed = response.changes.iter().any(|change| change.action != ChangeAction::Unchanged);
    if args.exit_code && is_changed {
        return Err(Failure::silent(Exit::Failed));
    }
    Ok(())
}

async fn send(
    context: &Context<'_>,
    files: &[PathBuf],
    dry_run: bool,
    prune: bool,
) -> Result<ApplyResponse, Failure> {
    let loaded = load(files, &process_variable)?;
    let places: Vec<(String, String)> = loaded
        .iter()
        .map(|loaded| {
            let resource = &loaded.resource;
            let name = format!("{}/{}", resource.kind(), resource.name());
            (name, loaded.file.display().to_string())
        })
        .collect();
    let resources: Vec<Resource> = loaded.into_iter().map(|loaded| loaded.resource).collect();
    let request = ApplyRequest { resources, dry_run, prune };
    let client = context.client()?;
    client.post(&["apply"], &request).await.map_err(|failure| with_files(failure, &places))
}

/// The gateway knows resources and no files: each of its lines is given the file of the resource
/// that it begins with.
fn with_files(mut failure: Failure, places: &[(String, String)]) -> Failure {
    let lines: Vec<String> = failure
        .message
        .lines()
        .map(|line| {
            let place = places.iter().find(|(name, _)| {
                line.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with([':', ' ']))
            });
            place.map_or_else(|| line.to_owned(), |(_, file)| format!("{file}: {line}"))
        })
        .collect();
    failure.message = lines.join("\n");
    failure
}

fn apply_text(response: &ApplyResponse) -> String {
    let rows = response.changes.iter().map(|change| {
        vec![change.action.name().to_owned(), change.kind.name().to_owned(), change.name.clone()]
    });
    let table = output::table(&["CHANGE", "KIND", "NAME"], rows);
    let changed =
        response.changes.iter().filter(|change| change.action != ChangeAction::Unchanged).count();
    let closing = match (changed, response.dry_run) {
        (0, _) => "nothing to change".to_owned(),
        (_, true) => "dry run: nothing was changed".to_owned(),
        (_, false) => format!("configuration version {}", response.version.0),
    };
    format!("{table}\n{closing}").trim_start().to_owned()
}

fn diff_text(response: &ApplyResponse) -> String {
    let mut lines: Vec<String> = Vec::new();
    for change in &response.changes {
        if change.action == ChangeAction::Unchanged {
            continue;
        }
        lines.push(format!("{} {} {}", change.action.name(), change.kind, change.name));
        lines.extend(field_lines(change));
    }
    lines.join("\n")
}

fn field_lines(change: &Change) -> Vec<String> {
    let mut before: Vec<(String, String)> = Vec::new();
    let mut after: Vec<(String, String)> = Vec::new();
    flatten("", change.before.as_ref().unwrap_or(&Value::Null), &mut before);
    flatten("", change.after.as_ref().unwrap_or(&Value::Null), &mut after);
    let mut paths: Vec<&String> = before.iter().chain(&after).map(|(path, _)| path).collect();
    paths.sort();
    paths.dedup();
    let value_at = |fields: &[(String, String)], wanted: &str| -> Option<String> {
        fields.iter().find(|(path, _)| path == wanted).map(|(_, value)| value.clone())
    };
    let mut lines: Vec<String> = Vec::new();
    for path in paths {
        let (old, new) = (value_at(&before, path), value_at(&after, path));
        // The heading names kind and name already.
        if old == new || matches!(path.as_str(), "kind" | "name") {
            continue;
        }
        lines.extend(old.map(|value| format!("  - {path}: {value}")));
        lines.extend(new.map(|value| format!("  + {path}: {value}")));
    }
    lines
}

/// `labels.env`, `classify[0].columns[1]`: every leaf with its path.
fn flatten(path: &str, value: &Value, fields: &mut Vec<(String, String)>) {
    match value {
        Value::Null => {}
        Value::Object(keys) => {
            for (key, value) in keys {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&below, value, fields);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{path}[{index}]"), item, fields);
            }
        }
        Value::String(text) => fields.push((path.to_owned(), crate::text::visible(text))),
        Value::Bool(_) | Value::Number(_) => fields.push((path.to_owned(), value.to_string())),
    }
}

pub(crate) async fn get(context: &Context<'_>, args: GetArgs) -> Result<(), Failure> {
    let client = context.client()?;
    match (args.kind, args.name) {
        (Kinds::All, Some(_)) => Err(Failure::usage("`get all` takes no name; name a kind")),
        (Kinds::All, None) => {
            let all: Vec<Value> = client.get(&["resources"]).await?;
            show_resources(context.format(), &all)
        }
        (Kinds::One(kind), None) => {
            let all: Vec<Value> = client.get(&["resources", &path_name(kind)]).await?;
            show_resources(context.format(), &all)
        }
        (Kinds::One(kind), Some(name)) => {
            let path = ["resources", &path_name(kind), &name];
            let one: Value = client.get(&path).await?;
            match context.format() {
                Format::Json => output::show(Format::Json, &one, |_| String::new()),
                Format::Yaml => output::print(&manifest_text(&one)?),
                // One resource reads best as the manifest that it is.
                Format::Table => {
                    let assurance = assurance(&client, &one).await?;
                    let renewal = renewal(&client, &one).await?;
                    output::print(&format!("{}{assurance}{renewal}", manifest_text(&one)?))
                }
            }
        }
    }
}

/// What holds for sessions of a target, as a comment below its manifest.
async fn assurance(client: &Client, resource: &Value) -> Result<String, Failure> {
    let Some(protocol) = resource.get("protocol").and_then(Value::as_str) else {
        return Ok(String::new());
    };
    let protocols: Vec<ProtocolView> = client.get(&["protocols"]).await?;
    let view = protocols.into_iter().find(|view| view.id == protocol);
    Ok(view.map(|view| format!("\n# {}: {}\n", view.title, view.assurance)).unwrap_or_default())
}

/// How it stands with a target's credential that the gateway renews, as a comment.
async fn renewal(client: &Client, resource: &Value) -> Result<String, Failure> {
    let text = |key: &str| resource.get(key).and_then(Value::as_str);
    let (Some("Target"), Some(name)) = (text("kind"), text("name")) else {
        return Ok(String::new());
    };
    let view: RenewalView = client.get(&["targets", name, "renewal"]).await?;
    if !view.is_renewed {
        return Ok(String::new());
    }
    let until = view.until.map(|until| format!(" ends {}", until.truncate_to_second()));
    let until = until.unwrap_or_default();
    Ok(match view.failure {
        Some(failure) => {
            let failure = crate::text::visible(&failure);
            format!("# Credential:{until}; NOT RENEWED: {failure}\n")
        }
        None => format!("# Credential:{until}; the gateway renews it before\n"),
    })
}

fn show_resources(format: Format, all: &Vec<Value>) -> Result<(), Failure> {
    match format {
        Format::Yaml => {
            let documents: Result<Vec<String>, Failure> = all.iter().map(manifest_text).collect();
            output::print(&documents?.join("---\n"))
        }
        Format::Table | Format::Json => output::show(format, all, |all| {
            let rows = all.iter().map(|resource| {
                let text = |key: &str| {
                    resource.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
                };
                vec![text("kind"), text("name"), summary(resource)]
            });
            output::table(&["KIND", "NAME", "WHAT"], rows)
        }),
    }
}

/// A resource as it would stand in a manifest.
fn manifest_text(resource: &Value) -> Result<String, Failure> {
    // Read into its type first, which puts `kind` and `name` at the head.
    let written = serde_json::from_value::<Resource>(resource.clone())
        .ok()
        .and_then(|resource| manifest::to_yaml(&resource).ok());
    match written {
        Some(text) => Ok(text),
        None => serde_saphyr::to_string(resource)
            .map_err(|error| Failure::failed(format!("cannot write this as YAML: {error}"))),
    }
}

/// What tells one resource from another, on one line.
fn summary(resource: &Value) -> String {
    let Ok(resource) = serde_json::from_value::<Resource>(resource.clone()) else {
        return String::new();
    };
    let join = |groups: &[corral_model::GroupName]| {
        groups.iter().map(ToString::to_string).collect::<Vec<String>>().join(", ")
    };
    match resource {
        Resource::Target(target) => {
            let classified: usize = target.classify.iter().map(|entry| entry.columns.len()).sum();
            let masked = match classified {
                0 => String::new(),
                count => format!(", {count} classified columns"),
            };
            format!("{} at {}{masked}", target.protocol, target.address)
        }
        Resource::User(user) => {
            let state = match (user.disabled, user.suspended) {
                (true, _) => "disabled; ".to_owned(),
                (false, Some(cause)) => format!("suspended ({cause}); "),
                (false, None) => String::new(),
            };
            let provider = user.signs_in_by().map(|name| format!("provider: {name}; "));
            format!("{state}{}groups: {}", provider.unwrap_or_default(), join(&user.groups))
        }
        Resource::Workload(workload) => {
            let sponsor = workload.sponsor.as_ref();
            let sponsor = sponsor.map_or("whoever started the job", |name| name.as_str());
            format!("sponsor: {sponsor}; groups: {}", join(&workload.groups))
        }
        Resource::Policy(policy) => match policy.cedar {
            corral_model::resource::TextSource::Inline(text) => {
                format!("{} lines of Cedar", text.lines().count())
            }
            corral_model::resource::TextSource::File { file } => file,
        },
        Resource::Limit(limit) => match limit.sessions_max {
            Some(max) => format!("sessions_max: {max}"),
            None => String::new(),
        },
        Resource::IdentityProvider(provider) => match (provider.oidc, provider.saml) {
            (Some(oidc), _) => format!("oidc at {}", oidc.issuer),
            (None, Some(_)) => "saml".to_owned(),
            (None, None) => String::new(),
        },
        Resource::Relay(relay) => {
            let addresses = relay.addresses.iter().map(ToString::to_string);
            format!("may dial {}", addresses.collect::<Vec<_>>().join(", "))
        }
        Resource::Command(command) => {
            let parameters: Vec<&str> = command.parameters.keys().map(String::as_str).collect();
            let about = command.description.unwrap_or(command.template);
            format!("{about} ({})", parameters.join(", "))
        }
    }
}

pub(crate) async fn delete(context: &Context<'_>, args: DeleteArgs) -> Result<(), Failure> {
    let path = ["resources", &path_name(args.kind), &args.name];
    let response: ApplyResponse = context.client()?.delete(&path).await?;
    output::show(context.format(), &response, apply_text)
}

#[cfg(test)]
mod tests {
    use corral_model::PolicyVersion;
    use serde_json::json;

    use super::*;

    fn response(change: Change) -> ApplyResponse {
        ApplyResponse { version: PolicyVersion(4), dry_run: true, changes: vec![change] }
    }

    #[test]
    fn a_diff_shows_only_what_differs() {
        let change = Change {
            action: ChangeAction::Changed,
            kind: ResourceKind::Target,
            name: "orders-db".to_owned(),
            before: Some(json!({"address": "a:1", "labels": {"env": "prod"}, "gone": true})),
            after: Some(json!({"address": "b:1", "labels": {"env": "prod"}, "classify": ["x"]})),
        };
        let expect = "changed Target orders-db\n  - address: a:1\n  + address: b:1\n  \
                      + classify[0]: x\n  - gone: true";
        assert_eq!(diff_text(&response(change)), expect);
    }

    #[test]
    fn a_dry_run_says_that_nothing_was_changed() {
        let change = Change {
            action: ChangeAction::Created,
            kind: ResourceKind::User,
            name: "ada".to_owned(),
            before: None,
            after: Some(json!({})),
        };
        let text = apply_text(&response(change));
        assert!(text.contains("created") && text.ends_with("dry run: nothing was changed"));
    }

    #[test]
    fn problems_are_told_with_the_file_of_their_resource() {
        let places = vec![("Policy/p".to_owned(), "shop.yaml".to_owned())];
        let failure = Failure::failed("Policy/p: line 1, column 3: no\nPolicy/pq: other");
        let expect = "shop.yaml: Policy/p: line 1, column 3: no\nPolicy/pq: other";
        assert_eq!(with_files(failure, &places).message, expect);
    }

    #[test]
    fn a_shown_resource_can_be_applied_again() {
        let value = json!({"kind": "User", "name": "ada", "groups": ["dba"], "disabled": false});
        let text = manifest_text(&value).expect("is written");
        assert!(text.starts_with("kind: User"), "{text}");
        assert_eq!(manifest::parse(&text, "x").expect("is read").len(), 1);
    }
}
