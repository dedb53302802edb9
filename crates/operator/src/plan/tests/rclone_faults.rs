//! What can be wrong with a store's description, each in the words that its user reads.

use rstest::rstest;
use serde_json::{Value, json};

use super::model::Model;

fn source(rclone: Value) -> Model {
    let mut settings = json!({"copyMethod": "Direct"});
    super::model::merge(&mut settings, &rclone);
    Model::rclone_source(json!({"manual": "1"}), settings)
}

/// The resource says exactly this, writes nothing more, and asks for no retry.
fn says(model: &mut Model, words: &str) {
    model.settle();
    assert_eq!(model.says(), ("Error".to_owned(), words.to_owned()));
    assert!(model.names("Job").is_empty());
    assert_eq!(model.plan().wake, None);
}

fn config(model: &mut Model, text: &str) {
    let bytes = k8s_openapi::ByteString(text.as_bytes().to_vec());
    model.put("Secret", "store", json!({"data": {"rclone.conf": bytes}}));
}

#[rstest]
#[case("rcloneConfig", "it names the Secret that holds rclone.conf")]
#[case(
    "rcloneConfigSection",
    "it names the section of rclone.conf that describes the store"
)]
#[case(
    "rcloneDestPath",
    "it names the bucket, or the path, that the volume lies under in the store"
)]
fn a_field_that_is_empty_is_named(#[case] field: &str, #[case] purpose: &str) {
    let words = format!("spec.rclone.{field} must be provided: {purpose}");
    says(&mut source(json!({field: ""})), &words);
}

#[test]
fn a_missing_secret_is_waited_for() {
    let mut model = source(json!({}));
    let key = ("Secret".to_owned(), "store".to_owned());
    let secret = model.objects.remove(&key).unwrap();
    says(
        &mut model,
        "waiting for Secret site-a/store, which spec.rclone.rcloneConfig names and which does not exist; create it with \
         rclone's configuration under the key rclone.conf (kubectl create secret generic store -n site-a \
         --from-file=rclone.conf), or correct the field, and the run starts by itself",
    );
    model.put("Secret", "store", secret);
    model.settle();
    assert_eq!(model.says().0, "SyncInProgress");
}

#[rstest]
#[case(json!({}))]
#[case(json!({"rclone.conf": ""}))]
#[case(json!({"rclone.config": "W3MzXQo="}))]
fn a_secret_without_a_configuration_is_told_what_it_lacks(#[case] data: Value) {
    let mut model = source(json!({}));
    model.put("Secret", "store", json!({"data": data}));
    says(
        &mut model,
        "Secret site-a/store, which spec.rclone.rcloneConfig names, lacks the key \"rclone.conf\", or its value is empty; add \
         rclone's configuration under that key, and the run starts by itself",
    );
}

#[test]
fn a_section_that_is_missing_is_told_with_those_that_are_there() {
    let mut model = source(json!({"rcloneConfigSection": "aws"}));
    config(&mut model, "[s3]\ntype = s3\n[disk]\ntype = local\n");
    says(
        &mut model,
        "rclone.conf in Secret site-a/store has no section \"aws\" (it has: disk, s3); add it, or correct \
         spec.rclone.rcloneConfigSection",
    );
    config(&mut model, "type = s3\n");
    model.settle();
    assert!(model.says().1.contains("(it has none)"));
    config(&mut model, "[aws]\ntype = s3\n");
    model.settle();
    assert_eq!(model.says().0, "SyncInProgress");
}

#[test]
fn a_section_may_be_described_by_keys_or_hidden_by_encryption() {
    let mut model = source(json!({"rcloneConfigSection": "my-store"}));
    // rclone leaves hyphens as they are.
    for (key, reason) in [
        ("RCLONE_CONFIG_MY_STORE_TYPE", "Error"),
        ("RCLONE_CONFIG_MY-STORE_TYPE", "SyncInProgress"),
    ] {
        let data = json!({"data": {"rclone.conf": "Iwo=", key: "bG9jYWw="}});
        model.put("Secret", "store", data);
        model.settle();
        assert_eq!(model.says().0, reason, "{key}");
    }
    let mut model = source(json!({"rcloneConfigSection": "anything"}));
    config(&mut model, "RCLONE_ENCRYPT_V0:\nabcdef=\n");
    model.settle();
    assert_eq!(model.says().0, "SyncInProgress");
}

#[rstest]
#[case(json!({"secretName": "authority", "key": "tls.pem"}), "Secret")]
#[case(json!({"configMapName": "authority", "key": "tls.pem"}), "ConfigMap")]
fn a_certificate_is_waited_for_and_its_key_is_named(#[case] given: Value, #[case] kind: &str) {
    let mut model = source(json!({"customCA": given}));
    says(
        &mut model,
        &format!(
            "waiting for {kind} site-a/authority, which spec.rclone.customCA names and which does not exist; create it or \
             correct customCA, and the run starts by itself"
        ),
    );
    model.put(kind, "authority", json!({"data": {"other": "Y2VydA=="}}));
    says(
        &mut model,
        &format!(
            "{kind} site-a/authority, which spec.rclone.customCA names, lacks the key \"tls.pem\", or its value is empty; add \
             the certificate of the store's authority under that key, or correct customCA.key"
        ),
    );
    model.put(kind, "authority", json!({"data": {"tls.pem": "Y2VydA=="}}));
    model.settle();
    assert_eq!(model.says().0, "SyncInProgress");
}

#[test]
fn a_device_is_refused_with_the_mover_that_takes_it() {
    let mut model = source(json!({}));
    let claim = model.object_mut("PersistentVolumeClaim", "pvc-user");
    claim.unwrap()["spec"]["volumeMode"] = json!("Block");
    says(
        &mut model,
        "PersistentVolumeClaim site-a/pvc-user is a device (volumeMode Block), and spec.rclone replicates file systems only; \
         use spec.rsync for it",
    );
}

#[rstest]
#[case(json!({"copyMethod": null}), "spec.rclone.copyMethod is not set; it must be one of Direct, Clone and Snapshot")]
#[case(json!({"capacity": "0"}), "spec.rclone.capacity \"0\" cannot be used")]
#[case(json!({"accessModes": ["ReadMaybe"]}), "spec.rclone.accessModes \"ReadMaybe\" cannot be used")]
#[case(json!({"moverServiceAccount": "me"}), "waiting for ServiceAccount site-a/me, which spec.rclone.moverServiceAccount names")]
fn the_common_fields_are_named_as_rclones(#[case] change: Value, #[case] words: &str) {
    let mut model = source(json!({}));
    model.edit(json!({"rclone": change}));
    model.settle();
    let (reason, said) = model.says();
    assert_eq!(reason, "Error");
    assert!(said.starts_with(words), "{said}");
}

#[test]
fn an_annotation_that_is_neither_yes_nor_no_is_named() {
    let mut model = source(json!({}));
    model.resource["metadata"]["annotations"] = json!({"syncline.dev/rclone-sole-writer": "maybe"});
    says(
        &mut model,
        "the annotation syncline.dev/rclone-sole-writer \"maybe\" cannot be used: write \"true\" if nobody else writes to the \
         path in the store, or remove it",
    );
}

#[test]
fn a_destination_without_a_volume_is_told_what_it_needs() {
    let mut model = Model::rclone_destination(json!({"manual": "1"}), json!({"capacity": null}));
    model.settle();
    let said = model.says().1;
    assert!(
        said.starts_with(
            "spec.rclone.capacity must be provided: without spec.rclone.destinationPVC"
        ),
        "{said}"
    );
    let given = json!({"destinationPVC": "gone"});
    let mut model = Model::rclone_destination(json!({"manual": "1"}), given);
    model.settle();
    assert!(
        model
            .says()
            .1
            .contains("which spec.rclone.destinationPVC names")
    );
}

#[test]
fn a_name_that_leaves_no_room_for_its_volume_is_refused() {
    let mut model = source(json!({}));
    model.resource["metadata"]["name"] = json!("x".repeat(243));
    let state = model.plan().status.unwrap();
    let said = &state.condition("Synchronizing").unwrap().message;
    assert!(
        said.contains("is too long: the PersistentVolumeClaim"),
        "{said}"
    );
}

#[test]
fn a_failed_run_waits_and_is_tried_at_once_when_the_configuration_changes() {
    let mut model = source(json!({}));
    model.settle();
    model.fail();
    model.settle();
    assert!(model.names("Job").is_empty());
    let (reason, said) = model.says();
    assert_eq!(reason, "Error");
    assert!(said.contains("(PeerUnreachable)"), "{said}");
    assert!(model.plan().wake.is_some());
    let tried = model.status()["rclone"]["triedWith"].clone();
    model.settle();
    assert!(model.names("Job").is_empty(), "it waits");
    config(&mut model, "[s3]\ntype = s3\nsecret_access_key = other\n");
    model.settle();
    assert_eq!(model.names("Job"), ["volsync-rclone-src-db"]);
    model.succeed_with("1-a", true);
    model.settle();
    assert!(tried.is_string());
    assert!(model.status()["rclone"]["triedWith"].is_null());
}

#[rstest]
#[case(json!({"manual": "1"}), true)]
#[case(json!(null), false)]
fn a_destinations_first_failed_try_is_told_unless_it_waits_again(
    #[case] trigger: Value,
    #[case] told: bool,
) {
    let mut model = Model::rclone_destination(trigger, json!({}));
    model.settle();
    model.mover_runs();
    let report = syncline_api::report::Report::failed(
        "rclone",
        syncline_api::report::Role::Destination,
        "StoreRefused",
        "the keys are wrong",
    );
    model.pod_ends(&report, false);
    model.settle();
    assert_eq!(model.says().0 == "Error", told, "{:?}", model.says());
}

#[test]
fn under_volsyncs_definitions_a_failure_is_remembered_all_the_same() {
    let mut model = source(json!({}));
    model.prunes = true;
    model.settle();
    model.fail();
    model.settle();
    assert!(model.names("Job").is_empty());
    assert!(model.status()["rclone"].is_null());
    config(&mut model, "[s3]\ntype = s3\nsecret_access_key = other\n");
    model.settle();
    assert_eq!(model.names("Job"), ["volsync-rclone-src-db"]);
}
