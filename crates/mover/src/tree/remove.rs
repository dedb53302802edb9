//! Removing an entry with all that is below it, by open folders and their names.

use std::os::fd::AsFd as _;

use rustix::fs::{AtFlags, Dir, unlinkat};
use rustix::io::Errno;

use super::Failure;
use super::beneath::{Parents, Root};
use super::entry::join;

/// Removes the entry at `path`, whatever it is; what is already gone is no error. Returns how many entries went.
pub(super) fn remove(root: &Root, path: &[u8]) -> Result<u64, Failure> {
    let mut parents = Parents::new(root);
    let failed = |source| Failure::new("removing", path, source);
    let (folder, name) = match parents.of(path) {
        Ok(place) => place,
        Err(Errno::NOENT) => return Ok(0),
        Err(error) => return Err(failed(error)),
    };
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) => Ok(1),
        Err(Errno::NOENT) => Ok(0),
        Err(Errno::ISDIR) => tree(root, path),
        Err(error) => Err(failed(error)),
    }
}

/// Removes a folder: first what is no folder, from above, then the folders from below. Only one folder is open at a time,
/// however deep the tree is.
fn tree(root: &Root, top: &[u8]) -> Result<u64, Failure> {
    let mut removed = 0;
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut pending = vec![top.to_vec()];
    while let Some(folder) = pending.pop() {
        removed += empty(root, &folder, &mut pending)
            .map_err(|(path, error)| Failure::new("removing", &path, error))?;
        found.push(folder);
    }
    let mut parents = Parents::new(root);
    for path in found.iter().rev() {
        let failed = |error| Failure::new("removing the folder", path, error);
        let (folder, name) = parents.of(path).map_err(failed)?;
        match unlinkat(folder, name, AtFlags::REMOVEDIR) {
            Ok(()) => removed += 1,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(error)),
        }
        // The next folder may lie in one that is removed by now under the same path.
        parents.forget();
    }
    Ok(removed)
}

/// Unlinks everything in a folder that is no folder, and hands the folders to `pending`.
fn empty(root: &Root, path: &[u8], pending: &mut Vec<Vec<u8>>) -> Result<u64, (Vec<u8>, Errno)> {
    let in_folder = |error| (path.to_vec(), error);
    // Where that is refused, the listing or the removal shows whether it mattered.
    let _ = root.open_up(path);
    let folder = match root.list(path) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(0),
        Err(error) => return Err(in_folder(error)),
    };
    let mut removed = 0;
    for child in Dir::read_from(&folder).map_err(in_folder)? {
        let child = child.map_err(in_folder)?;
        let name = child.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match unlinkat(folder.as_fd(), name, AtFlags::empty()) {
            Ok(()) => removed += 1,
            Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => pending.push(join(path, name)),
            Err(error) => return Err((join(path, name), error)),
        }
    }
    Ok(removed)
}
