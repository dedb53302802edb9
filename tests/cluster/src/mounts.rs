//! The cluster's own view of the file system, made inside its mount namespace: nothing of it is seen on the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::{note, run, wait_until};
use crate::config::cgroup;
use crate::folders::State;
use crate::parts::KUBELET;

/// The size of the volumes' file system, which is a sparse file.
const VOLUMES: u64 = 20 << 30;
/// What the kubelet sets for the whole machine. It writes to files of its own instead.
const KERNEL_SETTINGS: [(&str, &str); 6] = [
    ("/proc/sys/vm/overcommit_memory", "1"),
    ("/proc/sys/vm/panic_on_oom", "0"),
    ("/proc/sys/kernel/panic", "10"),
    ("/proc/sys/kernel/panic_on_oops", "1"),
    ("/proc/sys/kernel/keys/root_maxkeys", "1000000"),
    ("/proc/sys/kernel/keys/root_maxbytes", "25000000"),
];
/// What pods' traffic needs; these belong to the network namespace.
const NETWORK_SETTINGS: [(&str, &str); 3] = [
    ("/proc/sys/net/ipv4/ip_forward", "1"),
    ("/proc/sys/net/bridge/bridge-nf-call-iptables", "1"),
    ("/proc/sys/net/ipv4/conf/all/route_localnet", "1"),
];
/// The host's cgroup hierarchies.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Makes the mounts, settings and cgroups that the parts need.
pub(crate) fn prepare(state: &State) -> Result<()> {
    run("ip", &["link", "set", "lo", "up"])?;
    for folder in ["/run", "/var/lib", "/var/log"] {
        run("mount", &["-t", "tmpfs", "-o", "mode=755", "tmpfs", folder])?;
    }
    for (folder, target) in [("kubelet", KUBELET), ("pod-logs", "/var/log/pods")] {
        let source = state.path(folder);
        fs::create_dir_all(&source)?;
        fs::create_dir_all(target)?;
        bind(&source, target)?;
    }
    run("mount", &["--make-rshared", KUBELET])?;
    settings(state)?;
    volumes(state)?;
    cgroups(state)
}

fn bind(source: &Path, target: &str) -> Result<()> {
    run("mount", &["--bind", &source.display().to_string(), target])?;
    Ok(())
}

fn settings(state: &State) -> Result<()> {
    let folder = state.path("settings");
    fs::create_dir_all(&folder)?;
    for (file, value) in KERNEL_SETTINGS {
        let own = folder.join(file.replace('/', "-"));
        fs::write(&own, value)?;
        bind(&own, file)?;
    }
    for (file, value) in NETWORK_SETTINGS {
        if Path::new(file).exists() {
            fs::write(file, value).with_context(|| file.to_owned())?;
        }
    }
    Ok(())
}

/// The volumes lie on btrfs where the host can mount it, so that copies are snapshots; else in a plain folder.
fn volumes(state: &State) -> Result<()> {
    let (image, folder) = (state.path("volumes.img"), state.path("volumes"));
    fs::create_dir_all(&folder)?;
    fs::File::create(&image)?.set_len(VOLUMES)?;
    let (image, folder) = (image.display().to_string(), folder.display().to_string());
    let mounted = run("mkfs.btrfs", &["--quiet", &image])
        .and_then(|_| run("mount", &["-o", "loop,noatime", &image, &folder]));
    if let Err(error) = mounted {
        note(&format!("no btrfs, volumes are copied in full: {error:#}"));
    }
    Ok(())
}

/// One folder in each hierarchy. A cpuset has to be told what it may use before anything may enter it.
fn cgroups(state: &State) -> Result<()> {
    for folder in hierarchies()? {
        let own = folder.join(cgroup(state));
        fs::create_dir_all(&own).with_context(|| own.display().to_string())?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read_to_string(folder.join(file)) {
                fs::write(own.join(file), value)?;
            }
        }
    }
    Ok(())
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    let root = Path::new(CGROUPS);
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root.to_owned()]);
    }
    let mut folders = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        // Links are other names of the same hierarchies.
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// Removes the cgroups, deepest first.
pub(crate) fn remove_cgroups(state: &State) -> Result<()> {
    for folder in hierarchies()? {
        let own = folder.join(cgroup(state));
        if own.exists() {
            wait_until("the end of the cgroups", Duration::from_secs(10), || {
                remove_cgroup(&own)
            })?;
        }
    }
    Ok(())
}

fn remove_cgroup(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(folder).with_context(|| folder.display().to_string())
}

/// Kills every process of the namespace but ourselves, and waits until they are gone.
pub(crate) fn kill_everything() -> Result<()> {
    wait_until("the end of all processes", Duration::from_secs(20), || {
        let mut left = 0;
        for entry in fs::read_dir("/proc")?.flatten() {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok());
            let Some(pid) = pid.filter(|pid| *pid > 1).and_then(Pid::from_raw) else {
                continue;
            };
            let _ = kill_process(pid, Signal::KILL);
            left += 1;
        }
        ensure!(left == 0, "{left} processes are left");
        Ok(())
    })
}

/// Detaches loop devices whose files lie in the cluster's folder.
pub(crate) fn detach_loops(state: &State) -> Result<()> {
    let list = run(
        "losetup",
        &["--list", "--noheadings", "--output", "NAME,BACK-FILE"],
    )?;
    let folder = state.folder().display().to_string();
    for line in list.lines() {
        let Some((device, file)) = line.trim().split_once(char::is_whitespace) else {
            continue;
        };
        if file.trim().starts_with(&folder) {
            let _ = run("losetup", &["--detach", device]);
        }
    }
    Ok(())
}
