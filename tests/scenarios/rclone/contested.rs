//! What a run refuses to do, because data would be lost by it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use syncline_testkit::scenario::Stage;
use syncline_testkit::{Cluster, Site, Tree, Volume, Who, scenario};
use syncline_tests::stores::{
    CLAIM, Remote, fetched, files_in, must_be_alike_but_for_folders_times, next_image, privileged,
    receive, received, send,
};

use crate::bad_input::told;
use crate::needs;
use crate::parts::{empty_folder, fill_plain, manually, must_be_alike, over, put, synced, text};

/// The storage class whose volumes hold no more than their capacity.
const LIMITED: &str = "csi-test-limited";

/// A site with a filled volume that was sent once.
async fn sent_once(stage: &Stage) -> Result<(Site, Volume, Volume, Remote)> {
    let site = stage.site("both").await?;
    privileged(&site).await?;
    let (data, store) = (site.volume("data").await?, site.volume(CLAIM).await?);
    fill_plain(&data, 20, 1).await?;
    let remote = Remote::folder("db");
    remote.tell(&site).await?;
    send(&site, &remote, "first").await?;
    Ok((site, data, store, remote))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_became_empty_does_not_empty_the_store_until_it_is_allowed_to_once()
-> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-emptied", |stage| async move {
        let (site, data, store, remote) = sent_once(&stage).await?;
        receive(&site, &remote, "first").await?;
        let before = store.tree().await?;
        data.edit(empty_folder).await?;
        let source = manually(remote.source("copy", "data", json!({})), "second");
        site.apply(source.clone()).await?;
        let parts = ["SourceUnexpectedlyEmpty", "allow-empty-source"];
        told(&site, "ReplicationSource", "copy", &parts).await?;
        must_be_alike(&before, &store.tree().await?)?;
        allow(&site, source).await?;
        synced(&site, "copy", "second").await?;
        let copy = fetched(&site, &remote, "second").await?;
        ensure!(copy.is_empty(), "{copy}");
        Ok(())
    })
    .await
}

async fn allow(site: &Site, source: Value) -> Result<()> {
    let annotations =
        json!({"metadata": {"annotations": {"syncline.dev/allow-empty-source": "2026-11-21"}}});
    site.apply(over(source, annotations)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_source_that_is_empty_does_not_empty_a_store_that_is_not() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-empty", |stage| async move {
        let (site, _, store, remote) = sent_once(&stage).await?;
        let before = store.tree().await?;
        site.delete("ReplicationSource", "copy").await?;
        site.wait_gone("ReplicationSource", "copy").await?;
        site.volume("other").await?;
        let source = manually(remote.source("copy", "other", json!({})), "second");
        site.apply(source.clone()).await?;
        let parts = [
            "SourceUnexpectedlyEmpty",
            "nothing was touched in the store",
        ];
        told(&site, "ReplicationSource", "copy", &parts).await?;
        must_be_alike(&before, &store.tree().await?)?;
        allow(&site, source).await?;
        synced(&site, "copy", "second").await?;
        let left = files_in(&store, "db").await?;
        ensure!(left == [Path::new("permissions.facl")], "{left:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_source_on_one_path_is_refused_and_told_the_first() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-in-use", |stage| async move {
        let (site, data, store, remote) = sent_once(&stage).await?;
        let before = store.tree().await?;
        fill_plain(&site.volume("other").await?, 3, 2).await?;
        let second = remote.source("second", "other", json!({}));
        site.apply(manually(second.clone(), "once")).await?;
        let first = format!("ReplicationSource {}/copy", site.namespace);
        let parts = ["PathInUse", &first, "give this source another path"];
        told(&site, "ReplicationSource", "second", &parts).await?;
        must_be_alike(&before, &store.tree().await?)?;
        must_be_alike(&data.tree().await?, &fetched(&site, &remote, "once").await?)?;
        // It may replace the first when somebody says so, who is refused from then on.
        let old = site.get("ReplicationSource", "copy").await?;
        let old = text(&old, "/metadata/uid").context("no uid")?;
        let replace = json!({"metadata": {"annotations": {"syncline.dev/rclone-take-over": old}}});
        site.apply(over(manually(second.clone(), "instead"), replace.clone()))
            .await?;
        synced(&site, "second", "instead").await?;
        put(&data, "after", "that").await?;
        site.apply(manually(remote.source("copy", "data", json!({})), "back"))
            .await?;
        let parts = ["PathInUse", "/second"];
        told(&site, "ReplicationSource", "copy", &parts).await?;
        // It comes back in the same way, and the word that the second was given is used up, though it still stands there.
        let new = site.get("ReplicationSource", "second").await?;
        let new = text(&new, "/metadata/uid").context("no uid")?;
        let back = json!({"metadata": {"annotations": {"syncline.dev/rclone-take-over": new}}});
        let first = manually(remote.source("copy", "data", json!({})), "back again");
        site.apply(over(first, back)).await?;
        synced(&site, "copy", "back again").await?;
        site.apply(over(manually(second, "once more"), replace))
            .await?;
        let parts = ["PathInUse", "/copy", "syncline.dev/rclone-take-over"];
        told(&site, "ReplicationSource", "second", &parts).await?;
        must_be_alike(
            &data.tree().await?,
            &fetched(&site, &remote, "third").await?,
        )?;
        // A path of its own it may have.
        let apart = remote.at("/mnt/store/other");
        site.apply(manually(apart.source("second", "other", json!({})), "once"))
            .await?;
        synced(&site, "second", "once").await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_made_anew_under_its_name_goes_on_with_what_the_store_holds() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-anew", |stage| async move {
        let (site, data, _, remote) = sent_once(&stage).await?;
        site.delete("ReplicationSource", "copy").await?;
        site.wait_gone("ReplicationSource", "copy").await?;
        put(&data, "since", "then").await?;
        send(&site, &remote, "again").await?;
        must_be_alike(
            &data.tree().await?,
            &fetched(&site, &remote, "again").await?,
        )
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_with_nothing_at_it_leaves_the_destinations_volume_as_it_is() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-nothing", |stage| async move {
        let (site, _, _, remote) = sent_once(&stage).await?;
        let kept = site.volume("kept").await?;
        fill_plain(&kept, 5, 3).await?;
        let before = kept.tree().await?;
        let given = json!({"destinationPVC": "kept", "capacity": null, "accessModes": null});
        let wrong = remote.at("/mnt/store/db-of-nobody");
        site.apply(manually(wrong.destination("copy", given), "once"))
            .await?;
        let parts = ["NothingAtPath", "/mnt/store/db-of-nobody", "rcloneDestPath"];
        told(&site, "ReplicationDestination", "copy", &parts).await?;
        must_be_alike(&before, &kept.tree().await?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_after_a_listing_that_lacks_what_the_source_sent() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-listing", |stage| async move {
        let (site, data, store, remote) = sent_once(&stage).await?;
        let destination = remote.destination("copy", json!({"copyMethod": "Direct"}));
        site.apply(manually(destination.clone(), "first")).await?;
        received(&site, "copy", "first").await?;
        let received_into = site.open("volsync-copy-dest").await?;
        let before = received_into.tree().await?;
        let hidden = |from: &'static str, to: &'static str| {
            store.edit(move |folder| Ok(std::fs::rename(folder.join(from), folder.join(to))?))
        };
        hidden("db/folder-000/file-000003", "hidden").await?;
        site.apply(manually(destination, "second")).await?;
        let parts = [
            "ListingIncomplete",
            "1 missing (first: folder-000/file-000003)",
            "nothing was deleted",
        ];
        told(&site, "ReplicationDestination", "copy", &parts).await?;
        must_be_alike(&before, &received_into.tree().await?)?;
        hidden("hidden", "db/folder-000/file-000003").await?;
        received(&site, "copy", "second").await?;
        must_be_alike(&data.tree().await?, &received_into.tree().await?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_gone_from_the_store_comes_back_with_a_full_check() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-check", |stage| async move {
        let (site, data, store, remote) = sent_once(&stage).await?;
        store
            .edit(|folder| {
                Ok(std::fs::remove_file(
                    folder.join("db/folder-000/file-000004"),
                )?)
            })
            .await?;
        let every =
            json!({"metadata": {"annotations": {"syncline.dev/rclone-full-check-every": "1"}}});
        let source = over(remote.source("copy", "data", json!({})), every);
        site.apply(manually(source, "checked")).await?;
        synced(&site, "copy", "checked").await?;
        must_be_alike(
            &data.tree().await?,
            &fetched(&site, &remote, "checked").await?,
        )
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_fills_up_is_told_and_goes_on_when_it_has_grown() -> Result<()> {
    let place = needs::LIMITED_CLASS.shared(Who::Caller).await?;
    scenario(place, "rclone-small", |stage| async move {
        let (site, data, _, remote) = sent_once(&stage).await?;
        data.edit(|folder| Ok(std::fs::write(folder.join("big"), vec![b'x'; 48 << 20])?))
            .await?;
        let tree = data.tree().await?;
        send(&site, &remote, "big").await?;
        let small = json!({"storageClassName": LIMITED, "capacity": "32Mi"});
        site.apply(manually(remote.destination("copy", small), "once"))
            .await?;
        // The file system of this class (btrfs) has a quota that nobody can ask it for beforehand.
        let parts = ["DestinationFull", "quota", "enlarge it"];
        told(&site, "ReplicationDestination", "copy", &parts).await?;
        let large = json!({"storageClassName": LIMITED, "capacity": "128Mi"});
        site.apply(manually(remote.destination("copy", large), "once"))
            .await?;
        received(&site, "copy", "once").await?;
        let (_, copy): (String, Tree) = next_image(&site, None).await?;
        must_be_alike(&tree, &copy)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_beside_which_nothing_can_lie_is_used_without_and_the_loss_is_told() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-alone", |stage| async move {
        let site = stage.site("both").await?;
        privileged(&site).await?;
        let (data, store) = (site.volume("data").await?, site.volume(CLAIM).await?);
        fill_plain(&data, 10, 1).await?;
        // The whole of the mounted volume: what is beside it is on another file system.
        let remote = Remote::folder("").at("/mnt/store");
        remote.tell(&site).await?;
        let sent = send(&site, &remote, "first").await?;
        let told = crate::parts::condition(&sent, "Preserved").context("no condition")?;
        let message = text(told, "/message").unwrap_or_default();
        ensure!(
            text(told, "/reason") == Some("NotCarried")
                && message.contains("symbolic links")
                && message.contains("syncline.dev/rclone-state-path"),
            "{told}"
        );
        let copy = fetched(&site, &remote, "first").await?;
        must_be_alike_but_for_folders_times(&data.tree().await?, &copy)?;
        let objects = files_in(&store, "").await?;
        ensure!(objects.len() == 11, "{objects:?}");
        Ok(())
    })
    .await
}
