//! What VolSync left behind: its definitions of the kinds, its objects, its Jobs in flight.

use rstest::rstest;
use serde_json::{Value, json};
use syncline_api::names::Side;

use super::model::{Model, NAME, UID, merge};
use crate::plan::Call;
use crate::status::{MEMORY, State, Writing};

impl Model {
    /// Writes a status as the operator does, on a server whose definitions may lack our fields.
    pub(super) fn write_status(&mut self, writing: &Writing, state: Option<&State>) {
        let remember = |model: &mut Self, memory: &Value| {
            merge(
                &mut model.resource["metadata"],
                &json!({"annotations": {MEMORY: memory}}),
            );
        };
        if let Some(memory) = &writing.memory {
            remember(self, memory);
        }
        let Some(status) = &writing.status else {
            return;
        };
        merge(&mut self.resource["status"], status);
        if self.prunes {
            let none = json!({"progress": null, "retry": null, "rclone": null});
            merge(&mut self.resource["status"], &none);
            if let Some(rsync) = self.resource["status"].get_mut("rsync") {
                let none = json!({"lastSyncedEntries": null, "allowedEmptySource": null});
                merge(rsync, &none);
            }
        }
        let correction = state.and_then(|state| self.parsed().memory_after(state));
        if let Some(memory) = correction {
            remember(self, &memory);
        }
    }

    fn under_volsyncs_definitions(mut self) -> Self {
        self.prunes = true;
        self
    }

    fn memory(&self) -> Value {
        let kept = self.resource["metadata"]["annotations"][MEMORY].as_str();
        serde_json::from_str(kept.unwrap_or("null")).unwrap()
    }
}

fn env<'a>(model: &'a Model, name: &str) -> Option<&'a str> {
    let job = model.object("Job", &model.job_name())?;
    let all = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array()?;
    all.iter().find(|variable| variable["name"] == name)?["value"].as_str()
}

fn direct(trigger: Value) -> Model {
    Model::source(trigger, json!({"copyMethod": "Direct"}))
}

// === VolSync's definitions ===

#[test]
fn under_volsyncs_definitions_a_run_ends_at_rest_and_the_source_is_remembered() {
    let mut model = direct(json!({"manual": "1"})).under_volsyncs_definitions();
    model.run_once();
    assert_eq!(model.says().0, "WaitingForManual");
    assert!(model.status()["rsync"]["lastSyncedEntries"].is_null());
    assert_eq!(model.memory(), json!({"lastSyncedEntries": 7}));
    assert_eq!(model.step(usize::MAX), 0, "at rest nothing is written");
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.settle();
    assert_eq!(env(&model, "LAST_SYNCED_ENTRIES"), Some("7"));
}

#[test]
fn under_volsyncs_definitions_failures_are_counted_and_waited_after() {
    let mut model = direct(json!({"manual": "1"})).under_volsyncs_definitions();
    model.settle();
    for failures in 1..4 {
        model.fail();
        model.settle();
        assert_eq!(model.memory()["retry"]["failures"], failures);
        assert!(
            model.object("Job", &model.job_name()).is_none(),
            "the next try waits"
        );
        model.pass(700);
        model.settle();
        assert!(model.object("Job", &model.job_name()).is_some());
    }
    model.succeed();
    model.settle();
    assert!(model.memory()["retry"].is_null());
}

#[test]
fn under_volsyncs_definitions_an_allowance_is_used_up_once() {
    let mut model = direct(json!({"manual": "1"})).under_volsyncs_definitions();
    model.resource["metadata"]["annotations"] = json!({"syncline.dev/allow-empty-source": "yes"});
    model.settle();
    assert_eq!(env(&model, "ALLOW_EMPTY_SOURCE"), Some("1"));
    model.succeed_with_nothing();
    model.settle();
    assert_eq!(model.memory()["allowedEmptySource"], "yes");
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.settle();
    assert_eq!(env(&model, "ALLOW_EMPTY_SOURCE"), None);
}

#[test]
fn with_our_definitions_installed_later_the_annotation_goes() {
    let mut model = direct(json!({"manual": "1"})).under_volsyncs_definitions();
    model.run_once();
    model.prunes = false;
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.run_once();
    assert_eq!(model.memory(), Value::Null);
    assert_eq!(model.status()["rsync"]["lastSyncedEntries"], 7);
    assert_eq!(model.step(usize::MAX), 0);
}

#[test]
fn under_our_definitions_there_is_no_annotation() {
    let mut model = direct(json!({"manual": "1"}));
    model.run_once();
    assert_eq!(model.memory(), Value::Null);
}

// === VolSync's objects ===

/// An object as `VolSync` makes them: labelled and owned, written by Update.
fn by_volsync(side: Side, cleanup: bool, mut object: Value) -> Value {
    let kind = match side {
        Side::Source => "ReplicationSource",
        Side::Destination => "ReplicationDestination",
    };
    let mut labels = json!({"app.kubernetes.io/created-by": "volsync"});
    if cleanup {
        labels["volsync.backube/cleanup"] = json!(UID);
    }
    object["metadata"] = json!({
        "labels": labels,
        "ownerReferences": [{"apiVersion": "volsync.backube/v1alpha1", "kind": kind, "name": NAME, "uid": UID,
            "controller": true, "blockOwnerDeletion": true}],
        "managedFields": [{"manager": "manager", "operation": "Update"}],
    });
    object
}

/// Everything that stands as long as the resource does.
fn standing(model: &mut Model) {
    let (side, infix) = (model.side, model.infix());
    let account = format!("volsync-{infix}-{NAME}");
    model.put(
        "ServiceAccount",
        &account,
        by_volsync(side, false, json!({})),
    );
    model.put(
        "Role",
        &account,
        by_volsync(side, false, json!({"rules": []})),
    );
    let binding = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "site-a"}],
    });
    model.put("RoleBinding", &account, by_volsync(side, false, binding));
    let key = |text: &str| json!(data(text));
    let secrets = [
        (
            "main",
            json!({"source": key("s"), "source.pub": key("sp"), "destination": key("d"), "destination.pub": key("dp")}),
        ),
        (
            "src",
            json!({"source": key("s"), "source.pub": key("sp"), "destination.pub": key("dp")}),
        ),
        (
            "dest",
            json!({"destination": key("d"), "destination.pub": key("dp"), "source.pub": key("sp")}),
        ),
    ];
    for (part, keys) in secrets {
        let name = format!("volsync-rsync-{infix}-{part}-{NAME}");
        model.put(
            "Secret",
            &name,
            by_volsync(side, false, json!({"type": "Opaque", "data": keys})),
        );
    }
}

fn data(text: &str) -> String {
    match text {
        "s" => "cw==",
        "sp" => "c3A=",
        "d" => "ZA==",
        _ => "ZHA=",
    }
    .to_owned()
}

/// The Job of a run as `VolSync` makes it.
fn job(side: Side, claim: &str) -> Value {
    let (word, infix) = match side {
        Side::Source => ("source", "src"),
        Side::Destination => ("destination", "dst"),
    };
    by_volsync(
        side,
        true,
        json!({"spec": {
            "backoffLimit": 2, "parallelism": 1,
            "template": {
                "metadata": {"labels": {"app.kubernetes.io/created-by": "volsync", "app.kubernetes.io/name": format!("{infix}-{NAME}"),
                    "app.kubernetes.io/component": "rsync-mover", "app.kubernetes.io/part-of": "volsync"}},
                "spec": {
                    "restartPolicy": "Never", "serviceAccountName": format!("volsync-{infix}-{NAME}"),
                    "containers": [{"name": "rsync", "image": "quay.io/backube/volsync:0.16.0",
                        "command": ["/bin/bash", "-c", format!("/mover-rsync/{word}.sh")]}],
                    "volumes": [
                        {"name": "data", "persistentVolumeClaim": {"claimName": claim}},
                        {"name": "keys", "secret": {"secretName": format!("volsync-rsync-{infix}-{infix}-{NAME}"), "defaultMode": 384}},
                        {"name": "tempsshdir", "emptyDir": {"medium": "Memory"}},
                        {"name": "tempdir", "emptyDir": {"medium": "Memory"}},
                    ],
                },
            },
        }}),
    )
}

/// The status that `VolSync` leaves while it is at rest.
fn rested() -> Value {
    json!({
        "lastSyncTime": "2026-01-01T00:00:00Z", "lastSyncDuration": "28.818695981s", "nextSyncTime": "2026-01-01T01:00:00Z",
        "latestMoverStatus": {"result": "Successful", "logs": "sent 1 bytes  received 2 bytes"},
        "conditions": [{"type": "Synchronizing", "status": "False", "reason": "WaitingForSchedule",
            "message": "Waiting for next scheduled synchronization", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "rsync": {},
    })
}

/// The status that `VolSync` leaves in mid-run.
fn running() -> Value {
    let mut status = rested();
    status["lastSyncStartTime"] = json!("2026-01-01T00:00:10Z");
    status["conditions"][0]["status"] = json!("True");
    status["conditions"][0]["reason"] = json!("SyncInProgress");
    status
}

#[test]
fn a_schedule_that_volsync_kept_goes_on_without_a_run() {
    let mut model = direct(json!({"schedule": "0 * * * *"}));
    model.resource["status"] = rested();
    standing(&mut model);
    model.settle();
    let status = model.status();
    assert_eq!(status["lastSyncTime"], "2026-01-01T00:00:00Z");
    assert_eq!(status["nextSyncTime"], "2026-01-01T01:00:00Z");
    assert_eq!(status["lastSyncDuration"], "28.818695981s");
    assert!(
        model.names("Job").is_empty(),
        "nothing is transferred again"
    );
    assert_eq!(model.says().0, "WaitingForSchedule");
}

#[test]
fn a_manual_trigger_that_volsync_answered_is_answered() {
    let mut model = direct(json!({"manual": "restore-once"}));
    model.resource["status"] = rested();
    model.resource["status"]["lastManualSync"] = json!("restore-once");
    model.settle();
    assert!(model.names("Job").is_empty());
    assert_eq!(model.says().0, "WaitingForManual");
}

#[rstest]
#[case(Side::Source)]
#[case(Side::Destination)]
fn volsyncs_keys_and_identity_are_used_as_they_are(#[case] side: Side) {
    let mut model = match side {
        Side::Source => Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"})),
        Side::Destination => Model::destination(json!({}), json!({})),
    };
    standing(&mut model);
    let before: Vec<Value> = ["main", "src", "dest"]
        .map(|part| secret(&model, part)["data"].clone())
        .to_vec();
    model.run_once();
    let after: Vec<Value> = ["main", "src", "dest"]
        .map(|part| secret(&model, part)["data"].clone())
        .to_vec();
    assert_eq!(before, after, "no key is made anew");
    let (published, other) = (
        model.status()["rsync"]["sshKeys"].clone(),
        if side == Side::Source { "dest" } else { "src" },
    );
    assert_eq!(
        published,
        format!("volsync-rsync-{}-{other}-{NAME}", model.infix())
    );
}

fn secret<'a>(model: &'a Model, part: &str) -> &'a Value {
    let name = format!("volsync-rsync-{}-{part}-{NAME}", model.infix());
    model.object("Secret", &name).unwrap()
}

#[test]
fn a_job_of_volsync_in_flight_is_left_to_finish_and_counted_once() {
    let mut model = direct(json!({"schedule": "0 * * * *"}));
    model.resource["status"] = running();
    standing(&mut model);
    let name = model.job_name();
    model.put("Job", &name, job(Side::Source, "pvc-user"));
    let uid = model.object("Job", &name).unwrap()["metadata"]["uid"].clone();
    model.settle();
    let left = model.object("Job", &name).unwrap();
    assert_eq!(left["metadata"]["uid"], uid);
    assert_eq!(
        left["spec"]["template"]["spec"]["containers"][0]["command"][2],
        "/mover-rsync/source.sh"
    );
    assert_eq!(model.says().0, "SyncInProgress");
    assert_eq!(model.status()["lastSyncStartTime"], "2026-01-01T00:00:10Z");
    model.object_mut("Job", &name).unwrap()["status"] =
        json!({"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]});
    model.settle();
    assert_eq!(model.status()["lastSyncTime"], "2026-01-01T00:00:30Z");
    assert_eq!(model.status()["lastSyncDuration"], "20s");
    assert_eq!(model.status()["latestMoverStatus"]["result"], "Successful");
    assert!(
        model.names("Job").is_empty(),
        "its Job is cleaned up and no other one made"
    );
    assert_eq!(model.says().0, "WaitingForSchedule");
}

#[test]
fn the_copy_of_a_running_job_of_volsync_is_cleaned_up_after_it() {
    let mut model = Model::source(
        json!({"schedule": "0 * * * *"}),
        json!({"copyMethod": "Clone"}),
    );
    model.resource["status"] = running();
    standing(&mut model);
    let copy = model.own_claim();
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "3Gi"}},
        "dataSource": {"kind": "PersistentVolumeClaim", "name": "pvc-user"}}, "status": {"phase": "Bound"}});
    model.put(
        "PersistentVolumeClaim",
        &copy,
        by_volsync(Side::Source, true, claim),
    );
    let name = model.job_name();
    model.put("Job", &name, job(Side::Source, &copy));
    model.settle();
    model.object_mut("Job", &name).unwrap()["status"] = json!({"succeeded": 1});
    model.settle();
    assert_eq!(model.names("PersistentVolumeClaim"), ["pvc-user"]);
}

#[test]
fn a_copy_that_volsync_made_before_it_had_a_job_is_used() {
    let mut model = Model::source(
        json!({"schedule": "0 * * * *"}),
        json!({"copyMethod": "Clone"}),
    );
    model.resource["status"] = running();
    standing(&mut model);
    let copy = model.own_claim();
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "3Gi"}},
        "dataSource": {"kind": "PersistentVolumeClaim", "name": "pvc-user"}}, "status": {"phase": "Bound"}});
    model.put(
        "PersistentVolumeClaim",
        &copy,
        by_volsync(Side::Source, true, claim),
    );
    let uid = model.object("PersistentVolumeClaim", &copy).unwrap()["metadata"]["uid"].clone();
    model.settle();
    assert_eq!(
        model.object("PersistentVolumeClaim", &copy).unwrap()["metadata"]["uid"],
        uid
    );
    assert!(model.object("Job", &model.job_name()).is_some());
}

#[test]
fn a_job_of_volsync_that_fails_is_followed_by_one_of_ours_later() {
    let mut model = direct(json!({"schedule": "0 * * * *"}));
    model.resource["status"] = running();
    standing(&mut model);
    let name = model.job_name();
    model.put("Job", &name, job(Side::Source, "pvc-user"));
    model.object_mut("Job", &name).unwrap()["status"] =
        json!({"failed": 2, "conditions": [{"type": "Failed", "status": "True"}]});
    model.settle();
    assert_eq!(model.status()["latestMoverStatus"]["result"], "Failed");
    assert!(model.names("Job").is_empty());
    model.pass(60);
    model.settle();
    let ours = model.object("Job", &name).unwrap();
    assert_eq!(
        ours["spec"]["template"]["spec"]["containers"][0]["command"],
        json!(["/syncline"])
    );
}

#[test]
fn a_destination_publishes_what_volsyncs_job_received_and_lets_the_old_image_go() {
    let mut model = Model::destination(json!({}), json!({}));
    standing(&mut model);
    let claim = model.own_claim();
    let volume = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}, "status": {"phase": "Bound"}});
    model.put(
        "PersistentVolumeClaim",
        &claim,
        by_volsync(Side::Destination, false, volume),
    );
    let old = format!("{claim}-20251231000000");
    let image = json!({"spec": {"source": {"persistentVolumeClaimName": claim}},
        "status": {"readyToUse": true, "boundVolumeSnapshotContentName": "content-old"}});
    model.put(
        "VolumeSnapshot",
        &old,
        by_volsync(Side::Destination, false, image),
    );
    let name = model.job_name();
    model.put("Job", &name, job(Side::Destination, &claim));
    model.resource["status"] = running();
    model.resource["status"]["latestImage"] =
        json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": old});
    model.settle();
    assert!(model.object("VolumeSnapshot", &old).is_some());
    model.object_mut("Job", &name).unwrap()["status"] = json!({"succeeded": 1});
    model.settle();
    assert_eq!(
        model.status()["latestImage"]["name"],
        old,
        "the new one is not ready yet"
    );
    model.snapshots_become_ready();
    model.settle();
    let latest = model.status()["latestImage"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_ne!(latest, old);
    assert!(model.object("VolumeSnapshot", &latest).is_some());
}

// === VolSync's image ===

fn show_in_pod(model: &mut Model, state: Value, phase: &str) {
    let name = model.job_name();
    let uid = model.object("Job", &name).unwrap()["metadata"]["uid"].clone();
    let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid});
    model.put("Pod", "mover-x", json!({
        "metadata": {"ownerReferences": [owner]},
        "status": {"phase": phase, "containerStatuses": [{"name": "rsync", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": state}]},
    }));
}

const NO_FILE: &str = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: \
    unable to start container process: error during container init: exec: \"/syncline\": stat /syncline: no such file or directory";

#[rstest]
#[case::containerd(json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": NO_FILE}}), "Failed", "it has no /syncline")]
#[case::embedded(json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec: \"/syncline\": No such file or directory (os error 2)"}}), "Failed", "it has no /syncline")]
#[case::crio(json!({"waiting": {"reason": "CreateContainerError", "message": "executable file `/syncline` not found: No such file"}}), "Pending", "it has no /syncline")]
#[case::silent(json!({"terminated": {"exitCode": 0, "reason": "Completed"}}), "Succeeded", "nothing at all")]
#[case::chatty(json!({"terminated": {"exitCode": 0, "message": "all done"}}), "Succeeded", "\"all done\"")]
#[case::later(json!({"terminated": {"exitCode": 0, "message": "{\"version\":9,\"mover\":\"rsync\",\"role\":\"source\",\"result\":\"Successful\"}"}}), "Succeeded", "version 9")]
fn an_image_that_is_not_synclines_is_refused_by_name(
    #[case] state: Value,
    #[case] phase: &str,
    #[case] evidence: &str,
) {
    let mut model = direct(json!({"manual": "1"}));
    model.settle();
    show_in_pod(&mut model, state, phase);
    let plan = model.plan();
    assert!(plan.calls.contains(&Call::Distrust {
        image: "syncline".to_owned()
    }));
    model.settle();
    let (reason, message) = model.says();
    assert_eq!(reason, "Error");
    assert!(
        message.starts_with("MoverImageNotSyncline: the movers' image syncline"),
        "{message}"
    );
    assert!(message.contains(evidence), "{message}");
    assert!(model.names("Job").is_empty(), "one pod is enough to know");
    assert!(model.status()["lastSyncTime"].is_null());
}

#[test]
fn a_distrusted_image_is_not_tried_by_others_until_its_time_has_come() {
    let mut model = direct(json!({"manual": "1"}));
    let until = "2026-01-01T00:01:00Z".parse().unwrap();
    model.image_distrusted_until = Some(until);
    model.settle();
    assert!(model.names("Job").is_empty());
    assert!(
        model.says().1.starts_with("MoverImageNotSyncline"),
        "{:?}",
        model.says()
    );
    assert_eq!(model.plan().wake, Some(until));
    model.image_distrusted_until = None;
    model.settle();
    assert!(!model.names("Job").is_empty());
}

#[rstest]
#[case::killed(json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}))]
#[case::crashed(json!({"terminated": {"exitCode": 139, "reason": "Error"}}))]
#[case::no_volume(json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "mount /data: no such file or directory"}}))]
fn a_mover_that_dies_is_not_taken_for_a_foreign_image(#[case] state: Value) {
    let mut model = direct(json!({"manual": "1"}));
    model.settle();
    show_in_pod(&mut model, state, "Failed");
    assert!(model.plan().calls.is_empty());
    assert!(!model.says().1.contains("MoverImageNotSyncline"));
}

#[test]
fn a_job_of_ours_without_its_report_is_no_success() {
    let mut model = direct(json!({"manual": "1"}));
    model.settle();
    let name = model.job_name();
    model.object_mut("Job", &name).unwrap()["status"] = json!({"succeeded": 1});
    model.settle();
    assert_eq!(model.status()["latestMoverStatus"]["result"], "Failed");
    assert!(model.status()["lastSyncTime"].is_null());
}
