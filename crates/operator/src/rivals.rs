//! Other controllers that write the same status, for instance a `VolSync` that does not know of us.
//!
//! Each write of one is an event for the other, so without a brake the two would take turns as fast as the API server
//! lets them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::backoff::WATCH;
use crate::business::has_another_master;
use crate::kinds::Key;
use crate::subject::Subject;

/// Whoever takes our words back as often is no `VolSync` that has just been stopped.
const PATIENCE: u32 = 3;
/// A rival that was silent for as long has given up.
const FORGIVEN: SignedDuration = SignedDuration::from_mins(10);

#[derive(Clone, Copy, Debug)]
struct Rivalry {
    /// Whether the last word was ours.
    spoke: bool,
    times: u32,
    last: Timestamp,
    hold_until: Timestamp,
}

/// How often our words were taken back, for each resource.
#[derive(Debug, Default)]
pub struct Rivals(Mutex<HashMap<Key, Rivalry>>);

impl Rivals {
    /// Notes that we have written the status.
    pub fn spoke(&self, key: &Key, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(key.clone())
            .or_insert(Rivalry {
                spoke: true,
                times: 0,
                last: now,
                hold_until: now,
            })
            .spoke = true;
    }

    /// Until when to leave a resource alone, because somebody keeps taking our words back.
    pub fn hold(&self, subject: &Subject, now: Timestamp, jitter: f64) -> Option<Timestamp> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rivalry = all.get_mut(&subject.key)?;
        if rivalry.spoke && has_another_master(subject) {
            rivalry.spoke = false;
            let long_ago = now.duration_since(rivalry.last) > FORGIVEN;
            rivalry.times = if long_ago { 1 } else { rivalry.times + 1 };
            rivalry.last = now;
            if rivalry.times >= PATIENCE {
                rivalry.hold_until = now + WATCH.after(rivalry.times - PATIENCE + 1, jitter);
            }
            if rivalry.times == PATIENCE {
                tracing::warn!(
                    resource = %subject.key,
                    "another controller keeps writing this status too, VolSync perhaps; one of the two must leave the resource alone (--movers), until then it is looked at less often"
                );
            }
        }
        Some(rivalry.hold_until).filter(|until| now < *until)
    }

    /// Forgets a resource that is no more.
    pub fn forget(&self, key: &Key) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use syncline_api::ReplicationSource;

    use super::*;

    fn subject(generation: i64) -> Subject {
        let source: ReplicationSource = serde_json::from_value(json!({
            "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
            "metadata": {"name": "db", "namespace": "east"}, "spec": {"rsync": {}},
            "status": {"conditions": [{"type": "Synchronizing", "status": "False", "reason": "Error", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": generation}]},
        }))
        .unwrap();
        Subject::of_source(&source)
    }

    #[test]
    fn a_takeover_is_not_held_up_and_a_quarrel_is() {
        let (rivals, mut now) = (Rivals::default(), Timestamp::UNIX_EPOCH);
        let (ours, theirs) = (subject(1), subject(0));
        assert_eq!(rivals.hold(&theirs, now, 0.0), None, "they were here first");
        let mut waits = Vec::new();
        for _ in 0..12 {
            rivals.spoke(&ours.key, now);
            assert_eq!(rivals.hold(&ours, now, 0.0), None);
            let until = rivals.hold(&theirs, now, 0.0).unwrap_or(now);
            assert_eq!(rivals.hold(&theirs, until, 0.0), None);
            waits.push(until.duration_since(now).as_secs());
            now = until;
        }
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        now += FORGIVEN + SignedDuration::from_secs(1);
        rivals.spoke(&ours.key, now);
        assert_eq!(rivals.hold(&theirs, now, 0.0), None, "peace was made");
    }
}
