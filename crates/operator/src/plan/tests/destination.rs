use serde_json::json;

use super::model::{Model, UID};

const VOLUME: &str = "volsync-db-dst";
const JOB: &str = "volsync-rsync-dst-db";

fn image(model: &Model) -> String {
    model.status()["latestImage"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_destination_waits_for_its_address_and_publishes_it() {
    let mut model = Model::destination(json!({"manual": "1"}), json!({}));
    model.settle();
    let service = model.object("Service", JOB).unwrap();
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert_eq!(
        service["spec"]["ports"][0],
        json!({"name": "ssh", "port": 2022, "protocol": "TCP", "targetPort": 8022})
    );
    assert_eq!(
        service["metadata"]["annotations"],
        json!({"service.beta.kubernetes.io/aws-load-balancer-type": "nlb"})
    );
    assert!(model.object("Job", JOB).is_none());
    model.give_address();
    model.settle();
    assert_eq!(
        model.status()["rsync"],
        json!({"sshKeys": "volsync-rsync-dst-src-db", "address": "10.0.0.7", "port": 2022})
    );
    assert!(model.object("Job", JOB).is_some());
    assert!(model.events.contains(&"ServiceAddressAssigned"));
}

#[test]
fn a_load_balancer_without_an_address_is_named_after_a_while() {
    let mut model = Model::destination(json!({}), json!({"serviceType": "LoadBalancer"}));
    model.settle();
    model.give_address();
    model.settle();
    assert!(
        model.status()["rsync"]["address"].is_null(),
        "the cluster address is not the load balancer's"
    );
    assert!(model.says().1.contains("Waiting for an address"));
    assert_eq!(
        model.plan().wake,
        Some("2026-01-01T00:00:45Z".parse().unwrap())
    );
    model.pass(15);
    model.settle();
    assert!(model.says().1.contains("LoadBalancer"));
    assert!(model.events.contains(&"NoServiceAddressAssigned"));
    model.object_mut("Service", JOB).unwrap()["status"] =
        json!({"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}});
    model.settle();
    assert_eq!(model.status()["rsync"]["address"], "lb.example");
    assert_eq!(model.says().0, "SyncInProgress");
}

#[test]
fn empty_service_annotations_mean_none() {
    let mut model = Model::destination(json!({}), json!({"serviceAnnotations": {}}));
    model.settle();
    assert!(model.object("Service", JOB).unwrap()["metadata"]["annotations"].is_null());
}

#[test]
fn an_annotation_that_the_spec_drops_is_taken_off_the_service_and_others_stay() {
    let mut model = Model::destination(json!({}), json!({"serviceAnnotations": {"pool": "a"}}));
    model.settle();
    let fields = json!({"f:metadata": {"f:annotations": {"f:pool": {}}}});
    let mut managed = json!([{"manager": "syncline", "operation": "Apply", "fieldsV1": fields}]);
    let service = model.object_mut("Service", JOB).unwrap();
    service["metadata"]["managedFields"] = managed.clone();
    model.edit(json!({"rsync": {"serviceAnnotations": null}}));
    let default = "service.beta.kubernetes.io/aws-load-balancer-type";
    model.object_mut("Service", JOB).unwrap()["metadata"]["annotations"][default] = json!("nlb");
    let applied = |model: &Model| !model.plan().apply.is_empty();
    assert!(applied(&model), "it was given by us");
    managed[0]["manager"] = json!("kubectl");
    model.object_mut("Service", JOB).unwrap()["metadata"]["managedFields"] = managed;
    assert!(!applied(&model), "it was given by somebody else");
}

#[test]
fn the_image_moves_when_its_snapshot_is_ready_and_its_predecessor_goes_afterwards() {
    let mut model = Model::destination(json!({"manual": "1"}), json!({}));
    model.run_once();
    let first = image(&model);
    assert_eq!(first, "volsync-db-dst-20260101000030");
    assert_eq!(
        model.status()["latestImage"],
        json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": first})
    );
    assert_eq!(model.names("VolumeSnapshot"), [first.as_str()]);
    model.pass(60);
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.settle();
    model.succeed();
    model.settle();
    assert_eq!(image(&model), first, "the new snapshot is not ready");
    assert_eq!(model.names("VolumeSnapshot").len(), 2);
    assert_eq!(model.says().0, "SyncInProgress");
    model.snapshots_become_ready();
    model.settle();
    assert_eq!(image(&model), "volsync-db-dst-20260101000130");
    assert_eq!(
        model.names("VolumeSnapshot"),
        ["volsync-db-dst-20260101000130"]
    );
    let volume = model.object("PersistentVolumeClaim", VOLUME).unwrap();
    assert_eq!(
        volume["metadata"]["annotations"],
        json!({}),
        "the next image has another name"
    );
    assert_eq!(model.status()["lastManualSync"], "2");
}

#[test]
fn direct_makes_the_volume_itself_the_image_and_keeps_it() {
    let mut model = Model::destination(
        json!({"manual": "1"}),
        json!({"copyMethod": "Direct", "cleanupTempPVC": true}),
    );
    model.run_once();
    assert_eq!(
        model.status()["latestImage"],
        json!({"apiGroup": "", "kind": "PersistentVolumeClaim", "name": VOLUME})
    );
    assert!(
        model.object("PersistentVolumeClaim", VOLUME).is_some(),
        "it is the only good copy"
    );
}

#[test]
fn a_temporary_volume_goes_after_each_run_if_a_snapshot_has_its_data() {
    let mut model = Model::destination(json!({"manual": "1"}), json!({"cleanupTempPVC": true}));
    model.run_once();
    assert!(model.object("PersistentVolumeClaim", VOLUME).is_none());
    assert_eq!(model.names("VolumeSnapshot").len(), 1);
    let mut model = Model::destination(json!({"manual": "1"}), json!({"cleanupTempPVC": false}));
    model.run_once();
    assert!(model.object("PersistentVolumeClaim", VOLUME).is_some());
}

#[test]
fn a_given_volume_is_used_and_left_as_it_was() {
    let mut model = Model::destination(
        json!({"manual": "1"}),
        json!({"destinationPVC": "pvc-user", "capacity": null, "accessModes": null}),
    );
    let before = model
        .object("PersistentVolumeClaim", "pvc-user")
        .unwrap()
        .clone();
    model.run_once();
    assert_eq!(image(&model), "pvc-user-20260101000030");
    assert!(model.object("PersistentVolumeClaim", VOLUME).is_none());
    let mut after = model
        .object("PersistentVolumeClaim", "pvc-user")
        .unwrap()
        .clone();
    after["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("annotations");
    assert_eq!(after, before);
}

#[test]
fn a_larger_capacity_enlarges_the_volume_and_a_smaller_one_is_refused() {
    let mut model = Model::destination(json!({"manual": "1"}), json!({}));
    model.run_once();
    model.edit(json!({"trigger": {"manual": "2"}, "rsync": {"capacity": "5Gi"}}));
    model.settle();
    let size = |model: &Model| {
        model.object("PersistentVolumeClaim", VOLUME).unwrap()["spec"]["resources"]["requests"]["storage"].clone()
    };
    assert_eq!(size(&model), "5Gi");
    model.succeed();
    model.settle();
    model.snapshots_become_ready();
    model.settle();
    model.edit(json!({"trigger": {"manual": "3"}, "rsync": {"capacity": "1Gi"}}));
    model.settle();
    assert_eq!(size(&model), "5Gi");
    assert!(
        model.says().1.contains("cannot shrink"),
        "{}",
        model.says().1
    );
}

#[test]
fn a_snapshot_marked_to_be_kept_is_let_go_at_once() {
    let mut model = Model::destination(json!({"manual": "1"}), json!({}));
    model.run_once();
    let first = image(&model);
    model.object_mut("VolumeSnapshot", &first).unwrap()["metadata"]["labels"]["volsync.backube/do-not-delete"] =
        json!("");
    model.settle();
    let metadata = model.object("VolumeSnapshot", &first).unwrap()["metadata"].clone();
    assert_eq!(metadata["ownerReferences"], json!([]));
    assert_eq!(
        metadata["labels"],
        json!({"volsync.backube/do-not-delete": ""})
    );
    model.pass(60);
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.run_once();
    assert_eq!(
        model.names("VolumeSnapshot").len(),
        2,
        "both the kept and the new one"
    );
}

#[test]
fn a_snapshot_that_is_the_users_before_it_became_the_image_makes_way_for_another() {
    let mut model = Model::destination(json!({"manual": "1"}), json!({}));
    model.settle();
    model.give_address();
    model.settle();
    model.succeed();
    model.settle();
    let kept = model.names("VolumeSnapshot").concat();
    // As after the mark to keep it, while the resource had another mover.
    let object = model.object_mut("VolumeSnapshot", &kept).unwrap();
    object["metadata"]["ownerReferences"] = json!([]);
    object["metadata"]["labels"] = json!({"volsync.backube/do-not-delete": ""});
    model.pass(60);
    model.settle();
    model.snapshots_become_ready();
    model.settle();
    assert_eq!(model.status()["lastManualSync"], "1");
    assert_ne!(image(&model), kept);
    assert!(model.object("VolumeSnapshot", &kept).is_some());
}

#[test]
fn a_snapshot_that_a_volume_is_being_made_from_is_not_deleted() {
    let mut model = Model::destination(json!({"manual": "1"}), json!({}));
    model.run_once();
    let first = image(&model);
    model.object_mut("VolumeSnapshot", &first).unwrap()["metadata"]["labels"]["volsync.backube/volpop-pvc-77"] =
        json!("app");
    model.pass(60);
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.run_once();
    let kept = model
        .object("VolumeSnapshot", &first)
        .expect("it is in use");
    assert_eq!(kept["metadata"]["ownerReferences"], json!([]));
}

#[test]
fn a_snapshot_that_takes_long_is_named_without_being_called_a_fault() {
    let mut model = Model::destination(json!({"manual": "1"}), json!({}));
    model.run_once();
    let first = image(&model);
    model.pass(60);
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.settle();
    model.succeed();
    model.settle();
    let second = "volsync-db-dst-20260101000130";
    model.object_mut("VolumeSnapshot", second).unwrap()["status"] =
        json!({"boundVolumeSnapshotContentName": "content", "readyToUse": false});
    model.pass(29);
    model.settle();
    assert!(!model.says().1.contains(second), "{:?}", model.says());
    model.pass(1);
    model.settle();
    let (reason, message) = model.says();
    assert_eq!(reason, "SyncInProgress");
    assert!(message.contains(second), "{message}");
    assert_eq!(image(&model), first);
    model.snapshots_become_ready();
    model.settle();
    assert_eq!(image(&model), second);
    assert!(!model.says().1.contains(second), "{:?}", model.says());
}

#[test]
fn a_snapshot_that_fails_keeps_the_old_image_and_is_asked_for_anew() {
    let mut model = Model::destination(json!({"manual": "1"}), json!({}));
    model.run_once();
    let first = image(&model);
    model.pass(60);
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.settle();
    model.succeed();
    model.settle();
    let second = "volsync-db-dst-20260101000130";
    let failure = json!({"readyToUse": false, "error": {"message": "no space on the array"}});
    model.object_mut("VolumeSnapshot", second).unwrap()["status"] = failure;
    model.settle();
    assert!(model.says().1.contains("no space on the array"));
    assert_eq!(image(&model), first);
    model.pass(301);
    model.step(usize::MAX);
    assert!(model.object("VolumeSnapshot", second).is_none());
    model.settle();
    model.snapshots_become_ready();
    model.settle();
    assert_ne!(image(&model), first);
    assert_eq!(model.names("VolumeSnapshot").len(), 1);
}

#[test]
fn a_volume_deleted_before_its_image_was_made_is_a_failed_run() {
    let mut model = Model::destination(json!({"manual": "1"}), json!({}));
    model.settle();
    model.give_address();
    model.settle();
    model
        .objects
        .remove(&("PersistentVolumeClaim".to_owned(), VOLUME.to_owned()));
    model.succeed();
    model.settle();
    assert!(model.says().1.contains("was deleted before an image"));
    assert!(model.status()["lastSyncTime"].is_null());
    model.pass(20);
    model.run_once();
    assert_eq!(model.status()["latestMoverStatus"]["result"], "Successful");
}

#[test]
fn a_destination_without_a_trigger_receives_again_and_again() {
    let mut model = Model::destination(json!({}), json!({}));
    model.run_once();
    assert_eq!(model.says().0, "SyncInProgress");
    assert_eq!(
        model.object("Job", JOB).unwrap()["metadata"]["labels"]["volsync.backube/cleanup"],
        UID
    );
}

#[test]
fn the_method_of_a_run_is_the_one_it_started_with() {
    let mut model = Model::destination(json!({"manual": "1"}), json!({}));
    model.settle();
    model.give_address();
    model.settle();
    model.edit(json!({"rsync": {"copyMethod": "Direct"}}));
    model.succeed();
    model.settle();
    model.snapshots_become_ready();
    model.settle();
    assert_eq!(model.status()["latestImage"]["kind"], "VolumeSnapshot");
}

#[test]
fn an_image_begun_by_a_run_whose_job_was_removed_is_not_that_of_the_next_run() {
    let mut model = Model::destination(json!({"manual": "1"}), json!({}));
    model.settle();
    model.give_address();
    model.settle();
    model.succeed();
    model.settle();
    let begun = "volsync-db-dst-20260101000030";
    assert_eq!(model.names("VolumeSnapshot"), [begun]);
    model.objects.remove(&("Job".to_owned(), JOB.to_owned()));
    model.snapshots_become_ready();
    model.pass(5);
    model.settle();
    assert!(
        model.object("Job", JOB).is_some(),
        "the transfer is repeated"
    );
    assert!(model.names("VolumeSnapshot").is_empty());
    model.succeed();
    model.settle();
    model.snapshots_become_ready();
    model.settle();
    assert_eq!(image(&model), "volsync-db-dst-20260101000035");
}

#[test]
fn what_was_said_of_an_earlier_copy_goes_when_the_image_is_the_volume_itself() {
    let mut model = Model::destination(json!({"manual": "1"}), json!({}));
    model.settle();
    model.give_address();
    model.settle();
    model.succeed();
    model.settle();
    let name = "volsync-db-dst-20260101000030";
    model.object_mut("VolumeSnapshot", name).unwrap()["metadata"]["annotations"] =
        json!({"embedded.syncline.dev/consistency": "none"});
    model.snapshots_become_ready();
    model.settle();
    let judged = |model: &Model| {
        model.status()["conditions"]
            .to_string()
            .contains("Consistent")
    };
    assert!(judged(&model));
    model.edit(json!({"trigger": {"manual": "2"}, "rsync": {"copyMethod": "Direct"}}));
    model.settle();
    model.succeed();
    model.settle();
    assert_eq!(model.status()["latestImage"]["name"], VOLUME);
    assert!(!judged(&model), "{:#?}", model.status());
}

#[test]
fn what_the_storage_says_of_an_image_is_on_the_image_and_in_a_condition() {
    let mut model = Model::destination(json!({"manual": "1"}), json!({}));
    model.settle();
    model.give_address();
    model.settle();
    model.succeed();
    model.settle();
    let name = "volsync-db-dst-20260101000030";
    model.object_mut("VolumeSnapshot", name).unwrap()["metadata"]["annotations"] = json!({"embedded.syncline.dev/consistency": "none", "embedded.syncline.dev/unsettled": "3 entries changed"});
    model.snapshots_become_ready();
    model.settle();
    let snapshot = model.object("VolumeSnapshot", name).unwrap();
    assert_eq!(
        snapshot["metadata"]["annotations"]["syncline.dev/consistency"],
        "none"
    );
    let conditions = model.status()["conditions"].as_array().unwrap();
    let consistent = conditions
        .iter()
        .find(|condition| condition["type"] == "Consistent")
        .unwrap();
    assert_eq!(
        (&consistent["status"], &consistent["reason"]),
        (&json!("False"), &json!("VolumeWasChanging"))
    );
    assert!(
        consistent["message"]
            .as_str()
            .unwrap()
            .contains("3 entries changed")
    );
}
