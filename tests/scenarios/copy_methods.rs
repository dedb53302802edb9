//! Direct, Clone and Snapshot, at either end.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use syncline_testkit::scenario::Stage;
use syncline_testkit::{Cluster, Who, corpus, scenario};

use crate::needs;
use crate::parts::{
    condition, destination, fill_hostile, fill_plain, image_after, listening, manually,
    must_be_alike, over, put, receiver, source, synced, text, tree_of_image,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_sent_as_it_is_when_its_copy_method_is_direct() -> Result<()> {
    scenario(Cluster::shared(Who::Caller).await?, "direct", |stage| {
        sends_with(stage, "Direct")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_sent_as_it_is_when_its_copy_method_is_none() -> Result<()> {
    scenario(Cluster::shared(Who::Caller).await?, "none", |stage| {
        sends_with(stage, "None")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_of_the_source_is_sent_and_then_removed() -> Result<()> {
    scenario(Cluster::shared(Who::Caller).await?, "clone", |stage| {
        sends_with(stage, "Clone")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_the_source_is_sent_and_then_removed() -> Result<()> {
    scenario(Cluster::shared(Who::Caller).await?, "snapshot", |stage| {
        sends_with(stage, "Snapshot")
    })
    .await
}

async fn sends_with(stage: Stage, method: &'static str) -> Result<()> {
    let (east, west) = (stage.site("east").await?, stage.site("west").await?);
    let data = east.volume("data").await?;
    fill_hostile(&stage.cluster, &data).await?;
    let tree = data.tree().await?;
    let peer = receiver(&east, &west, "copy", json!({})).await?;
    east.apply(manually(
        source("copy", "data", &peer, json!({"copyMethod": method})),
        "once",
    ))
    .await?;
    synced(&east, "copy", "once").await?;
    let image = image_after(&west, "copy", None).await?;
    must_be_alike(&tree, &tree_of_image(&west, &image).await?)?;
    must_be_alike(&tree, &data.tree().await?).context("the source itself has changed")?;
    east.wait_gone("PersistentVolumeClaim", "volsync-copy-src")
        .await?;
    east.wait_gone("VolumeSnapshot", "volsync-copy-src").await?;
    east.wait_gone("Job", "volsync-rsync-src-copy").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_destination_is_its_own_image() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "direct-dst",
        |stage| async move {
            let (east, west) = (stage.site("east").await?, stage.site("west").await?);
            let data = east.volume("data").await?;
            fill_hostile(&stage.cluster, &data).await?;
            let peer = receiver(&east, &west, "copy", json!({"copyMethod": "Direct"})).await?;
            east.apply(manually(source("copy", "data", &peer, json!({})), "once"))
                .await?;
            synced(&east, "copy", "once").await?;
            image_after(&west, "copy", None).await?;
            let status = west.get("ReplicationDestination", "copy").await?;
            let image = status.pointer("/status/latestImage").context("no image")?;
            assert_eq!(
                (text(image, "/kind"), text(image, "/name")),
                (Some("PersistentVolumeClaim"), Some("volsync-copy-dst"))
            );
            must_be_alike(
                &data.tree().await?,
                &west.open("volsync-copy-dst").await?.tree().await?,
            )
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_may_write_into_a_volume_that_is_there() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "own-pvc",
        |stage| async move {
            let (east, west) = (stage.site("east").await?, stage.site("west").await?);
            let data = east.volume("data").await?;
            fill_plain(&data, 30, 8).await?;
            let target = west.volume("mine").await?;
            put(&target, "left over", "not in the source").await?;
            let peer = receiver(
                &east,
                &west,
                "copy",
                json!({"destinationPVC": "mine", "capacity": null, "accessModes": null}),
            )
            .await?;
            east.apply(manually(source("copy", "data", &peer, json!({})), "once"))
                .await?;
            synced(&east, "copy", "once").await?;
            let image = image_after(&west, "copy", None).await?;
            let tree = data.tree().await?;
            must_be_alike(&tree, &tree_of_image(&west, &image).await?)?;
            must_be_alike(&tree, &target.tree().await?)?;
            assert!(
                image.starts_with("mine-"),
                "the image of volume mine is called {image}"
            );
            west.delete("ReplicationDestination", "copy").await?;
            west.wait_gone("Job", "volsync-rsync-dst-copy").await?;
            must_be_alike(&tree, &target.tree().await?)
                .context("the user's own volume did not survive")
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destinations_volume_may_go_with_each_run_and_its_images_are_whole() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "temp-pvc",
        receives_into_a_new_volume_each_time,
    )
    .await
}

async fn receives_into_a_new_volume_each_time(stage: Stage) -> Result<()> {
    let (east, west) = (stage.site("east").await?, stage.site("west").await?);
    let data = east.volume("data").await?;
    fill_hostile(&stage.cluster, &data).await?;
    let receives = destination("copy", json!({"cleanupTempPVC": true}));
    let mut image: Option<String> = None;
    for round in ["one", "two"] {
        put(&data, round, round).await?;
        let tree = data.tree().await?;
        west.apply(manually(receives.clone(), round)).await?;
        let peer = listening(&west, "copy").await?;
        if image.is_none() {
            west.hand_over_secret(&peer.keys, &east).await?;
        }
        let running = |job: &Value| (job.pointer("/status/active")? == 1).then_some(());
        west.wait("Job", "volsync-rsync-dst-copy", "a mover", running)
            .await?;
        east.apply(manually(source("copy", "data", &peer, json!({})), round))
            .await?;
        synced(&east, "copy", round).await?;
        let next = image_after(&west, "copy", image.as_deref()).await?;
        west.wait_gone("PersistentVolumeClaim", "volsync-copy-dst")
            .await?;
        // The image does without the volume that it was made of.
        must_be_alike(&tree, &tree_of_image(&west, &next).await?)?;
        if let Some(before) = image.replace(next) {
            west.wait_gone("VolumeSnapshot", &before).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_cannot_be_a_clone_and_says_so_before_anything_moves() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "clone-dst",
        |stage| async move {
            let west = stage.site("west").await?;
            west.apply(destination("copy", json!({"copyMethod": "Clone"})))
                .await?;
            let message = west
                .wait("ReplicationDestination", "copy", "an error", |object| {
                    let found = condition(object, "Synchronizing")
                        .filter(|found| text(found, "/reason") == Some("Error"))?;
                    text(found, "/message").map(str::to_owned)
                })
                .await?;
            assert!(message.contains("Clone"), "{message}");
            assert!(west.list("Job").await?.is_empty(), "a Job was made");
            // The cure is heard without anything else being touched.
            west.apply(over(destination("copy", json!({})), json!({})))
                .await?;
            listening(&west, "copy").await?;
            Ok(())
        },
    )
    .await
}

/// Bytes of a file that takes a while to copy.
const BIG: usize = 160 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_could_not_be_of_one_moment_is_called_so() -> Result<()> {
    scenario(needs::TORN_COPIES.shared(Who::Caller).await?, "torn", torn).await
}

async fn torn(stage: Stage) -> Result<()> {
    let (east, west) = (stage.site("east").await?, stage.site("west").await?);
    let data = east.volume("data").await?;
    // So big that it changes during each pass over it, however busy the machine is.
    let big = data.folder().context("no folder")?.join("big");
    std::fs::write(&big, corpus::noise(BIG, 9))?;
    let peer = receiver(&east, &west, "copy", json!({})).await?;
    let manifest = source("copy", "data", &peer, json!({"copyMethod": "Clone"}));
    east.apply(manually(manifest.clone(), "quiet")).await?;
    let quiet = synced(&east, "copy", "quiet").await?;
    let image = image_after(&west, "copy", None).await?;
    assert_eq!(verdict(&quiet)?.0, "True", "{quiet:#}");
    let image = west.get("VolumeSnapshot", &image).await?;
    let kind = text(&image, "/metadata/annotations/syncline.dev~1consistency");
    assert!(
        matches!(kind, Some("atomic" | "per-file" | "none")),
        "{image:#}"
    );

    let writer = Writer::start(&big)?;
    east.apply(manually(manifest, "busy")).await?;
    let busy = synced(&east, "copy", "busy").await?;
    writer.stop()?;
    // Where the file system can make a copy of one instant, even a busy volume's copy is one; where it can copy a file
    // in an instant, a pass may have met a quiet one.
    let expected = if kind == Some("atomic") {
        ("True", "Atomic")
    } else {
        ("False", "VolumeWasChanging")
    };
    let settled = kind == Some("per-file") && verdict(&busy)? == ("True", "Settled");
    assert!(settled || verdict(&busy)? == expected, "{busy:#}");
    Ok(())
}

/// Status and reason of the condition that tells how consistent the copy was.
fn verdict(source: &Value) -> Result<(&str, &str)> {
    let found = condition(source, "Consistent")
        .with_context(|| format!("no word of consistency in {source:#}"))?;
    text(found, "/status")
        .zip(text(found, "/reason"))
        .context("a condition without status")
}

/// Writes to the same place of a file without a pause.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Writer {
    fn start(path: &Path) -> Result<Self> {
        let file = File::options().write(true).open(path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut number = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                number += 1;
                file.write_all_at(&number.to_le_bytes(), 0)?;
            }
            Ok(())
        });
        Ok(Self { stop, thread })
    }

    fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the writer broke off")??;
        Ok(())
    }
}
