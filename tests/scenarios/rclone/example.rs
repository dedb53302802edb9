//! The examples of the book as they stand there: a database that goes from one site to another (`docs/rclone.md`), and the
//! first replication through a store (`docs/first-store.md`). And the files of `deploy/samples/rclone` as they stand there.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use syncline_testkit::scenario::Stage;
use syncline_testkit::store::ObjectStore;
use syncline_testkit::{Cluster, Site, Volume, Who, fixture, scenario};
use syncline_tests::stores::{CLAIM, Remote, privileged, run};

use crate::needs;
use crate::parts::{SYNC_CAP, image_after, is, must_be_alike, over, text};

const PAGE: &str = include_str!("../../../docs/rclone.md");
const FIRST: &str = include_str!("../../../docs/first-store.md");
/// What the page has its reader say of both namespaces, which [`privileged`] says here.
const ANNOTATED: &str =
    "kubectl annotate namespace source dest volsync.backube/privileged-movers=true";
/// How its reader makes the Secrets, which [`secret`] are here.
const SECRETS: &str =
    "kubectl create secret generic rclone-secret -n $namespace --from-file=rclone.conf";
/// The files beside it.
const SAMPLE_SOURCE: &str = include_str!("../../../deploy/samples/rclone/source.yaml");
const SAMPLE_DESTINATION: &str = include_str!("../../../deploy/samples/rclone/destination.yaml");

/// What a page's commands are given up to the line `end`, in the order in which it stands there.
fn given<'a>(page: &'a str, end: &str) -> Result<Vec<&'a str>> {
    let (begin, end) = (format!("<<'{end}'\n"), format!("\n{end}\n"));
    let parts = page.split(begin.as_str()).skip(1);
    let given = parts.map(|part| Some(part.split_once(end.as_str())?.0));
    given
        .collect::<Option<_>>()
        .context("a command without an end")
}

/// The manifests that a page's commands apply.
fn manifests(page: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for text in given(page, "END")? {
        all.extend(fixture::documents(text)?);
    }
    Ok(all)
}

/// The example's manifest of this kind and name for one of its namespaces, for a namespace of the scenario's.
fn manifest(kind: &str, namespace: &str, name: &str) -> Result<Value> {
    let found = manifests(PAGE)?.into_iter().find(|object| {
        text(object, "/kind") == Some(kind)
            && text(object, "/metadata/namespace") == Some(namespace)
            && text(object, "/metadata/name") == Some(name)
    });
    let found = found.with_context(|| format!("the page has no {kind} {namespace}/{name}"))?;
    Ok(over(found, json!({"metadata": {"namespace": null}})))
}

/// The claim at the second site, with the image that it names in the way that the page shows besides.
fn claim_of(image: &str) -> Result<Value> {
    let claim = manifest("PersistentVolumeClaim", "dest", "mysql-pv-claim")?;
    let besides = PAGE.split("```yaml\n").skip(1);
    let besides = besides.filter_map(|part| Some(part.split_once("```")?.0));
    let besides = besides.filter(|part| part.starts_with("dataSource:"));
    let source = besides.last().context("no dataSource")?;
    let source = fixture::documents(source)?.pop().context("no dataSource")?;
    let instead = json!({"metadata": {"name": "of-the-image"}, "spec": {"dataSourceRef": null}});
    let claim = over(over(claim, instead), json!({"spec": source}));
    let image = json!({"spec": {"dataSource": {"name": image}}});
    Ok(over(claim, image))
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

/// The Secret that the page's commands make, with a store of this machine in the place of Amazon's.
fn secret(store: &ObjectStore) -> Result<Value> {
    ensure!(PAGE.contains(SECRETS), "the page lacks {SECRETS:?}");
    let conf = given(PAGE, "CONF")?.pop().context("no rclone.conf")?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "rclone-secret"}, "stringData": {"rclone.conf": conf},
    });
    with_conf(secret, store)
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
    east.apply(manifest("ReplicationSource", "source", "database-source")?)
        .await?;
    source_tells(&east).await?;

    let destination = manifest("ReplicationDestination", "dest", "database-destination")?;
    west.apply(destination).await?;
    let image = image_after(&west, "database-destination", None).await?;
    destination_tells(&west, &image).await?;
    let claim = manifest("PersistentVolumeClaim", "dest", "mysql-pv-claim")?;
    for claim in [claim, claim_of(&image)?] {
        let name = text(&claim, "/metadata/name")
            .unwrap_or_default()
            .to_owned();
        west.apply(claim).await?;
        let copy = west.open(&name).await?;
        must_be_alike(&tree, &copy.tree().await?)?;
        let rows = sql(
            &copy,
            "pragma integrity_check; select what from orders order by id",
        )
        .await?;
        ensure!(rows == "ok\none\ntwo\n", "{rows}");
    }

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
async fn the_books_first_replication_through_a_store_ends_with_the_files_in_a_new_volume()
-> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-first", |stage| async move {
        let site = stage.site("try").await?;
        let data = site.volume("data").await?;
        site.volume(CLAIM).await?;
        crate::parts::fill_plain(&data, 3, 1).await?;
        for object in manifests(FIRST)? {
            here(&site, object).await?;
        }
        let copy = site.open("data-restored").await?;
        must_be_alike(&data.tree().await?, &copy.tree().await?)
    })
    .await
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

/// Applies a sample's objects, with the scenario's store in the place of theirs.
async fn sample(site: &Site, file: &str, store: &ObjectStore) -> Result<()> {
    for object in fixture::documents(file)? {
        let object = if is_secret(&object) {
            with_conf(object, store)?
        } else {
            object
        };
        here(site, object).await?;
    }
    Ok(())
}

/// Applies an object of the book's or a sample's, whose namespace is this one.
async fn here(site: &Site, object: Value) -> Result<()> {
    if text(&object, "/kind") == Some("Namespace") {
        let annotations = object.pointer("/metadata/annotations");
        let change = json!({"metadata": {"annotations": annotations}});
        site.merge("Namespace", &site.namespace, change).await?;
    } else {
        let here = json!({"metadata": {"namespace": null}});
        site.apply(over(object, here)).await?;
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
    let source = manifest("ReplicationSource", "source", "database-source")?;
    let destination = manifest("ReplicationDestination", "dest", "database-destination")?;
    for object in [&source, &destination] {
        let rclone = object.pointer("/spec/rclone").context("no spec.rclone")?;
        for (field, value) in [
            ("rcloneConfigSection", "aws-s3-bucket"),
            ("rcloneDestPath", "scribe-test-bucket/mysql"),
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
        site.volume(CLAIM).await?;
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
