//! Removing a tree of any depth: directories are moved up to the root of the tree before they are emptied, so that
//! neither recursion nor long paths are needed.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, chmodat, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::walk;
use crate::{Error, btrfs};

/// Removes the entry `name` of the open directory, whatever it is. What is already gone is no error.
/// `shown` is its path for messages.
pub(crate) fn remove(parent: impl AsFd, name: &CStr, shown: &Path) -> Result<(), Error> {
    let parent = parent.as_fd();
    let failed = |error: Errno| Error::io("remove", shown, error);
    let Some(stat) = walk::look(parent, name).map_err(failed)? else {
        return Ok(());
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return gone(unlinkat(parent, name, AtFlags::empty())).map_err(failed);
    }
    let top = open_writable(parent, name).map_err(failed)?;
    if btrfs::is_subvolume(&top) && btrfs::destroy(parent, name).is_ok() {
        return Ok(());
    }
    empty(&top).map_err(failed)?;
    gone(unlinkat(parent, name, AtFlags::REMOVEDIR)).map_err(failed)
}

fn gone(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Opens a directory with the right to change it, which its owner may give back to itself.
fn open_writable(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let stat = walk::look(parent, name)?.ok_or(Errno::NOENT)?;
    if stat.st_mode & 0o700 != 0o700 {
        // Of a read-only subvolume the mode cannot be changed, but being readable is enough to make it writable first.
        let _ = chmodat(parent, name, Mode::RWXU, AtFlags::empty());
    }
    let dir = openat(parent, name, flags, Mode::empty())?;
    if btrfs::is_subvolume(&dir) {
        let _ = btrfs::make_writable(&dir);
    }
    Ok(dir)
}

/// Empties a tree: each directory found is renamed to a numbered entry of `top`, then emptied in turn.
fn empty(top: &OwnedFd) -> Result<(), Errno> {
    let mut next = 0_u64;
    let mut waiting: Vec<CString> = Vec::new();
    flatten(top.as_fd(), top.as_fd(), &mut next, &mut waiting)?;
    while let Some(name) = waiting.pop() {
        let dir = open_writable(top.as_fd(), &name)?;
        if !(btrfs::is_subvolume(&dir) && btrfs::destroy(top, &name).is_ok()) {
            flatten(top.as_fd(), dir.as_fd(), &mut next, &mut waiting)?;
            gone(unlinkat(top, &name, AtFlags::REMOVEDIR))?;
        }
    }
    Ok(())
}

/// Unlinks what is no directory; moves directories of `dir` to `top` under names that are not in use.
fn flatten(
    top: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    next: &mut u64,
    waiting: &mut Vec<CString>,
) -> Result<(), Errno> {
    for name in walk::names(dir)? {
        let Some(stat) = walk::look(dir, &name)? else {
            continue;
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            gone(unlinkat(dir, &name, AtFlags::empty()))?;
            continue;
        }
        if gone(unlinkat(dir, &name, AtFlags::REMOVEDIR)).is_ok() {
            continue;
        }
        // Renaming a directory to another parent needs write permission on it.
        let child = open_writable(dir, &name)?;
        let subvolume = btrfs::is_subvolume(&child);
        if subvolume && btrfs::destroy(dir, &name).is_ok() {
            continue;
        }
        match if subvolume {
            Err(Errno::XDEV)
        } else {
            adopt(top, dir, &name, next)
        } {
            Ok(adopted) => waiting.push(adopted),
            // Nothing can be moved out of a subvolume or another file system: it is emptied by itself.
            Err(Errno::XDEV) => {
                empty(&child)?;
                gone(unlinkat(dir, &name, AtFlags::REMOVEDIR))?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn adopt(
    top: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    name: &CStr,
    next: &mut u64,
) -> Result<CString, Errno> {
    loop {
        *next += 1;
        let free = CString::new(format!(".syncline-removing-{next}")).map_err(|_| Errno::INVAL)?;
        if walk::look(top, &free)?.is_none() {
            renameat(dir, name, top, &free)?;
            return Ok(free);
        }
    }
}
