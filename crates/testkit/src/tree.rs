//! Whole trees as values: everything that a copy of a volume has to keep, read once and compared entry by entry.
//!
//! Paths are bytes from end to end: file names need not be UTF-8.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// At least this many bytes must be missing on disk before a file counts as sparse.
const SPARSE_FLOOR: u64 = 1 << 20;

/// What kind of thing an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharDevice,
}

/// Everything that is compared of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, set-id and sticky bits included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last change of the content, seconds and nanoseconds since the epoch.
    pub mtime: (i64, i64),
    /// Bytes of a regular file; 0 for everything else.
    pub size: u64,
    /// SHA-256 of a regular file's content.
    pub hash: Option<[u8; 32]>,
    /// Extended attributes, POSIX ACLs among them.
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
    /// Where a symbolic link points.
    pub target: Option<PathBuf>,
    /// Number of a device.
    pub device: u64,
    /// The first path (in byte order) of the same inode, when there are several.
    pub linked_with: Option<PathBuf>,
    /// Whether a large part of the file takes no place on disk.
    pub sparse: bool,
}

/// Which of an entry's properties are not compared, because the copy in question does not promise them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ignore {
    /// Owner and group.
    pub owner: bool,
    /// Extended attributes and ACLs.
    pub xattrs: bool,
    /// The attributes of the tree's own root directory.
    pub root: bool,
}

/// A directory tree, read whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
}

impl Tree {
    /// Reads the tree under `root`; the root itself is the entry with the empty path.
    pub fn scan(root: &Path) -> Result<Self> {
        let mut entries = BTreeMap::new();
        let mut pending = vec![PathBuf::new()];
        while let Some(relative) = pending.pop() {
            let path = if relative.as_os_str().is_empty() {
                root.to_owned()
            } else {
                root.join(&relative)
            };
            let metadata = fs::symlink_metadata(&path)
                .with_context(|| format!("cannot look at {}", path.display()))?;
            if metadata.is_dir() {
                for child in fs::read_dir(&path)
                    .with_context(|| format!("cannot list {}", path.display()))?
                {
                    pending.push(relative.join(child?.file_name()));
                }
            }
            let entry = read_entry(&path, &metadata)?;
            entries.insert(
                relative,
                (entry, (metadata.dev(), metadata.ino()), metadata.nlink()),
            );
        }
        Ok(Self {
            entries: with_hard_links(entries),
        })
    }

    /// The entries by path.
    pub fn entries(&self) -> &BTreeMap<PathBuf, Entry> {
        &self.entries
    }

    /// How many entries there are below the root.
    pub fn len(&self) -> usize {
        self.entries.len().saturating_sub(1)
    }

    /// Whether nothing is below the root.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sum of all file sizes, in bytes.
    pub fn bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.size).sum()
    }

    /// The tree without a top-level entry of this name and all that is below it.
    #[must_use]
    pub fn without(mut self, top: impl AsRef<OsStr>) -> Self {
        let top = top.as_ref();
        self.entries.retain(|path, _| {
            path.components()
                .next()
                .is_none_or(|first| first.as_os_str() != top)
        });
        self
    }

    /// Every difference to `copy`, each as one line; empty when both are alike.
    pub fn differences(&self, copy: &Self, ignore: Ignore) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, entry) in &self.entries {
            match copy.entries.get(path) {
                None => lines.push(format!("{}: missing", show(path))),
                Some(other) if path.as_os_str().is_empty() && ignore.root => {
                    if other.kind != entry.kind {
                        lines.push("the root is no directory".to_owned());
                    }
                }
                Some(other) => compare(path, entry, other, ignore, &mut lines),
            }
        }
        for path in copy
            .entries
            .keys()
            .filter(|path| !self.entries.contains_key(*path))
        {
            lines.push(format!("{}: should not be there", show(path)));
        }
        lines
    }

    /// An error that lists the first differences to `copy`, if there are any.
    pub fn must_equal(&self, copy: &Self, ignore: Ignore) -> Result<()> {
        let lines = self.differences(copy, ignore);
        if lines.is_empty() {
            return Ok(());
        }
        let shown = lines
            .iter()
            .take(40)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n  ");
        bail!(
            "{} differences between {} and {} entries:\n  {shown}",
            lines.len(),
            self.len(),
            copy.len()
        )
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} entries, {} bytes", self.len(), self.bytes())
    }
}

#[expect(
    clippy::unnecessary_debug_formatting,
    reason = "line breaks and odd bytes must be seen"
)]
fn show(path: &Path) -> String {
    if path.as_os_str().is_empty() {
        ".".to_owned()
    } else {
        format!("{:?}", path.as_os_str())
    }
}

fn compare(path: &Path, entry: &Entry, other: &Entry, ignore: Ignore, lines: &mut Vec<String>) {
    let mut differs = |what: &str, ours: &dyn fmt::Debug, theirs: &dyn fmt::Debug| {
        let (ours, theirs) = (format!("{ours:?}"), format!("{theirs:?}"));
        if ours != theirs {
            lines.push(format!("{}: {what} {ours} became {theirs}", show(path)));
        }
    };
    differs("kind", &entry.kind, &other.kind);
    differs(
        "mode",
        &format!("{:o}", entry.mode),
        &format!("{:o}", other.mode),
    );
    differs("modification time", &entry.mtime, &other.mtime);
    differs("size", &entry.size, &other.size);
    differs("content", &entry.hash, &other.hash);
    differs("link target", &entry.target, &other.target);
    differs("device", &entry.device, &other.device);
    differs("hard link to", &entry.linked_with, &other.linked_with);
    if !ignore.owner {
        differs("owner", &(entry.uid, entry.gid), &(other.uid, other.gid));
    }
    if !ignore.xattrs {
        differs("extended attributes", &entry.xattrs, &other.xattrs);
    }
    // A copy may have more holes than its source, never fewer.
    if entry.sparse && !other.sparse {
        differs("sparse", &true, &false);
    }
}

fn read_entry(path: &Path, metadata: &Metadata) -> Result<Entry> {
    let kind = kind_of(metadata)?;
    let is_file = kind == Kind::File;
    Ok(Entry {
        kind,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        size: if is_file { metadata.size() } else { 0 },
        hash: if is_file { Some(hash(path)?) } else { None },
        xattrs: xattrs(path)?,
        target: if kind == Kind::Symlink {
            Some(fs::read_link(path)?)
        } else {
            None
        },
        device: if matches!(kind, Kind::BlockDevice | Kind::CharDevice) {
            metadata.rdev()
        } else {
            0
        },
        linked_with: None,
        sparse: is_file && metadata.blocks() * 512 + SPARSE_FLOOR <= metadata.size(),
    })
}

fn kind_of(metadata: &Metadata) -> Result<Kind> {
    let kind = metadata.file_type();
    Ok(if kind.is_dir() {
        Kind::Directory
    } else if kind.is_file() {
        Kind::File
    } else if kind.is_symlink() {
        Kind::Symlink
    } else if kind.is_fifo() {
        Kind::Fifo
    } else if kind.is_socket() {
        Kind::Socket
    } else if kind.is_block_device() {
        Kind::BlockDevice
    } else if kind.is_char_device() {
        Kind::CharDevice
    } else {
        bail!("an entry of unknown type: {metadata:?}")
    })
}

fn hash(path: &Path) -> Result<[u8; 32]> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file
            .read(&mut buffer)
            .with_context(|| format!("cannot read {}", path.display()))?;
        match buffer.get(..count) {
            None | Some([]) => return Ok(digest.finalize().into()),
            Some(chunk) => digest.update(chunk),
        }
    }
}

fn xattrs(path: &Path) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let names = match xattr::list(path) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => return Ok(BTreeMap::new()),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot list attributes of {}", path.display()));
        }
    };
    let mut found = BTreeMap::new();
    for name in names {
        if let Some(value) = xattr::get(path, &name)? {
            found.insert(name, value);
        }
    }
    Ok(found)
}

type Inode = (u64, u64);

fn with_hard_links(entries: BTreeMap<PathBuf, (Entry, Inode, u64)>) -> BTreeMap<PathBuf, Entry> {
    let mut groups: HashMap<Inode, Vec<PathBuf>> = HashMap::new();
    for (path, (entry, inode, links)) in &entries {
        if entry.kind != Kind::Directory && *links > 1 {
            groups.entry(*inode).or_default().push(path.clone());
        }
    }
    entries
        .into_iter()
        .map(|(path, (mut entry, inode, _))| {
            entry.linked_with = groups
                .get(&inode)
                .filter(|group| group.len() > 1)
                .and_then(|group| group.first())
                .cloned();
            (path, entry)
        })
        .collect()
}

/// A path from raw bytes.
pub fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

/// The raw bytes of a path.
pub fn bytes_of(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus;

    #[test]
    fn a_tree_equals_itself_and_its_faithful_copy() {
        let folder = tempfile::tempdir().unwrap();
        let (source, copy) = (folder.path().join("source"), folder.path().join("copy"));
        corpus::hostile(&source, rustix::process::geteuid().as_raw()).unwrap();
        let status = std::process::Command::new("cp")
            .arg("-a")
            .arg(&source)
            .arg(&copy)
            .status()
            .unwrap();
        assert!(status.success());
        let tree = Tree::scan(&source).unwrap();
        assert!(tree.len() > 30);
        assert_eq!(
            tree.differences(&Tree::scan(&copy).unwrap(), Ignore::default()),
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_kind_of_change_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("content"), "one").unwrap();
        fs::write(root.join("gone"), "").unwrap();
        fs::hard_link(root.join("content"), root.join("link")).unwrap();
        let before = Tree::scan(root).unwrap();
        fs::write(root.join("content"), "two").unwrap();
        fs::remove_file(root.join("gone")).unwrap();
        fs::remove_file(root.join("link")).unwrap();
        std::os::unix::fs::symlink("content", root.join("link")).unwrap();
        fs::write(root.join("new"), "").unwrap();
        xattr::set(root.join("content"), "user.color", b"red").unwrap();
        let lines = before.differences(
            &Tree::scan(root).unwrap(),
            Ignore {
                root: true,
                ..Ignore::default()
            },
        );
        let all = lines.join("\n");
        for expected in [
            "\"content\": content",
            "\"content\": extended attributes",
            "\"content\": hard link to",
            "\"gone\": missing",
            "\"link\": kind File became Symlink",
            "\"new\": should not be there",
        ] {
            assert!(all.contains(expected), "{expected} is not among\n{all}");
        }
    }
}
