//! The file system as the cluster sees it: the host's, with folders of its own where a node keeps its things.

use std::ffi::CString;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};

use super::Settings;
use crate::cgroups::Hierarchy;
use crate::{say, shell};

/// Settings of the whole machine that a kubelet insists on: it gets files of its own that say so.
const MACHINE_WIDE: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

pub(super) fn prepare(settings: &Settings) -> Result<()> {
    // Mounts made here stay here, and reach the pods.
    mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::SHARED,
    )
    .context("cannot share the mounts with pods")?;
    let folder = &settings.folder;
    for covered in ["/run", "/var/lib", "/var/log"] {
        tmpfs(Path::new(covered))?;
    }
    for made in ["/run/lock", "/run/containerd", "/run/netns", "/var/lib/cni"] {
        fs::create_dir_all(made).with_context(|| format!("cannot make {made}"))?;
    }
    bind(&folder.join("kubelet"), Path::new("/var/lib/kubelet"))?;
    bind(&folder.join("pod-logs"), Path::new("/var/log/pods"))?;
    fs::create_dir_all("/var/log/containers")?;
    machine_wide()?;
    system(&settings.hierarchies)?;
    volumes(&settings.volumes);
    Ok(())
}

fn tmpfs(at: &Path) -> Result<()> {
    mount("tmpfs", at, "tmpfs", MountFlags::empty(), None)
        .with_context(|| format!("cannot mount a file system at {}", at.display()))
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    for folder in [from, to] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    mount_bind(from, to).with_context(|| format!("cannot mount {}", to.display()))
}

fn machine_wide() -> Result<()> {
    let own = Path::new("/run/machine-wide");
    for (name, value) in MACHINE_WIDE {
        let setting = Path::new("/proc/sys").join(name);
        if !setting.exists() {
            continue;
        }
        let file = own.join(name);
        fs::create_dir_all(file.parent().unwrap_or(own))?;
        fs::write(&file, format!("{value}\n"))?;
        mount_bind(&file, &setting)
            .with_context(|| format!("cannot cover {}", setting.display()))?;
    }
    Ok(())
}

/// `/sys` of these namespaces; the cluster's own control groups are the roots of their hierarchies.
fn system(hierarchies: &[Hierarchy]) -> Result<()> {
    unmount("/sys", UnmountFlags::DETACH).context("cannot leave the host's /sys")?;
    mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None).context("cannot mount /sys")?;
    let root = Path::new("/sys/fs/cgroup");
    if !hierarchies
        .iter()
        .any(|hierarchy| hierarchy.mount_point == root)
    {
        tmpfs(root)?;
    }
    for hierarchy in hierarchies {
        let at = &hierarchy.mount_point;
        if at != root {
            fs::create_dir_all(at).with_context(|| format!("cannot make {}", at.display()))?;
        }
        let options = CString::new(hierarchy.options.as_str())?;
        let kind = hierarchy.kind.as_str();
        mount(
            kind,
            at,
            kind,
            MountFlags::empty(),
            Some(options.as_c_str()),
        )
        .with_context(|| format!("cannot mount {}", at.display()))?;
    }
    Ok(())
}

/// Volumes lie on btrfs, which shares what copies have in common; where there is none, in a plain folder.
fn volumes(folder: &Path) {
    let image = folder.with_extension("btrfs");
    if !image.exists() {
        return;
    }
    let image = image.to_string_lossy();
    let folder = folder.to_string_lossy();
    if let Err(error) = shell::run(&["mount", "-o", "loop,noatime", &image, &folder]) {
        say::note(&format!(
            "volumes are full copies on this machine: {error:#}"
        ));
    }
}
