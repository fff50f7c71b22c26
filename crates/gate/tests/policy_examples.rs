//! The policies in `examples/policies` are right, and do what their test cases say.

mod support;

use std::path::{Path, PathBuf};

use corral_gate::policy::{
    CaseResult, Engine, PolicySource, PolicyTests, check_sources, run_tests,
};
use corral_model::ids::{PolicyVersion, ResourceName};
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
    assert_eq!(names, ["agents", "approvals", "readonly"]);
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
    let sources = ["agents", "approvals", "readonly"].map(example);
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
