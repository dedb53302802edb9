//! Bind mounts of directories and device nodes.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount};

use crate::error::Fault;

/// What is mounted at a path.
pub(crate) struct Mount {
    pub(crate) point: PathBuf,
    pub(crate) read_only: bool,
}

/// All mounts of this process' namespace, in the order of their making.
pub(crate) fn all() -> Result<Vec<Mount>, Fault> {
    let path = Path::new("/proc/self/mountinfo");
    let table = fs::read(path).map_err(|error| Fault::system("read", path, error))?;
    let lines = table.split(|byte| *byte == b'\n');
    Ok(lines
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ').skip(4);
            let point = OsString::from_vec(unescape(fields.next()?));
            let read_only = fields
                .next()?
                .split(|byte| *byte == b',')
                .any(|option| option == b"ro");
            Some(Mount {
                point: PathBuf::from(point),
                read_only,
            })
        })
        .collect())
}

/// The uppermost mount at a path.
pub(crate) fn at(path: &Path) -> Result<Option<Mount>, Fault> {
    // The kernel's table has no links and no dots in it.
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::system("find", path, error)),
    };
    let mut found = all()?.into_iter().filter(|mount| mount.point == path);
    Ok(found.next_back())
}

/// Undoes the octal escapes of the kernel's table.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(escaped.unwrap_or(*first));
        rest = match escaped {
            Some(_) => tail.get(3..).unwrap_or_default(),
            None => tail,
        };
    }
    plain
}

/// Whether two paths show the same directory, file or device, though through different mounts.
pub(crate) fn same(one: &Path, other: &Path) -> bool {
    let device = |mode: u32| mode & 0o170_000 == 0o060_000;
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) if device(one.mode()) && device(other.mode()) => {
            one.rdev() == other.rdev()
        }
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Makes the directory to mount on, which may exist.
pub(crate) fn make_directory(path: &Path) -> Result<(), Fault> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(path)
        .map_err(|error| Fault::system("create", path, error))
}

/// Makes the file to mount a device node on, which may exist.
pub(crate) fn make_file(path: &Path) -> Result<(), Fault> {
    if let Some(folder) = path.parent() {
        make_directory(folder)?;
    }
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o660)
        .open(path)
        .map(drop)
        .map_err(|error| Fault::system("create", path, error))
}

/// Mounts `from` at `to`, which exists.
pub(crate) fn bind(from: &Path, to: &Path, read_only: bool) -> Result<(), Fault> {
    mount_bind(from, to).map_err(|error| Fault::system("mount", to, error))?;
    if read_only {
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        if let Err(error) = mount_remount(to, flags, c"") {
            let _ = unmount(to, UnmountFlags::DETACH);
            return Err(Fault::system("make read-only", to, error));
        }
    }
    Ok(())
}

/// Unmounts all that is mounted at a path, however often; nothing there is no error.
pub(crate) fn unbind(path: &Path) -> Result<(), Fault> {
    while at(path)?.is_some() {
        match unmount(path, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Somebody else was faster.
            Err(Errno::INVAL | Errno::NOENT) if at(path)?.is_none() => {}
            Err(error) => return Err(Fault::system("unmount", path, error)),
        }
    }
    Ok(())
}

/// Removes what was mounted on; never what is in it.
pub(crate) fn remove_target(path: &Path) -> Result<(), Fault> {
    let removed = match fs::symlink_metadata(path) {
        Ok(facts) if facts.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Fault::system("remove", path, error))
        }
        _ => Ok(()),
    }
}
