//! The storage goes away and comes back.

use anyhow::{Result, ensure};
use serde_json::json;
use syncline_testkit::{Who, scenario};
use syncline_tests::midway::Held;
use syncline_tests::parts::{
    fill_plain, image_after, manually, must_be_alike, receiver, source, synced, text, tree_of_image,
};

use crate::{needs, turn};

#[tokio::test(flavor = "multi_thread")]
async fn what_arrived_becomes_an_image_when_the_storage_driver_is_back() -> Result<()> {
    let _turn = turn().await;
    let place = needs::PARTS.shared(Who::Caller).await?;
    scenario(place, "storage", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let held = Held::begin(&stage, &east, &west).await?;
        let cluster = stage.cluster.real()?;
        cluster.part("stop", "csi")?;
        let meanwhile = async {
            held.release()?;
            synced(&east, "copy", "once").await?;
            let object = west.get("ReplicationDestination", "copy").await?;
            let image = text(&object, "/status/latestImage/name");
            ensure!(image.is_none(), "an image without storage: {image:?}");
            Ok(())
        }
        .await;
        cluster.part("start", "csi")?;
        meanwhile?;
        held.finishes_undoubled().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_due_without_a_storage_driver_runs_when_there_is_one() -> Result<()> {
    let _turn = turn().await;
    let place = needs::PARTS.shared(Who::Caller).await?;
    scenario(place, "no-storage", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let data = east.volume("data").await?;
        fill_plain(&data, 20, 1).await?;
        let tree = data.tree().await?;
        let peer = receiver(&east, &west, "copy", json!({})).await?;
        let cluster = stage.cluster.real()?;
        cluster.part("stop", "csi")?;
        let meanwhile = async {
            let manifest = source("copy", "data", &peer, json!({"copyMethod": "Snapshot"}));
            east.apply(manually(manifest, "once")).await?;
            east.wait("VolumeSnapshot", "volsync-copy-src", "been made", |_| {
                Some(())
            })
            .await
        }
        .await;
        cluster.part("start", "csi")?;
        meanwhile?;
        synced(&east, "copy", "once").await?;
        let image = image_after(&west, "copy", None).await?;
        must_be_alike(&tree, &tree_of_image(&west, &image).await?)
    })
    .await
}
