//! The flow of the rsync page, from first manifest to starting from the copy.

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use syncline_testkit::scenario::Stage;
use syncline_testkit::{Cluster, Tree, Who, corpus, scenario};

use crate::needs;
use crate::parts::{
    SYNC_CAP, bytes_sent, condition, fill_hostile, fill_plain, image_after, is, manually,
    must_be_alike, over, receiver, source, synced, text, tree_of_image,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_arrives_whole_and_later_syncs_carry_only_what_changed() -> Result<()> {
    scenario(Cluster::shared(Who::Caller).await?, "whole", several_syncs).await
}

#[tokio::test(flavor = "multi_thread")]
async fn for_an_ordinary_user_a_volume_arrives_whole_too() -> Result<()> {
    scenario(
        needs::ORDINARY_USER.shared(Who::Ordinary).await?,
        "whole",
        several_syncs,
    )
    .await
}

async fn several_syncs(stage: Stage) -> Result<()> {
    let (east, west) = (stage.site("east").await?, stage.site("west").await?);
    let data = east.volume("data").await?;
    fill_hostile(&stage.cluster, &data).await?;
    data.edit(|folder| corpus::plain(&folder.join("plain"), 500, 7))
        .await?;
    let first = data.tree().await?;

    let peer = receiver(&east, &west, "copy", json!({})).await?;
    let manifest = source("copy", "data", &peer, json!({}));
    east.apply(manually(manifest.clone(), "first")).await?;
    let status = synced(&east, "copy", "first").await?;
    let whole = bytes_sent(&status)?;
    let image = image_after(&west, "copy", None).await?;
    must_be_alike(&first, &tree_of_image(&west, &image).await?)?;
    must_be_alike(&first, &data.tree().await?).context("the source itself has changed")?;

    data.edit(|folder| corpus::change(&folder.join("plain"), 1, 99))
        .await?;
    let second = data.tree().await?;
    east.apply(manually(manifest.clone(), "second")).await?;
    let changed = bytes_sent(&synced(&east, "copy", "second").await?)?;
    let next = image_after(&west, "copy", Some(&image)).await?;
    must_be_alike(&second, &tree_of_image(&west, &next).await?)?;
    assert!(
        changed * 10 < whole,
        "the second sync sent {changed} bytes, the first {whole}"
    );
    west.wait_gone("VolumeSnapshot", &image).await?;

    east.apply(manually(manifest, "third")).await?;
    let nothing = bytes_sent(&synced(&east, "copy", "third").await?)?;
    let last = image_after(&west, "copy", Some(&next)).await?;
    must_be_alike(&second, &tree_of_image(&west, &last).await?)?;
    assert!(
        nothing <= changed,
        "a sync without changes sent {nothing} bytes, one with changes {changed}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_report_what_the_documentation_shows() -> Result<()> {
    scenario(Cluster::shared(Who::Caller).await?, "status", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        fill_plain(&east.volume("mysql-pv-claim").await?, 50, 1).await?;
        west.apply_yaml(
            "apiVersion: volsync.backube/v1alpha1\nkind: ReplicationDestination\nmetadata:\n  name: my-dest\nspec:\n  rsync:\n    copyMethod: Snapshot\n    capacity: 10Gi\n    accessModes: [ReadWriteOnce]\n",
        )
        .await?;
        let peer = crate::parts::listening(&west, "my-dest").await?;
        west.hand_over_secret(&peer.keys, &east).await?;
        east.apply_yaml(&format!(
            "apiVersion: volsync.backube/v1alpha1\nkind: ReplicationSource\nmetadata:\n  name: my-source\nspec:\n  sourcePVC: mysql-pv-claim\n  trigger:\n    schedule: \"*/5 * * * *\"\n  rsync:\n    sshKeys: {}\n    address: {}\n    copyMethod: Clone\n",
            peer.keys, peer.address
        ))
        .await?;
        let image = image_after(&west, "my-dest", None).await?;
        let east = east.within(SYNC_CAP);
        let sent = east
            .wait("ReplicationSource", "my-source", "a finished sync", |object| {
                is(object, "Synchronizing", "False", "WaitingForSchedule").then(|| object.clone())
            })
            .await?;
        the_source_is_as_documented(&sent)?;
        let mut told = Vec::new();
        for event in east.list("Event").await? {
            told.extend(text(&event, "/reason").map(str::to_owned));
        }
        assert!(told.contains(&"TransferStarted".to_owned()), "{told:?}");
        let received = west.get("ReplicationDestination", "my-dest").await?;
        the_destination_is_as_documented(&received, &image)
    })
    .await
}

fn the_source_is_as_documented(source: &Value) -> Result<()> {
    assert!(
        is(source, "Reconciled", "True", "ReconcileComplete"),
        "{source:#}"
    );
    assert_eq!(
        condition(source, "Reconciled").and_then(|found| text(found, "/message")),
        Some("Reconcile complete")
    );
    assert_eq!(
        condition(source, "Synchronizing").and_then(|found| text(found, "/message")),
        Some("Waiting for next scheduled synchronization")
    );
    for found in ["Reconciled", "Synchronizing"] {
        let generation =
            condition(source, found).and_then(|found| found.pointer("/observedGeneration"));
        assert_eq!(
            generation,
            source.pointer("/metadata/generation"),
            "{found}"
        );
    }
    let last: Timestamp = text(source, "/status/lastSyncTime")
        .context("no lastSyncTime")?
        .parse()?;
    let next: Timestamp = text(source, "/status/nextSyncTime")
        .context("no nextSyncTime")?
        .parse()?;
    assert_eq!(
        next.as_second() % 300,
        0,
        "{next} is no multiple of five minutes"
    );
    assert!(
        next > last && next.as_second() - last.as_second() <= 300,
        "{last} … {next}"
    );
    the_duration_is_gos(source)?;
    assert_eq!(
        text(source, "/status/latestMoverStatus/result"),
        Some("Successful")
    );
    let logs = text(source, "/status/latestMoverStatus/logs").context("no mover log")?;
    assert!(
        logs.lines().any(|line| line.starts_with("sent ")
            && line.contains(" bytes  received ")
            && line.contains(" bytes")),
        "{logs}"
    );
    assert!(logs.contains("Rsync completed in"), "{logs}");
    assert!(
        source.pointer("/status/lastSyncStartTime").is_none(),
        "{source:#}"
    );
    Ok(())
}

fn the_destination_is_as_documented(destination: &Value, image: &str) -> Result<()> {
    assert!(
        is(destination, "Reconciled", "True", "ReconcileComplete"),
        "{destination:#}"
    );
    let latest = destination
        .pointer("/status/latestImage")
        .context("no latestImage")?;
    assert_eq!(
        latest,
        &json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": image})
    );
    let stamp = image
        .strip_prefix("volsync-my-dest-dst-")
        .with_context(|| format!("the image is called {image}"))?;
    assert!(
        stamp.len() == 14 && stamp.bytes().all(|byte| byte.is_ascii_digit()),
        "{image}"
    );
    assert!(
        text(destination, "/status/lastSyncTime").is_some(),
        "{destination:#}"
    );
    the_duration_is_gos(destination)?;
    assert_eq!(
        text(destination, "/status/rsync/sshKeys"),
        Some("volsync-rsync-dst-src-my-dest")
    );
    Ok(())
}

fn the_duration_is_gos(object: &Value) -> Result<()> {
    let duration = text(object, "/status/lastSyncDuration").context("no lastSyncDuration")?;
    let digits = duration.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    assert!(duration.ends_with('s') && !digits.is_empty(), "{duration}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn long_names_work_from_end_to_end() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "long-names",
        |stage| async move {
            let (east, west) = (stage.site("east").await?, stage.site("west").await?);
            let data = east.volume("data").await?;
            fill_plain(&data, 20, 3).await?;
            let long = format!("a-{}-z", "very-long-name-".repeat(8).trim_end_matches('-'));
            let peer = receiver(&east, &west, &long, json!({})).await?;
            east.apply(manually(
                source(&long, "data", &peer, json!({"copyMethod": "Clone"})),
                "once",
            ))
            .await?;
            synced(&east, &long, "once").await?;
            let image = image_after(&west, &long, None).await?;
            must_be_alike(&data.tree().await?, &tree_of_image(&west, &image).await?)
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_of_the_manifest_is_used() -> Result<()> {
    scenario(Cluster::shared(Who::Caller).await?, "path", |stage| {
        below(stage, json!({}))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_the_manifest_is_used() -> Result<()> {
    scenario(
        needs::ACCOUNTS.shared(Who::Caller).await?,
        "user",
        |stage| below(stage, json!({"sshUser": "alice"})),
    )
    .await
}

async fn below(stage: Stage, rsync: Value) -> Result<()> {
    let (east, west) = (stage.site("east").await?, stage.site("west").await?);
    let data = east.volume("data").await?;
    fill_plain(&data, 20, 4).await?;
    let peer = receiver(&east, &west, "copy", rsync.clone()).await?;
    let there = over(rsync, json!({"path": "/below/here"}));
    east.apply(manually(source("copy", "data", &peer, there), "once"))
        .await?;
    synced(&east, "copy", "once").await?;
    let image = image_after(&west, "copy", None).await?;
    let claim = west.volume_from_snapshot("look", &image).await?;
    let copy = claim
        .look(|folder| Tree::scan(&folder.join("below/here")))
        .await?;
    must_be_alike(&data.tree().await?, &copy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_at_rest_costs_no_writes() -> Result<()> {
    scenario(Cluster::shared(Who::Caller).await?, "rest", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        fill_plain(&east.volume("data").await?, 20, 5).await?;
        let peer = receiver(&east, &west, "copy", json!({})).await?;
        let manifest = source("copy", "data", &peer, json!({}));
        east.apply(manually(manifest.clone(), "first")).await?;
        synced(&east, "copy", "first").await?;
        image_after(&west, "copy", None).await?;
        let idle = |object: &Value| is(object, "Synchronizing", "False", "WaitingForManual").then(|| text(object, "/metadata/resourceVersion").map(str::to_owned));
        let before = east.wait("ReplicationSource", "copy", "come to rest", idle).await?;
        // Another relationship's whole sync is the time in which nothing may be written here.
        let north = stage.site("north").await?;
        let other = receiver(&east, &north, "other", json!({})).await?;
        let busy = over(manifest, json!({"metadata": {"name": "other"}, "spec": {"rsync": {"address": other.address, "sshKeys": other.keys}}}));
        east.apply(manually(busy, "once")).await?;
        synced(&east, "other", "once").await?;
        let after = east.get("ReplicationSource", "copy").await?;
        assert_eq!(before.as_deref(), text(&after, "/metadata/resourceVersion"), "{after:#}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_found_by_the_name_of_its_service() -> Result<()> {
    let place = needs::SERVICE_NAMES.shared(Who::Caller).await?;
    scenario(place, "by-name", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let data = east.volume("data").await?;
        fill_plain(&data, 20, 1).await?;
        let tree = data.tree().await?;
        let mut peer = receiver(&east, &west, "copy", json!({})).await?;
        peer.address = format!("volsync-rsync-dst-copy.{}.svc", west.namespace);
        let manifest = source("copy", "data", &peer, json!({}));
        east.apply(manually(manifest, "once")).await?;
        synced(&east, "copy", "once").await?;
        let image = image_after(&west, "copy", None).await?;
        must_be_alike(&tree, &tree_of_image(&west, &image).await?)
    })
    .await
}
