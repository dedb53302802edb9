//! When a sync begins: by hand, by the clock, at once, or not at all.

use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use syncline_testkit::{Cluster, Who, scenario};

use crate::parts::{
    fill_plain, image_after, is, manually, must_be_alike, over, put, receiver, source, synced,
    text, tree_of_image,
};

/// A minute's wait for the schedule, and a sync.
const MINUTE_CAP: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread")]
async fn a_manual_sync_runs_once_for_each_new_word() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "manual",
        |stage| async move {
            let (east, west) = (stage.site("east").await?, stage.site("west").await?);
            let data = east.volume("data").await?;
            fill_plain(&data, 10, 1).await?;
            let peer = receiver(&east, &west, "copy", json!({})).await?;
            let manifest = source("copy", "data", &peer, json!({"copyMethod": "Direct"}));
            east.apply(manually(manifest.clone(), "monday")).await?;
            synced(&east, "copy", "monday").await?;
            let first = image_after(&west, "copy", None).await?;
            let waiting = |object: &Value| {
                is(object, "Synchronizing", "False", "WaitingForManual").then(|| object.clone())
            };
            let idle = east
                .wait(
                    "ReplicationSource",
                    "copy",
                    "wait for the next word",
                    waiting,
                )
                .await?;
            assert!(idle.pointer("/status/nextSyncTime").is_none(), "{idle:#}");
            // The same word again is no new wish.
            east.apply(manually(manifest.clone(), "monday")).await?;
            put(&data, "new", "content").await?;

            east.apply(manually(manifest, "tuesday")).await?;
            synced(&east, "copy", "tuesday").await?;
            let second = image_after(&west, "copy", Some(&first)).await?;
            must_be_alike(&data.tree().await?, &tree_of_image(&west, &second).await?)
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_fires_on_the_minute_after_a_first_sync_at_once() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "schedule",
        |stage| async move {
            let (east, west) = (
                stage.site("east").await?.within(MINUTE_CAP),
                stage.site("west").await?,
            );
            let data = east.volume("data").await?;
            fill_plain(&data, 10, 2).await?;
            let peer = receiver(&east, &west, "copy", json!({})).await?;
            let manifest = over(
                source("copy", "data", &peer, json!({"copyMethod": "Clone"})),
                json!({"spec": {"trigger": {"schedule": "* * * * *"}}}),
            );
            east.apply(manifest).await?;
            let waiting = |object: &Value| {
                let found = is(object, "Synchronizing", "False", "WaitingForSchedule");
                found.then(|| {
                    (
                        text(object, "/status/lastSyncTime").map(str::to_owned),
                        text(object, "/status/nextSyncTime").map(str::to_owned),
                    )
                })
            };
            let (last, next) = east
                .wait("ReplicationSource", "copy", "a first sync", waiting)
                .await?;
            let (last, next): (Timestamp, Timestamp) = (
                last.context("no last sync")?.parse()?,
                next.context("no next sync")?.parse()?,
            );
            assert!(next.as_second() % 60 == 0 && next > last, "{last} … {next}");
            let first = image_after(&west, "copy", None).await?;
            put(&data, "before the minute", "content").await?;

            let again = |object: &Value| {
                let at: Timestamp = text(object, "/status/lastSyncTime")?.parse().ok()?;
                (at > last).then_some(at)
            };
            let at = east
                .wait("ReplicationSource", "copy", "a second sync", again)
                .await?;
            assert!(at >= next, "the sync of {next} was done at {at}");
            let second = image_after(&west, "copy", Some(&first)).await?;
            must_be_alike(&data.tree().await?, &tree_of_image(&west, &second).await?)
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_trigger_a_source_syncs_again_and_again() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "endless",
        |stage| async move {
            let (east, west) = (
                stage.site("east").await?.within(MINUTE_CAP),
                stage.site("west").await?,
            );
            fill_plain(&east.volume("data").await?, 10, 3).await?;
            let peer = receiver(&east, &west, "copy", json!({})).await?;
            east.apply(source(
                "copy",
                "data",
                &peer,
                json!({"copyMethod": "Direct"}),
            ))
            .await?;
            let mut last = None;
            for _ in 0..3 {
                let image = image_after(&west, "copy", last.as_deref()).await?;
                last = Some(image);
            }
            Ok(())
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_source_starts_no_pod_until_it_is_released() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "paused",
        |stage| async move {
            let (east, west) = (stage.site("east").await?, stage.site("west").await?);
            let data = east.volume("data").await?;
            fill_plain(&data, 10, 4).await?;
            let peer = receiver(&east, &west, "copy", json!({})).await?;
            let manifest = manually(source("copy", "data", &peer, json!({})), "once");
            east.apply(over(manifest.clone(), json!({"spec": {"paused": true}})))
                .await?;
            let parallelism =
                |job: &Value| job.pointer("/spec/parallelism").and_then(Value::as_i64);
            assert_eq!(
                east.wait(
                    "Job",
                    "volsync-rsync-src-copy",
                    "a parallelism",
                    parallelism
                )
                .await?,
                0
            );
            assert!(
                east.list("Pod").await?.is_empty(),
                "a paused source has a pod"
            );
            // What is written now is too late: the point-in-time copy was made when the pause began.
            let before = data.tree().await?;
            put(&data, "too late", "content").await?;
            east.apply(manifest).await?;
            synced(&east, "copy", "once").await?;
            let image = image_after(&west, "copy", None).await?;
            let copy = tree_of_image(&west, &image).await?;
            before.must_equal(
                &copy,
                syncline_testkit::tree::Ignore {
                    root: true,
                    ..Default::default()
                },
            )
        },
    )
    .await
}
