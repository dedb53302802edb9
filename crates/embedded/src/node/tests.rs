//! What this room's tests share.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::clock::Clock;

/// A clock that stands still.
pub(crate) struct FixedClock(pub(crate) Timestamp);

impl Default for FixedClock {
    fn default() -> Self {
        Self("2026-11-21T10:00:00Z".parse().unwrap())
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        if at <= self.0 {
            futures::future::ready(()).boxed()
        } else {
            futures::future::pending().boxed()
        }
    }
}
