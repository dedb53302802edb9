//! The loop of every controller here: changes name keys, a key is looked after until it needs nothing more.
//!
//! Looks at different keys run side by side, never two at the same key. A failed look is repeated after a pause that
//! doubles from 200 ms to 30 s; nothing else is ever done on time alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};
use std::future::Future;

use futures::StreamExt as _;
use futures::stream::{BoxStream, FuturesUnordered, SelectAll, select_all};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// Namespace and name; the namespace is empty for what has none.
pub(crate) type Key = (String, String);

/// Changes, as the keys that they concern.
pub(crate) type Trigger<K> = BoxStream<'static, Vec<K>>;

const FIRST_PAUSE: SignedDuration = SignedDuration::from_millis(200);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(30);

/// What happened to an object; when a watch begins, each existing one is `Present` too.
#[derive(Clone, Debug)]
pub(crate) enum Seen<T> {
    Present(T),
    Gone(T),
}

impl<T> Seen<T> {
    pub(crate) fn into_inner(self) -> T {
        match self {
            Self::Present(object) | Self::Gone(object) => object,
        }
    }
}

/// Watches all objects behind `api`. Broken watches are taken up again by `kube`, with its backoff.
pub(crate) fn watch<T>(api: Api<T>) -> BoxStream<'static, Seen<T>>
where
    T: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(api, watcher::Config::default())
        .default_backoff()
        .filter_map(async |event| match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => Some(Seen::Present(object)),
            Ok(Event::Delete(object)) => Some(Seen::Gone(object)),
            Ok(Event::Init | Event::InitDone) => None,
            Err(error) => {
                tracing::debug!(%error, "a watch is taken up again");
                None
            }
        })
        .boxed()
}

/// As [`watch`], for a kind that is known only by name.
pub(crate) fn watch_dynamic(
    client: kube::Client,
    resource: &ApiResource,
) -> BoxStream<'static, Event<DynamicObject>> {
    let api: Api<DynamicObject> = Api::all_with(client, resource);
    watcher(api, watcher::Config::default())
        .default_backoff()
        .filter_map(async |event| event.ok())
        .boxed()
}

struct Pending<K> {
    due: BTreeSet<K>,
    later: BTreeMap<K, Timestamp>,
    failures: BTreeMap<K, u32>,
    running: BTreeSet<K>,
}

/// Looks after keys until `stop`; looks under way are then ended where they wait.
pub(crate) async fn run<K, Look, Looking, Fault>(
    clock: &dyn Clock,
    stop: &CancellationToken,
    triggers: Vec<Trigger<K>>,
    look_after: Look,
) where
    K: Ord + Clone + Debug,
    Look: Fn(K) -> Looking,
    Looking: Future<Output = Result<(), Fault>>,
    Fault: Display,
{
    let mut triggers: SelectAll<Trigger<K>> = select_all(triggers);
    let mut pending: Pending<K> = Pending {
        due: BTreeSet::new(),
        later: BTreeMap::new(),
        failures: BTreeMap::new(),
        running: BTreeSet::new(),
    };
    let mut looks = FuturesUnordered::new();
    loop {
        for key in pending.start() {
            let look = look_after(key.clone());
            looks.push(async move { (key, look.await) });
        }
        let next = pending.later.values().min().copied();
        tokio::select! {
            () = stop.cancelled() => return,
            Some(keys) = triggers.next() => pending.due.extend(keys),
            Some((key, result)) = looks.next() => pending.finish(key, result, clock.now()),
            () = reached(clock, next) => pending.wake(clock.now()),
        }
    }
}

async fn reached(clock: &dyn Clock, at: Option<Timestamp>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl<K: Ord + Clone + Debug> Pending<K> {
    /// Keys that are due and not being looked at.
    fn start(&mut self) -> Vec<K> {
        let ready: Vec<K> = self.due.difference(&self.running).cloned().collect();
        for key in &ready {
            self.due.remove(key);
            self.later.remove(key);
            self.running.insert(key.clone());
        }
        ready
    }

    fn finish<F: Display>(&mut self, key: K, result: Result<(), F>, now: Timestamp) {
        self.running.remove(&key);
        let Err(error) = result else {
            self.failures.remove(&key);
            return;
        };
        let failures = self.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        let pause = FIRST_PAUSE.saturating_mul(
            1_i32
                .checked_shl((*failures - 1).min(20))
                .unwrap_or(i32::MAX),
        );
        tracing::debug!(%error, ?key, failures = *failures, "looked after again later");
        if let Ok(at) = now.checked_add(pause.min(LONGEST_PAUSE)) {
            self.later.insert(key, at);
        }
    }

    fn wake(&mut self, now: Timestamp) {
        let ready: Vec<K> = self
            .later
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in ready {
            self.later.remove(&key);
            self.due.insert(key);
        }
    }
}
