//! Stock peers: `VolSync`'s movers re-enacted with stock rclone, `getfacl` and `setfacl`, by the calls that they make.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use syncline_testkit::scenario::Stage;
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

/// A run of VolSync's source.
async fn volsync_sends(data: &Volume, store: &Volume, path: &'static str) -> Result<()> {
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
    store
        .edit(|folder| {
            let target = folder.join(path);
            stock_rclone(
                [
                    "sync",
                    "--one-file-system",
                    "--create-empty-src-dirs",
                    "--checksum",
                    "--exclude",
                    "lost+found/**",
                ]
                .map(OsStr::new)
                .into_iter()
                .chain([pod.path().join("data").as_os_str(), target.as_os_str()]),
            )?;
            stock_rclone(
                ["copy", "--include", "permissions.facl"]
                    .map(OsStr::new)
                    .into_iter()
                    .chain([pod.path().as_os_str(), target.as_os_str()]),
            )?;
            Ok(())
        })
        .await
}

/// A run of VolSync's destination into an empty volume.
async fn volsync_receives(store: &Volume, path: &'static str) -> Result<Tree> {
    let pod = tempfile::tempdir()?;
    let data = pod.path().join("data");
    fs::create_dir(&data)?;
    store
        .look(|folder| {
            let origin = folder.join(path);
            stock_rclone(
                [
                    "sync",
                    "--create-empty-src-dirs",
                    "--checksum",
                    "--exclude",
                    "lost+found/**",
                    "--exclude",
                    "permissions.facl",
                ]
                .map(OsStr::new)
                .into_iter()
                .chain([origin.as_os_str(), data.as_os_str()]),
            )?;
            stock_rclone(
                ["copy", "--include", "permissions.facl"]
                    .map(OsStr::new)
                    .into_iter()
                    .chain([origin.as_os_str(), pod.path().as_os_str()]),
            )
        })
        .await?;
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

/// A privileged site with a volume for stock peers, and a store.
async fn begun(stage: &Stage) -> Result<(Site, Volume, Volume, Remote)> {
    let site = stage.site("both").await?;
    privileged(&site).await?;
    let (data, store) = (site.volume("data").await?, site.volume(CLAIM).await?);
    data.edit(fill).await?;
    let remote = Remote::folder("db");
    remote.tell(&site).await?;
    Ok((site, data, store, remote))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_volsyncs_source_left_is_received_with_owners_modes_and_acls_and_again_when_it_changes()
-> Result<()> {
    let place = needs::ROOT.shared(Who::Caller).await?;
    scenario(place, "rclone-from-stock", |stage| async move {
        let (site, data, store, remote) = begun(&stage).await?;
        volsync_sends(&data, &store, "db").await?;
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
        volsync_sends(&data, &store, "db").await?;
        let (_, copy) = next_image(&site, Some(&image)).await?;
        must_be_alike_but_for_folders_times(&data.tree().await?, &copy)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_our_source_left_is_received_by_volsyncs_mover_with_owners_modes_and_acls()
-> Result<()> {
    let place = needs::ROOT.shared(Who::Caller).await?;
    scenario(place, "rclone-to-stock", |stage| async move {
        let (site, data, store, remote) = begun(&stage).await?;
        send(&site, &remote, "first").await?;
        let copy = volsync_receives(&store, "db").await?;
        must_be_alike_but_for_folders_times(&data.tree().await?, &copy)?;
        put(&data, "new", "file").await?;
        send(&site, &remote, "second").await?;
        let copy = volsync_receives(&store, "db").await?;
        must_be_alike_but_for_folders_times(&data.tree().await?, &copy)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_volsync_filled_is_taken_over_and_nothing_is_sent_twice() -> Result<()> {
    let place = needs::ROOT.shared(Who::Caller).await?;
    scenario(place, "rclone-taken", |stage| async move {
        let (site, data, store, remote) = begun(&stage).await?;
        volsync_sends(&data, &store, "db").await?;
        put(&store, "db/gone at the source", "x").await?;
        let sent = send(&site, &remote, "once").await?;
        let logs = text(&sent, "/status/latestMoverStatus/logs").unwrap_or_default();
        ensure!(logs.contains("Deleted:       \t1 "), "{logs}");
        ensure!(logs.contains("Transferred:   \t0 / 0, 100%"), "{logs}");
        let copy = fetched(&site, &remote, "once").await?;
        crate::parts::must_be_alike(&data.tree().await?, &copy)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stock_source_writes_after_ours_is_noticed_and_taken_as_it_is() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-after-ours", |stage| async move {
        let site = stage.site("both").await?;
        privileged(&site).await?;
        let (data, store) = (site.volume("data").await?, site.volume(CLAIM).await?);
        fill_plain(&data, 10, 1).await?;
        let remote = Remote::folder("db");
        remote.tell(&site).await?;
        send(&site, &remote, "ours").await?;
        let first = receive(&site, &remote, "ours").await?;
        put(&data, "added by", "VolSync").await?;
        volsync_sends(&data, &store, "db").await?;
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
