//! On the expressions that both read, croner comes to the same times. Zones without daylight saving time only: the two
//! differ there on purpose.

use std::str::FromStr as _;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use syncline_schedule::Schedule;

fn field(min: u8, max: u8) -> impl Strategy<Value = String> {
    let value = min..=max;
    let range = (min..=max, min..=max).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let part = prop_oneof![
        4 => Just("*".to_owned()),
        2 => (2..=max / 2).prop_map(|step| format!("*/{step}")),
        3 => value.prop_map(|value| value.to_string()),
        2 => range.clone().prop_map(|(low, high)| format!("{low}-{high}")),
        1 => (range, 1..=5_u8).prop_map(|((low, high), step)| format!("{low}-{high}/{step}")),
    ];
    prop_oneof![
        4 => part,
        1 => prop::collection::vec(min..=max, 2..4)
            .prop_map(|values| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
    ]
}

/// One of the two day fields is a plain star: with a step in one of them the two libraries read "or" differently.
fn expression() -> impl Strategy<Value = String> {
    let days = prop_oneof![
        field(1, 31).prop_map(|day| format!("{day} {{}} *")),
        field(0, 6).prop_map(|day| format!("* {{}} {day}")),
    ];
    (field(0, 59), field(0, 23), days, field(1, 12)).prop_map(|(minute, hour, days, month)| {
        format!("{minute} {hour} {}", days.replace("{}", &month))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn croner_agrees_on_the_common_subset(expression in expression(), second in 946_684_800_i64..2_524_608_000) {
        let after = Timestamp::from_second(second).expect("within range");
        let ours = Schedule::parse(&expression).expect("it can be read").next(after, &TimeZone::UTC);
        let theirs = Cron::from_str(&expression)
            .expect("croner reads it")
            .find_next_occurrence(&after.to_zoned(TimeZone::UTC), false);
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs.timestamp()),
            // croner looks further ahead than five years.
            (Err(_), Ok(theirs)) => prop_assert!(theirs.year() > after.to_zoned(TimeZone::UTC).year() + 5),
            (Err(_), Err(_)) => {}
            (Ok(ours), Err(error)) => prop_assert!(false, "ours {ours}, croner {error}"),
        }
    }

    #[test]
    fn no_text_makes_the_parser_crash(text in "\\PC{0,40}") {
        let _ = Schedule::parse(&text);
    }

    #[test]
    fn no_cron_like_text_crashes_or_hangs(text in "((TZ|CRON_TZ)=(UTC|Europe/Paris)? )?[-0-9*/,?@a-z]{1,6}( [-0-9*/,?]{1,5}){0,5}") {
        if let Ok(schedule) = Schedule::parse(&text) {
            let after = Timestamp::from_second(1_795_219_200).expect("within range");
            if let Ok(next) = schedule.next(after, &TimeZone::UTC) {
                prop_assert!(next > after);
                prop_assert_eq!(next.subsec_nanosecond(), 0);
            }
        }
    }
}
