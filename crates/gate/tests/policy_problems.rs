//! What is said of policies that are wrong, and where.

mod support;

use corral_gate::policy::{
    Engine, PolicyProblem, ProtocolVerbs, Severity, check_sources, schema_text,
};
use corral_model::ids::PolicyVersion;
use corral_model::limits;
use corral_model::{Effect, Verb};
use support::*;

fn shown(problems: &[PolicyProblem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_problem_says_where_it_is_what_is_wrong_and_what_would_be_right() {
    let check = |cedar: &str, expect: &[&str]| {
        let found = shown(&check_sources(&[source("shop", cedar)], PROTOCOLS));
        assert_eq!(found.len(), expect.len(), "{cedar}\n{found:#?}");
        for (found, expect) in found.iter().zip(expect) {
            let is_as_expected = expect.split('…').all(|part| found.contains(part));
            assert!(is_as_expected, "{cedar}\n{found}\n{expect}");
        }
    };
    check("permit (principal, action, resource);", &[]);
    check("", &[]);
    check("permit (principal, action, resource)\n  wehn { true };", &["shop:2:3: error: "]);
    check(
        "permit (principal, action, resource) when { context.tsl };",
        &["shop:1:45: error: …tsl"],
    );
    check(
        "permit (principal, action, resource);\n\n  forbid (principal in Corral::Team::\"x\", action, resource);",
        &["shop:3:24: error: …Corral::Team"],
    );
    check(
        "permit (principal, action in Corral::Action::\"selct\", resource);",
        &["shop:1:30: error: …selct…did you mean `Corral::Action::\"select\"`"],
    );
    check(
        "permit (principal, action, resource) when { context.source_ip.isLoopback() };",
        &["shop:1:45: error: …source_ip"],
    );
    check("permit (principal == ?principal, action, resource);", &["shop:1:1: error: templates"]);
    check(
        "@approval(\"dba\") permit (principal, action, resource);",
        &["shop:1:1: error: @approval has no meaning here; it belongs to a forbid"],
    );
    check(
        "@quorum(\"2\") forbid (principal, action, resource);",
        &["shop:1:1: error: @quorum has no meaning here"],
    );
    check("@approval forbid (principal, action, resource);", &["error: @approval has no meaning"]);
    let held = |annotations: &str| {
        format!(
            "@approval(\"dba\") {annotations} forbid (principal, action in Corral::Action::\"define\", resource);"
        )
    };
    check(&held(""), &[]);
    check(&held("@quorum(\"0\")"), &["error: @quorum(\"0\")…write a number from 1 to 10"]);
    check(&held("@quorum(\"two\")"), &["error: @quorum(\"two\")"]);
    check(&held("@expires(\"soon\")"), &["error: @expires(\"soon\")…write 1s to 1d, such as 15m"]);
    check(&held("@expires(\"2d\")"), &["error: @expires(\"2d\")"]);
    check(&held("@reasn(\"x\")"), &["warning: the annotation @reasn means nothing"]);
    check(
        "@approval(\"d b a\") forbid (principal, action in Corral::Action::\"define\", resource);",
        &["error: @approval: 'd b a' holds ' '"],
    );
    check("@id(\"masking\") permit (principal, action, resource);", &["error: the id 'masking'"]);
    check(
        "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource);",
        &["shop:2:1: error: the id 'a' is used twice, first in 'shop'"],
    );
    check(
        "@approval(\"dba\") forbid (principal, action, resource);",
        &["warning: it also covers connect or unmask"],
    );
    check(
        "permit (principal, action, resource in Corral::Table::\"public.customers\");",
        &["error: Corral::Table::\"public.customers\" names no target; write TARGET/schema.table"],
    );
}

#[test]
fn heads_that_would_silently_miss_are_found() {
    let check = |cedar: &str, severity: Severity, expect: &str| {
        let found = check_sources(&[source("shop", cedar)], PROTOCOLS);
        let hit = found.iter().find(|problem| problem.text.contains(expect));
        assert_eq!(hit.map(|problem| problem.severity), Some(severity), "{cedar}\n{found:#?}");
    };
    let (eq_action, eq_target) = ("does not reach its members", "does not reach the tables below");
    let define = "action == Corral::Action::\"define\"";
    let target = "resource == Corral::Target::\"orders-db\"";
    check(&format!("permit (principal, {define}, resource);"), Severity::Warning, eq_action);
    check(&format!("forbid (principal, {define}, resource);"), Severity::Error, eq_action);
    check(&format!("permit (principal, action, {target});"), Severity::Warning, eq_target);
    check(&format!("forbid (principal, action, {target});"), Severity::Error, eq_target);
    let connect = format!("forbid (principal, action == Corral::Action::\"connect\", {target});");
    assert_eq!(shown(&check_sources(&[source("shop", &connect)], PROTOCOLS)), [""; 0]);
}

#[test]
fn several_sources_report_all_of_their_problems_at_once() {
    let sources = [
        source("b", "permit (principal, action, resource) when { context.nothing };"),
        source("a", "permit (principal, action"),
        source("c", "@id(\"x\") permit (principal, action, resource);"),
        source("d", "@id(\"x\") @quorum(\"2\") permit (principal, action, resource);"),
        source("c", ""),
    ];
    let problems = match Engine::compile(PolicyVersion(1), &sources, PROTOCOLS, &[]) {
        Ok(_) => unreachable!("all of them are wrong"),
        Err(problems) => problems,
    };
    let places: Vec<String> = problems.iter().map(|p| format!("{}:{}", p.source, p.line)).collect();
    assert_eq!(places, ["a:1", "b:1", "c:1", "d:1", "d:1"], "{:#?}", shown(&problems));
}

#[test]
fn a_target_that_does_not_exist_is_a_warning() {
    let engine = engine(
        r#"permit (principal, action, resource in Corral::Target::"order-db");
           forbid (principal, action, resource in Corral::Table::"gone/public.a");"#,
    );
    assert_eq!(
        shown(engine.warnings()),
        [
            "shop:1:1: warning: there is no target 'order-db'; there are: orders-db, other-db",
            "shop:2:12: warning: there is no target 'gone'; there are: orders-db, other-db",
        ]
    );
}

#[test]
fn an_action_may_be_written_with_escapes() {
    let engine =
        engine(r#"permit (principal, action in Corral::Action::"sel\u{65}ct", resource);"#);
    let ruling = ask(&engine, &agent(&[]), &statement(&[SELECT], &["public.a"]));
    assert_eq!(short(&ruling), "allow shop#1");
}

#[test]
fn a_rule_that_can_never_apply_is_a_warning() {
    let cedar =
        "permit (principal, action, resource) when { context.tls && !context.tls && false };";
    let found = check_sources(&[source("shop", cedar)], PROTOCOLS);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found.iter().all(|problem| problem.severity == Severity::Warning));
}

#[test]
fn protocols_may_share_verbs_but_not_contradict_each_other() {
    const OTHER: &[Verb] = &[SELECT];
    const CONTRARY: &[Verb] = &[Verb { name: "select", effect: Some(Effect::Write) }];
    const SHADOWS: &[Verb] = &[Verb { name: "unmask", effect: Some(Effect::Read) }];
    const NO_NAME: &[Verb] = &[Verb { name: "a b", effect: Some(Effect::Read) }];
    let compile = |verbs: &'static [Verb]| {
        let protocols = [
            ProtocolVerbs { protocol: "postgres", verbs: VERBS, attributes: &[] },
            ProtocolVerbs { protocol: "other", verbs, attributes: &[] },
        ];
        Engine::compile(PolicyVersion(1), &[], &protocols, &[]).is_ok()
    };
    assert!(compile(OTHER));
    assert!(!compile(CONTRARY));
    assert!(!compile(SHADOWS));
    assert!(!compile(NO_NAME));
}

#[test]
fn the_schema_lists_every_verb_in_its_effects_group() {
    let text = schema_text(PROTOCOLS);
    for verb in VERBS {
        let group = verb.effect.map_or("connect", Effect::name);
        assert!(text.contains(&format!("action {} in [{group}] appliesTo", verb.name)), "{text}");
    }
    assert!(text.contains(
        "action unmask appliesTo { principal: [User, Workload, Run], resource: [Column]"
    ));
}

/// The threads of tests have small stacks, as those of servers do.
#[test]
fn a_policy_that_nests_without_end_is_refused_before_it_is_parsed() {
    let check = |open: &str, inner: &str, close: &str, count: usize, expect: Option<&str>| {
        let (open, close) = (open.repeat(count), close.repeat(count));
        let when = format!("when {{ {open}{inner}{close} }}");
        let cedar = format!("permit (principal, action, resource) {when};");
        let found = shown(&check_sources(&[source("shop", &cedar)], PROTOCOLS));
        match expect {
            None => assert_eq!(found, [""; 0], "{count} {open:.20}"),
            Some(text) => assert!(found.iter().any(|line| line.contains(text)), "{found:#?}"),
        }
    };
    let deep = limits::POLICY_DEPTH_MAX;
    check("(", "true", ")", deep - 1, None);
    check("(", "true", ")", deep, Some("too many brackets in one policy; write several"));
    check("(", "true", ")", 400_000, Some("too many brackets"));
    check("{a: ", "true", "}", 100_000, Some("too many brackets"));
    check("if true then ", "true", " else false", deep, None);
    check("if true then ", "true", " else false", 10_000, Some("too many `if`s"));
    check("true && ", "true", "", 240, None);
    check("true && ", "true", "", 100_000, Some("too many operators"));
    check("!", "true", "", 100_000, Some("too many operators"));
}

#[test]
fn a_long_policy_decides_on_a_small_stack() {
    let chain = "context.tls && ".repeat(150);
    let engine = engine(&format!("permit (principal, action, resource) when {{ {chain} true }};"));
    let facts = statement(&[SELECT], &["public.a"]);
    assert_eq!(short(&ask(&engine, &agent(&["r"]), &facts)), "allow shop#1");
}
