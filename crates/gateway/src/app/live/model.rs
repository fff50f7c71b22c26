//! The run tree written down a second time, slowly and obviously, and compared with the real one
//! at random. This file is the definition: a run may do something when it and every run above it
//! is active, within its time, granted the target and the action, and has budget left.
//!
//! `CORRAL_TREE_CASES` chooses how many cases; `CORRAL_TREE_SEED` repeats one run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use corral_gate::budget::{Bound, RunBounds, RunBudget};
use corral_gate::policy::{Engine, ProtocolVerbs, RunNode, TargetFacts};
use corral_model::ids::{PolicyVersion, PrincipalName, TargetName};
use corral_model::statement::Facts;
use corral_model::{Effect, Effects, Principal, Run, RunId, RunState, Used, Verb, limits};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::runs::{Age, Lease, LeaseTerms, LiveRun, RunTree};

/// Questions that are compared, at least. Issue 5 asks for a million.
const CASES: u64 = 1_000_000;
/// Operations in the life of one tree: long enough for deep ones, short enough to stay varied.
const OPERATIONS: u64 = 250;
/// Runs of one tree, ended ones included.
const RUNS_MAX: usize = 24;

const VERBS: [Verb; 5] = [
    Verb { name: "select", effect: Some(Effect::Read) },
    Verb { name: "update", effect: Some(Effect::Write) },
    Verb { name: "delete", effect: Some(Effect::Write) },
    Verb { name: "alter_table", effect: Some(Effect::Define) },
    Verb { name: "begin", effect: None },
];
const ACTIONS: [&str; 7] = ["read", "write", "define", "select", "update", "delete", "alter_table"];
const TARGETS: [&str; 3] = ["orders", "billing", "plain"];

/// The slow tree. Times are seconds since the start of the tree's life.
#[derive(Debug, Default)]
struct Model {
    runs: Vec<ModelRun>,
}

#[derive(Debug)]
struct ModelRun {
    parent: Option<usize>,
    is_ended: bool,
    targets: Vec<&'static str>,
    actions: Vec<&'static str>,
    started: u64,
    ends: u64,
    renew_within: Option<u64>,
    renewed: u64,
    max: Budgets,
    used: Used,
}

#[derive(Debug, Clone, Copy, Default)]
struct Budgets {
    ttl: Option<u64>,
    wall_time: Option<u64>,
    statements: Option<u64>,
    writes: Option<u64>,
    rows: Option<u64>,
}

impl Model {
    /// The run itself, its parent, and so on.
    fn chain(&self, run: usize) -> Vec<usize> {
        let mut chain = vec![run];
        let mut at = run;
        while let Some(parent) = self.runs[at].parent {
            chain.push(parent);
            at = parent;
        }
        chain
    }

    fn is_live(&self, run: usize, now: u64) -> bool {
        self.chain(run).into_iter().all(|at| {
            let run = &self.runs[at];
            let is_renewed = run.renew_within.is_none_or(|within| now < run.renewed + within);
            !run.is_ended && now < run.ends && is_renewed
        })
    }

    fn may_use(&self, run: usize, target: &str) -> bool {
        self.chain(run).into_iter().all(|at| {
            let targets = &self.runs[at].targets;
            targets.is_empty() || targets.contains(&target)
        })
    }

    fn is_granted(&self, run: usize, verb: Verb) -> bool {
        let Some(effect) = verb.effect else { return true };
        self.chain(run).into_iter().all(|at| {
            let actions = &self.runs[at].actions;
            actions.is_empty() || actions.contains(&verb.name) || actions.contains(&effect.name())
        })
    }

    /// Whether one more statement fits everywhere; then it is counted everywhere.
    fn charge(&mut self, run: usize, verb: Verb) -> bool {
        let is_write = verb.effect.is_some_and(|effect| effect != Effect::Read);
        let chain = self.chain(run);
        let fits = chain.iter().all(|at| {
            let Used { statements, writes, rows, .. } = self.runs[*at].used;
            let max = self.runs[*at].max;
            max.statements.is_none_or(|max| statements < max)
                && (!is_write || max.writes.is_none_or(|max| writes < max))
                && max.rows.is_none_or(|max| rows == 0 || rows < max)
        });
        if fits {
            for at in chain {
                self.runs[at].used.statements += 1;
                self.runs[at].used.writes += u64::from(is_write);
            }
        }
        fits
    }

    /// Rows that were sent are counted whether they fit or not.
    fn charge_rows(&mut self, run: usize, rows: u64) -> bool {
        let mut fits = true;
        for at in self.chain(run) {
            self.runs[at].used.rows += rows;
            fits &= self.runs[at].max.rows.is_none_or(|max| self.runs[at].used.rows <= max);
        }
        fits
    }

    /// When a run that asks for so long at this moment would end.
    fn end_of(
        &self,
        parent: Option<usize>,
        asked: u64,
        max: Budgets,
        started: u64,
        now: u64,
    ) -> u64 {
        let above = parent.map(|parent| self.chain(parent)).unwrap_or_default();
        let ends_above = above.into_iter().map(|at| self.runs[at].ends);
        let own = [
            Some(now + asked),
            max.ttl.map(|ttl| now + ttl),
            max.wall_time.map(|wall_time| (started + wall_time).max(now)),
        ];
        let longest = now + limits::RUN_TTL_MAX.as_secs();
        own.into_iter().flatten().chain(ends_above).fold(longest, u64::min).max(now)
    }

    fn end(&mut self, run: usize) {
        for at in 0..self.runs.len() {
            if self.chain(at).contains(&run) {
                self.runs[at].is_ended = true;
            }
        }
    }

    /// What no sequence of operations may break, whatever the code says.
    fn check(&self, now: u64) {
        for (at, run) in self.runs.iter().enumerate() {
            let Some(parent) = run.parent else { continue };
            if self.is_live(at, now) {
                assert!(self.is_live(parent, now), "run {at} outlives its parent");
            }
            for verb in VERBS {
                if self.is_granted(at, verb) {
                    assert!(self.is_granted(parent, verb), "run {at} has more than its parent");
                }
            }
        }
    }
}

/// Numbers that look random and repeat with their seed (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("less than a length")
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn maybe(&mut self, bound: u64) -> Option<u64> {
        self.one_in(3).then(|| self.below(bound))
    }

    fn some_of(&mut self, names: &[&'static str]) -> Vec<&'static str> {
        if !self.one_in(2) {
            return Vec::new();
        }
        names.iter().copied().filter(|_| self.one_in(2)).collect()
    }
}

/// Both trees, side by side.
struct World<'a> {
    engine: &'a Engine,
    facts: &'a [Facts],
    numbers: Numbers,
    start: Instant,
    now: u64,
    model: Model,
    tree: RunTree,
    runs: Vec<Arc<LiveRun>>,
    /// The chain of each run, as the policy engine is asked with it; it never changes.
    chains: Vec<Vec<RunNode>>,
    targets: [TargetName; 3],
}

impl<'a> World<'a> {
    fn new(engine: &'a Engine, facts: &'a [Facts], seed: u64) -> Self {
        World {
            engine,
            facts,
            numbers: Numbers(seed),
            start: Instant::now(),
            now: 0,
            model: Model::default(),
            tree: RunTree::default(),
            runs: Vec::new(),
            chains: Vec::new(),
            targets: TARGETS.map(|name| TargetName::new(name).expect("a name")),
        }
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_secs(self.now)
    }

    fn wall(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::from_secs(self.now)
    }

    fn step(&mut self) {
        match self.numbers.below(10) {
            0 | 1 => self.start_run(),
            2 => self.renew(),
            3 if self.numbers.one_in(3) => self.end(),
            3 | 4 => self.now += self.numbers.below(20),
            5 => self.send_rows(),
            _ => {}
        }
    }

    fn bounds(&mut self) -> (Budgets, RunBounds) {
        let max = Budgets {
            ttl: self.numbers.maybe(300),
            wall_time: self.numbers.maybe(400),
            statements: self.numbers.maybe(12),
            writes: self.numbers.maybe(5),
            rows: self.numbers.maybe(40),
        };
        let bound = |max: Option<u64>| max.map(|max| Bound { max, limit: None });
        let time =
            |max: Option<u64>| max.map(|max| Bound { max: Duration::from_secs(max), limit: None });
        let bounds = RunBounds {
            ttl: time(max.ttl),
            wall_time: time(max.wall_time),
            statements: bound(max.statements),
            writes: bound(max.writes),
            rows: bound(max.rows),
            ..RunBounds::default()
        };
        (max, bounds)
    }

    fn start_run(&mut self) {
        if self.runs.len() == RUNS_MAX {
            return;
        }
        let parent = (!self.runs.is_empty() && !self.numbers.one_in(6))
            .then(|| self.numbers.index(self.runs.len()));
        let targets = self.numbers.some_of(&TARGETS);
        let actions = self.numbers.some_of(&ACTIONS);
        let renew_within = self.numbers.one_in(4).then(|| 1 + self.numbers.below(60));
        let asked = self.numbers.below(500);
        let (max, bounds) = self.bounds();
        let above = parent.map(|parent| self.runs[parent].clone());
        let may_name = above.as_ref().is_none_or(|above| {
            let names: Vec<String> = actions.iter().map(|name| (*name).to_owned()).collect();
            self.engine.check_grant(&above.nodes(), &names).is_ok()
        });
        let model_names =
            parent.is_none_or(|parent| actions.iter().all(|action| self.may_grant(parent, action)));
        assert_eq!(may_name, model_names, "who may grant {actions:?}");
        let id = RunId::new(format!("r-{}", self.runs.len())).expect("an id");
        let budget = match &above {
            None => Ok(RunBudget::root(id.clone(), bounds.clone(), Used::default())),
            Some(above) => above.budget().child(id.clone(), bounds.clone(), Used::default()),
        };
        // The depth of trees is tested with budgets.
        let Ok(budget) = budget else { return };
        let terms = LeaseTerms {
            asked: Some(Duration::from_secs(asked)),
            bounds: &bounds,
            age: Duration::ZERO,
            parent: above.as_ref(),
        };
        let lease = terms.grant(self.instant(), self.wall());
        let ends = self.model.end_of(parent, asked, max, self.now, self.now);
        let may_start = parent.is_none_or(|parent| self.model.is_live(parent, self.now));
        if may_start {
            self.same_lease(lease, ends);
        }
        let run = run(id, above.as_deref(), &targets, &actions, renew_within, lease.expires_at);
        let age = Age::new(self.instant());
        let live = Arc::new(LiveRun::new(run, None, above, budget, lease.deadline, age));
        let is_listed = self.tree.insert(live.clone(), self.instant()).is_ok();
        assert_eq!(is_listed, may_start, "a run starts below a live one only");
        if !is_listed {
            return;
        }
        self.chains.push(live.nodes());
        self.runs.push(live);
        self.model.runs.push(ModelRun {
            parent,
            is_ended: false,
            targets,
            actions,
            started: self.now,
            ends,
            renew_within,
            renewed: self.now,
            max,
            used: Used::default(),
        });
    }

    /// Whether every ancestor was granted an action, or the group that it belongs to.
    fn may_grant(&self, parent: usize, action: &str) -> bool {
        let verb = VERBS.iter().find(|verb| verb.name == action);
        let group = verb.and_then(|verb| verb.effect).map(Effect::name);
        self.model.chain(parent).into_iter().all(|at| {
            let granted = &self.model.runs[at].actions;
            let has = |name: &str| granted.contains(&name);
            granted.is_empty() || has(action) || group.is_some_and(has)
        })
    }

    fn same_lease(&self, lease: Lease, ends: u64) {
        let deadline = lease.deadline.duration_since(self.start).as_secs();
        assert_eq!(deadline, ends, "when a run ends");
        assert_eq!(lease.expires_at.unix_timestamp(), i64::try_from(ends).expect("small"));
    }

    fn renew(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        let at = self.numbers.index(self.runs.len());
        let run = self.runs[at].clone();
        if !run.is_live(self.instant()) {
            return;
        }
        let asked = self.numbers.below(500);
        let model = &self.model.runs[at];
        let (parent, max, started) = (model.parent, model.max, model.started);
        let time =
            |max: Option<u64>| max.map(|max| Bound { max: Duration::from_secs(max), limit: None });
        let bounds = RunBounds {
            ttl: time(max.ttl),
            wall_time: time(max.wall_time),
            ..RunBounds::default()
        };
        let terms = LeaseTerms {
            asked: Some(Duration::from_secs(asked)),
            bounds: &bounds,
            age: run.age(self.instant()),
            parent: run.parent(),
        };
        let lease = terms.grant(self.instant(), self.wall());
        let ends = self.model.end_of(parent, asked, max, started, self.now);
        self.same_lease(lease, ends);
        run.set_lease(lease);
        run.beat(self.instant());
        self.model.runs[at].ends = ends;
        self.model.runs[at].renewed = self.now;
    }

    fn end(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        let at = self.numbers.index(self.runs.len());
        self.tree.end(self.runs[at].id());
        self.model.end(at);
    }

    fn send_rows(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        let at = self.numbers.index(self.runs.len());
        let rows = self.numbers.below(6);
        let fits = self.runs[at].budget().charge(rows, 0).is_ok();
        assert_eq!(fits, self.model.charge_rows(at, rows), "whether {rows} rows fit");
    }

    /// One question to both: may this run do that there, now?
    fn compare(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        let at = self.numbers.index(self.runs.len());
        let run = self.runs[at].clone();
        let place = self.numbers.index(TARGETS.len());
        let target = TARGETS[place];
        let kind = self.numbers.index(VERBS.len());
        let verb = VERBS[kind];
        let now = self.instant();
        let is_live = run.is_live(now);
        assert_eq!(is_live, self.model.is_live(at, self.now), "whether run {at} is live");
        let may_use = run.may_use(&self.targets[place]);
        assert_eq!(may_use, self.model.may_use(at, target), "whether run {at} may use {target}");
        let is_granted = self.engine.within_grants(&self.chains[at], &self.facts[kind]).is_ok();
        assert_eq!(is_granted, self.model.is_granted(at, verb), "run {at}, {}", verb.name);
        if is_live && may_use && is_granted {
            let fits = run.budget().charge_statement(self.facts[kind].effects, 1).is_ok();
            assert_eq!(fits, self.model.charge(at, verb), "whether run {at} has budget left");
        }
        assert_eq!(run.budget().used(), self.model.runs[at].used, "what run {at} used");
        let shown = self.model.chain(at).into_iter().map(|at| self.model.runs[at].ends).min();
        let end = run.shown_end().unix_timestamp();
        assert_eq!(u64::try_from(end).ok(), shown, "what people read of run {at}'s end");
    }
}

fn run(
    id: RunId,
    parent: Option<&LiveRun>,
    targets: &[&str],
    actions: &[&str],
    renew_within_s: Option<u64>,
    expires_at: OffsetDateTime,
) -> Run {
    let sponsor = PrincipalName::new("ada").expect("a name");
    Run {
        id,
        parent: parent.map(|parent| parent.id().clone()),
        principal: Principal::user(sponsor.clone()),
        sponsor,
        name: "run".to_owned(),
        purpose: None,
        targets: targets.iter().map(|name| TargetName::new(*name).expect("a name")).collect(),
        actions: actions.iter().map(|name| (*name).to_owned()).collect(),
        renew_within_s,
        depth: parent.map_or(0, |parent| parent.budget().depth() + 1),
        started_by: None,
        job: None,
        process: None,
        attached: false,
        started_at: OffsetDateTime::UNIX_EPOCH,
        expires_at,
        state: RunState::Active,
    }
}

fn engine() -> Engine {
    let verbs = ProtocolVerbs { protocol: "any", verbs: &VERBS, attributes: &[] };
    Engine::compile(PolicyVersion(1), &[], &[verbs], &[]).expect("no policies, no problems")
}

fn facts_of(verb: Verb) -> Facts {
    let effects = verb.effect.map_or(Effects::NONE, Effects::of);
    Facts { verbs: vec![verb], effects, statement_count: 1, ..Facts::default() }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn no_run_may_do_what_a_run_above_it_may_not() {
    let fresh = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos().into());
    let seed = number("CORRAL_TREE_SEED", fresh);
    let cases = number("CORRAL_TREE_CASES", CASES);
    println!("CORRAL_TREE_SEED={seed} repeats this");
    let engine = engine();
    let facts = VERBS.map(facts_of);
    let threads = 2;
    let compared: u64 = std::thread::scope(|scope| {
        let live = |half: u64| {
            let (engine, facts) = (&engine, &facts);
            scope.spawn(move || live_through(engine, facts, seed + half, cases.div_ceil(threads)))
        };
        let halves: Vec<_> = (0..threads).map(live).collect();
        halves.into_iter().map(|half| half.join().expect("both trees agree")).sum()
    });
    assert!(compared >= cases, "{compared} cases");
}

/// Lives through one tree after the other. Returns the number of questions that were compared.
fn live_through(engine: &Engine, facts: &[Facts], seed: u64, cases: u64) -> u64 {
    let mut compared = 0;
    let mut seeds = Numbers(seed);
    while compared < cases {
        let mut world = World::new(engine, facts, seeds.below(u64::MAX));
        world.start_run();
        for _ in 0..OPERATIONS {
            world.step();
            if !world.runs.is_empty() {
                world.compare();
                compared += 1;
            }
        }
        world.model.check(world.now);
    }
    compared
}

/// The model is only worth something if it reaches what it is about.
#[test]
fn random_trees_are_deep_refused_and_allowed() {
    let engine = engine();
    let facts = VERBS.map(facts_of);
    let mut seen: HashMap<&str, u64> = HashMap::new();
    for seed in 0..200 {
        let mut world = World::new(&engine, &facts, seed);
        for _ in 0..OPERATIONS {
            world.step();
            let now = world.now;
            for at in 0..world.runs.len() {
                let model = &world.model;
                let mut count = |what: &'static str| *seen.entry(what).or_default() += 1;
                if model.chain(at).len() >= 4 {
                    count("four levels");
                }
                if model.is_live(at, now) {
                    count("live")
                } else {
                    count("dead")
                }
                let update = VERBS[1];
                if model.is_granted(at, update) {
                    count("granted")
                } else {
                    count("not granted")
                }
                let own = &model.runs[at];
                if !own.is_ended && now < own.ends && !model.is_live(at, now) {
                    count("alive by itself, dead with an ancestor");
                }
                if own.max.wall_time.is_some_and(|max| own.ends == own.started + max) {
                    count("ended by wall time");
                }
                if own.max.statements.is_some_and(|max| max > 0 && own.used.statements == max) {
                    count("statements spent");
                }
            }
            world.compare();
        }
    }
    for what in [
        "four levels",
        "live",
        "dead",
        "granted",
        "not granted",
        "alive by itself, dead with an ancestor",
        "ended by wall time",
        "statements spent",
    ] {
        let count = seen.get(what).copied().unwrap_or_default();
        assert!(count > 50, "{what}: {count} times only");
    }
}

#[test]
fn a_grant_denies_by_its_own_rule_whatever_policy_permits() {
    let verbs = ProtocolVerbs { protocol: "any", verbs: &VERBS, attributes: &[] };
    let source = corral_gate::policy::PolicySource {
        name: "all".parse().expect("a name"),
        cedar: "permit (principal, action, resource);".to_owned(),
    };
    let engine = Engine::compile(PolicyVersion(1), &[source], &[verbs], &[]).expect("compiles");
    let id = RunId::new("r-1").expect("an id");
    let budget = RunBudget::root(id.clone(), RunBounds::default(), Used::default());
    let wall = OffsetDateTime::UNIX_EPOCH;
    let reader = run(id, None, &[], &["read", "connect"], None, wall);
    let now = Instant::now();
    let live = LiveRun::new(reader, None, None, budget, now, Age::new(now));
    let subject = corral_gate::policy::Subject {
        principal: live.principal().clone(),
        groups: Vec::new(),
        runs: live.nodes(),
    };
    let target = TargetFacts {
        name: TargetName::new("orders").expect("a name"),
        protocol: "postgres".to_owned(),
        labels: std::collections::BTreeMap::new(),
    };
    let context = corral_gate::policy::Context {
        in_transaction: false,
        time: wall,
        tls: true,
        source_ip: None,
    };
    for verb in VERBS {
        let ruling = engine.rule(&subject, &target, &facts_of(verb), &context, "d".to_owned());
        let is_within = matches!(verb.effect, None | Some(Effect::Read));
        match ruling.verdict {
            corral_gate::Verdict::Allow => assert!(is_within, "{}", verb.name),
            corral_gate::Verdict::Deny(denial) => {
                assert!(!is_within, "{}", verb.name);
                assert_eq!(denial.rules, ["grant"]);
                assert!(denial.client_text.contains("granted `read`, `connect` only"));
            }
            corral_gate::Verdict::Hold(_) => panic!("nothing holds here"),
        }
    }
    assert!(
        engine.may_connect(&subject, &target, &context, "d".to_owned()).verdict
            == corral_gate::Verdict::Allow
    );
}
