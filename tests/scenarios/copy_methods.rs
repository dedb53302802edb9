//! Direct, Clone and Snapshot, at either end.

use anyhow::{Context, Result};
use serde_json::json;
use syncline_testkit::scenario::Stage;
use syncline_testkit::{Cluster, Tree, Who, scenario};

use crate::parts::{
    condition, destination, fill_hostile, fill_plain, image_after, manually, must_be_alike, over,
    receiver, source, synced, text, tree_of_image,
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
    let folder = east.volume("data").await?;
    fill_hostile(&stage.cluster, &folder)?;
    let tree = Tree::scan(&folder)?;
    let peer = receiver(&east, &west, "copy", json!({})).await?;
    east.apply(manually(
        source("copy", "data", &peer, json!({"copyMethod": method})),
        "once",
    ))
    .await?;
    synced(&east, "copy", "once").await?;
    let image = image_after(&west, "copy", None).await?;
    must_be_alike(&tree, &tree_of_image(&west, &image).await?)?;
    must_be_alike(&tree, &Tree::scan(&folder)?).context("the source itself has changed")?;
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
            let folder = east.volume("data").await?;
            fill_hostile(&stage.cluster, &folder)?;
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
                &Tree::scan(&folder)?,
                &Tree::scan(&west.folder("volsync-copy-dst").await?)?,
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
            let folder = east.volume("data").await?;
            fill_plain(&stage.cluster, &folder, 30, 8)?;
            let target = west.volume("mine").await?;
            std::fs::write(target.join("left over"), "not in the source")?;
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
            let tree = Tree::scan(&folder)?;
            must_be_alike(&tree, &tree_of_image(&west, &image).await?)?;
            must_be_alike(&tree, &Tree::scan(&target)?)?;
            assert!(
                image.starts_with("mine-"),
                "the image of volume mine is called {image}"
            );
            west.delete("ReplicationDestination", "copy").await?;
            west.wait_gone("Job", "volsync-rsync-dst-copy").await?;
            must_be_alike(&tree, &Tree::scan(&target)?)
                .context("the user's own volume did not survive")
        },
    )
    .await
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
            crate::parts::listening(&west, "copy").await?;
            Ok(())
        },
    )
    .await
}
