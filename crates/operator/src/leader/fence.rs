//! The fence around the leader's work: nothing is written through it once the lease may be somebody else's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;

use crate::clock::Clock;
use crate::guard::{guarded, is_read};

/// A moment by both of a machine's clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) uptime: Duration,
    pub(super) wall: Timestamp,
}

impl Moment {
    pub(super) fn of(clock: &dyn Clock) -> Self {
        Self {
            uptime: clock.uptime(),
            wall: clock.now(),
        }
    }
}

/// Open while the lease is safely held. Cloning shares it.
#[derive(Clone)]
pub struct Fence {
    clock: Arc<dyn Clock>,
    renew: Duration,
    /// When the last request was sent that took or renewed the lease; absent once it is lost.
    since: Arc<Mutex<Option<Moment>>>,
}

/// A write was about to be sent by an operator that does not lead any more.
#[derive(Debug, thiserror::Error)]
#[error(
    "this operator does not hold the lease any more, so it writes nothing; the next leader goes on"
)]
pub(super) struct Closed;

impl Fence {
    pub(super) fn new(clock: Arc<dyn Clock>, renew: Duration, since: Moment) -> Self {
        Self {
            clock,
            renew,
            since: Arc::new(Mutex::new(Some(since))),
        }
    }

    /// Whether the lease is held.
    pub fn is_open(&self) -> bool {
        !self.left().is_zero()
    }

    /// How long it is held if it is not renewed.
    ///
    /// The steady clock stands still while the machine sleeps, and the other one can be set: whichever says that more
    /// time has passed is believed. Believing a clock that was set only costs a renewal.
    pub(super) fn left(&self) -> Duration {
        let Some(since) = self.since() else {
            return Duration::ZERO;
        };
        let steady = self.clock.uptime().saturating_sub(since.uptime);
        let wall = self.clock.now().duration_since(since.wall);
        let passed = steady.max(Duration::try_from(wall).unwrap_or_default());
        self.renew.saturating_sub(passed)
    }

    /// Whether it is lost for good. Where only the wall clock says so, a renewal opens the fence again.
    pub(super) fn has_run_out(&self) -> bool {
        self.since()
            .is_none_or(|since| self.clock.uptime() >= since.uptime + self.renew)
    }

    fn since(&self) -> Option<Moment> {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn extend(&self, moment: Moment) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_some() {
            *since = Some(moment);
        }
    }

    pub(super) fn close(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A client that reads as `client` does, and writes only while the fence is open.
    pub fn around(&self, client: &Client) -> Client {
        let fence = self.clone();
        guarded(client, move |method| {
            if is_read(method) || fence.is_open() {
                Ok(())
            } else {
                Err(Closed)
            }
        })
    }
}
