//! The Job controller.
//!
//! One task looks after all Jobs: a change of a Job or of one of its pods names a key, [`plan`] says what the Job needs,
//! and the API is told. Nothing is remembered between two looks, so a restart goes on where it was.
//!
//! Not done here: indexed Jobs, `podFailurePolicy`, `successPolicy`, `managedBy`.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Error, ResourceExt as _};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::plan::{Plan, TRACKING, plan};
use crate::clock::Clock;
use crate::node::events::{Recorder, Severity};

/// The label by which a Job's pods are found.
const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";

/// How long to wait after the API server failed.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(3);

/// Namespace and name of a Job.
type Key = (String, String);

/// Looks after every Job until `stop`.
pub(crate) async fn run(client: Client, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let mut jobs = pin!(
        watcher(Api::<Job>::all(client.clone()), watcher::Config::default()).default_backoff()
    );
    let mut pods = pin!(
        watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).default_backoff()
    );
    let recorder = Recorder::new(client.clone(), Arc::clone(&clock), "job-controller");
    let controller = Controller {
        client,
        clock: Arc::clone(&clock),
        recorder,
    };
    let mut due: BTreeSet<Key> = BTreeSet::new();
    let mut later: BTreeMap<Key, Timestamp> = BTreeMap::new();
    loop {
        while let Some(key) = due.pop_first() {
            let looked = Box::pin(controller.look_after(&key)).await;
            let wake = looked.unwrap_or_else(|error| {
                tracing::debug!(%error, job = %key.1, "a Job is looked after again in a moment");
                clock.now().checked_add(AGAIN_AFTER).ok()
            });
            match wake {
                Some(wake) => drop(later.insert(key, wake)),
                None => drop(later.remove(&key)),
            }
            if stop.is_cancelled() {
                return;
            }
        }
        let next = later.values().min().copied();
        tokio::select! {
            () = stop.cancelled() => return,
            event = jobs.next() => match event {
                Some(Ok(Event::Apply(job) | Event::InitApply(job) | Event::Delete(job))) => {
                    due.insert((job.namespace().unwrap_or_default(), job.name_any()));
                }
                Some(_) => {}
                None => return,
            },
            event = pods.next() => match event {
                Some(Ok(Event::Apply(pod) | Event::InitApply(pod) | Event::Delete(pod))) => due.extend(owner_of(&pod)),
                Some(_) => {}
                None => return,
            },
            () = reached(clock.as_ref(), next) => {
                let now = clock.now();
                due.extend(later.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()));
            }
        }
    }
}

async fn reached(clock: &dyn Clock, at: Option<Timestamp>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn controller_of(pod: &Pod) -> Option<&OwnerReference> {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners
        .into_iter()
        .find(|owner| owner.controller == Some(true) && owner.kind == "Job")
}

fn owner_of(pod: &Pod) -> Option<Key> {
    controller_of(pod).map(|owner| (pod.namespace().unwrap_or_default(), owner.name.clone()))
}

struct Controller {
    client: Client,
    clock: Arc<dyn Clock>,
    recorder: Recorder,
}

impl Controller {
    /// Brings one Job forward; gives the moment at which it needs another look.
    async fn look_after(&self, (namespace, name): &Key) -> Result<Option<Timestamp>, Error> {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        loop {
            let job = jobs.get_opt(name).await?;
            let uid = job.as_ref().and_then(kube::ResourceExt::uid);
            let all = pods
                .list(
                    &ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}")),
                )
                .await?
                .items;
            let (own, others): (Vec<Pod>, Vec<Pod>) = all.into_iter().partition(|pod| {
                controller_of(pod).map(|owner| &owner.uid) == uid.as_ref() && uid.is_some()
            });
            // Pods of a Job that is gone are kept by nothing but the finalizer.
            for pod in others
                .iter()
                .filter(|pod| owner_of(pod).is_some_and(|key| key.1 == *name))
            {
                self.release(&pods, pod).await?;
            }
            let Some(job) = job else { return Ok(None) };
            let planned = plan(&job, &own, self.clock.now());
            if planned.remove_job {
                let background = DeleteParams {
                    propagation_policy: Some(PropagationPolicy::Background),
                    ..DeleteParams::default()
                };
                jobs.delete(name, &background).await?;
                return Ok(None);
            }
            if !self.apply(&job, &own, &planned).await? {
                return Ok(planned.wake);
            }
        }
    }

    /// Carries a plan out; true when something was counted or released, and another look is due at once.
    async fn apply(&self, job: &Job, own: &[Pod], planned: &Plan) -> Result<bool, Error> {
        let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), &namespace);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        // Pods come first: what was created is then counted as active by the next look.
        for _ in 0..planned.create {
            let made = new_pod(job);
            let created = match Box::pin(pods.create(&PostParams::default(), &made)).await {
                Ok(created) => created,
                Err(error) => {
                    let message = format!("Error creating: {error}");
                    self.recorder
                        .record(job, Severity::Warning, "FailedCreate", &message)
                        .await;
                    return Err(error);
                }
            };
            let message = format!("Created pod: {}", created.name_any());
            self.recorder
                .record(job, Severity::Normal, "SuccessfulCreate", &message)
                .await;
        }
        if planned.create > 0 {
            return Ok(true);
        }
        if job.status.as_ref() != Some(&planned.status) {
            jobs.patch_status(
                &name,
                &PatchParams::default(),
                &Patch::Merge(&status_patch(&planned.status)),
            )
            .await?;
        }
        for told in &planned.events {
            let severity = if told.warning {
                Severity::Warning
            } else {
                Severity::Normal
            };
            self.recorder
                .record(job, severity, told.reason, told.message)
                .await;
        }
        let mut released = false;
        for pod in own
            .iter()
            .filter(|pod| planned.release.contains(&pod.name_any()))
        {
            released |= self.release(&pods, pod).await?;
        }
        for pod in &planned.delete {
            match pods.delete(pod, &DeleteParams::default()).await {
                Ok(_) => {
                    let message = format!("Deleted pod: {pod}");
                    self.recorder
                        .record(job, Severity::Normal, "SuccessfulDelete", &message)
                        .await;
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(released || !planned.delete.is_empty())
    }

    /// Takes the tracking finalizer from a pod. True when it had it.
    async fn release(&self, pods: &Api<Pod>, pod: &Pod) -> Result<bool, Error> {
        if !pod.finalizers().iter().any(|name| name == TRACKING) {
            return Ok(false);
        }
        let kept: Vec<&String> = pod
            .finalizers()
            .iter()
            .filter(|name| *name != TRACKING)
            .collect();
        // The version keeps a finalizer that somebody adds meanwhile.
        let patch = json!({ "metadata": { "finalizers": kept, "resourceVersion": pod.resource_version() } });
        match pods
            .patch(
                &pod.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&patch),
            )
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if is_gone(&error) => Ok(true),
            Err(Error::Api(status)) if status.code == 409 => Ok(true),
            Err(error) => Err(error),
        }
    }
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}

/// The status as a merge patch that also takes away what is no longer there.
fn status_patch(status: &JobStatus) -> Value {
    json!({ "status": {
        "active": status.active,
        "ready": status.ready,
        "terminating": status.terminating,
        "succeeded": status.succeeded,
        "failed": status.failed,
        "startTime": status.start_time,
        "completionTime": status.completion_time,
        "conditions": status.conditions,
        "uncountedTerminatedPods": status.uncounted_terminated_pods.as_ref().map(|noted| json!({
            "succeeded": noted.succeeded,
            "failed": noted.failed,
        })),
    }})
}

/// A pod as the Job's template describes it.
fn new_pod(job: &Job) -> Pod {
    let template = job
        .spec
        .as_ref()
        .map(|spec| spec.template.clone())
        .unwrap_or_default();
    let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
    let of_template = template.metadata.unwrap_or_default();
    let mut labels = of_template.labels.unwrap_or_default();
    for (key, value) in [
        ("batch.kubernetes.io/job-name", &name),
        ("job-name", &name),
        (CONTROLLER_UID, &uid),
        ("controller-uid", &uid),
    ] {
        labels.insert(key.to_owned(), value.clone());
    }
    let mut finalizers = of_template.finalizers.unwrap_or_default();
    finalizers.push(TRACKING.to_owned());
    let owner = OwnerReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: name.clone(),
        uid,
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: job.namespace(),
            labels: Some(labels),
            annotations: of_template.annotations,
            finalizers: Some(finalizers),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}
