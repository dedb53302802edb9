//! Where things are: the cache of built programs, and the folder of one running cluster.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The folder that everything of ours outside of the checkout lies in.
pub(crate) fn cache() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("SYNCLINE_CACHE") {
        return Ok(PathBuf::from(folder).join("cluster"));
    }
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = cache
        .or_else(home)
        .context("neither HOME nor XDG_CACHE_HOME nor SYNCLINE_CACHE is set")?;
    Ok(cache.join("syncline/cluster"))
}

/// The sources of this package: pinned modules and manifests.
pub(crate) fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of one cluster. Everything in it is the cluster's and goes with it.
#[derive(Clone, Debug)]
pub(crate) struct State {
    folder: PathBuf,
}

impl State {
    /// That of `$SYNCLINE_CLUSTER_DIR`, or the default one.
    pub(crate) fn of_environment() -> Result<Self> {
        let folder = match env::var_os("SYNCLINE_CLUSTER_DIR") {
            Some(folder) => std::path::absolute(PathBuf::from(folder))?,
            None => cache()?.join("run"),
        };
        Ok(Self { folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.path("logs/audit.log")
    }

    pub(crate) fn faults(&self) -> PathBuf {
        self.path("faults.json")
    }

    /// The socket that the supervisor listens on.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("control.sock")
    }

    /// The process id of the supervisor as the host sees it, and the process's start time.
    pub(crate) fn pid(&self) -> PathBuf {
        self.path("supervisor.pid")
    }

    /// A short word that tells this cluster's links and cgroups from another's: a hash of the folder.
    pub(crate) fn tag(&self) -> String {
        let mut hash: u32 = 0x811c_9dc5;
        for byte in self.folder.as_os_str().as_encoded_bytes() {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
        format!("{hash:08x}")
    }
}
