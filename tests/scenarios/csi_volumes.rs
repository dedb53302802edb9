//! Volumes of a CSI driver: classes that wait for a pod, fallbacks, and snapshots and clones that fail or never come.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use syncline_testkit::scenario::Stage;
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Site, Who, fixture, scenario};
use syncline_tests::volume_faults::VolumeFault;

use crate::needs;
use crate::parts::{
    SYNC_CAP, condition, destination, fill_plain, image_after, listening, manually, must_be_alike,
    over, put, receiver, source, synced, text, tree_of_image,
};

/// The class whose volumes are made for their first pod.
const WAITING: &str = "csi-test-wait";
/// The class whose volumes hold no more than their capacity.
const LIMITED: &str = "csi-test-limited";

/// Waits until a resource's condition `Synchronizing` says something with all these words.
async fn says(site: &Site, kind: &str, words: &[&str]) -> Result<()> {
    let what = format!("a word of {words:?}");
    site.within(SYNC_CAP)
        .wait(kind, "copy", &what, |object| {
            let message = text(condition(object, "Synchronizing")?, "/message")?;
            words
                .iter()
                .all(|word| message.contains(word))
                .then_some(())
        })
        .await
}

fn waiting_claim(name: &str, size: &str) -> Value {
    over(
        fixture::claim(name, size, None),
        json!({"spec": {"storageClassName": WAITING}}),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_does_not_get_ready_never_becomes_the_latest_image() -> Result<()> {
    let place = needs::VOLUME_FAULTS.shared(Who::Caller).await?;
    scenario(place, "never-ready", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let data = east.volume("data").await?;
        fill_plain(&data, 20, 1).await?;
        let peer = receiver(&east, &west, "copy", json!({})).await?;
        let manifest = source("copy", "data", &peer, json!({"copyMethod": "Clone"}));
        east.apply(manually(manifest.clone(), "one")).await?;
        synced(&east, "copy", "one").await?;
        let first = image_after(&west, "copy", None).await?;

        let fault = VolumeFault::begin(&west, json!({"snapshot": {"neverReady": true}}))?;
        put(&data, "later", "more").await?;
        let tree = data.tree().await?;
        east.apply(manually(manifest, "two")).await?;
        synced(&east, "copy", "two").await?;
        says(
            &west,
            "ReplicationDestination",
            &["VolumeSnapshot", "ready"],
        )
        .await?;
        let status = west.get("ReplicationDestination", "copy").await?;
        assert_eq!(
            text(&status, "/status/latestImage/name"),
            Some(first.as_str()),
            "the image moved before it was ready"
        );
        fault.end();
        let second = image_after(&west, "copy", Some(&first)).await?;
        must_be_alike(&tree, &tree_of_image(&west, &second).await?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_goes_with_its_run_stays_until_its_image_is_ready() -> Result<()> {
    let place = needs::VOLUME_FAULTS.shared(Who::Caller).await?;
    scenario(place, "temp-slow", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let data = east.volume("data").await?;
        fill_plain(&data, 20, 1).await?;
        let tree = data.tree().await?;
        let receives = destination("copy", json!({"cleanupTempPVC": true}));
        west.apply(manually(receives, "once")).await?;
        let peer = listening(&west, "copy").await?;
        west.hand_over_secret(&peer.keys, &east).await?;
        let slow = VolumeFault::begin(&west, json!({"snapshot": {"delayMs": 4000}}))?;
        let manifest = source("copy", "data", &peer, json!({"copyMethod": "Clone"}));
        east.apply(manually(manifest, "once")).await?;
        let name = image_in_the_making(&west).await?;
        let snapshot = west.get("VolumeSnapshot", &name).await?;
        let ready = snapshot.pointer("/status/readyToUse");
        ensure!(ready != Some(&json!(true)), "it was not slow: {snapshot}");
        let volume = west
            .get("PersistentVolumeClaim", "volsync-copy-dst")
            .await?;
        let goes = volume.pointer("/metadata/deletionTimestamp");
        ensure!(goes.is_none(), "{volume} goes before {snapshot} is ready");
        let image = image_after(&west, "copy", None).await?;
        slow.end();
        ensure!(image == name, "{image} is not {name}");
        west.wait_gone("PersistentVolumeClaim", "volsync-copy-dst")
            .await?;
        must_be_alike(&tree, &tree_of_image(&west, &image).await?)
    })
    .await
}

/// Waits until a destination has asked for the snapshot that is to be its image, and tells its name.
async fn image_in_the_making(west: &Site) -> Result<String> {
    wait_for("a snapshot of what was received", SYNC_CAP, || async {
        let snapshots = west.list("VolumeSnapshot").await?;
        let name = snapshots
            .first()
            .and_then(|made| text(made, "/metadata/name"));
        Ok(match name {
            Some(name) => Look::Done(name.to_owned()),
            None => Look::NotYet("no snapshot".to_owned()),
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_sent_only_from_a_snapshot_that_is_ready() -> Result<()> {
    let place = needs::VOLUME_FAULTS.shared(Who::Caller).await?;
    scenario(place, "slow-snapshot", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let data = east.volume("data").await?;
        fill_plain(&data, 20, 1).await?;
        let tree = data.tree().await?;
        let peer = receiver(&east, &west, "copy", json!({})).await?;
        let slow = VolumeFault::begin(&east, json!({"snapshot": {"delayMs": 4000}}))?;
        east.apply(manually(source("copy", "data", &peer, json!({})), "once"))
            .await?;
        let unready = |snapshot: &Value| {
            (snapshot.pointer("/status/readyToUse") == Some(&json!(false))).then_some(())
        };
        east.wait(
            "VolumeSnapshot",
            "volsync-copy-src",
            "no readiness",
            unready,
        )
        .await?;
        ensure!(
            east.find("PersistentVolumeClaim", "volsync-copy-src")
                .await?
                .is_none(),
            "a volume was asked for before the snapshot was ready"
        );
        synced(&east, "copy", "once").await?;
        slow.end();
        let image = image_after(&west, "copy", None).await?;
        must_be_alike(&tree, &tree_of_image(&west, &image).await?)
    })
    .await
}

/// A source whose copy is refused says the driver's words, and goes on by itself once it is not refused any more.
async fn is_told_and_healed(
    stage: Stage,
    method: &'static str,
    (rule, words): (Value, &'static [&'static str]),
) -> Result<()> {
    let (east, west) = (stage.site("east").await?, stage.site("west").await?);
    let data = east.volume("data").await?;
    fill_plain(&data, 20, 1).await?;
    let tree = data.tree().await?;
    let peer = receiver(&east, &west, "copy", json!({})).await?;
    let fault = VolumeFault::begin(&east, rule)?;
    let manifest = source("copy", "data", &peer, json!({"copyMethod": method}));
    east.apply(manually(manifest, "once")).await?;
    says(&east, "ReplicationSource", words).await?;
    fault.end();
    synced(&east, "copy", "once").await?;
    let image = image_after(&west, "copy", None).await?;
    must_be_alike(&tree, &tree_of_image(&west, &image).await?)?;
    east.wait_gone("PersistentVolumeClaim", "volsync-copy-src")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_clone_is_told_in_the_drivers_words_and_tried_again() -> Result<()> {
    let place = needs::VOLUME_FAULTS.shared(Who::Caller).await?;
    scenario(place, "refused-clone", |stage| {
        let rule = json!({"clone": {"refuse": true}});
        let words = &["volsync-copy-src", "clones of volumes are refused"];
        is_told_and_healed(stage, "Clone", (rule, words))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_snapshot_is_told_in_the_drivers_words_and_tried_again() -> Result<()> {
    let place = needs::VOLUME_FAULTS.shared(Who::Caller).await?;
    scenario(place, "refused-cut", |stage| {
        let rule = json!({"snapshot": {"refuse": true}});
        let words = &["volsync-copy-src", "snapshots are refused"];
        is_told_and_healed(stage, "Snapshot", (rule, words))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_from_a_snapshot_for_which_there_is_no_room_is_told() -> Result<()> {
    let place = needs::VOLUME_FAULTS.shared(Who::Caller).await?;
    scenario(place, "no-room", |stage| {
        let rule = json!({"create": {"noSpace": true}});
        let words = &["volsync-copy-src", "no space left"];
        is_told_and_healed(stage, "Snapshot", (rule, words))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_driver_that_fails_a_few_times_costs_nothing_but_time() -> Result<()> {
    let place = needs::VOLUME_FAULTS.shared(Who::Caller).await?;
    scenario(place, "flaky-driver", |stage| {
        let rule = json!({"fail": {"call": "CreateSnapshot", "code": "Internal", "message": "the array is rebooting", "times": 2}});
        let words = &["the array is rebooting"];
        is_told_and_healed(stage, "Snapshot", (rule, words))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_without_room_for_its_volume_says_so_and_listens_once_there_is() -> Result<()>
{
    let place = needs::VOLUME_FAULTS.shared(Who::Caller).await?;
    scenario(place, "full", |stage| async move {
        let west = stage.site("west").await?;
        let fault = VolumeFault::begin(&west, json!({"create": {"noSpace": true}}))?;
        west.apply(destination("copy", json!({}))).await?;
        says(
            &west,
            "ReplicationDestination",
            &["volsync-copy-dst", "no space left"],
        )
        .await?;
        fault.end();
        west.wait(
            "PersistentVolumeClaim",
            "volsync-copy-dst",
            "a volume",
            |claim| (text(claim, "/status/phase") == Some("Bound")).then_some(()),
        )
        .await?;
        listening(&west, "copy").await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_fills_up_is_named_at_the_source_and_goes_on_when_it_has_grown()
-> Result<()> {
    let place = needs::LIMITED_CLASS.shared(Who::Caller).await?;
    scenario(place, "grows", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let data = east.volume("data").await?;
        data.edit(|folder| {
            // No zeros, which would become holes.
            Ok(std::fs::write(folder.join("big"), vec![b'x'; 48 << 20])?)
        })
        .await?;
        let tree = data.tree().await?;
        let small = json!({"storageClassName": LIMITED, "capacity": "32Mi"});
        let peer = receiver(&east, &west, "copy", small).await?;
        east.apply(manually(source("copy", "data", &peer, json!({})), "once"))
            .await?;
        let words = ["DestinationFull", "enlarge it"];
        says(&east, "ReplicationSource", &words).await?;

        let size = json!({"spec": {"resources": {"requests": {"storage": "128Mi"}}}});
        west.merge("PersistentVolumeClaim", "volsync-copy-dst", size)
            .await?;
        synced(&east, "copy", "once").await?;
        let image = image_after(&west, "copy", None).await?;
        must_be_alike(&tree, &tree_of_image(&west, &image).await?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_that_wait_for_their_first_pod_deadlock_nothing() -> Result<()> {
    let place = needs::WAITING_CLASS.shared(Who::Caller).await?;
    scenario(place, "wait", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        east.apply(waiting_claim("data", "1Gi")).await?;
        // Looking into it gives it its first pod, and so its volume.
        let data = east.open("data").await?;
        fill_plain(&data, 20, 1).await?;
        let tree = data.tree().await?;
        let peer = receiver(&east, &west, "copy", json!({"storageClassName": WAITING})).await?;
        let mut previous = None;
        for method in ["Snapshot", "Clone", "Direct"] {
            let manifest = source("copy", "data", &peer, json!({"copyMethod": method}));
            east.apply(manually(manifest, method)).await?;
            synced(&east, "copy", method).await.context(method)?;
            let image = image_after(&west, "copy", previous.as_deref()).await?;
            must_be_alike(&tree, &tree_of_image(&west, &image).await?)?;
            previous = Some(image);
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_never_had_a_pod_is_named_and_sent_once_it_has() -> Result<()> {
    let place = needs::WAITING_CLASS.shared(Who::Caller).await?;
    scenario(place, "unused", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        east.apply(waiting_claim("data", "1Gi")).await?;
        let peer = receiver(&east, &west, "copy", json!({})).await?;
        let manifest = source("copy", "data", &peer, json!({"copyMethod": "Clone"}));
        east.apply(manually(manifest, "once")).await?;
        says(
            &east,
            "ReplicationSource",
            &["data", "WaitForFirstConsumer"],
        )
        .await?;
        ensure!(east.list("Job").await?.is_empty(), "a Job was made");
        let data = east.open("data").await?;
        put(&data, "file", "content").await?;
        synced(&east, "copy", "once").await?;
        let image = image_after(&west, "copy", None).await?;
        let arrived = tree_of_image(&west, &image).await?;
        ensure!(!arrived.entries().is_empty(), "nothing arrived");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_of_a_source_is_like_the_source_where_nothing_else_is_asked_for() -> Result<()> {
    let place = needs::VOLUME_FAULTS.shared(Who::Caller).await?;
    scenario(place, "alike", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let modes = json!(["ReadWriteMany", "ReadWriteOnce"]);
        east.apply(over(
            waiting_claim("data", "3Gi"),
            json!({"spec": {"accessModes": modes}}),
        ))
        .await?;
        let data = east.open("data").await?;
        fill_plain(&data, 5, 1).await?;
        let peer = receiver(&east, &west, "copy", json!({})).await?;
        for (method, options, expected) in [
            ("Snapshot", json!({}), (modes.clone(), "3Gi", WAITING)),
            ("Clone", json!({}), (modes.clone(), "3Gi", WAITING)),
            (
                "Snapshot",
                json!({"accessModes": ["ReadOnlyMany"], "capacity": "4Gi", "storageClassName": "csi-test"}),
                (json!(["ReadOnlyMany"]), "4Gi", "csi-test"),
            ),
        ] {
            // The copy stays as long as no pod gets it.
            let call = json!({"hang": {"call": "NodePublishVolume"}});
            let held = VolumeFault::begin(&east, call)?;
            let tag = format!("{method}-{}", expected.1);
            let options = over(options, json!({"copyMethod": method}));
            east.apply(manually(source("copy", "data", &peer, options), &tag))
                .await?;
            let name = "volsync-copy-src";
            let spec = east
                .wait("PersistentVolumeClaim", name, "a spec", |claim| {
                    claim.get("spec").cloned()
                })
                .await?;
            assert_eq!(spec.get("accessModes"), Some(&expected.0), "{tag}");
            assert_eq!(
                (
                    text(&spec, "/resources/requests/storage"),
                    text(&spec, "/storageClassName")
                ),
                (Some(expected.1), Some(expected.2)),
                "{tag}"
            );
            held.end();
            synced(&east, "copy", &tag).await?;
            east.wait_gone("PersistentVolumeClaim", name).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_smaller_than_its_source_is_refused_before_anything_is_made() -> Result<()> {
    let place = needs::VOLUME_FAULTS.shared(Who::Caller).await?;
    scenario(place, "too-small", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        east.apply(fixture::claim("data", "2Gi", None)).await?;
        let data = east.open("data").await?;
        fill_plain(&data, 5, 1).await?;
        let peer = receiver(&east, &west, "copy", json!({})).await?;
        let small = source("copy", "data", &peer, json!({"capacity": "1Gi"}));
        east.apply(manually(small, "once")).await?;
        says(
            &east,
            "ReplicationSource",
            &["capacity 1Gi is too small", "2Gi"],
        )
        .await?;
        let enough = source("copy", "data", &peer, json!({"capacity": "2Gi"}));
        east.apply(manually(enough, "once")).await?;
        synced(&east, "copy", "once").await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_cannot_be_mounted_at_first_is_sent_once_it_can() -> Result<()> {
    let place = needs::VOLUME_FAULTS.shared(Who::Caller).await?;
    scenario(place, "no-mount", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let data = east.volume("data").await?;
        fill_plain(&data, 20, 1).await?;
        let peer = receiver(&east, &west, "copy", json!({})).await?;
        let rule = json!({"fail": {"call": "NodePublishVolume", "code": "Internal", "message": "no path to the array"}});
        let fault = VolumeFault::begin(&east, rule)?;
        east.apply(manually(source("copy", "data", &peer, json!({})), "once"))
            .await?;
        says(&east, "ReplicationSource", &["no path to the array"]).await?;
        fault.end();
        synced(&east.within(Duration::from_secs(240)), "copy", "once").await?;
        image_after(&west, "copy", None).await.map(drop)
    })
    .await
}
