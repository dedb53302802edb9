//! Time as an argument.

use futures::future::BoxFuture;
use jiff::Timestamp;

/// Where the cluster takes its time from: the machine, or a test.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;
    /// Completes once `now()` has reached `at`.
    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()>;
}
