//! Two calls never work on the same object at once: the second waits, and is told to come again when that takes long.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::error::Fault;

/// How long a call waits for another one. Callers that are sent away come again after longer pauses each time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Objects that calls work on now.
#[derive(Clone, Default)]
pub(crate) struct Busy(Arc<(Mutex<HashSet<String>>, Condvar)>);

/// Holds an object until it goes out of scope.
pub(crate) struct Held {
    busy: Busy,
    key: String,
}

impl Busy {
    /// Takes the object, as soon as nobody else has it. Blocks.
    pub(crate) fn take(&self, key: &str) -> Result<Held, Fault> {
        let (keys, freed) = &*self.0;
        let keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut keys, _) = freed
            .wait_timeout_while(keys, PATIENCE, |keys| keys.contains(key))
            .unwrap_or_else(PoisonError::into_inner);
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
        let (keys, freed) = &*self.busy.0;
        keys.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
        freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_call_waits_for_the_first_and_another_object_does_not() {
        let busy = Busy::default();
        let first = busy.take("one").unwrap();
        let _other = busy.take("two").unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| busy.take("one").map(drop));
            assert!(!second.is_finished());
            drop(first);
            second.join().unwrap().unwrap();
        });
    }
}
