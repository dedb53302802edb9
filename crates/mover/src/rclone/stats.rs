//! rclone's log lines in JSON, its statistics, and the lines at the end that VolSync's users look for.

use std::time::Duration;

use serde::Deserialize;
use syncline_api::report::Progress;

use crate::console::Console;

/// How rclone says, in passing, that a listing leaves out an entry whose name it cannot use. It ends well all the same.
pub(crate) const OMISSIONS: &[&str] = &[
    "failed to URL decode",
    "Odd name received",
    "Odd directory name received",
    "Entry doesn't belong in directory",
];

/// How much a run moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    /// Bytes that were transferred.
    pub(crate) bytes: u64,
    /// Files that were transferred.
    pub(crate) files: u64,
    /// Files that were compared.
    pub(crate) checks: u64,
    /// Files that were deleted.
    pub(crate) deletes: u64,
    /// Entries that were listed on both sides together.
    pub(crate) listed: u64,
    pub(crate) elapsed: Duration,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.files += other.files;
        self.checks += other.checks;
        self.deletes += other.deletes;
        self.listed += other.listed;
        self.elapsed += other.elapsed;
    }
}

/// One line of rclone's log.
#[derive(Debug, Deserialize)]
pub(crate) struct Line {
    pub(crate) level: String,
    pub(crate) msg: String,
    #[serde(default)]
    pub(crate) object: String,
    stats: Option<Counts>,
}

/// rclone's statistics, as far as they are used.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Counts {
    bytes: u64,
    total_bytes: u64,
    transfers: u64,
    total_transfers: u64,
    checks: u64,
    deletes: u64,
    listed: u64,
    elapsed_time: f64,
}

impl Line {
    /// Reads a line of `--use-json-log`; `None` for every other line.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// The statistics, where the line is there for them.
    pub(crate) fn counts(&self) -> Option<Counts> {
        self.stats
    }

    /// Is it an error, the word about the end of a run that failed, or about an entry that a listing leaves out?
    pub(crate) fn is_trouble(&self) -> bool {
        matches!(
            self.level.as_str(),
            "error" | "critical" | "alert" | "emergency"
        ) || self.msg.starts_with("Failed to ")
            || OMISSIONS.iter().any(|words| self.msg.contains(words))
    }

    /// The line for people, in the form that rclone itself has.
    pub(crate) fn text(&self) -> String {
        let level = self.level.to_uppercase();
        if self.object.is_empty() {
            format!("{level}: {}", self.msg)
        } else {
            format!("{level}: {}: {}", self.object, self.msg)
        }
    }

    /// As much of [`Self::text`], in bytes, as says only what it is about.
    pub(crate) fn subject(&self) -> usize {
        self.text().len().saturating_sub(self.msg.len())
    }
}

impl Counts {
    /// What the run moved so far.
    pub(crate) fn stats(self) -> Stats {
        Stats {
            bytes: self.bytes,
            files: self.transfers,
            checks: self.checks,
            deletes: self.deletes,
            listed: self.listed,
            elapsed: Duration::try_from_secs_f64(self.elapsed_time).unwrap_or_default(),
        }
    }

    /// What is shown of the run: against the files and bytes that are `expected`, where that is known.
    pub(crate) fn progress(self, expected: Option<(u64, u64)>) -> Progress {
        let (files, bytes) = expected.unwrap_or((self.total_transfers, self.total_bytes));
        Progress {
            phase: Some("Transferring".to_owned()),
            bytes_done: signed(self.bytes.min(bytes)),
            bytes_total: signed(bytes),
            files_done: signed(self.transfers.min(files)),
            files_total: signed(files),
        }
    }
}

/// A count for the API, whose integers are signed.
fn signed(count: u64) -> Option<i64> {
    i64::try_from(count).ok()
}

/// Prints the last lines of a run that went well, with the sum of what its commands did.
pub(crate) fn summary(stats: &Stats, console: &Console) {
    for line in summary_lines(stats) {
        console.say(&line);
    }
}

fn summary_lines(stats: &Stats) -> Vec<String> {
    let bytes = amount(stats.bytes);
    let seconds = stats.elapsed.as_secs_f64();
    let speed = rate(stats.bytes, stats.elapsed);
    vec![
        format!(
            "Transferred:   \t{bytes} / {bytes}, 100%, {}/s, ETA -",
            amount(speed)
        ),
        format!("Checks:        \t{} / {}, 100%", stats.checks, stats.checks),
        format!("Deleted:       \t{} (files)", stats.deletes),
        format!("Transferred:   \t{} / {}, 100%", stats.files, stats.files),
        format!("Elapsed time:  \t{seconds:.1}s"),
        format!("Rclone completed in {}s", stats.elapsed.as_secs()),
    ]
}

/// Bytes in a second; what took less than a millisecond counts as one.
fn rate(bytes: u64, elapsed: Duration) -> u64 {
    let milliseconds = elapsed.as_millis().max(1);
    u64::try_from(u128::from(bytes) * 1000 / milliseconds).unwrap_or(u64::MAX)
}

/// Bytes with a unit, as rclone writes them.
pub(crate) fn amount(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = "B";
    let mut scale = 1_u64;
    for next in units {
        if bytes / scale < 1024 {
            break;
        }
        scale *= 1024;
        unit = next;
    }
    if scale == 1 {
        return format!("{bytes} B");
    }
    let thousandths = u128::from(bytes) * 1000 / u128::from(scale);
    format!("{}.{:03} {unit}", thousandths / 1000, thousandths % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::is_rclone_summary;
    use proptest::prelude::*;

    /// As rclone 1.75.2 printed it.
    const STATS: &str = r#"{"time":"2026-11-21T17:21:10.74383498Z","level":"info","msg":"\nTransferred:   \t   19.533 KiB / 19.533 KiB, 100%, 0 B/s, ETA -\n","stats":{"bytes":20002,"checks":3,"deletedDirs":0,"deletes":1,"elapsedTime":0.5,"errors":0,"eta":null,"fatalError":false,"listed":22,"renames":0,"retryError":false,"speed":0,"totalBytes":40004,"totalChecks":0,"totalTransfers":42,"transferTime":0.009863962,"transfers":21},"source":"accounting/stats.go:549"}"#;

    #[test]
    fn statistics_are_read() {
        let line = Line::parse(STATS.as_bytes()).unwrap();
        let counts = line.counts().unwrap();
        assert_eq!(
            counts.stats(),
            Stats {
                bytes: 20002,
                files: 21,
                checks: 3,
                deletes: 1,
                listed: 22,
                elapsed: Duration::from_millis(500)
            }
        );
        let shown = counts.progress(None);
        assert_eq!(
            (shown.bytes_done, shown.bytes_total),
            (Some(20002), Some(40004))
        );
        assert_eq!((shown.files_done, shown.files_total), (Some(21), Some(42)));
        let shown = counts.progress(Some((10, 1000)));
        assert_eq!((shown.bytes_done, shown.files_done), (Some(1000), Some(10)));
    }

    #[test]
    fn errors_are_told_from_remarks() {
        let line = |level: &str, msg: &str| {
            Line::parse(format!(r#"{{"level":"{level}","msg":"{msg}","object":"f"}}"#).as_bytes())
                .unwrap()
        };
        assert!(line("error", "x").is_trouble());
        assert!(line("critical", "x").is_trouble());
        assert!(line("notice", "Failed to sync: x").is_trouble());
        assert!(line("notice", "Odd name received x").is_trouble());
        assert!(!line("notice", "Can't follow symlink").is_trouble());
        let line = line("error", "x");
        assert_eq!((line.text().as_str(), line.subject()), ("ERROR: f: x", 10));
        assert!(Line::parse(b"Error: unknown flag").is_none());
    }

    #[test]
    fn the_summary_has_what_volsyncs_users_look_for() {
        let stats = Stats {
            bytes: 20002,
            files: 21,
            elapsed: Duration::from_secs(2),
            ..Stats::default()
        };
        let lines = summary_lines(&stats);
        assert!(lines.iter().all(|line| is_rclone_summary(line)));
        assert_eq!(
            lines[0],
            "Transferred:   \t19.533 KiB / 19.533 KiB, 100%, 9.766 KiB/s, ETA -"
        );
        assert_eq!(lines[5], "Rclone completed in 2s");
        assert_eq!(amount(1023), "1023 B");
        assert_eq!(amount(1 << 20), "1.000 MiB");
    }

    proptest! {
        #[test]
        fn no_line_makes_the_readers_panic(line in "\\PC{0,120}", bytes in any::<u64>(), time in any::<f64>()) {
            let _ = Line::parse(line.as_bytes());
            let _ = amount(bytes);
            let _ = Counts { bytes, elapsed_time: time, ..Counts::default() }.stats();
        }
    }
}
