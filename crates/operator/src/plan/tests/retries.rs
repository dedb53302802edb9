//! What is known of a try that failed while the next one is under way.

use rstest::rstest;
use serde_json::{Value, json};
use syncline_api::report::{Report, Role};
use syncline_api::status::Progress;

use super::model::Model;

const CAUSE: &str = "the source mover failed (PeerUnreachable): dst.example does not answer";
const DOING: &str = "Synchronization in-progress";

fn source() -> Model {
    Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}))
}

/// A run fails, and the time until the next comes.
fn a_try_fails(model: &mut Model) {
    model.settle();
    model.fail();
    model.settle();
    assert_eq!(model.says().0, "Error");
    model.pass(900);
}

/// What is said of a run under way.
fn in_progress(model: &mut Model) -> String {
    model.settle();
    let (reason, message) = model.says();
    assert_eq!(reason, "SyncInProgress", "{message}");
    message
}

#[rstest]
#[case::under_our_definitions(false)]
#[case::under_volsyncs(true)]
fn the_cause_of_the_last_failed_try_is_told_until_one_succeeds(#[case] prunes: bool) {
    let mut model = source();
    model.prunes = prunes;
    a_try_fails(&mut model);
    if !prunes {
        assert_eq!(model.status()["retry"]["cause"], CAUSE);
    }
    let told = in_progress(&mut model);
    assert_eq!(told, format!("{DOING}; the try before failed: {CAUSE}"));
    a_try_fails(&mut model);
    let told = in_progress(&mut model);
    assert_eq!(
        told,
        format!("{DOING}; the try before failed (2 in a row): {CAUSE}")
    );
    let failed = model.events.iter();
    let failed = failed.filter(|reason| **reason == "TransferFailed");
    assert_eq!(failed.count(), 2, "each failure is one event");
    model.succeed();
    model.settle();
    assert!(model.status()["retry"].is_null());
    model.edit(json!({"trigger": {"manual": "2"}}));
    assert_eq!(in_progress(&mut model), DOING);
}

#[test]
fn why_a_try_within_the_job_failed_is_told_when_the_next_gets_data_across() {
    let mut model = source();
    model.settle();
    model.mover_runs();
    let report = Report::failed("rsync", Role::Source, "ConnectionLost", "it broke off");
    model.pod_ends(&report, false);
    model.settle();
    let cause = "the source mover failed (ConnectionLost): it broke off";
    assert_eq!(model.says(), ("Error".to_owned(), cause.to_owned()));
    let first = format!("{}-x", model.job_name());
    let owners = model.object("Pod", &first).unwrap()["metadata"]["ownerReferences"].clone();
    let second = json!({"metadata": {"ownerReferences": owners}, "status": {"phase": "Running"}});
    model.put("Pod", "second", second);
    model.progress = Some(Progress {
        bytes_done: Some(7),
        ..Progress::default()
    });
    let told = in_progress(&mut model);
    assert_eq!(told, format!("{DOING}; the try before failed: {cause}"));
}

#[rstest]
#[case::of_the_spec(source(), Some(json!({"rsync": {"address": "right.example"}})))]
#[case::of_the_store(Model::rclone_source(json!({"manual": "1"}), json!({"copyMethod": "Direct"})), None)]
fn after_a_correction_an_old_cause_is_not_told(
    #[case] mut model: Model,
    #[case] change: Option<Value>,
) {
    a_try_fails(&mut model);
    match change {
        Some(change) => model.edit(change),
        None => model.put_store(),
    }
    assert_eq!(in_progress(&mut model), DOING);
    assert_eq!(model.status()["retry"], json!({"failures": 1}));
}

#[test]
fn what_a_destination_waits_for_is_told_before_the_cause() {
    let mut model = Model::rclone_destination(json!(null), json!({"copyMethod": "Direct"}));
    a_try_fails(&mut model);
    model.settle();
    model.mover_runs();
    model.progress = Some(Progress {
        phase: Some("Waiting".to_owned()),
        ..Progress::default()
    });
    let told = in_progress(&mut model);
    assert_eq!(
        told,
        format!(
            "{DOING}: waiting for a first version at s3:bucket/db; if its source has run, correct spec.rclone.rcloneDestPath; \
             the try before failed: the destination mover failed (PeerUnreachable): dst.example does not answer"
        )
    );
}

#[test]
fn a_try_that_waits_for_its_turn_tells_the_cause_too() {
    let mut model = source();
    a_try_fails(&mut model);
    model.may_start = false;
    model.settle();
    let told = model.says().1;
    assert!(
        told.starts_with("Waiting for other transfers")
            && told.ends_with(&format!("; the try before failed: {CAUSE}")),
        "{told}"
    );
}

#[test]
fn what_was_wrong_during_the_wait_for_the_next_try_is_not_told_for_longer_than_it_lasts() {
    let mut model = source();
    model.edit(json!({"rsync": {"sshKeys": "mine"}}));
    let keys = json!({"data": {"source": "eA==", "source.pub": "eA==", "destination.pub": "eA=="}});
    model.put("Secret", "mine", keys.clone());
    model.settle();
    model.fail();
    model.settle();
    let key = ("Secret".to_owned(), "mine".to_owned());
    model.objects.remove(&key);
    model.settle();
    assert!(model.says().1.starts_with("waiting for Secret site-a/mine"));
    model.put("Secret", "mine", keys);
    model.settle();
    assert_eq!(model.says(), ("Error".to_owned(), CAUSE.to_owned()));
    assert!(model.names("Job").is_empty(), "it still waits");
}
