//! The policies in `examples/policies` are right, and do what their test cases say.

mod support;

use std::path::{Path, PathBuf};

use corral_gate::policy::{
    CaseResult, Engine, PolicySource, PolicyTests, ProtocolVerbs, check_sources, run_tests,
};
use corral_model::ids::{PolicyVersion, ResourceName};
use corral_model::statement::{AttributeKind, AttributeSpec};
use corral_model::{Effect, Verb};
use support::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/policies")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("the file is part of the repository")
}

fn cases(yaml: &str) -> PolicyTests {
    serde_saphyr::from_str(yaml).expect("the cases are well formed")
}

fn example(name: &str) -> PolicySource {
    let cedar = read(&folder().join(format!("{name}.cedar")));
    PolicySource { name: ResourceName::new(name).expect("a name"), cedar }
}

fn engine_of_sources(sources: &[PolicySource]) -> Engine {
    match Engine::compile(PolicyVersion(1), sources, PROTOCOLS, &[]) {
        Ok(engine) => engine,
        Err(problems) => unreachable!("{problems:#?}"),
    }
}

#[test]
fn every_example_passes_its_cases() {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder is part of the repository")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|file| file.strip_suffix(".cedar").map(str::to_owned))
        .collect();
    names.sort();
    assert_eq!(names, ["agents", "approvals", "catalogue", "readonly"]);
    for name in names {
        let source = example(&name);
        let problems = check_sources(std::slice::from_ref(&source), PROTOCOLS);
        assert_eq!(problems, [], "{name}");
        let tests = cases(&read(&folder().join(format!("{name}.tests.yaml"))));
        assert!(!tests.tests.is_empty());
        assert_eq!(tests.policies, [format!("{name}.cedar")]);
        let failed: Vec<CaseResult> = run_tests(&engine_of_sources(&[source]), &tests)
            .into_iter()
            .filter(|result| !result.passed)
            .collect();
        assert_eq!(failed, [], "{name}");
    }
}

#[test]
fn the_examples_stand_together() {
    let sources = ["agents", "approvals", "catalogue", "readonly"].map(example);
    assert_eq!(check_sources(&sources, PROTOCOLS), []);
}

#[test]
fn a_case_that_fails_says_what_came_instead() {
    let engine = engine_of_sources(&[example("agents")]);
    let check = |asks: &str, expect: Option<&str>| {
        let yaml = format!(
            "tests: [{{name: case, principal: {{workload: ci, groups: [agents], runs: [r]}}, \
             target: {{name: orders-db}}, {asks}}}]"
        );
        let results = run_tests(&engine, &cases(&yaml));
        let failures: Vec<Option<&str>> =
            results.iter().map(|result| result.failure.as_deref()).collect();
        assert_eq!(failures, [expect], "{asks}");
    };
    let select = "statement: {verbs: [select]}";
    let alter = "statement: {verbs: [alter_table], objects: [public.a]}";
    check(&format!("{select}, expect: allow"), None);
    check(
        &format!("{select}, expect: deny"),
        Some("expected deny, got allow (rules: agents-orders)"),
    );
    check(
        &format!("{alter}, expect: allow"),
        Some("expected allow, got hold for dba (rules: schema-changes)"),
    );
    check(
        &format!("{alter}, expect: hold, rules: [x]"),
        Some("expected the rules x, got schema-changes"),
    );
    check(
        &format!("{alter}, expect: hold, groups: [ops, dba]"),
        Some("expected the groups dba, ops, got dba"),
    );
    check(
        "statement: {verbs: [grant]}, expect: hold",
        Some("expected hold, got deny: no policy permits `grant` (rules: none)"),
    );
    check("unmask: public.a.b, expect: allow", Some("expected allow, but the column stays masked"));
    check("unmask: public.a.b, expect: hold", Some("unmask is never held; expect allow or deny"));
    let one = "a case asks exactly one of statement, connect and unmask";
    check("expect: allow", Some(one));
    check(&format!("{select}, connect: true, expect: allow"), Some(one));
    check("statement: {verbs: [teleport]}, expect: deny", Some("there is no verb 'teleport'"));
    check(
        "statement: {verbs: [select], objects: [a]}, expect: deny",
        Some("'a' is not an object; write schema.name"),
    );
}

/// Verbs and fields as protocols for hosts and clusters have them.
const HOSTS: &[ProtocolVerbs] = &[ProtocolVerbs {
    protocol: "hosts",
    verbs: &[
        Verb { name: "exec", effect: Some(Effect::Shell) },
        Verb { name: "command", effect: Some(Effect::Write) },
        Verb { name: "file_read", effect: Some(Effect::Read) },
        Verb { name: "file_write", effect: Some(Effect::Write) },
        Verb { name: "update_object", effect: Some(Effect::Write) },
    ],
    attributes: &[
        AttributeSpec { name: "program", kind: AttributeKind::Text, meaning: "The program." },
        AttributeSpec { name: "terminal", kind: AttributeKind::Flag, meaning: "A terminal." },
        AttributeSpec { name: "port", kind: AttributeKind::Number, meaning: "A port." },
        AttributeSpec { name: "images", kind: AttributeKind::Set, meaning: "Images." },
    ],
}];

const HOST_POLICY: &str = r#"
@id("restart") permit (
  principal in Corral::Group::"agents",
  action == Corral::Action::"command",
  resource == Corral::Command::"web-1/restart-service"
);
@id("logs") permit (
  principal in Corral::Group::"agents",
  action == Corral::Action::"file_read",
  resource in Corral::Path::"web-1/var/log"
);
@id("uptime") permit (
  principal in Corral::Group::"agents",
  action == Corral::Action::"exec",
  resource in Corral::Target::"web-1"
) when {
  context has program && context.program == "uptime" && !(context has terminal && context.terminal)
    && !(context has port && context.port > 1)
};
@id("staging") permit (
  principal in Corral::Group::"agents",
  action == Corral::Action::"update_object",
  resource in Corral::Namespace::"prod/staging"
) unless { context has images && context.images.contains("evil") };
"#;

#[test]
fn cases_name_commands_paths_namespaces_and_fields() {
    let source = source("hosts", HOST_POLICY);
    let engine = match Engine::compile(PolicyVersion(1), &[source], HOSTS, &[]) {
        Ok(engine) => engine,
        Err(problems) => unreachable!("{problems:#?}"),
    };
    let check = |target: &str, statement: &str, expect: &str, failure: Option<&str>| {
        let yaml = format!(
            "tests: [{{name: case, principal: {{workload: ci, groups: [agents]}}, \
             target: {{name: {target}}}, statement: {statement}, expect: {expect}}}]"
        );
        let results = run_tests(&engine, &cases(&yaml));
        let found: Vec<Option<&str>> =
            results.iter().map(|result| result.failure.as_deref()).collect();
        assert_eq!(found, [failure], "{target}: {statement}");
    };
    let allow = |target: &str, statement: &str| check(target, statement, "allow", None);
    let deny = |target: &str, statement: &str| check(target, statement, "deny", None);
    allow("web-1", "{verbs: [command], commands: [restart-service]}");
    deny("web-1", "{verbs: [command], commands: [restart-host]}");
    deny("web-2", "{verbs: [command], commands: [restart-service]}");
    deny("web-1", "{verbs: [command]}");
    deny("web-1", "{verbs: [command], commands: [restart-service, restart-host]}");
    deny("web-1", "{verbs: [exec], commands: [restart-service]}");
    allow("web-1", "{verbs: [file_read], paths: [/var/log/shop/a.log]}");
    allow("web-1", "{verbs: [file_read], paths: [/var/log]}");
    deny("web-1", "{verbs: [file_read], paths: [/var/logs]}");
    deny("web-1", "{verbs: [file_read], paths: [/var/log/a, /etc/shadow]}");
    deny("web-1", "{verbs: [file_write], paths: [/var/log/a]}");
    allow("web-1", "{verbs: [exec], attributes: {program: uptime}}");
    allow("web-1", "{verbs: [exec], attributes: {program: uptime, terminal: false, port: 1}}");
    deny("web-1", "{verbs: [exec], attributes: {program: uptime, terminal: true}}");
    deny("web-1", "{verbs: [exec], attributes: {program: uptime, port: 2}}");
    deny("web-1", "{verbs: [exec]}");
    allow("prod", "{verbs: [update_object], namespaces: [staging]}");
    deny("prod", "{verbs: [update_object], namespaces: [prod]}");
    let object = "{name: pods/a, namespace: staging, kind: object, role: write}";
    allow("prod", &format!("{{verbs: [update_object], objects: [{object}]}}"));
    let with = "attributes: {images: [x, evil]}";
    deny("prod", &format!("{{verbs: [update_object], objects: [{object}], {with}}}"));
    let wide = "{name: nodes/a, kind: object, role: write}";
    deny("prod", &format!("{{verbs: [update_object], objects: [{wide}]}}"));

    let wrong = |statement: &str, text: &str| check("web-1", statement, "deny", Some(text));
    wrong("{verbs: [exec], attributes: {colour: red}}", "there is no field 'colour'");
    wrong("{verbs: [exec], attributes: {port: x}}", "the field 'port' is a number");
    wrong("{verbs: [exec], attributes: {terminal: x}}", "the field 'terminal' is true or false");
    wrong("{verbs: [exec], attributes: {images: x}}", "the field 'images' is a list of texts");
    for path in ["var/log", "/var/../etc", "/var/./log", "//var", "/var/"] {
        let text = format!("'{path}' is not a path; write /etc/hosts");
        wrong(&format!("{{verbs: [file_read], paths: [{path}]}}"), &text);
    }
}
