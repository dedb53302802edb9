//! One pod's life on the node, from being bound to being gone.

mod bind;
mod containers;

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Error, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;

use super::container::Stop;
use super::events::Severity;
use super::status::{Model, RestartPolicy, State};
use super::{Shared, log};

/// What a container gets at most when the whole cluster stops.
const SHUTDOWN_GRACE: SignedDuration = SignedDuration::from_secs(5);

/// The pod as the API shows it; `None` once it is gone.
pub(crate) type Seen = watch::Receiver<Option<Arc<Pod>>>;

/// One pod on the node.
#[derive(Clone)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    spec: Arc<PodSpec>,
    uid: String,
    seen: Seen,
    model: Arc<Mutex<Model>>,
    /// What was written last; its lock keeps writes in order.
    published: Arc<tokio::sync::Mutex<Option<PodStatus>>>,
}

/// Which container, by its place in the spec.
#[derive(Clone, Copy)]
struct Slot {
    init: bool,
    index: usize,
}

impl Worker {
    /// A worker for the pod that `seen` shows now.
    pub(crate) fn new(shared: Arc<Shared>, pod: Arc<Pod>, seen: Seen) -> Self {
        let model = Arc::new(Mutex::new(Model::of(&pod)));
        let spec = Arc::new(pod.spec.clone().unwrap_or_default());
        let uid = pod.uid().unwrap_or_default();
        Self {
            shared,
            pod,
            spec,
            uid,
            seen,
            model,
            published: Arc::default(),
        }
    }

    /// Lives the pod's life; ends when the pod is gone or the node stops.
    pub(crate) async fn run(self) {
        let (stop_sender, stop) = watch::channel(None);
        tokio::select! {
            () = self.live(stop) => {}
            () = self.clone().watch_for_stop(stop_sender) => {}
        }
        if self.shared.stop.is_cancelled() {
            return;
        }
        self.remove().await;
    }

    async fn live(&self, stop: Stop) {
        let phase = self
            .pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return;
        }
        if self.recover().await || !self.bind(stop.clone()).await {
            return;
        }
        let address = {
            let mut model = self.model();
            let address = model
                .address
                .or_else(|| self.shared.addresses.assign(&self.uid));
            model.address = address;
            model.started = model.started.or_else(|| Some(self.shared.clock.now()));
            address.unwrap_or(Ipv4Addr::LOCALHOST)
        };
        self.publish().await;
        self.tell_who_runs().await;
        for index in 0..self.spec.init_containers.as_ref().map_or(0, Vec::len) {
            if !self
                .keep_running(Slot { init: true, index }, address, stop.clone())
                .await
            {
                return;
            }
        }
        let containers = (0..self.spec.containers.len()).map(|index| Slot { init: false, index });
        join_all(containers.map(|slot| self.keep_running(slot, address, stop.clone()))).await;
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(
            self.shared.client.clone(),
            &self.pod.namespace().unwrap_or_default(),
        )
    }

    /// Turns the deletion of the pod, and the end of the node, into a moment at which its containers must be gone.
    async fn watch_for_stop(mut self, stop: watch::Sender<Option<Timestamp>>) {
        let mut grace = None;
        loop {
            let now = self.shared.clock.now();
            let after = |seconds: i64| {
                now.checked_add(SignedDuration::from_secs(seconds.max(0)))
                    .unwrap_or(now)
            };
            let pod = self.seen.borrow_and_update().clone();
            match pod {
                None => {
                    stop.send_replace(Some(now));
                }
                Some(pod) if pod.metadata.deletion_timestamp.is_some() => {
                    let wanted = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
                    if grace != Some(wanted) {
                        grace = Some(wanted);
                        stop.send_replace(Some(after(wanted)));
                    }
                }
                Some(_) => {}
            }
            tokio::select! {
                changed = self.seen.changed() => if changed.is_err() {
                    stop.send_replace(Some(now));
                    return std::future::pending().await;
                },
                () = self.shared.stop.cancelled() => {
                    let own = self.spec.termination_grace_period_seconds.unwrap_or(30);
                    stop.send_replace(Some(after(own.min(SHUTDOWN_GRACE.as_secs()))));
                    return std::future::pending().await;
                }
            }
        }
    }

    /// Deals with a pod of an earlier life of the node, whose processes are gone. True when the pod ends with them.
    async fn recover(&self) -> bool {
        let statuses = self
            .pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.as_ref());
        let ran = |name: &str| {
            let recorded = statuses
                .into_iter()
                .flatten()
                .find(|status| status.name == name);
            let state = recorded.and_then(|status| status.state.as_ref());
            state.is_some_and(|state| state.running.is_some())
                || log::file(&self.shared.data_dir, &self.uid, name, 0).exists()
        };
        let all = self
            .spec
            .init_containers
            .iter()
            .flatten()
            .chain(&self.spec.containers);
        let ran: Vec<&str> = all
            .map(|container| container.name.as_str())
            .filter(|name| ran(name))
            .collect();
        if ran.is_empty() {
            return false;
        }
        let now = self.shared.clock.now();
        if RestartPolicy::of(&self.pod) == RestartPolicy::Never {
            self.model().lose(now);
            self.publish().await;
            return true;
        }
        let mut model = self.model();
        for container in model
            .all_mut()
            .filter(|container| ran.contains(&container.name.as_str()))
        {
            if !matches!(container.state, State::Recorded(_)) {
                container.restarts += 1;
            }
        }
        false
    }

    /// An ordinary user's pods run as that user, whatever they ask for.
    async fn tell_who_runs(&self) {
        if self.shared.privileged {
            return;
        }
        let own = rustix::process::getuid().as_raw();
        let of_pod = self.spec.security_context.as_ref();
        let asked = self.spec.containers.iter().filter_map(|container| {
            let of_container = container
                .security_context
                .as_ref()
                .and_then(|context| context.run_as_user);
            of_container.or_else(|| of_pod.and_then(|context| context.run_as_user))
        });
        if let Some(uid) = asked.into_iter().find(|uid| *uid != i64::from(own)) {
            let message = format!(
                "The pod asks for uid {uid} and runs as uid {own}, the user of this cluster: only a cluster started by root gives pods other users"
            );
            self.shared
                .kubelet
                .record(
                    self.pod.as_ref(),
                    Severity::Normal,
                    "RunsAsClusterUser",
                    &message,
                )
                .await;
        }
    }

    /// Writes the pod's status when it has changed; tries until it is written or the pod is gone.
    async fn publish(&self) {
        let mut published = self.published.lock().await;
        loop {
            let generation = self
                .seen
                .borrow()
                .as_ref()
                .and_then(|pod| pod.metadata.generation);
            let status = self.model().status(generation, self.shared.clock.now());
            if published.as_ref() == Some(&status) {
                return;
            }
            let patch = json!({ "status": status });
            match self
                .api()
                .patch_status(
                    &self.pod.name_any(),
                    &PatchParams::default(),
                    &Patch::Merge(&patch),
                )
                .await
            {
                Ok(_) => {
                    *published = Some(status);
                    return;
                }
                Err(error) if is_gone(&error) => return,
                Err(error) => self.shared.pause_after(&error).await,
            }
            if self.shared.stop.is_cancelled() {
                return;
            }
        }
    }

    /// Says that the pod is over where somebody's finalizer keeps its object: a Job may wait for no more than that word, and
    /// a pod that never came up would else stay as it was last seen.
    async fn tell_the_end(&self) {
        let kept = (self.seen.borrow().as_ref()).is_some_and(|pod| !pod.finalizers().is_empty());
        let over = matches!(self.model().phase(), "Succeeded" | "Failed");
        if kept && !over {
            self.model().lose(self.shared.clock.now());
            self.publish().await;
        }
    }

    /// Waits for the pod's deletion, takes it out of the API, and clears what it left.
    async fn remove(mut self) {
        let deleted = |pod: &Option<Arc<Pod>>| {
            pod.as_ref()
                .is_none_or(|pod| pod.metadata.deletion_timestamp.is_some())
        };
        let stopped = self.shared.stop.clone();
        let waited = tokio::select! {
            waited = self.seen.wait_for(deleted) => waited.map(drop).is_ok(),
            () = stopped.cancelled() => return,
        };
        if waited && self.seen.borrow().is_some() {
            self.tell_the_end().await;
            let preconditions = Preconditions {
                uid: Some(self.uid.clone()),
                resource_version: None,
            };
            let now = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(preconditions),
                ..DeleteParams::default()
            };
            while let Err(error) = self.api().delete(&self.pod.name_any(), &now).await {
                let conflict = matches!(&error, Error::Api(status) if status.code == 409);
                if is_gone(&error) || conflict || stopped.is_cancelled() {
                    break;
                }
                self.shared.pause_after(&error).await;
            }
        }
        tokio::select! {
            _ = self.seen.wait_for(Option::is_none) => {}
            () = stopped.cancelled() => return,
        }
        self.shared.addresses.release(&self.uid);
        self.shared.clear(&self.uid).await;
    }
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}

/// Waits until something in the cluster has changed. False when the pod is to stop.
async fn changed_or_stopped(changes: &mut watch::Receiver<u64>, stop: &mut Stop) -> bool {
    tokio::select! {
        seen = changes.changed() => seen.is_ok(),
        _ = stop.wait_for(Option::is_some) => false,
    }
}
