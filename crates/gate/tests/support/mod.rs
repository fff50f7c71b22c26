//! Verbs, subjects and statements that the tests of policy share.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::sync::Arc;

use corral_gate::policy::{
    Attribution, Context, Engine, PolicySource, ProtocolVerbs, RunNode, Subject, TargetFacts,
};
use corral_gate::{Ruling, Verdict};
use corral_model::ids::{GroupName, PolicyVersion, PrincipalName, ResourceName, RunId, TargetName};
use corral_model::resource::TargetSpec;
use corral_model::statement::Facts;
use corral_model::{Effect, Effects, ObjectRef, ObjectRole, Principal, Verb};
use time::macros::datetime;

const fn verb(name: &'static str, effect: Effect) -> Verb {
    Verb { name, effect: Some(effect) }
}

pub const SELECT: Verb = verb("select", Effect::Read);
pub const INSERT: Verb = verb("insert", Effect::Write);
pub const UPDATE: Verb = verb("update", Effect::Write);
pub const DELETE: Verb = verb("delete", Effect::Write);
pub const ALTER_TABLE: Verb = verb("alter_table", Effect::Define);
pub const DROP_TABLE: Verb = verb("drop_table", Effect::Define);
pub const CREATE_FUNCTION: Verb = verb("create_function", Effect::Define);
pub const GRANT: Verb = verb("grant", Effect::Administer);
pub const COPY_PROGRAM: Verb = verb("copy_program", Effect::Administer);
pub const DO: Verb = verb("do", Effect::Unknown);
pub const BEGIN: Verb = Verb { name: "begin", effect: None };

pub const VERBS: &[Verb] = &[
    SELECT,
    INSERT,
    UPDATE,
    DELETE,
    ALTER_TABLE,
    DROP_TABLE,
    CREATE_FUNCTION,
    GRANT,
    COPY_PROGRAM,
    DO,
    BEGIN,
];

pub const PROTOCOLS: &[ProtocolVerbs] =
    &[ProtocolVerbs { protocol: "postgres", verbs: VERBS, attributes: &[] }];

pub fn source(name: &str, cedar: &str) -> PolicySource {
    let name = ResourceName::new(name).expect("a policy's name");
    PolicySource { name, cedar: cedar.to_owned() }
}

pub fn target_spec(name: &str) -> TargetSpec {
    TargetSpec {
        options: serde_json::Map::new(),
        name: TargetName::new(name).expect("a target's name"),
        protocol: "postgres".into(),
        address: "127.0.0.1:5432".into(),
        relay: None,
        database: None,
        tls: None,
        credential: None,
        masked_credential: None,
        labels: [("env".to_owned(), "prod".to_owned())].into(),
        classify: Vec::new(),
        record: Default::default(),
        listen: None,
    }
}

pub fn engine_of(version: u64, cedar: &str) -> Arc<Engine> {
    let targets = [target_spec("orders-db"), target_spec("other-db")];
    let sources = [source("shop", cedar)];
    match Engine::compile(PolicyVersion(version), &sources, PROTOCOLS, &targets) {
        Ok(engine) => Arc::new(engine),
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            unreachable!("{cedar}\n{}", lines.join("\n"))
        }
    }
}

pub fn engine(cedar: &str) -> Arc<Engine> {
    engine_of(1, cedar)
}

pub fn orders() -> TargetFacts {
    TargetFacts::from(&target_spec("orders-db"))
}

pub fn group(name: &str) -> GroupName {
    GroupName::new(name).expect("a group's name")
}

pub fn user(name: &str) -> Principal {
    Principal::user(PrincipalName::new(name).expect("a person's name"))
}

/// A workload in group `agents`, with runs of these names, root first.
pub fn agent(runs: &[&str]) -> Subject {
    let node = |name: &&str| RunNode {
        id: RunId::new(format!("run-{name}")).expect("a run's id"),
        name: (*name).to_owned(),
        attribution: Attribution::Token,
        actions: Vec::new(),
    };
    Subject {
        principal: Principal::workload(PrincipalName::new("nightly").expect("a name")),
        groups: vec![group("agents")],
        runs: runs.iter().map(node).collect(),
    }
}

pub fn context() -> Context {
    Context {
        in_transaction: false,
        time: datetime!(2026-11-23 12:00 UTC),
        tls: true,
        source_ip: "10.0.0.7".parse().ok(),
    }
}

pub fn object(name: &str, role: ObjectRole) -> ObjectRef {
    let (schema, name) = name.split_once('.').expect("schema.name");
    ObjectRef { schema: schema.into(), name: name.into(), kind: "table".into(), role }
}

/// A statement with these verbs, on these tables in the role of the last verb's effect.
pub fn statement(verbs: &[Verb], tables: &[&str]) -> Facts {
    let mut effects = Effects::NONE;
    let mut role = ObjectRole::Read;
    for effect in verbs.iter().filter_map(|verb| verb.effect) {
        effects.insert(effect);
        role = match effect {
            Effect::Write => ObjectRole::Write,
            Effect::Define | Effect::Administer => ObjectRole::Define,
            Effect::Read | Effect::Shell | Effect::Unknown => ObjectRole::Read,
        };
    }
    Facts {
        verbs: verbs.to_vec(),
        effects,
        objects: tables.iter().map(|name| object(name, role)).collect(),
        statement_count: 1,
        ..Facts::default()
    }
}

pub fn ask(engine: &Engine, subject: &Subject, facts: &Facts) -> Ruling {
    engine.rule(subject, &orders(), facts, &context(), "d-1".into())
}

/// `allow`, `deny` or `hold`, then the rules.
pub fn short(ruling: &Ruling) -> String {
    let outcome = match &ruling.verdict {
        Verdict::Allow => "allow",
        Verdict::Deny(_) => "deny",
        Verdict::Hold(_) => "hold",
    };
    let rules: Vec<&str> = ruling.rules.iter().map(String::as_str).collect();
    [vec![outcome], rules].concat().join(" ")
}

pub fn text(ruling: &Ruling) -> String {
    match &ruling.verdict {
        Verdict::Allow => String::new(),
        Verdict::Deny(denial) => denial.client_text.clone(),
        Verdict::Hold(terms) => terms.iter().map(|term| term.reason.as_str()).collect(),
    }
}
