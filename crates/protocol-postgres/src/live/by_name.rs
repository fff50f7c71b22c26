//! What the protocol keeps by name: statements and portals.

use std::collections::HashMap;

/// Values by name. The unnamed one, which most clients use for nearly everything, has a place of
/// its own: finding it takes no hash.
#[derive(Debug)]
pub(crate) struct ByName<T> {
    unnamed: Option<T>,
    named: HashMap<String, T>,
}

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self { unnamed: None, named: HashMap::new() }
    }
}

impl<T> ByName<T> {
    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        if name.is_empty() { self.unnamed.as_mut() } else { self.named.get_mut(name) }
    }

    pub(crate) fn len(&self) -> usize {
        self.named.len() + usize::from(self.unnamed.is_some())
    }

    /// Gives what had the name before.
    pub(crate) fn insert(&mut self, name: String, value: T) -> Option<T> {
        if name.is_empty() { self.unnamed.replace(value) } else { self.named.insert(name, value) }
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<T> {
        if name.is_empty() { self.unnamed.take() } else { self.named.remove(name) }
    }

    /// Takes everything out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.unnamed.take().into_iter().chain(self.named.drain().map(|(_, value)| value))
    }

    /// Takes out those for which `stays` says no.
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&mut T) -> bool) {
        if self.unnamed.as_mut().is_some_and(|value| !stays(value)) {
            self.unnamed = None;
        }
        self.named.retain(|_, value| stays(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unnamed_one_is_like_the_others() {
        for name in ["", "named"] {
            let mut values = ByName::default();
            assert_eq!((values.get(name), values.len()), (None, 0));
            assert_eq!(values.insert(name.to_owned(), 1), None);
            assert_eq!(values.insert(name.to_owned(), 2), Some(1));
            assert_eq!((values.get(name), values.len()), (Some(&2), 1));
            assert_eq!(values.get("other"), None);
            values.retain(|value| *value == 2);
            assert_eq!(values.get_mut(name), Some(&mut 2));
            values.retain(|value| *value != 2);
            assert_eq!(values.remove(name), None);
            values.insert(name.to_owned(), 3);
            assert_eq!(values.remove(name), Some(3));
            values.insert(name.to_owned(), 4);
            assert_eq!(values.drain().collect::<Vec<_>>(), [4]);
            assert_eq!(values.len(), 0);
        }
    }
}
