//! What is corrected while a run of rclone fails is tried as soon as nothing is in flight.

use serde_json::json;
use syncline_api::report::{Report, Role};

use super::model::Model;

/// The first try of a run is at work.
fn running() -> Model {
    let mut model = Model::rclone_source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.settle();
    model.mover_runs();
    model.settle();
    model
}

fn try_fails(model: &mut Model) {
    let report = Report::failed("rclone", Role::Source, "StoreRefused", "no");
    model.pod_ends(&report, false);
}

fn uid(model: &Model) -> String {
    let job = model.object("Job", &model.job_name()).expect("a Job");
    job["metadata"]["uid"].to_string()
}

#[test]
fn a_run_goes_on_with_its_own_spec_until_its_try_has_failed_and_then_makes_way() {
    let mut model = running();
    let first = uid(&model);
    model.edit(json!({"rclone": {"rcloneDestPath": "bucket/right"}}));
    model.settle();
    assert_eq!(uid(&model), first, "it may still come through");
    try_fails(&mut model);
    model.settle();
    assert_ne!(uid(&model), first);
}

#[test]
fn a_secret_that_is_corrected_between_two_tries_is_used_at_once() {
    let mut model = running();
    let first = uid(&model);
    try_fails(&mut model);
    model.settle();
    assert_eq!(uid(&model), first, "nothing was corrected");
    model.put_store();
    model.settle();
    assert_ne!(uid(&model), first);
}

#[test]
fn a_secret_that_was_corrected_during_the_last_try_is_used_without_a_wait() {
    let mut model = running();
    let first = uid(&model);
    model.put_store();
    model.fail();
    model.settle();
    assert_ne!(uid(&model), first);
}
