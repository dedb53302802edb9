//! Copies that wait for their user.

use rstest::rstest;
use serde_json::{Value, json};

use super::model::Model;

const COPY: &str = "volsync-db-src";
const JOB: &str = "volsync-rsync-src-db";
const STATUS: &str = "volsync.backube/latest-copy-status";
const LATEST: &str = "volsync.backube/latest-copy-trigger";
const SINCE: &str = "volsync.backube/latest-copy-trigger-waiting-since";

fn guarded(method: &str) -> Model {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": method}));
    user_says(&mut model, json!({"volsync.backube/use-copy-trigger": ""}));
    model
}

fn user_says(model: &mut Model, annotations: Value) {
    let claim = model
        .object_mut("PersistentVolumeClaim", "pvc-user")
        .unwrap();
    super::model::merge(&mut claim["metadata"]["annotations"], &annotations);
}

fn said<'a>(model: &'a Model, name: &str) -> Option<&'a str> {
    let claim = model.object("PersistentVolumeClaim", "pvc-user").unwrap();
    claim["metadata"]["annotations"][name].as_str()
}

fn copies(model: &Model) -> usize {
    model.names("VolumeSnapshot").len() + model.names("PersistentVolumeClaim").len() - 1
}

/// The storage makes what was asked for.
fn provision(model: &mut Model) {
    model.snapshots_become_ready();
    model.settle();
    if let Some(copy) = model.object_mut("PersistentVolumeClaim", COPY) {
        copy["status"] = json!({"phase": "Bound"});
    }
    model.settle();
}

#[rstest]
fn a_copy_waits_for_its_trigger_each_time(#[values("Snapshot", "Clone")] method: &str) {
    let mut model = guarded(method);
    for round in ["one", "two"] {
        model.settle();
        assert_eq!(said(&model, STATUS), Some("WaitingForTrigger"));
        assert!(said(&model, SINCE).is_some());
        assert_eq!(copies(&model), 0, "no copy without leave");
        assert_eq!(model.says().0, "SyncInProgress");
        assert!(model.events.contains(&"SrcPVCWaitingForCopyTrigger"));
        assert!(model.plan().waits_for_user, "others may go first");

        user_says(&mut model, json!({"volsync.backube/copy-trigger": round}));
        model.settle();
        assert_eq!(said(&model, STATUS), Some("InProgress"));
        assert_eq!(said(&model, SINCE), None);
        assert_eq!(copies(&model), 1);
        assert!(model.events.contains(&"SrcPVCCopyTriggerReceived"));

        provision(&mut model);
        assert_eq!(said(&model, STATUS), Some("Completed"));
        assert_eq!(said(&model, LATEST), Some(round));
        assert!(
            model
                .events
                .contains(&"SrcPVCCopyUsingCopyTriggerCompleted")
        );
        assert!(model.object("Job", JOB).is_some());

        model.succeed();
        model.settle();
        assert_eq!(
            said(&model, STATUS),
            Some("Completed"),
            "the run's end changes nothing of it"
        );
        model.events.clear();
        model.edit(json!({"trigger": {"manual": format!("after {round}")}}));
    }
}

#[rstest]
fn whoever_waits_too_long_is_told_and_waited_for_further(
    #[values("Snapshot", "Clone")] method: &str,
) {
    let mut model = guarded(method);
    model.settle();
    let wake = model.plan().wake.unwrap();
    assert_eq!(wake, model.now + jiff::SignedDuration::from_mins(10));
    model.pass(599);
    assert_eq!(model.step(usize::MAX), 0);
    assert!(model.status()["latestMoverStatus"]["result"].is_null());
    model.pass(1);
    model.settle();
    assert_eq!(model.status()["latestMoverStatus"]["result"], "Failed");
    let logs = model.status()["latestMoverStatus"]["logs"]
        .as_str()
        .unwrap();
    assert!(
        logs.contains("timed out waiting for a copy trigger"),
        "{logs}"
    );
    assert!(model.events.contains(&"SrcPVCTimeoutWaitingForCopyTrigger"));
    assert_eq!(
        model.says().0,
        "SyncInProgress",
        "it is no error of the run"
    );
    for _ in 0..5 {
        model.pass(3600);
        assert_eq!(model.step(usize::MAX), 0, "and nothing more is written");
    }
    user_says(
        &mut model,
        json!({"volsync.backube/copy-trigger": "at last"}),
    );
    model.settle();
    provision(&mut model);
    model.succeed();
    model.settle();
    assert_eq!(model.status()["latestMoverStatus"]["result"], "Successful");
    assert_eq!(said(&model, LATEST), Some("at last"));
}

#[rstest]
fn an_empty_trigger_and_one_that_was_used_up_are_none(#[values("", "old")] trigger: &str) {
    let mut model = guarded("Snapshot");
    let used = json!({"volsync.backube/copy-trigger": trigger, LATEST: "old"});
    user_says(&mut model, used);
    model.settle();
    assert_eq!(said(&model, STATUS), Some("WaitingForTrigger"));
    assert_eq!(copies(&model), 0);
}

#[test]
fn a_trigger_that_comes_while_a_copy_is_made_is_for_the_next() {
    let mut model = guarded("Snapshot");
    user_says(&mut model, json!({"volsync.backube/copy-trigger": "one"}));
    model.settle();
    user_says(&mut model, json!({"volsync.backube/copy-trigger": "two"}));
    model.settle();
    provision(&mut model);
    assert_eq!(said(&model, LATEST), Some("one"));
    model.succeed();
    model.settle();
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.settle();
    assert_eq!(said(&model, STATUS), Some("InProgress"), "without waiting");
}

#[test]
fn a_clone_of_the_first_consumer_is_complete_when_the_movers_pod_has_bound_it() {
    let mut model = guarded("Clone");
    user_says(&mut model, json!({"volsync.backube/copy-trigger": "one"}));
    model.settle();
    assert!(
        model.object("Job", JOB).is_some(),
        "nothing waits for the other"
    );
    assert_eq!(said(&model, STATUS), Some("InProgress"));
    model.object_mut("PersistentVolumeClaim", COPY).unwrap()["status"] = json!({"phase": "Bound"});
    model.settle();
    assert_eq!(said(&model, STATUS), Some("Completed"));
}

#[rstest]
fn a_failed_run_keeps_the_copy_that_leave_was_given_for(
    #[values("Snapshot", "Clone")] method: &str,
) {
    let mut model = guarded(method);
    user_says(&mut model, json!({"volsync.backube/copy-trigger": "one"}));
    model.settle();
    provision(&mut model);
    let copy = model.object("PersistentVolumeClaim", COPY).unwrap().clone();
    model.fail();
    model.settle();
    assert_eq!(model.object("PersistentVolumeClaim", COPY), Some(&copy));
    model.pass(3600);
    model.settle();
    assert!(
        model.object("Job", JOB).is_some(),
        "the next try needs no new trigger"
    );
    user_says(&mut model, json!({"volsync.backube/copy-trigger": "two"}));
    model.fail();
    model.settle();
    assert_eq!(
        copies(&model),
        0,
        "with a new trigger there is to be a new copy"
    );
    model.pass(7200);
    model.settle();
    assert_eq!(said(&model, STATUS), Some("InProgress"));
}

#[test]
fn where_the_volume_itself_is_read_there_is_nothing_to_wait_for() {
    let mut model = guarded("Direct");
    model.settle();
    assert!(model.object("Job", JOB).is_some());
    assert_eq!(said(&model, STATUS), None);
}

#[test]
fn a_claim_without_the_annotation_is_never_written_to() {
    let mut model = Model::source(json!({"manual": "1"}), json!({}));
    user_says(
        &mut model,
        json!({"volsync.backube/copy-trigger": "ignored"}),
    );
    let before = model
        .object("PersistentVolumeClaim", "pvc-user")
        .unwrap()
        .clone();
    model.run_once();
    assert_eq!(
        model.object("PersistentVolumeClaim", "pvc-user"),
        Some(&before)
    );
    assert_eq!(model.status()["lastManualSync"], "1");
}
