//! Many resources: what they cost at rest, while they fail, and when all their schedules fire in one minute.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp, Unit};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::cluster::{CLAIM, Cluster, JOB, SOURCE};
use crate::figures::{Figures, say};
use crate::requests::Requests;
use crate::timeline::Timeline;

/// How many requests of the bench's own are under way at once.
const AT_ONCE: usize = 16;
/// How long writes are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// How long a crowd gets to come to rest before that.
const SETTLE: Duration = Duration::from_secs(60);
/// The cap that is tried, and how many syncs compete for it.
const CAP: (usize, usize) = (4, 12);

async fn declare(
    cluster: &Cluster,
    namespace: &str,
    count: usize,
    spec: &Value,
    synced: bool,
) -> Result<()> {
    let now = Timestamp::now();
    stream::iter(0..count)
        .map(Ok)
        .try_for_each_concurrent(AT_ONCE, |number| async move {
            let name = format!("source-{number:04}");
            cluster
                .apply(SOURCE, namespace, &name, json!({"spec": spec}))
                .await?;
            if synced {
                let status =
                    json!({"status": {"lastSyncTime": now.round(Unit::Second)?.to_string()}});
                let api = cluster.api(SOURCE, namespace);
                api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
                    .await?;
            }
            Ok(())
        })
        .await
}

/// A small volume; nothing is in it.
async fn claim(cluster: &Cluster, namespace: &str) -> Result<()> {
    let spec =
        json!({"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}});
    cluster
        .apply(CLAIM, namespace, "data", json!({"spec": spec}))
        .await
}

fn to_nowhere() -> Value {
    // Refused at once inside the mover's own pod.
    json!({"copyMethod": "Direct", "address": "127.0.0.1", "port": 9})
}

/// Resources whose schedule is a year away.
pub(super) async fn idle(
    cluster: &Cluster,
    count: usize,
    requests: Option<&Requests>,
) -> Result<()> {
    let namespace = format!("bench-idle-{}", std::process::id());
    cluster.namespace(&namespace).await?;
    cluster.scale_operator(0).await?;
    let spec =
        json!({"sourcePVC": "data", "trigger": {"schedule": "0 0 1 1 *"}, "rsync": to_nowhere()});
    declare(cluster, &namespace, count, &spec, true).await?;
    cluster.scale_operator(1).await?;
    sleep(SETTLE).await;
    report(
        cluster,
        &format!("{count} idle resources"),
        &namespace,
        requests,
    )
    .await?;
    cluster.drop_namespace(&namespace).await
}

/// Resources whose volume is missing.
pub(super) async fn failing(
    cluster: &Cluster,
    count: usize,
    requests: Option<&Requests>,
) -> Result<()> {
    let namespace = format!("bench-failing-{}", std::process::id());
    cluster.namespace(&namespace).await?;
    let spec = json!({"sourcePVC": "missing", "trigger": {"schedule": "*/5 * * * *"}, "rsync": to_nowhere()});
    declare(cluster, &namespace, count, &spec, false).await?;
    sleep(SETTLE).await;
    report(
        cluster,
        &format!("{count} failing resources"),
        &namespace,
        requests,
    )
    .await?;
    cluster.drop_namespace(&namespace).await
}

async fn report(
    cluster: &Cluster,
    what: &str,
    namespace: &str,
    requests: Option<&Requests>,
) -> Result<()> {
    let from = Timestamp::now();
    sleep(WINDOW).await;
    let memory = cluster.operator_memory().await?;
    let writes = match requests {
        Some(requests) => requests
            .writes(from, Timestamp::now(), Some(namespace))?
            .to_string(),
        None => "not counted".to_owned(),
    };
    say(&format!(
        "\n{what}: operator's resident memory {memory:.0} MiB, writes in {WINDOW:?}: {writes}"
    ))
}

/// Schedules that fire in the same minute: from that minute to each one's Job. The sources are paused, so that their
/// Jobs start no pods and the node's own limits stay out of the figure.
pub(super) async fn herd(cluster: &Cluster, count: usize) -> Result<()> {
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
    say(&format!(
        "\n{} of {count} schedules of one minute: from the minute to the Job {:.2} s at the median, {:.2} s at p99",
        firsts.len(),
        latency.median(),
        latency.quantile(0.99)
    ))?;
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
    say(&format!(
        "\n{count} syncs with --max-concurrent-syncs={limit}: at most {most} Jobs at once"
    ))?;
    cluster.drop_namespace(&namespace).await?;
    cluster
        .set_operator_argument("max-concurrent-syncs", None)
        .await
}
