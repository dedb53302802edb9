use serde_json::json;

use super::*;
use crate::printer::{Widths, aligned};

fn drawn(all: &[Relationship]) -> String {
    let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    aligned(&table(all, now), &mut Widths::default()).join("\n")
}

fn source() -> ReplicationSource {
    serde_json::from_value(json!({
        "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
        "metadata": {"name": "database", "namespace": "east"},
        "spec": {"sourcePVC": "database", "trigger": {"schedule": "*/5 * * * *"}, "rsync": {"copyMethod": "Clone", "address": "10.0.0.1"}},
        "status": {
            "lastSyncTime": "2026-11-21T11:58:30Z", "lastSyncDuration": "7.774288635s", "nextSyncTime": "2026-11-21T12:05:00Z",
            "progress": {"phase": "Transferring", "bytesDone": 50, "bytesTotal": 200},
            "conditions": [{"type": "Synchronizing", "status": "True", "reason": "SyncInProgress", "message": "Synchronization in-progress", "lastTransitionTime": "2026-11-21T11:00:00Z"}],
        },
    }))
    .unwrap()
}

#[test]
fn a_running_source_shows_how_far_it_is() {
    insta::assert_snapshot!(drawn(&[of_source(&source())]), @r"
    NAMESPACE   KIND     NAME       MOVER   STATE            LAST SYNC   TOOK   NEXT SYNC   PROGRESS           ADDRESS
    east        Source   database   rsync   SyncInProgress   90s ago     7.7s   in 5m       Transferring 25%   to 10.0.0.1
    ");
}

#[test]
fn trouble_is_told_with_the_number_of_tries() {
    let mut source = source();
    source.status = serde_json::from_value(json!({
        "retry": {"failures": 3},
        "conditions": [{"type": "Synchronizing", "status": "False", "reason": "Error", "message": "there is no Secret keys", "lastTransitionTime": "2026-11-21T11:00:00Z"}],
    }))
    .unwrap();
    let one = of_source(&source);
    assert_eq!(
        one.trouble.as_deref(),
        Some("there is no Secret keys (3 failed tries)")
    );
    assert_eq!(one.state, "Error");
    source.status.as_mut().unwrap().progress = Some(Progress::default());
    assert_eq!(
        of_source(&source).trouble.as_deref(),
        Some("there is no Secret keys (3 failed tries; another is under way)")
    );
}

#[test]
fn while_the_next_try_is_under_way_the_failed_ones_are_told_with_the_cause_of_the_last() {
    let told = |message: &str, rest: serde_json::Value| {
        let mut status = json!({
            "conditions": [{"type": "Synchronizing", "status": "True", "reason": "SyncInProgress", "message": message, "lastTransitionTime": "2026-11-21T11:00:00Z"}],
        });
        status
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        let mut source = source();
        source.status = serde_json::from_value(status).unwrap();
        let one = of_source(&source);
        (one.trouble.unwrap_or_default(), one.waits)
    };
    let plain = "Synchronization in-progress";
    let once = "Synchronization in-progress; the try before failed: no answer";
    let waits = "Synchronization in-progress: waiting for a first version at s3:bucket/typo";
    let waits_again = format!("{waits}; the try before failed (2 in a row): no answer");
    let retry = |failures: i32| json!({"retry": {"failures": failures, "cause": "no answer"}});
    let mut succeeded = retry(1);
    succeeded["lastSyncTime"] = json!("2026-11-20T11:00:00Z");
    let expected = [
        (told(plain, json!({})), "", None),
        (
            told(plain, json!({"retry": {"failures": 1}})),
            "1 failed try, no success yet",
            None,
        ),
        (
            told(once, retry(1)),
            "1 failed try, no success yet: no answer",
            None,
        ),
        (
            told(once, succeeded),
            "1 failed try since the last success: no answer",
            None,
        ),
        (
            told(&waits_again, retry(2)),
            "2 failed tries, no success yet: no answer",
            Some(waits),
        ),
        (
            told(once, json!({})),
            "the try before failed: no answer",
            None,
        ),
    ];
    for ((trouble, waited_for), wanted, wanted_wait) in expected {
        assert_eq!(
            (trouble.as_str(), waited_for.as_deref()),
            (wanted, wanted_wait)
        );
    }
}

#[test]
fn both_ends_of_a_path_in_a_store_show_it_and_what_is_waited_for_there() {
    let waits = "Synchronization in-progress: waiting for a first version at s3:bucket/typo";
    let source: ReplicationSource = serde_json::from_value(json!({
        "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
        "metadata": {"name": "database", "namespace": "east"},
        "spec": {"rclone": {"rcloneConfigSection": "s3", "rcloneDestPath": "bucket/db"}},
    }))
    .unwrap();
    let destination: ReplicationDestination = serde_json::from_value(json!({
        "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationDestination",
        "metadata": {"name": "database", "namespace": "west"},
        "spec": {"rclone": {"rcloneConfigSection": "s3", "rcloneDestPath": "bucket/typo"}},
        "status": {
            "progress": {"phase": "Waiting"},
            "conditions": [{"type": "Synchronizing", "status": "True", "reason": "SyncInProgress", "message": waits, "lastTransitionTime": "2026-11-21T11:00:00Z"}],
        },
    }))
    .unwrap();
    let destination = of_destination(&destination, &[]);
    assert_eq!(destination.waits.as_deref(), Some(waits));
    insta::assert_snapshot!(drawn(&[of_source(&source), destination]), @r"
    NAMESPACE   KIND          NAME       MOVER    STATE     LAST SYNC   TOOK   NEXT SYNC   PROGRESS   ADDRESS
    east        Source        database   rclone   New       never       -      -           -          to s3:bucket/db
    west        Destination   database   rclone   Waiting   never       -      -           Waiting    from s3:bucket/typo
    ");
}

#[test]
fn what_was_not_preserved_is_told() {
    let mut source = source();
    let with = |status: &str| {
        serde_json::from_value(json!({
            "conditions": [{"type": "Preserved", "status": status, "reason": "X", "message": "owners", "lastTransitionTime": "2026-11-21T11:00:00Z"}],
        }))
        .unwrap()
    };
    source.status = with("False");
    assert_eq!(of_source(&source).unpreserved.as_deref(), Some("owners"));
    source.status = with("True");
    assert_eq!(of_source(&source).unpreserved, None);
}

#[test]
fn a_destination_shows_where_it_listens() {
    let destination: ReplicationDestination = serde_json::from_value(json!({
        "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationDestination",
        "metadata": {"name": "database", "namespace": "west"}, "spec": {"rsync": {}, "paused": true},
        "status": {"rsync": {"address": "127.96.0.7", "port": 2022}},
    }))
    .unwrap();
    insta::assert_snapshot!(drawn(&[of_destination(&destination, &[])]), @r"
    NAMESPACE   KIND          NAME       MOVER   STATE          LAST SYNC   TOOK   NEXT SYNC   PROGRESS   ADDRESS
    west        Destination   database   rsync   New (paused)   never       -      -           -          127.96.0.7:2022
    ");
}

#[test]
fn a_destination_without_a_running_transfer_is_listening() {
    let with = |message: &str| -> ReplicationDestination {
        serde_json::from_value(json!({
            "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationDestination",
            "metadata": {"name": "database", "namespace": "west"}, "spec": {"rsync": {}},
            "status": {
                "rsync": {"address": "10.0.0.1", "port": 2022},
                "conditions": [{"type": "Synchronizing", "status": "True", "reason": "SyncInProgress", "message": message, "lastTransitionTime": "2026-11-21T11:00:00Z"}],
            },
        }))
        .unwrap()
    };
    let idle = with("Synchronization in-progress");
    assert_eq!(of_destination(&idle, &[]).state, "Listening");
    let sending = sending(&[source()]);
    assert_eq!(of_destination(&idle, &sending).state, "SyncInProgress");
    let after_a_failure = with("Synchronization in-progress; the try before failed: no answer");
    assert_eq!(of_destination(&after_a_failure, &[]).state, "Listening");
    let held = with("Waiting for an address of the mover's Service");
    assert_eq!(of_destination(&held, &[]).state, "SyncInProgress");
}

#[test]
fn a_schedule_that_rests_is_remarked_upon_and_one_try_is_one() {
    let mut source = source();
    assert_eq!(of_source(&source).remark, None);
    source.spec.trigger.as_mut().unwrap().manual = Some("once".to_owned());
    assert!(of_source(&source).remark.is_some());
    assert_eq!(
        (failed(1), failed(2)),
        ("1 failed try".to_owned(), "2 failed tries".to_owned())
    );
}
