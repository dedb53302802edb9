//! Real input: files that are found on any Linux machine, and changes to one in a hundred of them.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// At least this many regular files are taken.
const FILES_WANTED: usize = 20_500;
/// Fewer are not worth the name.
const FILES_NEEDED: usize = 20_000;
/// Larger files are left out: the demo is about many files, and must end within minutes.
const LARGEST_FILE: u64 = 4 << 20;
/// Bytes taken from one place before the next one is looked at.
const BYTES_PER_PLACE: u64 = 400 << 20;

/// Copies real files into `volume` and returns how many regular files there are, and from where.
pub(crate) fn fill(volume: &Path) -> Result<(usize, String)> {
    let mut list: Vec<OsString> = Vec::new();
    let mut files = 0;
    let mut from = Vec::new();
    for place in places() {
        if files >= FILES_WANTED {
            break;
        }
        let before = files;
        collect(&place, &mut list, &mut files);
        if files > before {
            from.push(place.display().to_string());
        }
    }
    if files < FILES_NEEDED {
        bail!(
            "this machine has only {files} readable files under {}; the demo wants {FILES_NEEDED}",
            from.join(", ")
        );
    }
    copy(&list, volume)?;
    Ok((files, from.join(", ")))
}

/// Where files are looked for, in this order.
fn places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = ["/usr/share", "/usr/include", "/usr/lib", "/etc"]
        .map(PathBuf::from)
        .to_vec();
    if let Some(home) = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
    {
        places.push(home.join("registry/src"));
    }
    places
}

fn collect(place: &Path, list: &mut Vec<OsString>, files: &mut usize) {
    let mut pending = vec![place.to_owned()];
    let mut bytes = 0;
    while let Some(folder) = pending.pop() {
        let Ok(children) = fs::read_dir(&folder) else {
            continue;
        };
        let mut children: Vec<PathBuf> = children.flatten().map(|child| child.path()).collect();
        children.sort();
        for path in children {
            if *files >= FILES_WANTED || bytes >= BYTES_PER_PLACE {
                return;
            }
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            if metadata.is_dir() {
                pending.push(path);
            } else if metadata.is_symlink() {
                list.push(path.into_os_string());
            } else if metadata.is_file()
                && metadata.len() <= LARGEST_FILE
                && File::open(&path).is_ok()
            {
                *files += 1;
                bytes += metadata.len();
                list.push(path.into_os_string());
            }
        }
    }
}

fn copy(list: &[OsString], volume: &Path) -> Result<()> {
    let mut rsync = Command::new("rsync")
        .args(["-a", "--from0", "--files-from=-", "/"])
        .arg(volume)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run rsync")?;
    let mut input = rsync.stdin.take().context("rsync without input")?;
    for path in list {
        input.write_all(path.as_bytes())?;
        input.write_all(b"\0")?;
    }
    drop(input);
    let status = rsync.wait()?;
    if !status.success() {
        bail!("rsync could not copy the input: {status}");
    }
    Ok(())
}

/// Changes one regular file in a hundred: appends to most, replaces some, removes some; returns how many.
pub(crate) fn change_one_percent(volume: &Path) -> Result<usize> {
    let mut files = Vec::new();
    let mut pending = vec![volume.join("usr")];
    while let Some(folder) = pending.pop() {
        for child in fs::read_dir(&folder)? {
            let path = child?.path();
            let metadata = fs::symlink_metadata(&path)?;
            if metadata.is_dir() {
                pending.push(path);
            } else if metadata.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    let chosen: Vec<&PathBuf> = files.iter().step_by(100).collect();
    for (number, path) in chosen.iter().enumerate() {
        change(number, path).with_context(|| format!("cannot change {}", path.display()))?;
    }
    Ok(chosen.len())
}

fn change(number: usize, path: &Path) -> Result<()> {
    match number % 10 {
        0 => fs::remove_file(path)?,
        1 => {
            fs::remove_file(path)?;
            fs::write(path, format!("replaced, number {number}\n"))?;
        }
        _ => {
            // The copies are ours; some of the originals are read-only.
            let mut permissions = fs::metadata(path)?.permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
            fs::set_permissions(path, permissions)?;
            OpenOptions::new()
                .append(true)
                .open(path)?
                .write_all(format!("changed, number {number}\n").as_bytes())?;
        }
    }
    Ok(())
}
