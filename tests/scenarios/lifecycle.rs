//! Beginnings and ends: sources that come late, sources that lose everything, replications that are deleted.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Cluster, Site, Who, scenario};

use crate::parts::{
    SYNC_CAP, condition, empty_folder, fill_plain, image_after, is, manually, must_be_alike, over,
    put, receiver, source, synced, text, tree_of_image,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_source_waits_for_its_volume_without_a_write_and_starts_when_it_comes() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "late",
        |stage| async move {
            let (east, west, north) = (
                stage.site("east").await?,
                stage.site("west").await?,
                stage.site("north").await?,
            );
            let peer = receiver(&east, &west, "copy", json!({})).await?;
            east.apply(manually(
                source("copy", "data", &peer, json!({"copyMethod": "Clone"})),
                "once",
            ))
            .await?;
            let told = |object: &Value| {
                let found = condition(object, "Synchronizing")?;
                text(found, "/message")
                    .filter(|message| message.contains("data"))
                    .map(|_| text(object, "/metadata/resourceVersion").map(str::to_owned))
            };
            let version = east
                .wait(
                    "ReplicationSource",
                    "copy",
                    "a condition that names the volume",
                    told,
                )
                .await?;

            // The whole sync of another relationship passes meanwhile.
            fill_plain(&north.volume("data").await?, 50, 1).await?;
            let other = receiver(&north, &west, "other", json!({})).await?;
            north
                .apply(manually(source("other", "data", &other, json!({})), "once"))
                .await?;
            synced(&north, "other", "once").await?;
            let waiting = east.get("ReplicationSource", "copy").await?;
            assert_eq!(
                version.as_deref(),
                text(&waiting, "/metadata/resourceVersion"),
                "the waiting source was written: {waiting:#}"
            );
            assert!(
                east.list("Job").await?.is_empty(),
                "a Job was made for a volume that is not there"
            );

            let data = east.volume("data").await?;
            synced(&east, "copy", "once").await?;
            let image = image_after(&west, "copy", None).await?;
            must_be_alike(&data.tree().await?, &tree_of_image(&west, &image).await?)
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_has_lost_everything_is_not_sent_unless_that_is_allowed_once() -> Result<()> {
    scenario(Cluster::shared(Who::Caller).await?, "empty", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let data = east.volume("data").await?;
        fill_plain(&data, 10, 1).await?;
        let full = data.tree().await?;
        let peer = receiver(&east, &west, "copy", json!({})).await?;
        let manifest = source("copy", "data", &peer, json!({"copyMethod": "Direct"}));
        east.apply(manually(manifest.clone(), "first")).await?;
        synced(&east, "copy", "first").await?;
        let image = image_after(&west, "copy", None).await?;

        data.edit(|folder| {
            empty_folder(folder)?;
            Ok(std::fs::create_dir(folder.join("lost+found"))?)
        })
        .await?;
        east.apply(manually(manifest.clone(), "second")).await?;
        let message = refusal(&east).await?;
        assert!(message.contains("empty") && message.contains("syncline.dev/allow-empty-source"), "{message}");
        let kept = west.get("ReplicationDestination", "copy").await?;
        assert_eq!(text(&kept, "/status/latestImage/name"), Some(image.as_str()));
        must_be_alike(&full, &tree_of_image(&west, &image).await?)?;

        let allowed = json!({"metadata": {"annotations": {"syncline.dev/allow-empty-source": "i-have-looked"}}});
        east.apply(over(manually(manifest, "second"), allowed)).await?;
        synced(&east, "copy", "second").await?;
        let next = image_after(&west, "copy", Some(&image)).await?;
        let copy = tree_of_image(&west, &next).await?.without("lost+found");
        assert!(copy.is_empty(), "the copy of an empty volume holds {copy}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_made_anew_on_an_empty_volume_does_not_empty_the_copy() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "anew",
        |stage| async move {
            let (east, west) = (stage.site("east").await?, stage.site("west").await?);
            let data = east.volume("data").await?;
            fill_plain(&data, 10, 1).await?;
            let full = data.tree().await?;
            let peer = receiver(&east, &west, "copy", json!({})).await?;
            let of = |claim| source("copy", claim, &peer, json!({"copyMethod": "Direct"}));
            east.apply(manually(of("data"), "first")).await?;
            synced(&east, "copy", "first").await?;
            let image = image_after(&west, "copy", None).await?;

            east.delete("ReplicationSource", "copy").await?;
            east.wait_gone("ReplicationSource", "copy").await?;
            east.volume("fresh").await?;
            east.apply(manually(of("fresh"), "second")).await?;
            let message = refusal(&east).await?;
            assert!(
                message.contains("empty") && message.contains("syncline.dev/allow-empty-source"),
                "{message}"
            );
            let kept = west.get("ReplicationDestination", "copy").await?;
            assert_eq!(
                text(&kept, "/status/latestImage/name"),
                Some(image.as_str())
            );
            must_be_alike(&full, &tree_of_image(&west, &image).await?)?;

            east.apply(manually(of("data"), "third")).await?;
            synced(&east, "copy", "third").await?;
            let next = image_after(&west, "copy", Some(&image)).await?;
            must_be_alike(&full, &tree_of_image(&west, &next).await?)
        },
    )
    .await
}

/// What the source `copy` says about a run that it refuses.
async fn refusal(site: &Site) -> Result<String> {
    let refused = |object: &Value| {
        let found = condition(object, "Synchronizing")
            .filter(|found| text(found, "/reason") == Some("Error"))?;
        text(found, "/message").map(str::to_owned)
    };
    let site = site.within(SYNC_CAP);
    site.wait("ReplicationSource", "copy", "a refusal", refused)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_replication_removes_what_it_made_and_nothing_else() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "delete",
        |stage| async move {
            let (east, west) = (stage.site("east").await?, stage.site("west").await?);
            let data = east.volume("data").await?;
            fill_plain(&data, 20, 1).await?;
            let tree = data.tree().await?;
            let peer = receiver(&east, &west, "copy", json!({})).await?;
            east.apply(manually(source("copy", "data", &peer, json!({})), "once"))
                .await?;
            synced(&east, "copy", "once").await?;
            image_after(&west, "copy", None).await?;
            let received = west.open("volsync-copy-dst").await?;

            east.delete("ReplicationSource", "copy").await?;
            west.delete("ReplicationDestination", "copy").await?;
            let nothing = Vec::<String>::new();
            left_over(
                &east,
                &[
                    "PersistentVolumeClaim data",
                    &format!("Secret {}", peer.keys),
                ],
            )
            .await?;
            left_over(
                &west,
                &nothing.iter().map(String::as_str).collect::<Vec<_>>(),
            )
            .await?;
            received.wait_gone(SYNC_CAP).await?;
            must_be_alike(&tree, &data.tree().await?).context("the user's own volume was touched")
        },
    )
    .await
}

/// Waits until a namespace holds only these objects (and what the cluster itself puts into each).
async fn left_over(site: &Site, expected: &[&str]) -> Result<()> {
    const KINDS: [&str; 8] = [
        "Job",
        "Pod",
        "Service",
        "Secret",
        "PersistentVolumeClaim",
        "VolumeSnapshot",
        "ReplicationSource",
        "ReplicationDestination",
    ];
    wait_for("a namespace without leftovers", SYNC_CAP, || async {
        let mut found = Vec::new();
        for kind in KINDS {
            found.extend(site.list(kind).await?.iter().map(|object| {
                format!(
                    "{kind} {}",
                    text(object, "/metadata/name").unwrap_or_default()
                )
            }));
        }
        for account in site.list("ServiceAccount").await? {
            found.extend(
                text(&account, "/metadata/name")
                    .filter(|name| *name != "default")
                    .map(|name| format!("ServiceAccount {name}")),
            );
        }
        let mut expected: Vec<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        expected.sort();
        found.sort();
        Ok(if found == expected {
            Look::Done(())
        } else {
            Look::NotYet(format!("{found:?} instead of {expected:?}"))
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_marked_as_not_to_be_deleted_outlives_its_replication() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "keep",
        |stage| async move {
            let (east, west) = (stage.site("east").await?, stage.site("west").await?);
            let data = east.volume("data").await?;
            fill_plain(&data, 10, 1).await?;
            let tree = data.tree().await?;
            let peer = receiver(&east, &west, "copy", json!({})).await?;
            let manifest = source("copy", "data", &peer, json!({"copyMethod": "Direct"}));
            east.apply(manually(manifest.clone(), "first")).await?;
            synced(&east, "copy", "first").await?;
            let image = image_after(&west, "copy", None).await?;
            west.merge(
                "VolumeSnapshot",
                &image,
                json!({"metadata": {"labels": {"volsync.backube/do-not-delete": "mine"}}}),
            )
            .await?;
            put(&data, "new", "content").await?;

            east.apply(manually(manifest, "second")).await?;
            synced(&east, "copy", "second").await?;
            let next = image_after(&west, "copy", Some(&image)).await?;
            west.delete("ReplicationDestination", "copy").await?;
            west.wait_gone("VolumeSnapshot", &next).await?;
            must_be_alike(&tree, &tree_of_image(&west, &image).await?)
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_source_may_feed_two_destinations() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "two",
        |stage| async move {
            let (east, west, north) = (
                stage.site("east").await?,
                stage.site("west").await?,
                stage.site("north").await?,
            );
            let data = east.volume("data").await?;
            fill_plain(&data, 30, 1).await?;
            let tree = data.tree().await?;
            for (name, site) in [("to-west", &west), ("to-north", &north)] {
                let peer = receiver(&east, site, name, json!({})).await?;
                east.apply(manually(
                    source(name, "data", &peer, json!({"copyMethod": "Clone"})),
                    "once",
                ))
                .await?;
            }
            for (name, site) in [("to-west", &west), ("to-north", &north)] {
                synced(&east, name, "once").await?;
                let image = image_after(site, name, None).await?;
                must_be_alike(&tree, &tree_of_image(site, &image).await?)?;
            }
            let done = |object: &Value| {
                is(object, "Synchronizing", "False", "WaitingForManual").then_some(())
            };
            east.wait("ReplicationSource", "to-north", "come to rest", done)
                .await
        },
    )
    .await
}
