//! Counters of limits: which limits apply to whom, sessions that are open, and what runs have
//! used. Pure: the gateway asks under its own short mutex ([`SessionLedger`]) or without any
//! ([`RunBudget`]); nothing here knows a clock, a session or the store.
//!
//! Of several limits that match, each holds: the smallest number decides.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use corral_model::Used;
use corral_model::ids::{GroupName, ResourceName, RunId, TargetName};
use corral_model::resource::{LimitSpec, LimitSubject, LimitTarget};
use corral_model::{Effect, Effects, Principal, PrincipalKind, limits};

use crate::decision::{Denial, DenialKind};
use crate::policy::TargetFacts;

/// What is wrong with a limit as it is written. Whoever applied it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    #[error("limit '{0}': `run` cannot stand beside `target`; budgets of runs count all targets")]
    RunWithTarget(ResourceName),
    #[error("limit '{0}': `target` needs `name` or `label`")]
    EmptyTarget(ResourceName),
    #[error("limit '{0}': '{1}' is not a label; write key=value")]
    BadLabel(ResourceName, String),
    #[error("limit '{0}': `subject: {{any: false}}` matches nobody; write `any: true`")]
    MatchesNobody(ResourceName),
}

/// Checks what a limit's types cannot say.
///
/// # Errors
/// [`LimitError`]: whoever applied the limit is to blame.
pub fn check_limit(limit: &LimitSpec) -> Result<(), LimitError> {
    let name = || limit.name.clone();
    if limit.subject == LimitSubject::Any(false) {
        return Err(LimitError::MatchesNobody(name()));
    }
    let Some(target) = &limit.target else { return Ok(()) };
    if limit.run.is_some() {
        return Err(LimitError::RunWithTarget(name()));
    }
    match &target.label {
        Some(label) if !label.contains('=') => Err(LimitError::BadLabel(name(), label.clone())),
        None if target.name.is_none() => Err(LimitError::EmptyTarget(name())),
        Some(_) | None => Ok(()),
    }
}

/// A number that may not be passed, and the limit that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound<T> {
    pub max: T,
    /// The `Limit` resource; None when it is the gateway's own (`corral_model::limits`).
    pub limit: Option<ResourceName>,
}

impl<T: PartialOrd + Copy> Bound<T> {
    fn tighten(slot: &mut Option<Self>, max: Option<T>, limit: &ResourceName) {
        let Some(max) = max else { return };
        match slot {
            Some(bound) if bound.max <= max => {}
            Some(_) | None => *slot = Some(Self { max, limit: Some(limit.clone()) }),
        }
    }
}

/// Which of a principal's sessions a ceiling counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetScope {
    All,
    /// Those to these targets.
    Only(Vec<TargetName>),
}

/// A principal may have this many sessions open at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCeiling {
    pub max: u64,
    pub limit: ResourceName,
    pub scope: TargetScope,
}

/// What limits say of one session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionBounds {
    pub ceilings: Vec<SessionCeiling>,
    pub ttl: Option<Bound<Duration>>,
    pub idle_timeout: Option<Bound<Duration>>,
}

/// What limits say of one run and everything below it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunBounds {
    pub ttl: Option<Bound<Duration>>,
    /// Children alive at once.
    pub children: Option<Bound<u64>>,
    /// Depth of the deepest run below; the run itself is 0, its child 1.
    pub depth: Option<Bound<u32>>,
    /// Sessions at once of the run and all below it.
    pub sessions: Option<Bound<u64>>,
    pub statements: Option<Bound<u64>>,
    /// Statements that may do more than read.
    pub writes: Option<Bound<u64>>,
    pub rows: Option<Bound<u64>>,
    pub bytes: Option<Bound<u64>>,
    /// From the start of the run, however often it is renewed.
    pub wall_time: Option<Bound<Duration>>,
}

/// The bounds of a session that `principal` opens to `target`. `targets` are all targets there
/// are, so that a ceiling on a label counts the sessions to each of them.
#[must_use]
pub fn session_bounds(
    all: &[LimitSpec],
    principal: &Principal,
    groups: &[GroupName],
    target: &TargetFacts,
    targets: &[TargetFacts],
) -> SessionBounds {
    let mut bounds = SessionBounds::default();
    for limit in all {
        let is_for_target = limit.target.as_ref().is_none_or(|wanted| is_target(wanted, target));
        if !is_subject(&limit.subject, principal, groups) || !is_for_target {
            continue;
        }
        if let Some(max) = limit.sessions_max {
            let scope = limit.target.as_ref().map_or(TargetScope::All, |wanted| {
                let of_wanted = targets.iter().filter(|known| is_target(wanted, known));
                TargetScope::Only(of_wanted.map(|known| known.name.clone()).collect())
            });
            bounds.ceilings.push(SessionCeiling { max, limit: limit.name.clone(), scope });
        }
        Bound::tighten(&mut bounds.ttl, limit.session_ttl.map(|ttl| ttl.0), &limit.name);
        let idle_timeout = limit.idle_timeout.map(|timeout| timeout.0);
        Bound::tighten(&mut bounds.idle_timeout, idle_timeout, &limit.name);
    }
    bounds
}

/// The bounds of every run of `principal`'s. A limit with a `target` says nothing of runs
/// ([`check_limit`] refuses it).
#[must_use]
pub fn run_bounds(all: &[LimitSpec], principal: &Principal, groups: &[GroupName]) -> RunBounds {
    let mut bounds = RunBounds::default();
    let matching = all.iter().filter(|limit| is_subject(&limit.subject, principal, groups));
    for limit in matching {
        let Some(run) = &limit.run else { continue };
        let name = &limit.name;
        Bound::tighten(&mut bounds.ttl, run.ttl_max.map(|ttl| ttl.0), name);
        Bound::tighten(&mut bounds.children, run.children_max, name);
        Bound::tighten(&mut bounds.depth, run.depth_max, name);
        Bound::tighten(&mut bounds.sessions, run.sessions_max, name);
        Bound::tighten(&mut bounds.statements, run.statements_max, name);
        Bound::tighten(&mut bounds.writes, run.writes_max, name);
        Bound::tighten(&mut bounds.rows, run.rows_max, name);
        Bound::tighten(&mut bounds.bytes, run.bytes_max.map(|size| size.0), name);
        Bound::tighten(&mut bounds.wall_time, run.wall_time_max.map(|time| time.0), name);
    }
    bounds
}

fn is_subject(subject: &LimitSubject, principal: &Principal, groups: &[GroupName]) -> bool {
    match subject {
        LimitSubject::Group(group) => groups.contains(group),
        LimitSubject::User(name) => {
            principal.kind == PrincipalKind::User && principal.name == *name
        }
        LimitSubject::Workload(name) => {
            principal.kind == PrincipalKind::Workload && principal.name == *name
        }
        LimitSubject::Any(is_any) => *is_any,
    }
}

fn is_target(wanted: &LimitTarget, target: &TargetFacts) -> bool {
    let has_name = wanted.name.as_ref().is_none_or(|name| *name == target.name);
    let has_label = wanted.label.as_ref().is_none_or(|label| {
        label
            .split_once('=')
            .is_some_and(|(key, value)| target.labels.get(key).is_some_and(|is| is == value))
    });
    has_name && has_label
}

/// The TTL that a run of this age gets: what was asked for (or [`limits::RUN_TTL`]), but never
/// longer than its limits, the gateway's own [`limits::RUN_TTL_MAX`], what its wall time leaves,
/// or what its parent has left.
#[must_use]
pub fn clamp_ttl(
    asked: Option<Duration>,
    bounds: &RunBounds,
    age: Duration,
    parent_left: Option<Duration>,
) -> Duration {
    let of_limit = bounds.ttl.as_ref().map(|bound| bound.max);
    let of_wall = bounds.wall_time.as_ref().map(|bound| bound.max.saturating_sub(age));
    let asked = asked.unwrap_or(limits::RUN_TTL).min(limits::RUN_TTL_MAX);
    [of_limit, of_wall, parent_left].into_iter().flatten().fold(asked, Duration::min)
}

/// A limit was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    pub kind: SpentKind,
    pub max: u64,
    /// The `Limit` resource; None when it is the gateway's own.
    pub limit: Option<ResourceName>,
    /// The run whose limit it is; None for limits of principals and of the gateway.
    pub run: Option<RunId>,
}

/// What there was too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpentKind {
    Sessions,
    Children,
    Depth,
    Statements,
    Writes,
    Rows,
    Bytes,
}

impl SpentKind {
    /// Whether nothing more can be done once it is spent, so that the run ends. Without writes
    /// left, a run may go on reading.
    #[must_use]
    pub fn ends_run(self) -> bool {
        match self {
            Self::Statements | Self::Rows | Self::Bytes => true,
            Self::Sessions | Self::Children | Self::Depth | Self::Writes => false,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Sessions => "sessions at once",
            Self::Children => "child runs at once",
            Self::Depth => "levels of child runs",
            Self::Statements => "statements",
            Self::Writes => "statements that do more than read",
            Self::Rows => "rows",
            Self::Bytes => "bytes",
        }
    }
}

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at most {} {} are allowed", self.max, self.kind.unit())?;
        match &self.run {
            Some(run) => write!(f, " in run {run}"),
            None => Ok(()),
        }
    }
}

impl From<Spent> for Denial {
    fn from(spent: Spent) -> Self {
        let kind = match spent.kind {
            SpentKind::Sessions => DenialKind::TooManySessions,
            SpentKind::Children
            | SpentKind::Depth
            | SpentKind::Statements
            | SpentKind::Writes
            | SpentKind::Rows
            | SpentKind::Bytes => DenialKind::BudgetSpent,
        };
        let mut denial = Self::new(kind, spent.to_string());
        denial.rules = spent.limit.iter().map(ToString::to_string).collect();
        denial
    }
}

/// A session that wants to be opened.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    pub principal: &'a Principal,
    pub target: &'a TargetName,
    pub ceilings: &'a [SessionCeiling],
    /// The session's run and all its ancestors, with their bounds; in any order.
    pub runs: &'a [(RunId, Option<Bound<u64>>)],
}

/// Sessions that are open, by principal and by run. The gateway keeps it behind one mutex that is
/// held for one call only; that makes the count exact.
#[derive(Debug, Default)]
pub struct SessionLedger {
    open: u64,
    by_principal: HashMap<Principal, HashMap<TargetName, u64>>,
    by_run: HashMap<RunId, u64>,
}

/// A place in the ledger. To be given back with [`SessionLedger::close`], whatever ended the
/// session.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a session's place must be given back"]
pub struct Ticket {
    principal: Principal,
    target: TargetName,
    runs: Vec<RunId>,
}

impl SessionLedger {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a session in, if every limit allows it; else changes nothing.
    ///
    /// # Errors
    /// [`Spent`]: the first limit that is reached.
    pub fn try_open(&mut self, opening: &Opening<'_>) -> Result<Ticket, Spent> {
        self.check(opening)?;
        self.open += 1;
        let of_principal = self.by_principal.entry(opening.principal.clone()).or_default();
        *of_principal.entry(opening.target.clone()).or_default() += 1;
        let mut runs: Vec<RunId> = opening.runs.iter().map(|(run, _)| run.clone()).collect();
        runs.sort();
        runs.dedup();
        for run in &runs {
            *self.by_run.entry(run.clone()).or_default() += 1;
        }
        let (principal, target) = (opening.principal.clone(), opening.target.clone());
        Ok(Ticket { principal, target, runs })
    }

    fn check(&self, opening: &Opening<'_>) -> Result<(), Spent> {
        let spent = |max: u64, limit: Option<ResourceName>, run: Option<RunId>| Spent {
            kind: SpentKind::Sessions,
            max,
            limit,
            run,
        };
        let gateway_max = u64::try_from(limits::SESSIONS_MAX).unwrap_or(u64::MAX);
        if self.open >= gateway_max {
            return Err(spent(gateway_max, None, None));
        }
        for ceiling in opening.ceilings {
            if self.open_of(opening.principal, &ceiling.scope) >= ceiling.max {
                return Err(spent(ceiling.max, Some(ceiling.limit.clone()), None));
            }
        }
        for (run, bound) in opening.runs {
            let Some(bound) = bound else { continue };
            if self.open_in_run(run) >= bound.max {
                return Err(spent(bound.max, bound.limit.clone(), Some(run.clone())));
            }
        }
        Ok(())
    }

    /// Counts a session out.
    pub fn close(&mut self, ticket: Ticket) {
        self.open = self.open.saturating_sub(1);
        if let Some(of_principal) = self.by_principal.get_mut(&ticket.principal) {
            release(of_principal, &ticket.target);
            if of_principal.is_empty() {
                self.by_principal.remove(&ticket.principal);
            }
        }
        for run in &ticket.runs {
            release(&mut self.by_run, run);
        }
    }

    /// Sessions open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open
    }

    /// Sessions that a principal has open now, to the targets that `scope` counts.
    #[must_use]
    pub fn open_of(&self, principal: &Principal, scope: &TargetScope) -> u64 {
        let Some(of_principal) = self.by_principal.get(principal) else { return 0 };
        match scope {
            TargetScope::All => of_principal.values().sum(),
            TargetScope::Only(targets) => {
                targets.iter().filter_map(|target| of_principal.get(target)).sum()
            }
        }
    }

    /// Sessions open now under a run and everything below it.
    #[must_use]
    pub fn open_in_run(&self, run: &RunId) -> u64 {
        self.by_run.get(run).copied().unwrap_or(0)
    }
}

fn release<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u64>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// What is left of each budget; None where nothing bounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Left {
    pub statements: Option<u64>,
    pub writes: Option<u64>,
    pub rows: Option<u64>,
    pub bytes: Option<u64>,
}

/// Whether a statement with these effects counts as a write: everything but reading, so that what
/// cannot be told counts too.
#[must_use]
pub fn is_write(effects: Effects) -> bool {
    effects.iter().any(|effect| match effect {
        Effect::Read => false,
        Effect::Write | Effect::Define | Effect::Administer | Effect::Shell | Effect::Unknown => {
            true
        }
    })
}

/// A counter with a ceiling that may be moved while it counts.
#[derive(Debug)]
struct Meter {
    used: AtomicU64,
    max: AtomicU64,
}

impl Meter {
    fn new(used: u64, bound: Option<&Bound<u64>>) -> Self {
        Self { used: AtomicU64::new(used), max: AtomicU64::new(max_of(bound)) }
    }

    fn set_bound(&self, bound: Option<&Bound<u64>>) {
        self.max.store(max_of(bound), Ordering::Relaxed);
    }

    /// Takes so many, unless fewer are left.
    fn try_take(&self, count: u64) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        let take = |used: u64| used.checked_add(count).filter(|sum| *sum <= max);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    fn give_back(&self, count: u64) {
        let give = |used: u64| Some(used.saturating_sub(count));
        let _always_ok = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, give);
    }

    /// Adds what was used already; whether it is within the ceiling.
    fn add(&self, amount: u64) -> bool {
        let add = |used: u64| Some(used.saturating_add(amount));
        let before = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, add)
            .unwrap_or_else(|used| used);
        before.saturating_add(amount) <= self.max.load(Ordering::Relaxed)
    }

    fn is_spent(&self) -> bool {
        self.used.load(Ordering::Acquire) >= self.max.load(Ordering::Relaxed)
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// None when nothing bounds it.
    fn left(&self) -> Option<u64> {
        let max = self.max.load(Ordering::Relaxed);
        (max != u64::MAX).then(|| max.saturating_sub(self.used()))
    }
}

fn max_of(bound: Option<&Bound<u64>>) -> u64 {
    bound.map_or(u64::MAX, |bound| bound.max)
}

/// The counters of one run. What is charged to a run is charged to each of its ancestors, so that
/// no child may do what an ancestor may not. Charging takes no lock.
#[derive(Debug)]
pub struct RunBudget {
    run: RunId,
    depth: u32,
    parent: Option<Arc<RunBudget>>,
    is_ended: AtomicBool,
    children: Meter,
    statements: Meter,
    writes: Meter,
    rows: Meter,
    bytes: Meter,
    /// Read when something is refused or configured, never when something is charged.
    bounds: Mutex<RunBounds>,
}

impl RunBudget {
    /// The budget of a root run. `used` is what it had used before, when it is taken up again
    /// after a restart of the gateway.
    #[must_use]
    pub fn root(run: RunId, bounds: RunBounds, used: Used) -> Arc<Self> {
        Arc::new(Self::make(run, 0, None, bounds, used))
    }

    /// The budget of a child run, counted as a child of `self`.
    ///
    /// # Errors
    /// [`Spent`] when the parent has too many children alive, or an ancestor allows no run at
    /// this depth.
    pub fn child(
        self: &Arc<Self>,
        run: RunId,
        bounds: RunBounds,
        used: Used,
    ) -> Result<Arc<Self>, Spent> {
        let depth = self.depth.saturating_add(1);
        for ancestor in self.chain() {
            let bound = ancestor.locked_bounds().depth.clone();
            let below = depth.saturating_sub(ancestor.depth);
            let own = Bound { max: limits::RUN_DEPTH_MAX, limit: None };
            let is_root = ancestor.parent.is_none();
            let gateway = is_root.then_some(own);
            let exceeded = bound.into_iter().chain(gateway).find(|bound| below > bound.max);
            if let Some(bound) = exceeded {
                return Err(Spent {
                    kind: SpentKind::Depth,
                    max: u64::from(bound.max),
                    limit: bound.limit,
                    run: Some(ancestor.run.clone()),
                });
            }
        }
        if !self.children.try_take(1) {
            return Err(self.spent(SpentKind::Children));
        }
        Ok(Arc::new(Self::make(run, depth, Some(Arc::clone(self)), bounds, used)))
    }

    fn make(
        run: RunId,
        depth: u32,
        parent: Option<Arc<Self>>,
        mut bounds: RunBounds,
        used: Used,
    ) -> Self {
        bounds.children.get_or_insert(Bound { max: limits::RUN_CHILDREN_MAX, limit: None });
        Self {
            run,
            depth,
            parent,
            is_ended: AtomicBool::new(false),
            children: Meter::new(0, bounds.children.as_ref()),
            statements: Meter::new(used.statements, bounds.statements.as_ref()),
            writes: Meter::new(used.writes, bounds.writes.as_ref()),
            rows: Meter::new(used.rows, bounds.rows.as_ref()),
            bytes: Meter::new(used.bytes, bounds.bytes.as_ref()),
            bounds: Mutex::new(bounds),
        }
    }

    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// 0 for a root run.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// What the run and everything below it used.
    #[must_use]
    pub fn used(&self) -> Used {
        Used {
            statements: self.statements.used(),
            writes: self.writes.used(),
            rows: self.rows.used(),
            bytes: self.bytes.used(),
        }
    }

    /// What is left to the run: the least of what it and each ancestor have left.
    #[must_use]
    pub fn left(&self) -> Left {
        let least = |meter: fn(&Self) -> &Meter| self.chain().filter_map(|n| meter(n).left()).min();
        Left {
            statements: least(|node| &node.statements),
            writes: least(|node| &node.writes),
            rows: least(|node| &node.rows),
            bytes: least(|node| &node.bytes),
        }
    }

    /// How long the run may last, from its start.
    #[must_use]
    pub fn wall_time(&self) -> Option<Duration> {
        self.locked_bounds().wall_time.as_ref().map(|bound| bound.max)
    }

    /// Children alive now.
    #[must_use]
    pub fn children(&self) -> u64 {
        self.children.used()
    }

    /// The run's bounds and those of its ancestors on sessions, for [`SessionLedger::try_open`].
    #[must_use]
    pub fn session_bounds(&self) -> Vec<(RunId, Option<Bound<u64>>)> {
        self.chain().map(|node| (node.run.clone(), node.locked_bounds().sessions.clone())).collect()
    }

    /// Limits changed. What was used stays used.
    pub fn set_bounds(&self, mut bounds: RunBounds) {
        bounds.children.get_or_insert(Bound { max: limits::RUN_CHILDREN_MAX, limit: None });
        self.children.set_bound(bounds.children.as_ref());
        self.statements.set_bound(bounds.statements.as_ref());
        self.writes.set_bound(bounds.writes.as_ref());
        self.rows.set_bound(bounds.rows.as_ref());
        self.bytes.set_bound(bounds.bytes.as_ref());
        *self.locked_bounds() = bounds;
    }

    /// Charges what one text does, so many statements, to the run and every ancestor, or to none:
    /// as writes, too, all of them, if any may do more than read. A text without any counts as one.
    /// Concurrent charges never
    /// pass a ceiling; one that is refused elsewhere in the chain may for that moment take
    /// another's place, so the bias is to refuse.
    ///
    /// # Errors
    /// [`Spent`] when any of them has no statement, row or byte left, or no write for a statement
    /// that may do more than read.
    pub fn charge_statement(&self, effects: Effects, count: u32) -> Result<(), Spent> {
        // A budget of 0 rows is not spent by statements that return none; used == max only counts
        // as spent once something was used.
        let is_spent = |meter: &Meter| meter.used() > 0 && meter.is_spent();
        let over = |node: &Self| {
            let rows = is_spent(&node.rows).then_some(SpentKind::Rows);
            let kind = rows.or_else(|| is_spent(&node.bytes).then_some(SpentKind::Bytes))?;
            Some(node.spent(kind))
        };
        if let Some(spent) = self.chain().filter_map(over).last() {
            return Err(spent);
        }
        // Writes first: who is refused for a write that comes back a moment later only misses
        // that write, and a spent budget of statements ends its run.
        let count = u64::from(count.max(1));
        let is_write = is_write(effects);
        if is_write {
            self.take(count, |node| &node.writes, SpentKind::Writes)?;
        }
        self.take(count, |node| &node.statements, SpentKind::Statements).inspect_err(|_| {
            if is_write {
                self.chain().for_each(|node| node.writes.give_back(count));
            }
        })
    }

    /// Takes so many from the run's and every ancestor's meter, or from none.
    fn take(&self, count: u64, meter: fn(&Self) -> &Meter, kind: SpentKind) -> Result<(), Spent> {
        for (taken, node) in self.chain().enumerate() {
            if !meter(node).try_take(count) {
                self.chain().take(taken).for_each(|below| meter(below).give_back(count));
                // The topmost: whoever ends the run for it ends all that has nothing left.
                let above = node.chain().filter(|node| meter(node).is_spent());
                return Err(above.last().unwrap_or(node).spent(kind));
            }
        }
        Ok(())
    }

    /// Charges rows and bytes that went to a client to the run and every ancestor. They are
    /// charged even when that passes a ceiling: they were sent.
    ///
    /// # Errors
    /// [`Spent`] when any ceiling is passed; the session ends.
    pub fn charge(&self, rows: u64, bytes: u64) -> Result<(), Spent> {
        let mut topmost: Option<Spent> = None;
        for node in self.chain() {
            let has_rows = node.rows.add(rows);
            let has_bytes = node.bytes.add(bytes);
            if !has_rows {
                topmost = Some(node.spent(SpentKind::Rows));
            } else if !has_bytes {
                topmost = Some(node.spent(SpentKind::Bytes));
            }
        }
        topmost.map_or(Ok(()), Err)
    }

    /// The run ended: its place among its parent's children is free. More calls do nothing.
    pub fn end(&self) {
        if self.is_ended.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(parent) = &self.parent {
            parent.children.give_back(1);
        }
    }

    /// This run, its parent, and so on to the root.
    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |node| node.parent.as_deref())
    }

    fn spent(&self, kind: SpentKind) -> Spent {
        let bounds = self.locked_bounds();
        let bound = match kind {
            SpentKind::Sessions => bounds.sessions.clone(),
            SpentKind::Children => bounds.children.clone(),
            SpentKind::Depth => None,
            SpentKind::Statements => bounds.statements.clone(),
            SpentKind::Writes => bounds.writes.clone(),
            SpentKind::Rows => bounds.rows.clone(),
            SpentKind::Bytes => bounds.bytes.clone(),
        };
        let (max, limit) = bound.map_or((0, None), |bound| (bound.max, bound.limit));
        Spent { kind, max, limit, run: Some(self.run.clone()) }
    }

    fn locked_bounds(&self) -> std::sync::MutexGuard<'_, RunBounds> {
        self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RunBudget {
    fn drop(&mut self) {
        self.end();
    }
}
