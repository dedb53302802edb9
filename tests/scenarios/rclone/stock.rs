//! Stock peers: `VolSync`'s movers re-enacted with stock rclone, `getfacl` and `setfacl`, by the calls that they make.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use syncline_testkit::scenario::Stage;
use syncline_testkit::store::{ObjectStore, SECTION};
use syncline_testkit::{Cluster, Site, Tree, Volume, Who, scenario};
use syncline_tests::stores::{
    CLAIM, Remote, fetched, generation, must_be_alike_but_for_folders_times, next_image,
    privileged, receive, run, send, stock_rclone, waits,
};

use crate::needs;
use crate::parts::{condition, fill_plain, over, put, text};

/// What goes through a stock peer: files and folders with owners, modes and ACLs.
fn fill(folder: &Path) -> Result<()> {
    syncline_testkit::corpus::plain(folder, 20, 6)?;
    fs::create_dir_all(folder.join("empty/inner"))?;
    for (name, mode) in [
        ("private", 0o600),
        ("with blanks and = \\ signs", 0o755),
        ("grüße", 0o640),
        ("set-id", 0o4755),
    ] {
        let file = folder.join(name);
        fs::write(&file, name)?;
        lchown(&file, Some(54_321), Some(65_432))?;
        fs::set_permissions(&file, Permissions::from_mode(mode))?;
    }
    let shared = folder.join("shared");
    fs::create_dir_all(&shared)?;
    fs::write(shared.join("file"), "for some")?;
    let rules = [
        ("u:54322:rw", shared.join("file")),
        ("g:54323:rx,d:u:54322:rwx", shared),
    ];
    for (rule, path) in rules {
        run(
            "setfacl",
            [OsStr::new("-m"), OsStr::new(rule), path.as_os_str()],
        )?;
    }
    Ok(())
}

/// A copy of a volume at `…/data` in a folder of this machine, as VolSync's movers have it at `/data`.
async fn as_in_volsyncs_pod(data: &Volume) -> Result<tempfile::TempDir> {
    let pod = tempfile::tempdir()?;
    let at = pod.path().join("data");
    data.look(|folder| run("cp", [OsStr::new("-a"), folder.as_os_str(), at.as_os_str()]))
        .await?;
    Ok(pod)
}

/// What stands in words for stock rclone in the place of the path `db` in the store.
const THERE: &str = "THERE";

/// What stock peers and ours share.
enum Store {
    /// A folder, in a volume that movers see.
    Folder(Box<Volume>),
    /// A bucket.
    Bucket(Box<ObjectStore>),
}

impl Store {
    /// What movers need to get there.
    fn remote(&self) -> Remote {
        match self {
            Self::Folder(_) => Remote::folder("db"),
            Self::Bucket(server) => Remote::of(server, "db"),
        }
    }

    /// Stock rclone with each of these words, which may change what lies there.
    async fn change(&self, calls: &[&[&str]]) -> Result<()> {
        match self {
            Self::Folder(volume) => volume.edit(|folder| at_once(folder, calls)).await,
            Self::Bucket(server) => in_bucket(server, calls),
        }
    }

    /// Stock rclone with each of these words, which only read there.
    async fn read(&self, calls: &[&[&str]]) -> Result<()> {
        match self {
            Self::Folder(volume) => volume.look(|folder| at(&folder.join("db"), calls)).await,
            Self::Bucket(server) => in_bucket(server, calls),
        }
    }
}

/// What the calls change is seen all at once. Whoever looks between VolSync's two sees no permissions, takes the source to be
/// at work still, and lets the store rest for ten minutes.
fn at_once(folder: &Path, calls: &[&[&str]]) -> Result<()> {
    let [there, next, last] = ["db", "next", "last"].map(|name| folder.join(name));
    if there.exists() {
        let words = [OsStr::new("-a"), there.as_os_str(), next.as_os_str()];
        run("cp", words)?;
    }
    at(&next, calls)?;
    if there.exists() {
        fs::rename(&there, &last)?;
        fs::rename(&next, &there)?;
        return Ok(fs::remove_dir_all(&last)?);
    }
    Ok(fs::rename(&next, &there)?)
}

fn at(there: &Path, calls: &[&[&str]]) -> Result<()> {
    let there = there.display().to_string();
    for call in calls {
        stock_rclone(call.iter().map(|word| word.replace(THERE, &there)))?;
    }
    Ok(())
}

fn in_bucket(server: &ObjectStore, calls: &[&[&str]]) -> Result<()> {
    let there = format!("{SECTION}:{}/db", server.path());
    for call in calls {
        let words: Vec<_> = call
            .iter()
            .map(|word| word.replace(THERE, &there))
            .collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        server.rclone(&words)?;
    }
    Ok(())
}

/// A run of VolSync's source.
async fn volsync_sends(data: &Volume, store: &Store) -> Result<()> {
    let pod = as_in_volsyncs_pod(data).await?;
    let script = "cd \"$1\" && find data -path data/lost+found -prune -o -print0 | xargs -0 getfacl -P >permissions.facl";
    run(
        "sh",
        [
            OsStr::new("-c"),
            OsStr::new(script),
            OsStr::new("sh"),
            pod.path().as_os_str(),
        ],
    )?;
    let root = pod.path().to_str().context("no UTF-8")?;
    let sync = [
        "sync",
        "--one-file-system",
        "--create-empty-src-dirs",
        "--checksum",
        "--exclude",
        "lost+found/**",
        &format!("{root}/data"),
        THERE,
    ];
    let copy = ["copy", "--include", "permissions.facl", root, THERE];
    store.change(&[&sync, &copy]).await
}

/// A run of VolSync's destination into an empty volume.
async fn volsync_receives(store: &Store) -> Result<Tree> {
    let pod = tempfile::tempdir()?;
    let data = pod.path().join("data");
    fs::create_dir(&data)?;
    let root = pod.path().to_str().context("no UTF-8")?;
    let sync = [
        "sync",
        "--create-empty-src-dirs",
        "--checksum",
        "--exclude",
        "lost+found/**",
        "--exclude",
        "permissions.facl",
        THERE,
        &format!("{root}/data"),
    ];
    let copy = ["copy", "--include", "permissions.facl", THERE, root];
    store.read(&[&sync, &copy]).await?;
    let script = "cd \"$1\" && setfacl --restore=permissions.facl";
    run(
        "sh",
        [
            OsStr::new("-c"),
            OsStr::new(script),
            OsStr::new("sh"),
            pod.path().as_os_str(),
        ],
    )?;
    Tree::scan(&data)
}

/// What kind of store a scenario is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shared {
    Folder,
    Bucket,
}

/// A privileged site with a volume for stock peers, and a store.
async fn begun(stage: &Stage, shared: Shared) -> Result<(Site, Volume, Store, Remote)> {
    let site = stage.site("both").await?;
    privileged(&site).await?;
    let data = site.volume("data").await?;
    data.edit(fill).await?;
    let store = match shared {
        Shared::Folder => Store::Folder(Box::new(site.volume(CLAIM).await?)),
        Shared::Bucket => Store::Bucket(Box::new(ObjectStore::start(&stage.cluster).await?)),
    };
    let remote = store.remote();
    remote.tell(&site).await?;
    Ok((site, data, store, remote))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_volsyncs_source_left_is_received_with_owners_modes_and_acls_and_again_when_it_changes()
-> Result<()> {
    let place = needs::ROOT.shared(Who::Caller).await?;
    scenario(place, "rclone-from-stock", |stage| async move {
        let (site, data, store, remote) = begun(&stage, Shared::Folder).await?;
        volsync_sends(&data, &store).await?;
        let often = json!({"metadata": {"annotations": {"syncline.dev/rclone-poll-limit": "1s"}}});
        site.apply(over(remote.destination("copy", json!({})), often))
            .await?;
        let (image, copy) = next_image(&site, None).await?;
        must_be_alike_but_for_folders_times(&data.tree().await?, &copy)?;
        let object = site.get("ReplicationDestination", "copy").await?;
        let told = condition(&object, "Preserved").context("no condition")?;
        ensure!(text(told, "/reason") == Some("NotCarried"), "{told}");

        waits(&site, "copy").await?;
        put(&data, "new", "from VolSync").await?;
        volsync_sends(&data, &store).await?;
        let (_, copy) = next_image(&site, Some(&image)).await?;
        must_be_alike_but_for_folders_times(&data.tree().await?, &copy)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_our_source_left_is_received_by_volsyncs_mover_with_owners_modes_and_acls()
-> Result<()> {
    let place = needs::ROOT.shared(Who::Caller).await?;
    let of_folder = |stage| to_stock(stage, Shared::Folder);
    scenario(place, "rclone-to-stock", of_folder).await
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_bucket_it_is_received_by_volsyncs_mover_too() -> Result<()> {
    let place = needs::store_and_root().shared(Who::Caller).await?;
    let of_bucket = |stage| to_stock(stage, Shared::Bucket);
    scenario(place, "rclone-bucket-to-stock", of_bucket).await
}

async fn to_stock(stage: Stage, shared: Shared) -> Result<()> {
    let (site, data, store, remote) = begun(&stage, shared).await?;
    if shared == Shared::Bucket {
        // Buckets have no folders but those of objects.
        data.edit(|folder| Ok(fs::remove_dir_all(folder.join("empty"))?))
            .await?;
    }
    send(&site, &remote, "first").await?;
    let copy = volsync_receives(&store).await?;
    must_be_alike_but_for_folders_times(&data.tree().await?, &copy)?;
    put(&data, "new", "file").await?;
    send(&site, &remote, "second").await?;
    let copy = volsync_receives(&store).await?;
    must_be_alike_but_for_folders_times(&data.tree().await?, &copy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_volsync_filled_is_taken_over_and_nothing_is_sent_twice() -> Result<()> {
    let place = needs::ROOT.shared(Who::Caller).await?;
    let of_folder = |stage| taken_over(stage, Shared::Folder);
    scenario(place, "rclone-taken", of_folder).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_of_a_bucket_that_volsync_filled_is_taken_over_alike() -> Result<()> {
    let place = needs::store_and_root().shared(Who::Caller).await?;
    let of_bucket = |stage| taken_over(stage, Shared::Bucket);
    scenario(place, "rclone-bucket-taken", of_bucket).await
}

async fn taken_over(stage: Stage, shared: Shared) -> Result<()> {
    let (site, data, store, remote) = begun(&stage, shared).await?;
    volsync_sends(&data, &store).await?;
    let gone = format!("{THERE}/gone at the source");
    store.change(&[&["touch", &gone]]).await?;
    let sent = send(&site, &remote, "once").await?;
    let logs = text(&sent, "/status/latestMoverStatus/logs").unwrap_or_default();
    ensure!(logs.contains("Deleted:       \t1 "), "{logs}");
    ensure!(logs.contains("Transferred:   \t0 / 0, 100%"), "{logs}");
    let copy = fetched(&site, &remote, "once").await?;
    crate::parts::must_be_alike(&data.tree().await?, &copy)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stock_source_writes_after_ours_is_noticed_and_taken_as_it_is() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-after-ours", |stage| async move {
        let site = stage.site("both").await?;
        privileged(&site).await?;
        let data = site.volume("data").await?;
        fill_plain(&data, 10, 1).await?;
        let store = Store::Folder(Box::new(site.volume(CLAIM).await?));
        let remote = store.remote();
        remote.tell(&site).await?;
        send(&site, &remote, "ours").await?;
        let first = receive(&site, &remote, "ours").await?;
        put(&data, "added by", "VolSync").await?;
        volsync_sends(&data, &store).await?;
        let second = receive(&site, &remote, "theirs").await?;
        ensure!(generation(&first) != generation(&second), "{second}");
        let image = text(&second, "/status/latestImage/name").context("no image")?;
        let copy = crate::parts::tree_of_image(&site, image).await?;
        must_be_alike_but_for_folders_times(&data.tree().await?, &copy)?;
        let told = condition(&second, "Preserved").context("no condition")?;
        ensure!(text(told, "/reason") == Some("NotCarried"), "{told}");
        Ok(())
    })
    .await
}
