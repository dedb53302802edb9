//! Volumes of mode Block.

use anyhow::{Context, Result};
use serde_json::json;
use syncline_testkit::{Cluster, Who, scenario};

use crate::needs;
use crate::parts::{
    bytes_sent, condition, image_after, listening, manually, over, receiver, source, synced, text,
};

const BLOCK: usize = 64 * 1024;

/// A block that looks like no other.
fn block(seed: u8) -> Vec<u8> {
    (0..BLOCK)
        .map(|at| seed ^ u8::try_from(at % 251).unwrap_or_default())
        .collect()
}

fn at(number: usize) -> u64 {
    u64::try_from(number * BLOCK).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_volume_is_replicated_block_by_block() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "block", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let disk = east.disk("disk", "32Mi").await?;
        let start: Vec<u8> = (0..64).flat_map(block).collect();
        disk.put(0, &start).await?;
        let target = json!({"volumeMode": "Block", "capacity": "32Mi"});
        let peer = receiver(&east, &west, "copy", target).await?;
        let object = source("copy", "disk", &peer, json!({}));
        east.apply(manually(object.clone(), "first")).await?;
        synced(&east, "copy", "first").await?;
        let first = image_after(&west, "copy", None).await?;
        let look = west.disk_from_snapshot("look-1", "32Mi", &first).await?;
        assert_eq!(look.hash().await?, disk.hash().await?);

        disk.put(at(70), &block(200)).await?;
        east.apply(manually(object, "second")).await?;
        let second = synced(&east, "copy", "second").await?;
        let sent = bytes_sent(&second)?;
        assert!((at(1)..at(3)).contains(&sent), "{sent} bytes for one block");
        let image = image_after(&west, "copy", Some(&first)).await?;
        let look = west.disk_from_snapshot("look-2", "32Mi", &image).await?;
        assert_eq!(look.hash().await?, disk.hash().await?);

        // An application starts from it.
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "filled"},
            "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Block",
                "resources": {"requests": {"storage": "32Mi"}},
                "dataSourceRef": {"apiGroup": "volsync.backube", "kind": "ReplicationDestination", "name": "copy"}},
        });
        west.apply(claim).await?;
        let filled = west.open_disk("filled").await?;
        assert_eq!(filled.hash().await?, disk.hash().await?);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_volume_is_replicated_without_root() -> Result<()> {
    let cluster = needs::DEVICES_FOR_ALL.shared(Who::Caller).await?;
    scenario(cluster, "block-user", |stage| async move {
        let east = stage.site_with("east", "restricted").await?;
        let west = stage.site_with("west", "restricted").await?;
        let disk = east.disk("disk", "32Mi").await?;
        disk.put(at(3), &block(7)).await?;
        let rights = json!({"moverSecurityContext":
            {"runAsUser": 1234, "runAsGroup": 5678, "fsGroup": 5678, "runAsNonRoot": true}});
        let target = over(
            rights.clone(),
            json!({"volumeMode": "Block", "capacity": "32Mi"}),
        );
        let peer = receiver(&east, &west, "copy", target).await?;
        let object = source("copy", "disk", &peer, rights);
        east.apply(manually(object, "once")).await?;
        synced(&east, "copy", "once").await?;
        let image = image_after(&west, "copy", None).await?;
        let look = west.disk_from_snapshot("look", "32Mi", &image).await?;
        assert_eq!(look.hash().await?, disk.hash().await?);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_not_sent_into_a_file_system() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "block-fs", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        east.disk("disk", "32Mi").await?;
        let peer = receiver(&east, &west, "copy", json!({})).await?;
        listening(&west, "copy").await?;
        let object = source("copy", "disk", &peer, json!({"copyMethod": "Direct"}));
        east.apply(over(
            object,
            json!({"spec": {"trigger": {"manual": "once"}}}),
        ))
        .await?;
        let message = east
            .wait(
                "ReplicationSource",
                "copy",
                "the reason in its condition",
                |object| {
                    let condition = condition(object, "Synchronizing")?;
                    let message = text(condition, "/message")?;
                    message
                        .contains("VolumeModeMismatch")
                        .then(|| message.to_owned())
                },
            )
            .await?;
        message
            .contains("spec.rsync.volumeMode")
            .then_some(())
            .context(message)
    })
    .await
}
