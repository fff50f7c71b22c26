//! Definitions and other sessions' statements take turns by name, as the target's own locks would
//! make them. The target looks names up later than the gateway decided by them: while a statement
//! is on its way, nobody may change what it names, and while a definition is not certainly over,
//! nobody may be decided by what held before it.
//!
//! A statement *uses* its names from before its decision until the target has looked them up. A
//! definition *claims* those that it changes from before its decision until its transaction is
//! over. Names are compared without their schemas, since what a definition makes may stand before
//! another object of its name in a path. It knows neither messages nor the target.
//!
//! Everybody registers first and looks at the others then. A mutex guards what a session has
//! registered, so of two that meet, one at least looks after the other has registered: if the
//! definition locked the other's slot before the use was in it, its claim was counted before the
//! statement reads the count. Both may see each other and wait; they look again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use corral_model::statement::Facts;
use corral_model::{ObjectRef, ObjectRole, limits};

use crate::shared::SharedTarget;

/// Those of one target, for all of its accounts.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Claims that there are, those of lost sessions too. None: no statement has to look further.
    definitions: AtomicUsize,
    /// Of the claim that came last.
    last_ticket: AtomicU64,
    registry: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    /// Of the sessions, by number.
    slots: BTreeMap<u64, Arc<Slot>>,
    orphans: Vec<Orphan>,
    last_number: u64,
}

/// What a session claimed that ended before the target told of its transaction.
#[derive(Debug)]
struct Orphan {
    claims: Vec<Claim>,
    /// None: since somebody looks at it.
    since: Option<Instant>,
}

/// What one session uses and claims.
#[derive(Debug, Default)]
struct Slot(Mutex<Registered>);

#[derive(Debug, Default)]
struct Registered {
    /// Free places stay, so that the next use takes no memory.
    uses: Vec<Option<Arc<Facts>>>,
    /// What the transaction has used: the target has locks on the relations in it.
    held: Vec<Arc<Facts>>,
    claims: Vec<Claim>,
}

#[derive(Debug, Clone)]
struct Claim {
    ticket: u64,
    reach: Reach,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// New statements wait for it, so that it comes to its turn.
    Waiting,
    /// It may go to the target, and has not gone.
    Granted,
    Sent,
}

/// What a definition may change.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    /// Its own facts.
    pub(crate) facts: Arc<Facts>,
    /// More than the objects that they list as defined or reached.
    pub(crate) is_wide: bool,
}

impl Reach {
    fn meets(&self, used: &Facts) -> bool {
        self.is_wide || self.changes_one(used, |changed, used| changed.name == used.name)
    }

    /// Whether the target would wait for the locks of what was used.
    fn meets_locks(&self, held: &Facts) -> bool {
        let is_same = |changed: &ObjectRef, held: &ObjectRef| {
            changed.name == held.name && changed.schema == held.schema
        };
        self.changes_one(held, is_same)
    }

    /// What it reaches counts as what it defines: partitions and children are changed with their
    /// table.
    fn changes_one(&self, used: &Facts, is_one: impl Fn(&ObjectRef, &ObjectRef) -> bool) -> bool {
        let is_changed = |role| matches!(role, ObjectRole::Define | ObjectRole::Reached);
        let mut changed = self.facts.objects.iter().filter(|object| is_changed(object.role));
        changed.any(|changed| used.objects.iter().any(|used| is_one(changed, used)))
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Registered> {
        lock(&self.0)
    }
}

impl Registered {
    fn use_names(&mut self, facts: Arc<Facts>) -> usize {
        let free = self.uses.iter().position(Option::is_none);
        let place = free.unwrap_or(self.uses.len());
        match self.uses.get_mut(place) {
            Some(free) => *free = Some(facts),
            None => self.uses.push(Some(facts)),
        }
        place
    }

    fn hold(&mut self, facts: Arc<Facts>) {
        let is_held = self.held.iter().any(|held| Arc::ptr_eq(held, &facts));
        if !is_held && self.held.len() < limits::NAMES_HELD_MAX {
            self.held.push(facts);
        }
    }

    fn claim_mut(&mut self, ticket: u64) -> Option<&mut Claim> {
        self.claims.iter_mut().find(|claim| claim.ticket == ticket)
    }

    /// Takes those away for which it says so; gives how many.
    fn drop_claims(&mut self, is_over: impl Fn(&Claim) -> bool) -> usize {
        let count = self.claims.len();
        self.claims.retain(|claim| !is_over(claim));
        count - self.claims.len()
    }
}

/// What a session wants to do next.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) facts: &'a Arc<Facts>,
    /// Of a definition.
    pub(crate) claims: Option<Reach>,
    /// It may run what nobody knows, and so need not be decided by what names mean: it uses
    /// nothing, and waits for no definition.
    pub(crate) is_free: bool,
    /// Others may wait for what it has: it stands behind nobody who waits.
    pub(crate) is_in_transaction: bool,
}

/// A session's part in the turns.
#[derive(Debug)]
pub(crate) struct Turn {
    shared: Arc<SharedTarget>,
    slot: Arc<Slot>,
    number: u64,
    /// Since the last transaction's end it used or claimed something.
    is_marked: bool,
}

impl Turn {
    pub(crate) fn new(shared: Arc<SharedTarget>) -> Self {
        let slot = Arc::new(Slot::default());
        let mut registry = lock(&shared.turns().registry);
        registry.last_number += 1;
        let number = registry.last_number;
        registry.slots.insert(number, slot.clone());
        drop(registry);
        Self { shared, slot, number, is_marked: false }
    }

    /// Takes the turn of a statement, if it has come. A definition that has to wait is registered
    /// in `defining`, so that those who come later wait for it; it asks again with that.
    pub(crate) fn take(
        &mut self,
        wish: Wish<'_>,
        defining: &mut Option<Defining>,
        now: Instant,
    ) -> Taken {
        let turns = self.shared.turns().clone();
        let has_definitions = || turns.definitions.load(Ordering::SeqCst) > 0;
        // Where there are some, others do not see what is registered only to be taken back.
        let registry = has_definitions().then(|| lock(&turns.registry));
        let using = (!wish.is_free).then(|| self.use_names(wish.facts));
        self.is_marked = true;
        match &wish.claims {
            Some(reach) => self.claim(reach, defining),
            None => *defining = None,
        }
        if !has_definitions() {
            return Taken::Granted(using);
        }
        let mut registry = registry.unwrap_or_else(|| lock(&turns.registry));
        self.forget_old(&mut registry, now);
        if self.is_blocked(&registry, &wish, defining.as_ref()) {
            // Before the lock is.
            drop(using);
            return Taken::Blocked;
        }
        // Under the registry's lock: of two definitions that look, one sees the other's grant.
        if let Some(defining) = defining {
            defining.set(State::Granted);
        }
        Taken::Granted(using)
    }

    fn use_names(&self, facts: &Arc<Facts>) -> Using {
        let place = self.slot.lock().use_names(facts.clone());
        Using { slot: self.slot.clone(), place, is_sent: false }
    }

    /// Registers the claim, or what it has become. What was granted has to be granted again.
    fn claim(&self, reach: &Reach, defining: &mut Option<Defining>) {
        if let Some(known) = defining {
            let mut registered = self.slot.lock();
            if let Some(claim) = registered.claim_mut(known.ticket) {
                claim.reach = reach.clone();
                claim.state = State::Waiting;
                return;
            }
        }
        let turns = self.shared.turns();
        let ticket = turns.last_ticket.fetch_add(1, Ordering::SeqCst);
        let claim = Claim { ticket, reach: reach.clone(), state: State::Waiting };
        self.slot.lock().claims.push(claim);
        turns.definitions.fetch_add(1, Ordering::SeqCst);
        *defining = Some(Defining { turns: turns.clone(), slot: self.slot.clone(), ticket });
    }

    /// Claims of lost sessions that are too old to matter: whatever became of their transactions,
    /// it is seen by who reads the catalogue again.
    fn forget_old(&self, registry: &mut Registry, now: Instant) {
        let mut count = 0;
        registry.orphans.retain_mut(|orphan| {
            let since = *orphan.since.get_or_insert(now);
            let stays = now.saturating_duration_since(since) <= limits::CATALOGUE_AGE_MAX;
            count += if stays { 0 } else { orphan.claims.len() };
            stays
        });
        if count > 0 {
            // First they read again, then they go on.
            self.shared.invalidate();
            self.shared.turns().definitions.fetch_sub(count, Ordering::SeqCst);
        }
    }

    fn is_blocked(
        &self,
        registry: &Registry,
        wish: &Wish<'_>,
        defining: Option<&Defining>,
    ) -> bool {
        let waits_for = |claim: &Claim| {
            let is_in_front = match (claim.state, defining) {
                (State::Granted | State::Sent, _) => true,
                (State::Waiting, _) if wish.is_in_transaction => false,
                (State::Waiting, None) => true,
                (State::Waiting, Some(own)) => claim.ticket < own.ticket,
            };
            is_in_front && claim.reach.meets(wish.facts)
        };
        if !wish.is_free && registry.orphans.iter().flat_map(|lost| &lost.claims).any(waits_for) {
            return true;
        }
        let others = registry.slots.iter().filter(|(number, _)| **number != self.number);
        let mut others = others.map(|(_, slot)| slot.lock());
        others.any(|other| {
            (!wish.is_free && other.claims.iter().any(waits_for))
                || wish.claims.as_ref().is_some_and(|reach| is_used(&other, reach))
        })
    }

    /// Whether something was sent of which the target has not said that it is over.
    pub(crate) fn has_sent(&self) -> bool {
        self.is_marked && self.slot.lock().claims.iter().any(|claim| claim.state == State::Sent)
    }

    /// The target is outside any transaction, or in a failed one: it has no locks for this session.
    /// `are_over`: and what was defined before is over.
    pub(crate) fn ended(&mut self, are_over: bool) {
        if !self.is_marked {
            return;
        }
        let mut registered = self.slot.lock();
        registered.held.clear();
        let count = registered.drop_claims(|claim| are_over && claim.state == State::Sent);
        self.is_marked =
            !registered.claims.is_empty() || registered.uses.iter().any(Option::is_some);
        drop(registered);
        if count > 0 {
            self.shared.turns().definitions.fetch_sub(count, Ordering::SeqCst);
        }
    }

    /// The session ends. What its transaction may yet do is nobody's by then, and waited for.
    pub(crate) fn leave(&mut self, now: Option<Instant>) {
        let mut registry = lock(&self.shared.turns().registry);
        if registry.slots.remove(&self.number).is_none() {
            return;
        }
        let mut registered = self.slot.lock();
        registered.held.clear();
        let (claims, unsent): (Vec<Claim>, Vec<Claim>) = std::mem::take(&mut registered.claims)
            .into_iter()
            .partition(|claim| claim.state == State::Sent);
        registered.claims = unsent;
        drop(registered);
        if !claims.is_empty() {
            registry.orphans.push(Orphan { claims, since: now });
            drop(registry);
            self.shared.invalidate();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.leave(None);
    }
}

/// Whether a session uses what a definition changes, or has used it in a transaction that is open:
/// the target would wait for that one's end, too, and who waits there cannot be passed by any more.
fn is_used(other: &Registered, reach: &Reach) -> bool {
    other.uses.iter().flatten().any(|used| reach.meets(used))
        || other.held.iter().any(|held| reach.meets_locks(held))
}

/// What became of a [`Wish`].
#[derive(Debug)]
pub(crate) enum Taken {
    /// None: it uses nothing.
    Granted(Option<Using>),
    Blocked,
}

/// Names in use. When it is dropped the target has looked them up, or never will.
#[derive(Debug)]
pub(crate) struct Using {
    slot: Arc<Slot>,
    place: usize,
    is_sent: bool,
}

impl Using {
    /// What uses them goes to the target, which has locks on them from then on, up to the end of
    /// the transaction.
    pub(crate) fn sent(mut self) -> Self {
        self.is_sent = true;
        self
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        let mut registered = self.slot.lock();
        let used = registered.uses.get_mut(self.place).and_then(Option::take);
        if let Some(facts) = used.filter(|_| self.is_sent) {
            registered.hold(facts);
        }
    }
}

/// The claim of a definition that was not sent. When it is dropped it will not be.
#[derive(Debug)]
pub(crate) struct Defining {
    turns: Arc<Turns>,
    slot: Arc<Slot>,
    ticket: u64,
}

impl Defining {
    fn set(&self, state: State) {
        if let Some(claim) = self.slot.lock().claim_mut(self.ticket) {
            claim.state = state;
        }
    }

    /// The definition is sent: its claim stays until its transaction is over.
    pub(crate) fn sent(self) {
        let mut registered = self.slot.lock();
        if let Some(claim) = registered.claim_mut(self.ticket) {
            claim.state = State::Sent;
        }
        let is_sent = |claim: &&Claim| claim.state == State::Sent;
        if registered.claims.iter().filter(is_sent).count() <= limits::DEFINITIONS_SENT_MAX {
            return;
        }
        let count = registered.drop_claims(|claim| claim.state == State::Sent);
        let reach = Reach { facts: Arc::default(), is_wide: true };
        registered.claims.push(Claim { ticket: self.ticket, reach, state: State::Sent });
        self.turns.definitions.fetch_sub(count - 1, Ordering::SeqCst);
    }
}

impl Drop for Defining {
    fn drop(&mut self) {
        let ticket = self.ticket;
        let is_own = |claim: &Claim| claim.ticket == ticket && claim.state != State::Sent;
        let count = self.slot.lock().drop_claims(is_own);
        if count > 0 {
            self.turns.definitions.fetch_sub(count, Ordering::SeqCst);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::Siblings;

    fn object(schema: &str, name: &str, role: ObjectRole) -> ObjectRef {
        ObjectRef { schema: schema.into(), name: name.into(), kind: "table".into(), role }
    }

    fn facts(objects: &[ObjectRef]) -> Arc<Facts> {
        Arc::new(Facts { objects: objects.to_vec(), ..Facts::default() })
    }

    fn reads(name: &str) -> Arc<Facts> {
        facts(&[object("public", name, ObjectRole::Read)])
    }

    /// Two sessions or more of one target.
    struct Stage {
        shared: Arc<SharedTarget>,
        now: Instant,
    }

    impl Stage {
        fn new() -> Self {
            let now = Instant::now();
            Self { shared: Arc::new(SharedTarget::new(now, Siblings::default())), now }
        }

        fn session(&self) -> Session {
            Session {
                turn: Turn::new(self.shared.clone()),
                now: self.now,
                is_free: false,
                is_in_transaction: false,
            }
        }

        fn definitions(&self) -> usize {
            self.shared.turns().definitions.load(Ordering::SeqCst)
        }
    }

    struct Session {
        turn: Turn,
        now: Instant,
        is_free: bool,
        is_in_transaction: bool,
    }

    impl Session {
        fn take(
            &mut self,
            facts: &Arc<Facts>,
            is_wide: Option<bool>,
            defining: &mut Option<Defining>,
        ) -> Taken {
            let claims = is_wide.map(|is_wide| Reach { facts: facts.clone(), is_wide });
            let (is_free, is_in_transaction) = (self.is_free, self.is_in_transaction);
            let wish = Wish { facts, claims, is_free, is_in_transaction };
            self.turn.take(wish, defining, self.now)
        }

        /// A statement that reads this.
        fn reads(&mut self, name: &str) -> Option<Using> {
            match self.take(&reads(name), None, &mut None) {
                Taken::Granted(using) => using,
                Taken::Blocked => None,
            }
        }

        /// A definition of this; whether it may go.
        fn defines(&mut self, name: &str, defining: &mut Option<Defining>) -> Option<Taken> {
            let facts = facts(&[object("s1", name, ObjectRole::Define)]);
            let taken = self.take(&facts, Some(false), defining);
            matches!(taken, Taken::Granted(_)).then_some(taken)
        }

        fn sends_definition(&mut self, name: &str) {
            let mut defining = None;
            assert!(self.defines(name, &mut defining).is_some(), "{name}");
            defining.expect("a claim").sent();
        }
    }

    #[test]
    fn names_of_a_definition_wait_for_its_end_whatever_their_schema() {
        let stage = Stage::new();
        let (mut a, mut b) = (stage.session(), stage.session());
        a.sends_definition("customers");
        assert!(b.reads("customers").is_none());
        assert!(b.reads("orders").is_some(), "another name");
        assert!(a.reads("customers").is_some(), "its own");
        a.turn.ended(false);
        assert!(b.reads("customers").is_none(), "it is not over");
        a.turn.ended(true);
        assert!(b.reads("customers").is_some());
        assert_eq!(stage.definitions(), 0);
    }

    #[test]
    fn a_definition_waits_for_those_that_use_its_names_and_new_ones_wait_for_it() {
        let stage = Stage::new();
        let (mut a, mut b, mut c) = (stage.session(), stage.session(), stage.session());
        let using = b.reads("customers").expect("nobody defines");
        let mut defining = None;
        assert!(a.defines("customers", &mut defining).is_none());
        assert!(c.reads("customers").is_none(), "it stands behind the definition");
        assert!(c.reads("orders").is_some());
        drop(using);
        assert!(c.reads("customers").is_none());
        assert!(a.defines("customers", &mut defining).is_some());
        assert!(c.reads("customers").is_none());
        drop(defining);
        assert!(c.reads("customers").is_some(), "it was not sent");
        assert_eq!(stage.definitions(), 0);
    }

    #[test]
    fn a_wide_definition_meets_every_name() {
        let stage = Stage::new();
        let (mut a, mut b) = (stage.session(), stage.session());
        let using = b.reads("orders").expect("nobody defines");
        let mut defining = None;
        let facts = facts(&[]);
        assert!(matches!(a.take(&facts, Some(true), &mut defining), Taken::Blocked));
        drop(using);
        assert!(matches!(a.take(&facts, Some(true), &mut defining), Taken::Granted(_)));
        assert!(b.reads("orders").is_none());
    }

    #[test]
    fn of_two_definitions_the_first_goes_first() {
        let stage = Stage::new();
        let (mut a, mut b, mut c) = (stage.session(), stage.session(), stage.session());
        let using = c.reads("t").expect("nobody defines");
        let (mut first, mut second) = (None, None);
        assert!(a.defines("t", &mut first).is_none());
        assert!(b.defines("t", &mut second).is_none());
        drop(using);
        assert!(b.defines("t", &mut second).is_none(), "it has the higher number");
        let going = a.defines("t", &mut first);
        assert!(going.is_some());
        assert!(b.defines("t", &mut second).is_none());
        drop((going, first));
        assert!(b.defines("t", &mut second).is_some());
    }

    #[test]
    fn who_is_in_a_transaction_passes_those_that_wait_but_not_those_that_go() {
        let stage = Stage::new();
        let (mut a, mut b) = (stage.session(), stage.session());
        b.is_in_transaction = true;
        let used = facts(&[object("s1", "t", ObjectRole::Read)]);
        let Taken::Granted(using) = b.take(&used, None, &mut None) else { panic!("it is free") };
        drop(using.map(Using::sent));
        let mut defining = None;
        assert!(a.defines("t", &mut defining).is_none(), "the target has locks on it");
        let elsewhere = facts(&[object("s2", "t", ObjectRole::Define)]);
        assert!(matches!(a.take(&elsewhere, Some(false), &mut None), Taken::Granted(_)));
        let using = b.reads("t");
        assert!(using.is_some());
        drop(using);
        b.turn.ended(true);
        assert!(a.defines("t", &mut defining).is_some());
        assert!(b.reads("t").is_none());
    }

    #[test]
    fn what_was_not_sent_is_not_held() {
        let stage = Stage::new();
        let (mut a, mut b) = (stage.session(), stage.session());
        drop(b.reads("t"));
        assert!(a.defines("t", &mut None).is_some());
    }

    #[test]
    fn free_sessions_wait_for_no_definition_and_define_in_turn() {
        let stage = Stage::new();
        let (mut a, mut b) = (stage.session(), stage.session());
        a.sends_definition("t");
        b.is_free = true;
        let taken = b.take(&reads("t"), None, &mut None);
        assert!(matches!(taken, Taken::Granted(None)));
        let using = a.reads("u").expect("nobody defines");
        assert!(b.defines("u", &mut None).is_none());
        drop(using);
        assert!(b.defines("u", &mut None).is_some());
    }

    #[test]
    fn what_a_lost_session_defined_is_waited_for_a_while_and_then_read_again() {
        for is_closed in [true, false] {
            let stage = Stage::new();
            let (mut a, mut b) = (stage.session(), stage.session());
            a.sends_definition("t");
            let stamp = stage.shared.stamp();
            if is_closed {
                a.turn.leave(Some(stage.now));
            }
            drop(a);
            assert_ne!(stage.shared.stamp(), stamp);
            assert!(b.reads("t").is_none());
            b.now += limits::CATALOGUE_AGE_MAX;
            assert!(b.reads("t").is_none());
            let stamp = stage.shared.stamp();
            b.now += limits::CATALOGUE_AGE_MAX;
            assert!(b.reads("t").is_some());
            assert_ne!(stage.shared.stamp(), stamp);
            assert_eq!(stage.definitions(), 0);
        }
    }

    #[test]
    fn many_definitions_of_a_transaction_become_one_of_everything() {
        let stage = Stage::new();
        let (mut a, mut b) = (stage.session(), stage.session());
        for number in 0..=limits::DEFINITIONS_SENT_MAX {
            assert!(b.reads("other").is_some(), "{number}");
            a.sends_definition("t");
        }
        assert_eq!(stage.definitions(), 1);
        assert!(b.reads("other").is_none());
        a.turn.ended(true);
        assert_eq!(stage.definitions(), 0);
        assert!(b.reads("other").is_some());
    }

    #[test]
    fn a_claim_that_became_another_is_granted_anew() {
        let stage = Stage::new();
        let (mut a, mut b) = (stage.session(), stage.session());
        let mut defining = None;
        assert!(a.defines("t", &mut defining).is_some());
        let using = b.reads("u");
        assert!(a.defines("u", &mut defining).is_none());
        assert!(b.reads("t").is_some(), "that is not claimed any more");
        drop(using);
        assert!(a.defines("u", &mut defining).is_some());
        assert_eq!(stage.definitions(), 1);
    }
}
