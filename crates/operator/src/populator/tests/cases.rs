//! What happens to a claim, one behaviour a test.

use rstest::rstest;
use serde_json::json;
use syncline_api::names::Mover;

use super::model::{CLAIM, Model};
use crate::options::Movers;

const WITHOUT_IMAGE: &str = "VolSyncPopulatorReplicationDestinationNoLatestImage";

/// What is in the claim's volume.
fn content(model: &Model) -> String {
    let volume = model.claim("/spec/volumeName");
    let volume = model.object("PersistentVolume", volume.as_str().unwrap_or_default());
    volume.map_or_else(String::new, |volume| {
        volume["content"].as_str().unwrap().to_owned()
    })
}

fn edit_claim(model: &mut Model, change: &serde_json::Value) {
    super::model::merge(
        model.object_mut("PersistentVolumeClaim", CLAIM).unwrap(),
        change,
    );
}

#[test]
fn a_claim_gets_a_volume_with_the_latest_image() {
    let mut model = Model::new();
    model.publish("image-1");
    model.settle();
    assert_eq!(content(&model), "image-1");
    assert_eq!(model.claim("/status/phase"), "Bound");
    let volume = model.claim("/spec/volumeName");
    let volume = model
        .object("PersistentVolume", volume.as_str().unwrap())
        .unwrap();
    assert_eq!(
        volume["metadata"]["annotations"]["volsync.backube/populated-from"],
        "site-a/image-1"
    );
    assert!(model.said("VolSyncPopulatorPVCCreated"));
    assert!(model.said("VolSyncPopulatorFinished"));
    assert_eq!(model.names("PersistentVolumeClaim"), [CLAIM]);
    let labels = &model.object("VolumeSnapshot", "image-1").unwrap()["metadata"]["labels"];
    assert_eq!(*labels, json!({"app.kubernetes.io/created-by": "volsync"}));
}

#[test]
fn the_temporary_claim_has_volsyncs_name_labels_and_owner() {
    let mut model = Model::new();
    model.publish("image-1");
    model.look(usize::MAX);
    let uid = model.claim("/metadata/uid");
    let name = format!("vs-prime-{}", uid.as_str().unwrap());
    let temporary = model.object("PersistentVolumeClaim", &name).unwrap();
    assert_eq!(
        temporary["metadata"]["labels"]["volsync.backube/populator-pvc-for"],
        CLAIM
    );
    let owner = &temporary["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["uid"], &owner["controller"]), (&uid, &json!(true)));
    assert_eq!(temporary["spec"]["dataSourceRef"]["kind"], "VolumeSnapshot");
    assert_eq!(temporary["spec"]["resources"]["requests"]["storage"], "2Gi");
    let mark = format!("volsync.backube/volpop-pvc-{}", uid.as_str().unwrap());
    assert_eq!(
        model.object("VolumeSnapshot", "image-1").unwrap()["metadata"]["labels"][&mark],
        CLAIM
    );
}

#[test]
fn without_an_image_a_claim_waits_and_says_so() {
    let mut model = Model::new();
    model.settle();
    assert!(model.said(WITHOUT_IMAGE));
    assert_eq!(model.names("PersistentVolumeClaim"), [CLAIM]);
    model.publish("image-1");
    model.settle();
    assert_eq!(content(&model), "image-1");
}

#[test]
fn without_its_destination_a_claim_waits_and_says_so() {
    let mut model = Model::new();
    let destination = model
        .object("ReplicationDestination", "db")
        .unwrap()
        .clone();
    model.remove("ReplicationDestination", "db");
    edit_claim(
        &mut model,
        &json!({"metadata": {"annotations": {"syncline.dev/on-missing-image": "Empty"}}}),
    );
    model.settle();
    assert!(model.said("VolSyncPopulatorReplicationDestinationMissing"));
    model.put("ReplicationDestination", "db", destination);
    model.publish("image-1");
    model.settle();
    assert_eq!(content(&model), "image-1");
}

#[test]
fn empty_instead_of_a_missing_image_makes_an_empty_volume() {
    let mut model = Model::new();
    edit_claim(
        &mut model,
        &json!({"metadata": {"annotations": {"syncline.dev/on-missing-image": "Empty"}}}),
    );
    model.settle();
    assert_eq!(content(&model), "nothing");
    assert!(model.said("VolSyncPopulatorFinished"));
    assert!(!model.said(WITHOUT_IMAGE));
}

#[test]
fn fail_without_an_image_is_for_good_until_the_annotation_is_removed() {
    let mut model = Model::new();
    edit_claim(
        &mut model,
        &json!({"metadata": {"annotations": {"syncline.dev/on-missing-image": "Fail"}}}),
    );
    model.settle();
    assert!(model.said("VolSyncPopulatorError"));
    assert!(!model.claim("/metadata/annotations")["syncline.dev/population-failed"].is_null());
    model.publish("image-1");
    model.settle();
    assert_eq!(content(&model), "", "a later image is not used");
    edit_claim(
        &mut model,
        &json!({"metadata": {"annotations": {"syncline.dev/population-failed": null}}}),
    );
    model.settle();
    assert_eq!(content(&model), "image-1");
}

#[test]
fn an_unknown_wish_is_named_and_taken_for_wait() {
    let mut model = Model::new();
    edit_claim(
        &mut model,
        &json!({"metadata": {"annotations": {"syncline.dev/on-missing-image": "empty"}}}),
    );
    model.settle();
    assert!(model.said("VolSyncPopulatorError") && model.said(WITHOUT_IMAGE));
}

#[test]
fn an_image_that_is_a_claim_is_refused_as_volsync_does() {
    let mut model = Model::new();
    model.object_mut("ReplicationDestination", "db").unwrap()["status"] =
        json!({"latestImage": {"apiGroup": "", "kind": "PersistentVolumeClaim", "name": "volume"}});
    model.settle();
    let (reason, text) = model.events.last().unwrap();
    assert_eq!(*reason, "VolSyncPopulatorError");
    assert!(text.contains("copyMethod Snapshot"), "{text}");
}

#[test]
fn a_claim_that_asks_for_less_than_the_image_needs_is_told_so() {
    let mut model = Model::new();
    model.publish("image-1");
    edit_claim(
        &mut model,
        &json!({"spec": {"resources": {"requests": {"storage": "1Gi"}}}}),
    );
    model.settle();
    assert!(
        model
            .events
            .last()
            .unwrap()
            .1
            .contains("needs at least 2Gi"),
        "{:?}",
        model.events
    );
    assert_eq!(model.names("PersistentVolumeClaim"), [CLAIM]);
}

#[rstest]
#[case::missing(json!(null), false)]
#[case::of_the_kubelets_own(json!({"provisioner": "kubernetes.io/aws-ebs"}), false)]
#[case::without_volumes(json!({"provisioner": "kubernetes.io/no-provisioner"}), false)]
#[case::waiting_for_a_pod(json!({"provisioner": "csi.example", "volumeBindingMode": "WaitForFirstConsumer"}), false)]
#[case::of_a_driver(json!({"provisioner": "csi.example"}), true)]
fn the_class_decides_whether_a_volume_can_be_made_now(
    #[case] class: serde_json::Value,
    #[case] expected: bool,
) {
    let mut model = Model::new();
    model.publish("image-1");
    model.remove("StorageClass", "fast");
    if !class.is_null() {
        model.put("StorageClass", "fast", class);
    }
    model.settle();
    assert_eq!(!content(&model).is_empty(), expected);
}

#[test]
fn a_scheduled_claim_is_filled_on_the_node_of_its_pod() {
    let mut model = Model::new();
    model.publish("image-1");
    model.put(
        "StorageClass",
        "fast",
        json!({"provisioner": "csi.example", "volumeBindingMode": "WaitForFirstConsumer"}),
    );
    model.settle();
    let place = |node: &str| json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": node}}});
    edit_claim(&mut model, &place("node-1"));
    model.look(usize::MAX);
    edit_claim(&mut model, &place("node-2"));
    model.look(usize::MAX);
    let temporary = model.names("PersistentVolumeClaim").pop().unwrap();
    let temporary = model.object("PersistentVolumeClaim", &temporary).unwrap();
    assert_eq!(
        temporary["metadata"]["annotations"]["volume.kubernetes.io/selected-node"],
        "node-2"
    );
    model.settle();
    assert_eq!(content(&model), "image-1");
}

#[test]
fn an_image_in_use_survives_the_next_run_and_goes_when_the_claim_is_filled() {
    let mut model = Model::new();
    model.publish("image-1");
    model.look(usize::MAX);
    model.publish("image-2");
    model.sweep_images();
    model.collect_garbage();
    assert!(model.object("VolumeSnapshot", "image-1").is_some());
    model.settle();
    assert_eq!(content(&model), "image-1");
    assert_eq!(model.names("VolumeSnapshot"), ["image-2"]);
}

#[test]
fn an_image_that_is_to_be_kept_is_kept_without_owners() {
    let mut model = Model::new();
    model.publish("image-1");
    model.look(1);
    model.object_mut("VolumeSnapshot", "image-1").unwrap()["metadata"]["labels"]["volsync.backube/do-not-delete"] =
        json!("yes");
    model.publish("image-2");
    model.sweep_images();
    model.settle();
    let kept = model.object("VolumeSnapshot", "image-1").unwrap();
    assert_eq!(kept["metadata"]["ownerReferences"], json!([]));
}

#[test]
fn the_image_of_a_claim_that_is_deleted_meanwhile_is_released() {
    let mut model = Model::new();
    model.publish("image-1");
    model.look(1);
    model.publish("image-2");
    model.sweep_images();
    model.remove("PersistentVolumeClaim", CLAIM);
    model.settle();
    assert_eq!(model.names("VolumeSnapshot"), ["image-2"]);
    assert!(model.names("PersistentVolumeClaim").is_empty());
}

#[test]
fn a_foreign_claim_of_the_temporary_ones_name_is_left_alone() {
    let mut model = Model::new();
    model.publish("image-1");
    let name = format!(
        "vs-prime-{}",
        model.claim("/metadata/uid").as_str().unwrap()
    );
    model.put(
        "PersistentVolumeClaim",
        &name,
        json!({"spec": {}, "status": {"phase": "Lost"}}),
    );
    assert_eq!(model.look(usize::MAX), 0);
    assert!(
        model
            .events
            .last()
            .unwrap()
            .1
            .contains("does not belong to this claim")
    );
}

#[test]
fn a_temporary_claim_that_stays_without_a_volume_is_reported_on_the_users_claim() {
    let mut model = Model::new();
    model.publish("image-1");
    model.look(usize::MAX);
    model.look(usize::MAX);
    assert!(!model.said("PersistentVolumeClaimNotBound"));
    model.pass(121);
    model.look(usize::MAX);
    assert!(model.said("PersistentVolumeClaimNotBound"));
}

#[test]
fn an_operator_of_one_namespace_says_that_it_cannot_fill_claims() {
    let mut model = Model::new();
    model.publish("image-1");
    model.settings.namespace = Some("site-a".to_owned());
    model.settle();
    assert!(
        model
            .events
            .last()
            .unwrap()
            .1
            .contains("namespace site-a only")
    );
    assert_eq!(model.names("PersistentVolumeClaim"), [CLAIM]);
}

#[rstest]
#[case(Mover::Rsync, true)]
#[case(Mover::Restic, false)]
fn only_images_of_the_chosen_movers_are_used(#[case] mover: Mover, #[case] expected: bool) {
    let mut model = Model::new();
    model.publish("image-1");
    model.settings.movers = Movers::Only([mover].into());
    model.settle();
    assert_eq!(!content(&model).is_empty(), expected);
    assert_eq!(model.events.is_empty(), !expected);
}

#[test]
fn other_claims_are_none_of_the_populators_business() {
    let mut model = Model::new();
    model.publish("image-1");
    edit_claim(
        &mut model,
        &json!({"spec": {"dataSourceRef": {"apiGroup": "elsewhere.example"}}}),
    );
    model.settle();
    assert!(model.events.is_empty());
}
