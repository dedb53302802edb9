//! Where the volumes lie: a btrfs image of the demo's own for root, a plain folder for everybody else.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// Size of the sparse image file, in bytes.
const IMAGE_SIZE: u64 = 12 << 30;
/// Where files can be kept in memory.
const MEMORY: &str = "/dev/shm";
/// Bytes that must be free there: several copies of the input at a time, and more than that left for others.
const MEMORY_NEEDED: u64 = 6 << 30;

/// A folder for the cluster's data, removed at the end.
pub(crate) struct Disk {
    folder: TempDir,
    mounted: Option<PathBuf>,
    why_not: Option<String>,
}

impl Disk {
    /// Mounts a new btrfs image if that is possible here.
    pub(crate) fn prepare() -> Result<Self> {
        let mut disk = Self {
            folder: folder_under(&std::env::temp_dir())?,
            mounted: None,
            why_not: None,
        };
        match mount_image(disk.folder.path()) {
            Ok(path) => disk.mounted = Some(path),
            Err(error) => {
                disk.why_not = Some(format!("no btrfs image: {error:#}"));
                // Without shared extents every copy is a real one; some disks take a millisecond to remove a file.
                if has_room(MEMORY) {
                    disk.folder = folder_under(Path::new(MEMORY))?;
                }
            }
        }
        Ok(disk)
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.mounted
            .as_deref()
            .unwrap_or_else(|| self.folder.path())
    }

    /// Whether copies of volumes are atomic here.
    pub(crate) fn atomic(&self) -> bool {
        self.mounted.is_some()
    }

    /// What kind of place this is and what follows from it.
    pub(crate) fn describe(&self) -> String {
        match &self.why_not {
            None => "a btrfs image of its own: point-in-time copies are atomic, the database's writer stops for none".to_owned(),
            Some(why) => format!(
                "the plain folder {} ({why}): point-in-time copies are not atomic, so the database's writer is held while one is made",
                self.path().display()
            ),
        }
    }
}

fn folder_under(parent: &Path) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("syncline-demo-")
        .tempdir_in(parent)
        .with_context(|| format!("cannot make a temporary folder in {}", parent.display()))
}

fn has_room(folder: &str) -> bool {
    rustix::fs::statvfs(folder)
        .is_ok_and(|system| system.f_bavail.saturating_mul(system.f_frsize) >= MEMORY_NEEDED)
}

fn mount_image(folder: &Path) -> Result<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root may mount one");
    }
    let image = folder.join("disk.img");
    let mountpoint = folder.join("disk");
    File::create(&image)?.set_len(IMAGE_SIZE)?;
    std::fs::create_dir(&mountpoint)?;
    command(Command::new("mkfs.btrfs").arg("-q").arg(&image))?;
    command(
        Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&mountpoint),
    )?;
    Ok(mountpoint)
}

fn command(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!(
            "{name} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(mountpoint) = &self.mounted {
            // Lazily, when something still looks at it: the demo must leave no mount behind.
            if command(Command::new("umount").arg(mountpoint)).is_err() {
                let _ = command(Command::new("umount").arg("--lazy").arg(mountpoint));
            }
        }
    }
}
