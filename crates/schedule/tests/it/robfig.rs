//! A table of what robfig/cron v3.0.1 itself answered (`robfig.tsv`: zone, from, how many, expression, answers).

use jiff::Timestamp;
use jiff::tz::TimeZone;
use syncline_schedule::{Fault, Schedule};

/// What our reading of one line of the table comes to, in the table's words.
fn answers(zone: &str, from: &str, count: usize, expression: &str) -> String {
    let zone = TimeZone::get(zone).expect("the zone is in the system's database");
    let mut time: Timestamp = from.parse().expect("a time");
    let Ok(schedule) = Schedule::parse(expression) else {
        return "error".to_owned();
    };
    let mut answers = Vec::new();
    for _ in 0..count {
        let Ok(next) = schedule.next(time, &zone) else {
            answers.push("never".to_owned());
            break;
        };
        answers.push(next.to_string());
        time = next;
    }
    answers.join(" ")
}

#[test]
fn every_expression_comes_to_what_robfig_comes_to() {
    let mut lines = 0;
    let mut differences = Vec::new();
    for line in include_str!("robfig.tsv").lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [zone, from, count, expression, expected] = columns.as_slice() else {
            panic!("five columns: {line:?}")
        };
        let found = answers(zone, from, count.parse().expect("a number"), expression);
        // Where robfig crashes, an error is what we owe; where it searches for ever, as many answers as were asked for.
        let expected = match *expected {
            "panic" => "error".to_owned(),
            "hang" if found.split(' ').count() == 5 => found.clone(),
            expected => expected.to_owned(),
        };
        lines += 1;
        if found != expected {
            differences.push(format!(
                "{zone} {from} {expression:?}\n  robfig {expected}\n  ours   {found}"
            ));
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {lines}:\n{}",
        differences.len(),
        differences.join("\n")
    );
    assert!(lines > 2000, "the table has {lines} lines");
}

#[test]
fn an_error_names_the_expression_the_field_and_the_reason() {
    let message = |expression| {
        Schedule::parse(expression)
            .expect_err("not a schedule")
            .to_string()
    };
    assert_eq!(
        message("0 3 * * 7"),
        r#"the schedule "0 3 * * 7" cannot be read: the day of week field "7" is wrong: "7" reaches 7; days of week go from 0 to 6"#
    );
    assert_eq!(
        message("0 3 L * *"),
        r#"the schedule "0 3 L * *" cannot be read: the day of month field "L" is wrong: "L" is not a number"#
    );
    assert!(message("junk 0 0 * * *").contains("it has 6 fields; write five"));
    assert!(
        message("CRON_TZ=Nowhere/Land 0 3 * * *")
            .contains(r#"the time zone "Nowhere/Land" is not known here"#)
    );
    assert!(message("@hourlyjunk").contains(r#""@hourlyjunk" is not known; write @hourly"#));
    assert_eq!(
        Schedule::parse("TZ=UTC")
            .expect_err("nothing follows")
            .fault,
        Fault::OnlyZone
    );
    assert_eq!(
        Schedule::parse("").expect_err("nothing").fault,
        Fault::Empty
    );
}

#[test]
fn a_schedule_that_never_fires_is_an_error_that_names_it() {
    let after: Timestamp = "2026-11-21T00:00:00Z".parse().expect("a time");
    let schedule = Schedule::parse("0 0 31 2 *").expect("it can be read");
    let error = schedule
        .next(after, &TimeZone::UTC)
        .expect_err("there is no 31st of February");
    assert_eq!(error.expression, "0 0 31 2 *");
    assert_eq!(error.after, after);
    assert!(
        error
            .to_string()
            .contains("never comes due in the five years after 2026-11-21T00:00:00Z")
    );
}

#[test]
fn the_end_of_time_is_never_and_no_crash() {
    for expression in ["* * * * *", "0 0 1 1 *", "@every 1h", "@yearly"] {
        let schedule = Schedule::parse(expression).expect("it can be read");
        assert!(
            schedule.next(Timestamp::MAX, &TimeZone::UTC).is_err(),
            "{expression}"
        );
        let first = schedule.next(Timestamp::MIN, &TimeZone::UTC);
        assert!(
            first.is_err() || first.is_ok_and(|first| first > Timestamp::MIN),
            "{expression}"
        );
    }
}
