//! The trees of active runs: who is below whom, whose token is whose, when each one ends.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corral_gate::budget::{self, RunBounds, RunBudget};
use corral_gate::policy::{Attribution, RunNode};
use corral_model::ids::{PrincipalName, TargetName};
use corral_model::resource::Job;
use corral_model::token::TokenDigest;
use corral_model::{Principal, Run, RunEnd, RunId, RunState, RunUse};
use time::OffsetDateTime;
use tokio::time::Instant;

/// When a run ends: on the clock that nobody can set back, and as people read it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) deadline: Instant,
    pub(crate) expires_at: OffsetDateTime,
}

/// How long a run has been there, by the clock that nobody can set back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Age {
    /// When this gateway took it up.
    pub(crate) since: Instant,
    /// What it was then: zero, unless the gateway was started again meanwhile.
    pub(crate) before: Duration,
}

impl Age {
    /// The age of a run that starts now.
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, before: Duration::ZERO }
    }

    pub(crate) fn at(self, now: Instant) -> Duration {
        self.before.saturating_add(now.saturating_duration_since(self.since))
    }
}

/// What a lease is made of.
pub(crate) struct LeaseTerms<'a> {
    /// None: as long as is usual.
    pub(crate) asked: Option<Duration>,
    pub(crate) bounds: &'a RunBounds,
    /// Of the run itself; zero for one that starts.
    pub(crate) age: Duration,
    pub(crate) parent: Option<&'a Arc<LiveRun>>,
}

impl LeaseTerms<'_> {
    /// The lease from now on: never longer than limits and the parent's own allow.
    pub(crate) fn grant(&self, now: Instant, wall: OffsetDateTime) -> Lease {
        let parent_left = self.parent.map(|parent| parent.time_left(now));
        let ttl = budget::clamp_ttl(self.asked, self.bounds, self.age, parent_left);
        let expires_at = wall + ttl;
        // The two clocks are read one after the other: what people read of a child's end must not
        // be later than its parent's because of that.
        let expires_at =
            self.parent.map_or(expires_at, |parent| expires_at.min(parent.shown_end()));
        Lease { deadline: now + ttl, expires_at }
    }
}

/// A run that has to be renewed at an interval.
#[derive(Debug)]
struct Heartbeat {
    within: Duration,
    due: Mutex<Instant>,
}

/// What a run did so far, and what of it is stored.
#[derive(Debug, Default)]
struct Done {
    targets: BTreeSet<TargetName>,
    actions: BTreeSet<&'static str>,
    kept: RunUse,
}

/// An active run.
#[derive(Debug)]
pub(crate) struct LiveRun {
    run: Run,
    path: String,
    /// None after a restart: then the store knows whose token is whose.
    token: Option<TokenDigest>,
    parent: Option<Arc<LiveRun>>,
    budget: Arc<RunBudget>,
    lease: Mutex<Lease>,
    age: Age,
    heartbeat: Option<Heartbeat>,
    done: Mutex<Done>,
    is_ended: AtomicBool,
    hold: Mutex<Hold>,
}

/// Whether a wrapper holds a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Nobody ever did.
    Never,
    /// By so many connections.
    By(u32),
    /// Nobody does, since the gateway was started: the wrapper may come back until then.
    Awaited { until: Instant },
}

impl LiveRun {
    pub(crate) fn new(
        run: Run,
        token: Option<TokenDigest>,
        parent: Option<Arc<Self>>,
        budget: Arc<RunBudget>,
        deadline: Instant,
        age: Age,
    ) -> Self {
        let path = match &parent {
            Some(parent) => format!("{}/{}", parent.path, run.name),
            None => run.name.clone(),
        };
        let lease = Mutex::new(Lease { deadline, expires_at: run.expires_at });
        let heartbeat = run
            .renew_within_s
            .map(Duration::from_secs)
            .map(|within| Heartbeat { within, due: Mutex::new(age.since + within) });
        Self {
            run,
            path,
            token,
            parent,
            budget,
            lease,
            age,
            heartbeat,
            done: Mutex::new(Done::default()),
            is_ended: AtomicBool::new(false),
            hold: Mutex::new(Hold::Never),
        }
    }

    /// A run that was there before the gateway was started, with what it did until then.
    pub(crate) fn having_done(self, kept: RunUse) -> Self {
        self.locked_done().kept = kept;
        self
    }

    /// For a run that was taken up from the store, and that a wrapper held.
    pub(crate) fn await_wrapper(&self, until: Instant) {
        *self.hold() = Hold::Awaited { until };
    }

    /// Holds it for the first time; false when somebody did before.
    pub(crate) fn hold_first(&self) -> bool {
        let mut hold = self.hold();
        let is_first = *hold == Hold::Never;
        if is_first {
            *hold = Hold::By(1);
        }
        is_first
    }

    /// Holds it again.
    pub(crate) fn hold_again(&self) {
        let mut hold = self.hold();
        *hold = match *hold {
            Hold::By(count) => Hold::By(count.saturating_add(1)),
            Hold::Never | Hold::Awaited { .. } => Hold::By(1),
        };
    }

    /// One connection holds it no longer; true when that was the last one.
    pub(crate) fn let_go(&self) -> bool {
        let mut hold = self.hold();
        if let Hold::By(count) = &mut *hold {
            *count = count.saturating_sub(1);
            return *count == 0;
        }
        false
    }

    fn hold(&self) -> std::sync::MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn id(&self) -> &RunId {
        &self.run.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.run.name
    }

    pub(crate) fn principal(&self) -> &Principal {
        &self.run.principal
    }

    pub(crate) fn sponsor(&self) -> &PrincipalName {
        &self.run.sponsor
    }

    /// The job that it is the root of.
    pub(crate) fn job(&self) -> Option<&Job> {
        self.run.job.as_ref()
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    pub(crate) fn budget(&self) -> &Arc<RunBudget> {
        &self.budget
    }

    fn lease(&self) -> Lease {
        *lock(&self.lease)
    }

    pub(crate) fn set_lease(&self, lease: Lease) {
        *lock(&self.lease) = lease;
    }

    /// When it ends at the latest, for people: no later than any of its ancestors.
    pub(crate) fn shown_end(&self) -> OffsetDateTime {
        let own = self.lease().expires_at;
        self.chain().map(|run| run.lease().expires_at).fold(own, OffsetDateTime::min)
    }

    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.age.at(now)
    }

    /// What is left of its own wall time, where that is limited.
    pub(crate) fn wall_time_left(&self, now: Instant) -> Option<Duration> {
        self.budget.wall_time().map(|max| max.saturating_sub(self.age(now)))
    }

    /// The run as it is now, for others to see.
    pub(crate) fn snapshot(&self) -> Run {
        Run {
            expires_at: self.shown_end(),
            state: RunState::Active,
            attached: self.run.attached || *self.hold() != Hold::Never,
            ..self.run.clone()
        }
    }

    /// Whether it has to be renewed at an interval.
    pub(crate) fn has_heartbeat(&self) -> bool {
        self.heartbeat.is_some()
    }

    /// It was renewed: the interval starts again.
    pub(crate) fn beat(&self, now: Instant) {
        if let Some(heartbeat) = &self.heartbeat {
            *lock(&heartbeat.due) = now + heartbeat.within;
        }
    }

    /// Limits changed: a wall time that is shorter than the lease shortens it.
    pub(crate) fn set_bounds(&self, bounds: RunBounds, now: Instant) {
        if let Some(wall_time) = &bounds.wall_time {
            let left = wall_time.max.saturating_sub(self.age(now));
            let mut lease = lock(&self.lease);
            let too_much = lease.deadline.saturating_duration_since(now).saturating_sub(left);
            lease.deadline -= too_much;
            lease.expires_at -= too_much;
        }
        self.budget.set_bounds(bounds);
    }

    /// Why the run itself is over, if it is.
    fn over(&self, now: Instant) -> Option<RunEnd> {
        if self.lease().deadline <= now {
            let wall_time = self.budget.wall_time();
            let is_spent = wall_time.is_some_and(|max| max <= self.age(now));
            return Some(if is_spent { RunEnd::BudgetSpent } else { RunEnd::Expired });
        }
        let is_missed = self.heartbeat.as_ref().is_some_and(|beat| *lock(&beat.due) <= now);
        is_missed.then_some(RunEnd::RenewMissed)
    }

    /// When it is over next, unless it is renewed.
    fn due(&self) -> Instant {
        let deadline = self.lease().deadline;
        self.heartbeat.as_ref().map_or(deadline, |beat| deadline.min(*lock(&beat.due)))
    }

    /// A session to this target was opened by it or below it.
    pub(crate) fn reached(&self, target: &TargetName) {
        for run in self.chain() {
            let mut done = run.locked_done();
            if !done.targets.contains(target) {
                done.targets.insert(target.clone());
            }
        }
    }

    /// A statement with this verb was allowed to it or below it.
    pub(crate) fn acted(&self, verb: &'static str) {
        self.chain().for_each(|run| {
            run.locked_done().actions.insert(verb);
        });
    }

    /// What it, and everything below it, did so far.
    pub(crate) fn done(&self) -> RunUse {
        let done = self.locked_done();
        let mut all = done.kept.clone();
        all.used = self.budget.used();
        all.targets.extend(done.targets.iter().cloned());
        all.actions.extend(done.actions.iter().map(|verb| (*verb).to_owned()));
        all
    }

    /// The same, when it is more than what was stored.
    pub(crate) fn unkept(&self) -> Option<RunUse> {
        let all = self.done();
        (self.locked_done().kept != all).then_some(all)
    }

    /// It was stored.
    pub(crate) fn kept(&self, done: RunUse) {
        self.locked_done().kept = done;
    }

    fn locked_done(&self) -> MutexGuard<'_, Done> {
        lock(&self.done)
    }

    /// This run, its parent, and so on to the root.
    pub(crate) fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |run| run.parent.as_deref())
    }

    /// Root first, as policy wants it.
    pub(crate) fn nodes(&self) -> Vec<RunNode> {
        let mut nodes: Vec<RunNode> = self
            .chain()
            .map(|run| RunNode {
                id: run.run.id.clone(),
                name: run.run.name.clone(),
                attribution: attribution_of(&run.run),
                actions: run.run.actions.clone(),
            })
            .collect();
        nodes.reverse();
        nodes
    }

    /// Whether neither it nor an ancestor has ended or outlived its lease.
    pub(crate) fn is_live(&self, now: Instant) -> bool {
        self.chain().all(|run| !run.is_ended.load(Ordering::Acquire) && now < run.due())
    }

    /// Whether it and every ancestor were granted this target.
    pub(crate) fn may_use(&self, target: &TargetName) -> bool {
        self.chain().all(|run| run.run.targets.is_empty() || run.run.targets.contains(target))
    }

    /// What is left of the shortest lease of it and its ancestors.
    pub(crate) fn time_left(&self, now: Instant) -> Duration {
        let earliest = self.chain().map(|run| run.lease().deadline).min();
        earliest.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(now))
    }

    /// Whether `id` is this run or one of its ancestors.
    pub(crate) fn is_within(&self, id: &str) -> bool {
        self.chain().any(|run| run.run.id.as_str() == id)
    }

    /// The administrators and others who started a run of the chain in somebody's name.
    pub(crate) fn started_by(&self) -> impl Iterator<Item = &PrincipalName> {
        self.chain().filter_map(|run| run.run.started_by.as_ref())
    }
}

/// How sessions of a run are known to be its own.
pub(crate) fn attribution_of(run: &Run) -> Attribution {
    match run.process {
        Some(_) => Attribution::Process,
        None => Attribution::Token,
    }
}

/// All active runs.
#[derive(Debug, Default)]
pub(crate) struct RunTree {
    runs: HashMap<RunId, Arc<LiveRun>>,
    children: HashMap<RunId, Vec<RunId>>,
    by_token: HashMap<TokenDigest, RunId>,
}

impl RunTree {
    /// Adds a run; refused when its parent has ended in the meantime.
    pub(crate) fn insert(&mut self, run: Arc<LiveRun>, now: Instant) -> Result<(), Arc<LiveRun>> {
        if let Some(parent) = &run.parent {
            let is_known = self.runs.contains_key(parent.id());
            if !is_known || !parent.is_live(now) {
                return Err(run);
            }
            self.children.entry(parent.id().clone()).or_default().push(run.id().clone());
        }
        if let Some(token) = run.token {
            self.by_token.insert(token, run.id().clone());
        }
        self.runs.insert(run.id().clone(), run);
        Ok(())
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<LiveRun>> {
        // A text that is no id cannot name a run.
        let id = RunId::new(id).ok()?;
        self.runs.get(&id).cloned()
    }

    pub(crate) fn by_token(&self, token: &TokenDigest) -> Option<Arc<LiveRun>> {
        self.by_token.get(token).and_then(|id| self.runs.get(id)).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<LiveRun>> {
        self.runs.values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    /// Ends a run and everything below it, ancestors before descendants. From here on none of
    /// them is live.
    pub(crate) fn end(&mut self, id: &RunId) -> Vec<Arc<LiveRun>> {
        let mut ended: Vec<Arc<LiveRun>> = Vec::new();
        let mut next = vec![id.clone()];
        while let Some(id) = next.pop() {
            let Some(run) = self.runs.remove(&id) else { continue };
            run.is_ended.store(true, Ordering::Release);
            run.budget.end();
            if let Some(token) = &run.token {
                self.by_token.remove(token);
            }
            next.extend(self.children.remove(&id).unwrap_or_default());
            if let Some(parent) = &run.parent
                && let Some(siblings) = self.children.get_mut(parent.id())
            {
                siblings.retain(|sibling| sibling != &id);
            }
            ended.push(run);
        }
        ended
    }

    /// The runs that are over by themselves, and why, ancestors first; their descendants end with
    /// them.
    pub(crate) fn over(&self, now: Instant) -> Vec<(RunId, RunEnd)> {
        let runs = self.runs.values();
        let over = runs.filter_map(|run| run.over(now).map(|end| (run, end)));
        let mut over: Vec<(&Arc<LiveRun>, RunEnd)> = over.collect();
        over.sort_by_key(|(run, _)| run.run.depth);
        over.into_iter().map(|(run, end)| (run.id().clone(), end)).collect()
    }

    /// The runs whose wrapper did not come back in time.
    pub(crate) fn abandoned(&self, now: Instant) -> Vec<RunId> {
        let is_abandoned = |run: &&Arc<LiveRun>| match *run.hold() {
            Hold::Awaited { until } => until <= now,
            Hold::Never | Hold::By(_) => false,
        };
        let mut found: Vec<&Arc<LiveRun>> = self.runs.values().filter(is_abandoned).collect();
        found.sort_by_key(|run| run.run.depth);
        found.into_iter().map(|run| run.id().clone()).collect()
    }

    /// The runs of processes right below a run.
    pub(crate) fn processes_of(&self, id: &RunId) -> Vec<Arc<LiveRun>> {
        let children = self.children.get(id).into_iter().flatten();
        let runs = children.filter_map(|id| self.runs.get(id));
        runs.filter(|run| run.run.process.is_some()).cloned().collect()
    }

    /// When the next run is over.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.runs.values().map(|run| run.due()).min()
    }

    /// What is chosen of the roots of all trees.
    pub(crate) fn roots_with<T>(&self, choose: impl Fn(&LiveRun) -> Option<T>) -> Vec<T> {
        let roots = self.runs.values().filter(|run| run.parent.is_none());
        roots.filter_map(|run| choose(run)).collect()
    }

    /// The roots of the trees for which `is_meant` holds.
    pub(crate) fn roots_where(&self, is_meant: impl Fn(&LiveRun) -> bool) -> Vec<RunId> {
        self.roots_with(|run| is_meant(run).then(|| run.id().clone()))
    }
}

/// Every change under these locks is whole, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use corral_gate::budget::{RunBounds, Used};

    use super::*;

    #[test]
    fn a_clock_set_back_does_not_lengthen_a_run() {
        let start = Instant::now();
        let hour = Duration::from_secs(3600);
        let wall = OffsetDateTime::UNIX_EPOCH + 1000 * hour;
        let id = RunId::new("r_1").expect("an id");
        let sponsor = PrincipalName::new("ada").expect("a name");
        let run = Run {
            id: id.clone(),
            parent: None,
            principal: Principal::user(sponsor.clone()),
            sponsor,
            name: "job".to_owned(),
            purpose: None,
            targets: Vec::new(),
            actions: Vec::new(),
            renew_within_s: None,
            depth: 0,
            started_by: None,
            process: None,
            attached: false,
            job: None,
            started_at: wall,
            // By the wall it would go on for years.
            expires_at: wall + 100_000 * hour,
            state: RunState::Active,
        };
        let budget = RunBudget::root(id, RunBounds::default(), Used::default());
        let run = LiveRun::new(run, None, None, budget, start + hour, Age::new(start));
        assert!(run.is_live(start));
        assert_eq!(run.time_left(start), hour);
        assert!(!run.is_live(start + hour));
        assert_eq!(run.time_left(start + hour), Duration::ZERO);
    }
}
