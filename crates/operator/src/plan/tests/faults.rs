//! What is wrong with the world or the spec is said once, with cause, object and cure, and then there is rest.

use rstest::rstest;
use serde_json::{Value, json};

use super::model::Model;
use crate::observe::Found;

/// The resource complains with these words, and rests.
fn complains(model: &mut Model, words: &[&str]) {
    model.settle();
    let (reason, message) = model.says();
    assert_eq!(reason, "Error", "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    assert!(model.names("Job").is_empty());
    let conditions = model.status()["conditions"].as_array().unwrap();
    let reconciled = conditions
        .iter()
        .find(|condition| condition["type"] == "Reconciled")
        .unwrap();
    assert_eq!(
        (&reconciled["reason"], &reconciled["message"]),
        (&json!("ReconcileError"), &json!(message))
    );
    model.pass(3600);
    assert_eq!(model.step(usize::MAX), 0, "no further writes");
}

#[test]
fn a_source_waits_for_its_claim_without_writes_and_starts_by_itself() {
    let mut model = Model::source(
        json!({"schedule": "* * * * *"}),
        json!({"copyMethod": "Clone"}),
    );
    let claim = model
        .objects
        .remove(&("PersistentVolumeClaim".to_owned(), "pvc-user".to_owned()))
        .unwrap();
    complains(
        &mut model,
        &[
            "PersistentVolumeClaim site-a/pvc-user",
            "spec.sourcePVC",
            "create it",
        ],
    );
    assert_eq!(model.plan().wake, None, "no retries either");
    assert!(
        !model.names("Secret").is_empty(),
        "keys are useful to the other side already"
    );
    model.put("PersistentVolumeClaim", "pvc-user", claim);
    model.settle();
    assert_eq!(model.says().0, "SyncInProgress");
}

#[rstest]
#[case::none(json!({"rsync": null}), &["a replication method must be specified - enabled movers: [rsync, rclone]"])]
#[case::two(json!({"restic": {}}), &["only one replication method can be supplied", "rsync, restic"])]
#[case::external_too(json!({"external": {}}), &["only one replication method can be supplied", "rsync, external"])]
#[case::not_built(json!({"rsync": null, "restic": {}}), &["spec.restic", "rsync, rclone"])]
#[case::bad_cron(json!({"trigger": {"manual": null, "schedule": "whenever"}}), &["spec.trigger.schedule", "whenever"])]
#[case::never(json!({"trigger": {"manual": null, "schedule": "0 0 31 2 *"}}), &["spec.trigger.schedule", "0 0 31 2 *"])]
#[case::no_claim(json!({"sourcePVC": null}), &["spec.sourcePVC must be provided"])]
#[case::no_method(json!({"rsync": {"copyMethod": null}}), &["spec.rsync.copyMethod is not set; it must be one of Direct, Clone and Snapshot"])]
#[case::port_in_address(json!({"rsync": {"address": "10.0.0.7:2022"}}), &["spec.rsync.address", "spec.rsync.port"])]
#[case::capacity(json!({"rsync": {"capacity": "0"}}), &["spec.rsync.capacity", "10Gi"])]
#[case::modes(json!({"rsync": {"accessModes": ["ReadMaybe"]}}), &["spec.rsync.accessModes", "ReadMaybe"])]
#[case::address(json!({"rsync": {"address": "-oProxyCommand=x"}}), &["spec.rsync.address"])]
#[case::user(json!({"rsync": {"sshUser": "a b"}}), &["spec.rsync.sshUser"])]
#[case::path(json!({"rsync": {"path": "/a/../../etc"}}), &["spec.rsync.path"])]
#[case::port(json!({"rsync": {"port": 70000}}), &["spec.rsync.port", "65535"])]
#[case::service(json!({"rsync": {"serviceType": "ExternalName"}}), &["spec.rsync.serviceType"])]
#[case::secret(json!({"rsync": {"sshKeys": "mine"}}), &["Secret site-a/mine", "spec.rsync.sshKeys", "source, source.pub, destination.pub"])]
#[case::account(json!({"rsync": {"moverServiceAccount": "me"}}), &["ServiceAccount site-a/me"])]
#[case::no_address(json!({"rsync": {"address": null}}), &["spec.rsync.address is not set", "status.rsync.address"])]
fn a_mistake_in_a_source_is_named(#[case] change: Value, #[case] words: &[&str]) {
    let mut model = Model::source(json!({"manual": "1"}), json!({}));
    model.edit(change);
    complains(&mut model, words);
}

#[rstest]
#[case::nothing(json!({"rsync": {"capacity": null, "accessModes": null}}), &["spec.rsync.capacity must be provided: without spec.rsync.destinationPVC"])]
#[case::no_modes(json!({"rsync": {"accessModes": null}}), &["spec.rsync.accessModes"])]
#[case::clone(json!({"rsync": {"copyMethod": "Clone"}}), &["unsupported copyMethod", "Clone"])]
#[case::block(json!({"rsync": {"volumeMode": "Blocks"}}), &["spec.rsync.volumeMode", "Blocks"])]
#[case::no_claim(json!({"rsync": {"destinationPVC": "missing"}}), &["spec.rsync.destinationPVC", "site-a/missing"])]
#[case::secret(json!({"rsync": {"sshKeys": "mine"}}), &["destination, destination.pub, source.pub"])]
fn a_mistake_in_a_destination_is_named(#[case] change: Value, #[case] words: &[&str]) {
    let mut model = Model::destination(json!({"manual": "1"}), json!({}));
    model.edit(change);
    model.settle();
    model.give_address();
    complains(&mut model, words);
    assert!(
        model
            .names("PersistentVolumeClaim")
            .iter()
            .all(|name| *name == "pvc-user"),
        "nothing was made"
    );
}

#[test]
fn a_secret_that_lacks_a_key_is_named_with_the_key_and_taken_when_complete() {
    let mut model = Model::source(
        json!({"manual": "1"}),
        json!({"sshKeys": "mine", "copyMethod": "Direct"}),
    );
    model.put(
        "Secret",
        "mine",
        json!({"data": {"source": "eA==", "source.pub": "eA=="}}),
    );
    complains(&mut model, &["Secret site-a/mine", "\"destination.pub\""]);
    model.object_mut("Secret", "mine").unwrap()["data"]["destination.pub"] = json!("eA==");
    model.settle();
    assert_eq!(model.says().0, "SyncInProgress");
    assert_eq!(model.names("Secret"), ["mine"]);
    assert!(
        model.status()["rsync"]["sshKeys"].is_null(),
        "they are the user's own"
    );
}

#[test]
fn a_missing_class_is_named_before_anything_is_made() {
    let settings = json!({"storageClassName": "none", "volumeSnapshotClassName": "nope"});
    let mut model = Model::source(json!({"manual": "1"}), settings);
    model.classes = Found::Missing;
    complains(&mut model, &["StorageClass none"]);
    model.edit(json!({"rsync": {"storageClassName": null}}));
    complains(&mut model, &["VolumeSnapshotClass nope"]);
    model.snapshots_known = false;
    complains(
        &mut model,
        &["snapshot.storage.k8s.io/v1", "Clone or Direct"],
    );
}

#[test]
fn a_missing_class_is_no_matter_where_nothing_is_made_of_it() {
    let class = json!({"storageClassName": "none", "copyMethod": "Direct"});
    let mut model = Model::source(json!({"manual": "1"}), class.clone());
    model.classes = Found::Missing;
    model.run_once();
    assert_eq!(model.status()["lastManualSync"], "1");

    let mut model = Model::destination(json!({"manual": "1"}), class);
    model.run_once();
    model.classes = Found::Missing;
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.run_once();
    assert_eq!(model.status()["lastManualSync"], "2", "its volume is there");
}

#[test]
fn a_capacity_below_the_snapshots_or_the_sources_is_named() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"capacity": "1Gi"}));
    model.settle();
    model.snapshots_become_ready();
    complains(
        &mut model,
        &[
            "spec.rsync.capacity 1Gi",
            "VolumeSnapshot site-a/volsync-db-src",
            "2Gi",
        ],
    );
    let mut model = Model::source(
        json!({"manual": "1"}),
        json!({"capacity": "1Gi", "copyMethod": "Clone"}),
    );
    complains(&mut model, &["spec.rsync.capacity 1Gi", "clone", "3Gi"]);
}

#[test]
fn an_object_of_somebody_else_under_our_name_is_left_alone() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Clone"}));
    model.put(
        "PersistentVolumeClaim",
        "volsync-db-src",
        json!({"spec": {}}),
    );
    complains(
        &mut model,
        &[
            "PersistentVolumeClaim site-a/volsync-db-src",
            "does not belong",
        ],
    );
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.put("Secret", "volsync-rsync-src-main-db", json!({"data": {}}));
    complains(
        &mut model,
        &[
            "Secret site-a/volsync-rsync-src-main-db",
            "rename or delete",
        ],
    );
}

#[test]
fn external_alone_is_somebody_elses_and_not_even_written_to() {
    let mut model = Model::source(json!({"manual": "1"}), json!({}));
    model.edit(json!({"rsync": null, "external": {"provider": "example.com/x"}}));
    model.settle();
    assert!(model.status().is_null());
}

#[test]
fn a_resource_on_its_way_out_is_left_to_the_garbage_collector() {
    let mut model = Model::source(json!({"manual": "1"}), json!({}));
    model.resource["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(model.step(usize::MAX), 0);
}

#[rstest]
#[case(json!({"containerStatuses": [{"name": "rsync", "image": "", "imageID": "", "ready": false, "restartCount": 0,
    "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}), "ImagePullBackOff: no such image")]
#[case(json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]}),
    "Unschedulable: 0/3 nodes")]
fn a_pod_that_does_not_start_is_named(#[case] mut status: Value, #[case] words: &str) {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.settle();
    let owner = model.object("Job", &model.job_name()).unwrap()["metadata"]["uid"].clone();
    status["phase"] = json!("Pending");
    model.put(
        "Pod",
        "mover",
        json!({"status": status, "metadata": {"ownerReferences":
        [{"apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": owner}]}}),
    );
    model.settle();
    assert_eq!(model.says().0, "SyncInProgress");
    assert_eq!(
        model.plan().wake,
        Some("2026-01-01T00:01:00Z".parse().unwrap())
    );
    model.pass(30);
    model.settle();
    assert!(model.says().1.contains(words), "{}", model.says().1);
}

#[test]
fn what_is_wrong_while_a_job_runs_is_said_beside_it() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.settle();
    model.edit(json!({"trigger": {"manual": null, "schedule": "nonsense"}}));
    model.settle();
    assert_eq!(model.says().0, "SyncInProgress");
    let conditions = model.status()["conditions"].as_array().unwrap();
    let reconciled = conditions
        .iter()
        .find(|condition| condition["type"] == "Reconciled")
        .unwrap();
    assert!(reconciled["message"].as_str().unwrap().contains("nonsense"));
    assert_eq!(reconciled["observedGeneration"], 2);
}

#[test]
fn what_the_server_refuses_to_delete_is_said_once_and_not_in_turns_with_cleaning_up() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.settle();
    model.succeed();
    model.step(1);
    assert!(!model.status()["lastSyncTime"].is_null());
    model.refusal = Some("Job site-a/volsync-rsync-src-db could not be deleted: no".to_owned());
    model.step(1);
    assert_eq!(model.says().0, "Error");
    assert!(model.says().1.contains("could not be deleted"));
    let plan = model.plan();
    assert_eq!(plan.delete.len(), 1, "it is tried again");
    let change = model.parsed().status_change(&plan.status.unwrap());
    assert_eq!(change, None, "but nothing else is written");
    model.refusal = None;
    model.settle();
    assert_eq!(model.says().0, "WaitingForManual");
}
