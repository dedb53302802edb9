//! Mounts at paths that are resolved inside a given root, whatever symbolic links a volume holds.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, StatVfsMountFlags, fstatvfs, mkdirat, openat2};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind_recursive, mount_remount};

/// Where a directory stands in for the path of an open file descriptor.
pub(super) fn path_of(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Opens `path` inside `root` as a mere place, for mounting at or from.
pub(super) fn open_in(root: BorrowedFd<'_>, path: &Path, extra: OFlags) -> io::Result<OwnedFd> {
    let relative = inner_path(path)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC | extra;
    Ok(openat2(
        root,
        &relative,
        flags,
        Mode::empty(),
        ResolveFlags::IN_ROOT,
    )?)
}

/// Opens the directory `path` inside `root`, making what is missing with these permission bits.
pub(super) fn ensure_directory(
    root: BorrowedFd<'_>,
    path: &Path,
    mode: u32,
) -> io::Result<OwnedFd> {
    let mut so_far = PathBuf::from(".");
    let mut current = open_in(root, &so_far, OFlags::DIRECTORY)?;
    for part in names(path)? {
        so_far.push(part);
        current = match open_in(root, &so_far, OFlags::DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                mkdirat(&current, part, Mode::from_raw_mode(mode))?;
                open_in(root, &so_far, OFlags::DIRECTORY)?
            }
            other => other?,
        };
    }
    Ok(current)
}

/// Makes the empty file `path` inside `root` when it is not there, and opens it as a mere place.
pub(super) fn ensure_file(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    match open_in(root, path, OFlags::empty()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    write_file(root, path, &[], 0o644)?;
    open_in(root, path, OFlags::empty())
}

/// Writes a file inside `root`, its folders included.
pub(super) fn write_file(
    root: BorrowedFd<'_>,
    path: &Path,
    data: &[u8],
    mode: u32,
) -> io::Result<OwnedFd> {
    if let Some(folder) = path.parent() {
        ensure_directory(root, folder, 0o755)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = openat2(
        root,
        inner_path(path)?,
        flags,
        Mode::from_raw_mode(mode),
        ResolveFlags::IN_ROOT,
    )?;
    let mut rest = data;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(file)
}

/// Binds `source` (a file or a directory of the host, with all that is mounted in it) to `target` inside `root`.
pub(super) fn bind(root: BorrowedFd<'_>, source: &Path, target: &Path) -> io::Result<()> {
    let place = if std::fs::metadata(source)?.is_dir() {
        ensure_directory(root, target, 0o755)?
    } else {
        ensure_file(root, target)?
    };
    Ok(mount_bind_recursive(source, path_of(place.as_fd()))?)
}

/// Mounts a new file system at the directory `target` inside `root`.
pub(super) fn mount_new(
    root: BorrowedFd<'_>,
    kind: &str,
    target: &Path,
    flags: MountFlags,
    data: &str,
) -> io::Result<()> {
    let place = ensure_directory(root, target, 0o755)?;
    let data = CString::new(data)?;
    Ok(mount(
        kind,
        path_of(place.as_fd()),
        kind,
        flags,
        data.as_c_str(),
    )?)
}

/// Adds flags to the mount that is seen at `target` inside `root`.
///
/// The flags it has already are kept: an ordinary user may not take them away, and the kernel refuses the call then.
pub(super) fn restrict(root: BorrowedFd<'_>, target: &Path, flags: MountFlags) -> io::Result<()> {
    let seen = open_in(root, target, OFlags::empty())?;
    let present = present_flags(fstatvfs(&seen)?.f_flag);
    let bind_only = MountFlags::BIND | present | flags;
    Ok(mount_remount(path_of(seen.as_fd()), bind_only, "")?)
}

/// Makes what is mounted at and below `target` inside the root at `root_path` read-only.
pub(super) fn restrict_tree(
    root: BorrowedFd<'_>,
    root_path: &Path,
    target: &Path,
) -> io::Result<()> {
    let inner = inner_path(target)?;
    let top = root_path.join(&inner);
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")?;
    let below = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescaped);
    for place in below.filter(|place| place.starts_with(&top)) {
        let relative = place.strip_prefix(root_path).map_err(io::Error::other)?;
        match restrict(root, relative, MountFlags::RDONLY) {
            // Some mount over it hides it from the pod too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

fn present_flags(flags: StatVfsMountFlags) -> MountFlags {
    let pairs = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    pairs
        .into_iter()
        .filter(|(has, _)| flags.contains(*has))
        .fold(MountFlags::empty(), |all, (_, flag)| all | flag)
}

/// mountinfo writes blanks, tabs, line ends and backslashes as three octal digits.
fn unescaped(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// The names of a path; `..` is refused, since nothing that a pod may say needs it.
fn names(path: &Path) -> io::Result<Vec<&OsStr>> {
    let mut found = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => found.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL.into()),
        }
    }
    Ok(found)
}

fn inner_path(path: &Path) -> io::Result<PathBuf> {
    let mut inner = PathBuf::from(".");
    inner.extend(names(path)?);
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_upwards_is_refused() {
        assert!(inner_path(Path::new("/data/../etc")).is_err());
        assert_eq!(
            inner_path(Path::new("/data//x")).unwrap(),
            Path::new("./data/x")
        );
    }

    #[test]
    fn a_mount_point_with_a_blank_is_read() {
        assert_eq!(unescaped("/mnt/my\\040disk"), Path::new("/mnt/my disk"));
        assert_eq!(
            unescaped("/mnt/back\\134slash"),
            Path::new("/mnt/back\\slash")
        );
    }

    #[test]
    fn a_link_that_leads_out_of_the_root_is_resolved_inside_of_it() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("out")).unwrap();
        let fd = std::fs::File::open(root.path()).unwrap();
        assert!(open_in(fd.as_fd(), Path::new("/out/passwd"), OFlags::empty()).is_err());
        write_file(fd.as_fd(), Path::new("/etc/passwd"), b"x", 0o600).unwrap();
        assert!(open_in(fd.as_fd(), Path::new("/out/passwd"), OFlags::empty()).is_ok());
    }
}
