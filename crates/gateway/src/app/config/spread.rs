//! A map of which a changed copy costs the same however much it holds.
//!
//! Its keys are spread over parts that copies share; a change copies the one part that it is in.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Arc;

/// Parts of one map: 40 keys in each where a provider writes as many people as it may.
const PARTS: usize = 256;

#[derive(Debug, Clone)]
pub(super) struct Spread<K, V> {
    hasher: RandomState,
    parts: Vec<Arc<BTreeMap<K, V>>>,
}

impl<K: Ord + Hash + Clone, V: Clone> Spread<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.parts.get(self.place(key))?.get(key)
    }

    /// Puts a value in the place of the earlier one.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if let Some(part) = self.part_mut(&key) {
            part.insert(key, value);
        }
    }

    /// Changes what is at a key, which begins with nothing; what is nothing afterwards goes.
    pub(super) fn change(&mut self, key: K, change: impl FnOnce(&mut V), is_nothing: fn(&V) -> bool)
    where
        V: Default,
    {
        let Some(part) = self.part_mut(&key) else { return };
        let value = part.entry(key.clone()).or_default();
        change(value);
        if is_nothing(value) {
            part.remove(&key);
        }
    }

    /// Everything, in the order of the keys.
    pub(super) fn sorted(&self) -> Vec<(&K, &V)> {
        let mut all: Vec<(&K, &V)> = self.parts.iter().flat_map(|part| part.iter()).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }

    fn place(&self, key: &K) -> usize {
        let parts = u64::try_from(PARTS).unwrap_or(1);
        usize::try_from(self.hasher.hash_one(key) % parts).unwrap_or_default()
    }

    fn part_mut(&mut self, key: &K) -> Option<&mut BTreeMap<K, V>> {
        let place = self.place(key);
        self.parts.get_mut(place).map(Arc::make_mut)
    }
}

impl<K, V> Default for Spread<K, V> {
    fn default() -> Self {
        let part = || Arc::new(BTreeMap::new());
        Self {
            hasher: RandomState::new(),
            parts: std::iter::repeat_with(part).take(PARTS).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_changed_alone_and_shares_all_other_parts() {
        let mut before: Spread<u32, u32> = Spread::default();
        for n in 0..10_000 {
            before.insert(n, n);
        }
        let mut after = before.clone();
        after.insert(7, 70);
        assert_eq!((before.get(&7), after.get(&7)), (Some(&7), Some(&70)));
        let pairs = before.parts.iter().zip(&after.parts);
        assert_eq!(pairs.filter(|(old, new)| !Arc::ptr_eq(old, new)).count(), 1);
        let keys: Vec<u32> = after.sorted().into_iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, (0..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_nothing_after_a_change_is_gone() {
        let mut map: Spread<u32, Vec<u32>> = Spread::default();
        map.change(1, |values| values.push(5), Vec::is_empty);
        assert_eq!(map.get(&1), Some(&vec![5]));
        map.change(1, Vec::clear, Vec::is_empty);
        assert_eq!(map.get(&1), None);
        assert!(map.sorted().is_empty());
    }
}
