//! Making entries that are not there: folders, links, other names, pipes, sockets and devices.

use std::fs::File;
use std::io;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, linkat, makedev, mkdirat, mknodat, openat, renameat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::super::entry::{Entry, Kind, join, shown, split};
use super::super::unpreserved::Loss;
use super::super::{Failure, find, remove};
use super::{Item, RestoreError, Restorer};

/// Makes a folder that only its owner may use until it is dressed.
pub(super) fn folder(item: &Item<'_>) -> Result<(), Failure> {
    mkdirat(item.folder, item.name, Mode::RWXU).map_err(item.failed("making the folder"))
}

/// Sees to it that `item` is there, and returns what is there then; `None` when it could not be made.
pub(super) fn entry(
    restorer: &mut Restorer<'_>,
    item: &Item<'_>,
) -> Result<Option<Entry>, RestoreError> {
    let have = item.have()?;
    if item.want.is_file() {
        return file(item, have).map(Some);
    }
    match have {
        Some(have) if have.kind == item.want.kind => return Ok(Some(have)),
        Some(_) => {
            remove::remove(restorer.root, &item.want.path)?;
        }
        None => {}
    }
    match special(item) {
        Ok(()) => {}
        // A device takes a right that movers rarely have.
        Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {
            restorer.lost.note(Loss::Special, &item.want.path);
            return Ok(None);
        }
        Err(error) => return Err(item.failed("making")(error).into()),
    }
    Ok(item.have()?)
}

/// A regular file comes by the transfer.
fn file(item: &Item<'_>, have: Option<Entry>) -> Result<Entry, RestoreError> {
    let Some(have) = have.filter(Entry::is_file) else {
        return Err(RestoreError::Missing {
            path: shown(&item.want.path),
        });
    };
    if have.size == item.want.size {
        return Ok(have);
    }
    Err(RestoreError::Differs {
        path: shown(&item.want.path),
        expected: item.want.size,
        found: have.size,
    })
}

fn special(item: &Item<'_>) -> Result<(), Errno> {
    let node = |kind, device| {
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(item.folder, item.name, kind, mode, device)
    };
    match &item.want.kind {
        Kind::Link { target } => symlinkat(target.as_slice(), item.folder, item.name),
        Kind::Pipe => node(FileType::Fifo, 0),
        Kind::Socket => node(FileType::Socket, 0),
        Kind::Device {
            block,
            major,
            minor,
        } => {
            let kind = if *block {
                FileType::BlockDevice
            } else {
                FileType::CharacterDevice
            };
            node(kind, makedev(*major, *minor))
        }
        Kind::File | Kind::Folder => Err(Errno::INVAL),
    }
}

/// Makes `item` another name of `original`, in place of what is there. Where the file system or the kernel refuses that,
/// a file becomes a copy, which is noted; `false` when there is still something to do for it.
pub(super) fn link(
    restorer: &mut Restorer<'_>,
    item: &Item<'_>,
    original: &Item<'_>,
    have: Option<&Entry>,
) -> Result<bool, Failure> {
    let failed = item.failed("linking");
    let named = |name: &[u8]| {
        linkat(
            original.folder,
            original.name,
            item.folder,
            name,
            AtFlags::empty(),
        )
    };
    let made = if have.is_some() {
        // The old file goes only when the new name can be had.
        let free = free_name(restorer.entries, &item.want.path);
        named(&free).and_then(|()| renameat(item.folder, free.as_slice(), item.folder, item.name))
    } else {
        named(item.name)
    };
    match made {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::ACCESS | Errno::MLINK | Errno::OPNOTSUPP | Errno::XDEV) => {
            restorer.lost.note(Loss::HardLink, &item.want.path);
            // The transfer may have left this name out.
            if item.want.is_file() && !have.is_some_and(|have| have.looks_like(item.want)) {
                copy(item, original)
                    .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
            }
            Ok(false)
        }
        Err(error) => Err(failed(error)),
    }
}

/// A name in the entry's folder that no entry has; a leftover of a run that was killed is removed by the next pruning.
fn free_name(entries: &[Entry], path: &[u8]) -> Vec<u8> {
    let (folder, _) = split(path);
    let pid = std::process::id();
    let mut number = 0_u64;
    loop {
        let name = format!(".syncline-{pid}-{number}").into_bytes();
        if find(entries, &join(folder, &name)).is_none() {
            return name;
        }
        number += 1;
    }
}

fn copy(item: &Item<'_>, original: &Item<'_>) -> io::Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match unlinkat(item.folder, item.name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mut from = File::from(openat(original.folder, original.name, read, Mode::empty())?);
    let mut to = File::from(openat(
        item.folder,
        item.name,
        write,
        Mode::RUSR | Mode::WUSR,
    )?);
    let copied = io::copy(&mut from, &mut to).map(|_| ());
    if copied.is_err() {
        // Half a file must not stand under the name of a whole one.
        let _ = unlinkat(item.folder, item.name, AtFlags::empty());
    }
    copied
}
