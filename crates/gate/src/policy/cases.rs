//! Test cases of policies, as `corral policy test` reads them, and what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use corral_model::event::Outcome;
use corral_model::ids::{CommandName, GroupName, PrincipalName, RunId, TargetName};
use corral_model::resource::ColumnName;
use corral_model::statement::{Attribute, AttributeKind, Facts};
use corral_model::{Effect, Effects, ObjectRef, ObjectRole, Principal};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::decision::{Ruling, Verdict};
use crate::policy::engine::Engine;
use crate::policy::subject::{Attribution, Context, RunNode, Subject, TargetFacts};

/// A file of test cases.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyTests {
    /// Files of policies that are tested together, relative to this file.
    #[serde(default)]
    pub policies: Vec<String>,
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
    /// How the last of them is known; by its token when absent.
    #[serde(default)]
    pub attribution: Attribution,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseTarget {
    pub name: TargetName,
    /// Empty when the case does not say.
    #[serde(default)]
    pub protocol: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
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
    /// Absolute paths on a host, used as the verbs use them.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Namespaces of a cluster.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Names of commands with typed parameters.
    #[serde(default)]
    pub commands: Vec<CommandName>,
    /// The request's fields, as policies read them in `context`.
    #[serde(default)]
    pub attributes: BTreeMap<String, Attribute>,
    #[serde(default)]
    pub functions: Vec<String>,
    #[serde(default = "one")]
    pub statement_count: u32,
}

fn one() -> u32 {
    1
}

/// `schema.name` (a table, used as the verbs use it), or the same in full. Objects of other kinds
/// than tables may name their namespace apart.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum CaseObject {
    Name(String),
    Full {
        name: String,
        #[serde(default)]
        namespace: Option<String>,
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
    let result = |case: &Case| {
        let failure = check(engine, case).err();
        CaseResult { name: case.name.clone(), passed: failure.is_none(), failure }
    };
    cases.tests.iter().map(result).collect()
}

/// # Errors
/// Why the case failed.
fn check(engine: &Engine, case: &Case) -> Result<(), String> {
    let subject = subject_of(&case.principal)?;
    let target = TargetFacts {
        name: case.target.name.clone(),
        protocol: case.target.protocol.clone(),
        labels: case.target.labels.clone(),
    };
    let context = context_of(&case.context);
    let id = "test".to_owned();
    let ruling = match (&case.statement, case.connect, &case.unmask) {
        (Some(statement), false, None) => {
            let facts = facts_of(engine, statement)?;
            engine.rule(&subject, &target, &facts, &context, id)
        }
        (None, true, None) => engine.may_connect(&subject, &target, &context, id),
        (None, false, Some(column)) => {
            return check_unmask(engine, case, &subject, &target, column);
        }
        _ => return Err("a case asks exactly one of statement, connect and unmask".to_owned()),
    };
    compare(case, &ruling)
}

fn check_unmask(
    engine: &Engine,
    case: &Case,
    subject: &Subject,
    target: &TargetFacts,
    column: &ColumnName,
) -> Result<(), String> {
    let is_allowed = engine.may_unmask(subject, target, column, &context_of(&case.context));
    match (case.expect, is_allowed) {
        (Outcome::Allow, true) | (Outcome::Deny, false) => Ok(()),
        (Outcome::Allow, false) => Err("expected allow, but the column stays masked".to_owned()),
        (Outcome::Deny, true) => Err("expected deny, but the column may be read".to_owned()),
        (Outcome::Hold, _) => Err("unmask is never held; expect allow or deny".to_owned()),
    }
}

fn compare(case: &Case, ruling: &Ruling) -> Result<(), String> {
    let (outcome, said, groups) = match &ruling.verdict {
        Verdict::Allow => (Outcome::Allow, "allow".to_owned(), Vec::new()),
        Verdict::Deny(denial) => {
            (Outcome::Deny, format!("deny: {}", denial.client_text), Vec::new())
        }
        Verdict::Hold(terms) => {
            let groups: Vec<String> = terms.iter().map(|term| term.group.clone()).collect();
            (Outcome::Hold, format!("hold for {}", groups.join(", ")), groups)
        }
    };
    if outcome != case.expect {
        let expected = match case.expect {
            Outcome::Allow => "allow",
            Outcome::Deny => "deny",
            Outcome::Hold => "hold",
        };
        return Err(format!("expected {expected}, got {said} (rules: {})", shown(&ruling.rules)));
    }
    differs("rules", case.rules.as_ref(), &ruling.rules)?;
    differs("groups", case.groups.as_ref(), &groups)
}

fn differs(what: &str, expected: Option<&Vec<String>>, got: &[String]) -> Result<(), String> {
    let Some(expected) = expected else { return Ok(()) };
    let sorted = |names: &[String]| -> Vec<String> {
        let mut names = names.to_vec();
        names.sort();
        names.dedup();
        names
    };
    let (expected, got) = (sorted(expected), sorted(got));
    if expected == got {
        return Ok(());
    }
    Err(format!("expected the {what} {}, got {}", shown(&expected), shown(&got)))
}

fn shown(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn subject_of(principal: &CasePrincipal) -> Result<Subject, String> {
    let who = match (&principal.user, &principal.workload) {
        (Some(user), None) => Principal::user(user.clone()),
        (None, Some(workload)) => Principal::workload(workload.clone()),
        _ => return Err("a principal is exactly one of user and workload".to_owned()),
    };
    let mut runs = Vec::new();
    for (index, name) in principal.runs.iter().enumerate() {
        let id = RunId::new(format!("run-{}", index + 1)).map_err(|error| error.to_string())?;
        runs.push(RunNode {
            id,
            name: name.clone(),
            attribution: Attribution::Token,
            actions: Vec::new(),
        });
    }
    if let Some(acting) = runs.last_mut() {
        acting.attribution = principal.attribution;
    }
    Ok(Subject { principal: who, groups: principal.groups.clone(), runs })
}

fn context_of(context: &CaseContext) -> Context {
    Context {
        in_transaction: context.in_transaction,
        time: context.time.unwrap_or(datetime!(2026-01-01 0:00 UTC)),
        tls: context.tls,
        source_ip: context.source_ip,
    }
}

fn facts_of(engine: &Engine, statement: &CaseStatement) -> Result<Facts, String> {
    let mut facts = Facts {
        effects: statement.effects,
        functions: statement.functions.clone(),
        statement_count: statement.statement_count,
        ..Facts::default()
    };
    for name in &statement.verbs {
        let Some(verb) = engine.actions().verb(name) else {
            return Err(format!("there is no verb '{name}'"));
        };
        facts.effects.extend(verb.effect.map_or(Effects::NONE, Effects::of));
        facts.verbs.push(verb);
    }
    for object in &statement.objects {
        facts.objects.extend(objects_of(object, facts.effects)?);
    }
    for path in &statement.paths {
        let path = path_of(path)?;
        facts.objects.extend(used("", path, "path", facts.effects));
    }
    for namespace in &statement.namespaces {
        facts.objects.extend(used("", namespace, "namespace", facts.effects));
    }
    for command in &statement.commands {
        facts.objects.extend(used("", command.as_str(), "command", facts.effects));
    }
    for (name, value) in &statement.attributes {
        let (name, value) = attribute_of(engine, name, value)?;
        facts.attributes.insert(name, value);
    }
    facts.verbs.sort();
    facts.verbs.dedup();
    facts.objects.sort();
    facts.objects.dedup();
    facts.functions.sort();
    facts.functions.dedup();
    Ok(facts)
}

fn objects_of(object: &CaseObject, effects: Effects) -> Result<Vec<ObjectRef>, String> {
    let (name, namespace, kind, role) = match object {
        CaseObject::Name(name) => (name, None, "table", None),
        CaseObject::Full { name, namespace, role, kind } => {
            (name, namespace.as_deref(), kind.as_str(), Some(*role))
        }
    };
    let (schema, name) = match (namespace, kind) {
        (Some(namespace), _) => (namespace, name.as_str()),
        (None, "path") => ("", path_of(name)?),
        // What is in no namespace, or is one.
        (None, "namespace" | "command" | "object") => ("", name.as_str()),
        (None, _) => name
            .split_once('.')
            .ok_or_else(|| format!("'{name}' is not an object; write schema.name"))?,
    };
    let Some(role) = role else { return Ok(used(schema, name, kind, effects)) };
    Ok(vec![object_ref(schema, name, kind, role)])
}

/// An object without a role has the roles that the statement's effects can give it.
fn used(schema: &str, name: &str, kind: &str, effects: Effects) -> Vec<ObjectRef> {
    let roles: Vec<ObjectRole> = effects.iter().filter_map(role_of).collect();
    let roles = if roles.is_empty() { vec![ObjectRole::Read] } else { roles };
    roles.into_iter().map(|role| object_ref(schema, name, kind, role)).collect()
}

fn object_ref(schema: &str, name: &str, kind: &str, role: ObjectRole) -> ObjectRef {
    ObjectRef { schema: schema.to_owned(), name: name.to_owned(), kind: kind.to_owned(), role }
}

/// As a protocol would name it: absolute, without `.`, `..` and empty parts.
fn path_of(path: &str) -> Result<&str, String> {
    let parts = path.strip_prefix('/').map(|below| below.split('/'));
    let is_plain = parts
        .is_some_and(|mut parts| path == "/" || parts.all(|part| !matches!(part, "" | "." | "..")));
    if is_plain { Ok(path) } else { Err(format!("'{path}' is not a path; write /etc/hosts")) }
}

fn attribute_of(
    engine: &Engine,
    name: &str,
    value: &Attribute,
) -> Result<(&'static str, Attribute), String> {
    let mut known = engine.actions().attributes();
    let Some(spec) = known.find(|spec| spec.name == name) else {
        return Err(format!("there is no field '{name}'"));
    };
    let value = match (spec.kind, value) {
        (AttributeKind::Flag, Attribute::Flag(_))
        | (AttributeKind::Number, Attribute::Number(_))
        | (AttributeKind::Text, Attribute::Text(_)) => value.clone(),
        (AttributeKind::Set, Attribute::Set(values)) => {
            let sorted: BTreeSet<String> = values.iter().cloned().collect();
            Attribute::Set(sorted.into_iter().collect())
        }
        (kind, _) => {
            let right = match kind {
                AttributeKind::Flag => "true or false",
                AttributeKind::Number => "a number",
                AttributeKind::Text => "a text",
                AttributeKind::Set => "a list of texts",
            };
            return Err(format!("the field '{name}' is {right}"));
        }
    };
    Ok((spec.name, value))
}

fn role_of(effect: Effect) -> Option<ObjectRole> {
    match effect {
        Effect::Read => Some(ObjectRole::Read),
        Effect::Write => Some(ObjectRole::Write),
        Effect::Define => Some(ObjectRole::Define),
        Effect::Administer | Effect::Shell | Effect::Unknown => None,
    }
}
