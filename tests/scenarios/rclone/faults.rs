//! Stores that fail: each kind of trouble has a word of its own, and nothing is lost by any.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use syncline_testkit::scenario::Stage;
use syncline_testkit::store::{Backend, Fault, Kind, ObjectStore, Refusal, Tls};
use syncline_testkit::{Cluster, Site, Volume, Who, corpus, scenario};
use syncline_tests::stores::{CLAIM, Remote, fetched, generation, privileged, received, send};

use crate::bad_input::told;
use crate::needs;
use crate::parts::{fill_plain, manually, must_be_alike, put, synced, text};

/// Bytes of a file that fits into no volume here.
const LARGE: u64 = 8 << 40;
/// Files in the volume.
const COUNT: usize = 40;

/// A privileged site with a filled volume, and an S3 server that its pods reach.
async fn begun(stage: &Stage) -> Result<(Site, Volume, ObjectStore, Remote)> {
    let site = stage.site("both").await?;
    privileged(&site).await?;
    let data = site.volume("data").await?;
    fill_plain(&data, COUNT, 1).await?;
    let store = ObjectStore::start(&stage.cluster).await?;
    let remote = Remote::of(&store, "db");
    remote.tell(&site).await?;
    Ok((site, data, store, remote))
}

/// Few tries of rclone's own, where what is looked for is how the last one is told.
fn hasty(remote: &Remote) -> Remote {
    remote
        .clone()
        .with_key("RCLONE_LOW_LEVEL_RETRIES", "2")
        .with_key("RCLONE_RETRIES", "1")
}

/// Adds a file to the volume, and tells the site to send it in several parts.
async fn with_a_file_in_parts(site: &Site, data: &Volume, remote: Remote) -> Result<Remote> {
    let remote = remote
        .with_key("RCLONE_S3_UPLOAD_CUTOFF", "8Mi")
        .with_key("RCLONE_S3_CHUNK_SIZE", "5Mi");
    remote.tell(site).await?;
    let big = corpus::noise(24 << 20, 3);
    data.edit(|folder| Ok(std::fs::write(folder.join("big"), &big)?))
        .await?;
    Ok(remote)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_is_told_by_its_reason_at_both_ends_and_used_when_it_no_longer_does()
-> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-refused", |stage| async move {
        let (site, data, store, remote) = begun(&stage).await?;
        send(&site, &remote, "first").await?;
        received_first(&site, &remote).await?;
        for (number, (refusal, reason, cure)) in [
            (
                Refusal::AccessDenied,
                "StoreRefused",
                "correct the keys in rclone.conf",
            ),
            (
                Refusal::ExpiredToken,
                "CredentialsExpired",
                "put new ones into the Secret",
            ),
            (Refusal::RequestTimeTooSkewed, "ClockSkewed", "NTP"),
        ]
        .into_iter()
        .enumerate()
        {
            let tag = format!("round-{number}");
            put(&data, "round", &tag).await?;
            store.misbehave(Fault::refuse(refusal));
            site.apply(manually(remote.source("copy", "data", json!({})), &tag))
                .await?;
            site.apply(manually(remote.destination("copy", json!({})), &tag))
                .await?;
            for kind in ["ReplicationSource", "ReplicationDestination"] {
                told(&site, kind, "copy", &[reason, cure])
                    .await
                    .with_context(|| format!("{refusal:?}"))?;
                ends_with(&site.get(kind, "copy").await?, reason)?;
            }
            store.behave();
            // As a person does who has put new keys in.
            remote
                .clone()
                .with_key("RCLONE_MAX_DURATION", &format!("{}h", number + 1))
                .tell(&site)
                .await?;
            synced(&site, "copy", &tag).await?;
            received(&site, "copy", &tag).await?;
        }
        must_be_alike(&data.tree().await?, &fetched(&site, &remote, "last").await?)
    })
    .await
}

/// Whether the last run failed and the end of its log, which VolSync's users read in the status, says why.
fn ends_with(object: &Value, reason: &str) -> Result<()> {
    let result = text(object, "/status/latestMoverStatus/result");
    let logs = text(object, "/status/latestMoverStatus/logs").unwrap_or_default();
    ensure!(
        result == Some("Failed") && logs.contains(&format!("{reason}: ")),
        "{object}"
    );
    Ok(())
}

async fn received_first(site: &Site, remote: &Remote) -> Result<()> {
    site.apply(manually(remote.destination("copy", json!({})), "first"))
        .await?;
    received(site, "copy", "first").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_and_may_not_be_made_is_told() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-bucket", |stage| async move {
        let (site, _, store, remote) = begun(&stage).await?;
        store.misbehave(Fault::refuse(Refusal::AccessDenied).on(Kind::Bucket));
        let bucket = format!("{}-not-there", store.path());
        let missing = remote.at(&format!("{bucket}/db"));
        site.apply(manually(missing.source("copy", "data", json!({})), "once"))
            .await?;
        let parts = ["BucketMissing", &bucket, "rcloneDestPath"];
        told(&site, "ReplicationSource", "copy", &parts).await?;
        site.apply(manually(missing.destination("copy", json!({})), "once"))
            .await?;
        // To whom reads it is the same as a path that holds nothing.
        let parts = ["NothingAtPath", &bucket, "rcloneDestPath"];
        told(&site, "ReplicationDestination", "copy", &parts).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_cut_in_the_middle_of_its_parts_is_finished_whole() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-cut", |stage| async move {
        let (site, data, store, remote) = begun(&stage).await?;
        let remote = with_a_file_in_parts(&site, &data, remote).await?;
        let tree = data.tree().await?;
        store.misbehave(Fault::cut().on(Kind::Part).after(2).times(2));
        send(&site, &remote, "once").await?;
        ensure!(store.struck() == 2, "{}", store.requests());
        must_be_alike(&tree, &fetched(&site, &remote, "once").await?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_which_every_part_is_cut_is_told_and_finished_when_none_is() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-always-cut", |stage| async move {
        let (site, data, store, remote) = begun(&stage).await?;
        let remote = with_a_file_in_parts(&site, &data, hasty(&remote)).await?;
        store.misbehave(Fault::cut().on(Kind::Part));
        site.apply(manually(remote.source("copy", "data", json!({})), "once"))
            .await?;
        let parts = [
            "StoreUnreachable",
            "the connection broke",
            "the endpoint in rclone.conf",
        ];
        told(&site, "ReplicationSource", "copy", &parts).await?;
        store.behave();
        synced(&site, "copy", "once").await?;
        must_be_alike(&data.tree().await?, &fetched(&site, &remote, "once").await?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_too_small_is_told_before_anything_is_written_where_that_can_be_known()
-> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-too-small", |stage| async move {
        let site = stage.site("both").await?;
        privileged(&site).await?;
        let store = site.volume(CLAIM).await?;
        let remote = Remote::folder("db");
        remote.tell(&site).await?;
        // Larger than any disk here, and takes no room.
        store
            .edit(|folder| {
                std::fs::create_dir(folder.join("db"))?;
                std::fs::write(folder.join("db/small"), "small")?;
                Ok(std::fs::File::create(folder.join("db/big"))?.set_len(LARGE)?)
            })
            .await?;
        let destination = remote.destination("copy", json!({"copyMethod": "Direct"}));
        site.apply(manually(destination, "once")).await?;
        // Nobody knows beforehand what fits into a volume that may share its data with others, as those of a real cluster.
        let is_foretold = matches!(*stage.cluster, Cluster::Embedded(_));
        let parts: &[&str] = if is_foretold {
            &[
                "DestinationTooSmall",
                "B free, and what comes needs 8.000 TiB",
                "spec.rclone.capacity",
            ]
        } else {
            &["DestinationFull", "enlarge it or make room"]
        };
        told(&site, "ReplicationDestination", "copy", parts).await?;
        let tree = site.open("volsync-copy-dest").await?.tree().await?;
        let has_come = format!("{tree:?}").contains("small");
        ensure!(!(is_foretold && has_come), "{tree:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_503_is_weathered_and_one_without_end_is_told() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-storm", |stage| async move {
        let (site, data, store, remote) = begun(&stage).await?;
        store.misbehave(Fault::refuse(Refusal::SlowDown).after(3).times(30));
        send(&site, &remote, "first").await?;
        ensure!(store.struck() == 30, "{}", store.requests());
        store.misbehave(Fault::refuse(Refusal::SlowDown).times(10));
        must_be_alike(
            &data.tree().await?,
            &fetched(&site, &remote, "first").await?,
        )?;

        store.misbehave(Fault::refuse(Refusal::SlowDown));
        hasty(&remote).tell(&site).await?;
        put(&data, "new", "file").await?;
        site.apply(manually(remote.source("copy", "data", json!({})), "second"))
            .await?;
        let parts = ["StoreOverloaded", "RCLONE_TPSLIMIT"];
        told(&site, "ReplicationSource", "copy", &parts).await?;
        store.behave();
        synced(&site, "copy", "second").await?;
        must_be_alike(
            &data.tree().await?,
            &fetched(&site, &remote, "second").await?,
        )
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_there_is_told_and_used_when_it_is_back() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-away", |stage| async move {
        let (site, data, store, remote) = begun(&stage).await?;
        let hasty = hasty(&remote);
        hasty.tell(&site).await?;
        store.misbehave(Fault::unreachable());
        site.apply(manually(remote.source("copy", "data", json!({})), "once"))
            .await?;
        let parts = ["StoreUnreachable", "the endpoint in rclone.conf"];
        told(&site, "ReplicationSource", "copy", &parts).await?;
        store.behave();
        synced(&site, "copy", "once").await?;
        must_be_alike(&data.tree().await?, &fetched(&site, &remote, "once").await?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_after_a_listing_that_was_cut_short() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-short", |stage| async move {
        let (site, data, store, remote) = begun(&stage).await?;
        send(&site, &remote, "first").await?;
        let destination = remote.destination("copy", json!({"copyMethod": "Direct"}));
        site.apply(manually(destination.clone(), "first")).await?;
        received(&site, "copy", "first").await?;
        let volume = site.open("volsync-copy-dest").await?;
        let before = volume.tree().await?;
        store.misbehave(Fault::shorten(5).at("/db"));
        site.apply(manually(destination, "second")).await?;
        let parts = ["ListingIncomplete", "missing", "nothing was deleted"];
        told(&site, "ReplicationDestination", "copy", &parts).await?;
        must_be_alike(&before, &volume.tree().await?)?;
        store.behave();
        received(&site, "copy", "second").await?;
        must_be_alike(&data.tree().await?, &volume.tree().await?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_changes_asks_for_no_object() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-idle", |stage| async move {
        let (site, _, store, remote) = begun(&stage).await?;
        let first = send(&site, &remote, "first").await?;
        received_first(&site, &remote).await?;
        store.forget_requests();
        let second = send(&site, &remote, "second").await?;
        ensure!(generation(&first) == generation(&second), "{second}");
        let asked = store.requests();
        let data = format!("{}/db/", store.path());
        for kind in [Kind::Head, Kind::Get, Kind::Put, Kind::Delete, Kind::Part] {
            ensure!(asked.count_at(kind, &data) == 0, "{asked}");
        }
        ensure!(asked.total() < COUNT / 2, "{asked}");
        store.forget_requests();
        site.apply(manually(remote.destination("copy", json!({})), "second"))
            .await?;
        let object = received(&site, "copy", "second").await?;
        let asked = store.requests();
        for kind in [Kind::Head, Kind::Get] {
            ensure!(asked.count_at(kind, &data) == 0, "{asked}");
        }
        ensure!(
            text(&object, "/status/latestMoverStatus/result") == Some("Successful"),
            "{object}"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_kind_that_breaks_off_is_gone_on_with() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-dav-cut", |stage| async move {
        let site = stage.site("both").await?;
        privileged(&site).await?;
        let data = site.volume("data").await?;
        fill_plain(&data, COUNT, 1).await?;
        let store = ObjectStore::start_as(&stage.cluster, Backend::WebDav, Tls::Without).await?;
        let remote = Remote::of(&store, "db");
        remote.tell(&site).await?;
        store.misbehave(Fault::cut().on(Kind::Put).at("/db/").after(5).times(3));
        send(&site, &remote, "once").await?;
        store.misbehave(Fault::cut().on(Kind::Get).at("/db/").after(5).times(3));
        let copy = fetched(&site, &remote, "once").await?;
        ensure!(store.struck() == 6, "{}", store.requests());
        must_be_alike(&data.tree().await?, &copy)
    })
    .await
}
