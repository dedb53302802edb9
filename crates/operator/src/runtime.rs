//! Watches: from events in the cluster to resources to be looked at.
//!
//! Everything but the two kinds themselves is watched by its metadata only: the operator never holds other people's
//! Secrets in memory.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use futures::future::BoxFuture;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use syncline_api::names::Side;
use syncline_api::{ReplicationDestination, ReplicationSource, labels};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backoff::WATCH;
use crate::clock::Clock;
use crate::concerns::{Named, destination_names, made_for, source_names, stood_in_the_way};
use crate::kinds::{Key, VolumeSnapshot, VolumeSnapshotClass};
use crate::plan::PullSecrets;
use crate::queue::Queue;
use crate::reconcile::{chain, jitter};
use crate::rights::Missing;

/// What all watches share.
#[derive(Clone)]
pub struct Watches {
    client: Client,
    namespace: Option<String>,
    pull_secrets: PullSecrets,
    queue: Queue<Key>,
    clock: Arc<dyn Clock>,
    sources: Store<ReplicationSource>,
    destinations: Store<ReplicationDestination>,
}

impl Watches {
    /// Starts all watches; `ready` is set once both kinds have been listed. They end with `stop`.
    pub fn start(
        client: Client,
        (namespace, pull_secrets): (Option<String>, PullSecrets),
        queue: Queue<Key>,
        clock: Arc<dyn Clock>,
        (ready, mut rights, stop): (
            Arc<AtomicBool>,
            watch::Receiver<Vec<Missing>>,
            CancellationToken,
        ),
    ) -> JoinSet<()> {
        let (sources, source_writer) = reflector::store();
        let (destinations, destination_writer) = reflector::store();
        let watches = Self {
            client,
            namespace,
            pull_secrets,
            queue,
            clock,
            sources,
            destinations,
        };
        let mut tasks = JoinSet::new();
        let mut spawn = |task: BoxFuture<'static, ()>| {
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = task => {}
                }
            });
        };
        spawn(Box::pin(
            watches.clone().resources(Side::Source, source_writer),
        ));
        spawn(Box::pin(
            watches
                .clone()
                .resources(Side::Destination, destination_writer),
        ));
        spawn(Box::pin(watches.clone().become_ready(ready)));
        let concerned = watches.clone();
        spawn(Box::pin(async move {
            while rights.changed().await.is_ok() {
                concerned.look_at_all();
            }
        }));
        for watch in watches.of_objects() {
            spawn(watch);
        }
        for watch in watches.of_pull_secrets() {
            spawn(watch);
        }
        tasks
    }

    /// The watches of everything that a plan for a resource may depend on.
    fn of_objects(&self) -> Vec<BoxFuture<'static, ()>> {
        let made = format!("{}={}", labels::CREATED_BY, labels::CREATED_BY_VOLSYNC);
        let all = || self.clone();
        let mut watches: Vec<BoxFuture<'static, ()>> = vec![
            Box::pin(all().namespaced::<Pod>(Named::Nothing, Some(made))),
            // The others without a label: an object of somebody else's may stand in the way of one of ours, and its end is
            // an event too.
            Box::pin(all().namespaced::<Job>(Named::Nothing, None)),
            Box::pin(all().namespaced::<Service>(Named::Nothing, None)),
            Box::pin(all().namespaced::<Role>(Named::Nothing, None)),
            Box::pin(all().namespaced::<RoleBinding>(Named::Nothing, None)),
            Box::pin(all().namespaced::<VolumeSnapshot>(Named::Nothing, None)),
            Box::pin(all().namespaced::<PersistentVolumeClaim>(Named::Claim, None)),
            Box::pin(all().namespaced::<Secret>(Named::Secret, None)),
            Box::pin(all().namespaced::<ConfigMap>(Named::ConfigMap, None)),
            Box::pin(all().namespaced::<ServiceAccount>(Named::ServiceAccount, None)),
        ];
        // An operator of one namespace has no rights on what belongs to none.
        if self.namespace.is_none() {
            watches.push(Box::pin(all().global::<StorageClass>(Named::StorageClass)));
            watches.push(Box::pin(
                all().global::<VolumeSnapshotClass>(Named::SnapshotClass),
            ));
        }
        watches
    }

    /// The watches of the Secrets that images are pulled with, where the operator's own namespace is not watched anyway.
    fn of_pull_secrets(&self) -> Vec<BoxFuture<'static, ()>> {
        let home = self.pull_secrets.namespace.clone();
        let seen = self.namespace.is_none() || self.namespace == home;
        let Some(home) = home.filter(|_| !seen) else {
            return Vec::new();
        };
        let names = self.pull_secrets.names.iter();
        let watches = names.map(|name| -> BoxFuture<'static, ()> {
            let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(self.client.clone(), &home);
            let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
            Box::pin(self.clone().others(api, Named::Secret, config))
        });
        watches.collect()
    }

    fn is_pull_secret(&self, named: Named, object: &ObjectMeta) -> bool {
        let known = &self.pull_secrets;
        named == Named::Secret
            && known.namespace.is_some()
            && known.namespace == object.namespace
            && object
                .name
                .as_ref()
                .is_some_and(|name| known.names.contains(name))
    }

    fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    async fn become_ready(self, ready: Arc<AtomicBool>) {
        let listed = (
            self.sources.wait_until_ready().await,
            self.destinations.wait_until_ready().await,
        );
        if let (Ok(()), Ok(())) = listed {
            ready.store(true, Ordering::Release);
            tracing::info!("watching");
        }
    }

    /// Watches one of the two kinds: each event concerns the resource itself.
    fn resources<K>(
        self,
        side: Side,
        writer: reflector::store::Writer<K>,
    ) -> impl Future<Output = ()> + Send
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let stream = watcher(self.api::<K>(), watcher::Config::default());
        let stream = reflector::reflector(writer, stream);
        async move {
            let mut patience = Patience::new(Arc::clone(&self.clock));
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                match event {
                    Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) => {
                        let key = Key {
                            side,
                            namespace: object.namespace().unwrap_or_default(),
                            name: object.name_any(),
                        };
                        self.queue.add(key, self.clock.now());
                    }
                    Ok(Event::Init) => {}
                    // What was deleted while the watch was broken shows by its absence only.
                    Ok(Event::InitDone) => {
                        patience.restore();
                        self.look_at_all();
                    }
                    Err(error) => patience.after(&K::kind(&()), &error).await,
                }
            }
        }
    }

    /// Watches another namespaced kind, or those of its objects that carry `label`.
    async fn namespaced<K>(self, named: Named, label: Option<String>)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let api: Api<PartialObjectMeta<K>> = match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let config = label
            .iter()
            .fold(watcher::Config::default(), |config, label| {
                config.labels(label)
            });
        self.others(api, named, config).await;
    }

    /// Watches a kind that has no namespace.
    async fn global<K>(self, named: Named)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let api: Api<PartialObjectMeta<K>> = Api::all(self.client.clone());
        self.others(api, named, watcher::Config::default()).await;
    }

    async fn others<K>(self, api: Api<PartialObjectMeta<K>>, named: Named, config: watcher::Config)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let mut patience = Patience::new(Arc::clone(&self.clock));
        let mut stream = std::pin::pin!(watcher(api, config));
        while let Some(event) = stream.next().await {
            match event {
                Ok(Event::Apply(object)) => self.concern(named, &object.metadata),
                Ok(Event::Delete(object)) => {
                    self.concern(named, &object.metadata);
                    self.make_way(&object.metadata);
                }
                // The resources are looked at once all is listed, and each look reads what there is.
                Ok(Event::Init | Event::InitApply(_)) => {}
                Ok(Event::InitDone) => {
                    patience.restore();
                    self.look_at_all();
                }
                Err(error) => patience.after(&K::kind(&()), &error).await,
            }
        }
    }

    fn concern(&self, named: Named, object: &ObjectMeta) {
        if self.is_pull_secret(named, object) {
            self.look_at_all();
        }
        let now = self.clock.now();
        for key in made_for(object) {
            self.queue.add(key, now);
        }
        for source in self
            .sources
            .state_filter(|source| source_names(source, named, object))
        {
            self.queue.add(key_of(Side::Source, &*source), now);
        }
        for destination in self
            .destinations
            .state_filter(|destination| destination_names(destination, named, object))
        {
            self.queue
                .add(key_of(Side::Destination, &*destination), now);
        }
    }

    /// Something is gone; whoever wants to make an object of its name can.
    fn make_way(&self, gone: &ObjectMeta) {
        let now = self.clock.now();
        let sources = self.sources.state();
        let destinations = self.destinations.state();
        let keys = sources
            .iter()
            .map(|source| key_of(Side::Source, &**source))
            .chain(
                destinations
                    .iter()
                    .map(|destination| key_of(Side::Destination, &**destination)),
            );
        for key in keys.filter(|key| stood_in_the_way(key, gone)) {
            self.queue.add(key, now);
        }
    }

    fn look_at_all(&self) {
        let now = self.clock.now();
        for source in self.sources.state() {
            self.queue.add(key_of(Side::Source, &*source), now);
        }
        for destination in self.destinations.state() {
            self.queue
                .add(key_of(Side::Destination, &*destination), now);
        }
    }
}

fn key_of<K: ResourceExt>(side: Side, object: &K) -> Key {
    Key {
        side,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    }
}

/// How long to wait before a broken watch is tried again.
///
/// kube's own backoff starts anew with each listing that begins, and so would ask a cluster without snapshots for them
/// once a second for ever.
pub(crate) struct Patience {
    clock: Arc<dyn Clock>,
    failures: u32,
}

impl Patience {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, failures: 0 }
    }

    /// The listing succeeded.
    pub(crate) fn restore(&mut self) {
        self.failures = 0;
    }

    pub(crate) async fn after(&mut self, kind: &str, error: &watcher::Error) {
        self.failures = self.failures.saturating_add(1);
        let wait = WATCH.after(self.failures, jitter());
        let unknown = matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404);
        if unknown {
            tracing::debug!(
                kind,
                "the cluster does not know this kind; it is looked for again"
            );
        } else {
            tracing::warn!(
                kind,
                error = chain(error),
                "watch failed; it is tried again"
            );
        }
        self.clock.sleep_until(self.clock.now() + wait).await;
    }
}
