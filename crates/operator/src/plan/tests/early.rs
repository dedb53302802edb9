//! What is done on the mover's word in its log, and what waits for the kubelet's.

use serde_json::{Value, json};
use syncline_api::report::{Report, Role};

use super::model::Model;

fn success(role: Role) -> Report {
    Report::successful("rsync", role)
}

fn receiving() -> Model {
    let mut model = Model::destination(json!({"manual": "1"}), json!({}));
    model.settle();
    model.give_address();
    model.settle();
    model.mover_runs();
    model.settle();
    model
}

fn sending() -> Model {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Clone"}));
    model.settle();
    model.mover_runs();
    model.settle();
    model
}

fn snapshots(model: &Model) -> Vec<String> {
    model
        .names("VolumeSnapshot")
        .into_iter()
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_image_is_begun_on_the_movers_word_and_published_on_the_kubelets() {
    let mut model = receiving();
    assert!(snapshots(&model).is_empty());
    model.mover_reports(success(Role::Destination), false);
    model.settle();
    let begun = snapshots(&model);
    assert_eq!(begun.len(), 1, "the snapshot need not wait for the kubelet");
    model.snapshots_become_ready();
    model.settle();
    assert!(
        model.status()["latestImage"].is_null(),
        "but everything else does"
    );
    assert!(model.status()["lastSyncTime"].is_null());
    assert!(model.object("Job", &model.job_name()).is_some());
    model.pod_ends(&success(Role::Destination), true);
    model.settle();
    assert_eq!(model.status()["latestImage"]["name"], json!(begun[0]));
    assert_eq!(
        model.status()["lastManualSync"],
        "1",
        "the Job's own status need not be waited for"
    );
    assert!(model.object("Job", &model.job_name()).is_none());
}

#[test]
fn a_destination_that_has_taken_leave_of_its_source_need_not_wait_for_the_kubelet() {
    let mut model = receiving();
    model.mover_reports(success(Role::Destination), false);
    model.settle();
    model.mover_reports(success(Role::Destination), true);
    model.settle();
    assert!(
        model.status()["latestImage"].is_null(),
        "a snapshot that is not ready is no image"
    );
    model.snapshots_become_ready();
    model.settle();
    assert_eq!(
        model.status()["latestImage"]["name"],
        json!(snapshots(&model)[0])
    );
    assert_eq!(model.status()["lastManualSync"], "1");
    assert!(model.names("Job").is_empty());
}

#[test]
fn an_image_begun_for_a_mover_that_failed_after_all_never_becomes_one() {
    let mut model = receiving();
    model.mover_reports(success(Role::Destination), false);
    model.settle();
    let begun = snapshots(&model);
    model.snapshots_become_ready();
    let failed = Report::failed("rsync", Role::Destination, "Interrupted", "told to stop");
    model.pod_ends(&failed, false);
    model.settle();
    assert!(model.status()["latestImage"].is_null());
    // The Job tries again, and this time it is confirmed.
    model.pass(5);
    let name = model.job_name();
    let pod = model.object("Pod", &format!("{name}-x")).unwrap().clone();
    model.put("Pod", "first", json!({"metadata": {"ownerReferences": pod["metadata"]["ownerReferences"]}, "status": pod["status"]}));
    model.succeed();
    model.settle();
    let made = snapshots(&model);
    assert!(
        !made.is_empty() && made != begun,
        "{made:?} is what the second one received"
    );
    model.snapshots_become_ready();
    model.settle();
    assert_eq!(model.status()["latestImage"]["name"], json!(made[0]));
    assert_eq!(snapshots(&model), made, "the other is gone");
}

#[test]
fn a_job_that_fails_in_the_end_takes_the_image_it_began_along() {
    let mut model = receiving();
    model.mover_reports(success(Role::Destination), false);
    model.settle();
    let begun = snapshots(&model);
    model.fail();
    model.settle();
    assert!(model.status()["latestImage"].is_null());
    model.pass(3600);
    model.settle();
    assert!(
        !snapshots(&model).contains(&begun[0]),
        "before the next run writes to the volume"
    );
}

#[test]
fn a_source_is_done_when_its_mover_says_so() {
    let mut model = sending();
    let mut report = success(Role::Source);
    report.entries = Some(7);
    report.logs = "sent 10 bytes  received 20 bytes".to_owned();
    model.mover_reports(report, true);
    model.settle();
    let status = model.status();
    assert_eq!(status["lastManualSync"], "1");
    assert_eq!(status["rsync"]["lastSyncedEntries"], 7);
    assert_eq!(
        status["latestMoverStatus"],
        json!({"result": "Successful", "logs": "sent 10 bytes  received 20 bytes"})
    );
    assert!(model.names("Job").is_empty());
}

#[test]
fn a_word_that_the_kubelet_gainsays_counts_for_nothing() {
    let mut model = sending();
    model.mover_reports(success(Role::Source), true);
    let failed = Report::failed("rsync", Role::Source, "PeerUnreachable", "no answer");
    model.pod_ends(&failed, false);
    model.settle();
    assert!(model.status()["lastSyncTime"].is_null());
}

#[test]
fn neither_a_failure_in_the_log_nor_the_word_of_another_pod_is_acted_upon() {
    for (change, report) in [
        (
            false,
            Report::failed("rsync", Role::Source, "PeerUnreachable", "no answer"),
        ),
        (true, success(Role::Source)),
    ] {
        let mut model = sending();
        model.mover_reports(report, true);
        if change {
            model.reported.as_mut().unwrap().pod = "another".to_owned();
        }
        let job = model.object("Job", &model.job_name()).cloned();
        model.settle();
        assert!(model.status()["lastSyncTime"].is_null());
        assert_eq!(model.object("Job", &model.job_name()).cloned(), job);
    }
}

#[test]
fn what_an_unprivileged_mover_could_not_preserve_is_a_condition_until_it_can() {
    let mut model = sending();
    let mut report = success(Role::Source);
    report.unpreserved = vec![
        "owners (all is uid 1000's)".to_owned(),
        "device files".to_owned(),
    ];
    model.end_job(&report, true);
    model.settle();
    let condition = |model: &Model| -> Option<Value> {
        let all = model.status()["conditions"].as_array().unwrap();
        all.iter()
            .find(|condition| condition["type"] == "Preserved")
            .cloned()
    };
    let told = condition(&model).expect("a condition");
    assert_eq!(
        (&told["status"], &told["reason"]),
        (&json!("False"), &json!("UnprivilegedMover"))
    );
    let message = told["message"].as_str().unwrap();
    assert!(
        message.contains("owners (all is uid 1000's); device files"),
        "{message}"
    );
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.run_once();
    assert_eq!(condition(&model), None);
}

/// All writes of a later sync: objects, statuses and events.
fn writes_of_a_sync(mut model: Model) -> usize {
    model.run_once();
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.events.clear();
    let mut writes = 0;
    let mut settle = |model: &mut Model| {
        for _ in 0..50 {
            match model.step(usize::MAX) {
                0 => return,
                some => writes += some,
            }
        }
    };
    settle(&mut model);
    model.snapshots_become_ready();
    settle(&mut model);
    model.mover_runs();
    settle(&mut model);
    model.mover_reports(success(Role::Source), true);
    settle(&mut model);
    if model.object("Job", &model.job_name()).is_some() {
        model.pod_ends(&success(Role::Destination), true);
        settle(&mut model);
        model.snapshots_become_ready();
        settle(&mut model);
    }
    assert_eq!(model.status()["lastManualSync"], "2");
    writes + model.events.len()
}

#[test]
fn a_sync_costs_few_writes() {
    let source = writes_of_a_sync(Model::source(json!({"manual": "1"}), json!({})));
    let destination = writes_of_a_sync(Model::destination(json!({"manual": "1"}), json!({})));
    assert!(source <= 25, "{source} writes at the source");
    assert!(destination <= 15, "{destination} writes at the destination");
    // Close to what it takes: a change that adds one should say why.
    assert_eq!((source, destination), (12, 10));
}
