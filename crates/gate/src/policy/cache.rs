//! Decisions that were made before, so that a prepared statement costs no policy evaluation.
//!
//! A decision is kept under everything that it depends on: policy version, subject with groups
//! and runs, target with labels, the statement's facts, and those fields of the context that some
//! loaded rule reads. What a rule that reads the time had a part in is never kept.
//!
//! Two levels: each session has a few of its own, found by the identity of the facts and without
//! a lock; behind them one cache for all, in shards, whose locks are held for one look-up only.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use corral_model::ids::PolicyVersion;
use corral_model::limits;
use corral_model::statement::Facts;

use crate::decision::Ruling;
use crate::policy::engine::Engine;
use crate::policy::fields::Fields;
use crate::policy::subject::{Context, Subject, TargetFacts};
use crate::policy::verdict::Judged;

const SHARDS: usize = 16;

/// The fields of a context that some rule reads; the others are None.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct ContextKey {
    in_transaction: Option<bool>,
    tls: Option<bool>,
    source_ip: Option<Option<IpAddr>>,
}

impl ContextKey {
    fn of(context: &Context, fields: Fields) -> Self {
        Self {
            in_transaction: fields.in_transaction.then_some(context.in_transaction),
            tls: fields.tls.then_some(context.tls),
            source_ip: fields.source_ip.then_some(context.source_ip),
        }
    }
}

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Topic {
    /// Opening a session.
    Connect,
    Statement(Arc<Facts>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    version: PolicyVersion,
    subject: Arc<Subject>,
    target: Arc<TargetFacts>,
    topic: Topic,
    context: ContextKey,
}

impl Key {
    fn new(
        engine: &Engine,
        subject: &Arc<Subject>,
        target: &Arc<TargetFacts>,
        topic: Topic,
        context: &Context,
    ) -> Self {
        Self {
            version: engine.version(),
            subject: Arc::clone(subject),
            target: Arc::clone(target),
            topic,
            context: ContextKey::of(context, engine.fields()),
        }
    }
}

/// Two generations: when the young one is full, the old one is dropped and the young one becomes
/// old. What is still asked for moves back.
#[derive(Debug)]
struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// Of one generation.
    len_max: usize,
}

impl<K: std::hash::Hash + Eq + Clone, V: Clone> Generations<K, V> {
    fn new(len_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), len_max: (len_max / 2).max(1) }
    }

    fn find(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.len_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// Decisions shared by all sessions, at most [`limits::DECISION_CACHE_LEN_MAX`].
#[derive(Debug)]
pub struct DecisionCache {
    shards: Vec<Mutex<Generations<Key, Arc<Judged>>>>,
    hasher: RandomState,
}

impl Default for DecisionCache {
    fn default() -> Self {
        Self::new()
    }
}

impl DecisionCache {
    #[must_use]
    pub fn new() -> Self {
        Self::with_len_max(limits::DECISION_CACHE_LEN_MAX)
    }

    fn with_len_max(len_max: usize) -> Self {
        let shard = || Mutex::new(Generations::new(len_max / SHARDS));
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Decisions that are kept now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`Engine::rule`], answered from what is kept where that is possible. Sessions use
    /// [`SessionDecisions`], which asks here.
    pub fn rule(
        &self,
        engine: &Engine,
        subject: &Arc<Subject>,
        target: &Arc<TargetFacts>,
        facts: &Arc<Facts>,
        context: &Context,
        decision_id: String,
    ) -> Ruling {
        let topic = Topic::Statement(Arc::clone(facts));
        let key = Key::new(engine, subject, target, topic, context);
        engine.stamp(&self.judged(engine, key, context), decision_id)
    }

    /// As [`Engine::may_connect`], answered from what is kept where that is possible.
    pub fn may_connect(
        &self,
        engine: &Engine,
        subject: &Arc<Subject>,
        target: &Arc<TargetFacts>,
        context: &Context,
        decision_id: String,
    ) -> Ruling {
        let key = Key::new(engine, subject, target, Topic::Connect, context);
        engine.stamp(&self.judged(engine, key, context), decision_id)
    }

    fn judged(&self, engine: &Engine, key: Key, context: &Context) -> Arc<Judged> {
        let shard = self.shard(&key);
        if let Some(judged) = shard.and_then(|shard| lock(shard).find(&key)) {
            return judged;
        }
        let judged = Arc::new(match &key.topic {
            Topic::Connect => engine.judge_connect(&key.subject, &key.target, context),
            Topic::Statement(facts) => engine.judge(&key.subject, &key.target, facts, context),
        });
        if let Some(shard) = shard.filter(|_| !judged.is_of_the_moment) {
            lock(shard).insert(key, Arc::clone(&judged));
        }
        judged
    }

    fn shard(&self, key: &Key) -> Option<&Mutex<Generations<Key, Arc<Judged>>>> {
        let hash = self.hasher.hash_one(key);
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        self.shards.get(index)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is kept is whole after any panic: a lost entry is only decided again.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address of facts, with the facts, so that no other facts can come to have it.
#[derive(Debug, Clone)]
struct SameFacts(Arc<Facts>);

impl PartialEq for SameFacts {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SameFacts {}

impl std::hash::Hash for SameFacts {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// One session's own decisions, in front of the shared ones: a hit here takes no lock and reads
/// no text. At most [`limits::DECISIONS_PER_SESSION_MAX`].
#[derive(Debug)]
pub struct SessionDecisions {
    subject: Arc<Subject>,
    target: Arc<TargetFacts>,
    /// The engine that everything in `kept` was decided by.
    engine: Option<Arc<Engine>>,
    kept: Generations<OwnKey, Arc<Judged>>,
    /// What was found last: most statements ask what the one before asked, and comparing is
    /// cheaper than a hash.
    last: Option<(OwnKey, Arc<Judged>)>,
}

/// What a session's decisions depend on, beside what is the same for all that it keeps.
type OwnKey = (SameFacts, ContextKey);

impl SessionDecisions {
    #[must_use]
    pub fn new(subject: Arc<Subject>, target: Arc<TargetFacts>) -> Self {
        let kept = Generations::new(limits::DECISIONS_PER_SESSION_MAX);
        Self { subject, target, engine: None, kept, last: None }
    }

    #[must_use]
    pub fn subject(&self) -> &Arc<Subject> {
        &self.subject
    }

    #[must_use]
    pub fn target(&self) -> &Arc<TargetFacts> {
        &self.target
    }

    /// The principal's groups or the target's labels changed.
    pub fn renew(&mut self, subject: Arc<Subject>, target: Arc<TargetFacts>) {
        *self = Self::new(subject, target);
    }

    /// As [`Engine::rule`], answered from what is kept where that is possible. Another `engine`
    /// than the last one empties what the session kept.
    pub fn rule(
        &mut self,
        engine: &Arc<Engine>,
        shared: &DecisionCache,
        facts: &Arc<Facts>,
        context: &Context,
        decision_id: String,
    ) -> Ruling {
        if !self.engine.as_ref().is_some_and(|last| Arc::ptr_eq(last, engine)) {
            self.engine = Some(Arc::clone(engine));
            self.kept = Generations::new(limits::DECISIONS_PER_SESSION_MAX);
            self.last = None;
        }
        let context_key = ContextKey::of(context, engine.fields());
        if let Some(((SameFacts(last), last_context), judged)) = &self.last
            && Arc::ptr_eq(last, facts)
            && *last_context == context_key
        {
            return engine.stamp(judged, decision_id);
        }
        let own_key = (SameFacts(Arc::clone(facts)), context_key);
        if let Some(judged) = self.kept.find(&own_key) {
            let ruling = engine.stamp(&judged, decision_id);
            self.last = Some((own_key, judged));
            return ruling;
        }
        let topic = Topic::Statement(Arc::clone(facts));
        let key = Key::new(engine, &self.subject, &self.target, topic, context);
        let judged = shared.judged(engine, key, context);
        if !judged.is_of_the_moment {
            self.kept.insert(own_key, Arc::clone(&judged));
        }
        engine.stamp(&judged, decision_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_cache_forgets_what_nobody_asks_for() {
        let mut kept: Generations<u32, u32> = Generations::new(8);
        for number in 0..100 {
            kept.insert(number, number);
            assert_eq!(kept.find(&0), Some(0), "asked for each time");
            assert!(kept.len() <= 8);
        }
        assert_eq!(kept.find(&1), None);
        assert_eq!(kept.find(&99), Some(99));
    }
}
