//! `kind: Command` in manifests: what is read, and what is refused where.

use corral_model::resource::manifest::{parse, to_yaml};
use corral_model::resource::{ParameterSpec, Resource};

const HEAD: &str = "kind: Command\nname: restart\ntargets: [web-1]\n";

#[test]
fn every_type_of_parameter_is_read_and_written_back() {
    let text = format!(
        "{HEAD}description: Restarts.\ntemplate: \"restart {{a}} {{b}} {{c}}\"\nparameters:\n  \
         a: {{one_of: [nginx, redis]}}\n  b: {{pattern: \"[a-z0-9-]{{1,40}}\"}}\n  \
         c: {{integer: {{min: -1, max: 5}}}}\n"
    );
    let resources = parse(&text, "c.yaml").expect("reads");
    let Some(Resource::Command(command)) = resources.first() else { unreachable!("a command") };
    assert_eq!(command.parameters.len(), 3);
    assert!(
        matches!(command.parameters.get("b"), Some(ParameterSpec::Pattern(p)) if p == "[a-z0-9-]{1,40}")
    );
    let yaml = to_yaml(&resources[0]).expect("writes");
    assert_eq!(parse(&yaml, "again.yaml").expect(&yaml), resources, "{yaml}");
    let json = serde_json::to_value(&resources[0]).expect("writes");
    assert_eq!(serde_json::from_value::<Resource>(json).expect("reads"), resources[0]);
}

#[test]
fn faults_are_named_with_their_place() {
    let check = |rest: &str, line: u64, text: &str| {
        let manifest = format!("{HEAD}{rest}");
        let errors = parse(&manifest, "c.yaml").expect_err(rest);
        let is_named = errors.iter().any(|e| e.line == line && e.to_string().contains(text));
        assert!(is_named, "{rest}: {errors:?}");
    };
    check("template: \"echo '{a}'\"\nparameters: {a: {pattern: x}}\n", 4, "inside quotes");
    check("template: \"echo `x` {a}\"\nparameters: {a: {pattern: x}}\n", 4, "substitution");
    check("template: echo {a}\n", 4, "no parameter 'a'");
    check("template: echo\nparameters: {a: {pattern: x}}\n", 5, "does not use 'a'");
    check("template: echo {a}\nparameters: {a: {pattern: \"(\"}}\n", 5, "cannot be read");
    check("template: echo {a}\nparameters: {a: {pattern: \"a)|(?:b\"}}\n", 5, "cannot be read");
    check("template: echo {a}\nparameters: {a: {one_of: []}}\n", 5, "no value");
    check("template: echo {a}\nparameters: {a: {one_of: [x, x]}}\n", 5, "twice");
    check("template: echo {a}\nparameters: {a: {integer: {min: 2, max: 1}}}\n", 5, "min is above");
    check("template: echo {a}\nparameters: {a: {kind_of: x}}\n", 5, "kind_of");
    check("template: echo {a}\nparameters: {a: {integer: {min: 2, max: 3, step: 1}}}\n", 5, "step");
    check("template: \"echo {A}\"\nparameters: {A: {pattern: x}}\n", 5, "no name for a parameter");
    check("template: \"a\\nb\"\n", 4, "line break");
    check("template: x\nlabels: {env: prod}\n", 5, "targets or labels");
    check("template: x\ncommand: y\n", 5, "unknown field `command`");
}

#[test]
fn a_command_is_for_some_target_and_has_a_plain_name() {
    let errors = parse("kind: Command\nname: x\ntemplate: y\n", "c.yaml").expect_err("no target");
    assert!(errors[0].to_string().contains("no target"), "{errors:?}");
    for name in ["Restart", "re start", "a/b", "\"\""] {
        let text = format!("kind: Command\nname: {name}\ntargets: [a]\ntemplate: y\n");
        assert!(parse(&text, "c.yaml").is_err(), "{name}");
    }
}
