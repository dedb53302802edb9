//! What keeps a mover's pod or a volume is told within two minutes, with a word of its own and without a write too many.

use rstest::rstest;
use serde_json::{Value, json};

use super::model::Model;

const JOB: &str = "volsync-rsync-src-db";
const COPY: &str = "volsync-db-src";

fn running(rsync: Value) -> Model {
    let mut model = Model::source(json!({"manual": "1"}), rsync);
    model.settle();
    assert!(model.object("Job", JOB).is_some(), "{:?}", model.says());
    model
}

fn with_pod(mut model: Model, mut pod: Value) -> Model {
    let name = model.job_name();
    let owner = model.object("Job", &name).unwrap()["metadata"]["uid"].clone();
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": owner}]);
    model.put("Pod", "mover", pod);
    model
}

/// The resource says so within two minutes, with an event, and then rests.
fn is_told(mut model: Model, words: &[&str], event: &str) {
    let mut waited = 0;
    loop {
        model.settle();
        if model.says().0 == "Error" {
            break;
        }
        let wake = model.plan().wake.expect("somebody has to look again");
        let seconds = wake.duration_since(model.now).as_secs().max(1);
        waited += seconds;
        assert!(waited <= 120, "after {waited} s: {:?}", model.says());
        model.pass(seconds);
    }
    let (_, message) = model.says();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    assert!(model.events.contains(&event), "{:?}", model.events);
    for _ in 0..5 {
        model.pass(60);
        assert_eq!(model.step(usize::MAX), 0, "nothing more is written");
    }
    let job = model.object("Job", &model.job_name());
    assert!(job.is_some(), "the Job is left alone");
}

const REFUSED: &str = "Error creating: pods \"volsync-rsync-src-db-x\" is forbidden: violates PodSecurity \"restricted:latest\": \
                       unrestricted capabilities (container \"rsync\" must not include \"CHOWN\"), runAsUser=0";

#[test]
fn a_namespace_that_forbids_root_is_named_with_its_level_and_the_cure() {
    let mut model = running(json!({"copyMethod": "Direct"}));
    model.complain_of("Job", JOB, "FailedCreate", REFUSED);
    let words = [
        "namespace site-a enforces the pod security level restricted",
        "must not include \"CHOWN\"",
        "pod-security.kubernetes.io/enforce=baseline",
        "spec.rsync.moverSecurityContext",
        "syncline.dev/mover-security-context",
    ];
    is_told(model, &words, "PodSecurityViolation");
}

#[test]
fn an_unprivileged_mover_that_is_refused_all_the_same_has_another_cure() {
    let context = json!({"copyMethod": "Direct", "moverSecurityContext": {"runAsUser": 0}});
    let mut model = running(context);
    model.complain_of("Job", JOB, "FailedCreate", REFUSED);
    is_told(
        model,
        &["correct moverSecurityContext"],
        "PodSecurityViolation",
    );
}

#[test]
fn what_else_refuses_the_pod_is_told_in_its_own_words() {
    let mut model = running(json!({"copyMethod": "Direct"}));
    model.complain_of(
        "Job",
        JOB,
        "FailedCreate",
        "pods \"x\" is forbidden: exceeded quota: small",
    );
    is_told(
        model,
        &["FailedCreate", "exceeded quota: small"],
        "MoverPodRefused",
    );
}

#[test]
fn the_same_refusal_of_another_attempt_is_no_news() {
    let mut model = running(json!({"copyMethod": "Direct"}));
    for attempt in ["x7k2p", "m4zzq", "b9wfd"] {
        let words =
            format!("Error creating: pods \"{JOB}-{attempt}\" is forbidden: exceeded quota: small");
        model.complain_of("Job", JOB, "FailedCreate", &words);
        if attempt == "x7k2p" {
            model.settle();
        }
        assert_eq!(
            model.step(usize::MAX),
            0,
            "nothing is written for {attempt}"
        );
    }
    let (_, message) = model.says();
    let words = format!("pods \"{JOB}\" is forbidden: exceeded quota: small");
    assert!(message.contains(&words), "{message}");
}

#[test]
fn what_the_status_tells_already_is_no_event_for_an_operator_that_starts_anew() {
    let mut model = running(json!({"copyMethod": "Direct"}));
    model.complain_of("Job", JOB, "FailedCreate", REFUSED);
    let anew = |model: &Model| model.plan().events.len();
    assert_eq!(anew(&model), 1, "it is news at first");
    model.settle();
    for _ in 0..3 {
        model.pass(600);
        assert_eq!((model.step(usize::MAX), anew(&model)), (0, 0));
    }
    model.complain_of("Job", JOB, "FailedCreate", "exceeded quota: small");
    assert_eq!(anew(&model), 1, "another cause is news");
    model.settle();
    assert_eq!(anew(&model), 0);
}

#[rstest]
#[case::for_the_pod(json!({"moverSecurityContext": {"runAsUser": 1000}}))]
#[case::for_the_volume(json!({"storageClassName": "other"}))]
fn a_job_that_never_came_up_makes_way_for_a_corrected_one(#[case] change: Value) {
    let mut model = running(json!({"copyMethod": "Clone"}));
    model.complain_of("Job", JOB, "FailedCreate", REFUSED);
    model.settle();
    let before = model.object("Job", JOB).unwrap()["metadata"]["uid"].clone();
    model.edit(json!({"trigger": {"manual": "2"}, "paused": false}));
    model.settle();
    assert_eq!(
        model.object("Job", JOB).unwrap()["metadata"]["uid"],
        before,
        "that is no correction"
    );
    model.edit(json!({"rsync": change}));
    model.settle();
    let job = model.object("Job", JOB).unwrap();
    assert_ne!(job["metadata"]["uid"], before);
    assert_eq!(model.says().0, "SyncInProgress");
    assert_eq!(model.step(usize::MAX), 0, "once");
}

#[test]
fn a_job_whose_mover_has_run_is_not_replaced_by_a_corrected_one() {
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no"});
    let pod = json!({"status": {"phase": "Pending", "conditions": [condition]}});
    let mut model = with_pod(running(json!({"copyMethod": "Direct"})), pod);
    let owner = model.object("Pod", "mover").unwrap()["metadata"]["ownerReferences"].clone();
    model.put(
        "Pod",
        "first",
        json!({"metadata": {"ownerReferences": owner}, "status": {"phase": "Failed"}}),
    );
    model.pass(60);
    model.settle();
    assert_eq!(model.says().0, "Error");
    let before = model.object("Job", JOB).cloned();
    model.edit(json!({"rsync": {"moverPodLabels": {"a": "b"}}}));
    model.settle();
    assert_eq!(model.object("Job", JOB).cloned(), before);
}

#[test]
fn once_the_pod_is_let_in_the_run_goes_on() {
    let mut model = running(json!({"copyMethod": "Direct"}));
    model.complain_of("Job", JOB, "FailedCreate", REFUSED);
    model.settle();
    assert_eq!(model.says().0, "Error");
    model.complaints.clear();
    let model = with_pod(model, json!({"status": {"phase": "Running"}}));
    let mut model = model;
    model.settle();
    assert_eq!(model.says().0, "SyncInProgress");
}

#[rstest]
#[case("ImagePullBackOff")]
#[case("CreateContainerConfigError")]
#[case("CreateContainerError")]
fn a_container_that_does_not_come_up_has_its_own_word(#[case] reason: &str) {
    let waiting = json!({"waiting": {"reason": reason, "message": "secret \"x\" not found"}});
    let container = json!({"name": "rsync", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": waiting});
    let pod = json!({"status": {"phase": "Pending", "containerStatuses": [container]}});
    let model = with_pod(running(json!({"copyMethod": "Direct"})), pod);
    is_told(model, &[reason, "secret \"x\" not found"], reason);
}

#[test]
fn a_pod_that_finds_no_node_has_its_own_word() {
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"});
    let pod = json!({"status": {"phase": "Pending", "conditions": [condition]}});
    let model = with_pod(running(json!({"copyMethod": "Direct"})), pod);
    is_told(model, &["Unschedulable: 0/3 nodes"], "Unschedulable");
}

#[rstest]
#[case("FailedMount")]
#[case("FailedAttachVolume")]
fn a_volume_that_cannot_be_mounted_is_told_by_the_pods_own_events(#[case] reason: &str) {
    let pod = json!({"status": {"phase": "Pending"}});
    let mut model = with_pod(running(json!({"copyMethod": "Direct"})), pod);
    model.complain_of("Pod", "mover", reason, "Multi-Attach error for volume");
    is_told(model, &[reason, "Multi-Attach error for volume"], reason);
}

#[test]
fn a_claim_that_gets_no_volume_is_the_cause_and_not_the_pod_that_waits_for_it() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Clone"}));
    model.settle();
    model.object_mut("PersistentVolumeClaim", COPY).unwrap()["status"] =
        json!({"phase": "Pending"});
    model.complain_of(
        "PersistentVolumeClaim",
        COPY,
        "ProvisioningFailed",
        "no space left in pool",
    );
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "unbound claims"});
    let model = with_pod(
        model,
        json!({"status": {"phase": "Pending", "conditions": [condition]}}),
    );
    let words = [
        "PersistentVolumeClaim site-a/volsync-db-src",
        "ProvisioningFailed: no space left in pool",
    ];
    is_told(model, &words, "PersistentVolumeClaimNotBound");
}

#[test]
fn a_volume_of_the_first_consumer_gets_it_with_the_movers_pod() {
    for model in [
        Model::source(json!({"manual": "1"}), json!({"copyMethod": "Clone"})),
        Model::destination(json!({"manual": "1"}), json!({})),
    ] {
        let mut model = model;
        model.settle();
        model.give_address();
        model.settle();
        let claim = model.own_claim();
        assert!(model.object("PersistentVolumeClaim", &claim).unwrap()["status"].is_null());
        assert!(
            model.object("Job", &model.job_name()).is_some(),
            "the Job does not wait for a volume that waits for the Job"
        );
    }
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model
        .object_mut("PersistentVolumeClaim", "pvc-user")
        .unwrap()["status"] = json!({"phase": "Pending"});
    model.settle();
    assert!(
        model.object("Job", JOB).is_some(),
        "nor where the volume itself is read"
    );
}

#[rstest]
#[case("Clone")]
#[case("Snapshot")]
fn of_a_claim_without_a_volume_nothing_can_be_copied_yet(#[case] method: &str) {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": method}));
    model
        .object_mut("PersistentVolumeClaim", "pvc-user")
        .unwrap()["status"] = json!({"phase": "Pending"});
    model.settle();
    let (reason, message) = model.says();
    assert_eq!(reason, "Error");
    assert!(
        message.contains("site-a/pvc-user") && message.contains("WaitForFirstConsumer"),
        "{message}"
    );
    assert!(model.names("Job").is_empty() && model.names("VolumeSnapshot").is_empty());
    assert_eq!(model.step(usize::MAX), 0);
    model
        .object_mut("PersistentVolumeClaim", "pvc-user")
        .unwrap()["status"] = json!({"phase": "Bound"});
    model.settle();
    assert_eq!(model.says().0, "SyncInProgress");
}

#[test]
fn a_node_that_does_not_answer_is_named() {
    let condition =
        json!({"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:30Z"});
    let container = json!({"name": "rsync", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"running": {}}});
    let status =
        json!({"phase": "Running", "conditions": [condition], "containerStatuses": [container]});
    let pod = json!({"spec": {"nodeName": "node-7", "containers": []}, "status": status});
    let model = with_pod(running(json!({"copyMethod": "Direct"})), pod);
    is_told(model, &["node node-7", "does not answer"], "NodeLost");
}

/// A pod that was deleted on a node of which nothing is heard any more.
fn deleted(mover: &str, phase: &str) -> Value {
    let state = if phase == "Running" {
        json!({"running": {}})
    } else {
        json!({"waiting": {"reason": "ContainerCreating"}})
    };
    let container = json!({"name": mover, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
    json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:30Z"},
        "spec": {"nodeName": "node-7", "containers": []}, "status": {"phase": phase, "containerStatuses": [container]}})
}

#[rstest]
#[case("Running")]
#[case("Pending")]
fn what_a_job_that_waits_for_a_deleted_pod_on_a_lost_node_is_freed_by_is_told(#[case] phase: &str) {
    let direct = || json!({"copyMethod": "Direct"});
    for mut model in [
        Model::rclone_source(json!({"manual": "1"}), direct()),
        Model::rclone_destination(json!({"manual": "1"}), direct()),
    ] {
        model.settle();
        let name = model.job_name();
        let cure = format!("(kubectl delete job/{name} pod/mover -n site-a --force)");
        let model = with_pod(model, deleted("rclone", phase));
        is_told(
            model,
            &["node node-7", "does not answer", &cure],
            "NodeLost",
        );
    }
    let model = with_pod(running(direct()), deleted("rsync", phase));
    let cure = "(kubectl delete pod mover -n site-a --force)";
    is_told(model, &["node node-7", cure], "NodeLost");
}

#[rstest]
#[case::killed_for_memory(json!({"containerStatuses": [{"name": "rsync", "image": "", "imageID": "", "ready": false, "restartCount": 0,
    "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}), &["limit of 64Mi", "for instance to 128Mi"])]
#[case::evicted(json!({"reason": "Evicted", "message": "The node was low on resource: memory."}), &["(Evicted)", "low on resource"])]
#[case::taken_from_its_node(json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
    "message": "Taint manager: deleting due to NoExecute taint"}]}), &["(DeletionByTaintManager)", "NoExecute"])]
fn what_ended_a_pod_from_outside_is_told(#[case] mut status: Value, #[case] words: &[&str]) {
    status["phase"] = json!("Failed");
    let container = json!({"name": "rsync", "resources": {"limits": {"memory": "64Mi"}}});
    let pod = json!({"spec": {"containers": [container]}, "status": status});
    let mut model = with_pod(running(json!({"copyMethod": "Direct"})), pod);
    model.object_mut("Job", JOB).unwrap()["status"] =
        json!({"failed": 3, "conditions": [{"type": "Failed", "status": "True"}]});
    model.settle();
    let (reason, message) = model.says();
    assert_eq!(reason, "Error");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    assert!(model.status()["lastSyncTime"].is_null(), "no success");
    assert_eq!(model.status()["retry"]["failures"], 1);
}
