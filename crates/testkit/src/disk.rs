//! The bytes of a block volume, wherever its cluster keeps them: in a file of this machine, or behind the API only.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::cluster::Cluster;
use crate::fixture;
use crate::scenario::Site;
use crate::toolbox::Toolbox;
use crate::volume::bound;

/// A claim of mode `Block` that has its volume.
pub struct Disk {
    site: Site,
    claim: String,
    file: Option<PathBuf>,
}

impl Disk {
    async fn open(site: &Site, claim: &str) -> Result<Self> {
        let persistent = bound(site, claim).await?;
        let object = site.get("PersistentVolume", &persistent).await?;
        let path = object
            .pointer("/spec/hostPath/path")
            .and_then(Value::as_str);
        let file = match &*site.cluster {
            Cluster::Embedded(_) => Some(PathBuf::from(path.context("a volume without hostPath")?)),
            Cluster::Real(_) => None,
        };
        Ok(Self {
            site: site.clone(),
            claim: claim.to_owned(),
            file,
        })
    }

    /// Writes at this offset, a multiple of 4096.
    pub async fn put(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        if let Some(file) = &self.file {
            let file = File::options().write(true).open(file)?;
            return Ok(file.write_all_at(bytes, offset)?);
        }
        let toolbox = self.toolbox().await?;
        toolbox.put(offset, bytes)?;
        toolbox.close().await
    }

    /// The SHA-256 of all its bytes, in hexadecimal digits.
    pub async fn hash(&self) -> Result<String> {
        if let Some(file) = &self.file {
            let mut hash = String::new();
            for byte in Sha256::digest(std::fs::read(file)?) {
                write!(hash, "{byte:02x}")?;
            }
            return Ok(hash);
        }
        let toolbox = self.toolbox().await?;
        let hash = toolbox.hash()?;
        toolbox.close().await?;
        Ok(hash)
    }

    async fn toolbox(&self) -> Result<Toolbox<'_>> {
        Toolbox::of_disk(&self.site, self.site.cluster.real()?, &self.claim).await
    }
}

impl Site {
    /// A new block volume of this size, such as `64Mi`.
    pub async fn disk(&self, name: &str, size: &str) -> Result<Disk> {
        self.make_disk(name, size, None).await
    }

    /// A new block volume with the content of a snapshot.
    pub async fn disk_from_snapshot(&self, name: &str, size: &str, from: &str) -> Result<Disk> {
        let source =
            json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": from});
        self.make_disk(name, size, Some(source)).await
    }

    /// The block volume of a claim that is there or about to be.
    pub async fn open_disk(&self, claim: &str) -> Result<Disk> {
        Disk::open(self, claim).await
    }

    async fn make_disk(&self, name: &str, size: &str, source: Option<Value>) -> Result<Disk> {
        let mut claim = fixture::claim(name, size, source);
        if let Some(spec) = claim.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert("volumeMode".to_owned(), json!("Block"));
        }
        self.apply(claim).await?;
        Disk::open(self, name).await
    }
}
