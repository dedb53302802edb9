use rstest::rstest;
use serde_json::{Value, json};

use super::model::{Model, NAMESPACE};

const COPY: &str = "volsync-db-src";
const JOB: &str = "volsync-rsync-src-db";

fn env<'a>(job: &'a Value, name: &str) -> Option<&'a str> {
    let all = job["spec"]["template"]["spec"]["containers"][0]["env"]
        .as_array()
        .unwrap();
    all.iter().find(|variable| variable["name"] == name)?["value"].as_str()
}

#[test]
fn the_first_run_does_not_wait_for_the_schedule() {
    let mut model = Model::source(
        json!({"schedule": "0 0 1 1 *"}),
        json!({"copyMethod": "Direct"}),
    );
    model.settle();
    assert_eq!(model.says().0, "SyncInProgress");
    assert!(model.object("Job", JOB).is_some());
}

#[test]
fn a_snapshot_is_waited_for_and_the_copy_made_from_it() {
    let mut model = Model::source(json!({"manual": "1"}), json!({}));
    model.settle();
    assert!(model.object("VolumeSnapshot", COPY).is_some());
    assert!(
        model.object("PersistentVolumeClaim", COPY).is_none() && model.object("Job", JOB).is_none()
    );
    model.snapshots_become_ready();
    model.settle();
    let copy = model.object("PersistentVolumeClaim", COPY).unwrap();
    assert_eq!(copy["spec"]["dataSource"]["kind"], "VolumeSnapshot");
    assert_eq!(
        copy["spec"]["resources"]["requests"]["storage"], "2Gi",
        "the snapshot's restore size"
    );
    assert_eq!(copy["spec"]["storageClassName"], "fast");
    let job = model.object("Job", JOB).unwrap();
    assert_eq!(
        job["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"],
        COPY
    );
}

#[test]
fn a_clone_takes_the_sources_size_class_and_modes_unless_told_otherwise() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Clone"}));
    model.settle();
    let copy = model.object("PersistentVolumeClaim", COPY).unwrap();
    assert_eq!(
        copy["spec"]["dataSource"],
        json!({"kind": "PersistentVolumeClaim", "name": "pvc-user"})
    );
    assert_eq!(
        copy["spec"]["resources"]["requests"]["storage"], "3Gi",
        "what the source got, not what it asked for"
    );
    let rsync = json!({"copyMethod": "Clone", "capacity": "9Gi", "storageClassName": "slow", "accessModes": ["ReadOnlyMany"]});
    let mut model = Model::source(json!({"manual": "1"}), rsync);
    model.settle();
    let copy = model.object("PersistentVolumeClaim", COPY).unwrap();
    assert_eq!(copy["spec"]["resources"]["requests"]["storage"], "9Gi");
    assert_eq!(copy["spec"]["storageClassName"], "slow");
    assert_eq!(copy["spec"]["accessModes"], json!(["ReadOnlyMany"]));
}

#[test]
fn a_success_is_recorded_and_everything_temporary_goes() {
    let mut model = Model::source(json!({"manual": "first"}), json!({}));
    model.run_once();
    let status = model.status();
    assert_eq!(status["lastManualSync"], "first");
    assert_eq!(status["lastSyncTime"], "2026-01-01T00:00:30Z");
    assert!(status["lastSyncStartTime"].is_null());
    assert_eq!(
        status["latestMoverStatus"],
        json!({"result": "Successful", "logs": "sent 10 bytes  received 20 bytes"})
    );
    assert_eq!(status["rsync"]["lastSyncedEntries"], 7);
    assert_eq!(model.says().0, "WaitingForManual");
    assert_eq!(model.names("PersistentVolumeClaim"), ["pvc-user"]);
    assert!(model.names("VolumeSnapshot").is_empty() && model.names("Job").is_empty());
}

#[test]
fn a_schedule_runs_once_for_all_the_times_it_missed() {
    let mut model = Model::source(
        json!({"schedule": "*/10 * * * *"}),
        json!({"copyMethod": "Direct"}),
    );
    model.run_once();
    assert_eq!(model.status()["nextSyncTime"], "2026-01-01T00:10:00Z");
    assert_eq!(model.says().0, "WaitingForSchedule");
    assert_eq!(
        model.plan().wake,
        Some("2026-01-01T00:10:00Z".parse().unwrap())
    );
    model.pass(3 * 3600);
    model.run_once();
    assert_eq!(model.status()["nextSyncTime"], "2026-01-01T03:10:00Z");
    assert!(model.object("Job", JOB).is_none());
}

#[test]
fn an_edited_schedule_takes_effect_between_runs() {
    let mut model = Model::source(
        json!({"schedule": "0 12 * * *"}),
        json!({"copyMethod": "Direct"}),
    );
    model.run_once();
    model.edit(json!({"trigger": {"schedule": "0 6 * * *"}}));
    model.settle();
    assert_eq!(model.status()["nextSyncTime"], "2026-01-01T06:00:00Z");
    model.edit(json!({"trigger": {"schedule": null, "manual": "now"}}));
    model.settle();
    assert!(model.status()["nextSyncTime"].is_null());
    assert_eq!(model.says().0, "SyncInProgress");
}

#[test]
fn a_run_ends_with_the_arguments_it_started_with() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.settle();
    let before = model.object("Job", JOB).unwrap().clone();
    model.edit(json!({"rsync": {"address": "elsewhere.example", "copyMethod": "Clone", "moverPodLabels": {"a": "b"}}}));
    model.settle();
    assert_eq!(model.object("Job", JOB).unwrap(), &before);
    model.edit(json!({"rsync": null, "restic": {"repository": "r"}}));
    model.settle();
    assert_eq!(model.object("Job", JOB).unwrap(), &before);
    assert_eq!(model.says().0, "SyncInProgress");
    model.succeed();
    model.settle();
    assert!(model.object("Job", JOB).is_none());
    assert_eq!(model.status()["latestMoverStatus"]["result"], "Successful");
    let (reason, message) = model.says();
    assert_eq!(reason, "Error");
    assert!(message.contains("spec.restic"), "{message}");
}

#[test]
fn a_manual_tag_is_the_one_read_when_the_run_ends() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.settle();
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.succeed();
    model.settle();
    assert_eq!(model.status()["lastManualSync"], "2");
}

#[test]
fn paused_holds_the_job_and_nothing_else() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.edit(json!({"paused": true}));
    model.settle();
    assert_eq!(model.object("Job", JOB).unwrap()["spec"]["parallelism"], 0);
    model.edit(json!({"paused": false}));
    model.settle();
    assert_eq!(model.object("Job", JOB).unwrap()["spec"]["parallelism"], 1);
}

#[test]
fn a_failure_is_told_waits_longer_each_time_and_takes_a_new_copy() {
    let mut model = Model::source(json!({"manual": "1"}), json!({}));
    model.settle();
    for wait in [10, 20, 40] {
        model.snapshots_become_ready();
        model.settle();
        let copy = model.object("PersistentVolumeClaim", COPY).unwrap()["metadata"]["uid"].clone();
        model.fail();
        model.settle();
        assert_eq!(
            model.says(),
            (
                "Error".into(),
                "the source mover failed (PeerUnreachable): dst.example does not answer".into()
            )
        );
        assert_eq!(
            model.status()["latestMoverStatus"],
            json!({"result": "Failed", "logs": "ssh: connect: refused"})
        );
        assert_eq!(model.events.last(), Some(&"TransferFailed"));
        assert!(
            model.object("Job", JOB).is_none() && model.object("VolumeSnapshot", COPY).is_none()
        );
        model.pass(wait - 1);
        model.settle();
        assert!(
            model.object("VolumeSnapshot", COPY).is_none(),
            "still waiting after {} s",
            wait - 1
        );
        model.pass(2);
        model.settle();
        model.snapshots_become_ready();
        model.settle();
        assert_ne!(
            model.object("PersistentVolumeClaim", COPY).unwrap()["metadata"]["uid"],
            copy
        );
    }
    assert_eq!(model.status()["retry"]["failures"], 3);
    model.succeed();
    model.settle();
    assert!(model.status()["retry"].is_null());
}

#[test]
fn a_corrected_spec_is_tried_at_once() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.settle();
    model.fail();
    model.settle();
    assert!(model.object("Job", JOB).is_none());
    model.edit(json!({"rsync": {"address": "right.example"}}));
    model.settle();
    assert_eq!(
        env(model.object("Job", JOB).unwrap(), "DESTINATION_ADDRESS"),
        Some("right.example")
    );
}

#[test]
fn the_guard_against_an_empty_source_knows_the_last_count_and_its_exception_once() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.resource["metadata"]["annotations"] = json!({"syncline.dev/allow-empty-source": "yes-1"});
    model.settle();
    assert_eq!(
        env(model.object("Job", JOB).unwrap(), "LAST_SYNCED_ENTRIES"),
        None
    );
    assert_eq!(
        env(model.object("Job", JOB).unwrap(), "ALLOW_EMPTY_SOURCE"),
        Some("1")
    );
    model.succeed();
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.settle();
    assert!(
        model.status()["rsync"]["allowedEmptySource"].is_null(),
        "a source that was not empty uses nothing up"
    );
    model.edit(json!({"trigger": {"manual": "3"}}));
    model.settle();
    let job = model.object("Job", JOB).unwrap();
    assert_eq!(
        (
            env(job, "LAST_SYNCED_ENTRIES"),
            env(job, "ALLOW_EMPTY_SOURCE")
        ),
        (Some("7"), Some("1"))
    );
    let mut report =
        syncline_api::report::Report::successful("rsync", syncline_api::report::Role::Source);
    report.entries = Some(0);
    model.end_job(&report, true);
    model.settle();
    assert_eq!(model.status()["rsync"]["allowedEmptySource"], "yes-1");
    model.edit(json!({"trigger": {"manual": "4"}}));
    model.settle();
    let job = model.object("Job", JOB).unwrap();
    assert_eq!(
        (
            env(job, "LAST_SYNCED_ENTRIES"),
            env(job, "ALLOW_EMPTY_SOURCE")
        ),
        (Some("0"), None)
    );
}

#[test]
fn without_a_free_place_a_run_waits_and_says_so() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.may_start = false;
    model.settle();
    assert_eq!(model.says().0, "WaitingForManual");
    assert!(model.object("Job", JOB).is_none());
    model.may_start = true;
    model.settle();
    assert!(model.object("Job", JOB).is_some());
}

#[test]
fn keys_made_here_are_published_for_the_other_side() {
    let mut model = Model::source(
        json!({"manual": "1"}),
        json!({"address": null, "copyMethod": "Direct"}),
    );
    model.settle();
    assert_eq!(
        model.status()["rsync"]["sshKeys"],
        "volsync-rsync-src-dest-db"
    );
    let keys = |name: &str| {
        let data = model.object("Secret", name).unwrap()["data"]
            .as_object()
            .unwrap()
            .clone();
        data.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(
        keys("volsync-rsync-src-main-db"),
        ["destination", "destination.pub", "source", "source.pub"]
    );
    assert_eq!(
        keys("volsync-rsync-src-src-db"),
        ["destination.pub", "source", "source.pub"]
    );
    assert_eq!(
        keys("volsync-rsync-src-dest-db"),
        ["destination", "destination.pub", "source.pub"]
    );
    assert!(model.says().1.contains("spec.rsync.address"));
    assert!(
        model.object("Service", JOB).is_some(),
        "VolSync makes one too"
    );
    model.edit(json!({"rsync": {"address": "dst.example"}}));
    model.settle();
    let job = model.object("Job", JOB).unwrap();
    assert_eq!(
        job["spec"]["template"]["spec"]["volumes"][1]["secret"]["secretName"],
        "volsync-rsync-src-src-db"
    );
}

#[rstest]
#[case(json!({"phase": "Running"}), Some("host-1"))]
#[case(json!({"phase": "Pending"}), Some("host-1"))]
#[case(json!({"phase": "Succeeded"}), None)]
fn a_volume_in_use_is_read_on_the_node_that_uses_it(
    #[case] status: Value,
    #[case] expected: Option<&str>,
) {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.step(usize::MAX);
    model.step(usize::MAX);
    model.objects.remove(&("Job".to_owned(), JOB.to_owned()));
    let mut world = model.world();
    let pod = json!({"metadata": {"name": "app", "namespace": NAMESPACE}, "status": status,
        "spec": {"nodeName": "node-1", "containers": [], "tolerations": [{"key": "gpu"}], "volumes": [
            {"name": "v", "persistentVolumeClaim": {"claimName": "pvc-user"}}]}});
    world.users = vec![serde_json::from_value(pod).unwrap()];
    let node =
        json!({"metadata": {"name": "node-1", "labels": {"kubernetes.io/hostname": "host-1"}}});
    world.nodes = vec![serde_json::from_value(node).unwrap()];
    let plan = model.plan_with(&world);
    let crate::plan::Object::Job(job) = plan.apply.last().unwrap() else {
        panic!("{plan:#?}")
    };
    let spec = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    let selected = spec
        .node_selector
        .as_ref()
        .map(|labels| labels["kubernetes.io/hostname"].as_str());
    assert_eq!(selected, expected);
    assert_eq!(spec.tolerations.is_some(), expected.is_some());
}

#[test]
fn a_node_that_cannot_be_selected_is_named_and_looked_at_again_later_each_time() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.step(usize::MAX);
    let mut world = model.world();
    let pod = json!({"metadata": {"name": "app", "namespace": NAMESPACE}, "status": {"phase": "Running"},
        "spec": {"nodeName": "node-1", "containers": [], "volumes": [
            {"name": "v", "persistentVolumeClaim": {"claimName": "pvc-user"}}]}});
    world.users = vec![serde_json::from_value(pod).unwrap()];
    world.nodes = vec![serde_json::from_value(json!({"metadata": {"name": "node-1"}})).unwrap()];
    for (passed, wait) in [(0, 10), (40, 40), (60, 100), (90_000, 600)] {
        model.pass(passed);
        let plan = model.plan_with(&world);
        let told = plan.status.unwrap().conditions;
        assert!(told[0].message.contains("label the node"), "{told:?}");
        assert!(plan.apply.is_empty());
        assert_eq!(
            plan.wake,
            Some(model.now + jiff::SignedDuration::from_secs(wait))
        );
    }
}

#[test]
fn a_copy_that_held_still_is_said_to_be_consistent_and_without_a_word_nothing_is_said() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Clone"}));
    model.settle();
    model.object_mut("PersistentVolumeClaim", COPY).unwrap()["metadata"]["annotations"] =
        json!({"embedded.syncline.dev/consistency": "atomic"});
    model.succeed();
    model.settle();
    let said = |model: &Model| {
        let conditions = model.status()["conditions"].as_array().unwrap();
        conditions
            .iter()
            .find(|condition| condition["type"] == "Consistent")
            .map(|condition| condition["reason"].clone())
    };
    assert_eq!(said(&model), Some(json!("Atomic")));
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.run_once();
    assert_eq!(said(&model), None);
}

#[test]
fn a_container_that_could_not_be_started_is_told_in_the_nodes_words() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.settle();
    let job = model.object_mut("Job", JOB).unwrap();
    job["status"] = json!({"failed": 3, "conditions": [{"type": "Failed", "status": "True"}]});
    let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": JOB, "uid": job["metadata"]["uid"]});
    model.put("Pod", "mover", json!({"metadata": {"ownerReferences": [owner]}, "status": {"phase": "Failed",
        "containerStatuses": [{"name": "rsync", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state":
            {"terminated": {"exitCode": 128, "reason": "StartError", "message": "no such file"}}}]}}));
    model.settle();
    assert_eq!(
        model.says().1,
        "the source mover failed: it ended with exit code 128: no such file"
    );
}

#[test]
fn the_first_failure_within_a_job_is_told_until_data_moves() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.settle();
    let owner = model.object("Job", JOB).unwrap()["metadata"]["uid"].clone();
    let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": JOB, "uid": owner}]);
    let report = syncline_api::report::Report::failed(
        "rsync",
        syncline_api::report::Role::Source,
        "PeerUnreachable",
        "no answer",
    );
    let ended = json!({"name": "rsync", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 1, "message": report.to_termination_message()}}});
    model.put(
        "Pod",
        "first",
        json!({"metadata": {"ownerReferences": owner},
        "status": {"phase": "Failed", "containerStatuses": [ended]}}),
    );
    model.put(
        "Pod",
        "second",
        json!({"metadata": {"ownerReferences": owner}, "status": {"phase": "Running"}}),
    );
    model.settle();
    assert_eq!(
        model.says(),
        (
            "Error".into(),
            "the source mover failed (PeerUnreachable): no answer".into()
        )
    );
    assert!(model.object("Job", JOB).is_some());
    let mut world = model.world();
    world.progress = Some(syncline_api::status::Progress {
        bytes_done: Some(9),
        ..Default::default()
    });
    let state = model.plan_with(&world).status.unwrap();
    assert_eq!(
        state.condition("Synchronizing").unwrap().reason,
        "SyncInProgress"
    );
    assert_eq!(state.progress.unwrap().bytes_done, Some(9));
}
