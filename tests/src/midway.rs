//! A sync that takes long enough to be disturbed.

use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use serde_json::{Value, json};
use syncline_testkit::cluster::Processes;
use syncline_testkit::scenario::Stage;
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Signal, Site, Tree, Volume, corpus};

use crate::parts::{
    SYNC_CAP, image_after, manually, must_be_alike, receiver, source, synced, text, tree_of_image,
};

/// Enough data that a transfer takes a while on any machine.
const BIG: usize = 96 << 20;

/// Begins the sync `once` of a volume that takes a while, and waits until its data arrives. Returns what must arrive.
pub async fn begin_big_sync(east: &Site, west: &Site) -> Result<Tree> {
    let data = east.volume("data").await?;
    let fill = |folder: &Path| {
        corpus::plain(folder, 400, 1)?;
        for part in 0..3 {
            std::fs::write(folder.join(format!("big-{part}")), corpus::noise(BIG, part))?;
        }
        Ok(())
    };
    data.edit(fill).await?;
    let tree = data.tree().await?;
    let peer = receiver(east, west, "copy", json!({})).await?;
    let manifest = source("copy", "data", &peer, json!({"copyMethod": "Direct"}));
    let target = west.open("volsync-copy-dst").await?;
    east.apply(manually(manifest, "once")).await?;
    wait_for("the first data at the destination", SYNC_CAP, || async {
        let arrived = arrived(east, &target).await?;
        Ok(if arrived > 1 << 20 {
            Look::Done(())
        } else {
            Look::NotYet(format!("{arrived} bytes"))
        })
    })
    .await?;
    Ok(tree)
}

/// Bytes at the destination: counted where they are, or as the source tells them where nobody may look meanwhile.
async fn arrived(east: &Site, target: &Volume) -> Result<u64> {
    if target.folder().is_some() {
        return target.bytes().await;
    }
    let object = east.get("ReplicationSource", "copy").await?;
    let done = object.pointer("/status/progress/bytesDone");
    Ok(done.and_then(Value::as_u64).unwrap_or(0))
}

/// Whether a process is an rsync of a mover.
pub fn is_rsync(line: &str) -> bool {
    line.starts_with("rsync ") || line.starts_with("/usr/bin/rsync ")
}

/// A sync that stands still in the middle, for as long as something is disturbed.
pub struct Held {
    tree: Tree,
    sites: [Site; 2],
    processes: Processes,
    job: Option<Value>,
}

impl Held {
    /// Begins a sync and stops its rsync processes in mid-transfer.
    pub async fn begin(stage: &Stage, east: &Site, west: &Site) -> Result<Self> {
        let tree = begin_big_sync(east, west).await?;
        let processes = stage.processes(&[east, west], is_rsync).await?;
        ensure!(
            processes.signal(Signal::STOP) > 0,
            "there was no rsync to hold"
        );
        not_done_yet(east).await?;
        Ok(Self {
            tree,
            sites: [east.clone(), west.clone()],
            processes,
            job: uid_of_job(east).await?,
        })
    }

    /// Lets the transfer go on.
    pub fn release(&self) -> Result<()> {
        let reached = self.processes.signal(Signal::CONT);
        ensure!(reached > 0, "the rsync that was held is gone");
        Ok(())
    }

    /// Waits until the sync is done by the very Job that began it, and compares everything.
    pub async fn finishes_undoubled(&self) -> Result<()> {
        let [east, west] = &self.sites;
        let (east, west) = (east.again().await?, west.again().await?);
        let held = |other: &Value| Some(other) == self.job.as_ref();
        wait_for(
            "the sync to be done by its first Job",
            SYNC_CAP * 2,
            || async {
                if let Some(job) = uid_of_job(&east).await?
                    && !held(&job)
                {
                    return Ok(Look::Done(Err(anyhow!("a second Job was made"))));
                }
                Ok(match not_done_yet(&east).await {
                    Ok(()) => Look::NotYet("not done".to_owned()),
                    Err(_) => Look::Done(Ok(())),
                })
            },
        )
        .await??;
        finished_whole(&east, &west, &self.tree).await
    }
}

async fn uid_of_job(east: &Site) -> Result<Option<Value>> {
    let job = east.find("Job", "volsync-rsync-src-copy").await?;
    Ok(job.and_then(|job| job.pointer("/metadata/uid").cloned()))
}

/// The sync has not been reported as done.
pub async fn not_done_yet(east: &Site) -> Result<()> {
    let object = east.get("ReplicationSource", "copy").await?;
    let done = text(&object, "/status/lastManualSync");
    ensure!(
        done.is_none(),
        "the sync was over before it could be disturbed"
    );
    Ok(())
}

/// Waits until the sync is done, and compares everything.
pub async fn finished_whole(east: &Site, west: &Site, tree: &Tree) -> Result<()> {
    synced(&east.within(SYNC_CAP), "copy", "once").await?;
    let image = image_after(west, "copy", None).await?;
    must_be_alike(tree, &tree_of_image(west, &image).await?)
}
