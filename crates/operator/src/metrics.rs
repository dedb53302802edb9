//! VolSync's three metrics, by their names, types and labels.
//!
//! A registry of its own, because a series must go when its resource does, which the exporters at hand cannot do.
//! Quantiles are exact over the last 24 hours, up to [`SAMPLES`] runs.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::kinds::{Key, word_for};

/// How many durations a series remembers at most.
const SAMPLES: usize = 4096;
/// How long a duration counts for the quantiles.
const WINDOW: SignedDuration = SignedDuration::from_hours(24);
const QUANTILES: [(&str, f64); 3] = [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99)];

const MISSED: &str = "volsync_missed_intervals_total";
const DURATION: &str = "volsync_sync_duration_seconds";
const OUT_OF_SYNC: &str = "volsync_volume_out_of_sync";

/// One fact to be counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// Whether the volume is behind its schedule, or was never synchronized.
    OutOfSync(bool),
    /// A run ended later than it should have.
    MissedInterval,
    /// A run ended well after this many seconds.
    Synchronized(f64),
}

#[derive(Debug, Default)]
struct Series {
    missed: u64,
    out_of_sync: bool,
    recent: VecDeque<(Timestamp, f64)>,
    sum: f64,
    count: u64,
}

/// All series.
#[derive(Debug, Default)]
pub struct Metrics {
    series: Mutex<BTreeMap<(Key, &'static str), Series>>,
}

impl Metrics {
    /// Takes `measure` of the resource `key`, replicated by `method`, into account.
    pub fn record(&self, key: &Key, method: &'static str, measure: Measure, now: Timestamp) {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let series = all.entry((key.clone(), method)).or_default();
        match measure {
            Measure::OutOfSync(value) => series.out_of_sync = value,
            Measure::MissedInterval => series.missed += 1,
            Measure::Synchronized(seconds) => {
                series.sum += seconds;
                series.count += 1;
                series.recent.push_back((now, seconds));
                if series.recent.len() > SAMPLES {
                    series.recent.pop_front();
                }
            }
        }
    }

    /// Drops the series of a resource that tell of another method than `method`.
    pub fn settle_on(&self, key: &Key, method: &'static str) {
        self.series
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(known, with), _| known != key || *with == method);
    }

    /// Drops all series of a resource that is no more.
    pub fn forget(&self, key: &Key) {
        self.series
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(known, _), _| known != key);
    }

    /// Drops all series: somebody else measures now.
    pub fn clear(&self) {
        self.series
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// The Prometheus text exposition, version 0.0.4.
    pub fn render(&self, now: Timestamp) -> String {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        head(
            &mut text,
            MISSED,
            "counter",
            "Runs that ended after the next one was due",
        );
        for (id, series) in all.iter() {
            line(&mut text, MISSED, id, "", series.missed);
        }
        head(
            &mut text,
            DURATION,
            "summary",
            "How long runs took, in seconds",
        );
        for (id, series) in all.iter_mut() {
            series
                .recent
                .retain(|(at, _)| now.duration_since(*at) <= WINDOW);
            durations(&mut text, id, series);
        }
        let help = "1 while the volume is behind its schedule or was never synchronized";
        head(&mut text, OUT_OF_SYNC, "gauge", help);
        for (id, series) in all.iter() {
            line(&mut text, OUT_OF_SYNC, id, "", u8::from(series.out_of_sync));
        }
        text
    }
}

fn durations(text: &mut String, id: &(Key, &'static str), series: &Series) {
    let mut sorted: Vec<f64> = series.recent.iter().map(|(_, seconds)| *seconds).collect();
    sorted.sort_by(f64::total_cmp);
    for (name, quantile) in QUANTILES {
        let value = at_quantile(&sorted, quantile).unwrap_or(f64::NAN);
        line(text, DURATION, id, &format!(",quantile=\"{name}\""), value);
    }
    line(text, &format!("{DURATION}_sum"), id, "", series.sum);
    line(text, &format!("{DURATION}_count"), id, "", series.count);
}

/// The smallest sample that at least `quantile` of all samples do not exceed.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rank among at most SAMPLES samples is small and not negative"
)]
fn at_quantile(sorted: &[f64], quantile: f64) -> Option<f64> {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(
    text: &mut String,
    name: &str,
    (key, method): &(Key, &'static str),
    more: &str,
    value: impl std::fmt::Display,
) {
    // Names of Kubernetes objects hold nothing that the exposition format would want escaped.
    let _ = writeln!(
        text,
        "{name}{{method=\"{method}\",obj_name=\"{}\",obj_namespace=\"{}\",role=\"{}\"{more}}} {value}",
        key.name,
        key.namespace,
        word_for(key.side),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Side;

    const RSYNC: &str = "rsync";

    fn key(name: &str) -> Key {
        Key {
            side: Side::Source,
            namespace: "site-a".into(),
            name: name.into(),
        }
    }

    #[test]
    fn the_exposition_has_volsyncs_names_types_and_labels() {
        let (metrics, now) = (Metrics::default(), Timestamp::UNIX_EPOCH);
        for seconds in [1.0, 2.0, 10.0] {
            metrics.record(&key("db"), RSYNC, Measure::Synchronized(seconds), now);
        }
        metrics.record(&key("db"), RSYNC, Measure::MissedInterval, now);
        metrics.record(&key("db"), RSYNC, Measure::OutOfSync(true), now);
        insta::assert_snapshot!(metrics.render(now), @r#"
        # HELP volsync_missed_intervals_total Runs that ended after the next one was due
        # TYPE volsync_missed_intervals_total counter
        volsync_missed_intervals_total{method="rsync",obj_name="db",obj_namespace="site-a",role="source"} 1
        # HELP volsync_sync_duration_seconds How long runs took, in seconds
        # TYPE volsync_sync_duration_seconds summary
        volsync_sync_duration_seconds{method="rsync",obj_name="db",obj_namespace="site-a",role="source",quantile="0.5"} 2
        volsync_sync_duration_seconds{method="rsync",obj_name="db",obj_namespace="site-a",role="source",quantile="0.9"} 10
        volsync_sync_duration_seconds{method="rsync",obj_name="db",obj_namespace="site-a",role="source",quantile="0.99"} 10
        volsync_sync_duration_seconds_sum{method="rsync",obj_name="db",obj_namespace="site-a",role="source"} 13
        volsync_sync_duration_seconds_count{method="rsync",obj_name="db",obj_namespace="site-a",role="source"} 3
        # HELP volsync_volume_out_of_sync 1 while the volume is behind its schedule or was never synchronized
        # TYPE volsync_volume_out_of_sync gauge
        volsync_volume_out_of_sync{method="rsync",obj_name="db",obj_namespace="site-a",role="source"} 1
        "#);
    }

    #[test]
    fn the_series_of_a_deleted_resource_are_gone() {
        let (metrics, now) = (Metrics::default(), Timestamp::UNIX_EPOCH);
        metrics.record(&key("db"), RSYNC, Measure::OutOfSync(true), now);
        metrics.record(&key("web"), RSYNC, Measure::OutOfSync(true), now);
        metrics.forget(&key("db"));
        let text = metrics.render(now);
        assert!(!text.contains("\"db\""));
        assert!(text.contains("\"web\""));
    }

    #[test]
    fn a_resource_that_changes_its_method_has_series_of_the_new_one_only() {
        let (metrics, now) = (Metrics::default(), Timestamp::UNIX_EPOCH);
        metrics.record(&key("db"), "restic", Measure::OutOfSync(true), now);
        metrics.record(&key("web"), "restic", Measure::OutOfSync(true), now);
        metrics.record(&key("db"), RSYNC, Measure::OutOfSync(true), now);
        metrics.settle_on(&key("db"), RSYNC);
        let text = metrics.render(now);
        assert!(!text.contains("method=\"restic\",obj_name=\"db\""));
        assert!(text.contains("method=\"rsync\",obj_name=\"db\""));
        assert!(text.contains("method=\"restic\",obj_name=\"web\""));
    }

    #[test]
    fn durations_older_than_a_day_leave_the_quantiles_but_not_the_sum() {
        let (metrics, start) = (Metrics::default(), Timestamp::UNIX_EPOCH);
        metrics.record(&key("db"), RSYNC, Measure::Synchronized(5.0), start);
        let text = metrics.render(start + SignedDuration::from_hours(25));
        assert!(text.contains("quantile=\"0.5\"} NaN"));
        assert!(text.contains("volsync_sync_duration_seconds_sum{method=\"rsync\",obj_name=\"db\",obj_namespace=\"site-a\",role=\"source\"} 5"));
    }
}
