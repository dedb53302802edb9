//! When runs are due.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use proptest::prelude::*;
use syncline_api::movers::TriggerSpec;
use syncline_schedule::{Assessment, History, Trigger};

fn trigger(schedule: &str, manual: &str) -> Trigger {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let spec = TriggerSpec {
        schedule: text(schedule),
        manual: text(manual),
    };
    Trigger::from_spec(Some(&spec)).expect("it can be read")
}

fn at(time: &str) -> Timestamp {
    time.parse().expect("a time")
}

fn synced(time: &str) -> History<'static> {
    History {
        last_sync_time: Some(at(time)),
        last_manual_sync: None,
    }
}

fn assess(trigger: &Trigger, history: History<'_>, now: &str) -> Assessment {
    trigger
        .assess(history, at(now), &TimeZone::UTC)
        .expect("it fires")
}

#[test]
fn manual_comes_before_schedule_and_schedule_before_none() {
    assert_eq!(
        trigger("@hourly", "once"),
        Trigger::Manual("once".to_owned())
    );
    assert!(matches!(trigger("@hourly", ""), Trigger::Schedule(_)));
    assert_eq!(trigger("", ""), Trigger::None);
    assert_eq!(Trigger::from_spec(None), Ok(Trigger::None));
}

#[test]
fn a_bad_schedule_beside_a_manual_trigger_does_no_harm() {
    assert_eq!(trigger("junk", "once"), Trigger::Manual("once".to_owned()));
}

#[test]
fn empty_texts_are_as_good_as_absent_ones() {
    let spec = TriggerSpec {
        schedule: Some(String::new()),
        manual: Some(String::new()),
    };
    assert_eq!(Trigger::from_spec(Some(&spec)), Ok(Trigger::None));
}

#[test]
fn the_first_run_does_not_wait_for_the_schedule() {
    let yearly = trigger("0 0 1 1 *", "");
    let first = assess(&yearly, History::default(), "2026-11-21T12:00:00Z");
    assert_eq!(
        first,
        Assessment {
            due: true,
            next_sync_time: None,
            missed_deadline: false
        }
    );
}

#[test]
fn the_next_run_is_counted_from_the_end_of_the_last() {
    let hourly = trigger("@hourly", "");
    let waiting = assess(
        &hourly,
        synced("2026-11-21T12:00:30Z"),
        "2026-11-21T12:59:59Z",
    );
    let next = Some(at("2026-11-21T13:00:00Z"));
    assert_eq!(
        waiting,
        Assessment {
            due: false,
            next_sync_time: next,
            missed_deadline: false
        }
    );
    let due = assess(
        &hourly,
        synced("2026-11-21T12:00:30Z"),
        "2026-11-21T13:00:00Z",
    );
    assert_eq!(
        due,
        Assessment {
            due: true,
            next_sync_time: next,
            missed_deadline: false
        }
    );
}

#[test]
fn a_whole_interval_without_a_run_is_a_missed_deadline_and_one_run_makes_up_for_it() {
    let hourly = trigger("@hourly", "");
    let late = assess(
        &hourly,
        synced("2026-11-21T12:00:30Z"),
        "2026-11-21T14:00:00Z",
    );
    assert!(
        !late.missed_deadline,
        "the interval is not over before its end has passed"
    );
    let missed = assess(
        &hourly,
        synced("2026-11-21T12:00:30Z"),
        "2026-11-24T14:00:01Z",
    );
    assert_eq!(missed.next_sync_time, Some(at("2026-11-21T13:00:00Z")));
    assert!(missed.due && missed.missed_deadline);
    let caught_up = assess(
        &hourly,
        synced("2026-11-24T14:00:05Z"),
        "2026-11-24T14:00:06Z",
    );
    assert!(!caught_up.due && !caught_up.missed_deadline);
}

#[test]
fn a_manual_trigger_is_due_until_a_run_has_served_it() {
    let manual = trigger("", "second");
    let history = |last| History {
        last_sync_time: Some(at("2026-11-21T12:00:00Z")),
        last_manual_sync: last,
    };
    let due = |last| {
        manual
            .is_due(history(last), at("2026-11-21T12:00:01Z"), &TimeZone::UTC)
            .expect("no schedule")
    };
    assert!(due(None));
    assert!(due(Some("first")));
    assert!(!due(Some("second")));
}

#[test]
fn without_a_trigger_one_run_follows_the_other() {
    assert!(
        assess(
            &Trigger::None,
            synced("2026-11-21T12:00:00Z"),
            "2026-11-21T12:00:00Z"
        )
        .due
    );
}

#[test]
fn a_schedule_that_never_fires_is_an_error_before_the_first_run_already() {
    let never = trigger("0 0 31 2 *", "");
    assert!(
        never
            .assess(
                History::default(),
                at("2026-11-21T12:00:00Z"),
                &TimeZone::UTC
            )
            .is_err()
    );
    assert!(
        never
            .next_sync_time(Some(at("2026-11-21T12:00:00Z")), &TimeZone::UTC)
            .is_err()
    );
}

#[test]
fn a_zone_in_the_expression_wins_over_the_operators() {
    let paris = TimeZone::get("Europe/Paris").expect("known");
    let next = |schedule, zone: &TimeZone| {
        trigger(schedule, "")
            .next_sync_time(Some(at("2026-07-01T12:00:00Z")), zone)
            .expect("it fires")
    };
    assert_eq!(next("0 3 * * *", &paris), Some(at("2026-07-02T01:00:00Z")));
    assert_eq!(
        next("CRON_TZ=UTC 0 3 * * *", &paris),
        Some(at("2026-07-02T03:00:00Z"))
    );
}

proptest! {
    #[test]
    fn a_missed_deadline_is_always_due(minutes in 1..59_i64, ago in 0..100_000_i64) {
        let every = trigger(&format!("*/{minutes} * * * *"), "");
        let now = at("2026-11-21T12:00:00Z");
        let last = now.checked_sub(ago.seconds()).expect("within range");
        let history = History { last_sync_time: Some(last), last_manual_sync: None };
        let found = every.assess(history, now, &TimeZone::UTC).expect("it fires");
        prop_assert!(found.next_sync_time.is_some_and(|next| next > last));
        prop_assert!(found.due || !found.missed_deadline);
        prop_assert_eq!(found.due, found.next_sync_time.is_some_and(|next| next <= now));
    }
}
