//! What all sessions of one target share: its catalogue, and analyses under shared names.
//!
//! Sessions look at two atomics for each statement; the locks are taken only when something has to
//! be read again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use corral_gate::Admission;
use corral_model::ids::TargetName;
use corral_model::limits;

use crate::analysis::{Analysis, Catalogue, Names};
use crate::analyst::Analyst;
use crate::scram::KnownKeys;
use crate::turns::Turns;

/// All targets.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) analyst: Arc<dyn Analyst>,
    pub(crate) known_keys: KnownKeys,
    targets: Mutex<HashMap<Key, Arc<SharedTarget>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    target: TargetName,
    revision: u64,
    username: String,
    database: Option<String>,
}

impl Shared {
    pub(crate) fn new(analyst: Arc<dyn Analyst>) -> Self {
        Self { analyst, known_keys: KnownKeys::default(), targets: Mutex::default() }
    }

    /// What is shared with other sessions of the same target, account and database.
    pub(crate) fn target(&self, admission: &Admission, now: Instant) -> Arc<SharedTarget> {
        let key = Key {
            target: admission.target.clone(),
            revision: admission.target_revision,
            username: admission.credential.username.clone(),
            database: admission.database.clone(),
        };
        let mut targets = lock(&self.targets);
        if let Some(found) = targets.get(&key) {
            return found.clone();
        }
        // Whoever changes objects, all accounts read them again, and take turns with it.
        let sibling = targets.iter().find(|(known, _)| known.target == key.target);
        let siblings = sibling.map(|(_, shared)| shared.siblings.clone()).unwrap_or_default();
        targets.retain(|known, _| known.target != key.target || known.revision >= key.revision);
        if targets.len() >= limits::SHARED_TARGETS_MAX {
            targets.retain(|_, shared| Arc::strong_count(shared) > 1);
        }
        let shared = Arc::new(SharedTarget::new(now, siblings));
        if targets.len() < limits::SHARED_TARGETS_MAX {
            targets.insert(key, shared.clone());
        }
        shared
    }
}

/// What is one for all accounts of a target.
#[derive(Debug, Clone, Default)]
pub(crate) struct Siblings {
    /// Grows when objects of the target are changed through the gateway, under whatever account.
    changes: Arc<AtomicU64>,
    turns: Arc<Turns>,
}

/// One target's catalogue, with its age, and analyses under it.
#[derive(Debug)]
pub(crate) struct SharedTarget {
    born: Instant,
    siblings: Siblings,
    /// Those for which the rest holds.
    seen_changes: AtomicU64,
    /// Grows when sessions have to take the catalogue anew.
    generation: AtomicU64,
    /// Milliseconds after `born`; [`NEVER`] when there is no valid catalogue.
    read_at_ms: AtomicU64,
    state: Mutex<State>,
    /// What names mean in the session that learned them last.
    names: Mutex<Weak<Names>>,
    analyses: Mutex<HashMap<AnalysisKey, Arc<Analysis>>>,
}

const NEVER: u64 = u64::MAX;

#[derive(Debug, Default)]
struct State {
    catalogue: Option<Arc<Catalogue>>,
    is_valid: bool,
    /// A session is reading it.
    claimed_at: Option<Instant>,
}

/// What an analysis depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AnalysisKey {
    pub(crate) text: Arc<str>,
    /// Empty for texts that need no names.
    pub(crate) names: Arc<str>,
    pub(crate) scope: Arc<str>,
}

/// Of the moment at which a session asked for the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    changes: u64,
    generation: u64,
}

impl Stamp {
    /// Whether objects were changed through the gateway after `earlier`.
    pub(crate) fn is_changed_since(self, earlier: Self) -> bool {
        self.changes != earlier.changes
    }
}

/// What a session that needs the catalogue is to do.
#[derive(Debug)]
pub(crate) enum Claim {
    Have(Arc<Catalogue>, u64),
    /// Read it and publish it with this number.
    Read(u64),
    /// Another session reads it, and began after the last change. Who cannot wait reads it, too.
    Elsewhere(u64),
}

impl SharedTarget {
    pub(crate) fn new(now: Instant, siblings: Siblings) -> Self {
        Self {
            born: now,
            seen_changes: AtomicU64::new(siblings.changes.load(Ordering::Acquire)),
            siblings,
            generation: AtomicU64::new(1),
            read_at_ms: AtomicU64::new(NEVER),
            state: Mutex::default(),
            names: Mutex::default(),
            analyses: Mutex::default(),
        }
    }

    /// These names, in one piece of memory with those of the session that learned its own last
    /// when they are the same: most sessions look in the same schemas, with the same settings.
    pub(crate) fn same_names(&self, names: Names) -> Arc<Names> {
        let mut last = lock(&self.names);
        let known = last.upgrade().filter(|known| {
            Arc::ptr_eq(&known.catalogue, &names.catalogue)
                && known.session.version() == names.session.version()
        });
        known.unwrap_or_else(|| {
            let names = Arc::new(names);
            *last = Arc::downgrade(&names);
            names
        })
    }

    /// Who may name what, of all accounts.
    pub(crate) fn turns(&self) -> &Arc<Turns> {
        &self.siblings.turns
    }

    /// Whether nothing was changed through the gateway since the catalogue of this generation was
    /// read, nor found changed.
    pub(crate) fn is_unchanged(&self, generation: u64) -> bool {
        let changes = self.siblings.changes.load(Ordering::Acquire);
        self.generation.load(Ordering::Acquire) == generation
            && self.seen_changes.load(Ordering::Acquire) == changes
    }

    /// Whether the catalogue of this generation may still be relied on.
    pub(crate) fn is_current(&self, generation: u64, now: Instant) -> bool {
        self.is_unchanged(generation)
            && self.age(now).is_some_and(|age| age <= limits::CATALOGUE_AGE_MAX)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Something else when what a session read for itself may be old: objects changed, or another
    /// session found that they had.
    pub(crate) fn stamp(&self) -> Stamp {
        let changes = self.siblings.changes.load(Ordering::Acquire);
        Stamp { changes, generation: self.generation.load(Ordering::Acquire) }
    }

    fn age(&self, now: Instant) -> Option<Duration> {
        let read_at_ms = self.read_at_ms.load(Ordering::Acquire);
        if read_at_ms == NEVER {
            return None;
        }
        let read_at = self.born + Duration::from_millis(read_at_ms);
        Some(now.saturating_duration_since(read_at))
    }

    /// The catalogue, or the task to read it. While one session reads, the others go on with the
    /// old one for as long again, or wait where there is none. `is_shared`: what this session reads
    /// may be shared; they wait for nothing else.
    pub(crate) fn claim(&self, now: Instant, is_shared: bool) -> Claim {
        let mut state = lock(&self.state);
        self.see_changes(&mut state);
        let generation = self.generation.load(Ordering::Acquire);
        let is_read_elsewhere = state
            .claimed_at
            .is_some_and(|at| now.saturating_duration_since(at) <= limits::CATALOGUE_AGE_MAX);
        let age_max = if is_read_elsewhere {
            2 * limits::CATALOGUE_AGE_MAX
        } else {
            limits::CATALOGUE_AGE_MAX
        };
        let is_young = self.age(now).is_some_and(|age| age <= age_max);
        match &state.catalogue {
            Some(catalogue) if state.is_valid && is_young => {
                Claim::Have(catalogue.clone(), generation)
            }
            _ if is_read_elsewhere => Claim::Elsewhere(generation),
            _ => {
                if is_shared {
                    state.claimed_at = Some(now);
                }
                Claim::Read(generation)
            }
        }
    }

    /// A session that was to read the catalogue cannot.
    pub(crate) fn give_back(&self) {
        lock(&self.state).claimed_at = None;
    }

    /// Shares a catalogue that was read outside any transaction, unless something changed since
    /// `generation`. Gives the catalogue to use, and its generation.
    pub(crate) fn publish(
        &self,
        catalogue: Catalogue,
        generation: u64,
        now: Instant,
    ) -> (Arc<Catalogue>, u64) {
        let mut state = lock(&self.state);
        self.see_changes(&mut state);
        state.claimed_at = None;
        let shared_generation = self.generation.load(Ordering::Acquire);
        if shared_generation != generation {
            return (Arc::new(catalogue), generation);
        }
        let is_same =
            state.catalogue.as_ref().is_some_and(|old| old.version() == catalogue.version());
        let generation = if is_same && state.is_valid {
            generation
        } else {
            self.generation.fetch_add(1, Ordering::AcqRel) + 1
        };
        let catalogue = match state.catalogue.take() {
            Some(old) if is_same => old,
            _ => Arc::new(catalogue),
        };
        state.catalogue = Some(catalogue.clone());
        state.is_valid = true;
        let age = now.saturating_duration_since(self.born);
        self.read_at_ms
            .store(u64::try_from(age.as_millis()).unwrap_or(NEVER - 1), Ordering::Release);
        (catalogue, generation)
    }

    /// Objects changed: every session of the target reads again before its next statement.
    pub(crate) fn invalidate(&self) {
        self.siblings.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// What was read before the last change is not valid.
    fn see_changes(&self, state: &mut State) {
        let changes = self.siblings.changes.load(Ordering::Acquire);
        if self.seen_changes.swap(changes, Ordering::AcqRel) == changes {
            return;
        }
        state.is_valid = false;
        state.claimed_at = None;
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.read_at_ms.store(NEVER, Ordering::Release);
    }

    pub(crate) fn analysis(&self, key: &AnalysisKey) -> Option<Arc<Analysis>> {
        lock(&self.analyses).get(key).cloned()
    }

    pub(crate) fn keep_analysis(&self, key: AnalysisKey, analysis: Arc<Analysis>) {
        let mut analyses = lock(&self.analyses);
        if analyses.len() >= limits::ANALYSIS_CACHE_LEN_MAX {
            analyses.clear();
        }
        analyses.insert(key, analysis);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::SessionNames;

    #[test]
    fn a_catalogue_is_read_by_one_session_and_used_by_all() {
        let now = Instant::now();
        let shared = SharedTarget::new(now, Siblings::default());
        let Claim::Read(generation) = shared.claim(now, true) else {
            panic!("nothing was read yet")
        };
        let (_, generation) = shared.publish(Catalogue::default(), generation, now);
        assert!(shared.is_current(generation, now));
        assert!(matches!(shared.claim(now, true), Claim::Have(_, found) if found == generation));

        let later = now + limits::CATALOGUE_AGE_MAX + Duration::from_millis(1);
        assert!(!shared.is_current(generation, later));
        assert!(matches!(shared.claim(later, true), Claim::Read(_)));
        assert!(matches!(shared.claim(later, true), Claim::Have(_, _)));
    }

    #[test]
    fn names_are_shared_while_they_mean_the_same_and_somebody_has_them() {
        let shared = SharedTarget::new(Instant::now(), Siblings::default());
        let catalogue = Arc::new(Catalogue::default());
        let names = |catalogue: &Arc<Catalogue>, schema: &str| {
            let row = |cells: [&str; 3]| cells.map(|cell| Some(cell.to_owned())).to_vec();
            let rows = [
                row(["path", "1", schema]),
                row(["setting", "temporary", "0"]),
                row(["setting", "client_encoding", "UTF8"]),
                row(["setting", "standard_conforming_strings", "on"]),
            ];
            let session = SessionNames::from_rows(&rows).expect("names");
            Names { catalogue: catalogue.clone(), session }
        };
        let first = shared.same_names(names(&catalogue, "a"));
        assert!(Arc::ptr_eq(&first, &shared.same_names(names(&catalogue, "a"))));
        let elsewhere = shared.same_names(names(&catalogue, "b"));
        assert_ne!(first.session.version(), elsewhere.session.version());
        let changed = shared.same_names(names(&Arc::new(Catalogue::default()), "b"));
        assert!(!Arc::ptr_eq(&elsewhere, &changed), "another catalogue is another meaning");

        drop(changed);
        assert_eq!(lock(&shared.names).strong_count(), 0, "nobody has them any more");
    }

    #[test]
    fn a_session_that_cannot_share_what_it_reads_keeps_nobody_waiting() {
        let now = Instant::now();
        let shared = SharedTarget::new(now, Siblings::default());
        let Claim::Read(generation) = shared.claim(now, true) else { panic!("nothing was read") };
        shared.publish(Catalogue::default(), generation, now);
        let later = now + limits::CATALOGUE_AGE_MAX + Duration::from_millis(1);
        assert!(matches!(shared.claim(later, false), Claim::Read(_)));
        assert!(matches!(shared.claim(later, true), Claim::Read(_)), "it is too old for others");
        assert!(matches!(shared.claim(later, true), Claim::Have(..)), "one of them reads it");
        shared.give_back();
        assert!(matches!(shared.claim(later, true), Claim::Read(_)), "and cannot");
    }

    #[test]
    fn what_another_session_reads_is_waited_for_unless_something_changed_since() {
        let now = Instant::now();
        let shared = SharedTarget::new(now, Siblings::default());
        assert!(matches!(shared.claim(now, true), Claim::Read(_)));
        assert!(matches!(shared.claim(now, true), Claim::Elsewhere(_)));
        assert!(matches!(shared.claim(now, false), Claim::Elsewhere(_)));
        shared.invalidate();
        let Claim::Read(generation) = shared.claim(now, true) else { panic!("it is too old") };
        assert!(matches!(shared.claim(now, true), Claim::Elsewhere(_)));
        shared.publish(Catalogue::default(), generation, now);
        assert!(matches!(shared.claim(now, true), Claim::Have(..)));
    }

    #[test]
    fn a_change_under_one_account_is_a_change_for_all() {
        let now = Instant::now();
        let first = SharedTarget::new(now, Siblings::default());
        let second = SharedTarget::new(now, first.siblings.clone());
        let Claim::Read(generation) = second.claim(now, true) else { panic!("nothing was read") };
        let (_, generation) = second.publish(Catalogue::default(), generation, now);
        let stamp = second.stamp();
        first.invalidate();
        assert!(!second.is_current(generation, now));
        assert_ne!(second.stamp(), stamp);
        assert!(matches!(second.claim(now, true), Claim::Read(_)));
    }

    #[test]
    fn a_catalogue_that_was_read_before_a_change_is_not_shared() {
        let now = Instant::now();
        let shared = SharedTarget::new(now, Siblings::default());
        let Claim::Read(generation) = shared.claim(now, true) else {
            panic!("nothing was read yet")
        };
        shared.invalidate();
        let (_, kept) = shared.publish(Catalogue::default(), generation, now);
        assert!(!shared.is_current(kept, now));
        assert!(matches!(shared.claim(now, true), Claim::Read(_)));
    }
}
