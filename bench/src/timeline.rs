//! What a watch showed, and when it arrived.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cluster::{Cluster, Kind};

/// How long anything that is waited for may take.
const CAP: Duration = Duration::from_secs(180);

/// One object as it was at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Sighting {
    pub(crate) at: Instant,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) object: Value,
}

impl Sighting {
    pub(crate) fn is(&self, kind: Kind, name: &str) -> bool {
        self.kind == kind && self.name == name
    }

    pub(crate) fn text(&self, pointer: &str) -> Option<&str> {
        self.object.pointer(pointer).and_then(Value::as_str)
    }
}

/// Everything seen in a namespace since the timeline was begun.
pub(crate) struct Timeline {
    seen: Arc<Mutex<Vec<Sighting>>>,
    news: Arc<Notify>,
    _watches: JoinSet<()>,
}

impl Timeline {
    /// Begins to watch these kinds in `namespace`.
    pub(crate) fn begin(cluster: &Cluster, namespace: &str, kinds: &[Kind]) -> Self {
        let (seen, news) = (
            Arc::<Mutex<Vec<Sighting>>>::default(),
            Arc::new(Notify::new()),
        );
        let mut watches = JoinSet::new();
        for kind in kinds.iter().copied() {
            let api = cluster.api(kind, namespace);
            watches.spawn(keep(kind, api, Arc::clone(&seen), Arc::clone(&news)));
        }
        Self {
            seen,
            news,
            _watches: watches,
        }
    }

    /// All that was seen, in order of arrival.
    pub(crate) fn all(&self) -> Vec<Sighting> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The first sighting since `start` that `wanted` accepts, waited for.
    pub(crate) async fn first(
        &self,
        what: &str,
        start: Instant,
        wanted: impl Fn(&Sighting) -> bool,
    ) -> Result<Sighting> {
        let look = async {
            loop {
                let news = self.news.notified();
                let mut seen = self.all().into_iter();
                if let Some(found) = seen.find(|sighting| sighting.at >= start && wanted(sighting))
                {
                    return found;
                }
                // A note that comes between the look and the wait is not lost for longer than this.
                let _ = timeout(Duration::from_millis(100), news).await;
            }
        };
        timeout(CAP, look)
            .await
            .with_context(|| format!("{what}: not seen within {CAP:?}"))
    }
}

/// Writes down what a watch shows until it breaks.
async fn keep(
    kind: Kind,
    api: Api<DynamicObject>,
    seen: Arc<Mutex<Vec<Sighting>>>,
    news: Arc<Notify>,
) {
    let mut events = pin!(watcher(api, watcher::Config::default()));
    while let Ok(Some(event)) = events.try_next().await {
        if let Event::Apply(object) | Event::InitApply(object) = event {
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(sighting(kind, object));
            news.notify_waiters();
        }
    }
}

fn sighting(kind: Kind, object: DynamicObject) -> Sighting {
    Sighting {
        at: Instant::now(),
        kind,
        name: object.metadata.name.clone().unwrap_or_default(),
        object: serde_json::to_value(object).unwrap_or_default(),
    }
}
