//! One entry of a tree: everything about a file, folder or link but its content.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, readlinkat, statx};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::text;

/// The longest name of an entry, in bytes: what Linux's file systems take.
const LONGEST_NAME: usize = 255;
/// The longest path, in bytes: what a call to the kernel takes, its closing zero apart.
pub(crate) const LONGEST_PATH: usize = 4095;
/// Bytes of a file that take no place on disk before it counts as sparse: less is not worth the reading.
const SPARSE_FLOOR: u64 = 64 * 1024;
/// Bytes in a block of `stat`, whatever the file system's own blocks are.
const STAT_BLOCK: u64 = 512;

/// A moment, as file systems keep it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(from = "(i64, u32)", into = "(i64, u32)")]
pub(crate) struct Time {
    /// Seconds since the epoch.
    pub(crate) sec: i64,
    /// Nanoseconds of the second.
    pub(crate) nanos: u32,
}

impl From<(i64, u32)> for Time {
    fn from((sec, nanos): (i64, u32)) -> Self {
        Self { sec, nanos }
    }
}

impl From<Time> for (i64, u32) {
    fn from(time: Time) -> Self {
        (time.sec, time.nanos)
    }
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// A regular file.
    #[serde(rename = "f")]
    File,
    /// A folder.
    #[serde(rename = "d")]
    Folder,
    /// A symbolic link.
    #[serde(rename = "l")]
    Link {
        /// Where it points: any bytes, nothing is known to be there.
        #[serde(rename = "t", with = "text")]
        target: Vec<u8>,
    },
    /// A named pipe.
    #[serde(rename = "p")]
    Pipe,
    /// A Unix socket.
    #[serde(rename = "s")]
    Socket,
    /// A device file.
    #[serde(rename = "v")]
    Device {
        /// A block device, else a character device.
        #[serde(rename = "b")]
        block: bool,
        /// The driver's number.
        #[serde(rename = "x")]
        major: u32,
        /// The device's number.
        #[serde(rename = "y")]
        minor: u32,
    },
}

/// An extended attribute: its name and its value.
pub(crate) type Attribute = (Vec<u8>, Vec<u8>);

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Its path below the root, without a leading `./`; empty for the root itself.
    #[serde(rename = "p", with = "text")]
    pub(crate) path: Vec<u8>,
    /// What it is.
    #[serde(rename = "k")]
    pub(crate) kind: Kind,
    /// Permission bits, set-id and sticky bits among them.
    #[serde(rename = "m")]
    pub(crate) mode: u32,
    /// Owner.
    #[serde(rename = "u", default, skip_serializing_if = "is_default")]
    pub(crate) uid: u32,
    /// Group.
    #[serde(rename = "g", default, skip_serializing_if = "is_default")]
    pub(crate) gid: u32,
    /// When its content was last changed.
    #[serde(rename = "t")]
    pub(crate) mtime: Time,
    /// When it was last changed in any way. Nobody can set this, so a copy has another.
    #[serde(rename = "c")]
    pub(crate) ctime: Time,
    /// The number that all names of one file share.
    #[serde(rename = "i")]
    pub(crate) inode: u64,
    /// How many names the file has (`st_nlink`), some of them perhaps outside the tree.
    #[serde(rename = "n", default = "one", skip_serializing_if = "is_one")]
    pub(crate) device_links: u32,
    /// Bytes of a regular file; 0 of everything else.
    #[serde(rename = "s", default, skip_serializing_if = "is_default")]
    pub(crate) size: u64,
    /// Whether a regular file takes clearly less place on disk than its size, because it has holes.
    #[serde(rename = "h", default, skip_serializing_if = "is_default")]
    pub(crate) sparse: bool,
    /// The generation in which its content was last sent to a store; 0 where nobody counts.
    #[serde(rename = "e", default, skip_serializing_if = "is_default")]
    pub(crate) sent: u64,
    /// Extended attributes by name, POSIX ACLs among them.
    #[serde(
        rename = "x",
        default,
        skip_serializing_if = "Vec::is_empty",
        with = "text::pairs"
    )]
    pub(crate) xattrs: Vec<Attribute>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn one() -> u32 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes references to such functions"
)]
fn is_one(value: &u32) -> bool {
    *value == 1
}

impl Entry {
    /// Is it the root itself?
    pub(crate) fn is_root(&self) -> bool {
        self.path.is_empty()
    }

    /// Is it a regular file?
    pub(crate) fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// Is it a folder?
    pub(crate) fn is_folder(&self) -> bool {
        self.kind == Kind::Folder
    }

    /// Has the file another name, in the tree or outside?
    pub(crate) fn has_other_names(&self) -> bool {
        self.device_links > 1 && !self.is_folder()
    }

    /// Do both have the same content, as far as that shows without reading: type, size and time of last change?
    pub(crate) fn looks_like(&self, other: &Self) -> bool {
        self.kind == other.kind && self.size == other.size && self.mtime == other.mtime
    }

    /// Is it the same file, to which nothing was done, as far as its inode and the time of its last change of any kind tell?
    pub(crate) fn is_untouched(&self, since: &Self) -> bool {
        self.inode == since.inode && self.ctime == since.ctime
    }
}

/// Why a path cannot be one of an entry below a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathFault {
    #[error("it is absolute")]
    Absolute,
    #[error("it has an empty part")]
    EmptyPart,
    #[error("it has a part `.` or `..`")]
    Climbing,
    #[error("it holds a zero byte")]
    Zero,
    #[error("it is longer than Linux's file systems take")]
    TooLong,
    #[error("it lies in lost+found, which belongs to the file system")]
    LostAndFound,
}

/// Checks that `path`, which somebody else may have written, names something strictly below a root and nothing else.
/// The empty path, the root itself, passes.
pub(crate) fn check_path(path: &[u8]) -> Result<(), PathFault> {
    if path.is_empty() {
        return Ok(());
    }
    if path.len() > LONGEST_PATH {
        return Err(PathFault::TooLong);
    }
    if path.starts_with(b"/") {
        return Err(PathFault::Absolute);
    }
    if path.contains(&0) {
        return Err(PathFault::Zero);
    }
    for (index, part) in path.split(|byte| *byte == b'/').enumerate() {
        match part {
            b"" => return Err(PathFault::EmptyPart),
            b"." | b".." => return Err(PathFault::Climbing),
            _ if part.len() > LONGEST_NAME => return Err(PathFault::TooLong),
            _ if index == 0 && part == crate::fs::LOST_AND_FOUND.as_bytes() => {
                return Err(PathFault::LostAndFound);
            }
            _ => {}
        }
    }
    Ok(())
}

/// A path's folder and its last part. The folder of a path of one part is the root, the empty path.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (
            path.get(..at).unwrap_or_default(),
            path.get(at + 1..).unwrap_or_default(),
        ),
        None => (b"", path),
    }
}

/// `folder/name`; `name` alone in the root.
pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        return name.to_vec();
    }
    let mut path = Vec::with_capacity(folder.len() + 1 + name.len());
    path.extend_from_slice(folder);
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

/// A path as people are shown it: `.` is the root.
pub(crate) fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        ".".to_owned()
    } else {
        crate::console::printable(path)
    }
}

/// So many entries, in words.
pub(crate) fn entries_in_words(entries: u64) -> String {
    match entries {
        1 => "1 entry".to_owned(),
        _ => format!("{entries} entries"),
    }
}

/// An entry as the kernel shows it, without extended attributes.
pub(crate) struct Look {
    pub(crate) entry: Entry,
    /// The file system it is on.
    pub(crate) device: (u32, u32),
}

/// Looks at the entry `name` in `folder`, itself and not what it may point to; `None` when it is gone.
/// `path` becomes the entry's path.
pub(crate) fn look(
    folder: BorrowedFd<'_>,
    name: &[u8],
    path: Vec<u8>,
) -> Result<Option<Look>, Errno> {
    let found = match statx(
        folder,
        name,
        AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::BASIC_STATS,
    ) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let kind = match kind_of(&found, folder, name) {
        Ok(kind) => kind,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_file = kind == Kind::File;
    let size = if is_file { found.stx_size } else { 0 };
    Ok(Some(Look {
        device: (found.stx_dev_major, found.stx_dev_minor),
        entry: Entry {
            path,
            mode: u32::from(found.stx_mode) & 0o7777,
            uid: found.stx_uid,
            gid: found.stx_gid,
            mtime: time(found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
            ctime: time(found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
            inode: found.stx_ino,
            device_links: found.stx_nlink,
            size,
            sparse: is_file
                && found
                    .stx_blocks
                    .saturating_mul(STAT_BLOCK)
                    .saturating_add(SPARSE_FLOOR)
                    <= size,
            sent: 0,
            xattrs: Vec::new(),
            kind,
        },
    }))
}

fn time(sec: i64, nanos: u32) -> Time {
    Time { sec, nanos }
}

fn kind_of(found: &Statx, folder: BorrowedFd<'_>, name: &[u8]) -> Result<Kind, Errno> {
    let device = |block| Kind::Device {
        block,
        major: found.stx_rdev_major,
        minor: found.stx_rdev_minor,
    };
    Ok(match FileType::from_raw_mode(u32::from(found.stx_mode)) {
        FileType::Directory => Kind::Folder,
        FileType::Symlink => Kind::Link {
            target: readlinkat(folder, name, Vec::new())?.into_bytes(),
        },
        FileType::Fifo => Kind::Pipe,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => device(false),
        FileType::BlockDevice => device(true),
        FileType::RegularFile | FileType::Unknown => Kind::File,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain(b"a/b c/\xff", Ok(()))]
    #[case::root(b"", Ok(()))]
    #[case::dots_in_names(b"...", Ok(()))]
    #[case::deeper_lost_and_found(b"a/lost+found", Ok(()))]
    #[case::absolute(b"/etc/passwd", Err(PathFault::Absolute))]
    #[case::climbing(b"a/../../b", Err(PathFault::Climbing))]
    #[case::parent(b"..", Err(PathFault::Climbing))]
    #[case::here(b"./a", Err(PathFault::Climbing))]
    #[case::doubled(b"a//b", Err(PathFault::EmptyPart))]
    #[case::trailing(b"a/", Err(PathFault::EmptyPart))]
    #[case::zero(b"a\0b", Err(PathFault::Zero))]
    #[case::lost_and_found(b"lost+found/x", Err(PathFault::LostAndFound))]
    fn only_paths_strictly_below_the_root_pass(
        #[case] path: &[u8],
        #[case] expected: Result<(), PathFault>,
    ) {
        assert_eq!(check_path(path), expected);
    }

    #[test]
    fn names_and_paths_that_no_file_system_takes_are_refused() {
        assert_eq!(check_path(&[b'n'; 255]), Ok(()));
        assert_eq!(check_path(&[b'n'; 256]), Err(PathFault::TooLong));
        let deep = b"ab/".repeat(2000);
        assert_eq!(check_path(&deep), Err(PathFault::TooLong));
    }

    #[test]
    fn a_path_is_split_and_joined_at_its_last_slash() {
        for (folder, name, path) in [
            (&b""[..], &b"a"[..], &b"a"[..]),
            (b"a", b"b", b"a/b"),
            (b"a/b", b"c", b"a/b/c"),
        ] {
            assert_eq!(split(path), (folder, name));
            assert_eq!(join(folder, name), path);
        }
    }
}
