//! What goes into a store and what comes out of it again.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use syncline_testkit::scenario::Stage;
use syncline_testkit::store::ObjectStore;
use syncline_testkit::tree::{Ignore, Kind};
use syncline_testkit::{Cluster, Site, Tree, Volume, Who, corpus, scenario};
use syncline_tests::stores::{
    CLAIM, Remote, fetched, files_in, generation, objects_in, privileged, receive, received, send,
};

use crate::bad_input::told;
use crate::needs;
use crate::parts::{condition, fill_hostile, manually, must_be_alike, text, tree_of_image};

/// Whom movers without rights run as.
const USER: u32 = 4321;
/// Folders and files that names in a list trip over.
const CROWD: usize = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_volume_comes_out_of_a_store_whole_and_nothing_of_ours_lies_in_its_path()
-> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-whole", comes_whole).await
}

#[tokio::test(flavor = "multi_thread")]
async fn for_an_ordinary_user_it_comes_out_whole_too() -> Result<()> {
    let place = needs::ORDINARY_USER.shared(Who::Ordinary).await?;
    scenario(place, "rclone-user", comes_whole).await
}

async fn comes_whole(stage: Stage) -> Result<()> {
    let site = stage.site("both").await?;
    privileged(&site).await?;
    let (data, store) = (site.volume("data").await?, site.volume(CLAIM).await?);
    data.edit(|folder| corpus::plain(&folder.join("plain"), 40, 9))
        .await?;
    fill_hostile(&stage.cluster, &data).await?;
    let tree = data.tree().await?;
    let remote = Remote::folder("bucket/db");
    remote.tell(&site).await?;

    let first = send(&site, &remote, "first").await?;
    must_be_alike(&tree, &fetched(&site, &remote, "first").await?)?;
    is_one_to_one(&tree, &files_in(&store, "bucket/db").await?)?;
    let beside = files_in(&store, "bucket/db-syncline").await?;
    ensure!(
        beside == ["generation.json", "manifest-1.zst"].map(PathBuf::from),
        "{beside:?}"
    );

    is_of_this_cluster(&site, &store).await?;

    // Nothing has changed: the store is not touched, and nothing is taken for gone.
    let before = store.tree().await?;
    let second = send(&site, &remote, "second").await?;
    ensure!(generation(&first) == generation(&second), "{second}");
    must_be_alike(&before, &store.tree().await?)?;

    data.edit(changed).await?;
    let tree = data.tree().await?;
    send(&site, &remote, "third").await?;
    must_be_alike(&tree, &fetched(&site, &remote, "third").await?)?;
    is_one_to_one(&tree, &files_in(&store, "bucket/db").await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_out_of_a_bare_bucket_whole_with_the_notes_in_a_bucket_beside_it() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-bare", comes_out_of_a_bare_bucket).await
}

async fn comes_out_of_a_bare_bucket(stage: Stage) -> Result<()> {
    let site = stage.site("both").await?;
    privileged(&site).await?;
    let data = site.volume("data").await?;
    fill_hostile(&stage.cluster, &data).await?;
    data.edit(|folder| {
        corpus::plain(&folder.join("plain"), 40, 9)?;
        // Some of these are not a line each in a list of objects.
        Ok(fs::remove_dir_all(folder.join("names"))?)
    })
    .await?;
    let store = ObjectStore::start(&stage.cluster).await?;
    let bucket = store.path();
    let remote = Remote::of(&store, "").at(bucket);
    remote.tell(&site).await?;
    for round in ["first", "second"] {
        if round == "second" {
            // Some files have other content, one is new, and one is gone.
            data.edit(|folder| corpus::change(&folder.join("plain"), 20, 3))
                .await?;
        }
        let tree = data.tree().await?;
        let sent = send(&site, &remote, round).await?;
        ensure!(generation(&sent).is_some(), "{sent}");
        must_be_alike(&tree, &fetched(&site, &remote, round).await?)?;
        is_one_to_one(&tree, &objects_in(&store, bucket)?)?;
        let beside = objects_in(&store, &format!("{bucket}-syncline"))?;
        let marker = PathBuf::from("generation.json");
        ensure!(beside.contains(&marker), "{beside:?}");
    }
    Ok(())
}

/// Files that grow and go, links that lead elsewhere, kinds that change, and an attribute alone.
fn changed(folder: &Path) -> Result<()> {
    corpus::change(&folder.join("plain"), 20, 3)?;
    fs::remove_file(folder.join("links/relative"))?;
    symlink("twin", folder.join("links/relative"))?;
    fs::remove_dir_all(folder.join("empty"))?;
    fs::write(folder.join("empty"), "a file where a folder was")?;
    fs::remove_file(folder.join("zero bytes"))?;
    fs::create_dir(folder.join("zero bytes"))?;
    fs::write(folder.join("zero bytes/inside"), "and the reverse")?;
    fs::remove_file(folder.join("links/same inode"))?;
    Ok(xattr::set(
        folder.join("attributes/file"),
        "user.comment",
        b"other",
    )?)
}

/// Whether the marker names this cluster, so that one of another with a source of the same name is told apart.
async fn is_of_this_cluster(site: &Site, store: &Volume) -> Result<()> {
    let own = site.get("Namespace", "kube-system").await?;
    let own = text(&own, "/metadata/uid").context("no uid")?.to_owned();
    let marker = store
        .look(|folder| {
            Ok(fs::read_to_string(
                folder.join("bucket/db-syncline/generation.json"),
            )?)
        })
        .await?;
    ensure!(marker.contains(&own), "{marker}");
    Ok(())
}

/// Whether there is an object for each regular file, and VolSync's file of permissions, and nothing else.
fn is_one_to_one(tree: &Tree, objects: &[PathBuf]) -> Result<()> {
    let files = tree.entries().iter();
    let files = files.filter(|(_, entry)| entry.kind == Kind::File);
    let mut expected: Vec<PathBuf> = files.map(|(path, _)| path.clone()).collect();
    expected.push("permissions.facl".into());
    expected.sort();
    let missing: Vec<_> = expected
        .iter()
        .filter(|path| !objects.contains(path))
        .collect();
    let surplus: Vec<_> = objects
        .iter()
        .filter(|path| !expected.contains(path))
        .collect();
    ensure!(
        missing.is_empty() && surplus.is_empty(),
        "missing: {missing:?}, too many: {surplus:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_of_any_number_and_thousands_of_odd_names_come_out_of_a_store_as_they_were()
-> Result<()> {
    let place = needs::ROOT.shared(Who::Caller).await?;
    scenario(place, "rclone-owners", |stage| async move {
        let site = stage.site("both").await?;
        privileged(&site).await?;
        let (data, _) = (site.volume("data").await?, site.volume(CLAIM).await?);
        data.edit(|folder| corpus::owners(folder).and_then(|()| corpus::crowd(folder, CROWD)))
            .await?;
        let tree = data.tree().await?;
        let remote = Remote::folder("db");
        remote.tell(&site).await?;
        send(&site, &remote, "once").await?;
        must_be_alike(&tree, &fetched(&site, &remote, "once").await?)
    })
    .await
}

/// A mover without rights, as most namespaces want it.
fn rights() -> Value {
    json!({"moverSecurityContext": {"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}})
}

#[tokio::test(flavor = "multi_thread")]
async fn movers_without_rights_keep_all_that_is_their_users() -> Result<()> {
    let place = needs::ROOT.shared(Who::Caller).await?;
    scenario(place, "rclone-rights", |stage| async move {
        let site = stage.site("both").await?;
        let (data, _) = (site.volume("data").await?, site.volume(CLAIM).await?);
        data.edit(users_own).await?;
        let tree = data.tree().await?;
        let remote = Remote::folder("db").with_spec(rights());
        remote.tell(&site).await?;
        send(&site, &remote, "once").await?;
        let copy = fetched(&site, &remote, "once").await?;
        // The volume's root belongs to whoever made the volume, and only root may give it away.
        let ignore = Ignore {
            root: true,
            ..Ignore::default()
        };
        tree.must_equal(&copy, ignore)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_root_is_forbidden_the_cure_is_told_and_movers_without_rights_work() -> Result<()> {
    let place = needs::POD_SECURITY.shared(Who::Caller).await?;
    scenario(place, "rclone-restricted", |stage| async move {
        let site = stage.site_with("both", "restricted").await?;
        privileged(&site).await?;
        let (data, _) = (site.volume("data").await?, site.volume(CLAIM).await?);
        data.edit(users_own).await?;
        let tree = data.tree().await?;
        let remote = Remote::folder("db");
        remote.tell(&site).await?;
        let (source, destination) = (
            remote.source("copy", "data", json!({})),
            remote.destination("copy", json!({})),
        );
        for (kind, object) in [
            ("ReplicationSource", source),
            ("ReplicationDestination", destination),
        ] {
            site.apply(manually(object, "once")).await?;
            let cure = "remove its annotation volsync.backube/privileged-movers";
            let parts = ["restricted", "baseline", cure];
            told(&site, kind, "copy", &parts).await?;
            site.delete(kind, "copy").await?;
            site.wait_gone(kind, "copy").await?;
        }
        let no_longer = json!({"volsync.backube/privileged-movers": null});
        let change = json!({"metadata": {"annotations": no_longer}});
        site.merge("Namespace", &site.namespace, change).await?;
        let remote = remote.with_spec(rights());
        send(&site, &remote, "once").await?;
        let copy = fetched(&site, &remote, "once").await?;
        // The volume's root belongs to whoever made the volume, and only root may give it away.
        let ignore = Ignore {
            root: true,
            ..Ignore::default()
        };
        tree.must_equal(&copy, ignore)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn movers_of_whom_nobody_says_anything_are_told_what_they_lack_and_as_bare_root_they_work()
-> Result<()> {
    let place = needs::store_and_root().shared(Who::Caller).await?;
    scenario(place, "rclone-default", unsaid).await
}

async fn unsaid(stage: Stage) -> Result<()> {
    let site = stage.site("both").await?;
    let (data, target) = (site.volume("data").await?, site.volume("target").await?);
    data.edit(|folder| {
        corpus::plain(folder, 10, 6)?;
        let private = folder.join("private");
        fs::write(&private, "root's")?;
        Ok(fs::set_permissions(private, Permissions::from_mode(0o600))?)
    })
    .await?;
    // Most drivers' new volumes are root's alone; those of the embedded cluster are everybody's.
    target
        .edit(|folder| Ok(fs::set_permissions(folder, Permissions::from_mode(0o755))?))
        .await?;
    let store = ObjectStore::start(&stage.cluster).await?;
    let remote = Remote::of(&store, "db");
    remote.tell(&site).await?;
    let into = json!({"destinationPVC": "target", "capacity": null, "accessModes": null});
    let (source, destination) = (
        remote.source("copy", "data", json!({})),
        remote.destination("copy", into.clone()),
    );
    for (kind, object, reason) in [
        ("ReplicationSource", source, "SourceUnreadable"),
        (
            "ReplicationDestination",
            destination,
            "DestinationUnwritable",
        ),
    ] {
        site.apply(manually(object, "once")).await?;
        let parts = [reason, "volsync.backube/privileged-movers"];
        told(&site, kind, "copy", &parts).await?;
    }
    // The user of VolSync's movers, where the cluster assigns none.
    let remote = remote.with_spec(json!({"moverSecurityContext": {"runAsUser": 0}}));
    send(&site, &remote, "once").await?;
    site.apply(manually(remote.destination("copy", into), "once"))
        .await?;
    let object = received(&site, "copy", "once").await?;
    let image = text(&object, "/status/latestImage/name").context("no image")?;
    must_be_alike(&data.tree().await?, &tree_of_image(&site, image).await?)
}

/// Everything is the user's, with the modes that the kubelet gives to what is in a volume of an fsGroup.
fn users_own(folder: &Path) -> Result<()> {
    corpus::plain(folder, 30, 4)?;
    corpus::crowd(folder, 40)?;
    let links = folder.join("links");
    fs::create_dir_all(links.join("empty"))?;
    symlink("../folder-000/file-000001", links.join("soft"))?;
    fs::hard_link(folder.join("folder-000/file-000002"), links.join("hard"))?;
    fs::File::create(links.join("sparse"))?.set_len(4 << 20)?;
    xattr::set(links.join("hard"), "user.comment", b"kept")?;
    corpus::give_to(folder, USER, USER)?;
    for file in corpus::files_below(folder)? {
        fs::set_permissions(&file, Permissions::from_mode(0o664))?;
    }
    for inner in ["folder-000", "crowd", "links", "links/empty"] {
        fs::set_permissions(folder.join(inner), Permissions::from_mode(0o2775))?;
    }
    corpus::set_mtime(&links.join("empty"), 1_200_000_000, 7)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_without_rights_says_whose_files_it_could_not_give_back() -> Result<()> {
    let place = needs::store_and_root().shared(Who::Caller).await?;
    scenario(place, "rclone-lost", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        privileged(&east).await?;
        let data = east.volume("data").await?;
        let store = ObjectStore::start(&stage.cluster).await?;
        data.edit(|folder| {
            corpus::plain(folder, 10, 5)?;
            corpus::give_to(folder, 1001, 1002)
        })
        .await?;
        let remote = Remote::of(&store, "db");
        remote.tell(&east).await?;
        remote.tell(&west).await?;
        send(&east, &remote, "once").await?;
        let object = receive(&west, &remote.with_spec(rights()), "once").await?;
        let told = condition(&object, "Preserved").context("no condition")?;
        ensure!(
            text(told, "/reason") == Some("UnprivilegedMover"),
            "{told:#}"
        );
        let message = text(told, "/message").unwrap_or_default();
        ensure!(message.contains("owners"), "{message}");
        let image = text(&object, "/status/latestImage/name").context("no image")?;
        let copy = tree_of_image(&west, image).await?;
        ensure!(copy.len() == data.tree().await?.len(), "{copy}");
        Ok(())
    })
    .await
}
