//! Level-triggered waiting: ask again until it is so, never "sleep and hope".

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long it rests between two looks: the twentieth part of what it has waited so far, within these. What takes long is not
/// asked for as often, since each look takes from the time of what is looked at.
const SHORTEST_REST: Duration = Duration::from_millis(50);
const LONGEST_REST: Duration = Duration::from_millis(250);
/// How long one look may take.
const LOOK_CAP: Duration = Duration::from_secs(10);

/// What one look gave: the thing waited for, or what is still missing (shown when time is up).
pub enum Look<T> {
    /// It is so.
    Done(T),
    /// Not yet, and this is what was seen instead.
    NotYet(String),
}

/// Looks until `look` says done, for at most `cap`; then the error tells `what` and what was seen last.
pub async fn wait_for<T, F, Fut>(what: &str, cap: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Look<T>>>,
{
    let start = Instant::now();
    loop {
        let seen = match tokio::time::timeout(LOOK_CAP, look()).await {
            Ok(Ok(Look::Done(value))) => return Ok(value),
            Ok(Ok(Look::NotYet(what))) => what,
            // An error may be part of what is waited out (a server that restarts); it is shown if it stays.
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("no answer within {LOOK_CAP:?}"),
        };
        if start.elapsed() > cap {
            bail!("waited {cap:?} in vain for {what}; last seen: {seen}");
        }
        tokio::time::sleep(rest(start)).await;
    }
}

/// The same for code that is not asynchronous.
pub fn wait_for_blocking<T>(
    what: &str,
    cap: Duration,
    mut look: impl FnMut() -> Result<Look<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let seen = match look() {
            Ok(Look::Done(value)) => return Ok(value),
            Ok(Look::NotYet(what)) => what,
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > cap {
            bail!("waited {cap:?} in vain for {what}; last seen: {seen}");
        }
        std::thread::sleep(rest(start));
    }
}

fn rest(start: Instant) -> Duration {
    (start.elapsed() / 20).clamp(SHORTEST_REST, LONGEST_REST)
}
