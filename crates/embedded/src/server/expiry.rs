//! Events are kept for an hour, as on a real server.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Server;
use crate::store::{Change, Expect};

const KEPT: SignedDuration = SignedDuration::from_hours(1);
const LOOK_EVERY: Duration = Duration::from_secs(300);

impl Server {
    /// Removes events whose last occurrence is long past. Runs until the stop.
    pub(crate) async fn expire_events(self: Arc<Self>) {
        loop {
            let now = self.now();
            self.remove_events_before(now - KEPT).await;
            tokio::select! {
                () = self.clock.sleep_until(now + LOOK_EVERY) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }
}

impl Server {
    async fn remove_events_before(&self, limit: Timestamp) {
        let old = |event: &Value| last_occurrence(event).is_some_and(|last| last < limit);
        for stored in self
            .store
            .list("/events", None)
            .1
            .into_iter()
            .filter(|stored| old(&stored.object))
        {
            let expect = Expect::Revision(stored.revision);
            let change = Change {
                key: stored.key.clone(),
                expect,
                object: None,
            };
            if let Err(error) = self.store.write(change).await {
                tracing::debug!(%error, "an old event stays until the next look");
            }
        }
    }
}

/// The latest of an event's times.
fn last_occurrence(event: &Value) -> Option<Timestamp> {
    const TIMES: [&str; 4] = [
        "/metadata/creationTimestamp",
        "/lastTimestamp",
        "/eventTime",
        "/series/lastObservedTime",
    ];
    TIMES
        .iter()
        .filter_map(|path| event.pointer(path)?.as_str()?.parse().ok())
        .max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_time_counts() {
        let event = json!({
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "lastTimestamp": "2026-01-01T02:00:00Z", "eventTime": null,
        });
        assert_eq!(
            last_occurrence(&event),
            Some("2026-01-01T02:00:00Z".parse().unwrap())
        );
    }
}
