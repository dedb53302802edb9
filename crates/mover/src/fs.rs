//! Files as movers need them: private copies, a census of a tree, and paths that cannot leave their root.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::report::{Fault, reason};

/// The folder that mkfs makes at the root of ext file systems. It belongs to the file system, not to the data.
pub(crate) const LOST_AND_FOUND: &str = "lost+found";

/// Writes `content` to a new file that only its owner can read.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)
}

/// A folder only its owner can enter, for keys, configuration and sockets. It is removed when dropped.
pub(crate) struct PrivateFolder {
    folder: tempfile::TempDir,
}

impl PrivateFolder {
    /// Makes one in `scratch`.
    pub(crate) fn make(scratch: &Path) -> Result<Self, Fault> {
        // The name is short: the path of a Unix socket in it must stay below 108 bytes.
        let folder = tempfile::Builder::new().prefix("sl").rand_bytes(6).permissions(Permissions::from_mode(0o700)).tempdir_in(scratch).map_err(|error| {
            Fault::new(
                reason::POD_INCOMPLETE,
                format!("no temporary folder can be made in {}: {error}; mount a writable folder there", scratch.display()),
            )
        })?;
        Ok(Self { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Does a volume hold nothing but its file system's own folder?
pub(crate) fn has_nothing(root: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(root)? {
        if entry?.file_name() != LOST_AND_FOUND {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a tree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Entries of every kind, the root itself and its `lost+found` apart.
    pub(crate) entries: u64,
    /// Sum of the sizes of regular files; a file with several names counts once.
    pub(crate) bytes: u64,
}

/// Counts the tree at `root` without leaving its file system.
///
/// Fails only when the root itself cannot be read: what is unreadable further down is the transfer's to report.
pub(crate) fn census(root: &Path) -> io::Result<Census> {
    let device = std::fs::symlink_metadata(root)?.dev();
    let mut count = Census::default();
    let mut linked = HashSet::new();
    let mut pending = vec![root.to_owned()];
    let mut at_root = true;
    while let Some(folder) = pending.pop() {
        let listing = match std::fs::read_dir(&folder) {
            Ok(listing) => listing,
            Err(error) if at_root => return Err(error),
            Err(_) => continue,
        };
        for entry in listing {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if at_root => return Err(error),
                Err(_) => break,
            };
            if at_root && entry.file_name() == LOST_AND_FOUND {
                continue;
            }
            count.entries += 1;
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                if metadata.dev() == device {
                    pending.push(entry.path());
                }
            } else if metadata.is_file()
                && (metadata.nlink() == 1 || linked.insert((metadata.dev(), metadata.ino())))
            {
                count.bytes += metadata.len();
            }
        }
        at_root = false;
    }
    Ok(count)
}

/// Where a path beneath a root leads.
#[derive(Debug)]
pub(crate) enum Place {
    /// An existing folder.
    Folder(OwnedFd),
    /// A name in an existing folder; the name does not exist, or is no folder.
    Entry {
        /// The folder.
        parent: OwnedFd,
        /// The name in it: no slash, not `.` or `..`.
        name: OsString,
    },
}

/// Why a path beneath a root leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("the path leaves the volume by a symbolic link; name a folder inside the volume")]
    Escape,
    #[error(
        "a folder on the way to the path does not exist; create it, or let rsync do so with --mkpath"
    )]
    MissingParent,
    #[error("the path cannot be opened beneath the volume's root: {0}")]
    Io(#[from] Errno),
}

/// Opens a folder as a handle for paths beneath it.
pub(crate) fn open_root(root: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Resolves `components` beneath `root`. The kernel refuses every way out of it, `..` and links included.
///
/// With `create`, folders missing on the way to the last component are made.
pub(crate) fn resolve_beneath(
    root: &OwnedFd,
    components: &[OsString],
    create: bool,
) -> Result<Place, PlaceError> {
    match open_beneath(root, components) {
        Ok(folder) => return Ok(Place::Folder(folder)),
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(error) => return Err(place_error(error)),
    }
    let Some((name, parents)) = components.split_last() else {
        return Err(PlaceError::MissingParent);
    };
    if create {
        make_folders(root, parents)?;
    }
    match open_beneath(root, parents) {
        Ok(parent) => {
            refuse_escaping_link(&parent, name)?;
            Ok(Place::Entry {
                parent,
                name: name.clone(),
            })
        }
        Err(Errno::NOENT | Errno::NOTDIR) => Err(PlaceError::MissingParent),
        Err(error) => Err(place_error(error)),
    }
}

/// Makes every missing folder of `components` beneath `root`.
pub(crate) fn make_folders(root: &OwnedFd, components: &[OsString]) -> Result<(), PlaceError> {
    for (index, name) in components.iter().enumerate() {
        let parent =
            open_beneath(root, components.get(..index).unwrap_or_default()).map_err(place_error)?;
        match rustix::fs::mkdirat(&parent, name.as_os_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(PlaceError::Io(error)),
        }
    }
    Ok(())
}

/// A dangling link as last component would be followed by whoever creates the file.
fn refuse_escaping_link(parent: &OwnedFd, name: &OsString) -> Result<(), PlaceError> {
    match rustix::fs::statat(
        parent,
        name.as_os_str(),
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    ) {
        Ok(found) if rustix::fs::FileType::from_raw_mode(found.st_mode).is_symlink() => {
            Err(PlaceError::Escape)
        }
        _ => Ok(()),
    }
}

fn open_beneath(root: &OwnedFd, components: &[OsString]) -> Result<OwnedFd, Errno> {
    let mut path = PathBuf::from(".");
    path.extend(components);
    rustix::fs::openat2(
        root.as_fd(),
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
    )
}

fn place_error(error: Errno) -> PlaceError {
    match error {
        Errno::XDEV | Errno::LOOP => PlaceError::Escape,
        Errno::NOENT | Errno::NOTDIR => PlaceError::MissingParent,
        other => PlaceError::Io(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn components(path: &str) -> Vec<OsString> {
        path.split('/').map(OsString::from).collect()
    }

    #[test]
    fn a_census_counts_names_once_and_passes_lost_and_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::create_dir(dir.path().join(LOST_AND_FOUND)).unwrap();
        std::fs::write(dir.path().join("lost+found/stray"), "x").unwrap();
        std::fs::write(dir.path().join("a/f"), "12345").unwrap();
        std::fs::hard_link(dir.path().join("a/f"), dir.path().join("a/b/g")).unwrap();
        symlink("/etc", dir.path().join("a/l")).unwrap();
        assert_eq!(
            census(dir.path()).unwrap(),
            Census {
                entries: 5,
                bytes: 5
            }
        );
    }

    #[test]
    fn a_census_of_nothing_is_an_error() {
        assert!(census(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn existing_folders_and_new_names_are_found_beneath_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let root = open_root(dir.path()).unwrap();
        assert!(matches!(
            resolve_beneath(&root, &[], false).unwrap(),
            Place::Folder(_)
        ));
        assert!(matches!(
            resolve_beneath(&root, &components("a/b"), false).unwrap(),
            Place::Folder(_)
        ));
        assert!(
            matches!(resolve_beneath(&root, &components("a/new"), false).unwrap(), Place::Entry { name, .. } if name == "new")
        );
        assert!(matches!(
            resolve_beneath(&root, &components("x/y/z"), false),
            Err(PlaceError::MissingParent)
        ));
        assert!(matches!(
            resolve_beneath(&root, &components("x/y/z"), true).unwrap(),
            Place::Entry { .. }
        ));
        assert!(dir.path().join("x/y").is_dir());
        assert!(!dir.path().join("x/y/z").exists());
    }

    #[test]
    fn links_inside_are_followed_and_links_outside_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/real")).unwrap();
        let inside = dir.path().join("root");
        symlink("real", inside.join("current")).unwrap();
        symlink("/etc", inside.join("absolute")).unwrap();
        symlink("../..", inside.join("real/up")).unwrap();
        symlink("../elsewhere", inside.join("dangling")).unwrap();
        let root = open_root(&inside).unwrap();
        assert!(matches!(
            resolve_beneath(&root, &components("current"), false).unwrap(),
            Place::Folder(_)
        ));
        for path in [
            "absolute",
            "absolute/passwd",
            "real/up",
            "real/up/x",
            "dangling",
            "..",
            "real/../../x",
        ] {
            assert!(
                matches!(
                    resolve_beneath(&root, &components(path), true),
                    Err(PlaceError::Escape)
                ),
                "{path} must be refused"
            );
        }
        assert!(!dir.path().join("elsewhere").exists());
    }
}
