//! A pod's status from what is known of its containers. Pure.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
    VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::references::HOST_ADDRESS;

/// What the kubelet says of a container that it has lost.
const LOST: &str = "The container could not be located when the pod was terminated";

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    /// Never.
    Never,
    /// When it failed.
    OnFailure,
    /// In any case.
    Always,
}

impl RestartPolicy {
    /// As `spec.restartPolicy` has it.
    pub(crate) fn of(pod: &Pod) -> Self {
        match pod
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref())
        {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended with this code starts again; an init container that succeeded never does.
    pub(crate) fn restarts(self, exit_code: i32, init: bool) -> bool {
        match self {
            Self::Never => false,
            Self::OnFailure => exit_code != 0,
            Self::Always => exit_code != 0 || !init,
        }
    }
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) exit_code: i32,
    /// `Completed`, `Error`, `StartError` or `ContainerStatusUnknown`.
    pub(crate) reason: &'static str,
    /// The termination message.
    pub(crate) message: Option<String>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    Waiting {
        reason: String,
        message: Option<String>,
    },
    Running {
        since: Timestamp,
    },
    Ended(Ended),
    /// As an earlier life of the node recorded it.
    Recorded(Box<ContainerStateTerminated>),
}

impl State {
    /// Not yet started, for no bad reason.
    pub(crate) fn creating() -> Self {
        Self::Waiting {
            reason: "ContainerCreating".to_owned(),
            message: None,
        }
    }

    fn initializing() -> Self {
        Self::Waiting {
            reason: "PodInitializing".to_owned(),
            message: None,
        }
    }

    fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Ended(ended) => Some(ended.exit_code),
            Self::Recorded(terminated) => Some(terminated.exit_code),
            Self::Waiting { .. } | Self::Running { .. } => None,
        }
    }

    fn to_api(&self, id: Option<&str>) -> ContainerState {
        let id = id.map(str::to_owned);
        match self {
            Self::Waiting { reason, message } => ContainerState {
                waiting: Some(ContainerStateWaiting {
                    reason: Some(reason.clone()),
                    message: message.clone(),
                }),
                ..ContainerState::default()
            },
            Self::Running { since } => ContainerState {
                running: Some(ContainerStateRunning {
                    started_at: Some(seconds(*since)),
                }),
                ..ContainerState::default()
            },
            Self::Ended(ended) => {
                let terminated = ContainerStateTerminated {
                    container_id: id,
                    exit_code: ended.exit_code,
                    reason: Some(ended.reason.to_owned()),
                    message: ended.message.clone(),
                    started_at: ended.started_at.map(seconds),
                    finished_at: ended.finished_at.map(seconds),
                    signal: None,
                };
                ContainerState {
                    terminated: Some(terminated),
                    ..ContainerState::default()
                }
            }
            Self::Recorded(terminated) => ContainerState {
                terminated: Some((**terminated).clone()),
                ..ContainerState::default()
            },
        }
    }
}

/// What is known of a container.
#[derive(Clone, Debug)]
pub(crate) struct ContainerModel {
    pub(crate) name: String,
    image: String,
    mounts: Vec<VolumeMountStatus>,
    pub(crate) state: State,
    pub(crate) last: Option<State>,
    pub(crate) restarts: i32,
    /// Of the present or last start.
    pub(crate) id: Option<String>,
}

impl ContainerModel {
    fn new(container: &Container, recorded: Option<&ContainerStatus>, state: State) -> Self {
        let mounts = container.volume_mounts.iter().flatten();
        let mounts = mounts.map(|mount| VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only.filter(|read_only| *read_only),
            recursive_read_only: mount
                .read_only
                .filter(|read_only| *read_only)
                .map(|_| "Disabled".to_owned()),
        });
        let terminated = recorded
            .and_then(|status| status.state.as_ref())
            .and_then(|state| state.terminated.clone());
        Self {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            mounts: mounts.collect(),
            state: terminated.map_or(state, |terminated| State::Recorded(Box::new(terminated))),
            last: None,
            restarts: recorded.map_or(0, |status| status.restart_count),
            id: recorded.and_then(|status| status.container_id.clone()),
        }
    }

    fn to_api(&self) -> ContainerStatus {
        let running = matches!(self.state, State::Running { .. });
        let image_id = self
            .id
            .as_ref()
            .map(|_| format!("embedded://{}", self.image));
        ContainerStatus {
            name: self.name.clone(),
            image: self.image.clone(),
            image_id: image_id.unwrap_or_default(),
            container_id: self.id.clone(),
            ready: running,
            started: Some(running),
            restart_count: self.restarts,
            state: Some(self.state.to_api(self.id.as_deref())),
            last_state: Some(
                self.last
                    .as_ref()
                    .map(|last| last.to_api(None))
                    .unwrap_or_default(),
            ),
            volume_mounts: Some(self.mounts.clone()),
            ..ContainerStatus::default()
        }
    }
}

/// What is known of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    policy: RestartPolicy,
    pub(crate) init: Vec<ContainerModel>,
    pub(crate) containers: Vec<ContainerModel>,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) started: Option<Timestamp>,
    /// Why the pod cannot be bound to the node.
    pub(crate) unschedulable: Option<String>,
    conditions: Vec<PodCondition>,
}

impl Model {
    /// What the pod's object tells.
    pub(crate) fn of(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let recorded = |statuses: Option<&Vec<ContainerStatus>>, name: &str| {
            statuses
                .into_iter()
                .flatten()
                .find(|status| status.name == name)
                .cloned()
        };
        let init = spec
            .and_then(|spec| spec.init_containers.as_ref())
            .into_iter()
            .flatten();
        let init: Vec<_> = init
            .map(|container| {
                let was = recorded(
                    status.and_then(|status| status.init_container_statuses.as_ref()),
                    &container.name,
                );
                ContainerModel::new(container, was.as_ref(), State::initializing())
            })
            .collect();
        let waiting = || {
            if init.is_empty() {
                State::creating()
            } else {
                State::initializing()
            }
        };
        let containers = spec
            .map(|spec| spec.containers.as_slice())
            .unwrap_or_default()
            .iter();
        let containers = containers
            .map(|container| {
                let was = recorded(
                    status.and_then(|status| status.container_statuses.as_ref()),
                    &container.name,
                );
                ContainerModel::new(container, was.as_ref(), waiting())
            })
            .collect();
        Self {
            policy: RestartPolicy::of(pod),
            init,
            containers,
            address: status
                .and_then(|status| status.pod_ip.as_ref())
                .and_then(|address| address.parse().ok()),
            started: status
                .and_then(|status| status.start_time.as_ref())
                .map(|time| time.0),
            unschedulable: None,
            conditions: status
                .and_then(|status| status.conditions.clone())
                .unwrap_or_default(),
        }
    }

    /// Both kinds of containers.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut ContainerModel> {
        self.init.iter_mut().chain(&mut self.containers)
    }

    /// The pod is over. Every container that has not ended is lost: its process went with an earlier life of the node.
    pub(crate) fn lose(&mut self, now: Timestamp) {
        (self.policy, self.unschedulable) = (RestartPolicy::Never, None);
        for container in self
            .all_mut()
            .filter(|container| container.state.exit_code().is_none())
        {
            container.state = State::Ended(Ended {
                exit_code: 137,
                reason: "ContainerStatusUnknown",
                message: Some(LOST.to_owned()),
                started_at: None,
                finished_at: Some(now),
            });
        }
    }

    fn initialized(&self) -> bool {
        self.init
            .iter()
            .all(|container| container.state.exit_code() == Some(0))
    }

    /// `Pending`, `Running`, `Succeeded` or `Failed`.
    pub(crate) fn phase(&self) -> &'static str {
        if self.policy == RestartPolicy::Never
            && self
                .init
                .iter()
                .any(|container| container.state.exit_code().is_some_and(|code| code != 0))
        {
            return "Failed";
        }
        if !self.initialized() {
            return "Pending";
        }
        let codes: Vec<Option<i32>> = self
            .containers
            .iter()
            .map(|container| container.state.exit_code())
            .collect();
        let ended = codes
            .iter()
            .all(|code| code.is_some_and(|code| !self.policy.restarts(code, false)));
        if ended {
            return if codes.iter().all(|code| *code == Some(0)) {
                "Succeeded"
            } else {
                "Failed"
            };
        }
        let begun = |container: &ContainerModel| {
            container.restarts > 0 || !matches!(container.state, State::Waiting { .. })
        };
        if self.containers.iter().all(begun) {
            "Running"
        } else {
            "Pending"
        }
    }

    /// The status to publish; remembers its conditions, so that transition times move only with their status.
    pub(crate) fn status(&mut self, generation: Option<i64>, now: Timestamp) -> PodStatus {
        if let Some(message) = self.unschedulable.clone() {
            let unscheduled =
                condition("PodScheduled", false, Some("Unschedulable"), Some(message));
            self.remember(vec![unscheduled], generation, now);
            return PodStatus {
                phase: Some("Pending".to_owned()),
                conditions: Some(self.conditions.clone()),
                ..PodStatus::default()
            };
        }
        let phase = self.phase();
        self.remember(self.present_conditions(phase), generation, now);
        let address = self.address.map(|address| address.to_string());
        let statuses = |models: &[ContainerModel]| {
            models
                .iter()
                .map(ContainerModel::to_api)
                .collect::<Vec<_>>()
        };
        PodStatus {
            phase: Some(phase.to_owned()),
            conditions: Some(self.conditions.clone()),
            container_statuses: Some(statuses(&self.containers)),
            init_container_statuses: Some(statuses(&self.init))
                .filter(|statuses| !statuses.is_empty()),
            host_ip: Some(HOST_ADDRESS.to_owned()),
            host_ips: Some(vec![HostIP {
                ip: HOST_ADDRESS.to_owned(),
            }]),
            pod_ips: address.clone().map(|ip| vec![PodIP { ip }]),
            pod_ip: address,
            start_time: self.started.map(seconds),
            observed_generation: generation,
            ..PodStatus::default()
        }
    }

    fn present_conditions(&self, phase: &str) -> Vec<PodCondition> {
        let over = match phase {
            "Succeeded" => Some("PodCompleted"),
            "Failed" => Some("PodFailed"),
            _ => None,
        };
        let running =
            |container: &&ContainerModel| matches!(container.state, State::Running { .. });
        let unready: Vec<&str> = self
            .containers
            .iter()
            .filter(|one| !running(one))
            .map(|one| one.name.as_str())
            .collect();
        let ready = unready.is_empty() && self.initialized();
        let (reason, message) = match over {
            Some(over) => (Some(over), None),
            None if ready => (None, None),
            None => (
                Some("ContainersNotReady"),
                Some(format!(
                    "containers with unready status: [{}]",
                    unready.join(" ")
                )),
            ),
        };
        let pending: Vec<&str> = self
            .init
            .iter()
            .filter(|one| one.state.exit_code() != Some(0))
            .map(|one| one.name.as_str())
            .collect();
        let incomplete = Some(format!(
            "containers with incomplete status: [{}]",
            pending.join(" ")
        ));
        let initialized = if self.initialized() {
            condition(
                "Initialized",
                true,
                over.filter(|over| *over == "PodCompleted"),
                None,
            )
        } else {
            condition(
                "Initialized",
                false,
                Some("ContainersNotInitialized"),
                incomplete,
            )
        };
        let begun = self
            .init
            .iter()
            .chain(&self.containers)
            .any(|one| one.id.is_some());
        vec![
            condition(
                "PodReadyToStartContainers",
                over.is_none() && begun,
                None,
                None,
            ),
            initialized,
            condition("Ready", ready, reason, message.clone()),
            condition("ContainersReady", ready, reason, message),
            condition("PodScheduled", true, None, None),
        ]
    }

    fn remember(
        &mut self,
        mut present: Vec<PodCondition>,
        generation: Option<i64>,
        now: Timestamp,
    ) {
        for condition in &mut present {
            let before = self
                .conditions
                .iter()
                .find(|before| before.type_ == condition.type_);
            let unmoved = before.filter(|before| before.status == condition.status);
            let since = unmoved.and_then(|before| before.last_transition_time.clone());
            condition.last_transition_time = Some(since.unwrap_or_else(|| seconds(now)));
            condition.observed_generation = generation;
        }
        self.conditions = present;
    }
}

fn condition(
    kind: &str,
    holds: bool,
    reason: Option<&str>,
    message: Option<String>,
) -> PodCondition {
    PodCondition {
        type_: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: reason.map(str::to_owned),
        message,
        ..PodCondition::default()
    }
}

/// Kubernetes keeps times of objects to the second.
pub(crate) fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn model(policy: &str, init: &[&str]) -> Model {
        let containers = |names: &[&str]| {
            names
                .iter()
                .map(|name| json!({"name": name, "image": "syncline"}))
                .collect::<Vec<_>>()
        };
        let pod = json!({
            "metadata": {"name": "p"},
            "spec": {"restartPolicy": policy, "containers": containers(&["c"]), "initContainers": containers(init)},
        });
        Model::of(&serde_json::from_value(pod).unwrap())
    }

    fn ended(exit_code: i32) -> State {
        State::Ended(Ended {
            exit_code,
            reason: "Error",
            message: None,
            started_at: None,
            finished_at: None,
        })
    }

    fn running() -> State {
        State::Running {
            since: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_phase_follows_the_containers_and_the_restart_policy() {
        for (policy, state, phase) in [
            ("Never", State::creating(), "Pending"),
            ("Never", running(), "Running"),
            ("Never", ended(0), "Succeeded"),
            ("Never", ended(3), "Failed"),
            ("OnFailure", ended(0), "Succeeded"),
            ("OnFailure", ended(3), "Running"),
            ("Always", ended(0), "Running"),
        ] {
            let mut model = model(policy, &[]);
            model.containers[0].state = state;
            assert_eq!(model.phase(), phase, "{policy}");
        }
    }

    #[test]
    fn a_failed_init_container_fails_a_pod_that_never_restarts() {
        let mut never = model("Never", &["i"]);
        assert_eq!(never.phase(), "Pending");
        never.init[0].state = ended(1);
        assert_eq!(never.phase(), "Failed");
        let mut always = model("Always", &["i"]);
        always.init[0].state = ended(1);
        assert_eq!(always.phase(), "Pending");
    }

    #[test]
    fn a_lost_container_counts_as_killed() {
        let mut lost = model("Never", &[]);
        lost.containers[0].state = running();
        lost.lose(Timestamp::UNIX_EPOCH);
        let status = lost.status(Some(1), Timestamp::UNIX_EPOCH);
        let state = status.container_statuses.unwrap()[0]
            .state
            .clone()
            .unwrap()
            .terminated
            .unwrap();
        assert_eq!(
            (state.exit_code, state.reason.as_deref()),
            (137, Some("ContainerStatusUnknown"))
        );
        assert_eq!(status.phase.as_deref(), Some("Failed"));
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let mut pod = model("Never", &[]);
        let first = Timestamp::from_second(1).unwrap();
        pod.status(Some(1), first);
        pod.containers[0].state = running();
        let status = pod.status(Some(1), Timestamp::from_second(2).unwrap());
        let times: Vec<_> = status
            .conditions
            .unwrap()
            .into_iter()
            .map(|it| (it.type_, it.last_transition_time.unwrap().0.as_second()))
            .collect();
        assert!(
            times.contains(&("Initialized".to_owned(), 1))
                && times.contains(&("Ready".to_owned(), 2))
        );
    }
}
