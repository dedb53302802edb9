//! `down`: nothing of the cluster is left, however it ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::cgroups::Groups;
use crate::place::Place;
use crate::{say, shell};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run(place: &Place) -> Result<()> {
    if !place.is_ours() && leftovers(place)?.is_empty() {
        say::note(&format!(
            "there is no cluster in {}",
            place.folder.display()
        ));
        return Ok(());
    }
    let lock = place.lock()?;
    say::step("down", || {
        clean(place)?;
        fs::remove_dir_all(&place.folder)
            .with_context(|| format!("cannot remove {}", place.folder.display()))
    })?;
    drop(lock);
    Ok(())
}

/// Removes a cluster, whole or half made, alive or dead, but for its empty folder.
pub(crate) fn clean(place: &Place) -> Result<()> {
    Groups::of(&place.cgroup())?.remove()?;
    if links()?.contains(&place.link()) {
        // With the namespace it may be on its way out already.
        let _ = shell::run(&["ip", "link", "delete", &place.link()]);
    }
    detach_block_volumes(place);
    shell::wait_for("the cluster's things to go", PATIENCE, || {
        let left = leftovers(place)?;
        ensure!(left.is_empty(), "{}", left.join("; "));
        Ok(Some(()))
    })?;
    if !place.is_ours() {
        return Ok(());
    }
    for entry in fs::read_dir(&place.folder)?.flatten() {
        let path = entry.path();
        let removed = match entry.file_name().to_str() {
            // Held until the end, and removed last.
            Some("lock") => continue,
            _ if entry.file_type()?.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Block volumes are loop devices, which outlive all processes.
fn detach_block_volumes(place: &Place) {
    let driver = place.file("csi-driver");
    if driver.exists() {
        let (driver, data) = (place.text("csi-driver"), place.text("volumes"));
        if let Err(error) = shell::run(&[&driver, "--detach-all", "--data", &data]) {
            say::note(&format!("{error:#}"));
        }
    }
}

/// What there is of the cluster outside its folder: processes, control groups, mounts, its link, loop devices. Its
/// other links, its rules and its mounts lie in namespaces, which end with the last process.
pub(crate) fn leftovers(place: &Place) -> Result<Vec<String>> {
    let groups = Groups::of(&place.cgroup())?;
    let mut left: Vec<String> = groups
        .processes()
        .into_iter()
        .map(|pid| format!("process {pid}"))
        .collect();
    let folders = groups.folders();
    left.extend(
        folders
            .iter()
            .map(|folder| format!("control group {}", folder.display())),
    );
    if links()?.contains(&place.link()) {
        left.push(format!("link {}", place.link()));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    left.extend(mounts_in(&mounts, &place.folder).map(|line| format!("mount {line}")));
    left.extend(
        loops(&place.folder)
            .into_iter()
            .map(|device| format!("loop device {}", device.display())),
    );
    Ok(left)
}

/// The lines of `/proc/self/mountinfo` whose mount points lie in a folder.
fn mounts_in<'a>(mounts: &'a str, folder: &Path) -> impl Iterator<Item = &'a str> {
    mounts.lines().filter(move |line| {
        let at = line.split(' ').nth(4);
        at.is_some_and(|at| Path::new(at).starts_with(folder))
    })
}

fn links() -> Result<Vec<String>> {
    let entries = fs::read_dir("/sys/class/net").context("cannot list the links")?;
    Ok(entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}

/// The loop devices whose files lie in a folder.
fn loops(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|device| {
            fs::read_to_string(device.join("loop/backing_file"))
                .is_ok_and(|file| Path::new(file.trim_end()).starts_with(folder))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_in_a_folder_with_a_longer_name_is_another_one() {
        let mounts = "\
36 28 0:31 / /cache/run/volumes rw - btrfs /dev/loop1 rw
37 28 0:32 / /cache/run.prove-down/volumes rw - btrfs /dev/loop2 rw
38 28 0:33 / /cache/run2 rw - btrfs /dev/loop3 rw";
        let found: Vec<_> = mounts_in(mounts, Path::new("/cache/run")).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("/dev/loop1"), "{found:?}");
    }
}
