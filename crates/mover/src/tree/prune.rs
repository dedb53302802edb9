//! Removing what a list of entries does not have.

use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::Dir;
use rustix::io::Errno;

use super::beneath::Root;
use super::entry::{Entry, join, look};
use super::remove::remove;
use super::{Failure, find};
use crate::fs::LOST_AND_FOUND;

/// Removes from the tree at `root` everything that is not in `keep`, which is sorted by path. The root's `lost+found`
/// stays, and so does what is on other file systems. Returns how many entries went.
pub(crate) fn prune(root: &Path, keep: &[Entry]) -> Result<u64, Failure> {
    let root = Root::open(root).map_err(|error| Failure::new("opening", b"", error))?;
    let device = look(root.itself(), b".", Vec::new())
        .and_then(|found| found.ok_or(Errno::NOENT))
        .map_err(|error| Failure::new("looking at", b"", error))?
        .device;
    let mut removed = 0;
    let mut pending = vec![Vec::new()];
    while let Some(folder) = pending.pop() {
        for path in children(&root, &folder)? {
            match find(keep, &path) {
                None if is_elsewhere(&root, &path, device)? => {}
                None => removed += remove(&root, &path)?,
                Some(kept) if kept.is_folder() && !is_elsewhere(&root, &path, device)? => {
                    pending.push(path);
                }
                Some(_) => {}
            }
        }
    }
    Ok(removed)
}

/// The paths of a folder's entries; none where no folder is.
fn children(root: &Root, folder: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
    let failed = |error| Failure::new("reading the folder", folder, error);
    // Where that is refused, the removal shows whether it mattered.
    let _ = root.open_up(folder);
    let handle = match root.list(folder) {
        Ok(handle) => handle,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for child in Dir::read_from(handle.as_fd()).map_err(failed)? {
        let child = child.map_err(failed)?;
        let name = child.file_name().to_bytes();
        let is_kept = folder.is_empty() && name == LOST_AND_FOUND.as_bytes();
        if !matches!(name, b"." | b"..") && !is_kept {
            found.push(join(folder, name));
        }
    }
    Ok(found)
}

/// Is it a folder on another file system than the root?
fn is_elsewhere(root: &Root, path: &[u8], device: (u32, u32)) -> Result<bool, Failure> {
    let (folder, name) = super::split(path);
    let found = root
        .folder(folder)
        .and_then(|handle| look(handle.as_fd(), name, Vec::new()))
        .map_err(|error| Failure::new("looking at", path, error))?;
    Ok(found.is_some_and(|found| found.entry.is_folder() && found.device != device))
}
