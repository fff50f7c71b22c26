//! A slow and obvious gate, compared with the real one at random: every rule is given to Cedar for
//! every node, verb and object, without an index, without leaving any question out.

use std::collections::BTreeSet;

use cedar_policy::{Authorizer, PolicySet};
use corral_model::ids::{PolicyVersion, PrincipalName, ResourceName, RunId};
use corral_model::statement::Facts;
use corral_model::{Effect, Effects, ObjectRef, ObjectRole, Principal, Verb};
use proptest::prelude::*;
use time::macros::datetime;

use crate::decision::Verdict;
use crate::policy::engine::{Asked, Engine};
use crate::policy::requirement::{self, Need};
use crate::policy::rules::RuleEffect;
use crate::policy::subject::{
    Attribution, Context, PolicySource, ProtocolVerbs, RunNode, Subject, TargetFacts,
};

const VERBS: &[Verb] = &[
    Verb { name: "select", effect: Some(Effect::Read) },
    Verb { name: "insert", effect: Some(Effect::Write) },
    Verb { name: "update", effect: Some(Effect::Write) },
    Verb { name: "alter_table", effect: Some(Effect::Define) },
    Verb { name: "grant", effect: Some(Effect::Administer) },
    Verb { name: "listen", effect: None },
];

/// Outcome and rules, by asking everything.
fn reference(engine: &Engine, asked: &Asked<'_>) -> (&'static str, BTreeSet<String>) {
    let needed = requirement::of(asked.facts, engine.actions(), &|_| true);
    let question = engine.question(asked, &needed).expect("the test's names are valid");
    let of_effect = |is_permit: bool| {
        let rules = engine.rules().filter(|rule| rule.is_permit() == is_permit);
        PolicySet::from_policies(rules.map(|rule| rule.policy.clone())).expect("ids are unique")
    };
    let (permits, forbids) = (of_effect(true), of_effect(false));
    let mut plain: BTreeSet<String> = BTreeSet::new();
    let mut held: BTreeSet<String> = BTreeSet::new();
    let mut permitted: BTreeSet<String> = BTreeSet::new();
    let (mut is_missing, mut is_broken) = (false, false);
    for node in &question.nodes {
        for requirement in &needed {
            let request = question.request(node, requirement).expect("a valid request");
            let ask = |set: &PolicySet| {
                Authorizer::new().is_authorized(&request, set, question.entities())
            };
            let (permits, forbids) = (ask(&permits), ask(&forbids));
            let errors = [&permits, &forbids].map(|answer| answer.diagnostics().errors().count());
            is_broken |= errors != [0, 0];
            if requirement.need == Need::Permit {
                is_missing |= permits.diagnostics().reason().next().is_none();
            }
            for rule in engine.rules() {
                let id = rule.policy.id();
                if forbids.diagnostics().reason().any(|found| found == id) {
                    let is_plain = rule.effect == RuleEffect::Forbid;
                    if is_plain { &mut plain } else { &mut held }.insert(rule.name.clone());
                }
                if permits.diagnostics().reason().any(|found| found == id) {
                    permitted.insert(rule.name.clone());
                }
            }
        }
    }
    if is_broken {
        ("deny", ["policy-error".to_owned()].into())
    } else if !plain.is_empty() {
        ("deny", plain)
    } else if is_missing {
        ("deny", BTreeSet::new())
    } else if !held.is_empty() {
        ("hold", held)
    } else {
        ("allow", permitted)
    }
}

fn real(engine: &Engine, asked: &Asked<'_>) -> (&'static str, BTreeSet<String>) {
    let judged = engine.judge(asked.subject, asked.target, asked.facts, asked.context);
    let outcome = match judged.verdict {
        Verdict::Allow => "allow",
        Verdict::Deny(_) => "deny",
        Verdict::Hold(_) => "hold",
    };
    (outcome, judged.rules.iter().cloned().collect())
}

const PRINCIPALS: [&str; 8] = [
    "principal",
    "principal in Corral::Group::\"a\"",
    "principal in Corral::Group::\"b\"",
    "principal in Corral::Workload::\"w\"",
    "principal == Corral::Workload::\"w\"",
    "principal in Corral::Run::\"r-1\"",
    "principal == Corral::Run::\"r-0\"",
    "principal is Corral::Run",
];

const ACTIONS: [&str; 7] = [
    "action",
    "action in Corral::Action::\"read\"",
    "action in [Corral::Action::\"read\", Corral::Action::\"write\"]",
    "action in [Corral::Action::\"connect\", Corral::Action::\"define\"]",
    "action == Corral::Action::\"insert\"",
    "action in Corral::Action::\"administer\"",
    "action in Corral::Action::\"listen\"",
];

// What is rare in random rules stands here more than once.
const RESOURCES: [&str; 10] = [
    "resource",
    "resource",
    "resource",
    "resource in Corral::Target::\"t\"",
    "resource in Corral::Target::\"t\"",
    "resource in Corral::Target::\"u\"",
    "resource in Corral::Schema::\"t/s\"",
    "resource in Corral::Table::\"t/s.a\"",
    "resource is Corral::Table",
    "resource == Corral::Table::\"t/p.b\"",
];

const CONDITIONS: [&str; 8] = [
    "",
    "when { context.in_transaction }",
    "unless { resource.hasTag(\"env\") }",
    "when { resource has name && resource.name == \"a\" }",
    "when { resource has schema && resource.schema == \"s\" }",
    "when { principal is Corral::Run && principal.depth > 0 }",
    "when { context.objects.contains(\"s.a\") }",
    "when { context.statement_count * 9223372036854775807 > 1 }",
];

fn pick(texts: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(texts)
}

fn rule() -> impl Strategy<Value = String> {
    let kind = prop_oneof![
        5 => Just("permit"),
        2 => Just("forbid"),
        2 => Just("@approval(\"g\") forbid"),
    ];
    (kind, pick(&PRINCIPALS), pick(&ACTIONS), pick(&RESOURCES), pick(&CONDITIONS)).prop_map(
        |(kind, principal, action, resource, condition)| {
            format!("{kind} ({principal}, {action}, {resource}) {condition};\n")
        },
    )
}

fn facts() -> impl Strategy<Value = Facts> {
    let object = (pick(&["s", "p"]), pick(&["a", "b"]), 0..4usize, pick(&["table", "function"]));
    let objects = prop::collection::vec(object, 0..4);
    let verbs = prop::collection::vec(0..VERBS.len(), 0..3);
    let extra = prop::option::weighted(0.2, prop::sample::select(&Effect::ALL[..]));
    (verbs, objects, extra, 0..3u32).prop_map(|(verbs, objects, extra, statement_count)| {
        let roles = [ObjectRole::Read, ObjectRole::Write, ObjectRole::Define, ObjectRole::Reached];
        let verbs: BTreeSet<Verb> = verbs.into_iter().map(|index| VERBS[index]).collect();
        let mut effects: Effects = verbs.iter().filter_map(|verb| verb.effect).collect();
        effects.extend(extra.map_or(Effects::NONE, Effects::of));
        let objects: BTreeSet<ObjectRef> = objects
            .into_iter()
            .map(|(schema, name, role, kind)| ObjectRef {
                schema: schema.to_owned(),
                name: name.to_owned(),
                kind: kind.to_owned(),
                role: roles[role],
            })
            .collect();
        Facts {
            verbs: verbs.into_iter().collect(),
            effects,
            objects: objects.into_iter().collect(),
            statement_count,
            ..Facts::default()
        }
    })
}

fn subject() -> impl Strategy<Value = Subject> {
    (0..4usize, prop::sample::subsequence(vec!["a", "b"], 0..=2)).prop_map(|(runs, groups)| {
        let node = |index: usize| RunNode {
            id: RunId::new(format!("r-{index}")).expect("a run's id"),
            name: format!("run {index}"),
            attribution: Attribution::default(),
            actions: Vec::new(),
        };
        Subject {
            principal: Principal::workload(PrincipalName::new("w").expect("a name")),
            groups: groups.iter().map(|name| name.parse().expect("a name")).collect(),
            runs: (0..runs).map(node).collect(),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_indexed_engine_says_what_asking_everything_says(
        rules in prop::collection::vec(rule(), 1..7),
        asks in prop::collection::vec((facts(), subject(), any::<[bool; 3]>()), 1..6)
    ) {
        // So that more than the default denial is compared.
        let everything = "permit (principal, action, resource);\n".to_owned();
        let cedar: String = std::iter::once(everything).chain(rules).collect();
        for cedar in [cedar.clone(), cedar.lines().skip(1).collect()] {
            let source = PolicySource { name: ResourceName::new("x").expect("a name"), cedar };
            let protocols = [ProtocolVerbs { protocol: "test", verbs: VERBS, attributes: &[] }];
            let engine = Engine::compile(PolicyVersion(1), &[source], &protocols, &[]);
            // What the checks refuse is not compared.
            let Ok(engine) = engine else { continue };
            for (facts, subject, [in_transaction, is_labelled, is_other]) in &asks {
                let label = ("env".to_owned(), "prod".to_owned());
                let target = TargetFacts {
                    name: if *is_other { "u" } else { "t" }.parse().expect("a name"),
                    protocol: "test".into(),
                    labels: is_labelled.then_some(label).into_iter().collect(),
                };
                let context = Context {
                    in_transaction: *in_transaction,
                    time: datetime!(2026-01-01 0:00 UTC),
                    tls: false,
                    source_ip: None,
                };
                let asked = Asked { subject, target: &target, facts, context: &context };
                let (outcome, rules) = real(&engine, &asked);
                let (expect, expect_rules) = reference(&engine, &asked);
                prop_assert_eq!(outcome, expect);
                if outcome != "allow" {
                    prop_assert_eq!(rules, expect_rules);
                }
            }
        }
    }
}
