//! What the metrics are told.

use serde_json::json;

use super::model::Model;
use crate::metrics::Measure::{self, MissedInterval, OutOfSync, Synchronized};

fn measures(model: &Model) -> Vec<Measure> {
    model.plan().measures
}

#[test]
fn a_volume_is_out_of_sync_until_its_first_run_has_ended() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    assert_eq!(measures(&model), [OutOfSync(true)]);
    model.settle();
    model.pass(7);
    model.succeed();
    assert_eq!(
        measures(&model),
        [OutOfSync(true), Synchronized(7.0), OutOfSync(false)]
    );
    model.settle();
    assert_eq!(measures(&model), [OutOfSync(false)]);
}

#[test]
fn a_missed_deadline_raises_the_gauge_when_it_passes_and_counts_when_the_run_ends() {
    let schedule = json!({"schedule": "*/10 * * * *"});
    let mut model = Model::source(schedule, json!({"copyMethod": "Direct"}));
    model.run_once();
    model.pass(600);
    model.settle();
    model.mover_runs();
    assert_eq!(measures(&model), [OutOfSync(false)], "it is on its way");
    let deadline = "2026-01-01T00:20:01Z".parse().unwrap();
    assert_eq!(model.plan().wake, Some(deadline));
    model.pass(571);
    assert_eq!(measures(&model), [OutOfSync(true)]);
    model.succeed();
    let told = measures(&model);
    assert_eq!(told[..2], [OutOfSync(true), MissedInterval]);
    assert_eq!(told.last(), Some(&OutOfSync(false)));
    model.settle();
    assert_eq!(measures(&model), [OutOfSync(false)]);
}

#[test]
fn a_schedule_that_cannot_be_read_does_not_say_that_all_is_well() {
    let schedule = json!({"schedule": "*/10 * * * *"});
    let mut model = Model::source(schedule, json!({"copyMethod": "Direct"}));
    model.run_once();
    model.edit(json!({"trigger": {"schedule": "nonsense"}}));
    model.settle();
    assert_eq!(measures(&model), []);
}
