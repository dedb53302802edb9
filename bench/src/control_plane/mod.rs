//! The operator on a real Kubernetes: what a sync costs beside what the cluster alone needs, and what a crowd costs.

mod crowd;
mod floor;
mod herd;
mod stage;
mod sync;

use anyhow::Result;

use crate::ControlPlane;
use crate::cluster::Cluster;
use crate::figures::say;
use crate::requests::Requests;

/// Measures and prints everything.
pub(crate) async fn run(what: &ControlPlane) -> Result<()> {
    let cluster = Cluster::connect(&what.operator).await?;
    let requests = what
        .audit_log
        .as_deref()
        .map(|log| Requests::of(log, &what.operator));
    if requests.is_none() {
        say("requests are not counted: --audit-log names no file")?;
    }
    let version = cluster.client.apiserver_version().await?.git_version;
    let processors = std::thread::available_parallelism()?;
    say(&format!(
        "Kubernetes {version}, one node, {processors} processors"
    ))?;
    cluster.scale_operator(1).await?;
    let stage = stage::Stage::set(&cluster).await?;
    let floor = floor::measure(&stage, what.repeat).await?;
    floor.show()?;
    sync::measure(&stage, what.repeat, requests.as_ref())
        .await?
        .show(&floor)?;
    stage.strike().await?;
    herd::measure(&cluster, what.schedules).await?;
    herd::cap(&cluster).await?;
    crowd::measure(&cluster, what.resources, requests.as_ref()).await
}
