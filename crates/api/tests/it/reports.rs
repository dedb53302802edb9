//! The movers' report and their lines of progress.

use proptest::prelude::*;
use syncline_api::report::{
    self, MoverResult, ParseReportError, PrintedReport, Progress, Report, Role,
};

#[test]
fn a_report_reads_back_as_it_was_written() {
    let mut report = Report::successful("rsync", Role::Source);
    report.logs = "sent 1,024 bytes  received 35 bytes\nRsync completed in 2s".to_owned();
    report.entries = Some(20_001);
    report.bytes_sent = Some(1024);
    report.bytes_received = Some(35);
    report.files_transferred = Some(7);
    report.total_bytes = Some(1 << 40);
    report.attempts = Some(1);
    let text = report.to_termination_message();
    assert_eq!(Report::parse(&text).expect("a report"), report);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["version"], 1);
    assert_eq!(json["role"], "source");
    assert_eq!(json["result"], "Successful");
    assert_eq!(json["bytesSent"], 1024);
}

#[test]
fn a_report_in_the_log_is_told_from_progress_and_from_words_for_people() {
    let mut report = Report::successful("rsync", Role::Destination);
    report.unpreserved = vec!["owners".to_owned()];
    let line = report.to_line(true);
    assert!(!line.contains('\n'));
    let last = true;
    let printed = PrintedReport { report, last };
    assert_eq!(report::parse_report_line(&line), Some(printed));
    assert_eq!(report::parse_line(&line), None, "it is no progress");
    let progress = Progress::default().to_line();
    for other in [
        progress.as_str(),
        "done",
        "{",
        &format!("| {line}"),
        &line.replace("\"version\":1", "\"version\":2"),
    ] {
        assert_eq!(report::parse_report_line(other), None, "{other}");
    }
}

#[test]
fn what_was_not_preserved_never_makes_a_report_too_long() {
    let mut report = Report::successful("rsync", Role::Source);
    report.unpreserved = vec!["\u{1}".repeat(10_000); 100];
    report.logs = "\u{1}".repeat(10_000);
    report.message = Some("\u{1}".repeat(10_000));
    let text = report.to_termination_message();
    assert!(text.len() <= report::LONGEST_TERMINATION_MESSAGE);
    assert_eq!(
        Report::parse(&text).expect("a report").unpreserved.len(),
        report::MOST_UNPRESERVED
    );
}

#[test]
fn a_failure_says_why() {
    let failed = Report::failed(
        "rsync",
        Role::Destination,
        report::reason::DESTINATION_FULL,
        "no room left",
    );
    let read = Report::parse(&failed.to_termination_message()).expect("a report");
    assert_eq!(read.result, MoverResult::Failed);
    assert_eq!(read.reason.as_deref(), Some("DestinationFull"));
    assert_eq!(read.message.as_deref(), Some("no room left"));
}

#[test]
fn the_last_kibibyte_of_the_log_is_kept() {
    let mut report = Report::successful("rsync", Role::Source);
    report.logs = (0..1000).fold(String::new(), |logs, line| logs + &format!("line {line}\n"));
    let read = Report::parse(&report.to_termination_message()).expect("a report");
    assert_eq!(read.logs.len(), 1024);
    assert!(report.logs.ends_with(&read.logs));
}

#[test]
fn what_is_no_report_is_an_error_that_says_so() {
    assert!(matches!(
        Report::parse("Killed"),
        Err(ParseReportError::NotAReport { .. })
    ));
    assert!(matches!(
        Report::parse(""),
        Err(ParseReportError::NotAReport { .. })
    ));
    let newer = r#"{"version":2,"mover":"rsync","role":"source","result":"Successful","logs":""}"#;
    assert!(matches!(
        Report::parse(newer),
        Err(ParseReportError::OtherVersion { found: 2 })
    ));
    let with_more = r#"{"version":1,"mover":"rsync","role":"source","result":"Successful","logs":"","later":1}"#;
    assert!(
        Report::parse(with_more).is_ok(),
        "what a later release adds does not matter"
    );
}

#[test]
fn progress_is_found_amid_lines_for_people() {
    let line = r#"{"syncline":"progress","phase":"Transferring","bytesDone":1,"bytesTotal":2,"filesDone":1,"filesTotal":2}"#;
    let progress = report::parse_line(line).expect("progress");
    assert_eq!(progress.phase.as_deref(), Some("Transferring"));
    assert_eq!(
        (progress.bytes_done, progress.bytes_total),
        (Some(1), Some(2))
    );
    assert_eq!(progress.to_line(), line);
    for other in [
        "",
        "sent 1 bytes",
        "{",
        "{}",
        r#"{"syncline":"other"}"#,
        r#"{"syncline":"progress","bytesDone":"x"}"#,
    ] {
        assert_eq!(report::parse_line(other), None, "{other}");
    }
}

/// Texts whose JSON is several times as long as they are.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "\u{1}",
        "\"",
        "\\",
        "\n",
        "ö",
        "🦀",
        "a",
        "\u{7f}",
        "\u{1}\u{1}\u{1}\u{1}",
    ]);
    prop::collection::vec(piece, 1..12)
        .prop_flat_map(|pieces| (Just(pieces.concat()), 0..400_usize))
        .prop_map(|(text, times)| text.repeat(times))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_log_makes_a_report_too_long(logs in hostile(), message in hostile(), reason in hostile(), mover in hostile()) {
        let mut report = Report::failed(&mover, Role::Source, &reason, &message);
        report.logs.clone_from(&logs);
        let text = report.to_termination_message();
        prop_assert!(text.len() <= 4096, "{} bytes", text.len());
        let read = Report::parse(&text).expect("a report");
        prop_assert!(read.logs.len() <= 1024 && logs.ends_with(&read.logs));
        prop_assert!(message.starts_with(read.message.as_deref().unwrap_or_default()));
        // Something is left of the log however badly it escapes.
        prop_assert!(read.logs.len() >= logs.len().min(128), "{} of {}", read.logs.len(), logs.len());
    }

    #[test]
    fn cuts_are_between_characters(text in "\\PC{0,50}", most in 0..60_usize) {
        let (head, tail) = (report::head(&text, most), report::tail(&text, most));
        prop_assert!(head.len() <= most && text.starts_with(head));
        prop_assert!(tail.len() <= most && text.ends_with(tail));
        prop_assert!(text.len() > most || (head == text && tail == text));
    }

    #[test]
    fn progress_reads_back_as_it_was_written(phase in ".{0,20}", done in 0..i64::MAX, total: Option<i64>) {
        let progress = Progress { phase: Some(phase), bytes_done: Some(done), bytes_total: total, ..Progress::default() };
        let line = progress.to_line();
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(report::parse_line(&line), Some(progress));
    }

    #[test]
    fn no_line_makes_the_reader_crash(line in "\\PC{0,80}") {
        let _ = report::parse_line(&line);
    }
}
