//! Conditions and their times.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use syncline_api::conditions;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("within range")
}

#[test]
fn the_reasons_and_messages_are_those_that_volsync_users_know() {
    let facts = [
        (
            conditions::sync_in_progress(None),
            true,
            "SyncInProgress",
            "Synchronization in-progress",
        ),
        (
            conditions::waiting_for_schedule(None),
            false,
            "WaitingForSchedule",
            "Waiting for next scheduled synchronization",
        ),
        (
            conditions::waiting_for_manual(None),
            false,
            "WaitingForManual",
            "Waiting for manual trigger",
        ),
        (
            conditions::cleaning_up(None),
            false,
            "CleaningUp",
            "Cleaning up",
        ),
        (conditions::sync_error(None, "why"), false, "Error", "why"),
    ];
    for (condition, holds, reason, message) in facts {
        assert_eq!(condition.type_, "Synchronizing");
        assert_eq!(
            (
                condition.holds,
                condition.reason,
                condition.message.as_str()
            ),
            (holds, reason, message)
        );
    }
    let complete = conditions::reconcile_complete(Some(3));
    assert_eq!(
        (complete.type_, complete.reason),
        ("Reconciled", "ReconcileComplete")
    );
    assert_eq!(
        (complete.message.as_str(), complete.observed_generation),
        ("Reconcile complete", Some(3))
    );
    assert_eq!(
        conditions::reconcile_error(None, "why").reason,
        "ReconcileError"
    );
}

#[test]
fn why_the_try_before_failed_stands_behind_what_goes_on_and_can_be_told_from_it() {
    let doing = conditions::sync_in_progress(None).message;
    let cause = "the source mover failed (PeerUnreachable): no answer";
    let once = conditions::after_failures(&doing, 1, cause);
    assert_eq!(
        once,
        format!("Synchronization in-progress; the try before failed: {cause}")
    );
    let thrice = conditions::after_failures(&doing, 3, cause);
    assert_eq!(
        thrice,
        format!("Synchronization in-progress; the try before failed (3 in a row): {cause}")
    );
    let told = (doing.as_str(), Some(cause));
    assert_eq!(conditions::without_failures(&once), told);
    assert_eq!(conditions::without_failures(&thrice), told);
    assert_eq!(conditions::without_failures(&doing), (doing.as_str(), None));
}

#[test]
fn the_time_moves_only_when_the_status_changes() {
    let mut list = Vec::new();
    assert!(conditions::set(
        &mut list,
        conditions::waiting_for_schedule(Some(1)),
        at(10)
    ));
    assert!(conditions::set(
        &mut list,
        conditions::cleaning_up(Some(2)),
        at(20)
    ));
    assert_eq!(list.len(), 1);
    let found = conditions::find(&list, conditions::SYNCHRONIZING).expect("it was set");
    assert_eq!(
        (found.reason.as_str(), found.observed_generation),
        ("CleaningUp", Some(2))
    );
    assert_eq!(found.last_transition_time, Time(at(10)));

    assert!(conditions::set(
        &mut list,
        conditions::sync_in_progress(Some(2)),
        at(30)
    ));
    assert_eq!(list[0].last_transition_time, Time(at(30)));
    assert_eq!(list[0].status, "True");
}

#[test]
fn a_complaint_is_known_by_how_it_begins() {
    let mut list = Vec::new();
    assert!(!conditions::complains_of(&list, "waiting for Secret a"));
    conditions::set(
        &mut list,
        conditions::sync_error(Some(1), "waiting for Secret a; create it"),
        at(10),
    );
    assert!(conditions::complains_of(&list, "waiting for Secret a"));
    assert!(!conditions::complains_of(&list, "waiting for Secret b"));
    let long = "ö".repeat(40_000);
    conditions::set(&mut list, conditions::sync_error(Some(1), &long), at(20));
    assert!(conditions::complains_of(&list, &long));
    conditions::set(&mut list, conditions::cleaning_up(Some(1)), at(30));
    assert!(!conditions::complains_of(&list, "Cleaning up"));
}

#[test]
fn setting_what_is_already_there_changes_nothing() {
    let mut list = Vec::new();
    let error = conditions::sync_error(Some(1), &"ö".repeat(40_000));
    assert!(conditions::set(&mut list, error.clone(), at(10)));
    assert!(list[0].message.len() <= 32_768, "the schema admits no more");
    assert!(!conditions::set(&mut list, error, at(20)));
    assert!(conditions::set(
        &mut list,
        conditions::reconcile_error(Some(1), "why"),
        at(30)
    ));
    assert_eq!(list.len(), 2);
}
