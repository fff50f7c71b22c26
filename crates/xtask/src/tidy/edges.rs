//! Which of our crates may use which, as cargo sees the workspace.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::Violation;

/// One crate of the workspace.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
    manifest_path: String,
    /// The manifest's text; cargo's description leaves the lints out.
    #[serde(skip)]
    manifest: String,
}

/// One entry of a crate's dependencies.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// None for normal ones; `dev` or `build`.
    pub(crate) kind: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

const BELOW_GATEWAY: [&str; 14] = [
    "model",
    "gate",
    "transport",
    "store",
    "api",
    "identity",
    "otlp",
    "saml",
    "scim",
    "protocol-postgres",
    "protocol-mysql",
    "protocol-ssh",
    "protocol-http",
    "session",
];

/// The table of the documentation: a crate, and the crates of ours that it may use.
fn allowed(crate_name: &str) -> Option<Vec<&'static str>> {
    let edges: Vec<&str> = match crate_name {
        "model" | "saml" | "scim" | "xtask" => vec![],
        "gate" | "transport" | "store" | "api" | "identity" | "otlp" | "ssh-agent" => vec!["model"],
        "protocol-postgres" | "protocol-mysql" | "record" => vec!["gate", "model"],
        "session" => vec!["gate", "transport", "model"],
        "protocol-ssh" | "protocol-http" => vec!["session", "gate", "transport", "model"],
        "relay" => vec!["transport"],
        // model, gate and record serve the commands that work without a gateway:
        // `policy check`, `policy test` and `audit verify`.
        // ssh-agent holds the key and certificate of the clients that `run` starts.
        "cli" => vec!["api", "model", "gate", "record", "ssh-agent"],
        "gateway" | "testkit" => {
            let mut edges = BELOW_GATEWAY.to_vec();
            edges.push("record");
            edges
        }
        "corral" => vec!["gateway", "relay", "cli"],
        _ => return None,
    };
    Some(edges)
}

/// Asks cargo for the workspace's crates.
///
/// # Errors
/// When cargo cannot be run, or a manifest not be read.
pub(crate) fn read_packages(root: &Path) -> anyhow::Result<Vec<Package>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("reading what cargo metadata says")?;
    for package in &mut metadata.packages {
        package.manifest = std::fs::read_to_string(&package.manifest_path)
            .with_context(|| format!("reading {}", package.manifest_path))?;
    }
    Ok(metadata.packages)
}

impl Package {
    /// Its name without `corral-`.
    pub(crate) fn short_name(&self) -> &str {
        short(&self.name)
    }

    pub(crate) fn violation(&self, rule: &'static str, text: String) -> Violation {
        let path = format!("crates/{}/Cargo.toml", self.short_name());
        Violation { rule, path, line: 0, text }
    }
}

fn short(name: &str) -> &str {
    name.strip_prefix("corral-").unwrap_or(name)
}

fn is_ours(name: &str) -> bool {
    name.starts_with("corral-") || matches!(name, "corral" | "xtask")
}

/// Every edge between crates of ours stands in the table.
pub(crate) fn own_crates_point_down(package: &Package) -> Vec<Violation> {
    const RULE: &str = "edges";
    let Some(allowed) = allowed(package.short_name()) else {
        let text = "this crate is not in the table of crates; add it there with its edges";
        return vec![package.violation(RULE, text.to_owned())];
    };
    let is_allowed = |dependency: &Dependency| {
        let name = short(&dependency.name);
        let is_test_only = dependency.kind.as_deref() == Some("dev");
        allowed.contains(&name) || (is_test_only && name == "testkit")
    };
    package
        .dependencies
        .iter()
        .filter(|dependency| is_ours(&dependency.name) && !is_allowed(dependency))
        .map(|dependency| {
            let may = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
            let text = format!("may not use {}; of our crates it may use: {may}", dependency.name);
            package.violation(RULE, text)
        })
        .collect()
}

/// SQL has one home.
pub(crate) fn only_store_has_sqlx(package: &Package) -> Vec<Violation> {
    let has_sqlx = package.dependencies.iter().any(|dependency| dependency.name == "sqlx");
    match has_sqlx && package.short_name() != "store" {
        true => vec![package.violation("sql", "only store may use sqlx".to_owned())],
        false => vec![],
    }
}

/// `unsafe_code = "forbid"` and its neighbours hold only where a crate takes them over.
pub(crate) fn every_crate_takes_the_workspace_lints(package: &Package) -> Vec<Violation> {
    match package.manifest.replace(' ', "").contains("[lints]\nworkspace=true") {
        true => vec![],
        false => {
            let text = "write `[lints]` and `workspace = true`";
            vec![package.violation("lints", text.to_owned())]
        }
    }
}

#[cfg(test)]
pub(crate) fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
    Package {
        name: name.to_owned(),
        dependencies: dependencies
            .iter()
            .map(|(name, kind)| Dependency {
                name: (*name).to_owned(),
                kind: kind.map(ToOwned::to_owned),
            })
            .collect(),
        manifest_path: String::new(),
        manifest: "[lints]\nworkspace = true\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_points_up_is_refused() {
        let check = |name: &str, dependency: (&str, Option<&str>), is_fine: bool| {
            let found = own_crates_point_down(&package(name, &[dependency]));
            assert_eq!(found.is_empty(), is_fine, "{name} -> {dependency:?}: {found:?}");
        };
        check("corral-gate", ("corral-model", None), true);
        check("corral-gate", ("serde", None), true);
        check("corral-model", ("corral-gate", None), false);
        check("corral-protocol-postgres", ("corral-store", None), false);
        check("corral-protocol-postgres", ("corral-record", None), false);
        check("corral-protocol-postgres", ("corral-session", None), false);
        check("corral-protocol-postgres", ("corral-testkit", Some("dev")), true);
        check("corral-gateway", ("corral-testkit", None), false);
        check("corral-gateway", ("corral-record", None), true);
        check("corral-gateway", ("corral-cli", None), false);
        check("corral-cli", ("corral-record", None), true);
        check("corral-cli", ("corral-store", None), false);
        check("corral-relay", ("corral-model", None), false);
        check("corral", ("corral-gateway", None), true);
        check("corral", ("corral-store", None), false);
        check("corral-common", ("serde", None), false);
    }

    #[test]
    fn sqlx_outside_store_is_refused() {
        assert!(only_store_has_sqlx(&package("corral-store", &[("sqlx", None)])).is_empty());
        assert_eq!(only_store_has_sqlx(&package("corral-gateway", &[("sqlx", None)])).len(), 1);
    }

    #[test]
    fn a_crate_without_the_workspace_lints_is_refused() {
        let mut bare = package("corral-gate", &[]);
        assert!(every_crate_takes_the_workspace_lints(&bare).is_empty());
        bare.manifest = "[package]\n".to_owned();
        assert_eq!(every_crate_takes_the_workspace_lints(&bare).len(), 1);
    }
}
