//! From events in the cluster to claims to be looked at.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use syncline_api::{ReplicationDestination, labels};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{ClaimKey, destination_of, volume_of};
use crate::clock::Clock;
use crate::kinds::VolumeSnapshot;
use crate::queue::Queue;
use crate::runtime::Patience;
use crate::subject::owners;

/// The claims that wait for an image, with the destination that each names.
type Waiting = Arc<Mutex<HashMap<ClaimKey, String>>>;

/// What all watches share.
#[derive(Clone)]
pub(super) struct Watches {
    client: Client,
    namespace: Option<String>,
    queue: Queue<ClaimKey>,
    clock: Arc<dyn Clock>,
    waiting: Waiting,
}

impl Watches {
    /// Starts all watches; they end with `stop`.
    pub(super) fn start(
        client: Client,
        namespace: Option<String>,
        queue: Queue<ClaimKey>,
        clock: Arc<dyn Clock>,
        stop: &CancellationToken,
    ) -> JoinSet<()> {
        let watches = Self {
            client,
            namespace,
            queue,
            clock,
            waiting: Waiting::default(),
        };
        let mut all: Vec<BoxFuture<'static, ()>> = vec![Box::pin(watches.clone().claims())];
        if watches.namespace.is_none() {
            let made = format!("{}={}", labels::CREATED_BY, labels::CREATED_BY_VOLSYNC);
            let (destinations, classes, snapshots) =
                (watches.clone(), watches.clone(), watches.clone());
            all.push(Box::pin(watches.clone().metadata(
                Api::<PartialObjectMeta<ReplicationDestination>>::all(watches.client.clone()),
                watcher::Config::default(),
                move |seen| destinations.of_destination(seen),
            )));
            all.push(Box::pin(watches.clone().metadata(
                Api::<PartialObjectMeta<StorageClass>>::all(watches.client.clone()),
                watcher::Config::default(),
                move |_| classes.waiting_for(|_, _| true),
            )));
            all.push(Box::pin(watches.clone().metadata(
                Api::<PartialObjectMeta<VolumeSnapshot>>::all(watches.client.clone()),
                watcher::Config::default().labels(&made),
                move |seen| snapshots.look_at(marks(seen)),
            )));
        }
        let mut tasks = JoinSet::new();
        for task in all {
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = task => {}
                }
            });
        }
        tasks
    }

    fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// Claims are read whole, because what they are to be filled with is in their spec. Only the names of those that
    /// wait are kept.
    async fn claims(self) {
        let config = watcher::Config::default();
        let mut patience = Patience::new(Arc::clone(&self.clock));
        let mut stream = std::pin::pin!(watcher(self.api::<PersistentVolumeClaim>(), config));
        while let Some(event) = stream.next().await {
            match event {
                Ok(Event::Apply(claim) | Event::InitApply(claim)) => self.of_claim(&claim),
                Ok(Event::Delete(claim)) => {
                    self.of_claim(&claim);
                    self.with(|waiting| waiting.remove(&ClaimKey::of(&claim.metadata)));
                }
                // What was deleted while the watch was broken shows by its absence only.
                Ok(Event::Init) => {
                    let known = self.with(std::mem::take);
                    self.look_at(known.into_keys());
                }
                Ok(Event::InitDone) => patience.restore(),
                Err(error) => patience.after("PersistentVolumeClaim", &error).await,
            }
        }
    }

    /// A claim that is to be filled, or one that is to fill another.
    fn of_claim(&self, claim: &PersistentVolumeClaim) {
        let key = ClaimKey::of(&claim.metadata);
        if let Some(destination) = destination_of(claim) {
            let waits = volume_of(claim).is_none();
            self.with(|waiting| {
                if waits {
                    waiting.insert(key.clone(), destination.to_owned());
                } else {
                    waiting.remove(&key);
                }
            });
            self.look_at([key]);
        } else if let Some(filled) = filled_by(&claim.metadata) {
            self.look_at([filled]);
        }
    }

    fn of_destination(&self, seen: &ObjectMeta) {
        self.waiting_for(|key, destination| {
            Some(&key.namespace) == seen.namespace.as_ref()
                && Some(destination) == seen.name.as_deref()
        });
    }

    async fn metadata<K>(
        self,
        api: Api<PartialObjectMeta<K>>,
        config: watcher::Config,
        concern: impl Fn(&ObjectMeta) + Send + 'static,
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let mut patience = Patience::new(Arc::clone(&self.clock));
        let mut stream = std::pin::pin!(watcher(api, config));
        while let Some(event) = stream.next().await {
            match event {
                Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) => {
                    concern(&object.metadata);
                }
                Ok(Event::Init) => {}
                Ok(Event::InitDone) => patience.restore(),
                Err(error) => patience.after(&K::kind(&()), &error).await,
            }
        }
    }

    /// The claims that wait and that `concerned` chooses by their destination.
    fn waiting_for(&self, concerned: impl Fn(&ClaimKey, &str) -> bool) {
        let keys: Vec<ClaimKey> = self.with(|waiting| {
            let chosen = waiting
                .iter()
                .filter(|(key, destination)| concerned(key, destination));
            chosen.map(|(key, _)| key.clone()).collect()
        });
        self.look_at(keys);
    }

    fn look_at(&self, keys: impl IntoIterator<Item = ClaimKey>) {
        let now = self.clock.now();
        for key in keys {
            self.queue.add(key, now);
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<ClaimKey, String>) -> T) -> T {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The claim that a temporary claim fills.
fn filled_by(temporary: &ObjectMeta) -> Option<ClaimKey> {
    temporary
        .labels
        .as_ref()?
        .contains_key(labels::POPULATOR_PVC_FOR)
        .then_some(())?;
    let owner = owners(temporary).find(|owner| owner.controller == Some(true))?;
    Some(ClaimKey {
        namespace: temporary.namespace.clone().unwrap_or_default(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    })
}

/// The claims that a snapshot is marked for.
fn marks(snapshot: &ObjectMeta) -> Vec<ClaimKey> {
    let namespace = snapshot.namespace.clone().unwrap_or_default();
    let all = snapshot.labels.iter().flatten();
    all.filter_map(|(label, name)| {
        Some(ClaimKey {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: label.strip_prefix(labels::POPULATING_PREFIX)?.to_owned(),
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(value: serde_json::Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_temporary_claim_concerns_the_one_it_fills() {
        let temporary = metadata(json!({"namespace": "ns", "name": "vs-prime-u1",
            "labels": {"volsync.backube/populator-pvc-for": "data"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "data", "uid": "u1",
                "controller": true}]}));
        let key = filled_by(&temporary).unwrap();
        assert_eq!((key.name.as_str(), key.uid.as_str()), ("data", "u1"));
        assert_eq!(
            filled_by(&metadata(json!({"namespace": "ns", "name": "x"}))),
            None
        );
    }

    #[test]
    fn a_marked_snapshot_concerns_all_the_claims_it_is_marked_for() {
        let snapshot = metadata(json!({"namespace": "ns", "name": "image", "labels": {
            "volsync.backube/volpop-pvc-u1": "a", "volsync.backube/volpop-pvc-u2": "b",
            "app.kubernetes.io/created-by": "volsync"}}));
        let names: Vec<String> = marks(&snapshot).into_iter().map(|key| key.uid).collect();
        assert_eq!(names, ["u1", "u2"]);
    }
}
