//! Volumes that misbehave: what the CSI driver of this checkout's cluster is told to do wrong.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use syncline_testkit::Site;

use crate::parts::over;

/// A fault in one namespace, which ends with this value. See `tests/cluster/csi-driver/src/faults.rs` for what a rule
/// may say.
#[derive(Debug)]
pub struct VolumeFault {
    path: PathBuf,
}

impl VolumeFault {
    /// Lets volumes and snapshots of this namespace misbehave as `rule` says, from now on.
    pub fn begin(site: &Site, rule: Value) -> Result<Self> {
        let mut folder = site.cluster.real()?.faults()?.into_os_string();
        folder.push(".d");
        let folder = PathBuf::from(folder);
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.json", site.namespace));
        let rule = over(rule, json!({"match": site.namespace}));
        // The driver reads at any moment and must not find half a rule.
        let work = path.with_extension("new");
        fs::write(&work, rule.to_string())?;
        fs::rename(&work, &path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path })
    }

    /// Lets them behave again.
    pub fn end(self) {}
}

impl Drop for VolumeFault {
    fn drop(&mut self) {
        // The cluster may be gone already, and the file with it.
        let _ = fs::remove_file(&self.path);
    }
}
