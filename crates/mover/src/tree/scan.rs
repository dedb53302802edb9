//! Reading a tree: one look at each entry, no byte of any file.

mod moving;

use std::collections::HashSet;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::Dir;
use rustix::io::Errno;

use super::beneath::Root;
use super::entry::{self, Entry, Look, look};
use super::{Failure, cure, sparse, xattrs};
use crate::fs::LOST_AND_FOUND;

pub(crate) use moving::scan_moving;

/// Threads that read folders at the same time.
const THREADS: usize = 2;

/// Why a tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("the volume at {path} cannot be opened: {source}")]
    Root { path: String, source: Errno },
    #[error("the folder {path} cannot be read: {source}{}", cure(*.source))]
    Folder { path: String, source: Errno },
    #[error("{path} cannot be looked at: {source}{}", cure(*.source))]
    Entry { path: String, source: Errno },
}

impl From<ScanError> for Failure {
    fn from(error: ScanError) -> Self {
        let (action, path, source) = match error {
            ScanError::Root { path, source } => ("opening the volume", path, source),
            ScanError::Folder { path, source } => ("reading the folder", path, source),
            ScanError::Entry { path, source } => ("looking at", path, source),
        };
        Self {
            action,
            path,
            source,
        }
    }
}

/// A tree as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// All entries, sorted by the bytes of their paths; the root with its empty path is the first.
    pub(crate) entries: Vec<Entry>,
    /// Regular files among them, a file with several names once.
    pub(crate) files: u64,
    /// The sum of their sizes.
    pub(crate) bytes: u64,
}

impl Scan {
    /// A scan of these entries.
    pub(crate) fn of(mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        let (mut files, mut bytes) = (0, 0);
        let mut linked = HashSet::new();
        for entry in entries.iter().filter(|entry| entry.is_file()) {
            if entry.device_links == 1 || linked.insert(entry.inode) {
                files += 1;
                bytes += entry.size;
            }
        }
        Self {
            entries,
            files,
            bytes,
        }
    }

    /// Entries below the root.
    pub(crate) fn held(&self) -> u64 {
        let below = self.entries.iter().filter(|entry| !entry.is_root());
        below.count() as u64
    }

    /// The entry at `path`.
    pub(crate) fn at(&self, path: &[u8]) -> Option<&Entry> {
        super::find(&self.entries, path)
    }
}

/// Reads the tree at `root` without leaving its file system and without its `lost+found`. What vanishes while it is
/// read is left out.
pub(crate) fn scan(root: &Path) -> Result<Scan, ScanError> {
    Reader::of(root, false)?.read_all()
}

/// Reads the tree as [`scan`] does, and makes every folder writable for its owner on the way.
pub(super) fn scan_and_open_up(root: &Path) -> Result<Scan, ScanError> {
    // A root that its owner cannot read could not even be opened.
    let _ = open_up_root(root);
    Reader::of(root, true)?.read_all()
}

/// Looks at an open folder itself.
fn look_at(
    folder: BorrowedFd<'_>,
    path: Vec<u8>,
    buffer: &mut xattrs::Buffer,
) -> Result<Look, ScanError> {
    let shown = entry::shown(&path);
    let failed = |source| ScanError::Entry {
        path: shown.clone(),
        source,
    };
    let mut found = look(folder, b".", path)
        .map_err(failed)?
        .ok_or_else(|| failed(Errno::NOENT))?;
    found.entry.xattrs = xattrs::read(folder, b".", buffer).map_err(failed)?;
    Ok(found)
}

fn open_up_root(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path)?.permissions().mode() & 0o7777;
    if mode & 0o700 == 0o700 {
        return Ok(());
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode | 0o700))
}

/// Reads folders of one tree.
struct Reader {
    root: Root,
    /// The file system of the root.
    device: (u32, u32),
    open_up: bool,
}

/// What the threads share.
#[derive(Default)]
struct Queue {
    /// Folders that nobody has read yet.
    folders: Vec<Vec<u8>>,
    /// Folders being read.
    busy: usize,
    failed: Option<ScanError>,
}

struct Scanner<'a> {
    reader: &'a Reader,
    queue: Mutex<Queue>,
    more: Condvar,
}

impl Scanner<'_> {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads folders until there are none left, or one failed.
    fn work(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut buffer = xattrs::Buffer::new();
        while let Some(folder) = self.next() {
            let mut below = Vec::new();
            let outcome = self
                .reader
                .read(&folder, &mut buffer, &mut entries, &mut below);
            let mut queue = self.lock();
            queue.busy -= 1;
            queue.folders.append(&mut below);
            if let Err(error) = outcome {
                queue.failed.get_or_insert(error);
            }
            drop(queue);
            self.more.notify_all();
        }
        entries
    }

    fn next(&self) -> Option<Vec<u8>> {
        let mut queue = self.lock();
        loop {
            if queue.failed.is_some() {
                return None;
            }
            if let Some(folder) = queue.folders.pop() {
                queue.busy += 1;
                return Some(folder);
            }
            if queue.busy == 0 {
                return None;
            }
            queue = self
                .more
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Reader {
    fn of(path: &Path, open_up: bool) -> Result<Self, ScanError> {
        let failed = |source| ScanError::Root {
            path: path.display().to_string(),
            source,
        };
        let root = Root::open(path).map_err(failed)?;
        let found = look(root.itself(), b".", Vec::new()).map_err(failed)?;
        let device = found.ok_or_else(|| failed(Errno::NOENT))?.device;
        Ok(Self {
            root,
            device,
            open_up,
        })
    }

    fn read_all(&self) -> Result<Scan, ScanError> {
        let itself = look_at(self.root.itself(), Vec::new(), &mut xattrs::Buffer::new())?;
        let scanner = Scanner {
            reader: self,
            queue: Mutex::new(Queue {
                folders: vec![Vec::new()],
                ..Queue::default()
            }),
            more: Condvar::new(),
        };
        let found = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..THREADS)
                .map(|_| scope.spawn(|| scanner.work()))
                .collect();
            let mut found = vec![itself.entry];
            for worker in workers {
                match worker.join() {
                    Ok(entries) => found.extend(entries),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            found
        });
        match scanner.lock().failed.take() {
            Some(error) => Err(error),
            None => Ok(Scan::of(found)),
        }
    }

    fn read(
        &self,
        folder: &[u8],
        buffer: &mut xattrs::Buffer,
        entries: &mut Vec<Entry>,
        below: &mut Vec<Vec<u8>>,
    ) -> Result<(), ScanError> {
        let failed = |source| ScanError::Folder {
            path: entry::shown(folder),
            source,
        };
        let handle = match self.open(folder) {
            Ok(handle) => handle,
            // It vanished, or something else came into its place, while the volume was read.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !folder.is_empty() => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for child in Dir::read_from(&handle).map_err(failed)? {
            let child = child.map_err(failed)?;
            let name = child.file_name().to_bytes();
            if matches!(name, b"." | b"..")
                || (folder.is_empty() && name == LOST_AND_FOUND.as_bytes())
            {
                continue;
            }
            let path = entry::join(folder, name);
            let failed = |source| ScanError::Entry {
                path: entry::shown(&path),
                source,
            };
            let Some(mut found) = look(handle.as_fd(), name, path.clone()).map_err(failed)? else {
                continue;
            };
            match xattrs::read(handle.as_fd(), name, buffer) {
                Ok(attributes) => found.entry.xattrs = attributes,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(error)),
            }
            if found.entry.sparse {
                found.entry.sparse = sparse::has_hole(handle.as_fd(), name);
            }
            if found.entry.is_folder() && found.device == self.device {
                below.push(path);
            }
            entries.push(found.entry);
        }
        Ok(())
    }

    fn open(&self, folder: &[u8]) -> Result<OwnedFd, Errno> {
        if self.open_up {
            match self.root.open_up(folder) {
                // Somebody else's folder: what cannot be done in it will show.
                Ok(()) | Err(Errno::PERM | Errno::ROFS) => {}
                Err(error) => return Err(error),
            }
        }
        self.root.list(folder)
    }
}
