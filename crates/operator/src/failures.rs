//! Failed requests in a row, for each resource.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::kinds::Key;

/// How often in a row looking at each resource failed.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<Key, u32>>);

impl Failures {
    /// Counts one more failure; returns how many there are now.
    pub fn count(&self, key: &Key) -> u32 {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(key.clone()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Starts anew.
    pub fn forget(&self, key: &Key) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}
