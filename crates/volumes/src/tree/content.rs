//! The bytes of one regular file: shared with the source where the file system can, else copied with its holes.

use std::os::fd::AsFd;

use rustix::fs::{SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use crate::Consistency;

/// One request to the kernel copies at most this much, so that a stop is noticed in time.
const CHUNK: u64 = 64 << 20;
const BUFFER: usize = 256 << 10;

/// Copies `size` bytes from `source` to the empty file `target` and says how consistent the result is.
/// `stop` is asked between chunks; it ends the copy with `Errno::CANCELED`.
pub(crate) fn copy(
    source: impl AsFd,
    target: impl AsFd,
    size: u64,
    share: &mut bool,
    stop: &dyn Fn() -> bool,
) -> Result<Consistency, Errno> {
    let (source, target) = (source.as_fd(), target.as_fd());
    if size == 0 {
        return Ok(Consistency::PerFile);
    }
    if *share {
        match retry_on_intr(|| ioctl_ficlone(target, source)) {
            Ok(()) => return Ok(Consistency::PerFile),
            // Another file system than the source's: no other file of it can be shared either, unless a mount lies
            // between, in which case copying is merely slower.
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS) => *share = false,
            // This file only (swap file, no checksums, inline data of another kind).
            Err(Errno::INVAL | Errno::TXTBSY | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    let mut at = 0;
    while at < size {
        let Some((start, end)) = extent(source, at, size)? else {
            break;
        };
        copy_extent(source, target, (start, end), stop)?;
        at = end;
    }
    ftruncate(target, size)?;
    Ok(Consistency::None)
}

/// The next extent of data at or after `at`, cut at `size`; `None` when only a hole follows.
fn extent(source: impl AsFd, at: u64, size: u64) -> Result<Option<(u64, u64)>, Errno> {
    let source = source.as_fd();
    let start = match seek(source, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // The file system cannot tell holes: all of it is data.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((at, size))),
        Err(error) => return Err(error),
    };
    if start >= size {
        return Ok(None);
    }
    let end = match seek(source, SeekFrom::Hole(start)) {
        Ok(end) => end.min(size),
        // The file was cut meanwhile.
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some((start, end)))
}

fn copy_extent(
    source: impl AsFd,
    target: impl AsFd,
    range: (u64, u64),
    stop: &dyn Fn() -> bool,
) -> Result<(), Errno> {
    let (source, target) = (source.as_fd(), target.as_fd());
    let (mut from, end) = range;
    let mut to = from;
    while from < end {
        if stop() {
            return Err(Errno::CANCELED);
        }
        let length = usize::try_from((end - from).min(CHUNK)).unwrap_or(BUFFER);
        match copy_file_range(source, Some(&mut from), target, Some(&mut to), length) {
            // The file was cut meanwhile.
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::TXTBSY) => {
                return copy_through_memory(source, target, (from, end), stop);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn copy_through_memory(
    source: impl AsFd,
    target: impl AsFd,
    range: (u64, u64),
    stop: &dyn Fn() -> bool,
) -> Result<(), Errno> {
    let (source, target) = (source.as_fd(), target.as_fd());
    let (mut at, end) = range;
    let mut buffer = vec![0_u8; BUFFER];
    while at < end {
        if stop() {
            return Err(Errno::CANCELED);
        }
        let wanted = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
        let room = buffer.get_mut(..wanted).unwrap_or_default();
        let got = retry_on_intr(|| pread(source, &mut *room, at))?;
        if got == 0 {
            return Ok(());
        }
        let mut rest = buffer.get(..got).unwrap_or_default();
        while !rest.is_empty() {
            let written = retry_on_intr(|| pwrite(target, rest, at))?;
            at += u64::try_from(written).unwrap_or(0);
            rest = rest.get(written..).unwrap_or_default();
        }
    }
    Ok(())
}
