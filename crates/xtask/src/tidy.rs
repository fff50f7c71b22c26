//! The house rules of the workspace, each a function from what stands in it to violations.
//!
//! It reads sources as text that a small lexer has split into code, strings and comments; it
//! does not understand types. What only a compiler can see is left to clippy.

mod documents;
mod edges;
mod habits;
mod protocol_names;
mod purity;
mod source;

use std::fmt;
use std::path::Path;

use anyhow::Context;

use edges::Package;
use source::SourceFile;

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: &'static str,
    /// Relative to the workspace.
    pub(crate) path: String,
    /// From 1; 0 when the whole file is meant.
    pub(crate) line: usize,
    /// What is wrong, and what would be right.
    pub(crate) text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}: {}", self.path, self.rule, self.text),
            line => write!(f, "{}:{line}: {}: {}", self.path, self.rule, self.text),
        }
    }
}

/// What a whole check found.
pub(crate) struct Report {
    pub(crate) files: usize,
    pub(crate) rules: usize,
    pub(crate) violations: Vec<Violation>,
}

type PackageRule = fn(&Package) -> Vec<Violation>;
type FileRule = fn(&SourceFile) -> Vec<Violation>;

const PACKAGE_RULES: [PackageRule; 4] = [
    edges::own_crates_point_down,
    edges::only_store_has_sqlx,
    edges::every_crate_takes_the_workspace_lints,
    purity::pure_crates_depend_on_pure_crates,
];

const FILE_RULES: [FileRule; 14] = [
    purity::pure_crates_do_no_io,
    protocol_names::protocols_are_named_in_their_folder,
    habits::modules_say_what_they_are,
    habits::no_channel_is_unbounded,
    habits::receipts_come_from_the_record,
    habits::sql_stands_in_store,
    habits::tasks_are_spawned_by_their_owners,
    habits::no_test_is_ignored,
    habits::nothing_is_unsafe,
    habits::exceptions_to_lints_have_reasons,
    habits::codecs_do_not_panic,
    habits::names_are_imported_one_by_one,
    habits::nothing_is_unfinished,
    habits::lints_are_not_switched_off_for_whole_crates,
];

/// Checks the workspace in `root`.
///
/// # Errors
/// When a file or cargo's own description of the workspace cannot be read.
pub(crate) fn check(root: &Path) -> anyhow::Result<Report> {
    let packages = edges::read_packages(root).context("reading the workspace's packages")?;
    let files = source::read_all(root).context("reading the workspace's sources")?;
    let mut violations: Vec<Violation> = Vec::new();
    for package in &packages {
        violations.extend(PACKAGE_RULES.iter().flat_map(|rule| rule(package)));
    }
    for file in &files {
        violations.extend(FILE_RULES.iter().flat_map(|rule| rule(file)));
    }
    violations.extend(protocol_names::exceptions_are_used(&files));
    let documents = documents::read_all(root).context("reading the workspace's documents")?;
    for document in &documents {
        violations.extend(documents::links_lead_somewhere(root, document));
        violations.extend(documents::architecture_stays_short(document));
    }
    let rules = PACKAGE_RULES.len() + FILE_RULES.len() + 3;
    Ok(Report { files: files.len() + documents.len(), rules, violations })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_workspace_is_tidy() {
        let report = super::check(&crate::workspace_root()).expect("the workspace is readable");
        let found: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
        assert!(report.files > 50, "only {} files were looked at", report.files);
    }
}
