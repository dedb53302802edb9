//! What a Job needs next. Pure.
//!
//! Ended pods are counted as Kubernetes does it: first they are noted in `uncountedTerminatedPods`, then their finalizer
//! goes, then the counters move. Whatever is interrupted, no pod is counted twice and none is forgotten.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::node::status::seconds;

/// Keeps an ended pod until it is counted.
pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// The first wait after a pod failed.
const BACKOFF_SECONDS: i64 = 10;
/// The longest one.
const BACKOFF_LIMIT_SECONDS: i64 = 600;
/// What `backoffLimit` means when it is absent.
const BACKOFF_LIMIT: i32 = 6;

/// An Event to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) warning: bool,
    pub(super) reason: &'static str,
    pub(super) message: &'static str,
}

/// What is to be done, in this order: status, releases, then (after another look) the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The status to write when it differs.
    pub(super) status: JobStatus,
    /// Pods whose tracking finalizer goes.
    pub(super) release: Vec<String>,
    /// Pods to be deleted.
    pub(super) delete: Vec<String>,
    /// How many pods to create.
    pub(super) create: usize,
    /// Events.
    pub(super) events: Vec<Told>,
    /// The Job itself goes (`ttlSecondsAfterFinished`).
    pub(super) remove_job: bool,
    /// When to look again if nothing changes before.
    pub(super) wake: Option<Timestamp>,
}

/// The Job's pods by what counts.
struct Census<'a> {
    active: Vec<&'a Pod>,
    terminating: i32,
    ready: i32,
    /// Ended, still tracked, and not yet noted.
    succeeded: Vec<String>,
    failed: Vec<String>,
    restarts: i32,
    /// The latest end of a failed pod.
    last_failure: Option<Timestamp>,
}

/// Plans for a Job and the pods it controls.
pub(super) fn plan(job: &Job, pods: &[Pod], now: Timestamp) -> Plan {
    let spec = job.spec.clone().unwrap_or_default();
    let status = job.status.clone().unwrap_or_default();
    let tracked = |pod: &&Pod| pod.finalizers().iter().any(|name| name == TRACKING);
    if job.metadata.deletion_timestamp.is_some() {
        let release = pods
            .iter()
            .filter(tracked)
            .map(kube::ResourceExt::name_any)
            .collect();
        let census = census(pods, &status, waits_for_ends(&spec));
        let mut after = status;
        observe(&mut after, &census);
        return Plan {
            status: after,
            release,
            ..Plan::default()
        };
    }
    if let Some(finished_at) = finished_at(&status) {
        return finished(pods, &spec, status, finished_at, now);
    }
    Planner {
        job,
        spec: &spec,
        census: census(pods, &status, waits_for_ends(&spec)),
        now,
        plan: Plan {
            status,
            ..Plan::default()
        },
    }
    .run(pods)
}

/// The moment at which the Job finished, when it has.
fn finished_at(status: &JobStatus) -> Option<Timestamp> {
    let over = |condition: &&JobCondition| {
        (condition.type_ == "Complete" || condition.type_ == "Failed") && condition.status == "True"
    };
    let condition = status.conditions.iter().flatten().find(over)?;
    Some(
        condition
            .last_transition_time
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    )
}

fn finished(
    pods: &[Pod],
    spec: &JobSpec,
    status: JobStatus,
    at: Timestamp,
    now: Timestamp,
) -> Plan {
    let tracked = pods
        .iter()
        .filter(|pod| pod.finalizers().iter().any(|name| name == TRACKING));
    let release = tracked.map(kube::ResourceExt::name_any).collect();
    let mut plan = Plan {
        status,
        release,
        ..Plan::default()
    };
    if let Some(ttl) = spec.ttl_seconds_after_finished {
        let due = at
            .checked_add(SignedDuration::from_secs(i64::from(ttl)))
            .unwrap_or(at);
        plan.remove_job = due <= now;
        plan.wake = Some(due).filter(|due| *due > now);
    }
    plan
}

/// Whether a pod is replaced only when it has ended (`podReplacementPolicy: Failed`), and not as soon as it is deleted.
fn waits_for_ends(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed")
}

fn census<'a>(pods: &'a [Pod], status: &JobStatus, waits_for_ends: bool) -> Census<'a> {
    let noted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let noted: Vec<String> = noted
        .succeeded
        .into_iter()
        .flatten()
        .chain(noted.failed.into_iter().flatten())
        .collect();
    let mut census = Census {
        active: Vec::new(),
        terminating: 0,
        ready: 0,
        succeeded: Vec::new(),
        failed: Vec::new(),
        restarts: 0,
        last_failure: None,
    };
    for pod in pods {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        let tracked = pod.finalizers().iter().any(|name| name == TRACKING);
        let uid = pod.uid().unwrap_or_default();
        let uncounted = tracked && !noted.contains(&uid);
        let leaving = pod.metadata.deletion_timestamp.is_some();
        match phase {
            Some("Succeeded") if uncounted => census.succeeded.push(uid),
            Some("Failed") if uncounted => census.failed.push(uid),
            Some("Succeeded" | "Failed") => {}
            // A pod that somebody else deletes counts as failed: it may never reach that phase.
            _ if leaving && uncounted && !waits_for_ends => {
                census.failed.push(uid);
                census.terminating += 1;
            }
            _ if leaving => census.terminating += 1,
            _ => {
                census.ready += i32::from(is_ready(pod));
                census.active.push(pod);
            }
        }
        if phase == Some("Failed") {
            census.last_failure = census.last_failure.max(ended_at(pod));
        }
        let statuses = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.as_ref());
        census.restarts += statuses
            .into_iter()
            .flatten()
            .map(|container| container.restart_count)
            .sum::<i32>();
    }
    census
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The end of a pod's last container, else the pod's last change of readiness.
fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let ends = containers.filter_map(|container| {
        container
            .state
            .as_ref()?
            .terminated
            .as_ref()?
            .finished_at
            .as_ref()
    });
    let of_conditions = status
        .conditions
        .iter()
        .flatten()
        .filter_map(|condition| condition.last_transition_time.as_ref());
    ends.map(|time| time.0)
        .max()
        .or_else(|| of_conditions.map(|time| time.0).max())
}

/// Counts what can be seen at any time.
fn observe(status: &mut JobStatus, census: &Census<'_>) {
    let active = i32::try_from(census.active.len()).unwrap_or(i32::MAX);
    status.active = (active > 0).then_some(active);
    status.ready = Some(census.ready);
    status.terminating = Some(census.terminating);
    status.uncounted_terminated_pods.get_or_insert_default();
}

struct Planner<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    census: Census<'a>,
    now: Timestamp,
    plan: Plan,
}

impl Planner<'_> {
    fn run(mut self, pods: &[Pod]) -> Plan {
        let suspended = self.spec.suspend == Some(true);
        self.resume_or_suspend(suspended);
        if self.plan.status.start_time.is_none() && !suspended {
            self.plan.status.start_time = Some(seconds(self.now));
        }
        self.note_ended(pods);
        self.decide();
        let over = self.has_condition("FailureTarget") || self.has_condition("SuccessCriteriaMet");
        if over || suspended {
            self.drop_active(self.census.active.len());
        } else {
            self.keep_active();
        }
        observe(&mut self.plan.status, &self.census);
        self.finish();
        self.plan
    }

    /// Notes pods that have ended; counts those that were noted before and are free of their finalizer.
    fn note_ended(&mut self, pods: &[Pod]) {
        let status = &mut self.plan.status;
        let mut noted = status.uncounted_terminated_pods.take().unwrap_or_default();
        let is_tracked = |uid: &String| {
            let tracked = |pod: &Pod| pod.finalizers().iter().any(|name| name == TRACKING);
            pods.iter()
                .any(|pod| pod.uid().as_ref() == Some(uid) && tracked(pod))
        };
        let settle =
            |uids: &mut Option<Vec<String>>, counter: &mut Option<i32>, ended: &[String]| {
                let (waiting, free): (Vec<String>, Vec<String>) = uids
                    .take()
                    .unwrap_or_default()
                    .into_iter()
                    .partition(is_tracked);
                if !free.is_empty() {
                    *counter =
                        Some(counter.unwrap_or(0) + i32::try_from(free.len()).unwrap_or(i32::MAX));
                }
                let all: Vec<String> = waiting.into_iter().chain(ended.iter().cloned()).collect();
                *uids = Some(all).filter(|all| !all.is_empty());
            };
        settle(
            &mut noted.succeeded,
            &mut status.succeeded,
            &self.census.succeeded,
        );
        settle(&mut noted.failed, &mut status.failed, &self.census.failed);
        let all: Vec<&String> = noted
            .succeeded
            .iter()
            .flatten()
            .chain(noted.failed.iter().flatten())
            .collect();
        let release = pods
            .iter()
            .filter(|pod| pod.uid().is_some_and(|uid| all.contains(&&uid)));
        self.plan.release = release.map(kube::ResourceExt::name_any).collect();
        status.uncounted_terminated_pods = Some(noted);
    }

    fn uncounted(&self) -> UncountedTerminatedPods {
        self.plan
            .status
            .uncounted_terminated_pods
            .clone()
            .unwrap_or_default()
    }

    fn succeeded(&self) -> i32 {
        let noted = self.uncounted().succeeded.map_or(0, |uids| uids.len());
        self.plan.status.succeeded.unwrap_or(0) + i32::try_from(noted).unwrap_or(i32::MAX)
    }

    fn failed(&self) -> i32 {
        let noted = self.uncounted().failed.map_or(0, |uids| uids.len());
        self.plan.status.failed.unwrap_or(0) + i32::try_from(noted).unwrap_or(i32::MAX)
    }

    /// Whether the Job has reached its goal or its limit.
    fn decide(&mut self) {
        if self.has_condition("FailureTarget") || self.has_condition("SuccessCriteriaMet") {
            return;
        }
        let limit = self.spec.backoff_limit.unwrap_or(BACKOFF_LIMIT);
        let template = self.spec.template.spec.as_ref();
        let on_failure =
            template.is_some_and(|spec| spec.restart_policy.as_deref() == Some("OnFailure"));
        let restarted = on_failure && self.census.restarts > 0 && self.census.restarts >= limit;
        if self.failed() > limit || restarted {
            self.add_condition(
                "FailureTarget",
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            );
        } else if self.past_deadline() {
            self.add_condition(
                "FailureTarget",
                "DeadlineExceeded",
                "Job was active longer than specified deadline",
            );
        } else if self.complete() {
            self.add_condition(
                "SuccessCriteriaMet",
                "CompletionsReached",
                "Reached expected number of succeeded pods",
            );
        }
    }

    fn complete(&self) -> bool {
        match self.spec.completions {
            Some(completions) => self.succeeded() >= completions,
            None => self.succeeded() > 0 && self.census.active.is_empty(),
        }
    }

    fn past_deadline(&mut self) -> bool {
        let (Some(limit), Some(start)) = (
            self.spec.active_deadline_seconds,
            &self.plan.status.start_time,
        ) else {
            return false;
        };
        let due = start
            .0
            .checked_add(SignedDuration::from_secs(limit))
            .unwrap_or(start.0);
        if due > self.now {
            self.plan.wake = Some(due);
        }
        due <= self.now
    }

    /// Creates or deletes pods until as many run as should.
    fn keep_active(&mut self) {
        let active = i32::try_from(self.census.active.len()).unwrap_or(i32::MAX);
        let parallelism = self.spec.parallelism.unwrap_or(1);
        let wanted = match self.spec.completions {
            Some(completions) => parallelism.min(completions - self.succeeded()),
            None if self.succeeded() > 0 => active.min(parallelism),
            None => parallelism,
        };
        let held = if waits_for_ends(self.spec) {
            self.census.terminating
        } else {
            0
        };
        let missing = wanted - active - held;
        if active > wanted {
            self.drop_active(usize::try_from(active - wanted.max(0)).unwrap_or(0));
        } else if missing > 0 {
            match self.backoff_until().filter(|until| *until > self.now) {
                Some(until) => {
                    self.plan.wake = Some(self.plan.wake.map_or(until, |wake| wake.min(until)));
                }
                None => self.plan.create = usize::try_from(missing).unwrap_or(0),
            }
        }
    }

    /// Ten seconds after the first failure, doubled with each.
    fn backoff_until(&self) -> Option<Timestamp> {
        let failures = u32::try_from(self.failed()).unwrap_or(0);
        if failures == 0 {
            return None;
        }
        let wait = BACKOFF_SECONDS
            .saturating_mul(1_i64 << (failures - 1).min(10))
            .min(BACKOFF_LIMIT_SECONDS);
        self.census
            .last_failure?
            .checked_add(SignedDuration::from_secs(wait))
            .ok()
    }

    /// Takes away pods that nobody needs any more, the youngest first; they are not failures.
    fn drop_active(&mut self, count: usize) {
        let mut active = std::mem::take(&mut self.census.active);
        active.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        let kept = active.len().saturating_sub(count);
        for pod in active.split_off(kept) {
            self.plan.release.push(pod.name_any());
            self.plan.delete.push(pod.name_any());
            self.census.terminating += 1;
            self.census.ready -= i32::from(is_ready(pod));
        }
        self.census.active = active;
    }

    fn resume_or_suspend(&mut self, suspended: bool) {
        let now = seconds(self.now);
        let conditions = self.plan.status.conditions.get_or_insert_default();
        let before = conditions
            .iter_mut()
            .find(|condition| condition.type_ == "Suspended");
        let was = before
            .as_ref()
            .is_some_and(|condition| condition.status == "True");
        if was == suspended {
            if conditions.is_empty() {
                self.plan.status.conditions = None;
            }
            return;
        }
        let (status, reason, message, event) = if suspended {
            ("True", "JobSuspended", "Job suspended", "Suspended")
        } else {
            ("False", "JobResumed", "Job resumed", "Resumed")
        };
        let fresh = new_condition("Suspended", status, (reason, message), &now.0);
        match before {
            Some(before) => *before = fresh,
            None => conditions.push(fresh),
        }
        self.plan.status.start_time = (!suspended).then_some(now);
        self.plan.events.push(Told {
            warning: false,
            reason: event,
            message,
        });
    }

    /// Once every pod is counted and gone or ended, the Job is over.
    fn finish(&mut self) {
        let noted = self.uncounted();
        if noted.succeeded.is_some() || noted.failed.is_some() {
            return;
        }
        let target = |kind: &str| {
            let conditions = self.plan.status.conditions.iter().flatten();
            conditions
                .into_iter()
                .find(|condition| condition.type_ == kind)
                .cloned()
        };
        let text = |condition: &JobCondition| match condition.reason.as_deref() {
            Some("DeadlineExceeded") => (
                "DeadlineExceeded",
                "Job was active longer than specified deadline",
            ),
            _ => (
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            ),
        };
        if let Some(condition) = target("FailureTarget") {
            if self.census.terminating == 0 {
                let (reason, message) = text(&condition);
                self.add_condition("Failed", reason, message);
                self.plan.events.push(Told {
                    warning: true,
                    reason,
                    message,
                });
            }
        } else if target("SuccessCriteriaMet").is_some() && self.census.terminating == 0 {
            self.add_condition(
                "Complete",
                "CompletionsReached",
                "Reached expected number of succeeded pods",
            );
            self.plan.status.completion_time = Some(seconds(self.now));
            self.plan.events.push(Told {
                warning: false,
                reason: "Completed",
                message: "Job completed",
            });
        }
    }

    fn has_condition(&self, kind: &str) -> bool {
        let conditions = self.plan.status.conditions.iter().flatten();
        conditions
            .into_iter()
            .any(|condition| condition.type_ == kind && condition.status == "True")
    }

    fn add_condition(&mut self, kind: &str, reason: &str, message: &str) {
        debug_assert!(self.job.metadata.deletion_timestamp.is_none());
        let fresh = new_condition(kind, "True", (reason, message), &seconds(self.now).0);
        self.plan
            .status
            .conditions
            .get_or_insert_default()
            .push(fresh);
    }
}

fn new_condition(
    kind: &str,
    status: &str,
    (reason, message): (&str, &str),
    now: &Timestamp,
) -> JobCondition {
    JobCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(seconds(*now)),
        last_transition_time: Some(seconds(*now)),
    }
}
