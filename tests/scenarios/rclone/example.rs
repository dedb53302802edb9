//! The example of the book, `docs/rclone.md`, as it stands there: a database goes from one site to another. And the files
//! of `deploy/samples/rclone` as they stand there.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use syncline_testkit::scenario::Stage;
use syncline_testkit::store::ObjectStore;
use syncline_testkit::{Cluster, Site, Volume, Who, fixture, scenario};
use syncline_tests::stores::{Remote, privileged, run};

use crate::needs;
use crate::parts::{SYNC_CAP, image_after, is, must_be_alike, over, text};

const PAGE: &str = include_str!("../../../docs/rclone.md");
/// What the page has its reader say of both namespaces, which [`privileged`] says here.
const ANNOTATED: &str =
    "kubectl annotate namespace source dest volsync.backube/privileged-movers=true";
/// The files beside it.
const SAMPLE_SOURCE: &str = include_str!("../../../deploy/samples/rclone/source.yaml");
const SAMPLE_DESTINATION: &str = include_str!("../../../deploy/samples/rclone/destination.yaml");

/// The manifests of the page, in the order in which they stand there.
fn manifests() -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for part in PAGE.split("```yaml\n").skip(1) {
        let (block, _) = part.split_once("```").context("a block without an end")?;
        if block.contains("apiVersion:") {
            all.extend(fixture::documents(block)?);
        }
    }
    Ok(all)
}

/// The manifest of this kind and name, for a namespace of the scenario's.
fn manifest(kind: &str, name: &str) -> Result<Value> {
    let found = manifests()?.into_iter().find(|object| {
        text(object, "/kind") == Some(kind) && text(object, "/metadata/name") == Some(name)
    });
    let found = found.with_context(|| format!("the page has no {kind} {name}"))?;
    Ok(over(found, json!({"metadata": {"namespace": null}})))
}

/// Lets a program speak to the database in a volume, and gives what it says.
async fn sql(volume: &Volume, words: &'static str) -> Result<String> {
    volume
        .edit(|folder: &Path| {
            // SQLite follows the links of a path by what they say, and those of /proc, behind which volumes may lie, do
            // not say where they lead.
            let apart = tempfile::tempdir()?;
            let (there, here) = (folder.join("shop.db"), apart.path().join("shop.db"));
            if there.exists() {
                std::fs::copy(&there, &here)?;
            }
            let said = run("sqlite3", [here.as_os_str(), OsStr::new(words)])?;
            std::fs::copy(&here, &there)?;
            Ok(said)
        })
        .await
}

/// The page's Secret, with a store of this machine in the place of Amazon's.
fn secret(store: &ObjectStore) -> Result<Value> {
    with_conf(manifest("Secret", "rclone-secret")?, store)
}

/// A Secret for a namespace of the scenario's, with a store of this machine under the section's own name.
fn with_conf(secret: Value, store: &ObjectStore) -> Result<Value> {
    let conf = text(&secret, "/stringData/rclone.conf").context("no rclone.conf")?;
    let section = conf.strip_prefix('[');
    let section = section.and_then(|rest| Some(rest.split_once("]\ntype = s3\n")?.0));
    let section = section.with_context(|| format!("no section for S3: {conf}"))?;
    let instead = json!({"rclone.conf": store.rclone_conf(section)});
    let instead = json!({"metadata": {"namespace": null}, "stringData": instead});
    Ok(over(secret, instead))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_example_of_the_book_does_what_the_book_says() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-example", example).await
}

async fn example(stage: Stage) -> Result<()> {
    let (east, west) = (stage.site("source").await?, stage.site("dest").await?);
    ensure!(PAGE.contains(ANNOTATED), "the page lacks {ANNOTATED:?}");
    for site in [&east, &west] {
        privileged(site).await?;
    }
    let store = ObjectStore::start(&stage.cluster).await?;
    for site in [&east, &west] {
        site.apply(secret(&store)?).await?;
    }
    let data = east.volume("mysql-pv-claim").await?;
    sql(
        &data,
        "create table orders (id integer primary key, what text); insert into orders (what) values ('one'), ('two')",
    )
    .await?;
    let tree = data.tree().await?;
    east.apply(manifest("ReplicationSource", "database-source")?)
        .await?;
    source_tells(&east).await?;

    west.apply(manifest("ReplicationDestination", "database-destination")?)
        .await?;
    let image = image_after(&west, "database-destination", None).await?;
    destination_tells(&west, &image).await?;
    west.apply(over(
        manifest("PersistentVolumeClaim", "mysql-pv-claim")?,
        json!({"spec": {"dataSource": {"name": image}}}),
    ))
    .await?;
    let copy = west.open("mysql-pv-claim").await?;
    must_be_alike(&tree, &copy.tree().await?)?;
    let rows = sql(
        &copy,
        "pragma integrity_check; select what from orders order by id",
    )
    .await?;
    ensure!(rows == "ok\none\ntwo\n", "{rows}");

    // The next version follows without anybody's doing at the destination.
    sql(&data, "insert into orders (what) values ('three')").await?;
    let now = json!({"spec": {"trigger": {"manual": "now"}}});
    east.merge("ReplicationSource", "database-source", now)
        .await?;
    let often = json!({"metadata": {"annotations": {"syncline.dev/rclone-poll-limit": "1s"}}});
    west.merge("ReplicationDestination", "database-destination", often)
        .await?;
    let next = image_after(&west, "database-destination", Some(&image)).await?;
    ensure!(next > image, "{next} after {image}");
    must_be_alike(
        &data.tree().await?,
        &crate::parts::tree_of_image(&west, &next).await?,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_files_make_an_image_of_a_volume_in_another_namespace() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-samples", |stage| async move {
        let primary = stage.site("primary").await?;
        let secondary = stage.site("secondary").await?;
        let store = ObjectStore::start(&stage.cluster).await?;
        let data = primary.volume("app-data").await?;
        crate::parts::fill_plain(&data, 10, 1).await?;
        sample(&primary, SAMPLE_SOURCE, &store).await?;
        let (kind, reason) = ("ReplicationSource", "WaitingForSchedule");
        primary
            .within(SYNC_CAP)
            .wait(kind, "app", "a run", |object| {
                is(object, "Synchronizing", "False", reason).then_some(())
            })
            .await?;
        // The destination's namespace needs the same Secret, as its file says.
        let theirs = fixture::documents(SAMPLE_SOURCE)?;
        let theirs = theirs.into_iter().find(is_secret).context("no Secret")?;
        secondary.apply(with_conf(theirs, &store)?).await?;
        sample(&secondary, SAMPLE_DESTINATION, &store).await?;
        let image = image_after(&secondary, "app", None).await?;
        let copy = crate::parts::tree_of_image(&secondary, &image).await?;
        must_be_alike(&data.tree().await?, &copy)
    })
    .await
}

/// Applies a sample's objects: its namespace is this one, and its store that of the scenario.
async fn sample(site: &Site, file: &str, store: &ObjectStore) -> Result<()> {
    for object in fixture::documents(file)? {
        if text(&object, "/kind") == Some("Namespace") {
            let annotations = object.pointer("/metadata/annotations");
            let change = json!({"metadata": {"annotations": annotations}});
            site.merge("Namespace", &site.namespace, change).await?;
        } else if is_secret(&object) {
            site.apply(with_conf(object, store)?).await?;
        } else {
            let here = json!({"metadata": {"namespace": null}});
            site.apply(over(object, here)).await?;
        }
    }
    Ok(())
}

fn is_secret(object: &Value) -> bool {
    text(object, "/kind") == Some("Secret")
}

/// What the page shows of the source's status: the next run is due at the next sixth minute.
async fn source_tells(east: &Site) -> Result<()> {
    let done = east
        .within(SYNC_CAP)
        .wait("ReplicationSource", "database-source", "a run", |object| {
            is(object, "Synchronizing", "False", "WaitingForSchedule").then(|| object.clone())
        })
        .await?;
    let time = |pointer: &str| -> Result<Timestamp> {
        Ok(text(&done, pointer)
            .with_context(|| format!("no {pointer} in {done}"))?
            .parse()?)
    };
    let (last, next) = (time("/status/lastSyncTime")?, time("/status/nextSyncTime")?);
    ensure!(
        next > last && next.as_second() % 360 == 0 && next.as_second() - last.as_second() <= 360,
        "{next} after {last}"
    );
    is_a_duration(&done)?;
    ensure!(
        is(&done, "Reconciled", "True", "ReconcileComplete"),
        "{done}"
    );
    let result = text(&done, "/status/latestMoverStatus/result");
    ensure!(result == Some("Successful"), "{done}");
    has_the_lines(&done)
}

/// Whether the duration is written as the page shows it: `7.066022293s`.
fn is_a_duration(object: &Value) -> Result<()> {
    let duration = text(object, "/status/lastSyncDuration").unwrap_or_default();
    let is_one =
        duration.ends_with('s') && duration.starts_with(|first: char| first.is_ascii_digit());
    ensure!(is_one, "{object}");
    Ok(())
}

/// The lines of the log that `VolSync`'s users look for.
fn has_the_lines(object: &Value) -> Result<()> {
    let logs = text(object, "/status/latestMoverStatus/logs").unwrap_or_default();
    for start in [
        "Transferred:",
        "Checks:",
        "Deleted:",
        "Elapsed time:",
        "Rclone completed in",
    ] {
        ensure!(
            logs.lines().any(|line| line.starts_with(start)),
            "no line begins with {start:?} in {logs:?}"
        );
    }
    Ok(())
}

/// What the page shows of the destination's status.
async fn destination_tells(west: &Site, image: &str) -> Result<()> {
    let done = west
        .get("ReplicationDestination", "database-destination")
        .await?;
    let latest = done.pointer("/status/latestImage").context("no image")?;
    let expected =
        json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": image});
    ensure!(*latest == expected, "{latest}");
    ensure!(
        image.starts_with("volsync-database-destination-dest-"),
        "{image}"
    );
    is_a_duration(&done)?;
    ensure!(text(&done, "/status/lastSyncTime").is_some(), "{done}");
    has_the_lines(&done)?;
    ensure!(
        is(&done, "Reconciled", "True", "ReconcileComplete"),
        "{done}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_book_has_the_words_of_the_seed() -> Result<()> {
    let source = manifest("ReplicationSource", "database-source")?;
    let destination = manifest("ReplicationDestination", "database-destination")?;
    for object in [&source, &destination] {
        let rclone = object.pointer("/spec/rclone").context("no spec.rclone")?;
        for (field, value) in [
            ("rcloneConfigSection", "aws-s3-bucket"),
            ("rcloneDestPath", "scribe-test-bucket"),
            ("rcloneConfig", "rclone-secret"),
            ("copyMethod", "Snapshot"),
        ] {
            ensure!(
                rclone.get(field).and_then(Value::as_str) == Some(value),
                "{rclone}"
            );
        }
    }
    let schedule = text(&source, "/spec/trigger/schedule");
    ensure!(schedule == Some("*/6 * * * *"), "{source}");
    ensure!(destination.pointer("/spec/trigger").is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_book_shows_of_statuses_is_what_the_product_writes() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-shown", |stage| async move {
        let site = stage.site("both").await?;
        privileged(&site).await?;
        let data = site.volume("data").await?;
        site.volume(syncline_tests::stores::CLAIM).await?;
        crate::parts::fill_plain(&data, 3, 1).await?;
        let remote = Remote::folder("db");
        remote.tell(&site).await?;
        let direct = json!({"copyMethod": "Direct"});
        let source = crate::parts::manually(remote.source("copy", "data", direct.clone()), "once");
        site.apply(source).await?;
        let sent = crate::parts::synced(&site, "copy", "once").await?;
        ensure!(sent.pointer("/status/nextSyncTime").is_none(), "{sent}");
        let destination = crate::parts::manually(remote.destination("copy", direct), "once");
        site.apply(destination).await?;
        let received = syncline_tests::stores::received(&site, "copy", "once").await?;
        let latest = received
            .pointer("/status/latestImage")
            .context("no image")?;
        let expected =
            json!({"apiGroup": "", "kind": "PersistentVolumeClaim", "name": "volsync-copy-dest"});
        ensure!(*latest == expected, "{latest}");
        let claim = site.open("volsync-copy-dest").await?;
        must_be_alike(&data.tree().await?, &claim.tree().await?)
    })
    .await
}
