//! Who keeps failing. What keeps one resource from its data often keeps many, a store or a site that is down, so they take
//! turns while it lasts; and when one of them comes through, the others need not wait for their turns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::kinds::Key;

/// How many are called for each that comes through. Two make the number of those who try double each time while all goes
/// well, and cost next to nothing where the others fail for reasons of their own.
const CALLED_AT_ONCE: usize = 2;

/// The resources that keep failing.
#[derive(Debug, Default)]
pub struct Crowd(Mutex<Members>);

#[derive(Debug, Default)]
struct Members {
    /// With the time until which each waits.
    failing: BTreeMap<Key, Timestamp>,
    /// Those who are to try before that.
    called: BTreeSet<Key>,
}

impl Crowd {
    /// How many they are, when `key` is counted among them.
    pub fn size_with(&self, key: &Key) -> usize {
        self.with(|members| members.failing.len() + usize::from(!members.failing.contains_key(key)))
    }

    /// `key` has failed, and waits until then.
    pub fn join(&self, key: &Key, until: Timestamp) {
        self.with(|members| members.failing.insert(key.clone(), until));
    }

    /// Nothing is wrong with `key`. If something was before, this returns who else is to try now: those who would wait
    /// longest.
    pub fn leave(&self, key: &Key) -> Vec<Key> {
        self.with(|members| {
            members.called.remove(key);
            if members.failing.remove(key).is_none() {
                return Vec::new();
            }
            let idle = members
                .failing
                .iter()
                .filter(|(other, _)| !members.called.contains(*other));
            let mut idle: Vec<(Timestamp, Key)> =
                idle.map(|(other, until)| (*until, other.clone())).collect();
            idle.sort_unstable_by(|one, other| other.cmp(one));
            let called: Vec<Key> = idle
                .into_iter()
                .take(CALLED_AT_ONCE)
                .map(|(_, other)| other)
                .collect();
            members.called.extend(called.iter().cloned());
            called
        })
    }

    /// Whether `key` is called to try before its time; once.
    pub fn is_called(&self, key: &Key) -> bool {
        self.with(|members| members.called.remove(key))
    }

    /// Forgets a resource that is no more.
    pub fn forget(&self, key: &Key) {
        self.with(|members| {
            members.called.remove(key);
            members.failing.remove(key);
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut Members) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
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

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn who_comes_through_calls_those_who_would_wait_longest_and_each_once() {
        let crowd = Crowd::default();
        for (name, until) in [("a", 10), ("b", 40), ("c", 20), ("d", 30)] {
            crowd.join(&key(name), at(until));
        }
        assert_eq!(crowd.leave(&key("a")), [key("b"), key("d")]);
        assert!(crowd.leave(&key("a")).is_empty(), "it has left already");
        assert!(crowd.is_called(&key("b")));
        assert!(!crowd.is_called(&key("b")), "it has heard");
        assert_eq!(crowd.leave(&key("b")), [key("c")], "d is called already");
    }

    #[test]
    fn everybody_counts_once_for_as_long_as_it_fails() {
        let crowd = Crowd::default();
        assert_eq!(crowd.size_with(&key("a")), 1);
        crowd.join(&key("a"), at(1));
        crowd.join(&key("a"), at(2));
        assert_eq!(crowd.size_with(&key("a")), 1);
        assert_eq!(crowd.size_with(&key("b")), 2);
        crowd.forget(&key("a"));
        assert!(crowd.leave(&key("b")).is_empty());
    }
}
