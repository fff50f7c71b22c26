//! Counters of limits against a slow and obvious reference, and against many threads at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corral_gate::budget::{
    Bound, LimitError, Opening, RunBounds, RunBudget, SessionLedger, SpentKind, TargetScope, Used,
    check_limit, clamp_ttl, run_bounds, session_bounds,
};
use corral_gate::policy::TargetFacts;
use corral_gate::{Denial, DenialKind};
use corral_model::ids::{GroupName, PrincipalName, ResourceName, RunId, TargetName};
use corral_model::limits;
use corral_model::resource::{
    ByteSize, HumanDuration, LimitSpec, LimitSubject, LimitTarget, RunLimits,
};
use corral_model::{Effect, Effects, Principal};
use proptest::prelude::*;

const READ: Effects = Effects::of(Effect::Read);

fn workload(name: &str) -> Principal {
    Principal::workload(PrincipalName::new(name).expect("a name"))
}

fn target(name: &str, env: &str) -> TargetFacts {
    TargetFacts {
        name: TargetName::new(name).expect("a name"),
        protocol: "postgres".into(),
        labels: [("env".to_owned(), env.to_owned())].into(),
    }
}

fn run_id(name: &str) -> RunId {
    RunId::new(name).expect("an id")
}

fn limit(name: &str, subject: LimitSubject) -> LimitSpec {
    LimitSpec {
        name: ResourceName::new(name).expect("a name"),
        subject,
        target: None,
        sessions_max: None,
        session_ttl: None,
        idle_timeout: None,
        run: None,
    }
}

fn agents() -> LimitSubject {
    LimitSubject::Group(GroupName::new("agents").expect("a name"))
}

fn groups() -> Vec<GroupName> {
    vec![GroupName::new("agents").expect("a name")]
}

fn bound(max: u64) -> Option<Bound<u64>> {
    Some(Bound { max, limit: ResourceName::new("agents").ok() })
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

#[test]
fn limits_match_by_subject_and_target() {
    let nightly = PrincipalName::new("nightly").expect("a name");
    let check =
        |subject: LimitSubject, wanted: Option<(Option<&str>, Option<&str>)>, expect: bool| {
            let wanted = wanted.map(|(name, label)| LimitTarget {
                name: name.map(|name| TargetName::new(name).expect("a name")),
                label: label.map(str::to_owned),
            });
            let spec = LimitSpec { target: wanted, sessions_max: Some(1), ..limit("x", subject) };
            let orders = target("orders-db", "prod");
            let bounds = session_bounds(
                std::slice::from_ref(&spec),
                &workload("nightly"),
                &groups(),
                &orders,
                std::slice::from_ref(&orders),
            );
            assert_eq!(bounds.ceilings.len(), usize::from(expect), "{spec:?}");
        };
    check(agents(), None, true);
    check(LimitSubject::Group(GroupName::new("dba").expect("a name")), None, false);
    check(LimitSubject::Workload(nightly.clone()), None, true);
    check(LimitSubject::User(nightly), None, false);
    check(LimitSubject::Any(true), None, true);
    check(LimitSubject::Any(false), None, false);
    check(agents(), Some((Some("orders-db"), None)), true);
    check(agents(), Some((Some("other-db"), None)), false);
    check(agents(), Some((None, Some("env=prod"))), true);
    check(agents(), Some((None, Some("env=test"))), false);
    check(agents(), Some((None, Some("team=shop"))), false);
    check(agents(), Some((Some("orders-db"), Some("env=test"))), false);
}

#[test]
fn the_smallest_of_several_limits_decides_and_is_named() {
    let strict = LimitSpec {
        session_ttl: Some(HumanDuration(minutes(10))),
        run: Some(RunLimits {
            ttl_max: Some(HumanDuration(minutes(60))),
            statements_max: Some(100),
            bytes_max: Some(ByteSize(1 << 30)),
            ..RunLimits::default()
        }),
        ..limit("strict", agents())
    };
    let loose = LimitSpec {
        session_ttl: Some(HumanDuration(minutes(20))),
        idle_timeout: Some(HumanDuration(minutes(5))),
        run: Some(RunLimits {
            ttl_max: Some(HumanDuration(minutes(30))),
            statements_max: Some(200),
            ..RunLimits::default()
        }),
        ..limit("loose", LimitSubject::Any(true))
    };
    let orders = target("orders-db", "prod");
    for all in [[strict.clone(), loose.clone()], [loose, strict]] {
        let bounds = session_bounds(&all, &workload("n"), &groups(), &orders, &[]);
        let named = |limit: &Option<ResourceName>| limit.as_ref().map(ToString::to_string);
        let ttl = bounds.ttl.expect("both say one");
        assert_eq!((ttl.max, named(&ttl.limit).as_deref()), (minutes(10), Some("strict")));
        assert_eq!(bounds.idle_timeout.map(|bound| bound.max), Some(minutes(5)));
        let run = run_bounds(&all, &workload("n"), &groups());
        let statements = run.statements.clone().expect("both say one");
        assert_eq!((statements.max, named(&statements.limit).as_deref()), (100, Some("strict")));
        assert_eq!(run.bytes.as_ref().map(|bound| bound.max), Some(1 << 30));
        assert_eq!(run.rows, None);
        assert_eq!(clamp_ttl(Some(minutes(90)), &run, Duration::ZERO, None), minutes(30));
    }
}

#[test]
fn a_ttl_is_never_longer_than_anything_above_it() {
    let check = |asked: Option<u64>, limit: Option<u64>, parent: Option<u64>, expect: Duration| {
        let ttl = limit.map(|max| Bound { max: minutes(max), limit: None });
        let bounds = RunBounds { ttl, ..RunBounds::default() };
        assert_eq!(
            clamp_ttl(asked.map(minutes), &bounds, Duration::ZERO, parent.map(minutes)),
            expect
        );
    };
    check(None, None, None, limits::RUN_TTL);
    check(None, Some(5), None, minutes(5));
    check(Some(30), None, None, minutes(30));
    check(Some(30), Some(60), Some(20), minutes(20));
    check(Some(1_000_000), None, None, limits::RUN_TTL_MAX);
    check(Some(30), None, Some(0), Duration::ZERO);
}

#[test]
fn limits_that_say_nothing_or_too_much_are_refused() {
    let with_target = |name: Option<&str>, label: Option<&str>, run: Option<RunLimits>| LimitSpec {
        target: Some(LimitTarget {
            name: name.map(|name| TargetName::new(name).expect("a name")),
            label: label.map(str::to_owned),
        }),
        run,
        ..limit("x", agents())
    };
    let name = || ResourceName::new("x").expect("a name");
    assert_eq!(check_limit(&limit("x", agents())), Ok(()));
    assert_eq!(check_limit(&with_target(Some("a"), Some("env=prod"), None)), Ok(()));
    let with_run = with_target(Some("a"), None, Some(RunLimits::default()));
    assert_eq!(check_limit(&with_run), Err(LimitError::RunWithTarget(name())));
    assert_eq!(check_limit(&with_target(None, None, None)), Err(LimitError::EmptyTarget(name())));
    assert_eq!(
        check_limit(&with_target(None, Some("prod"), None)),
        Err(LimitError::BadLabel(name(), "prod".into()))
    );
    assert_eq!(
        check_limit(&limit("x", LimitSubject::Any(false))),
        Err(LimitError::MatchesNobody(name()))
    );
}

#[test]
fn a_hundred_connections_at_once_let_in_exactly_five() {
    let spec = LimitSpec { sessions_max: Some(5), ..limit("agents", agents()) };
    let orders = target("orders-db", "prod");
    let principal = workload("nightly");
    let bounds = session_bounds(&[spec], &principal, &groups(), &orders, &[]);
    let ledger = Arc::new(Mutex::new(SessionLedger::new()));
    let budget = RunBudget::root(run_id("root"), RunBounds::default(), Used::default());
    let try_open = || {
        let runs = budget.session_bounds();
        let opening = Opening {
            principal: &principal,
            target: &orders.name,
            ceilings: &bounds.ceilings,
            runs: &runs,
        };
        ledger.lock().expect("no panic holds it").try_open(&opening)
    };
    for _ in 0..3 {
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..100).map(|_| scope.spawn(try_open)).collect();
            threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
        });
        let (tickets, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!((tickets.len(), refused.len()), (5, 95));
        for spent in refused.into_iter().filter_map(Result::err) {
            let denial = Denial::from(spent);
            assert_eq!(denial.kind, DenialKind::TooManySessions);
            let sentence = "corral: agents: at most 5 sessions at once are allowed";
            assert_eq!(denial.sentence(), sentence);
        }
        let mut ledger = ledger.lock().expect("no panic holds it");
        tickets.into_iter().flatten().for_each(|ticket| ledger.close(ticket));
        assert_eq!(ledger.open(), 0);
        assert_eq!(ledger.open_in_run(&run_id("root")), 0);
    }
}

#[test]
fn ceilings_count_what_was_open_before_they_were_made() {
    let mut ledger = SessionLedger::new();
    let (orders, test) = (target("orders-db", "prod"), target("test-db", "test"));
    let principal = workload("nightly");
    let open = |ledger: &mut SessionLedger, to: &TargetFacts, all: &[LimitSpec]| {
        let targets = [orders.clone(), test.clone()];
        let bounds = session_bounds(all, &principal, &groups(), to, &targets);
        let opening = Opening {
            principal: &principal,
            target: &to.name,
            ceilings: &bounds.ceilings,
            runs: &[],
        };
        ledger.try_open(&opening)
    };
    let first = open(&mut ledger, &orders, &[]).expect("no limit");
    let _second = open(&mut ledger, &test, &[]).expect("no limit");
    let prod = LimitSpec {
        sessions_max: Some(2),
        target: Some(LimitTarget { name: None, label: Some("env=prod".into()) }),
        ..limit("prod", agents())
    };
    let all = [prod];
    let _third = open(&mut ledger, &orders, &all).expect("one is open to prod");
    assert!(open(&mut ledger, &orders, &all).is_err());
    assert!(open(&mut ledger, &test, &all).is_ok());
    ledger.close(first);
    assert!(open(&mut ledger, &orders, &all).is_ok());
    let other = workload("weekly");
    assert_eq!(ledger.open_of(&other, &TargetScope::All), 0);
}

#[test]
fn sessions_of_a_run_count_for_its_ancestors() {
    let mut ledger = SessionLedger::new();
    let bounds = RunBounds { sessions: bound(2), ..RunBounds::default() };
    let root = RunBudget::root(run_id("root"), bounds, Used::default());
    let child = |name: &str| {
        let child = root.child(run_id(name), RunBounds::default(), Used::default());
        child.expect("there is room for children")
    };
    let (one, two) = (child("one"), child("two"));
    let mut open = |run: &RunBudget| {
        let opening = Opening {
            principal: &workload("nightly"),
            target: &target("orders-db", "prod").name,
            ceilings: &[],
            runs: &run.session_bounds(),
        };
        ledger.try_open(&opening)
    };
    let _first = open(&one).expect("the first");
    let _second = open(&two).expect("the second");
    let spent = open(&one).expect_err("the root's two are open");
    assert_eq!((spent.kind, spent.run), (SpentKind::Sessions, Some(run_id("root"))));
}

#[test]
fn children_are_counted_while_they_live() {
    let bounds = RunBounds { children: bound(2), ..RunBounds::default() };
    let root = RunBudget::root(run_id("root"), bounds, Used::default());
    let child = |name: &str| root.child(run_id(name), RunBounds::default(), Used::default());
    let (one, two) = (child("one").expect("first"), child("two").expect("second"));
    let spent = child("three").expect_err("two live");
    assert_eq!((spent.kind, spent.max), (SpentKind::Children, 2));
    one.end();
    one.end();
    assert_eq!(root.children(), 1, "ending twice frees one place");
    let _three = child("three").expect("one ended");
    drop(two);
    assert_eq!(root.children(), 1, "a dropped run is an ended run");
}

#[test]
fn depth_is_bounded_by_every_ancestor_and_by_the_gateway() {
    let depth =
        |max: u32| RunBounds { depth: Some(Bound { max, limit: None }), ..RunBounds::default() };
    let child = |parent: &Arc<RunBudget>, bounds: RunBounds| {
        parent.child(run_id("child"), bounds, Used::default())
    };
    let root = RunBudget::root(run_id("root"), depth(2), Used::default());
    let one = child(&root, depth(9)).expect("depth 1");
    let two = child(&one, depth(9)).expect("depth 2");
    let spent = child(&two, depth(9)).expect_err("depth 3 below a root that allows 2");
    assert_eq!((spent.kind, spent.run), (SpentKind::Depth, Some(run_id("root"))));
    let mut deepest = RunBudget::root(run_id("root"), RunBounds::default(), Used::default());
    for _ in 0..limits::RUN_DEPTH_MAX {
        deepest = child(&deepest, RunBounds::default()).expect("the gateway allows it");
    }
    assert!(child(&deepest, RunBounds::default()).is_err());
}

#[test]
fn rows_that_pass_a_ceiling_end_the_session_and_stop_the_next_statement() {
    let bounds = RunBounds { rows: bound(10), bytes: bound(1_000), ..RunBounds::default() };
    let root = RunBudget::root(run_id("root"), bounds, Used::default());
    let child = root.child(run_id("child"), RunBounds::default(), Used::default());
    let child = child.expect("there is room");
    assert_eq!(child.charge_statement(READ, 1), Ok(()));
    assert_eq!(child.charge(10, 400), Ok(()));
    let spent = child.charge_statement(READ, 1).expect_err("all ten rows were sent");
    let sentence = Denial::from(spent).sentence();
    assert_eq!(sentence, "corral: agents: at most 10 rows are allowed in run root");
    assert_eq!(child.charge(1, 0).map_err(|spent| spent.kind), Err(SpentKind::Rows));
    assert_eq!(root.used(), Used { statements: 1, writes: 0, rows: 11, bytes: 400 });
    root.set_bounds(RunBounds { bytes: bound(400), ..RunBounds::default() });
    let spent = child.charge_statement(READ, 1).map_err(|spent| spent.kind);
    assert_eq!(spent, Err(SpentKind::Bytes));
    root.set_bounds(RunBounds::default());
    assert_eq!(child.charge_statement(READ, 1), Ok(()));
}

#[test]
fn a_text_of_several_statements_counts_as_so_many() {
    let bounds = RunBounds { statements: bound(5), writes: bound(3), ..RunBounds::default() };
    let root = RunBudget::root(run_id("root"), bounds, Used::default());
    let write = Effects::of(Effect::Write);
    assert_eq!(root.charge_statement(write, 4).map_err(|spent| spent.kind), Err(SpentKind::Writes));
    assert_eq!(root.used().statements, 0, "all of it or nothing");
    assert_eq!(root.charge_statement(write, 3), Ok(()));
    assert_eq!(root.charge_statement(READ, 3).map_err(|s| s.kind), Err(SpentKind::Statements));
    assert_eq!(root.charge_statement(READ, 0), Ok(()), "an empty text");
    assert_eq!(root.charge_statement(READ, 1), Ok(()));
    assert_eq!(root.used(), Used { statements: 5, writes: 3, rows: 0, bytes: 0 });
}

#[test]
fn statements_charged_by_many_threads_are_charged_exactly() {
    let bounds = RunBounds { statements: bound(50), ..RunBounds::default() };
    let used = Used { statements: 10, ..Used::default() };
    let root = RunBudget::root(run_id("root"), bounds, used);
    let children: Vec<_> = (0..4)
        .map(|index| {
            root.child(run_id(&format!("c-{index}")), RunBounds::default(), Used::default())
                .expect("there is room")
        })
        .collect();
    let allowed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = children
            .iter()
            .map(|child| {
                scope.spawn(|| (0..100).filter(|_| child.charge_statement(READ, 1).is_ok()).count())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).sum()
    });
    assert_eq!(allowed, 40);
    assert_eq!(root.used().statements, 50);
    let below: u64 = children.iter().map(|child| child.used().statements).sum();
    assert_eq!(below, 40, "what an ancestor refused is not charged below");
}

/// A step of a random life of a run tree. Runs are numbered in the order of their start.
#[derive(Debug, Clone)]
enum Step {
    Start { parent: usize, bounds: [Option<u64>; 4] },
    End { run: usize },
    Statement { run: usize },
    Charge { run: usize, rows: u64, bytes: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let max = || prop::option::of(0u64..6);
    let bounds = [max(), max(), max(), max()];
    prop_oneof![
        2 => (0usize..8, bounds).prop_map(|(parent, bounds)| Step::Start { parent, bounds }),
        1 => (0usize..8).prop_map(|run| Step::End { run }),
        6 => (0usize..8).prop_map(|run| Step::Statement { run }),
        3 => (0usize..8, 0u64..3, 0u64..3)
            .prop_map(|(run, rows, bytes)| Step::Charge { run, rows, bytes }),
    ]
}

/// The reference: plain numbers, every question answered by walking up.
#[derive(Debug, Default)]
struct Reference {
    parents: BTreeMap<usize, Option<usize>>,
    /// Children, statements, rows, bytes.
    bounds: BTreeMap<usize, [Option<u64>; 4]>,
    used: BTreeMap<usize, [u64; 4]>,
    ended: BTreeMap<usize, bool>,
}

impl Reference {
    fn chain(&self, run: usize) -> Vec<usize> {
        let mut chain = vec![run];
        let mut at = run;
        while let Some(Some(parent)) = self.parents.get(&at) {
            chain.push(*parent);
            at = *parent;
        }
        chain
    }

    fn max(&self, run: usize, what: usize) -> u64 {
        self.bounds[&run][what].unwrap_or(u64::MAX)
    }

    fn may_state(&self, run: usize) -> bool {
        self.chain(run).iter().all(|node| {
            let used = self.used[node];
            let is_spent = |what: usize| used[what] > 0 && used[what] >= self.max(*node, what);
            used[1] < self.max(*node, 1) && !is_spent(2) && !is_spent(3)
        })
    }

    fn add(&mut self, run: usize, what: usize, amount: u64) -> bool {
        let mut is_within = true;
        for node in self.chain(run) {
            let used = self.used.entry(node).or_default();
            used[what] += amount;
            let used = used[what];
            is_within &= used <= self.max(node, what);
        }
        is_within
    }
}

fn as_bounds([children, statements, rows, bytes]: [Option<u64>; 4]) -> RunBounds {
    RunBounds {
        children: children.and_then(bound),
        statements: statements.and_then(bound),
        rows: rows.and_then(bound),
        bytes: bytes.and_then(bound),
        ..RunBounds::default()
    }
}

proptest! {
    #[test]
    fn a_child_is_never_allowed_what_an_ancestor_is_not(
        first in [prop::option::of(0u64..9), prop::option::of(0u64..9), prop::option::of(0u64..9), prop::option::of(0u64..9)],
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let mut reference = Reference::default();
        let add = |reference: &mut Reference, parent: Option<usize>, bounds| {
            let number = reference.parents.len();
            reference.parents.insert(number, parent);
            reference.bounds.insert(number, bounds);
            reference.used.insert(number, [0; 4]);
        };
        let mut runs = vec![RunBudget::root(run_id("r-0"), as_bounds(first), Used::default())];
        add(&mut reference, None, first);
        for step in steps {
            match step {
                Step::Start { parent, bounds } => {
                    let parent = parent % runs.len();
                    let is_allowed = reference.used[&parent][0] < reference.max(parent, 0);
                    let id = run_id(&format!("r-{}", runs.len()));
                    let child = runs[parent].child(id, as_bounds(bounds), Used::default());
                    if runs[parent].depth() >= limits::RUN_DEPTH_MAX {
                        prop_assert!(child.is_err());
                        continue;
                    }
                    prop_assert_eq!(child.is_ok(), is_allowed);
                    if let Ok(child) = child {
                        runs.push(child);
                        add(&mut reference, Some(parent), bounds);
                        reference.used.entry(parent).or_default()[0] += 1;
                    }
                }
                Step::End { run } => {
                    let run = run % runs.len();
                    runs[run].end();
                    let was_ended = reference.ended.insert(run, true).unwrap_or(false);
                    if let (false, Some(Some(parent))) = (was_ended, reference.parents.get(&run)) {
                        reference.used.entry(*parent).or_default()[0] -= 1;
                    }
                }
                Step::Statement { run } => {
                    let run = run % runs.len();
                    let is_allowed = reference.may_state(run);
                    if is_allowed {
                        reference.add(run, 1, 1);
                    }
                    prop_assert_eq!(runs[run].charge_statement(READ, 1).is_ok(), is_allowed);
                }
                Step::Charge { run, rows, bytes } => {
                    let run = run % runs.len();
                    let has_rows = reference.add(run, 2, rows);
                    let has_bytes = reference.add(run, 3, bytes);
                    prop_assert_eq!(runs[run].charge(rows, bytes).is_ok(), has_rows && has_bytes);
                }
            }
            for (number, run) in runs.iter().enumerate() {
                let [children, statements, rows, bytes] = reference.used[&number];
                prop_assert_eq!(run.children(), children);
                prop_assert_eq!(run.used(), Used { statements, writes: 0, rows, bytes });
            }
        }
    }
}
