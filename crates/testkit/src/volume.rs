//! The files of a volume, wherever its cluster keeps them: in a folder of this machine, or behind the API only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::corpus;
use crate::fixture;
use crate::scenario::Site;
use crate::toolbox::Toolbox;
use crate::tree::Tree;
use crate::wait::{Look, wait_for};

/// A claim's volume, bound.
#[derive(Clone)]
pub struct Volume {
    site: Site,
    claim: String,
    persistent: String,
    folder: Option<PathBuf>,
}

impl Volume {
    /// The volume of a claim that is there; one that waits for its first consumer gets one.
    pub(crate) async fn open(site: &Site, claim: &str) -> Result<Self> {
        if let Cluster::Real(cluster) = &*site.cluster
            && waits_for_a_consumer(site, claim).await?
        {
            Toolbox::open(site, cluster, claim).await?.close().await?;
        }
        let persistent = bound(site, claim).await?;
        let object = site.get("PersistentVolume", &persistent).await?;
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
        let folder = match &*site.cluster {
            Cluster::Embedded(_) => {
                let path = text("/spec/hostPath/path").context("a volume without hostPath")?;
                Some(PathBuf::from(path))
            }
            Cluster::Real(cluster) => {
                text("/spec/csi/volumeHandle").and_then(|handle| cluster.folder_of(handle))
            }
        };
        Ok(Self {
            site: site.clone(),
            claim: claim.to_owned(),
            persistent,
            folder,
        })
    }

    /// The name of the claim.
    pub fn claim(&self) -> &str {
        &self.claim
    }

    /// The folder on this machine that holds the data, where there is one: for what must be done while nobody waits.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Changes files: `change` gets a folder with the volume's content, and what it leaves there is the volume's new
    /// content, owned by whom the cluster's pods are unless that is whoever runs the tests.
    pub async fn edit<T>(&self, change: impl FnOnce(&Path) -> Result<T> + Send) -> Result<T> {
        if let Some(folder) = &self.folder {
            let outcome = change(folder)?;
            if !self.site.cluster.is_of_caller() {
                let (uid, gid) = self.site.cluster.owner();
                corpus::give_to(folder, uid, gid)?;
            }
            return Ok(outcome);
        }
        let copy = self.pull().await?;
        let outcome = change(copy.path())?;
        let toolbox = self.toolbox().await?;
        toolbox.push(copy.path())?;
        toolbox.close().await?;
        Ok(outcome)
    }

    /// Looks at files without changing any.
    pub async fn look<T>(&self, look: impl FnOnce(&Path) -> Result<T> + Send) -> Result<T> {
        match &self.folder {
            Some(folder) => look(folder),
            None => look(self.pull().await?.path()),
        }
    }

    /// The whole tree.
    pub async fn tree(&self) -> Result<Tree> {
        self.look(Tree::scan).await
    }

    /// Bytes of all files there are at the moment, roughly: files come and go while a mover writes.
    pub async fn bytes(&self) -> Result<u64> {
        let Some(folder) = &self.folder else {
            let toolbox = self.toolbox().await?;
            let bytes = toolbox.bytes()?;
            toolbox.close().await?;
            return Ok(bytes);
        };
        let files = corpus::files_below(folder).unwrap_or_default();
        Ok(files
            .iter()
            .filter_map(|path| std::fs::metadata(path).ok())
            .map(|file| file.len())
            .sum())
    }

    /// Waits until the volume and its data are gone.
    pub async fn wait_gone(&self, cap: Duration) -> Result<()> {
        self.site
            .within(cap)
            .wait_gone("PersistentVolume", &self.persistent)
            .await?;
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        wait_for("the volume's data to be gone", cap, || async {
            Ok(if folder.exists() {
                Look::NotYet(format!("{} is there", folder.display()))
            } else {
                Look::Done(())
            })
        })
        .await
    }

    async fn toolbox(&self) -> Result<Toolbox<'_>> {
        Toolbox::open(&self.site, self.site.cluster.real()?, &self.claim).await
    }

    async fn pull(&self) -> Result<TempDir> {
        let copy = tempfile::Builder::new()
            .prefix("volume-")
            .tempdir_in(self.site.cluster.scratch())?;
        let toolbox = self.toolbox().await?;
        toolbox.pull(copy.path())?;
        toolbox.close().await?;
        Ok(copy)
    }
}

pub(crate) async fn bound(site: &Site, claim: &str) -> Result<String> {
    site.wait("PersistentVolumeClaim", claim, "a bound volume", |claim| {
        let bound = claim.pointer("/status/phase").and_then(Value::as_str) == Some("Bound");
        claim
            .pointer("/spec/volumeName")
            .and_then(Value::as_str)
            .filter(|_| bound)
            .map(str::to_owned)
    })
    .await
}

async fn waits_for_a_consumer(site: &Site, claim: &str) -> Result<bool> {
    let what = "a volume, or a class";
    let (volume, class) = site
        .wait("PersistentVolumeClaim", claim, what, |claim| {
            let text = |pointer| {
                claim
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .map(str::to_owned)
            };
            let found = (text("/spec/volumeName"), text("/spec/storageClassName"));
            (found.0.is_some() || found.1.is_some()).then_some(found)
        })
        .await?;
    let (None, Some(class)) = (volume, class) else {
        return Ok(false);
    };
    let class = site.get("StorageClass", &class).await?;
    Ok(class.get("volumeBindingMode").and_then(Value::as_str) == Some("WaitForFirstConsumer"))
}

impl Site {
    /// A new volume of the default class, bound.
    pub async fn volume(&self, name: &str) -> Result<Volume> {
        self.apply(fixture::claim(name, "1Gi", None)).await?;
        self.open(name).await
    }

    /// A new volume with the content of a snapshot, bound.
    pub async fn volume_from_snapshot(&self, name: &str, snapshot: &str) -> Result<Volume> {
        let source = serde_json::json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot});
        let snapshot = self.get("VolumeSnapshot", snapshot).await?;
        let size = snapshot.pointer("/status/restoreSize");
        let size = size.and_then(Value::as_str).unwrap_or("1Gi");
        self.apply(fixture::claim(name, size, Some(source))).await?;
        self.open(name).await
    }

    /// The volume of a claim that is there or about to be.
    pub async fn open(&self, claim: &str) -> Result<Volume> {
        Volume::open(self, claim).await
    }

    /// The folder on this machine that holds a claim's data, once the claim is bound: on the embedded cluster there is
    /// always one.
    pub async fn folder(&self, claim: &str) -> Result<PathBuf> {
        let volume = self.open(claim).await?;
        volume
            .folder
            .context("this machine cannot see the cluster's volumes: use Site::open")
    }
}
