//! Interruptions: nothing is lost, and the sync is finished without help.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use syncline_testkit::{Cluster, Place, Signal, Who, scenario};
use syncline_tests::midway::{begin_big_sync, finished_whole, is_rsync, not_done_yet};

use crate::needs;
use crate::parts::{SYNC_CAP, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_killed_in_mid_sync_finishes_the_sync_when_it_is_back() -> Result<()> {
    killed_cluster(needs::POWER_CUT.own(Who::Caller).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn for_an_ordinary_user_a_killed_cluster_finishes_the_sync_too() -> Result<()> {
    killed_cluster(needs::ORDINARY_USER.own(Who::Ordinary).await?).await
}

async fn killed_cluster(place: Place) -> Result<()> {
    scenario(place, "power", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let tree = begin_big_sync(&east, &west).await?;
        stage.cluster.embedded()?.kill()?;
        stage.cluster.embedded()?.restart().await?;
        let (east, west) = (east.again().await?, west.again().await?);
        not_done_yet(&east).await?;
        finished_whole(&east, &west, &tree).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mover_killed_in_mid_sync_is_replaced_and_the_sync_is_finished() -> Result<()> {
    let place = needs::PROCESSES.own(Who::Caller).await?;
    scenario(place, "killed", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let tree = begin_big_sync(&east, &west).await?;
        let killed = stage
            .processes(&[&east, &west], is_rsync)
            .await?
            .signal(Signal::KILL);
        assert!(killed > 0, "there was no rsync to kill");
        not_done_yet(&east).await?;
        finished_whole(&east, &west, &tree).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_pod_deleted_in_mid_sync_is_replaced_and_the_sync_is_finished() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "evicted", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let tree = begin_big_sync(&east, &west).await?;
        let pods = east.list("Pod").await?;
        let pod = pods
            .first()
            .and_then(|pod| text(pod, "/metadata/name"))
            .context("no pod")?;
        east.delete("Pod", pod).await?;
        not_done_yet(&east).await?;
        finished_whole(&east, &west, &tree).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_killed_in_mid_sync_is_found_again_by_its_source() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "receiver", |stage| async move {
        let (east, west) = (
            stage.site("east").await?,
            stage.site("west").await?.within(Duration::from_secs(180)),
        );
        let tree = begin_big_sync(&east, &west).await?;
        let pods = west.list("Pod").await?;
        let pod = pods
            .first()
            .and_then(|pod| text(pod, "/metadata/name"))
            .context("no pod")?;
        west.delete("Pod", pod).await?;
        not_done_yet(&east).await?;
        finished_whole(&east.within(Duration::from_secs(180)), &west, &tree).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_with_the_arguments_it_started_with_and_tells_how_far_it_is() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "steady", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let tree = begin_big_sync(&east, &west).await?;
        let job = east.get("Job", "volsync-rsync-src-copy").await?;
        let change =
            json!({"spec": {"rsync": {"path": "/elsewhere", "moverPodLabels": {"new": "label"}}}});
        east.merge("ReplicationSource", "copy", change).await?;
        let far = |object: &Value| {
            let progress = object.pointer("/status/progress")?;
            let (done, total) = (
                progress.get("bytesDone")?.as_i64()?,
                progress.get("bytesTotal")?.as_i64()?,
            );
            (text(progress, "/phase") == Some("Transferring") && done > 0 && total >= done)
                .then_some(())
        };
        east.within(SYNC_CAP)
            .wait("ReplicationSource", "copy", "progress", far)
            .await?;
        let same = east.get("Job", "volsync-rsync-src-copy").await?;
        assert_eq!(
            text(&job, "/metadata/uid"),
            text(&same, "/metadata/uid"),
            "the Job was made anew"
        );
        assert_eq!(job.get("spec"), same.get("spec"), "the Job was changed");
        not_done_yet(&east).await?;
        finished_whole(&east, &west, &tree).await?;
        let rest = east.get("ReplicationSource", "copy").await?;
        assert!(rest.pointer("/status/progress").is_none(), "{rest:#}");
        Ok(())
    })
    .await
}
