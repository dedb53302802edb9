//! The controllers over the real API server, in process.

mod deletion;
mod storage;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Event, Namespace};
use kube::api::{Api, ListParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use syncline_volumes::Volumes;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Context, install, run};
use crate::clock::SystemClock;
use crate::server::{ApiService, Server};
use crate::store::Store;

/// Longer than anything takes on the slowest machine.
const CAP: Duration = Duration::from_secs(60);

/// An API server with its controllers, without a node: pods only ever are what a test writes.
pub(super) struct World {
    pub(super) client: Client,
    pub(super) volumes: Volumes,
    pub(super) folder: TempDir,
    stop: CancellationToken,
    controllers: JoinHandle<()>,
}

impl World {
    /// With the namespace `n`.
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(redb::backends::InMemoryBackend::new()).unwrap());
        let stop = CancellationToken::new();
        let clock = Arc::new(SystemClock);
        let server = Arc::new(Server::new(store, clock.clone(), stop.clone()));
        tokio::spawn(Arc::clone(&server).clean_up_definitions());
        let client = Client::new(ApiService::new(server), "default");
        let volumes = Volumes::open(folder.path()).unwrap();
        crate::startup::make_objects(&client).await.unwrap();
        install(&client).await.unwrap();
        let context = Context {
            client: client.clone(),
            volumes: volumes.clone(),
            clock,
            stop: stop.clone(),
            authority: "the authority".to_owned(),
        };
        let controllers = tokio::spawn(run(context));
        let world = Self {
            client,
            volumes,
            folder,
            stop,
            controllers,
        };
        world
            .create::<Namespace>(
                &Api::all(world.client.clone()),
                json!({ "metadata": { "name": "n" } }),
            )
            .await;
        world
    }

    pub(super) async fn create<K>(&self, api: &Api<K>, object: Value) -> K
    where
        K: kube::Resource + Clone + DeserializeOwned + serde::Serialize + Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap()
    }

    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "n")
    }

    pub(super) fn all<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = ()>,
    {
        Api::all(self.client.clone())
    }

    /// Waits until the object is as wanted, and gives it; `None` when it is gone.
    #[track_caller]
    pub(super) fn until<K>(
        api: Api<K>,
        name: &str,
        wanted: impl Fn(Option<&K>) -> bool,
    ) -> impl Future<Output = Option<K>>
    where
        K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let caller = std::panic::Location::caller();
        async move {
            let waiting = Box::pin(await_condition(api.clone(), name, wanted));
            match tokio::time::timeout(CAP, waiting).await {
                Ok(found) => found.unwrap(),
                Err(late) => panic!(
                    "{caller}: {name} never became so ({late}): {:?}",
                    api.get_opt(name).await
                ),
            }
        }
    }

    /// Waits for an Event about an object and gives its message.
    #[track_caller]
    pub(super) fn told(&self, about: &str, reason: &str) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        let events = self.api::<Event>();
        let wanted = (Some(about.to_owned()), Some(reason.to_owned()));
        async move {
            let mut seen = Vec::new();
            let looking = find(events, &wanted, &mut seen);
            let found = tokio::time::timeout(CAP, looking).await.ok();
            found.unwrap_or_else(|| panic!("{caller}: no Event {wanted:?}, but {seen:?}"))
        }
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(CAP, self.controllers)
            .await
            .unwrap()
            .unwrap();
    }
}

/// The message of the first Event of this object's name and reason; what else was seen is noted.
async fn find(
    events: Api<Event>,
    wanted: &(Option<String>, Option<String>),
    seen: &mut Vec<(Option<String>, Option<String>)>,
) -> String {
    let mut watching = super::queue::watch(events);
    while let Some(event) = watching.next().await {
        let event = event.into_inner();
        seen.push((event.involved_object.name, event.reason));
        if seen.last() == Some(wanted) {
            return event.message.unwrap_or_default();
        }
    }
    panic!("the watch ended");
}

/// The names of what there is.
pub(super) async fn names<K>(api: &Api<K>) -> Vec<String>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug,
{
    api.list(&ListParams::default())
        .await
        .unwrap()
        .iter()
        .map(kube::ResourceExt::name_any)
        .collect()
}

pub(super) fn annotations<K: kube::Resource>(object: &K) -> &BTreeMap<String, String> {
    object.annotations()
}
