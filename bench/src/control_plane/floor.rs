//! What the cluster alone needs for the steps of a sync: a snapshot, a volume from it, a pod with that volume.

use std::time::Instant;

use anyhow::Result;
use kube::api::DeleteParams;
use serde_json::json;

use super::stage::Stage;
use crate::cluster::{CLAIM, POD, SNAPSHOT};
use crate::figures::{Figures, head, row};
use crate::timeline::{Sighting, Timeline};

/// The floor, step by step.
#[derive(Default)]
pub(super) struct Floor {
    pub(super) snapshot: Figures,
    pub(super) volume: Figures,
    pub(super) pod: Figures,
    pub(super) pod_start: Figures,
}

impl Floor {
    /// What a source's sync needs at least: the three steps one after the other, in seconds.
    pub(super) fn of_source(&self) -> f64 {
        self.snapshot.median() + self.volume.median() + self.pod.median()
    }

    pub(super) fn show(&self) -> Result<()> {
        head("What the cluster alone needs")?;
        row("VolumeSnapshot: made → ready", &self.snapshot)?;
        row("volume from it: made → bound", &self.volume)?;
        row(
            "pod with that volume: made → its container started",
            &self.pod_start,
        )?;
        row("pod with that volume: made → Succeeded", &self.pod)
    }
}

/// Is this snapshot ready?
pub(super) fn ready(seen: &Sighting) -> bool {
    seen.object.pointer("/status/readyToUse") == Some(&json!(true))
}

/// Is this claim bound?
pub(super) fn bound(seen: &Sighting) -> bool {
    seen.text("/status/phase") == Some("Bound")
}

/// Measures each step as often as asked.
pub(super) async fn measure(stage: &Stage, repeat: usize) -> Result<Floor> {
    let mut floor = Floor::default();
    for round in 0..repeat {
        step(stage, &format!("floor-{round}"), &mut floor).await?;
    }
    Ok(floor)
}

async fn step(stage: &Stage, name: &str, floor: &mut Floor) -> Result<()> {
    let (cluster, namespace) = (&stage.cluster, stage.source.as_str());
    let timeline = Timeline::begin(cluster, namespace, &[SNAPSHOT, CLAIM, POD]);

    let start = Instant::now();
    let source = json!({"spec": {"source": {"persistentVolumeClaimName": "data"}}});
    cluster.apply(SNAPSHOT, namespace, name, source).await?;
    let seen = timeline
        .first("a ready snapshot", start, |seen| {
            seen.is(SNAPSHOT, name) && ready(seen)
        })
        .await?;
    floor.snapshot.add(seen.at - start);

    let start = Instant::now();
    let spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "64Mi"}},
        "dataSource": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name},
    });
    cluster
        .apply(CLAIM, namespace, name, json!({"spec": spec}))
        .await?;
    let seen = timeline
        .first("a bound claim", start, |seen| {
            seen.is(CLAIM, name) && bound(seen)
        })
        .await?;
    floor.volume.add(seen.at - start);

    let start = Instant::now();
    stage
        .pod(name, name, json!(["/syncline", "--version"]))
        .await?;
    let started = timeline
        .first("a pod that started", start, |seen| {
            seen.is(POD, name)
                && matches!(seen.text("/status/phase"), Some("Running" | "Succeeded"))
        })
        .await?;
    floor.pod_start.add(started.at - start);
    let seen = timeline
        .first("a pod that ended", start, |seen| {
            seen.is(POD, name) && seen.text("/status/phase") == Some("Succeeded")
        })
        .await?;
    floor.pod.add(seen.at - start);
    for kind in [POD, CLAIM, SNAPSHOT] {
        cluster
            .api(kind, namespace)
            .delete(name, &DeleteParams::default())
            .await?;
    }
    Ok(())
}
