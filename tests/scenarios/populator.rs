//! Claims whose `dataSourceRef` names a destination: they become volumes with its latest image.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use syncline_testkit::scenario::Stage;
use syncline_testkit::{Cluster, Site, Tree, Volume, Who, scenario};

use crate::needs;
use crate::parts::{
    Peer, fill_plain, image_after, manually, must_be_alike, over, put, receiver, source, synced,
    text, told_by_event,
};

/// A claim that is to be filled from the destination `copy`; `more` is laid over it.
fn claim(name: &str, more: Value) -> Value {
    over(
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
                "dataSourceRef": {"apiGroup": "volsync.backube", "kind": "ReplicationDestination", "name": "copy"},
            },
        }),
        more,
    )
}

fn when_missing(wish: &str) -> Value {
    json!({"metadata": {"annotations": {"syncline.dev/on-missing-image": wish}}})
}

/// Waits until nothing of the filling is left but its result.
async fn must_be_finished(site: &Site, name: &str) -> Result<()> {
    told_by_event(site, name, "VolSyncPopulatorFinished").await?;
    let claim = site.get("PersistentVolumeClaim", name).await?;
    let uid = text(&claim, "/metadata/uid").context("a claim without uid")?;
    site.wait_gone("PersistentVolumeClaim", &format!("vs-prime-{uid}"))
        .await?;
    for image in site.list("VolumeSnapshot").await? {
        let labels = image.pointer("/metadata/labels").and_then(Value::as_object);
        let marked = labels.is_some_and(|labels| labels.contains_key(&mark(uid)));
        anyhow::ensure!(!marked, "the mark is still on {image}");
    }
    Ok(())
}

/// The volume of a claim tells by VolSync's annotation which image it was filled from.
async fn is_populated_from(site: &Site, name: &str, image: &str) -> Result<()> {
    let bound = site.get("PersistentVolumeClaim", name).await?;
    let name = text(&bound, "/spec/volumeName").context("no volume")?;
    let persistent = site.get("PersistentVolume", name).await?;
    let from = "/metadata/annotations/volsync.backube~1populated-from";
    let expected = format!("{}/{image}", site.namespace);
    anyhow::ensure!(
        text(&persistent, from) == Some(expected.as_str()),
        "{persistent}"
    );
    Ok(())
}

/// How many files and folders are at the top of a volume, but for what its file system puts there.
async fn files_in(volume: &Volume) -> Result<usize> {
    let count = |folder: &Path| {
        let entries = std::fs::read_dir(folder)?.filter_map(Result::ok);
        Ok(entries
            .filter(|entry| entry.file_name() != "lost+found")
            .count())
    };
    volume.look(count).await
}

fn mark(uid: &str) -> String {
    format!("volsync.backube/volpop-pvc-{uid}")
}

struct Pair {
    east: Site,
    west: Site,
    data: Volume,
    peer: Peer,
}

impl Pair {
    async fn new(stage: &Stage) -> Result<Self> {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let data = east.volume("data").await?;
        fill_plain(&data, 30, 8).await?;
        let peer = receiver(&east, &west, "copy", json!({})).await?;
        Ok(Self {
            east,
            west,
            data,
            peer,
        })
    }

    /// Sends what the source holds now; returns the image's name and what is in it.
    async fn sync(&self, tag: &str, previous: Option<&str>) -> Result<(String, Tree)> {
        let tree = self.data.tree().await?;
        let object = source("copy", "data", &self.peer, json!({}));
        self.east.apply(manually(object, tag)).await?;
        synced(&self.east, "copy", tag).await?;
        let image = image_after(&self.west, "copy", previous).await?;
        Ok((image, tree))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_made_after_the_image_becomes_a_volume_with_it() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "fill-after", |stage| async move {
        let pair = Pair::new(&stage).await?;
        let (image, tree) = pair.sync("once", None).await?;
        pair.west.apply(claim("filled", json!({}))).await?;
        let volume = pair.west.open("filled").await?;
        must_be_alike(&tree, &volume.tree().await?)?;
        must_be_finished(&pair.west, "filled").await?;
        is_populated_from(&pair.west, "filled", &image).await?;
        // It is the claim's own from now on.
        put(&volume, "new", "written by the application").await?;
        pair.west.delete("PersistentVolumeClaim", "filled").await?;
        volume.wait_gone(pair.west.cap).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_made_before_the_image_waits_for_it_and_says_so() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "fill-before", |stage| async move {
        let site = stage.site("early").await?;
        site.apply(claim("filled", json!({}))).await?;
        told_by_event(
            &site,
            "filled",
            "VolSyncPopulatorReplicationDestinationMissing",
        )
        .await?;
        let pair = Pair::new(&stage).await?;
        pair.west.apply(claim("filled", json!({}))).await?;
        told_by_event(
            &pair.west,
            "filled",
            "VolSyncPopulatorReplicationDestinationNoLatestImage",
        )
        .await?;
        let (_, tree) = pair.sync("once", None).await?;
        must_be_alike(&tree, &pair.west.open("filled").await?.tree().await?)?;
        must_be_finished(&pair.west, "filled").await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_claims_are_filled_from_one_image_at_once() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "fill-two", |stage| async move {
        let pair = Pair::new(&stage).await?;
        let (image, tree) = pair.sync("once", None).await?;
        pair.west.apply(claim("one", json!({}))).await?;
        pair.west.apply(claim("two", json!({}))).await?;
        for name in ["one", "two"] {
            must_be_alike(&tree, &pair.west.open(name).await?.tree().await?)?;
            must_be_finished(&pair.west, name).await?;
        }
        pair.west.get("VolumeSnapshot", &image).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_a_claim_is_being_filled_from_outlives_the_next_sync() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "fill-again", |stage| async move {
        let pair = Pair::new(&stage).await?;
        let (first, _) = pair.sync("first", None).await?;
        // Nobody makes volumes of this class, so that the claim stays under way for as long as it takes.
        let class = format!("nobody-{}", pair.west.namespace);
        pair.west
            .apply(json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": class},
                "provisioner": "nobody.test.syncline.dev", "volumeBindingMode": "Immediate"}))
            .await?;
        pair.west
            .apply(claim("stuck", json!({"spec": {"storageClassName": class}})))
            .await?;
        told_by_event(&pair.west, "stuck", "VolSyncPopulatorPVCCreated").await?;
        put(&pair.data, "added", "between the two").await?;
        let (second, tree) = pair.sync("second", Some(&first)).await?;
        pair.west.apply(claim("filled", json!({}))).await?;
        must_be_alike(&tree, &pair.west.open("filled").await?.tree().await?)?;
        must_be_finished(&pair.west, "filled").await?;
        pair.west.get("VolumeSnapshot", &first).await?;
        pair.west.delete("PersistentVolumeClaim", "stuck").await?;
        pair.west.wait_gone("VolumeSnapshot", &first).await?;
        pair.west.get("VolumeSnapshot", &second).await?;
        pair.west.delete("StorageClass", &class).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_filled_from_the_image_of_an_empty_volume_as_from_any_other() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "fill-nothing", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let data = east.volume("data").await?;
        assert_eq!(files_in(&data).await?, 0);
        let peer = receiver(&east, &west, "copy", json!({})).await?;
        let pair = Pair {
            east,
            west,
            data,
            peer,
        };
        let (image, tree) = pair.sync("once", None).await?;
        // Whoever wants no claim without an image has one here.
        pair.west
            .apply(claim("filled", when_missing("Fail")))
            .await?;
        let volume = pair.west.open("filled").await?;
        assert_eq!(files_in(&volume).await?, 0);
        must_be_alike(&tree, &volume.tree().await?)?;
        must_be_finished(&pair.west, "filled").await?;
        is_populated_from(&pair.west, "filled", &image).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_image_a_claim_may_ask_for_an_empty_volume() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "fill-empty", |stage| async move {
        let pair = Pair::new(&stage).await?;
        pair.west
            .apply(claim("filled", when_missing("Empty")))
            .await?;
        let volume = pair.west.open("filled").await?;
        assert_eq!(files_in(&volume).await?, 0);
        must_be_finished(&pair.west, "filled").await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_image_a_claim_may_ask_to_be_given_up() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "fill-fail", |stage| async move {
        let pair = Pair::new(&stage).await?;
        pair.west
            .apply(claim("filled", when_missing("Fail")))
            .await?;
        told_by_event(&pair.west, "filled", "VolSyncPopulatorError").await?;
        let (_, tree) = pair.sync("once", None).await?;
        let stays = pair.west.get("PersistentVolumeClaim", "filled").await?;
        assert_eq!(text(&stays, "/status/phase"), Some("Pending"));
        let again = json!({"metadata": {"annotations": {"syncline.dev/population-failed": null}}});
        pair.west
            .merge("PersistentVolumeClaim", "filled", again)
            .await?;
        must_be_alike(&tree, &pair.west.open("filled").await?.tree().await?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_waits_for_its_first_pod_is_filled_where_that_is_to_run() -> Result<()> {
    let place = needs::WAITING_CLASS.shared(Who::Caller).await?;
    scenario(place, "fill-wait", |stage| async move {
        let pair = Pair::new(&stage).await?;
        let (_, tree) = pair.sync("once", None).await?;
        let waiting = json!({"spec": {"storageClassName": "csi-test-wait"}});
        pair.west.apply(claim("filled", waiting)).await?;
        // Looking into it gives it its first pod.
        must_be_alike(&tree, &pair.west.open("filled").await?.tree().await?)?;
        must_be_finished(&pair.west, "filled").await
    })
    .await
}
