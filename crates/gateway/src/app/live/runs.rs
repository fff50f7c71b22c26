//! The trees of active runs: who is below whom, whose token is whose, when each one ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corral_gate::budget::RunBudget;
use corral_gate::policy::{Attribution, RunNode};
use corral_model::ids::{PrincipalName, TargetName};
use corral_model::token::TokenDigest;
use corral_model::{Principal, Run, RunId, RunState};
use time::OffsetDateTime;
use tokio::time::Instant;

/// When a run ends: on the clock that nobody can set back, and as people read it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) deadline: Instant,
    pub(crate) expires_at: OffsetDateTime,
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
    ) -> Self {
        let path = match &parent {
            Some(parent) => format!("{}/{}", parent.path, run.name),
            None => run.name.clone(),
        };
        let lease = Mutex::new(Lease { deadline, expires_at: run.expires_at });
        let hold = Mutex::new(Hold::Never);
        Self { run, path, token, parent, budget, lease, is_ended: AtomicBool::new(false), hold }
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

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    pub(crate) fn budget(&self) -> &Arc<RunBudget> {
        &self.budget
    }

    pub(crate) fn lease(&self) -> Lease {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_lease(&self, lease: Lease) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }

    /// The run as it is now, for others to see.
    pub(crate) fn snapshot(&self) -> Run {
        Run {
            expires_at: self.lease().expires_at,
            state: RunState::Active,
            attached: self.run.attached || *self.hold() != Hold::Never,
            ..self.run.clone()
        }
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
            })
            .collect();
        nodes.reverse();
        nodes
    }

    /// Whether neither it nor an ancestor has ended or outlived its lease.
    pub(crate) fn is_live(&self, now: Instant) -> bool {
        self.chain().all(|run| !run.is_ended.load(Ordering::Acquire) && now < run.lease().deadline)
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

    /// The runs whose own lease is over; their descendants end with them.
    pub(crate) fn expired(&self, now: Instant) -> Vec<RunId> {
        let is_over = |run: &&Arc<LiveRun>| run.lease().deadline <= now;
        let mut over: Vec<&Arc<LiveRun>> = self.runs.values().filter(is_over).collect();
        over.sort_by_key(|run| run.run.depth);
        over.into_iter().map(|run| run.id().clone()).collect()
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

    /// When the next lease is over.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.runs.values().map(|run| run.lease().deadline).min()
    }

    /// The roots of the trees for which `is_meant` holds.
    pub(crate) fn roots_where(&self, is_meant: impl Fn(&LiveRun) -> bool) -> Vec<RunId> {
        let roots = self.runs.values().filter(|run| run.parent.is_none() && is_meant(run));
        roots.map(|run| run.id().clone()).collect()
    }
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
        let run = LiveRun::new(run, None, None, budget, start + hour);
        assert!(run.is_live(start));
        assert_eq!(run.time_left(start), hour);
        assert!(!run.is_live(start + hour));
        assert_eq!(run.time_left(start + hour), Duration::ZERO);
    }
}
