//! Everything about an entry but its content: owner, mode, times, extended attributes (ACLs among them).

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, chmodat, chownat, utimensat,
};
use rustix::io::Errno;

use super::walk;
use crate::Unkept;

/// One entry, by the directory that holds it.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) name: &'a CStr,
}

impl Entry<'_> {
    /// A path for the calls on extended attributes, which know no directory descriptors. The last part of it is never
    /// followed by the `l…xattr` calls that the `xattr` crate makes; of a directory named `.` there is no last part to follow.
    fn path(&self) -> PathBuf {
        let mut path = PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd()));
        path.push(walk::as_name(self.name));
        path
    }
}

/// Gives `target` the metadata of `source`, whose `stat` is given. `shown` is its path within the tree.
/// What the caller is not allowed to set is noted in `unkept`.
pub(crate) fn carry(
    source: Entry<'_>,
    target: Entry<'_>,
    stat: &Stat,
    shown: &Path,
    unkept: &mut Unkept,
) -> Result<(), Errno> {
    // The owner first, because a change of owner clears file capabilities; the mode last, because it can take away
    // the right to do the rest. The mode's group bits are the ACL's mask, so setting it does not alter the ACL.
    own(target, stat, shown, unkept)?;
    attributes(&source.path(), &target.path(), shown, unkept)?;
    utimensat(
        target.dir,
        target.name,
        &times(stat),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Ok(());
    }
    chmodat(
        target.dir,
        target.name,
        Mode::from_raw_mode(stat.st_mode & 0o7777),
        AtFlags::empty(),
    )
}

fn own(target: Entry<'_>, stat: &Stat, shown: &Path, unkept: &mut Unkept) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let made = walk::look(target.dir, target.name)?.ok_or(Errno::NOENT)?;
    if (made.st_uid, made.st_gid) == (stat.st_uid, stat.st_gid) {
        return Ok(());
    }
    match chownat(
        target.dir,
        target.name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    ) {
        Err(Errno::PERM | Errno::INVAL) => {
            unkept.add(shown, &format!("owner {}:{}", stat.st_uid, stat.st_gid));
            // A group that the caller is a member of can still be kept.
            match chownat(
                target.dir,
                target.name,
                None,
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            ) {
                Err(Errno::PERM | Errno::INVAL) | Ok(()) => Ok(()),
                Err(error) => Err(error),
            }
        }
        other => other,
    }
}

#[expect(
    clippy::unnecessary_cast,
    clippy::cast_possible_wrap,
    reason = "the fields' types differ between platforms"
)]
fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime as i64,
            tv_nsec: stat.st_atime_nsec as _,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime as i64,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}

/// Names whose values belong to the file system or the machine and not to the data.
fn is_foreign(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"security.selinux") || name.as_bytes().starts_with(b"btrfs.")
}

fn attributes(
    source: &Path,
    target: &Path,
    shown: &Path,
    unkept: &mut Unkept,
) -> Result<(), Errno> {
    let wanted = list(source)?;
    for name in list(target)? {
        if !is_foreign(&name) && !wanted.contains(&name) {
            tolerate(xattr::remove(target, &name), &name, shown, unkept)?;
        }
    }
    for name in wanted {
        if is_foreign(&name) {
            continue;
        }
        if let Some(value) = xattr::get(source, &name).or_else(|error| absent(&error))? {
            tolerate(xattr::set(target, &name, &value), &name, shown, unkept)?;
        }
    }
    Ok(())
}

fn list(path: &Path) -> Result<Vec<std::ffi::OsString>, Errno> {
    match xattr::list(path) {
        Ok(names) => Ok(names.collect()),
        Err(error) => absent(&error).map(|_: Option<()>| Vec::new()),
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// "There is none" and "this file system has none" read as absence.
fn absent<T>(error: &std::io::Error) -> Result<Option<T>, Errno> {
    match errno(error) {
        Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS => Ok(None),
        other => Err(other),
    }
}

fn tolerate(
    done: std::io::Result<()>,
    name: &OsStr,
    shown: &Path,
    unkept: &mut Unkept,
) -> Result<(), Errno> {
    let Err(error) = done else { return Ok(()) };
    match errno(&error) {
        Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NODATA | Errno::INVAL => {
            unkept.add(shown, &format!("attribute {}", name.display()));
            Ok(())
        }
        other => Err(other),
    }
}

/// A directory descriptor as the entry `.` of itself.
pub(crate) fn itself<Fd: AsFd>(dir: &Fd) -> Entry<'_> {
    Entry {
        dir: dir.as_fd(),
        name: c".",
    }
}
