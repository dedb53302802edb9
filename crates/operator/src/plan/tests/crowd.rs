//! Many that keep failing: what they cost together, and how they find out that it is over.

use rstest::rstest;
use serde_json::json;

use super::model::Model;

const JOB: &str = "volsync-rsync-src-db";

/// Lets a run begin and fail; returns how many writes that took, events among them.
fn attempt(model: &mut Model) -> usize {
    let (mut writes, events) = (0, model.events.len());
    let mut settle = |model: &mut Model| {
        for _ in 0..50 {
            match model.step(usize::MAX) {
                0 => return,
                more => writes += more,
            }
        }
        panic!("{:?} does not come to rest", model.says());
    };
    settle(model);
    model.snapshots_become_ready();
    settle(model);
    assert!(model.object("Job", JOB).is_some(), "{:?}", model.says());
    model.fail();
    settle(model);
    assert!(model.object("Job", JOB).is_none());
    writes + model.events.len() - events
}

/// Passes the time until the next look; returns how many seconds that were.
fn wait(model: &mut Model) -> i64 {
    let wake = model.plan().wake.expect("somebody has to look again");
    let seconds = wake.duration_since(model.now).as_secs() + 1;
    model.pass(seconds);
    seconds
}

#[rstest]
#[case::from_the_volume_itself("Direct")]
#[case::from_a_snapshot("Snapshot")]
fn a_thousand_sources_that_keep_failing_cost_at_most_fifty_writes_a_minute(#[case] method: &str) {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": method}));
    (model.failing, model.jitter) = (1_000, 0.5);
    for _ in 0..4 {
        attempt(&mut model);
        wait(&mut model);
    }
    let writes = attempt(&mut model);
    let seconds = usize::try_from(wait(&mut model)).unwrap();
    let each_minute = 1_000 * writes * 60 / seconds;
    assert!(
        each_minute <= 50,
        "{writes} writes each {seconds} s are {each_minute} a minute"
    );
}

#[test]
fn who_is_called_tries_before_its_time() {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    model.failing = 1_000;
    for _ in 0..4 {
        attempt(&mut model);
        wait(&mut model);
    }
    attempt(&mut model);
    model.pass(600);
    assert_eq!(model.step(usize::MAX), 0, "it waits for its turn");
    model.called = true;
    model.step(usize::MAX);
    model.called = false;
    model.settle();
    assert!(model.object("Job", JOB).is_some(), "{:?}", model.says());
}
