//! Opening folders beneath a root. The kernel refuses every link and every way out.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, chmodat, open, openat, openat2};
use rustix::io::Errno;

use super::entry::{look, split};

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);
const FOLDER: OFlags = OFlags::DIRECTORY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);

/// What an owner needs to change a folder.
const OWNERS_WAY_IN: u32 = 0o700;

/// An open root.
pub(crate) struct Root {
    folder: OwnedFd,
}

impl Root {
    /// Opens the root; links in the path to it count.
    pub(crate) fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(path, flags, Mode::empty())?;
        Ok(Self { folder })
    }

    /// The root's own handle.
    pub(super) fn itself(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Opens a folder to list it.
    pub(super) fn list(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open_with(path, FOLDER | OFlags::RDONLY)
    }

    /// Opens a folder to name entries in it, which takes no right to read it.
    pub(super) fn folder(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open_with(path, FOLDER | OFlags::PATH)
    }

    fn open_with(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        openat2(&self.folder, path, flags, Mode::empty(), RESOLVE)
    }

    /// Gives the owner of a folder all rights in it, if it lacks some and this is the owner. Every folder above has to
    /// be open already.
    pub(super) fn open_up(&self, path: &[u8]) -> Result<(), Errno> {
        let mut parents = Parents::new(self);
        let (folder, name) = parents.of(path)?;
        let found = look(folder, name, Vec::new())?.ok_or(Errno::NOENT)?;
        let mode = found.entry.mode;
        if mode & OWNERS_WAY_IN == OWNERS_WAY_IN || !found.entry.is_folder() {
            return Ok(());
        }
        set_mode(folder, name, mode | OWNERS_WAY_IN)
    }
}

/// Sets an entry's permission bits. The kernel's own call follows links, which somebody may put there at any time; the
/// entry is held first, and a link has no bits to set.
pub(crate) fn set_mode(folder: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = openat(folder, name, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty())
}

/// Opens the folders that entries lie in, and keeps the last one open: entries come sorted.
pub(crate) struct Parents<'a> {
    root: &'a Root,
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl<'a> Parents<'a> {
    pub(crate) fn new(root: &'a Root) -> Self {
        Self { root, last: None }
    }

    /// The folder that holds the entry at `path`, and its name there. The root's is `.` in itself.
    pub(crate) fn of<'b>(
        &'b mut self,
        path: &'b [u8],
    ) -> Result<(BorrowedFd<'b>, &'b [u8]), Errno> {
        if path.is_empty() {
            return Ok((self.root.itself(), b"."));
        }
        let (folder, name) = split(path);
        if folder.is_empty() {
            return Ok((self.root.itself(), name));
        }
        let known = self.last.take().filter(|(known, _)| known == folder);
        let opened = match known {
            Some(opened) => opened,
            None => (folder.to_vec(), self.root.folder(folder)?),
        };
        let opened = self.last.insert(opened);
        Ok((opened.1.as_fd(), name))
    }

    /// Forgets the open folder: it may have been replaced.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    #[test]
    fn no_way_beneath_a_root_leads_over_a_link_or_upwards() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("root/a/b")).unwrap();
        std::fs::create_dir(folder.path().join("outside")).unwrap();
        symlink("../outside", folder.path().join("root/out")).unwrap();
        symlink("a", folder.path().join("root/inside")).unwrap();
        let root = Root::open(&folder.path().join("root")).unwrap();
        assert!(root.list(b"").is_ok());
        assert!(root.list(b"a/b").is_ok());
        for path in [
            &b"out"[..],
            b"inside",
            b"inside/b",
            b"..",
            b"a/../../outside",
            b"/etc",
        ] {
            assert!(root.list(path).is_err());
            assert!(root.folder(path).is_err());
        }
        let mut parents = Parents::new(&root);
        assert!(parents.of(b"out/new").is_err());
        assert!(parents.of(b"a/b/new").is_ok());
    }

    #[test]
    fn a_links_target_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        symlink("file", folder.path().join("link")).unwrap();
        let root = Root::open(folder.path()).unwrap();
        set_mode(root.itself(), b"file", 0o4751).unwrap();
        assert!(set_mode(root.itself(), b"link", 0o777).is_err());
        let found = std::fs::metadata(folder.path().join("file")).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o4751);
    }
}
