//! The work queue: which resource is looked at next, and when.
//!
//! Invariant: a key is never worked on twice at the same time; whatever happens to it meanwhile is remembered and looked at
//! right after. Invariant: a key waits at most once, at its earliest time. Invariant: all waiting is by the handed-in clock.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// The pure heart of the queue.
#[derive(Debug)]
struct Agenda<K> {
    waiting: BTreeSet<(Timestamp, u64, K)>,
    place: HashMap<K, (Timestamp, u64)>,
    /// Keys at work, with the time at which each must be looked at again.
    running: HashMap<K, Option<Timestamp>>,
    tickets: u64,
}

/// What there is to do now.
#[derive(Debug, PartialEq, Eq)]
enum Next<K> {
    Run(K),
    WaitUntil(Timestamp),
    Nothing,
}

impl<K: Clone + Eq + Hash + Ord> Agenda<K> {
    fn new() -> Self {
        Self {
            waiting: BTreeSet::new(),
            place: HashMap::new(),
            running: HashMap::new(),
            tickets: 0,
        }
    }

    /// `key` is to be looked at at `at`, or earlier if that was wanted already.
    fn add(&mut self, key: K, at: Timestamp) {
        if let Some(again) = self.running.get_mut(&key) {
            *again = Some(again.map_or(at, |known| known.min(at)));
            return;
        }
        match self.place.get(&key) {
            Some((known, _)) if *known <= at => return,
            Some((known, ticket)) => {
                self.waiting.remove(&(*known, *ticket, key.clone()));
            }
            None => {}
        }
        self.tickets += 1;
        self.waiting.insert((at, self.tickets, key.clone()));
        self.place.insert(key, (at, self.tickets));
    }

    /// Takes the key that has waited longest, if one is due.
    fn take(&mut self, now: Timestamp) -> Next<K> {
        let Some((at, ..)) = self.waiting.first() else {
            return Next::Nothing;
        };
        if *at > now {
            return Next::WaitUntil(*at);
        }
        let Some((_, _, key)) = self.waiting.pop_first() else {
            return Next::Nothing;
        };
        self.place.remove(&key);
        self.running.insert(key.clone(), None);
        Next::Run(key)
    }

    /// The work on `key` is over; it wants to be looked at again at `wake`.
    fn done(&mut self, key: K, wake: Option<Timestamp>) {
        let again = self.running.remove(&key).flatten();
        if let Some(at) = [again, wake].into_iter().flatten().min() {
            self.add(key, at);
        }
    }
}

/// The queue that tasks share. Cloning shares it.
#[derive(Debug)]
pub struct Queue<K> {
    agenda: Arc<Mutex<Agenda<K>>>,
    bell: Arc<Notify>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self {
            agenda: Arc::clone(&self.agenda),
            bell: Arc::clone(&self.bell),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord + Send + 'static> Default for Queue<K> {
    fn default() -> Self {
        Self {
            agenda: Arc::new(Mutex::new(Agenda::new())),
            bell: Arc::new(Notify::new()),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord + Send + 'static> Queue<K> {
    /// Asks for `key` to be looked at at `at`. A time in the past means at once.
    pub fn add(&self, key: K, at: Timestamp) {
        self.with(|agenda| agenda.add(key, at));
        self.bell.notify_one();
    }

    fn with<T>(&self, change: impl FnOnce(&mut Agenda<K>) -> T) -> T {
        // The agenda is left consistent by each of its methods, so a panic elsewhere does not spoil it.
        change(&mut self.agenda.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Works on due keys, at most `limit` at a time, until `stop`. `work` returns when it wants to see its key again; work
    /// under way at `stop` is waited for.
    pub async fn run<F, W>(
        self,
        clock: Arc<dyn Clock>,
        limit: usize,
        stop: CancellationToken,
        work: W,
    ) where
        F: Future<Output = Option<Timestamp>> + Send + 'static,
        W: Fn(K) -> F,
    {
        let mut at_work = JoinSet::new();
        while !stop.is_cancelled() {
            let wake = self.start_due(&*clock, limit, &mut at_work, &work);
            let timer = async {
                match wake {
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.bell.notified() => {}
                _ = at_work.join_next(), if !at_work.is_empty() => {}
                () = timer => {}
            }
        }
        while at_work.join_next().await.is_some() {}
    }

    /// Starts work on all due keys that the limit allows; returns when the next one will be due.
    fn start_due<F, W>(
        &self,
        clock: &dyn Clock,
        limit: usize,
        at_work: &mut JoinSet<()>,
        work: &W,
    ) -> Option<Timestamp>
    where
        F: Future<Output = Option<Timestamp>> + Send + 'static,
        W: Fn(K) -> F,
    {
        while at_work.len() < limit.max(1) {
            match self.with(|agenda| agenda.take(clock.now())) {
                Next::Run(key) => {
                    let finish = Finish {
                        queue: self.clone(),
                        key: Some(key.clone()),
                        wake: None,
                    };
                    let task = work(key);
                    at_work.spawn(async move {
                        let mut finish = finish;
                        finish.wake = task.await;
                    });
                }
                Next::WaitUntil(at) => return Some(at),
                Next::Nothing => return None,
            }
        }
        None
    }
}

/// Gives the key back even when the work on it panics.
struct Finish<K: Clone + Eq + Hash + Ord + Send + 'static> {
    queue: Queue<K>,
    key: Option<K>,
    wake: Option<Timestamp>,
}

impl<K: Clone + Eq + Hash + Ord + Send + 'static> Drop for Finish<K> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.queue.with(|agenda| agenda.done(key, self.wake));
            self.queue.bell.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
