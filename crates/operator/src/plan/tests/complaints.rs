//! What keeps a run from beginning is one event for each cause, whoever looks and however often.

use rstest::rstest;
use serde_json::{Value, json};

use super::model::Model;

fn source(change: Value) -> Model {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.edit(change);
    model
}

fn rclone_source(secret: Option<Value>) -> Model {
    let mut model = Model::rclone_source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    match secret {
        Some(data) => model.put("Secret", "store", json!({"data": data})),
        None => {
            model.objects.remove(&("Secret".into(), "store".into()));
        }
    }
    model
}

#[rstest]
#[case(source(json!({"rsync": {"copyMethod": null}})), "InvalidSpec")]
#[case(source(json!({"sourcePVC": "gone"})), "PersistentVolumeClaimMissing")]
#[case(source(json!({"rsync": {"sshKeys": "mine"}})), "SecretMissing")]
#[case(source(json!({"rsync": {"moverServiceAccount": "me"}})), "ServiceAccountMissing")]
#[case(rclone_source(None), "SecretMissing")]
#[case(rclone_source(Some(json!({}))), "SecretIncomplete")]
#[case(rclone_source(Some(json!({"rclone.conf": "W290aGVyXQo="}))), "SectionMissing")]
fn what_is_wrong_before_a_run_is_one_event(#[case] mut model: Model, #[case] reason: &str) {
    model.settle();
    let (_, message) = model.says();
    assert_eq!(model.events, [reason], "{message}");
    // Another operator, another day, another spec with the same mistake.
    model.pass(86_400);
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.settle();
    assert_eq!(model.says(), ("Error".to_owned(), message));
    assert_eq!(model.events, [reason]);
}

#[test]
fn the_event_says_what_the_condition_says() {
    let mut model = source(json!({"rsync": {"sshKeys": "mine"}}));
    let event = model.plan().events.remove(0);
    model.settle();
    assert_eq!(event.text, model.says().1);
    assert!(event.warning);
}

#[test]
fn another_cause_is_another_event() {
    let mut model = source(json!({"rsync": {"sshKeys": "mine"}}));
    model.settle();
    model.put("Secret", "mine", json!({"data": {"source": "eA=="}}));
    model.settle();
    assert_eq!(model.events, ["SecretMissing", "SecretIncomplete"]);
}

#[test]
fn a_driver_that_finds_other_words_each_time_is_one_event() {
    let mut model = Model::source(json!({"manual": "1"}), json!({}));
    model.settle();
    for words in ["request 1 failed", "request 2 failed"] {
        let copy = model
            .object_mut("VolumeSnapshot", "volsync-db-src")
            .unwrap();
        copy["status"] = json!({"readyToUse": false, "error": {"message": words}});
        model.settle();
        let (_, message) = model.says();
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(
        model.events,
        ["VolumeSnapshotCreated", "VolumeSnapshotFailed"]
    );
}

#[test]
fn an_address_that_does_not_come_is_one_event_of_a_look() {
    let balanced = json!({"serviceType": "LoadBalancer"});
    let mut model = Model::destination(json!({"manual": "1"}), balanced);
    model.settle();
    model.pass(20);
    let events = model.plan().events;
    let reasons: Vec<&str> = events.iter().map(|note| note.reason).collect();
    assert_eq!(reasons, ["NoServiceAddressAssigned"]);
}
