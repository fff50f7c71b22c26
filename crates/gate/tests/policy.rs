//! What the engine answers, case by case.

mod support;

use std::time::Duration;

use corral_gate::policy::{Attribution, Context, Subject, TargetFacts};
use corral_gate::{Denial, DenialKind, Verdict};
use corral_model::event::Outcome;
use corral_model::limits;
use corral_model::resource::ColumnName;
use corral_model::statement::{Facts, Obstacle};
use corral_model::{Effect, Effects, ObjectRole, Verb};
use support::*;
use time::macros::datetime;

const CONTRACT: &str = r#"
permit (
  principal in Corral::Group::"agents",
  action in [Corral::Action::"connect", Corral::Action::"read", Corral::Action::"write", Corral::Action::"define"],
  resource in Corral::Target::"orders-db"
);
@id("schema-changes") @approval("dba") @reason("Schema changes need a DBA's approval.")
forbid (principal, action in Corral::Action::"define", resource in Corral::Target::"orders-db");
permit (principal in Corral::Group::"fraud", action == Corral::Action::"unmask", resource in Corral::Target::"orders-db");
"#;

fn denial(verdict: &Verdict) -> &Denial {
    match verdict {
        Verdict::Deny(denial) => denial,
        Verdict::Allow | Verdict::Hold(_) => unreachable!("{verdict:?}"),
    }
}

#[test]
fn the_contracts_example_allows_denies_and_holds() {
    let engine = engine(CONTRACT);
    let subject = agent(&["planner", "executor"]);
    let check = |verbs: &[Verb], tables: &[&str], expect: &str| {
        let ruling = ask(&engine, &subject, &statement(verbs, tables));
        assert_eq!(short(&ruling), expect, "{verbs:?}");
    };
    check(&[SELECT], &["public.customers"], "allow shop#1");
    check(&[SELECT], &[], "allow shop#1");
    check(&[INSERT, SELECT], &["public.orders"], "allow shop#1");
    check(&[BEGIN], &[], "allow shop#1");
    check(&[], &[], "allow shop#1");
    check(&[ALTER_TABLE], &["public.orders"], "hold schema-changes");
    check(&[SELECT, ALTER_TABLE], &["public.orders"], "hold schema-changes");
    check(&[GRANT], &["public.orders"], "deny");
    check(&[DO], &[], "deny");
    check(&[ALTER_TABLE, GRANT], &["public.orders"], "deny");
}

#[test]
fn nothing_is_allowed_without_a_permit() {
    let facts = statement(&[SELECT], &["public.customers"]);
    let stranger = Subject { groups: vec![group("others")], ..agent(&[]) };
    let elsewhere = TargetFacts { name: "other-db".parse().expect("a name"), ..orders() };
    assert_eq!(short(&ask(&engine(""), &agent(&[]), &facts)), "deny");
    let engine = engine(CONTRACT);
    assert_eq!(short(&ask(&engine, &stranger, &facts)), "deny");
    let ruling = engine.rule(&agent(&[]), &elsewhere, &facts, &context(), "d-1".into());
    assert_eq!(short(&ruling), "deny");
}

#[test]
fn a_hold_says_who_must_approve_and_how_long_to_wait() {
    let engine = engine(
        r#"
        permit (principal, action, resource);
        @id("two") @approval("dba") @quorum("2") @expires("90s") @reason("Two of you.")
        forbid (principal, action in Corral::Action::"define", resource);
        @id("owner") @approval("owners")
        forbid (principal, action in Corral::Action::"drop_table", resource);
        "#,
    );
    let ruling = ask(&engine, &agent(&[]), &statement(&[DROP_TABLE], &["public.orders"]));
    let Verdict::Hold(terms) = &ruling.verdict else { unreachable!("{ruling:?}") };
    let shown: Vec<_> = terms
        .iter()
        .map(|t| (t.rule.as_str(), t.group.as_str(), t.quorum, t.expires_in, t.reason.as_str()))
        .collect();
    let wait = Some(Duration::from_secs(90));
    assert_eq!(
        shown,
        [
            ("owner", "owners", 1, None, "owners must approve this"),
            ("two", "dba", 2, wait, "Two of you."),
        ]
    );
}

#[test]
fn one_plain_forbid_denies_what_others_would_hold() {
    let engine = engine(
        r#"
        permit (principal, action, resource);
        @id("held") @approval("dba")
        forbid (principal, action in Corral::Action::"define", resource);
        @id("never") @reason("Tables are not dropped here.")
        forbid (principal, action in Corral::Action::"drop_table", resource);
        "#,
    );
    let ruling = ask(&engine, &agent(&[]), &statement(&[DROP_TABLE], &["public.orders"]));
    assert_eq!(short(&ruling), "deny never");
    let denial = denial(&ruling.verdict);
    let sentence = "corral: never: Tables are not dropped here. (decision d-1)";
    assert_eq!(denial.sentence(), sentence);
}

#[test]
fn a_statement_needs_all_of_its_effects() {
    let engine = engine(r#"permit (principal, action in Corral::Action::"read", resource);"#);
    let mut facts = statement(&[SELECT], &["public.customers"]);
    assert_eq!(short(&ask(&engine, &agent(&[]), &facts)), "allow shop#1");
    for effect in
        [Effect::Write, Effect::Define, Effect::Administer, Effect::Shell, Effect::Unknown]
    {
        facts.effects = Effects::of(Effect::Read);
        facts.effects.insert(effect);
        assert_eq!(short(&ask(&engine, &agent(&[]), &facts)), "deny", "{effect:?}");
    }
}

#[test]
fn an_effect_of_a_called_function_needs_the_effects_own_action() {
    let engine = engine(
        r#"
        permit (principal, action in [Corral::Action::"select", Corral::Action::"insert"], resource);
        permit (principal in Corral::Group::"writers", action in Corral::Action::"write", resource);
        "#,
    );
    let mut facts = statement(&[SELECT], &[]);
    facts.effects.insert(Effect::Write);
    let writer = Subject { groups: vec![group("writers")], ..agent(&[]) };
    assert_eq!(short(&ask(&engine, &agent(&[]), &facts)), "deny");
    assert_eq!(short(&ask(&engine, &writer, &facts)), "allow shop#1 shop#2");
}

#[test]
fn a_verb_that_the_schema_does_not_know_is_unknown() {
    let engine = engine(
        r#"permit (principal, action in [Corral::Action::"read", Corral::Action::"write"], resource);"#,
    );
    let strange = Verb { name: "teleport", effect: Some(Effect::Read) };
    let lying = Verb { name: "insert", effect: Some(Effect::Read) };
    for verb in [strange, lying] {
        let ruling = ask(&engine, &agent(&[]), &statement(&[verb], &["public.a"]));
        assert_eq!(short(&ruling), "deny", "{verb:?}");
    }
}

#[test]
fn a_permit_on_one_table_covers_no_other() {
    let engine = engine(
        r#"permit (principal, action in Corral::Action::"read", resource in Corral::Table::"orders-db/public.a");"#,
    );
    let check = |tables: &[&str], expect: &str| {
        let ruling = ask(&engine, &agent(&["r"]), &statement(&[SELECT], tables));
        assert_eq!(short(&ruling), expect, "{tables:?}");
    };
    check(&["public.a"], "allow shop#1");
    check(&["public.b"], "deny");
    check(&["public.a", "public.b"], "deny");
    check(&["private.a"], "deny");
    check(&[], "deny");
    let mut reached = statement(&[SELECT], &["public.a"]);
    reached.objects.push(object("public.secret", ObjectRole::Reached));
    let ruling = ask(&engine, &agent(&[]), &reached);
    assert_eq!(text(&ruling), "no policy permits `select` on what it reaches");
}

#[test]
fn a_rule_on_a_target_or_a_schema_covers_the_tables_below() {
    let engine = engine(
        r#"
        permit (principal, action in Corral::Action::"read", resource in Corral::Target::"orders-db");
        permit (principal, action in Corral::Action::"write", resource in Corral::Schema::"orders-db/scratch");
        @id("secret") forbid (principal, action, resource in Corral::Table::"orders-db/public.secret");
        "#,
    );
    let check = |verb: Verb, tables: &[&str], expect: &str| {
        let ruling = ask(&engine, &agent(&[]), &statement(&[verb], tables));
        assert_eq!(short(&ruling), expect, "{verb:?} {tables:?}");
    };
    check(SELECT, &["public.a"], "allow shop#1");
    check(SELECT, &["public.a", "public.secret"], "deny secret");
    check(INSERT, &["scratch.x"], "allow shop#2");
    check(INSERT, &["public.a"], "deny");
    let mut reached = statement(&[SELECT], &["public.v"]);
    reached.objects.push(object("public.secret", ObjectRole::Reached));
    assert_eq!(short(&ask(&engine, &agent(&[]), &reached)), "deny secret");
}

#[test]
fn the_right_to_administer_one_table_runs_no_program() {
    let engine = engine(
        r#"
        permit (principal, action in Corral::Action::"administer", resource in Corral::Table::"orders-db/public.a");
        permit (principal in Corral::Group::"ops", action in Corral::Action::"administer", resource in Corral::Target::"orders-db");
        @id("secret") forbid (principal, action, resource in Corral::Table::"orders-db/public.secret");
        "#,
    );
    let ops = Subject { groups: vec![group("ops")], ..agent(&[]) };
    let program = statement(&[COPY_PROGRAM], &["public.a"]);
    assert_eq!(short(&ask(&engine, &agent(&[]), &program)), "deny");
    assert_eq!(short(&ask(&engine, &ops, &program)), "allow shop#2");
    let secret = statement(&[GRANT], &["public.secret"]);
    assert_eq!(short(&ask(&engine, &ops, &secret)), "deny secret");
}

#[test]
fn functions_and_schemas_are_judged_by_their_schema() {
    let engine = engine(
        r#"
        permit (principal, action in Corral::Action::"define", resource in Corral::Schema::"orders-db/scratch");
        permit (principal, action in Corral::Action::"define", resource in Corral::Table::"orders-db/public.f");
        "#,
    );
    let check = |schema: &str, name: &str, kind: &str, expect: &str| {
        let mut facts = statement(&[CREATE_FUNCTION], &["x.y"]);
        for object in &mut facts.objects {
            (object.schema, object.name, object.kind) = (schema.into(), name.into(), kind.into());
        }
        assert_eq!(short(&ask(&engine, &agent(&[]), &facts)), expect, "{kind} {schema}.{name}");
    };
    check("scratch", "f", "function", "allow shop#1");
    check("public", "f", "function", "deny");
    check("public", "f", "table", "allow shop#2");
    check("", "scratch", "schema", "allow shop#1");
    check("", "public", "schema", "deny");
    check("", "f", "table", "deny");
}

#[test]
fn labels_of_a_target_reach_its_tables() {
    let engine = engine(
        r#"
        permit (principal, action in Corral::Action::"read", resource)
          when { resource.hasTag("env") && resource.getTag("env") == "prod" };
        @id("tables") forbid (principal, action, resource) when { resource has name && resource.name == "secret" };
        "#,
    );
    let facts = statement(&[SELECT], &["public.a"]);
    let bare = TargetFacts { labels: Default::default(), ..orders() };
    let ruling = engine.rule(&agent(&[]), &bare, &facts, &context(), "d".into());
    assert_eq!(short(&ruling), "deny");
    assert_eq!(short(&ask(&engine, &agent(&[]), &facts)), "allow shop#1");
    let secret = statement(&[SELECT], &["public.secret"]);
    assert_eq!(short(&ask(&engine, &agent(&[]), &secret)), "deny tables");
}

#[test]
fn a_run_may_never_do_what_an_ancestor_may_not() {
    let engine = engine(
        r#"
        permit (principal, action, resource);
        @id("planner-reads") forbid (principal == Corral::Run::"run-planner", action in Corral::Action::"write", resource);
        @id("ci-is-held") @approval("dba") forbid (principal in Corral::Workload::"nightly", action in Corral::Action::"define", resource);
        @id("not-by-hand") forbid (principal is Corral::Workload, action in Corral::Action::"delete", resource);
        "#,
    );
    let check = |runs: &[&str], verb: Verb, expect: &str| {
        let ruling = ask(&engine, &agent(runs), &statement(&[verb], &["public.a"]));
        assert_eq!(short(&ruling), expect, "{runs:?} {verb:?}");
    };
    check(&["executor"], INSERT, "allow shop#1");
    check(&["planner"], INSERT, "deny planner-reads");
    check(&["planner", "executor", "helper"], INSERT, "deny planner-reads");
    check(&["executor", "planner"], INSERT, "deny planner-reads");
    check(&["planner", "executor"], DROP_TABLE, "hold ci-is-held");
    check(&["planner", "executor"], DELETE, "deny not-by-hand planner-reads");
    check(&["executor"], DELETE, "deny not-by-hand");
}

#[test]
fn a_permit_for_a_run_alone_gives_nothing_that_its_principal_lacks() {
    let engine = engine(
        r#"
        permit (principal in Corral::Run::"run-planner", action in Corral::Action::"write", resource);
        permit (principal, action in Corral::Action::"read", resource);
        "#,
    );
    let insert = statement(&[INSERT], &["public.a"]);
    assert_eq!(short(&ask(&engine, &agent(&["planner", "executor"]), &insert)), "deny");
}

#[test]
fn a_policy_that_fails_denies_whichever_it_is() {
    let overflow = "context.statement_count * 9223372036854775807 > 2";
    let fails = [
        format!(
            "permit (principal, action in Corral::Action::\"read\", resource) when {{ {overflow} }};"
        ),
        format!("@id(\"x\") forbid (principal, action, resource) when {{ {overflow} }};"),
        format!(
            "@approval(\"dba\") forbid (principal, action in Corral::Action::\"read\", resource) when {{ {overflow} }};"
        ),
    ];
    for failing in fails {
        let engine = engine(&format!("permit (principal, action, resource);\n{failing}"));
        let mut facts = statement(&[SELECT], &["public.a"]);
        facts.statement_count = 2;
        let ruling = ask(&engine, &agent(&["r"]), &facts);
        assert_eq!(short(&ruling), "deny policy-error", "{failing}");
        let denial = denial(&ruling.verdict);
        assert!(!denial.client_text.contains("overflow"), "{}", denial.client_text);
        assert!(denial.internal.as_ref().is_some_and(|text| text.contains("overflow")));
        facts.statement_count = 0;
        let ruling = ask(&engine, &agent(&["r"]), &facts);
        assert_eq!(short(&ruling), "allow shop#1", "{failing}");
    }
}

#[test]
fn an_obstacle_denies_what_every_policy_permits() {
    let engine = engine("permit (principal, action, resource);");
    let obstacle = |is_size: bool| Obstacle {
        rule: if is_size { "limits" } else { "masking" },
        text: "column ssn may be projected only".into(),
        position: Some(17),
        is_size,
    };
    for (is_size, kind) in [(false, DenialKind::Forbidden), (true, DenialKind::TooLarge)] {
        let mut facts = statement(&[SELECT], &["public.a"]);
        facts.obstacle = Some(obstacle(is_size));
        let ruling = ask(&engine, &agent(&[]), &facts);
        let denial = denial(&ruling.verdict);
        assert_eq!((denial.kind, denial.position), (kind, Some(17)));
        assert_eq!(denial.rules, *ruling.rules);
        assert_eq!(denial.client_text, "column ssn may be projected only");
    }
}

#[test]
fn a_statement_with_too_many_tables_is_too_large() {
    let one_table =
        r#"@id("x") forbid (principal, action, resource in Corral::Table::"orders-db/public.x");"#;
    let engine = engine(&format!("permit (principal, action, resource);\n{one_table}"));
    let tables = |count: usize| {
        let mut facts = statement(&[SELECT], &[]);
        facts.objects =
            (0..count).map(|i| object(&format!("public.t{i}"), ObjectRole::Reached)).collect();
        facts
    };
    let chain_len = 4;
    let subject = agent(&["a", "b", "c"]);
    let max = limits::DECISION_QUESTIONS_MAX / chain_len;
    let ruling = ask(&engine, &subject, &tables(max + 1));
    assert_eq!(short(&ruling), "deny limits");
    assert_eq!(denial(&ruling.verdict).kind, DenialKind::TooLarge);
    assert_eq!(short(&ask(&engine, &subject, &tables(50))), "allow shop#1");
}

#[test]
fn every_field_of_the_context_can_decide() {
    let check = |condition: &str, change: &dyn Fn(&mut Facts, &mut Context, &mut Subject)| {
        let text = format!("permit (principal, action, resource) when {{ {condition} }};");
        let engine = engine(&text);
        let (mut facts, mut context, mut subject) =
            (statement(&[SELECT], &["public.a"]), context(), agent(&["root", "child"]));
        let ruling = engine.rule(&subject, &orders(), &facts, &context, "d".into());
        assert_eq!(short(&ruling), "allow shop#1", "{condition}");
        change(&mut facts, &mut context, &mut subject);
        let ruling = engine.rule(&subject, &orders(), &facts, &context, "d".into());
        assert_eq!(short(&ruling), "deny", "{condition}");
    };
    check(r#"context.effects == ["read"]"#, &|facts, _, _| {
        facts.effects.insert(Effect::Write);
    });
    check(r#"context.objects.containsAll(["public.a"])"#, &|facts, _, _| facts.objects.clear());
    check(r#"!context.functions.contains("public.f")"#, &|facts, _, _| {
        facts.functions.push("public.f".into());
    });
    check("context.statement_count == 1", &|facts, _, _| facts.statement_count = 2);
    check("!context.in_transaction", &|_, context, _| context.in_transaction = true);
    check("context.run_depth == 1", &|_, _, subject| subject.runs.truncate(1));
    check(r#"context.attribution == "token""#, &|_, _, subject| {
        subject.runs.last_mut().expect("a run").attribution = Attribution::Process;
    });
    check("context.tls", &|_, context, _| context.tls = false);
    let in_net = r#"context has source_ip && context.source_ip.isInRange(ip("10.0.0.0/8"))"#;
    check(in_net, &|_, context, _| context.source_ip = None);
    check(in_net, &|_, context, _| context.source_ip = "::1".parse().ok());
    let mapped = r#"context has source_ip && context.source_ip.isIpv4()"#;
    check(mapped, &|_, context, _| context.source_ip = "::1".parse().ok());
    let office =
        r#"context.time.toTime() >= duration("8h") && context.time < datetime("2026-12-01")"#;
    check(office, &|_, context, _| context.time = datetime!(2026-11-23 07:59:59.5 UTC));
    check(office, &|_, context, _| context.time = datetime!(2026-12-02 12:00 +2));
}

#[test]
fn connecting_needs_its_own_right_and_cannot_wait() {
    let ask = |cedar: &str| {
        engine(cedar).may_connect(&agent(&["r"]), &orders(), &context(), "d-9".into())
    };
    let open = r#"permit (principal, action == Corral::Action::"connect", resource == Corral::Target::"orders-db");"#;
    assert_eq!(short(&ask(open)), "allow shop#1");
    let ruling = ask(r#"permit (principal, action in Corral::Action::"read", resource);"#);
    assert_eq!(text(&ruling), "no policy permits connecting to this target");
    assert_eq!(denial(&ruling.verdict).decision_id.as_deref(), Some("d-9"));
    let held = format!(
        "{open} @id(\"ask\") @approval(\"dba\") @reason(\"Ask first.\") forbid (principal, action, resource);"
    );
    let ruling = ask(&held);
    assert_eq!(short(&ruling), "deny ask");
    assert_eq!(text(&ruling), "Ask first. A connection cannot wait for an approval.");
}

#[test]
fn unmasking_is_a_right_on_columns() {
    let engine = engine(
        r#"
        permit (principal in Corral::Group::"fraud", action == Corral::Action::"unmask", resource in Corral::Target::"orders-db");
        permit (principal in Corral::Group::"support", action == Corral::Action::"unmask", resource == Corral::Column::"orders-db/public.customers.card_number");
        @approval("dba") forbid (principal in Corral::Group::"held", action == Corral::Action::"unmask", resource);
        forbid (principal == Corral::Run::"run-untrusted", action == Corral::Action::"unmask", resource);
        "#,
    );
    let check = |groups: &[&str], runs: &[&str], column: &str, expect: bool| {
        let groups = groups.iter().map(|name| group(name)).collect();
        let subject = Subject { groups, ..agent(runs) };
        let column = ColumnName::parse(column).expect(column);
        let may = engine.may_unmask(&subject, &orders(), &column, &context());
        assert_eq!(may, expect, "{subject:?} {column}");
    };
    let (ssn, card) = ("public.customers.ssn", "public.customers.card_number");
    check(&["fraud"], &[], ssn, true);
    check(&["fraud"], &["planner"], ssn, true);
    check(&["fraud"], &["untrusted", "executor"], ssn, false);
    check(&["fraud", "held"], &[], ssn, false);
    check(&["support"], &[], ssn, false);
    check(&["support"], &[], card, true);
    check(&["agents"], &[], card, false);
}

#[test]
fn refusals_name_the_missing_right_and_nothing_of_the_rules() {
    let engine = engine(
        r#"
        permit (principal, action == Corral::Action::"connect", resource);
        @id("no-drop") forbid (principal, action in Corral::Action::"drop_table", resource) unless { context.tls };
        "#,
    );
    let check = |facts: &Facts, expect: &str| {
        assert_eq!(text(&ask(&engine, &agent(&[]), facts)), expect);
    };
    let tables = ["public.e", "public.d", "public.c", "public.b", "public.a"];
    check(
        &statement(&[SELECT], &tables),
        "no policy permits `select` on public.a, public.b, public.c and 2 more",
    );
    check(&statement(&[SELECT], &[]), "no policy permits `select`");
    check(
        &statement(&[SELECT], &["public.Mixed"]),
        "no policy permits `select` on public.\"Mixed\"",
    );
    check(&statement(&[DO], &[]), "what `do` does cannot be told, and no policy permits `unknown`");
    let write = Facts { effects: Effects::of(Effect::Write), ..Facts::default() };
    check(&write, "this statement has the effect `write`, and no policy permits that");
    let unknown = Facts { effects: Effects::of(Effect::Unknown), ..Facts::default() };
    check(&unknown, "what this statement does cannot be told, and no policy permits `unknown`");
    let plain = Context { tls: false, ..context() };
    let facts = statement(&[DROP_TABLE], &["public.a"]);
    let ruling = engine.rule(&agent(&[]), &orders(), &facts, &plain, "d".into());
    assert_eq!(text(&ruling), "`drop_table` on public.a is forbidden");
}

#[test]
fn an_explanation_shows_every_rule_for_every_node() {
    let engine = engine(
        r#"permit (principal in Corral::Group::"agents", action, resource);
@id("held") @approval("dba") @reason("Ask.")
forbid (principal in Corral::Run::"run-planner", action in Corral::Action::"define", resource);"#,
    );
    let facts = statement(&[ALTER_TABLE], &["public.a"]);
    let explained = engine.explain(&agent(&["planner", "executor"]), &orders(), &facts, &context());
    assert_eq!((explained.outcome, explained.text.as_str()), (Outcome::Hold, "Ask."));
    let steps: Vec<String> = explained
        .steps
        .iter()
        .map(|step| {
            let rules: Vec<String> = step
                .rules
                .iter()
                .map(|rule| format!("{} {} {}:{}", rule.effect, rule.rule, rule.source, rule.line))
                .collect();
            let outcome = format!("{:?}", step.outcome);
            format!(
                "{}|{}|{}|{outcome}|{}",
                step.node,
                step.action,
                step.resource,
                rules.join(", ")
            )
        })
        .collect();
    let held = "approval held shop:2, permit shop#1 shop:1";
    assert_eq!(
        steps,
        [
            format!("run executor (run-executor)|alter_table|target orders-db|Hold|{held}"),
            format!("run planner (run-planner)|alter_table|target orders-db|Hold|{held}"),
            "workload nightly|alter_table|target orders-db|Allow|permit shop#1 shop:1".to_owned(),
        ]
    );
}
