//! Opening and listing directories below a root, one component at a time, so that no swapped entry leads outside.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

use crate::Error;

/// Deeper trees cannot be named by any path (`PATH_MAX` is 4096 bytes, a level takes at least two).
pub(crate) const DEEPEST: usize = 2048;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Opens a directory that the caller named; symbolic links in its path count.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(|error| Error::BadSource {
        path: path.to_owned(),
        source: error.into(),
    })
}

/// Opens the directory at `relative` below `root`, following no symbolic link. The empty path is the root itself.
pub(crate) fn open_below(root: impl AsFd, relative: &Path) -> Result<OwnedFd, Errno> {
    let flags = DIRECTORY | OFlags::NOFOLLOW;
    let mut dir = openat(root, c".", flags, Mode::empty())?;
    for part in relative.components() {
        dir = openat(&dir, part.as_os_str(), flags, Mode::empty())?;
    }
    Ok(dir)
}

/// The names in an open directory, `.` and `..` left out, in the order of their bytes.
pub(crate) fn names(dir: impl AsFd) -> Result<Vec<CString>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            found.push(name.to_owned());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// `stat` of an entry itself; `None` when it is gone.
pub(crate) fn look(dir: impl AsFd, name: &CStr) -> Result<Option<Stat>, Errno> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A C string as a path component.
pub(crate) fn as_name(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}
