//! Failed requests in a row, for each resource.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use crate::kinds::Key;

#[derive(Debug, Default)]
struct Streak {
    count: u32,
    refusal: Option<String>,
}

/// How often in a row looking at each resource failed, and what the API server last refused.
#[derive(Debug)]
pub struct Failures<K = Key>(Mutex<HashMap<K, Streak>>);

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Clone + Eq + Hash> Failures<K> {
    /// Counts one more failure; returns how many there are now.
    pub fn count(&self, key: &K) -> u32 {
        self.with(key, |streak| {
            streak.count = streak.count.saturating_add(1);
            streak.count
        })
    }

    /// Remembers what the API server refused, in words.
    pub fn refused(&self, key: &K, words: String) {
        self.with(key, |streak| streak.refusal = Some(words));
    }

    /// What the API server refused in the looks that failed, if it refused anything.
    pub fn refusal(&self, key: &K) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key)?.refusal.clone()
    }

    /// Starts anew.
    pub fn forget(&self, key: &K) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }

    fn with<T>(&self, key: &K, change: impl FnOnce(&mut Streak) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(key.clone()).or_default())
    }
}
