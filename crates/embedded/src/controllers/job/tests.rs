use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::plan::{Plan, plan};
use super::{new_pod, status_patch};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn job(spec: &Value) -> Job {
    let mut spec_with = json!({"parallelism": 1, "completions": 1, "backoffLimit": 1, "template": {"spec": {"restartPolicy": "Never", "containers": []}}});
    spec_with
        .as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    serde_json::from_value(
        json!({"metadata": {"name": "j", "namespace": "n", "uid": "job"}, "spec": spec_with, }),
    )
    .unwrap()
}

fn pod(name: &str, phase: &str, tracked: bool) -> Pod {
    let finalizers = if tracked {
        vec!["batch.kubernetes.io/job-tracking"]
    } else {
        vec![]
    };
    let state = json!({"terminated": {"exitCode": 3, "finishedAt": at(0)}});
    let containers = json!([{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]);
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": name, "finalizers": finalizers},
        "status": {"phase": phase, "containerStatuses": if phase == "Running" { json!([]) } else { containers }},
    }))
    .unwrap()
}

/// Carries plans out on paper until nothing more is to be done at this moment.
fn settle(job: &mut Job, pods: &mut Vec<Pod>, now: Timestamp) -> Plan {
    for _ in 0..20 {
        let planned = plan(job, pods, now);
        let mut changed = job.status.as_ref() != Some(&planned.status) || planned.create > 0;
        job.status = Some(planned.status.clone());
        for pod in pods.iter_mut() {
            let name = pod.metadata.name.clone().unwrap();
            if planned.release.contains(&name) {
                changed |= !pod
                    .metadata
                    .finalizers
                    .take()
                    .unwrap_or_default()
                    .is_empty();
            }
        }
        pods.retain(|pod| !planned.delete.contains(pod.metadata.name.as_ref().unwrap()));
        changed |= !planned.delete.is_empty();
        for _ in 0..planned.create {
            let name = format!("p{}", pods.len());
            pods.push(pod(&name, "Pending", true));
        }
        if !changed {
            return planned;
        }
    }
    panic!("the Job does not come to rest");
}

fn conditions(job: &Job) -> Vec<String> {
    let conditions = job
        .status
        .clone()
        .unwrap_or_default()
        .conditions
        .unwrap_or_default();
    conditions
        .into_iter()
        .map(|condition| {
            format!(
                "{}={}",
                condition.type_,
                condition.reason.unwrap_or_default()
            )
        })
        .collect()
}

fn end(pods: &mut [Pod], index: usize, phase: &str) {
    let name = pods[index].metadata.name.clone().unwrap();
    pods[index] = pod(&name, phase, true);
}

#[test]
fn a_job_whose_pod_succeeds_completes() {
    let (mut job, mut pods) = (job(&json!({})), Vec::new());
    settle(&mut job, &mut pods, at(0));
    assert_eq!(job.status.as_ref().unwrap().active, Some(1));
    end(&mut pods, 0, "Succeeded");
    settle(&mut job, &mut pods, at(1));
    let status = job.status.clone().unwrap();
    assert_eq!(
        (
            status.succeeded,
            status.failed,
            status.active,
            status.completion_time.is_some()
        ),
        (Some(1), None, None, true)
    );
    assert_eq!(
        conditions(&job),
        [
            "SuccessCriteriaMet=CompletionsReached",
            "Complete=CompletionsReached"
        ]
    );
    assert_eq!(pods.len(), 1);
}

#[test]
fn a_failed_pod_is_replaced_after_ten_seconds_and_the_limit_ends_the_job() {
    let (mut job, mut pods) = (job(&json!({})), Vec::new());
    settle(&mut job, &mut pods, at(0));
    end(&mut pods, 0, "Failed");
    let planned = settle(&mut job, &mut pods, at(1));
    assert_eq!(
        (
            pods.len(),
            planned.wake,
            job.status.as_ref().unwrap().failed
        ),
        (1, Some(at(10)), Some(1))
    );
    settle(&mut job, &mut pods, at(10));
    assert_eq!(pods.len(), 2);
    end(&mut pods, 1, "Failed");
    settle(&mut job, &mut pods, at(11));
    assert_eq!(job.status.as_ref().unwrap().failed, Some(2));
    assert_eq!(
        conditions(&job),
        [
            "FailureTarget=BackoffLimitExceeded",
            "Failed=BackoffLimitExceeded"
        ]
    );
}

fn is_deleted(pods: &mut [Pod], index: usize) {
    pods[index].metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1)));
}

#[test]
fn a_deleted_pod_counts_as_failed_and_is_replaced_at_once() {
    let (mut job, mut pods) = (job(&json!({})), Vec::new());
    settle(&mut job, &mut pods, at(0));
    end(&mut pods, 0, "Running");
    is_deleted(&mut pods, 0);
    settle(&mut job, &mut pods, at(1));
    let status = job.status.clone().unwrap();
    assert_eq!(
        (pods.len(), status.failed, status.terminating),
        (2, Some(1), Some(1))
    );
}

#[test]
fn a_job_that_replaces_only_what_has_failed_waits_for_the_end_of_a_deleted_pod() {
    let spec = json!({"podReplacementPolicy": "Failed"});
    let (mut job, mut pods) = (job(&spec), Vec::new());
    settle(&mut job, &mut pods, at(0));
    end(&mut pods, 0, "Running");
    is_deleted(&mut pods, 0);
    let counts = |job: &Job| {
        let status = job.status.clone().unwrap();
        (status.active, status.failed, status.terminating)
    };
    settle(&mut job, &mut pods, at(1000));
    assert_eq!((pods.len(), counts(&job)), (1, (None, None, Some(1))));
    assert!(
        pods[0].metadata.finalizers.is_some(),
        "its end is still to be counted"
    );
    end(&mut pods, 0, "Failed");
    is_deleted(&mut pods, 0);
    settle(&mut job, &mut pods, at(1000));
    assert_eq!((pods.len(), counts(&job)), (2, (Some(1), Some(1), Some(0))));
}

#[test]
fn a_job_that_replaces_only_what_has_failed_waits_for_what_it_has_taken_away_itself() {
    let spec = json!({"podReplacementPolicy": "Failed"});
    let (mut job, mut pods) = (job(&spec), Vec::new());
    settle(&mut job, &mut pods, at(0));
    // As after `parallelism: 0`: released by the controller, and still ending.
    end(&mut pods, 0, "Running");
    is_deleted(&mut pods, 0);
    pods[0].metadata.finalizers = None;
    settle(&mut job, &mut pods, at(1));
    assert_eq!(pods.len(), 1);
    pods.clear();
    settle(&mut job, &mut pods, at(2));
    assert_eq!(
        (pods.len(), job.status.clone().unwrap().failed),
        (1, None),
        "it was no failure"
    );
}

#[test]
fn parallelism_0_takes_the_pod_away_without_a_failure() {
    let (mut job, mut pods) = (job(&json!({})), Vec::new());
    settle(&mut job, &mut pods, at(0));
    job.spec.as_mut().unwrap().parallelism = Some(0);
    settle(&mut job, &mut pods, at(1));
    let status = job.status.clone().unwrap();
    assert_eq!(
        (pods.len(), status.active, status.failed, status.ready),
        (0, None, None, Some(0))
    );
    job.spec.as_mut().unwrap().parallelism = Some(1);
    settle(&mut job, &mut pods, at(2));
    assert_eq!(pods.len(), 1);
}

#[test]
fn a_suspended_job_has_no_pods_and_goes_on_when_resumed() {
    let (mut job, mut pods) = (job(&json!({"suspend": true})), Vec::new());
    settle(&mut job, &mut pods, at(0));
    assert_eq!(
        (pods.len(), conditions(&job)),
        (0, vec!["Suspended=JobSuspended".to_owned()])
    );
    assert!(job.status.as_ref().unwrap().start_time.is_none());
    job.spec.as_mut().unwrap().suspend = Some(false);
    settle(&mut job, &mut pods, at(1));
    assert_eq!(
        (pods.len(), conditions(&job)),
        (1, vec!["Suspended=JobResumed".to_owned()])
    );
}

#[test]
fn the_deadline_ends_a_job_that_still_runs() {
    let (mut job, mut pods) = (job(&json!({"activeDeadlineSeconds": 5})), Vec::new());
    assert_eq!(settle(&mut job, &mut pods, at(0)).wake, Some(at(5)));
    settle(&mut job, &mut pods, at(5));
    assert_eq!(pods.len(), 0);
    assert_eq!(
        conditions(&job),
        ["FailureTarget=DeadlineExceeded", "Failed=DeadlineExceeded"]
    );
}

#[test]
fn a_finished_job_goes_when_its_time_to_live_is_over() {
    let (mut job, mut pods) = (job(&json!({"ttlSecondsAfterFinished": 7})), Vec::new());
    settle(&mut job, &mut pods, at(0));
    end(&mut pods, 0, "Succeeded");
    settle(&mut job, &mut pods, at(1));
    assert_eq!(plan(&job, &pods, at(2)).wake, Some(at(8)));
    assert!(plan(&job, &pods, at(8)).remove_job);
}

#[test]
fn a_job_that_is_deleted_lets_its_pods_go() {
    let (mut job, mut pods) = (job(&json!({})), Vec::new());
    settle(&mut job, &mut pods, at(0));
    job.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1)));
    let planned = plan(&job, &pods, at(1));
    assert_eq!(
        (planned.release, planned.create),
        (vec!["p0".to_owned()], 0)
    );
}

#[test]
fn an_ended_pod_is_counted_once_whatever_is_interrupted() {
    let mut job = job(&json!({"backoffLimit": 6}));
    let mut pods = vec![pod("a", "Failed", true)];
    let first = plan(&job, &pods, at(1));
    // The status was written, the finalizer not taken: the same plan again, nothing counted.
    job.status = Some(first.status.clone());
    let second = plan(&job, &pods, at(1));
    assert_eq!(
        (first.status.failed, second.status.failed, second.release),
        (None, None, vec!["a".to_owned()])
    );
    pods[0].metadata.finalizers = None;
    let third = plan(&job, &pods, at(1));
    assert_eq!(third.status.failed, Some(1));
    job.status = Some(third.status);
    assert_eq!(plan(&job, &pods, at(1)).status.failed, Some(1));
}

#[test]
fn a_pod_carries_the_labels_and_the_owner_of_its_job() {
    let made = new_pod(&job(&json!({})));
    let labels = made.metadata.labels.unwrap();
    assert_eq!(labels.get("job-name").map(String::as_str), Some("j"));
    assert_eq!(
        labels
            .get("batch.kubernetes.io/controller-uid")
            .map(String::as_str),
        Some("job")
    );
    assert_eq!(made.metadata.generate_name.as_deref(), Some("j-"));
    assert_eq!(
        made.metadata.owner_references.unwrap()[0].controller,
        Some(true)
    );
}

#[test]
fn a_patch_of_the_status_takes_away_what_is_gone() {
    let patch = status_patch(&k8s_openapi::api::batch::v1::JobStatus::default());
    assert!(
        patch["status"].as_object().unwrap().contains_key("active")
            && patch["status"]["active"].is_null()
    );
}
