//! Volumes that are block devices.

use rstest::rstest;
use serde_json::{Value, json};

use super::model::Model;

fn settled(mut model: Model) -> Model {
    model.settle();
    model.give_address();
    model.settle();
    model.snapshots_become_ready();
    model.settle();
    model
}

fn pod(model: &Model) -> Value {
    let job = model.object("Job", &model.job_name()).expect("a Job");
    job["spec"]["template"]["spec"].clone()
}

fn is_device(pod: &Value) -> bool {
    let container = &pod["containers"][0];
    let mounted = container["volumeMounts"].to_string().contains("\"/data\"");
    let env = container["env"].to_string().contains("BLOCK_DEVICE");
    let device =
        container["volumeDevices"] == json!([{"name": "data", "devicePath": "/dev/block"}]);
    assert_eq!((device, !mounted), (env, env));
    env
}

fn with_block_claim(mut model: Model) -> Model {
    let claim = model.object_mut("PersistentVolumeClaim", "pvc-user");
    claim.unwrap()["spec"]["volumeMode"] = json!("Block");
    model
}

#[rstest]
#[case("Direct")]
#[case("Clone")]
#[case("Snapshot")]
fn a_source_that_is_a_device_is_sent_as_one(#[case] method: &str) {
    let source = Model::source(
        json!({"manual": "1"}),
        json!({"copyMethod": method, "path": "/sub"}),
    );
    let model = settled(with_block_claim(source));
    if method != "Direct" {
        let copy = model
            .object("PersistentVolumeClaim", "volsync-db-src")
            .unwrap();
        assert_eq!(copy["spec"]["volumeMode"], "Block");
    }
    let pod = pod(&model);
    assert!(is_device(&pod));
    assert!(
        !pod["containers"][0]["env"]
            .to_string()
            .contains("DESTINATION_PATH")
    );
}

#[rstest]
#[case(json!({"volumeMode": "Block"}), true)]
#[case(json!({"volumeMode": "Filesystem"}), false)]
#[case(json!({}), false)]
fn a_destinations_own_volume_is_what_the_spec_says(#[case] rsync: Value, #[case] expected: bool) {
    let model = settled(Model::destination(json!({"manual": "1"}), rsync));
    let claim = model
        .object("PersistentVolumeClaim", "volsync-db-dst")
        .unwrap();
    assert_eq!(claim["spec"]["volumeMode"] == "Block", expected);
    assert_eq!(is_device(&pod(&model)), expected);
}

#[test]
fn a_claim_of_the_users_is_what_it_is() {
    let rsync = json!({"destinationPVC": "pvc-user", "volumeMode": "Filesystem"});
    let model = settled(with_block_claim(Model::destination(
        json!({"manual": "1"}),
        rsync,
    )));
    assert!(is_device(&pod(&model)));
}

#[test]
fn a_volume_cannot_become_a_device() {
    let mut model = Model::destination(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.run_once();
    model.edit(json!({"rsync": {"volumeMode": "Block"}, "trigger": {"manual": "2"}}));
    model.settle();
    let (reason, message) = model.says();
    assert_eq!(reason, "Error");
    for word in [
        "spec.rsync.volumeMode",
        "Block",
        "Filesystem",
        "volsync-db-dst",
    ] {
        assert!(message.contains(word), "{message}");
    }
}
