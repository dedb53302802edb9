//! Many schedules that fire in one minute, and more syncs than may run at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::{SignedDuration, Timestamp, Unit};
use kube::api::ListParams;
use serde_json::json;
use tokio::time::sleep;

use super::crowd::{claim, declare, to_nowhere};
use crate::cluster::{Cluster, JOB};
use crate::figures::{Figures, entry, table};
use crate::timeline::Timeline;

/// How long the Jobs are watched.
const WINDOW: Duration = Duration::from_secs(60);
/// The cap that is tried, and how many syncs compete for it.
const CAP: (usize, usize) = (4, 12);

/// Schedules that fire in the same minute: from that minute to each one's Job. The sources are paused, so that their
/// Jobs start no pods and the node's own limits stay out of the figure.
pub(super) async fn measure(cluster: &Cluster, count: usize) -> Result<()> {
    let namespace = format!("bench-herd-{}", std::process::id());
    cluster.namespace(&namespace).await?;
    claim(cluster, &namespace).await?;
    let due = (Timestamp::now() + SignedDuration::from_secs(90)).round(Unit::Minute)?;
    let zoned = due.to_zoned(jiff::tz::TimeZone::UTC);
    let schedule = format!("CRON_TZ=UTC {} {} * * *", zoned.minute(), zoned.hour());
    let spec = json!({
        "sourcePVC": "data", "paused": true, "trigger": {"schedule": schedule}, "rsync": to_nowhere(),
    });
    cluster.scale_operator(0).await?;
    declare(cluster, &namespace, count, &spec, true).await?;
    let timeline = Timeline::begin(cluster, &namespace, &[JOB]);
    cluster.scale_operator(1).await?;
    let wait = Duration::try_from(due - Timestamp::now()).unwrap_or_default();
    let fires = Instant::now() + wait;
    let mut firsts = BTreeMap::new();
    while firsts.len() < count && Instant::now() < fires + WINDOW {
        sleep(Duration::from_millis(500)).await;
        for seen in timeline.all() {
            firsts.entry(seen.name).or_insert(seen.at);
        }
    }
    let mut latency = Figures::default();
    for at in firsts.values() {
        latency.add(at.saturating_duration_since(fires));
    }
    table(
        &format!("{count} schedules of one minute, from the minute to the Job"),
        &["fired", "median", "p99"],
    )?;
    let seconds = |share: f64| format!("{:.2} s", latency.quantile(share));
    entry(
        "reconcile latency",
        &[firsts.len().to_string(), seconds(0.5), seconds(0.99)],
    )?;
    cluster.drop_namespace(&namespace).await
}

/// More syncs than `--max-concurrent-syncs` allows: how many Jobs there are at once at most.
pub(super) async fn cap(cluster: &Cluster) -> Result<()> {
    let (limit, count) = CAP;
    let namespace = format!("bench-cap-{}", std::process::id());
    cluster.namespace(&namespace).await?;
    claim(cluster, &namespace).await?;
    cluster
        .set_operator_argument("max-concurrent-syncs", Some(&limit.to_string()))
        .await?;
    let spec = json!({"sourcePVC": "data", "trigger": {"manual": "go"}, "rsync": to_nowhere()});
    declare(cluster, &namespace, count, &spec, false).await?;
    let (api, start, mut most) = (cluster.api(JOB, &namespace), Instant::now(), 0);
    while start.elapsed() < WINDOW {
        most = most.max(api.list(&ListParams::default()).await?.items.len());
        sleep(Duration::from_millis(200)).await;
    }
    table(
        &format!("{count} syncs with --max-concurrent-syncs={limit}"),
        &["at most"],
    )?;
    entry("Jobs at once", &[most.to_string()])?;
    cluster.drop_namespace(&namespace).await?;
    cluster
        .set_operator_argument("max-concurrent-syncs", None)
        .await
}
