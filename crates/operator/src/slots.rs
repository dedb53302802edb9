//! How many sources transfer at once. A hundred schedules of the same minute must not be a hundred movers.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::kinds::Key;

/// The places for running transfers, and who waits for one.
#[derive(Debug)]
pub struct Slots {
    limit: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    running: BTreeSet<Key>,
    waiting: BTreeSet<Key>,
}

impl Slots {
    /// As many places as `limit` says; zero means no limit.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: if limit == 0 { usize::MAX } else { limit },
            held: Mutex::default(),
        }
    }

    /// Takes a place for `key`, if there is one. One that runs already, as after a restart, has its place anyway.
    pub fn take(&self, key: &Key, runs_already: bool) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if runs_already || held.running.contains(key) || held.running.len() < self.limit {
            held.running.insert(key.clone());
            held.waiting.remove(key);
            return true;
        }
        held.waiting.insert(key.clone());
        false
    }

    /// Gives the place back unless `key` runs; returns who should try again.
    pub fn settle(&self, key: &Key, runs: bool) -> BTreeSet<Key> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if runs || !held.running.remove(key) {
            return BTreeSet::new();
        }
        std::mem::take(&mut held.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Side;

    fn key(name: &str) -> Key {
        Key {
            side: Side::Source,
            namespace: "ns".into(),
            name: name.into(),
        }
    }

    #[test]
    fn who_finds_no_place_is_told_when_one_is_free() {
        let slots = Slots::new(1);
        assert!(slots.take(&key("a"), false));
        assert!(!slots.take(&key("b"), false));
        assert!(slots.settle(&key("a"), true).is_empty());
        assert_eq!(slots.settle(&key("a"), false), BTreeSet::from([key("b")]));
        assert!(slots.take(&key("b"), false));
    }

    #[test]
    fn a_transfer_that_runs_already_is_never_refused() {
        let slots = Slots::new(1);
        assert!(slots.take(&key("a"), true));
        assert!(slots.take(&key("b"), true));
    }
}
