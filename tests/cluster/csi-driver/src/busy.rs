//! Two calls never work on the same object at once: the second is told to come again, as CSI asks for.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Fault;

/// Objects that calls work on now.
#[derive(Clone, Default)]
pub(crate) struct Busy {
    keys: Arc<Mutex<HashSet<String>>>,
}

/// Holds an object until it goes out of scope.
pub(crate) struct Held {
    busy: Busy,
    key: String,
}

impl Busy {
    pub(crate) fn take(&self, key: &str) -> Result<Held, Fault> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if !keys.insert(key.to_owned()) {
            return Err(Fault::Aborted(format!(
                "another call works on {key}: come again"
            )));
        }
        Ok(Held {
            busy: self.clone(),
            key: key.to_owned(),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut keys = self
            .busy
            .keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        keys.remove(&self.key);
    }
}
