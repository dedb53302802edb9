//! Many resources: what they cost at rest, and while each of them fails.
//!
//! A cluster of one node cannot run a thousand movers at once. So those that fail are kept from running by the cluster
//! itself, which the operator meets in both ways that there are: its Jobs are refused, again at each attempt, and its Jobs
//! are taken but their pods are refused.

use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{Timestamp, Unit};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::cluster::{CLAIM, Cluster, Kind, NAMESPACE, SOURCE};
use crate::figures::{NOT_COUNTED, entry, table};
use crate::requests::Requests;

const QUOTA: Kind = Kind("", "v1", "ResourceQuota");
/// How many requests of the bench's own are under way at once.
const AT_ONCE: usize = 16;
/// How long writes are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// A crowd has come to rest, or to its pace, when it writes less than it may at that pace in this time.
const LOOK: Duration = Duration::from_secs(10);
const PACE: usize = 10;
/// How long a crowd gets for that; then it is measured as it is.
const SETTLE: Duration = Duration::from_secs(120);
/// How long a crowd gets until each of it says what is wrong. Of a refused pod only the Job controller knows, and it writes
/// its events at a pace of its own: of a thousand Jobs, a few each second.
const TOLD: Duration = Duration::from_secs(1500);

/// Declares as many sources of this spec; with `synced`, each has a run behind it.
pub(super) async fn declare(
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
pub(super) async fn claim(cluster: &Cluster, namespace: &str) -> Result<()> {
    let spec =
        json!({"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}});
    cluster
        .apply(CLAIM, namespace, "data", json!({"spec": spec}))
        .await
}

/// Settings of a source whose peer is refused at once, inside of the mover's own pod.
pub(super) fn to_nowhere() -> Value {
    json!({"copyMethod": "Direct", "address": "127.0.0.1", "port": 9})
}

/// A crowd in a namespace of its own.
struct Crowd<'a> {
    cluster: &'a Cluster,
    namespace: String,
    count: usize,
    requests: Option<&'a Requests>,
}

/// Measures one crowd: at rest, waiting, and failing in two ways.
pub(super) async fn measure(
    cluster: &Cluster,
    count: usize,
    requests: Option<&Requests>,
) -> Result<()> {
    let crowd = Crowd {
        cluster,
        namespace: format!("bench-crowd-{}", std::process::id()),
        count,
        requests,
    };
    cluster.namespace(&crowd.namespace).await?;
    claim(cluster, &crowd.namespace).await?;
    table(
        &format!("{count} resources"),
        &["resident memory", "writes in a minute"],
    )?;
    crowd.rest().await?;
    crowd.wait_for_a_volume().await?;
    crowd.have_jobs_refused().await?;
    crowd.have_pods_refused().await?;
    let parameters = DeleteParams::default();
    let namespaces = cluster.api(NAMESPACE, "");
    namespaces.delete(&crowd.namespace, &parameters).await?;
    Ok(())
}

impl Crowd<'_> {
    async fn rest(&self) -> Result<()> {
        self.cluster.scale_operator(0).await?;
        let trigger = json!({"schedule": "0 0 1 1 *"});
        self.declare("data", &trigger, true).await?;
        self.cluster.scale_operator(1).await?;
        self.report("idle: their schedule is a year away").await
    }

    async fn wait_for_a_volume(&self) -> Result<()> {
        let trigger = json!({"schedule": "* * * * *"});
        self.declare("missing", &trigger, false).await?;
        self.report("waiting for a volume that does not exist, with a schedule of each minute")
            .await
    }

    async fn have_jobs_refused(&self) -> Result<()> {
        self.cluster.scale_operator(0).await?;
        let quota = json!({"spec": {"hard": {"count/jobs.batch": "0"}}});
        self.cluster
            .apply(QUOTA, &self.namespace, "no-jobs", quota)
            .await?;
        self.declare("data", &json!({"manual": "go"}), false)
            .await?;
        self.cluster.scale_operator(1).await?;
        self.report("failing: their Jobs are refused by a quota")
            .await
    }

    async fn have_pods_refused(&self) -> Result<()> {
        self.cluster.scale_operator(0).await?;
        let quotas = self.cluster.api(QUOTA, &self.namespace);
        quotas.delete("no-jobs", &DeleteParams::default()).await?;
        let labels =
            json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
        let namespaces = self.cluster.api(NAMESPACE, "");
        namespaces
            .patch(
                &self.namespace,
                &PatchParams::default(),
                &Patch::Merge(labels),
            )
            .await?;
        self.cluster.scale_operator(1).await?;
        let told = self.wait_until_told().await?;
        let what = "failing: their Jobs' pods are refused by the namespace's pod security";
        self.report(&format!("{what}, which {told} of them tell"))
            .await
    }

    /// Waits until each resource says that its mover's pod is refused, which it does once. Returns how many do.
    async fn wait_until_told(&self) -> Result<usize> {
        let (api, start) = (self.cluster.api(SOURCE, &self.namespace), Instant::now());
        loop {
            let all = api.list(&ListParams::default()).await?.items;
            let told = all.iter().filter(|one| tells_of_pod_security(&one.data));
            let told = told.count();
            if told >= self.count || start.elapsed() > TOLD {
                return Ok(told);
            }
            sleep(LOOK).await;
        }
    }

    async fn declare(&self, claim: &str, trigger: &Value, synced: bool) -> Result<()> {
        let spec = json!({"sourcePVC": claim, "trigger": trigger, "rsync": to_nowhere()});
        declare(self.cluster, &self.namespace, self.count, &spec, synced).await
    }

    async fn report(&self, what: &str) -> Result<()> {
        self.settle().await?;
        let from = Timestamp::now();
        sleep(WINDOW).await;
        let memory = format!("{:.0} MiB", self.cluster.operator_memory().await?);
        let writes = match self.writes(from)? {
            Some(writes) => writes.to_string(),
            None => NOT_COUNTED.to_owned(),
        };
        entry(what, &[memory, writes])
    }

    async fn settle(&self) -> Result<()> {
        let start = Instant::now();
        // The operator has to begin before it can come to rest.
        sleep(LOOK).await;
        while start.elapsed() < SETTLE {
            let from = Timestamp::now();
            sleep(LOOK).await;
            if self.writes(from)?.is_some_and(|writes| writes <= PACE) {
                break;
            }
        }
        Ok(())
    }

    fn writes(&self, from: Timestamp) -> Result<Option<usize>> {
        let count =
            |requests: &Requests| requests.writes(from, Timestamp::now(), Some(&self.namespace));
        self.requests.map(count).transpose()
    }
}

fn tells_of_pod_security(resource: &Value) -> bool {
    let conditions = resource.pointer("/status/conditions");
    let mut conditions = conditions.and_then(Value::as_array).into_iter().flatten();
    conditions.any(|condition| {
        let message = condition.get("message").and_then(Value::as_str);
        message.is_some_and(|message| message.contains("enforces the pod security level"))
    })
}
