//! What scenarios are made of: manifests of a relationship, and looks at how far it is.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use syncline_testkit::tree::Ignore;
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Cluster, Site, Tree, Volume, corpus};

/// How long a whole sync may take on a busy machine.
pub const SYNC_CAP: Duration = Duration::from_secs(120);

/// Where a destination listens and which Secret holds the other side's keys.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: String,
    /// Its TCP port.
    pub port: i64,
    /// The Secret for the source.
    pub keys: String,
}

/// A `ReplicationDestination` for rsync; `rsync` is laid over the usual options.
pub fn destination(name: &str, rsync: Value) -> Value {
    let usual =
        json!({"copyMethod": "Snapshot", "capacity": "1Gi", "accessModes": ["ReadWriteOnce"]});
    json!({
        "apiVersion": "volsync.backube/v1alpha1",
        "kind": "ReplicationDestination",
        "metadata": {"name": name},
        "spec": {"rsync": over(usual, rsync)},
    })
}

/// A `ReplicationSource` for rsync to `peer`; `rsync` is laid over the usual options.
pub fn source(name: &str, claim: &str, peer: &Peer, rsync: Value) -> Value {
    let usual = json!({"copyMethod": "Snapshot", "address": peer.address, "port": peer.port, "sshKeys": peer.keys});
    json!({
        "apiVersion": "volsync.backube/v1alpha1",
        "kind": "ReplicationSource",
        "metadata": {"name": name},
        "spec": {"sourcePVC": claim, "rsync": over(usual, rsync)},
    })
}

/// The object with this manual trigger.
pub fn manually(object: Value, tag: &str) -> Value {
    over(object, json!({"spec": {"trigger": {"manual": tag}}}))
}

/// `base` with `top` laid over it; null takes a field away.
pub fn over(base: Value, top: Value) -> Value {
    match (base, top) {
        (Value::Object(mut base), Value::Object(top)) => {
            for (key, value) in top {
                let below = base.remove(&key).unwrap_or(Value::Null);
                if !value.is_null() {
                    base.insert(key, over(below, value));
                }
            }
            Value::Object(base)
        }
        (_, top) => top,
    }
}

/// A text in an object.
pub fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

/// Waits until a destination tells where it listens.
pub async fn listening(west: &Site, name: &str) -> Result<Peer> {
    west.wait(
        "ReplicationDestination",
        name,
        "an address and keys",
        |object| {
            Some(Peer {
                address: text(object, "/status/rsync/address")?.to_owned(),
                port: object.pointer("/status/rsync/port")?.as_i64()?,
                keys: text(object, "/status/rsync/sshKeys")?.to_owned(),
            })
        },
    )
    .await
}

/// Makes a destination in `west` and hands its keys to `east`.
pub async fn receiver(east: &Site, west: &Site, name: &str, rsync: Value) -> Result<Peer> {
    west.apply(destination(name, rsync)).await?;
    let peer = listening(west, name).await?;
    west.hand_over_secret(&peer.keys, east).await?;
    Ok(peer)
}

/// Waits until a source has done what this manual trigger asks for, and returns the source.
pub async fn synced(east: &Site, name: &str, tag: &str) -> Result<Value> {
    let what = format!("done the manual sync {tag}");
    east.within(SYNC_CAP)
        .wait("ReplicationSource", name, &what, |object| {
            (text(object, "/status/lastManualSync") == Some(tag)).then(|| object.clone())
        })
        .await
}

/// Waits until a destination has an image other than `previous`, and returns its name.
pub async fn image_after(west: &Site, name: &str, previous: Option<&str>) -> Result<String> {
    let what = format!("an image other than {previous:?}");
    west.within(SYNC_CAP)
        .wait("ReplicationDestination", name, &what, |object| {
            text(object, "/status/latestImage/name")
                .filter(|image| Some(*image) != previous)
                .map(str::to_owned)
        })
        .await
}

/// Reads a snapshot as an application would: through a new volume made of it.
pub async fn tree_of_image(west: &Site, image: &str) -> Result<Tree> {
    let claim = format!("look-at-{image}");
    let tree = west
        .volume_from_snapshot(&claim, image)
        .await?
        .tree()
        .await?;
    west.delete("PersistentVolumeClaim", &claim).await?;
    Ok(tree)
}

/// Fills a volume with everything that is hard to copy.
pub async fn fill_hostile(cluster: &Cluster, volume: &Volume) -> Result<()> {
    let owner = cluster.owner().0;
    volume.edit(|folder| corpus::hostile(folder, owner)).await
}

/// Fills a volume with plain files.
pub async fn fill_plain(volume: &Volume, count: usize, seed: u64) -> Result<()> {
    volume
        .edit(|folder| corpus::plain(folder, count, seed))
        .await
}

/// Writes one file into a volume.
pub async fn put(volume: &Volume, name: &str, content: &str) -> Result<()> {
    volume
        .edit(|folder| Ok(std::fs::write(folder.join(name), content)?))
        .await
}

/// The volume on the other side must equal this tree in every respect.
pub fn must_be_alike(source: &Tree, copy: &Tree) -> Result<()> {
    source.must_equal(copy, Ignore::default())
}

/// Bytes that a source's mover says it has sent.
pub fn bytes_sent(source: &Value) -> Result<u64> {
    let logs =
        text(source, "/status/latestMoverStatus/logs").context("no mover log in the status")?;
    syncline_testkit::log::bytes_sent(logs)
        .with_context(|| format!("no line that tells bytes in {logs:?}"))
}

/// The condition of this type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions
        .iter()
        .find(|condition| text(condition, "/type") == Some(kind))
}

/// Waits for an event with this reason about the object of this name.
pub async fn told_by_event(site: &Site, name: &str, reason: &str) -> Result<()> {
    let what = format!("an event {reason} about {name}");
    wait_for(&what, site.cap, || async {
        let events = site.list("Event").await?;
        let found = events.iter().any(|event| {
            let about =
                text(event, "/involvedObject/name").or_else(|| text(event, "/regarding/name"));
            about == Some(name) && text(event, "/reason") == Some(reason)
        });
        Ok(if found {
            Look::Done(())
        } else {
            Look::NotYet(format!("{} events", events.len()))
        })
    })
    .await
}

/// Whether the condition has this status and reason.
pub fn is(object: &Value, kind: &str, status: &str, reason: &str) -> bool {
    condition(object, kind).is_some_and(|condition| {
        text(condition, "/status") == Some(status) && text(condition, "/reason") == Some(reason)
    })
}

/// Removes everything in a folder.
pub fn empty_folder(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}
