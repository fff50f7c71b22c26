//! `docs/resources.md` says what the code reads.

use std::collections::BTreeSet;

use corral_model::resource::manifest::{parse, to_yaml};
use corral_model::resource::{Resource, ResourceKind};

const PAGE: &str = include_str!("../../../docs/resources.md");

fn blocks() -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in PAGE.lines().enumerate() {
        match (&mut open, line) {
            (None, "```yaml") => open = Some((number + 2, String::new())),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some((_, text)), _) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "an unfinished block");
    blocks
}

fn examples() -> Vec<Resource> {
    let mut resources: Vec<Resource> = Vec::new();
    for (line, text) in blocks() {
        match parse(&text, "docs/resources.md") {
            Ok(mut found) => resources.append(&mut found),
            Err(errors) => unreachable!("the block at line {line}: {errors:?}"),
        }
    }
    resources
}

#[test]
fn every_example_is_a_sound_manifest() {
    let kinds: BTreeSet<ResourceKind> = examples().iter().map(Resource::resource_kind).collect();
    assert_eq!(kinds, ResourceKind::ALL.into_iter().collect());
}

/// The examples use every key, so every key that they are written with must be explained.
#[test]
fn every_key_is_explained() {
    let mut missing: BTreeSet<String> = BTreeSet::new();
    for resource in examples() {
        let yaml = to_yaml(&resource).expect("writes");
        let in_cedar_or_labels = |line: &str| line.contains("permit") || line.contains("Corral::");
        for line in yaml.lines().filter(|line| !in_cedar_or_labels(line)) {
            let Some((key, after)) = line.trim_start_matches([' ', '-']).split_once(':') else {
                continue;
            };
            // A colon that nothing separates from what follows is part of a value: `host:port`.
            if !(after.is_empty() || after.starts_with(' ')) {
                continue;
            }
            let of_examples = [
                "env",
                "team",
                "kind",
                "service",
                "lines",
                "DB Admins",
                "Platform",
                "github",
                "repository",
                "ref",
                "project",
            ];
            let is_known = of_examples.contains(&key)
                || PAGE.contains(&format!("`{key}`"))
                || PAGE.contains(&format!("`{key}."))
                || PAGE.contains(&format!(".{key}`"))
                || PAGE.contains(&format!("`{{{key}:"));
            if !is_known {
                missing.insert(format!("{}: {key}", resource.kind()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}
