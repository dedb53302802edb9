//! A destination of rclone without a trigger while it waits: what it says, and what of the wait counts.

use serde_json::json;
use syncline_api::report::{Report, Role};
use syncline_api::status::Progress;

use super::model::Model;

/// The mover is there and waits.
fn waits(model: &mut Model) {
    model.settle();
    model.mover_runs();
    says(model, "Waiting");
}

/// The mover says what it does.
fn says(model: &mut Model, phase: &str) {
    model.progress = Some(Progress {
        phase: Some(phase.into()),
        ..Progress::default()
    });
    model.settle();
}

#[test]
fn what_a_mover_waited_before_a_trigger_came_is_no_part_of_the_run_that_it_started() {
    let mut model = Model::rclone_destination(json!(null), json!({"copyMethod": "Direct"}));
    waits(&mut model);
    model.pass(3600);
    model.edit(json!({"trigger": {"manual": "now"}}));
    model.settle();
    model.mover_runs();
    model.progress = None;
    model.pass(5);
    let mut report = Report::successful("rclone", Role::Destination);
    report.generation = Some("1-a".to_owned());
    model.end_job(&report, true);
    model.settle();
    assert_eq!(model.status()["lastManualSync"], "now");
    assert_eq!(model.status()["lastSyncDuration"], "5s");
}

#[test]
fn a_destination_that_waits_for_a_first_version_says_where_and_only_then() {
    let mut model = Model::rclone_destination(json!(null), json!({"copyMethod": "Direct"}));
    waits(&mut model);
    let (reason, said) = model.says();
    assert_eq!(reason, "SyncInProgress");
    let expected = "Synchronization in-progress: waiting for a first version at s3:bucket/db;";
    assert!(said.starts_with(expected), "{said}");
    model.progress = None;
    model.succeed_with("1-a", true);
    model.settle();
    waits(&mut model);
    assert_eq!(model.says().1, "Synchronization in-progress");
    model.edit(json!({"rclone": {"rcloneDestPath": "bucket/typo"}}));
    model.settle();
    waits(&mut model);
    let (_, said) = model.says();
    assert!(said.contains("s3:bucket/typo"), "{said}");
}

#[test]
fn a_destination_that_lets_a_store_rest_says_what_for_until_it_goes_on() {
    let mut model = Model::rclone_destination(json!(null), json!({"copyMethod": "Direct"}));
    waits(&mut model);
    says(&mut model, "Resting");
    assert_eq!(
        model.says().1,
        "Synchronization in-progress: all of s3:bucket/db is fetched, and nothing there says that its source is done; looking \
         whether it stays as it is"
    );
    says(&mut model, "Transferring");
    assert_eq!(model.says().1, "Synchronization in-progress");
}

#[test]
fn why_an_earlier_pod_of_the_job_failed_is_told_behind_what_a_rest_is_for() {
    let direct = json!({"copyMethod": "Direct"});
    let mut model = Model::rclone_destination(json!({"manual": "1"}), direct);
    model.settle();
    model.mover_runs();
    let report = Report::failed(
        "rclone",
        Role::Destination,
        "ConnectionLost",
        "it broke off",
    );
    model.pod_ends(&report, false);
    model.settle();
    assert_eq!(model.says().0, "Error");
    let first = format!("{}-x", model.job_name());
    let owners = model.object("Pod", &first).unwrap()["metadata"]["ownerReferences"].clone();
    let second = json!({"metadata": {"ownerReferences": owners}, "status": {"phase": "Running"}});
    model.put("Pod", "second", second);
    says(&mut model, "Resting");
    let (reason, said) = model.says();
    assert_eq!(reason, "SyncInProgress", "{said}");
    assert!(
        said.contains("looking whether it stays as it is") && said.ends_with("it broke off"),
        "{said}"
    );
}
