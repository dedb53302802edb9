use rstest::rstest;
use serde_json::{Value, json};

use super::model::Model;

fn job_of(mut model: Model) -> Value {
    model.settle();
    model.give_address();
    model.settle();
    let name = model.job_name();
    model.object("Job", &name).unwrap().clone()
}

#[test]
fn the_job_of_a_source() {
    let rsync = json!({"copyMethod": "Clone", "port": 2222, "path": "/sub", "sshUser": "alice",
        "moverResources": {"limits": {"memory": "1Gi"}}, "moverPodLabels": {"team": "a"}});
    let job = job_of(Model::source(json!({"manual": "1"}), rsync));
    insta::assert_yaml_snapshot!(job);
}

#[test]
fn the_job_of_a_destination() {
    let job = job_of(Model::destination(
        json!({}),
        json!({"path": "sub", "sshUser": "alice"}),
    ));
    insta::assert_yaml_snapshot!(job);
}

#[rstest]
#[case(json!(["ReadOnlyMany"]), true)]
#[case(json!(["ReadOnlyMany", "ReadWriteOnce"]), false)]
#[case(json!(["ReadWriteOnce"]), false)]
fn a_volume_that_nobody_may_write_is_mounted_for_reading_only(
    #[case] modes: Value,
    #[case] expected: bool,
) {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model
        .object_mut("PersistentVolumeClaim", "pvc-user")
        .unwrap()["status"]["accessModes"] = modes;
    let job = job_of(model);
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(
        pod["volumes"][0]["persistentVolumeClaim"]["readOnly"] == true,
        expected
    );
    assert_eq!(
        pod["containers"][0]["volumeMounts"][0]["readOnly"] == true,
        expected
    );
}

#[test]
fn the_users_service_account_is_used_and_none_is_made() {
    let mut model = Model::source(
        json!({"manual": "1"}),
        json!({"copyMethod": "Direct", "moverServiceAccount": "mine"}),
    );
    model.put("ServiceAccount", "mine", json!({}));
    let job = job_of(model.clone());
    assert_eq!(
        job["spec"]["template"]["spec"]["serviceAccountName"],
        "mine"
    );
    model.settle();
    assert_eq!(model.names("ServiceAccount"), ["mine"]);
    assert!(model.names("Role").is_empty());
}

#[test]
fn the_movers_role_allows_nothing() {
    let mut model = Model::source(json!({"manual": "1"}), json!({}));
    model.settle();
    let role = model.object("Role", "volsync-src-db").unwrap();
    assert!(role["rules"].is_null());
    let binding = model.object("RoleBinding", "volsync-src-db").unwrap();
    assert_eq!(binding["subjects"][0]["name"], "volsync-src-db");
}

#[test]
fn a_job_of_an_operator_that_did_not_wait_for_deleted_pods_is_left_to_finish() {
    let mut model = Model::rclone_destination(json!({"manual": "1"}), json!({}));
    model.settle();
    let name = model.job_name();
    let job = model.object_mut("Job", &name).unwrap();
    assert_eq!(job["spec"]["podReplacementPolicy"], "Failed");
    job["spec"]["podReplacementPolicy"] = json!("TerminatingOrFailed");
    let before = job.clone();
    model.mover_runs();
    model.settle();
    assert_eq!(*model.object("Job", &name).unwrap(), before);
}
