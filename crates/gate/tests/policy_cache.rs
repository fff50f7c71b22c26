//! Decisions that are kept are the decisions that would be made.

mod support;

use std::sync::{Arc, LazyLock};

use corral_gate::policy::{
    Attribution, Context, DecisionCache, Engine, SessionDecisions, Subject, TargetFacts,
};
use corral_model::statement::Facts;
use corral_model::{Effect, Verb};
use proptest::prelude::*;
use support::*;
use time::Duration;

/// A question, each part of which one of the rules below reads.
#[derive(Debug, Clone)]
struct Ask {
    version: u64,
    subject: Subject,
    target: TargetFacts,
    facts: Facts,
    context: Context,
}

const RULES: &str = r#"
permit (principal, action, resource);
@id("user") forbid (principal, action, resource) when { principal is Corral::User };
@id("group") forbid (principal in Corral::Group::"barred", action, resource);
@id("run") forbid (principal in Corral::Run::"run-bad", action, resource);
@id("target") forbid (principal, action, resource in Corral::Target::"other-db");
@id("label") forbid (principal, action, resource) when { resource.hasTag("env") && resource.getTag("env") == "test" };
@id("verb") forbid (principal, action in Corral::Action::"delete", resource);
@id("effect") forbid (principal, action in Corral::Action::"administer", resource);
@id("object") forbid (principal, action, resource) when { context.objects.contains("public.secret") };
@id("function") forbid (principal, action, resource) when { context.functions.contains("public.f") };
@id("count") forbid (principal, action, resource) when { context.statement_count > 1 };
@id("depth") forbid (principal, action, resource) when { context.run_depth > 1 };
@id("attribution") forbid (principal, action, resource) when { context.attribution == "process" };
@id("transaction") forbid (principal, action, resource) when { context.in_transaction };
@id("tls") forbid (principal, action, resource) unless { context.tls };
@id("ip") forbid (principal, action, resource) when { context has source_ip && context.source_ip.isLoopback() };
"#;

fn first() -> Ask {
    Ask {
        version: 1,
        subject: agent(&["root"]),
        target: orders(),
        facts: statement(&[SELECT], &["public.a"]),
        context: context(),
    }
}

type Change = (&'static str, fn(&mut Ask));

/// Each part of the key, and a change of it that changes the answer.
const CHANGES: [Change; 15] = [
    ("version", |ask| ask.version = 2),
    ("user", |ask| ask.subject.principal = user("ada@example.com")),
    ("group", |ask| ask.subject.groups.push(group("barred"))),
    ("run", |ask| ask.subject.runs = agent(&["bad"]).runs),
    ("target", |ask| ask.target.name = "other-db".parse().expect("a name")),
    ("label", |ask| {
        ask.target.labels.insert("env".into(), "test".into());
    }),
    ("verb", |ask| ask.facts.verbs.push(DELETE)),
    ("effect", |ask| ask.facts.effects.insert(Effect::Administer)),
    ("object", |ask| ask.facts.objects = statement(&[SELECT], &["public.secret"]).objects),
    ("function", |ask| ask.facts.functions.push("public.f".into())),
    ("count", |ask| ask.facts.statement_count = 2),
    ("attribution", |ask| {
        ask.subject.runs.iter_mut().for_each(|run| run.attribution = Attribution::Process);
    }),
    ("transaction", |ask| ask.context.in_transaction = true),
    ("tls", |ask| ask.context.tls = false),
    ("ip", |ask| ask.context.source_ip = "127.0.0.1".parse().ok()),
];

static ENGINES: LazyLock<[Arc<Engine>; 2]> = LazyLock::new(|| {
    let second = format!("{RULES}\n@id(\"version\") forbid (principal, action, resource);");
    [engine_of(1, RULES), engine_of(2, &second)]
});

fn engine_for<'a>(engines: &'a [Arc<Engine>; 2], ask: &Ask) -> &'a Arc<Engine> {
    let [one, two] = engines;
    if ask.version == 1 { one } else { two }
}

fn uncached(engines: &[Arc<Engine>; 2], ask: &Ask) -> String {
    let engine = engine_for(engines, ask);
    short(&engine.rule(&ask.subject, &ask.target, &ask.facts, &ask.context, "d".into()))
}

fn shared(cache: &DecisionCache, engines: &[Arc<Engine>; 2], ask: &Ask) -> String {
    let (subject, target) = (Arc::new(ask.subject.clone()), Arc::new(ask.target.clone()));
    let facts = Arc::new(ask.facts.clone());
    let engine = engine_for(engines, ask);
    short(&cache.rule(engine, &subject, &target, &facts, &ask.context, "d".into()))
}

#[test]
fn every_part_of_the_key_changes_the_answer() {
    let (engines, cache) = (&*ENGINES, DecisionCache::new());
    assert_eq!(shared(&cache, engines, &first()), "allow shop#1");
    for (name, change) in CHANGES {
        let mut ask = first();
        change(&mut ask);
        let expect = uncached(engines, &ask);
        assert!(expect.starts_with("deny") && expect.contains(name), "{name}: {expect}");
        assert_eq!(shared(&cache, engines, &ask), expect, "{name}");
        assert_eq!(shared(&cache, engines, &ask), expect, "{name}, kept");
        assert_eq!(shared(&cache, engines, &first()), "allow shop#1", "after {name}");
    }
    assert_eq!(cache.len(), CHANGES.len() + 1);
}

#[test]
fn connecting_is_kept_apart_and_under_all_that_it_depends_on() {
    let (engines, cache) = (&*ENGINES, DecisionCache::new());
    let connect = |ask: &Ask| {
        let (subject, target) = (Arc::new(ask.subject.clone()), Arc::new(ask.target.clone()));
        let engine = engine_for(engines, ask);
        short(&cache.may_connect(engine, &subject, &target, &ask.context, "d".into()))
    };
    let mut denied = 0;
    for (name, change) in CHANGES {
        let mut ask = first();
        change(&mut ask);
        // A statement of no verbs is not the opening of a session.
        shared(&cache, engines, &Ask { facts: Facts::default(), ..ask.clone() });
        let engine = engine_for(engines, &ask);
        let asked = engine.may_connect(&ask.subject, &ask.target, &ask.context, "d".into());
        let expect = short(&asked);
        denied += usize::from(expect.starts_with("deny"));
        assert_eq!(connect(&ask), expect, "{name}");
        assert_eq!(connect(&ask), expect, "{name}, kept");
        assert_eq!(connect(&first()), "allow shop#1", "after {name}");
    }
    assert!(denied >= 8, "{denied} parts change whether one may connect");
}

#[test]
fn fields_that_no_rule_reads_are_no_part_of_the_key() {
    let (engine, cache) = (engine("permit (principal, action, resource);"), DecisionCache::new());
    let (subject, target) = (Arc::new(agent(&["r"])), Arc::new(orders()));
    let facts = Arc::new(statement(&[SELECT], &["public.a"]));
    let contexts = [
        context(),
        Context { in_transaction: true, ..context() },
        Context { tls: false, ..context() },
        Context { source_ip: None, ..context() },
        Context { time: context().time + Duration::days(1), ..context() },
    ];
    for (index, context) in contexts.iter().enumerate() {
        let id = format!("d-{index}");
        let ruling = cache.rule(&engine, &subject, &target, &facts, context, id.clone());
        assert_eq!(ruling.decision_id, id, "ids differ though the decision is kept");
    }
    assert_eq!(cache.len(), 1);
}

#[test]
fn what_hangs_on_the_time_is_never_kept() {
    let engine = engine(
        r#"permit (principal, action, resource);
           @id("night") forbid (principal, action in Corral::Action::"write", resource)
             when { context.time.toTime() < duration("8h") };"#,
    );
    let cache = DecisionCache::new();
    let mut session = SessionDecisions::new(Arc::new(agent(&["r"])), Arc::new(orders()));
    let night = Context { time: context().time - Duration::hours(6), ..context() };
    let mut check = |verb: Verb, context: &Context, expect: &str| {
        let facts = Arc::new(statement(&[verb], &["public.a"]));
        for _ in 0..2 {
            let ruling = session.rule(&engine, &cache, &facts, context, "d".into());
            assert_eq!(short(&ruling), expect);
        }
    };
    check(INSERT, &context(), "allow shop#1");
    check(INSERT, &night, "deny night");
    check(INSERT, &context(), "allow shop#1");
    assert_eq!(cache.len(), 0);
    check(SELECT, &night, "allow shop#1");
    assert_eq!(cache.len(), 1, "reading hangs on no rule that reads the time");
}

#[test]
fn another_engine_or_subject_empties_what_a_session_kept() {
    let cache = DecisionCache::new();
    let (one, two) = (engine_of(1, RULES), engine_of(2, "permit (principal, action, resource);"));
    let facts = Arc::new(statement(&[DELETE], &["public.a"]));
    let mut session = SessionDecisions::new(Arc::new(agent(&["r"])), Arc::new(orders()));
    let ask = |session: &mut SessionDecisions, engine: &Arc<Engine>| {
        short(&session.rule(engine, &cache, &facts, &context(), "d".into()))
    };
    assert_eq!(ask(&mut session, &one), "deny verb");
    assert_eq!(ask(&mut session, &two), "allow shop#1");
    assert_eq!(ask(&mut session, &one), "deny verb");
    let barred = Subject { groups: vec![group("barred")], ..agent(&["r"]) };
    session.renew(Arc::new(barred), Arc::new(orders()));
    assert_eq!(ask(&mut session, &one), "deny group verb");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn kept_answers_are_the_answers(
        picks in prop::collection::vec(prop::collection::vec(0..CHANGES.len(), 0..3), 1..30)
    ) {
        let (engines, cache) = (&*ENGINES, DecisionCache::new());
        let mut session: Option<SessionDecisions> = None;
        for pick in &picks {
            let mut ask = first();
            for index in pick {
                let (_, change) = CHANGES[*index];
                change(&mut ask);
            }
            let expect = uncached(engines, &ask);
            prop_assert_eq!(shared(&cache, engines, &ask), expect.clone());
            let (subject, target) = (Arc::new(ask.subject.clone()), Arc::new(ask.target.clone()));
            let session = session
                .get_or_insert_with(|| SessionDecisions::new(Arc::clone(&subject), Arc::clone(&target)));
            if **session.subject() != *subject || **session.target() != *target {
                session.renew(subject, target);
            }
            let facts = Arc::new(ask.facts.clone());
            let engine = engine_for(engines, &ask);
            for _ in 0..2 {
                let ruling = session.rule(engine, &cache, &facts, &ask.context, "d".into());
                prop_assert_eq!(short(&ruling), expect.clone());
            }
        }
    }
}
