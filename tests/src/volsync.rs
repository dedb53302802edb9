//! What VolSync leaves when it is scaled down: its definitions of the kinds, and a run in flight.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use syncline_testkit::{Site, Volume};

use crate::parts::{SYNC_CAP, condition, empty_folder, is, manually, over, text};

const OBJECTS: &str = include_str!("../takeover/volsync/objects.yaml");
/// What VolSync keeps of the log of that Job.
const LINES: &str = "sent 1.23K bytes  received 35 bytes  843.33 bytes/sec\ntotal size is 9  speedup is 0.01\nRsync completed in 2s";

/// What VolSync's definitions do not have of ours: where, and the names.
const OURS: [(&str, &[&str]); 3] = [
    ("/status/properties", &["progress", "retry"]),
    (
        "/status/properties/rsync/properties",
        &["lastSyncedEntries", "allowedEmptySource"],
    ),
    (
        "/spec/properties/rsync/properties",
        &["moverSecurityContext", "moverAffinity", "moverVolumes"],
    ),
];

/// Makes of our definition of a kind what VolSync's is: the fields that only we have are not there, so they are dropped.
pub fn prune_to_volsyncs(definition: &mut Value) -> Result<()> {
    let schema = definition
        .pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties")
        .context("a definition without a schema")?;
    for (path, ours) in OURS {
        let fields = schema.pointer_mut(path).and_then(Value::as_object_mut);
        let fields = fields.with_context(|| format!("a schema without {path}"))?;
        for field in ours {
            fields.remove(*field);
        }
    }
    Ok(())
}

/// Under VolSync's definitions: `source`, which has sent its volume and rests, remembers what it sent although its status
/// has no field for that. So it does not send the volume once that is empty, and counts the failure.
pub async fn refuses_an_emptied_volume(east: &Site, source: Value, data: &Volume) -> Result<()> {
    let rested = east
        .wait("ReplicationSource", "copy", "come to rest", |object| {
            is(object, "Synchronizing", "False", "WaitingForManual").then(|| object.clone())
        })
        .await?;
    let kept = rested.pointer("/status/rsync/lastSyncedEntries");
    ensure!(kept.is_none(), "the field is not pruned: {rested}");
    remembers(&rested, "lastSyncedEntries")
        .with_context(|| format!("nothing is remembered in {rested}"))?;
    data.edit(empty_folder).await?;
    east.apply(manually(source, "emptied")).await?;
    let patient = east.within(SYNC_CAP);
    let failed = |object: &Value| {
        let found = condition(object, "Synchronizing")
            .filter(|found| text(found, "/reason") == Some("Error"))?;
        text(found, "/message").map(str::to_owned)
    };
    let message = patient
        .wait("ReplicationSource", "copy", "a refusal", failed)
        .await?;
    ensure!(
        message.contains("syncline.dev/allow-empty-source"),
        "{message}"
    );
    let counted = |object: &Value| remembers(object, "nextAttempt");
    let counted = patient
        .wait("ReplicationSource", "copy", "its failure counted", counted)
        .await?;
    for part in ["failures", "cause"] {
        ensure!(counted.contains(&format!("\"{part}\"")), "{counted}");
    }
    Ok(())
}

/// What the annotation for pruned fields holds, if this is in it.
fn remembers(object: &Value, what: &str) -> Option<String> {
    text(object, "/metadata/annotations/syncline.dev~1status")
        .filter(|kept| kept.contains(what))
        .map(str::to_owned)
}

/// The source whose run VolSync's objects of `objects.yaml` are, with `more` laid over it, and the Secret that it names.
pub async fn source_of_a_run(site: &Site, more: Value) -> Result<Value> {
    site.apply(
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"},
        "stringData": {"source": "x", "source.pub": "y", "destination.pub": "z"}}),
    )
    .await?;
    let manifest = json!({
        "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource", "metadata": {"name": "db"},
        "spec": {"sourcePVC": "data", "trigger": {"schedule": "0 0 1 1 *"},
                 "rsync": {"copyMethod": "Direct", "address": "127.0.0.1", "sshKeys": "keys"}},
    });
    site.apply(over(manifest, more)).await
}

/// What VolSync makes for a run of that source, with a Job of this image.
pub fn objects_of_a_run(resource: &Value, image: &str) -> Result<Vec<Value>> {
    let uid = text(resource, "/metadata/uid").context("a uid")?;
    let namespace = text(resource, "/metadata/namespace").context("a namespace")?;
    let owner = json!([{"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource", "name": "db", "uid": uid,
        "controller": true, "blockOwnerDeletion": true}]);
    let text = OBJECTS
        .replace("NAMESPACE", namespace)
        .replace("OWNER-UID", uid)
        .replace("image: stranger", &format!("image: {image}"));
    let objects = syncline_testkit::fixture::documents(&text)?.into_iter();
    Ok(objects
        .map(|object| over(object, json!({"metadata": {"ownerReferences": owner}})))
        .collect())
}

/// Makes a source as VolSync leaves it in the middle of a run: the objects of `objects.yaml`, and the status. Returns its
/// Job, of an image that holds a bash.
pub async fn left_by_volsync(site: &Site, image: &str) -> Result<Value> {
    let resource = source_of_a_run(site, json!({})).await?;
    for object in objects_of_a_run(&resource, image)? {
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
