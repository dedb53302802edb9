//! The cluster's control groups: one of its own below each hierarchy, which holds all its processes.
//!
//! Membership tells who belongs to the cluster, whoever has died since; nothing else is ever killed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::shell;

/// Where the parts run, beside the kubelet's group of pods: version 2 wants groups without processes above others.
const PARTS: &str = "parts";
const END: Duration = Duration::from_secs(30);

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Hierarchy {
    pub(crate) mount_point: PathBuf,
    /// `cgroup` or `cgroup2`.
    pub(crate) kind: String,
    /// What to mount it with: its controllers or its name; nothing for version 2.
    pub(crate) options: String,
}

/// All hierarchies of this machine, of either version.
pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    Ok(hierarchies_in(&mounts))
}

/// From lines like `33 28 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu`.
fn hierarchies_in(mounts: &str) -> Vec<Hierarchy> {
    let mut seen = BTreeSet::new();
    mounts
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mount_point = PathBuf::from(left.split(' ').nth(4)?);
            let mut right = right.split(' ');
            let kind = right.next()?.to_owned();
            let options = right.nth(1)?;
            let options: Vec<&str> = match kind.as_str() {
                "cgroup" => options
                    .split(',')
                    .filter(|option| !["rw", "ro", "xattr", "clone_children"].contains(option))
                    .filter(|option| !option.starts_with("release_agent="))
                    .collect(),
                "cgroup2" => Vec::new(),
                _ => return None,
            };
            let named = options.iter().any(|option| option.starts_with("name="));
            let options = if named {
                format!("none,{}", options.join(","))
            } else {
                options.join(",")
            };
            seen.insert(mount_point.clone()).then_some(Hierarchy {
                mount_point,
                kind,
                options,
            })
        })
        .collect()
}

/// The cluster's groups; made with [`Groups::make`].
pub(crate) struct Groups {
    roots: Vec<PathBuf>,
}

impl Groups {
    pub(crate) fn of(name: &str) -> Result<Self> {
        let roots = hierarchies()?
            .into_iter()
            .map(|hierarchy| hierarchy.mount_point.join(name))
            .collect();
        Ok(Self { roots })
    }

    /// Makes all groups.
    pub(crate) fn make(&self) -> Result<()> {
        for root in &self.roots {
            for folder in [root.clone(), root.join(PARTS)] {
                fs::create_dir_all(&folder)
                    .with_context(|| format!("cannot make {}", folder.display()))?;
                inherit_processors(&folder)?;
            }
        }
        Ok(())
    }

    /// Hands controllers down to the kubelet's groups, as version 2 wants to be told, and refuses while processes are
    /// at the top.
    pub(crate) fn share_controllers(&self) {
        for root in &self.roots {
            let controllers =
                fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            for controller in controllers.split_whitespace() {
                // A controller that cannot be shared is missed by the kubelet, which says so.
                let _ = fs::write(
                    root.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                );
            }
        }
    }

    /// Moves a process (0 is the caller) into the cluster.
    pub(crate) fn enter(&self, pid: i64) -> Result<()> {
        self.move_into(pid, None)
    }

    /// Moves a process among the cluster's parts.
    pub(crate) fn join_parts(&self, pid: i64) -> Result<()> {
        self.move_into(pid, Some(PARTS))
    }

    fn move_into(&self, pid: i64, below: Option<&str>) -> Result<()> {
        for root in &self.roots {
            let group = below.map_or_else(|| root.clone(), |below| root.join(below));
            let file = group.join("cgroup.procs");
            fs::write(&file, pid.to_string())
                .with_context(|| format!("cannot move a process into {}", group.display()))?;
        }
        Ok(())
    }

    /// All processes in there.
    pub(crate) fn processes(&self) -> BTreeSet<i32> {
        self.folders()
            .iter()
            .filter_map(|folder| fs::read_to_string(folder.join("cgroup.procs")).ok())
            .flat_map(|list| {
                list.lines()
                    .filter_map(|line| line.parse().ok())
                    .filter(|pid| *pid > 0)
                    .collect::<Vec<i32>>()
            })
            .collect()
    }

    /// All folders that there are, the deepest ones first.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        for root in self.roots.iter().filter(|root| root.exists()) {
            collect(root, &mut all);
        }
        all
    }

    /// Ends every process in there at once, and removes the groups.
    pub(crate) fn remove(&self) -> Result<()> {
        shell::wait_for("the end of the cluster's processes", END, || {
            let left = self.processes();
            for pid in left.iter().filter_map(|pid| Pid::from_raw(*pid)) {
                // It may have ended by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
            Ok(left.is_empty().then_some(()))
        })?;
        shell::wait_for("the end of the cluster's control groups", END, || {
            for folder in self.folders() {
                fs::remove_dir(&folder)
                    .with_context(|| format!("cannot remove {}", folder.display()))?;
            }
            Ok(Some(()))
        })
    }
}

fn collect(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), all);
        }
    }
    all.push(folder.to_owned());
}

/// A new group of the old `cpuset` has no processors, and takes no process without them.
fn inherit_processors(folder: &Path) -> Result<()> {
    let Some(parent) = folder.parent() else {
        return Ok(());
    };
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let own = folder.join(name);
        // Version 2 has the file too, and needs no value there.
        let old = folder.join("cpuset.effective_cpus").exists();
        if old && fs::read_to_string(&own).is_ok_and(|value| value.trim().is_empty()) {
            let value = fs::read_to_string(parent.join(name))?;
            fs::write(&own, value.trim())
                .with_context(|| format!("cannot write {}", own.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_read_from_the_mounts() {
        let mounts = "\
28 22 0:25 / /sys/fs/cgroup rw shared:5 - tmpfs tmpfs rw,mode=755
33 28 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
34 28 0:30 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,xattr,name=systemd
35 28 0:31 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        let found = hierarchies_in(mounts);
        let options: Vec<&str> = found.iter().map(|found| found.options.as_str()).collect();
        assert_eq!(options, ["cpu", "none,name=systemd", ""]);
    }
}
