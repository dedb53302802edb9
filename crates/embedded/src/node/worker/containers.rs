//! Running a pod's containers as often as its restart policy wants.

use std::net::Ipv4Addr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Container;
use kube::ResourceExt as _;

use super::{Slot, Worker, changed_or_stopped};
use crate::node::container::{Exit, Start, Stop, termination_message};
use crate::node::events::Severity;
use crate::node::log::{self, LogWriter};
use crate::node::prepare::{Prepared, prepare};
use crate::node::references::{Blocked, References};
use crate::node::status::{ContainerModel, Ended, RestartPolicy, State};

/// The first wait before a container that keeps failing is started again.
const RESTART_BACKOFF_SECONDS: i64 = 10;
/// The longest one.
const RESTART_BACKOFF_LIMIT_SECONDS: i64 = 300;

impl Worker {
    /// Runs a container as often as the restart policy wants. True when the next init container may run.
    pub(super) async fn keep_running(&self, slot: Slot, address: Ipv4Addr, mut stop: Stop) -> bool {
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

    fn change(&self, slot: Slot, change: impl FnOnce(&mut ContainerModel)) {
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
                    // The kubelet has the image before it looks at the rest of the configuration.
                    self.tell_pulled(slot).await;
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

    async fn tell_pulled(&self, slot: Slot) {
        let container = self.container(slot).unwrap_or_default();
        let image = container.image.unwrap_or_default();
        let message = format!(
            "Container image \"{image}\" already present on machine and can be accessed by the pod"
        );
        self.shared
            .kubelet
            .record(self.pod.as_ref(), Severity::Normal, "Pulled", &message)
            .await;
    }

    /// One start of a container; gives its exit code.
    async fn once(&self, slot: Slot, container: &Container, prepared: Prepared, stop: Stop) -> i32 {
        let start = self.started(slot);
        let path = log::file(&self.shared.data_dir, &self.uid, &container.name, start);
        let (pod, kubelet) = (self.pod.as_ref(), &self.shared.kubelet);
        self.tell_pulled(slot).await;
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
            let mut killing = pin!(self.tell_killing(&container.name, stop.clone()));
            let asked = stop.clone();
            let mut running = pin!(run.run(stop, self.clone().on_started(slot)));
            let mut told = false;
            let ended = loop {
                tokio::select! {
                    ended = &mut running => break ended,
                    () = &mut killing, if !told => told = true,
                }
            };
            // A container may be gone before the word that it is to go is written.
            if !told && asked.borrow().is_some() {
                killing.await;
            }
            ended
        };
        let exit = result
            .await
            .unwrap_or_else(|error| Exit::NotStarted(error.to_string()));
        let start_files = (begun, prepared.message_file.as_path(), path.as_path());
        let ended = self.ended(slot, container, exit, start_files).await;
        let code = ended.exit_code;
        self.change(slot, |container| container.state = State::Ended(ended));
        self.publish().await;
        code
    }

    /// What there is to say of a start that is over: `start` is its begin, its termination message and its log.
    async fn ended(
        &self,
        slot: Slot,
        container: &Container,
        exit: Exit,
        start: (Timestamp, &Path, &Path),
    ) -> Ended {
        let (begun, message_file, log) = start;
        let finished_at = Some(self.shared.clock.now());
        match exit {
            Exit::Code(exit_code) => {
                let policy = container.termination_message_policy.as_deref();
                let fall_back = policy == Some("FallbackToLogsOnError");
                let message = termination_message(message_file, log, exit_code, fall_back).await;
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
                let told = format!("Error: {message}");
                let kubelet = &self.shared.kubelet;
                kubelet
                    .record(self.pod.as_ref(), Severity::Warning, "Failed", &told)
                    .await;
                let exit_code = i32::from(crate::node::launcher::START_FAILED);
                let started_at = Some(begun);
                let message = Some(message);
                Ended {
                    exit_code,
                    reason: "StartError",
                    message,
                    started_at,
                    finished_at,
                }
            }
        }
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

    /// Writes the Event of a container that is told to end, once it is.
    async fn tell_killing(&self, name: &str, mut stop: Stop) {
        if stop.wait_for(Option::is_some).await.is_ok() && !self.shared.stop.is_cancelled() {
            let message = format!("Stopping container {name}");
            self.shared
                .kubelet
                .record(self.pod.as_ref(), Severity::Normal, "Killing", &message)
                .await;
        }
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
}
