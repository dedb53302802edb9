//! What VolSync leaves when it is scaled down.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use syncline_testkit::{Site, Volume};

use crate::parts::{SYNC_CAP, is, over, text};

const OBJECTS: &str = include_str!("../takeover/volsync/objects.yaml");
/// What VolSync keeps of the log of that Job.
const LINES: &str = "sent 1.23K bytes  received 35 bytes  843.33 bytes/sec\ntotal size is 9  speedup is 0.01\nRsync completed in 2s";

/// Makes a source as VolSync leaves it in the middle of a run: the objects of `objects.yaml`, and the status. Returns its
/// Job, of an image that holds a bash.
pub async fn left_by_volsync(site: &Site, image: &str) -> Result<Value> {
    let manifest = json!({
        "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource", "metadata": {"name": "db"},
        "spec": {"sourcePVC": "data", "trigger": {"schedule": "0 0 1 1 *"},
                 "rsync": {"copyMethod": "Direct", "address": "127.0.0.1", "sshKeys": "keys"}},
    });
    let resource = site.apply(manifest).await?;
    let uid = text(&resource, "/metadata/uid")
        .context("a uid")?
        .to_owned();
    let owner = json!([{"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource", "name": "db", "uid": uid,
        "controller": true, "blockOwnerDeletion": true}]);
    site.apply(
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"},
        "stringData": {"source": "x", "source.pub": "y", "destination.pub": "z"}}),
    )
    .await?;
    let text = OBJECTS
        .replace("NAMESPACE", &site.namespace)
        .replace("OWNER-UID", &uid)
        .replace("image: stranger", &format!("image: {image}"));
    for mut object in syncline_testkit::fixture::documents(&text)? {
        object = over(object, json!({"metadata": {"ownerReferences": owner}}));
        site.create_as("manager", object).await?;
    }
    let status = json!({"status": {
        "lastSyncTime": "2026-01-01T00:00:00Z", "lastSyncDuration": "28.818695981s", "lastSyncStartTime": "2026-01-02T00:00:00Z",
        "nextSyncTime": "2027-01-01T00:00:00Z", "rsync": {}, "latestMoverStatus": {"result": "Successful", "logs": "sent 1 bytes"},
        "conditions": [{"type": "Synchronizing", "status": "True", "reason": "SyncInProgress",
            "message": "Synchronization in-progress", "lastTransitionTime": "2026-01-02T00:00:00Z"}],
    }});
    site.merge_status("ReplicationSource", "db", status).await?;
    site.get("Job", "volsync-rsync-src-db").await
}

/// Lets VolSync's Job end, and waits until its run is counted, with its own words.
pub async fn finishes_and_counts(site: &Site, data: &Volume) -> Result<()> {
    data.edit(|folder| Ok(std::fs::write(folder.join("go"), "")?))
        .await?;
    let done = site
        .within(SYNC_CAP)
        .wait("ReplicationSource", "db", "come to rest", |object| {
            is(object, "Synchronizing", "False", "WaitingForSchedule").then(|| object.clone())
        })
        .await?;
    let is_counted = text(&done, "/status/lastSyncTime") != Some("2026-01-01T00:00:00Z")
        && done.pointer("/status/lastSyncStartTime").is_none()
        && text(&done, "/status/latestMoverStatus/result") == Some("Successful")
        && text(&done, "/status/latestMoverStatus/logs") == Some(LINES);
    ensure!(is_counted, "{done}");
    Ok(())
}
