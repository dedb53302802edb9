//! Durations as Go writes them.

use proptest::prelude::*;
use std::time::Duration;
use syncline_api::GoDuration;

/// What Go 1.26 made of these texts: nanoseconds and the text it writes them as, or nothing.
#[test]
fn texts_are_read_and_written_as_go_does() {
    let facts: &[(&str, Option<(i64, &str)>)] = &[
        ("0", Some((0, "0s"))),
        ("0s", Some((0, "0s"))),
        ("1ns", Some((1, "1ns"))),
        ("999ns", Some((999, "999ns"))),
        ("1us", Some((1000, "1µs"))),
        ("1.5us", Some((1500, "1.5µs"))),
        ("1µs", Some((1000, "1µs"))),
        ("1μs", Some((1000, "1µs"))),
        ("350ms", Some((350_000_000, "350ms"))),
        ("1.000001ms", Some((1_000_001, "1.000001ms"))),
        ("28.818695981s", Some((28_818_695_981, "28.818695981s"))),
        ("1m2.5s", Some((62_500_000_000, "1m2.5s"))),
        ("31.333710313s", Some((31_333_710_313, "31.333710313s"))),
        ("1h", Some((3_600_000_000_000, "1h0m0s"))),
        ("1h30m", Some((5_400_000_000_000, "1h30m0s"))),
        ("90m", Some((5_400_000_000_000, "1h30m0s"))),
        ("25h0m0.1s", Some((90_000_100_000_000, "25h0m0.1s"))),
        ("-1.5h", Some((-5_400_000_000_000, "-1h30m0s"))),
        ("+5s", Some((5_000_000_000, "5s"))),
        ("-0", Some((0, "0s"))),
        ("1d", None),
        ("", None),
        ("-", None),
        ("+", None),
        ("1", None),
        ("1.s", Some((1_000_000_000, "1s"))),
        (".5s", Some((500_000_000, "500ms"))),
        (".s", None),
        ("s", None),
        ("1 s", None),
        ("1h-5m", None),
        (
            "2562047h47m16.854775807s",
            Some((9_223_372_036_854_775_807, "2562047h47m16.854775807s")),
        ),
        ("2562047h47m16.854775808s", None),
        (
            "-2562047h47m16.854775808s",
            Some((-9_223_372_036_854_775_808, "-2562047h47m16.854775808s")),
        ),
        ("9223372036854775808ns", None),
        ("0.000000000001h", Some((3, "3ns"))),
        ("0.3333333333333333333h", Some((1_200_000_000_000, "20m0s"))),
        (
            "1.00000000000000000000000000000001s",
            Some((1_000_000_000, "1s")),
        ),
        ("3000000h", None),
        ("1e3s", None),
        ("1S", None),
        ("100000000000000000000s", None),
        ("0.100000000000000000000h", Some((360_000_000_000, "6m0s"))),
        ("1h1h1h", Some((10_800_000_000_000, "3h0m0s"))),
        ("0.5ns", Some((0, "0s"))),
        ("1.9ns", Some((1, "1ns"))),
    ];
    for (text, expected) in facts {
        let found = text.parse::<GoDuration>().ok();
        let found = found.map(|duration| (duration.nanoseconds(), duration.to_string()));
        assert_eq!(
            found,
            expected.map(|(nanoseconds, text)| (nanoseconds, text.to_owned())),
            "{text:?}"
        );
    }
}

#[test]
fn a_refusal_names_the_text_and_the_fault() {
    let error = "1d".parse::<GoDuration>().expect_err("Go knows no days");
    assert_eq!(
        error.to_string(),
        r#"the duration "1d" is not valid: a unit is unknown; write it as in 1h30m, 2.5s or 350ms"#
    );
}

#[test]
fn it_is_a_string_in_json() {
    let duration = GoDuration::from(Duration::from_nanos(28_818_695_981));
    assert_eq!(
        serde_json::to_string(&duration).expect("JSON"),
        r#""28.818695981s""#
    );
    assert_eq!(
        serde_json::from_str::<GoDuration>(r#""28.818695981s""#).expect("a duration"),
        duration
    );
    assert_eq!(duration.to_std(), Duration::from_nanos(28_818_695_981));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(nanoseconds: i64) {
        let duration = GoDuration::from_nanoseconds(nanoseconds);
        prop_assert_eq!(duration.to_string().parse::<GoDuration>(), Ok(duration));
    }

    #[test]
    fn no_text_makes_the_reader_crash(text in "\\PC{0,20}|[-+]?([0-9.]{0,25}(ns|us|µs|ms|s|m|h)?){0,4}") {
        let _ = text.parse::<GoDuration>();
    }
}
