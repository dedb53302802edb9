//! One pod's life on the node, from being bound to being gone.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, PersistentVolumeClaim, Pod, PodSpec, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Error, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;

use super::Shared;
use super::container::{Exit, Start, Stop, termination_message};
use super::events::Severity;
use super::log::{self, LogWriter};
use super::object::unschedulable;
use super::prepare::{Prepared, prepare};
use super::references::{Blocked, NODE_NAME, References};
use super::status::{Ended, Model, RestartPolicy, State};

/// What a container gets at most when the whole cluster stops.
const SHUTDOWN_GRACE: SignedDuration = SignedDuration::from_secs(5);
/// The first wait before a container that keeps failing is started again.
const RESTART_BACKOFF_SECONDS: i64 = 10;
/// The longest one.
const RESTART_BACKOFF_LIMIT_SECONDS: i64 = 300;

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

    /// Binds the pod to the node once its claims allow it. False when it is to stop or is another node's.
    async fn bind(&self, mut stop: Stop) -> bool {
        if let Some(node) = self
            .spec
            .node_name
            .as_deref()
            .filter(|node| !node.is_empty())
        {
            return node == NODE_NAME;
        }
        let mut told = None;
        loop {
            let mut changes = self.shared.changes.subscribe();
            match self.obstacle().await {
                Ok(None) => break,
                Ok(Some(message)) if told.as_ref() != Some(&message) => {
                    self.model().unschedulable = Some(message.clone());
                    self.publish().await;
                    self.shared
                        .scheduler
                        .record(
                            self.pod.as_ref(),
                            Severity::Warning,
                            "FailedScheduling",
                            &message,
                        )
                        .await;
                    told = Some(message);
                }
                Ok(Some(_)) => {}
                Err(error) => self.shared.pause_after(&error).await,
            }
            if !changed_or_stopped(&mut changes, &mut stop).await {
                return false;
            }
        }
        self.model().unschedulable = None;
        let name = self.pod.name_any();
        let bound = json!({ "spec": { "nodeName": NODE_NAME } });
        while let Err(error) = self
            .api()
            .patch(&name, &PatchParams::default(), &Patch::Merge(&bound))
            .await
        {
            if is_gone(&error) || stop.borrow().is_some() {
                return false;
            }
            self.shared.pause_after(&error).await;
        }
        let message = format!(
            "Successfully assigned {}/{name} to {NODE_NAME}",
            self.pod.namespace().unwrap_or_default()
        );
        self.shared
            .scheduler
            .record(self.pod.as_ref(), Severity::Normal, "Scheduled", &message)
            .await;
        true
    }

    async fn obstacle(&self) -> Result<Option<String>, Error> {
        let labels = [
            ("kubernetes.io/hostname", NODE_NAME),
            ("kubernetes.io/os", "linux"),
        ];
        let unmatched = self
            .spec
            .node_selector
            .iter()
            .flatten()
            .find(|(key, value)| !labels.contains(&(key.as_str(), value.as_str())));
        if unmatched.is_some() {
            let message =
                "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
            return Ok(Some(message.to_owned()));
        }
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(
            self.shared.client.clone(),
            &self.pod.namespace().unwrap_or_default(),
        );
        let volumes = self.spec.volumes.iter().flatten();
        for wanted in volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref()) {
            let claim = claims.get_opt(&wanted.claim_name).await?;
            if let Some(message) = unschedulable(&wanted.claim_name, claim.as_ref()) {
                return Ok(Some(message));
            }
        }
        Ok(None)
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

    /// Runs a container as often as the restart policy wants. True when the next init container may run.
    async fn keep_running(&self, slot: Slot, address: Ipv4Addr, mut stop: Stop) -> bool {
        let Some(container) = self.container(slot) else {
            return true;
        };
        let policy = RestartPolicy::of(&self.pod);
        if let Some(State::Recorded(ended)) = self.state(slot) {
            if !policy.restarts(ended.exit_code, slot.init) {
                return ended.exit_code == 0;
            }
            self.begin_again(slot);
        }
        let mut failures = 0_u32;
        loop {
            let Some(prepared) = self.prepared(slot, &container, address, &mut stop).await else {
                return false;
            };
            let code = self.once(slot, &container, prepared, stop.clone()).await;
            if stop.borrow().is_some() {
                return false;
            }
            if !policy.restarts(code, slot.init) {
                return code == 0;
            }
            let seconds = RESTART_BACKOFF_SECONDS
                .saturating_mul(1_i64 << failures.min(10))
                .min(RESTART_BACKOFF_LIMIT_SECONDS);
            if failures > 0 && !self.back_off(slot, &container, seconds, &mut stop).await {
                return false;
            }
            failures += 1;
            self.begin_again(slot);
        }
    }

    fn container(&self, slot: Slot) -> Option<Container> {
        let containers = if slot.init {
            self.spec.init_containers.as_ref()
        } else {
            Some(&self.spec.containers)
        };
        containers
            .and_then(|containers| containers.get(slot.index))
            .cloned()
    }

    fn state(&self, slot: Slot) -> Option<State> {
        let model = self.model();
        let models = if slot.init {
            &model.init
        } else {
            &model.containers
        };
        models
            .get(slot.index)
            .map(|container| container.state.clone())
    }

    fn change(&self, slot: Slot, change: impl FnOnce(&mut super::status::ContainerModel)) {
        let mut model = self.model();
        let models = if slot.init {
            &mut model.init
        } else {
            &mut model.containers
        };
        if let Some(container) = models.get_mut(slot.index) {
            change(container);
        }
    }

    fn begin_again(&self, slot: Slot) {
        self.change(slot, |container| {
            if !matches!(container.state, State::Waiting { .. }) {
                container.last = Some(container.state.clone());
            }
            container.restarts += 1;
            container.state = State::creating();
        });
    }

    /// Waits until all is there that the container needs; `None` when the pod is to stop before.
    async fn prepared(
        &self,
        slot: Slot,
        container: &Container,
        address: Ipv4Addr,
        stop: &mut Stop,
    ) -> Option<Prepared> {
        let references = References {
            client: &self.shared.client,
            pod: &self.pod,
            pod_ip: address,
        };
        let mut told = None;
        loop {
            let mut changes = self.shared.changes.subscribe();
            if stop.borrow().is_some() {
                return None;
            }
            let blocked = match prepare(&self.shared, &references, container).await {
                Ok(prepared) => return Some(prepared),
                Err(blocked) => blocked,
            };
            if let Blocked::Api(error) = &blocked {
                self.shared.pause_after(error).await;
                continue;
            }
            let text = blocked.to_string();
            if told.as_ref() != Some(&text) {
                self.tell_blocked(slot, &blocked).await;
                told = Some(text);
            }
            if !changed_or_stopped(&mut changes, stop).await {
                return None;
            }
        }
    }

    async fn tell_blocked(&self, slot: Slot, blocked: &Blocked) {
        let (pod, kubelet) = (self.pod.as_ref(), &self.shared.kubelet);
        let state = match blocked {
            Blocked::Config { reason, message } => {
                if *reason == "ErrImageNeverPull" {
                    kubelet
                        .record(pod, Severity::Warning, reason, message)
                        .await;
                    kubelet
                        .record(
                            pod,
                            Severity::Warning,
                            "Failed",
                            &format!("Error: {reason}"),
                        )
                        .await;
                } else {
                    kubelet
                        .record(
                            pod,
                            Severity::Warning,
                            "Failed",
                            &format!("Error: {message}"),
                        )
                        .await;
                }
                State::Waiting {
                    reason: (*reason).to_owned(),
                    message: Some(message.clone()),
                }
            }
            other => {
                kubelet
                    .record(pod, Severity::Warning, "FailedMount", &other.to_string())
                    .await;
                State::creating()
            }
        };
        self.change(slot, |container| container.state = state);
        self.publish().await;
    }

    /// One start of a container; gives its exit code.
    async fn once(&self, slot: Slot, container: &Container, prepared: Prepared, stop: Stop) -> i32 {
        let start = self.started(slot);
        let path = log::file(&self.shared.data_dir, &self.uid, &container.name, start);
        let (pod, kubelet) = (self.pod.as_ref(), &self.shared.kubelet);
        let image = container.image.as_deref().unwrap_or_default();
        let present = format!(
            "Container image \"{image}\" already present on machine and can be accessed by the pod"
        );
        kubelet
            .record(pod, Severity::Normal, "Pulled", &present)
            .await;
        let id = format!("embedded://{}", uuid::Uuid::new_v4().simple());
        self.change(slot, |container| container.id = Some(id));
        let begun = self.shared.clock.now();
        let result = async {
            let clock = Arc::clone(&self.shared.clock);
            let log =
                LogWriter::create(&path, self.shared.logs.clone(), Arc::clone(&clock)).await?;
            let run = Start {
                launcher: self.shared.launcher.clone(),
                spec: prepared.spec,
                log,
                clock,
            };
            kubelet
                .record(pod, Severity::Normal, "Created", "Container created")
                .await;
            let killing = self
                .clone()
                .tell_killing(container.name.clone(), stop.clone());
            tokio::select! {
                ended = run.run(stop, self.clone().on_started(slot)) => ended,
                () = killing => Ok(Exit::Code(255)),
            }
        };
        let result = result
            .await
            .unwrap_or_else(|error| Exit::NotStarted(error.to_string()));
        let finished_at = Some(self.shared.clock.now());
        let ended = match result {
            Exit::Code(exit_code) => {
                let fall_back = container.termination_message_policy.as_deref()
                    == Some("FallbackToLogsOnError");
                let message =
                    termination_message(&prepared.message_file, &path, exit_code, fall_back).await;
                let started_at = match self.state(slot) {
                    Some(State::Running { since }) => Some(since),
                    _ => Some(begun),
                };
                let reason = if exit_code == 0 { "Completed" } else { "Error" };
                Ended {
                    exit_code,
                    reason,
                    message,
                    started_at,
                    finished_at,
                }
            }
            Exit::NotStarted(message) => {
                kubelet
                    .record(
                        pod,
                        Severity::Warning,
                        "Failed",
                        &format!("Error: {message}"),
                    )
                    .await;
                let exit_code = i32::from(super::launcher::START_FAILED);
                Ended {
                    exit_code,
                    reason: "StartError",
                    message: Some(message),
                    started_at: Some(begun),
                    finished_at,
                }
            }
        };
        let code = ended.exit_code;
        self.change(slot, |container| container.state = State::Ended(ended));
        self.publish().await;
        code
    }

    fn started(&self, slot: Slot) -> i32 {
        let model = self.model();
        let models = if slot.init {
            &model.init
        } else {
            &model.containers
        };
        models
            .get(slot.index)
            .map_or(0, |container| container.restarts)
    }

    fn on_started(self, slot: Slot) -> impl FnOnce() -> BoxFuture<'static, ()> {
        move || {
            async move {
                let since = self.shared.clock.now();
                self.change(slot, |container| container.state = State::Running { since });
                self.publish().await;
                self.shared
                    .kubelet
                    .record(
                        self.pod.as_ref(),
                        Severity::Normal,
                        "Started",
                        "Container started",
                    )
                    .await;
            }
            .boxed()
        }
    }

    /// Writes the Event of a container that is told to end; never returns.
    async fn tell_killing(self, name: String, mut stop: Stop) {
        if stop.wait_for(Option::is_some).await.is_ok() && !self.shared.stop.is_cancelled() {
            let message = format!("Stopping container {name}");
            self.shared
                .kubelet
                .record(self.pod.as_ref(), Severity::Normal, "Killing", &message)
                .await;
        }
        std::future::pending().await
    }

    /// Waits before a container that keeps failing starts again. False when the pod is to stop.
    async fn back_off(
        &self,
        slot: Slot,
        container: &Container,
        seconds: i64,
        stop: &mut Stop,
    ) -> bool {
        let (namespace, name) = (
            self.pod.namespace().unwrap_or_default(),
            self.pod.name_any(),
        );
        let of = format!(
            "container={} pod={name}_{namespace}({})",
            container.name, self.uid
        );
        let message = Some(format!("back-off {seconds}s restarting failed {of}"));
        self.change(slot, |container| {
            container.last = Some(container.state.clone());
            container.state = State::Waiting {
                reason: "CrashLoopBackOff".to_owned(),
                message,
            };
        });
        self.publish().await;
        let told = format!(
            "Back-off restarting failed container {} in pod {name}_{namespace}({})",
            container.name, self.uid
        );
        self.shared
            .kubelet
            .record(self.pod.as_ref(), Severity::Warning, "BackOff", &told)
            .await;
        let now = self.shared.clock.now();
        let until = now
            .checked_add(SignedDuration::from_secs(seconds))
            .unwrap_or(now);
        tokio::select! {
            () = self.shared.clock.sleep_until(until) => true,
            _ = stop.wait_for(Option::is_some) => false,
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
        changed = changes.changed() => changed.is_ok(),
        _ = stop.wait_for(Option::is_some) => false,
    }
}
