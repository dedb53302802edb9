//! Versions: a destination takes one that is whole, whenever it looks.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use syncline_testkit::scenario::Stage;
use syncline_testkit::store::{Fault, Kind, ObjectStore};
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Cluster, Site, Tree, Volume, Who, scenario};
use syncline_tests::stores::{
    CLAIM, Remote, generation, next_image, privileged, receive, received, send, waits,
};

use crate::needs;
use crate::parts::{
    SYNC_CAP, fill_plain, manually, must_be_alike, over, put, synced, text, tree_of_image,
};

/// A destination's look at the store at least every second.
fn often() -> Value {
    json!({"metadata": {"annotations": {"syncline.dev/rclone-poll-limit": "1s"}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn one_source_feeds_five_destinations_in_namespaces_of_their_own() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-fan-out", fans_out).await
}

async fn fans_out(stage: Stage) -> Result<()> {
    let east = stage.site("east").await?;
    privileged(&east).await?;
    let data = east.volume("data").await?;
    crate::parts::fill_hostile(&stage.cluster, &data).await?;
    let store = ObjectStore::start(&stage.cluster).await?;
    let remote = Remote::of(&store, "db");
    remote.tell(&east).await?;
    let mut edges = Vec::new();
    for number in 1..=5 {
        let edge = stage.site(&format!("edge-{number}")).await?;
        privileged(&edge).await?;
        remote.tell(&edge).await?;
        // Without a trigger, and before there is anything to fetch.
        let destination = remote.destination("copy", json!({}));
        edge.apply(over(destination, often())).await?;
        edges.push((edge, None::<String>));
    }
    for round in ["first", "second"] {
        put(&data, "round", round).await?;
        let tree = data.tree().await?;
        let sent = send(&east, &remote, round).await?;
        let version = generation(&sent).context("no generation")?.to_owned();
        for (edge, image) in &mut edges {
            let (next, copy) = next_image(edge, image.as_deref()).await?;
            must_be_alike(&tree, &copy).with_context(|| edge.namespace.clone())?;
            let object = edge.get("ReplicationDestination", "copy").await?;
            ensure!(generation(&object) == Some(version.as_str()), "{object}");
            *image = Some(next);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_without_a_trigger_takes_each_version_once_and_waits_between() -> Result<()> {
    polls("rclone-polls", json!({})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_one_whose_volume_goes_after_each_run() -> Result<()> {
    polls("rclone-passing", json!({"cleanupTempPVC": true})).await
}

async fn polls(name: &str, given: Value) -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, name, |stage| async move {
        let site = stage.site("both").await?;
        privileged(&site).await?;
        let (data, _) = (site.volume("data").await?, site.volume(CLAIM).await?);
        fill_plain(&data, 20, 1).await?;
        let remote = Remote::folder("db");
        remote.tell(&site).await?;
        site.apply(over(remote.destination("copy", given), often()))
            .await?;
        waits(&site, "copy").await?;
        let first = send(&site, &remote, "first").await?;
        let (image, copy) = next_image(&site, None).await?;
        must_be_alike(&data.tree().await?, &copy)?;

        waits(&site, "copy").await?;
        let same = send(&site, &remote, "unchanged").await?;
        ensure!(generation(&same) == generation(&first), "{same}");

        put(&data, "new", "file").await?;
        let tree = data.tree().await?;
        let second = send(&site, &remote, "changed").await?;
        let (_, copy) = next_image(&site, Some(&image)).await?;
        must_be_alike(&tree, &copy)?;
        let object = site.get("ReplicationDestination", "copy").await?;
        ensure!(generation(&object) == generation(&second), "{object}");
        // One image for each version: the run without changes made none.
        waits(&site, "copy").await?;
        let made = site.list("Event").await?;
        let made = made.iter().filter(|event| {
            text(event, "/reason") == Some("VolumeSnapshotCreated")
                && text(event, "/involvedObject/kind") == Some("ReplicationDestination")
        });
        ensure!(made.count() == 2, "{:?}", site.list("Event").await?);
        Ok(())
    })
    .await
}

/// The version with this word: many files, all of which hold it.
async fn version(data: &Volume, word: &str) -> Result<Tree> {
    let fill = |folder: &Path| {
        for number in 0..100 {
            let content = format!("{word} of {number}");
            std::fs::write(folder.join(format!("{number}")), content)?;
        }
        let _ = std::fs::remove_file(folder.join("only in one"));
        Ok(std::fs::write(
            folder.join(format!("only in {word}")),
            word,
        )?)
    };
    data.edit(fill).await?;
    data.tree().await
}

/// A site whose source has sent version one.
async fn begun(stage: &Stage) -> Result<(Site, Volume, ObjectStore, Remote)> {
    let site = stage.site("both").await?;
    privileged(&site).await?;
    let data = site.volume("data").await?;
    let store = ObjectStore::start(&stage.cluster).await?;
    let remote = Remote::of(&store, "db");
    remote.tell(&site).await?;
    version(&data, "one").await?;
    send(&site, &remote, "one").await?;
    Ok((site, data, store, remote))
}

/// Waits until the store holds requests back.
async fn holds(store: &ObjectStore) -> Result<()> {
    wait_for("a request that is held", SYNC_CAP, || async {
        Ok(if store.struck() > 0 {
            Look::Done(())
        } else {
            Look::NotYet(store.requests().to_string())
        })
    })
    .await
}

/// Waits until the status of the source or destination `copy` tells, from rclone's own statistics, that a part of the files
/// has gone or come.
async fn shows_how_far_it_is(site: &Site, kind: &str) -> Result<()> {
    let what = "progress in the midst of the files";
    site.within(SYNC_CAP)
        .wait(kind, "copy", what, |object| {
            let count = |name: &str| {
                object
                    .pointer(&format!("/status/progress/{name}"))?
                    .as_i64()
            };
            let (done, total) = (count("filesDone")?, count("filesTotal")?);
            let (bytes, all) = (count("bytesDone")?, count("bytesTotal")?);
            (0 < done && done < total && 0 < bytes && bytes < all).then_some(())
        })
        .await
}

/// A source whose store holds it back in the midst of sending version two, and a destination that has version one.
struct Upload {
    site: Site,
    store: ObjectStore,
    remote: Remote,
    /// The image of version one.
    image: String,
    two: Tree,
}

impl Upload {
    async fn held(stage: &Stage) -> Result<Self> {
        let (site, data, store, remote) = begun(stage).await?;
        let object = receive(&site, &remote, "one").await?;
        let image = text(&object, "/status/latestImage/name").context("no image")?;
        let two = version(&data, "version two").await?;
        store.misbehave(Fault::hold().on(Kind::Put).at("/db/").after(20));
        site.apply(manually(remote.source("copy", "data", json!({})), "two"))
            .await?;
        holds(&store).await?;
        Ok(Self {
            image: image.to_owned(),
            site,
            store,
            remote,
            two,
        })
    }

    /// Asks the destination for version two, for which it must wait with the image that it has.
    async fn keeps_the_image_meanwhile(&self) -> Result<()> {
        let site = &self.site;
        let destination = self.remote.destination("copy", json!({}));
        site.apply(manually(destination, "two")).await?;
        waits(site, "copy").await?;
        let now = site.get("ReplicationDestination", "copy").await?;
        let image = text(&now, "/status/latestImage/name");
        ensure!(image == Some(&self.image), "{now}");
        Ok(())
    }

    /// Lets the source go on, and waits for version two at both ends.
    async fn ends(self) -> Result<()> {
        self.store.behave();
        synced(&self.site, "copy", "two").await?;
        received(&self.site, "copy", "two").await?;
        let (_, copy) = next_image(&self.site, Some(&self.image)).await?;
        must_be_alike(&self.two, &copy)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_runs_while_the_source_uploads_waits_for_the_whole_version() -> Result<()>
{
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-upload", |stage| async move {
        let upload = Upload::held(&stage).await?;
        shows_how_far_it_is(&upload.site, "ReplicationSource").await?;
        upload.keeps_the_image_meanwhile().await?;
        upload.ends().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_uploads_while_a_destination_fetches_leaves_it_one_whole_version()
-> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-fetch", |stage| async move {
        let (site, data, store, remote) = begun(&stage).await?;
        let one = data.tree().await?;
        store.misbehave(Fault::hold().on(Kind::Get).at("/db/").after(20));
        site.apply(manually(remote.destination("copy", json!({})), "once"))
            .await?;
        holds(&store).await?;
        shows_how_far_it_is(&site, "ReplicationDestination").await?;
        let two = version(&data, "version two").await?;
        send(&site, &remote, "two").await?;
        store.behave();
        let object = received(&site, "copy", "once").await?;
        let image = text(&object, "/status/latestImage/name").context("no image")?;
        let copy = tree_of_image(&site, image).await?;
        if must_be_alike(&one, &copy).is_ok() {
            return Ok(());
        }
        must_be_alike(&two, &copy)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_dies_in_the_middle_of_an_upload_leaves_nothing_to_take_and_is_finished_later()
-> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-broken", |stage| async move {
        let upload = Upload::held(&stage).await?;
        kill_the_sources_pod(&upload.site).await?;
        upload.keeps_the_image_meanwhile().await?;
        upload.ends().await
    })
    .await
}

/// Kills the one pod of a source that runs.
async fn kill_the_sources_pod(site: &Site) -> Result<()> {
    let pods = site.list("Pod").await?;
    let mut names: Vec<&str> = pods
        .iter()
        .filter(|pod| text(pod, "/status/phase") == Some("Running"))
        .filter_map(|pod| text(pod, "/metadata/name"))
        .collect();
    names.retain(|name| name.starts_with("volsync-rclone-src-"));
    let [name] = names.as_slice() else {
        bail!("not one pod of a source runs, but {names:?}");
    };
    site.kill_pod(name).await
}
