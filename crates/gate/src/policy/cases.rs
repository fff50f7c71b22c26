//! Test cases of policies, as `corral policy test` reads them, and what became of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use corral_model::event::Outcome;
use corral_model::ids::{GroupName, PrincipalName, TargetName};
use corral_model::resource::ColumnName;
use corral_model::{Effects, ObjectRole};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::policy::engine::Engine;

/// A file of test cases.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyTests {
    pub tests: Vec<Case>,
}

/// One case: who asks for what, and what should be said. Exactly one of `statement`, `connect`
/// and `unmask` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub principal: CasePrincipal,
    pub target: CaseTarget,
    #[serde(default)]
    pub statement: Option<CaseStatement>,
    #[serde(default)]
    pub connect: bool,
    #[serde(default)]
    pub unmask: Option<ColumnName>,
    #[serde(default)]
    pub context: CaseContext,
    pub expect: Outcome,
    /// Rules that must have determined it; not looked at when absent.
    #[serde(default)]
    pub rules: Option<Vec<String>>,
    /// Groups that must approve; not looked at when absent.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
}

/// Who asks. Exactly one of `user` and `workload`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CasePrincipal {
    #[serde(default)]
    pub user: Option<PrincipalName>,
    #[serde(default)]
    pub workload: Option<PrincipalName>,
    #[serde(default)]
    pub groups: Vec<GroupName>,
    /// Names of runs, root first.
    #[serde(default)]
    pub runs: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseTarget {
    pub name: TargetName,
    #[serde(default = "default_protocol")]
    pub protocol: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

fn default_protocol() -> String {
    "postgres".to_owned()
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseStatement {
    #[serde(default)]
    pub verbs: Vec<String>,
    /// Beside those of the verbs.
    #[serde(default)]
    pub effects: Effects,
    #[serde(default)]
    pub objects: Vec<CaseObject>,
    #[serde(default)]
    pub functions: Vec<String>,
    #[serde(default = "one")]
    pub statement_count: u32,
}

fn one() -> u32 {
    1
}

/// `schema.name` (a table, used as the verbs use it), or the same in full.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum CaseObject {
    Name(String),
    Full {
        name: String,
        role: ObjectRole,
        #[serde(default = "table")]
        kind: String,
    },
}

fn table() -> String {
    "table".to_owned()
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseContext {
    #[serde(default)]
    pub in_transaction: bool,
    /// 2026-01-01T00:00:00Z when absent.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub time: Option<OffsetDateTime>,
    #[serde(default)]
    pub tls: bool,
    #[serde(default)]
    pub source_ip: Option<IpAddr>,
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaseResult {
    pub name: String,
    pub passed: bool,
    /// Why it failed: what was said and what was expected, or what is wrong with the case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Asks every case, in order.
#[must_use]
pub fn run_tests(engine: &Engine, cases: &PolicyTests) -> Vec<CaseResult> {
    let _ = engine;
    cases
        .tests
        .iter()
        .map(|case| CaseResult {
            name: case.name.clone(),
            passed: false,
            failure: Some(format!("not asked: {}", case.name)),
        })
        .collect()
}
