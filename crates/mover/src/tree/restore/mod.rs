//! Giving a tree back what a transfer of bare files loses: folders, links, other names of files, pipes, sockets, devices,
//! owners, modes, attributes, holes and times.
//!
//! Whatever this process is not allowed to do is noted and goes on; whatever fails otherwise ends the restoration.

mod dress;
mod make;

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::io::Errno;

use super::beneath::{Parents, Root};
use super::entry::{Entry, look, shown};
use super::linked::Linked;
use super::scan::Scan;
use super::unpreserved::Unpreserved;
use super::{Failure, position, xattrs};

/// Why a tree could not be restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error(
        "the file {path} did not arrive in the volume, although the manifest has it; the next run fetches it, and if it is \
         missing from the store for good, a full check of the source uploads it again"
    )]
    Missing { path: String },
    #[error(
        "the file {path} arrived with {found} bytes, the manifest has {expected}; somebody else writes to the source's path \
         in the store: give every source a path of its own"
    )]
    Differs {
        path: String,
        expected: u64,
        found: u64,
    },
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl RestoreError {
    /// Is there no room left?
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Failed(failure) if failure.is_full())
    }
}

/// Gives the tree at `root` the state of `entries`, which are sorted by path and begin with the root. Their regular files
/// have to be there already; of a file with several names the first is enough.
///
/// `present` is what was there before the transfer: what was right then is not looked at again. An empty one makes it look
/// at everything.
pub(crate) fn restore(
    root: &Path,
    entries: &[Entry],
    present: &Scan,
) -> Result<Unpreserved, RestoreError> {
    let root = Root::open(root).map_err(|error| Failure::new("opening", b"", error))?;
    let mut restorer = Restorer {
        root: &root,
        entries,
        linked: Linked::of(entries),
        present: &present.entries,
        right: vec![false; entries.len()],
        buffer: xattrs::Buffer::new(),
        lost: Unpreserved::default(),
    };
    restorer.find_what_is_right();
    restorer.folders()?;
    restorer.contents()?;
    restorer.dress_folders()?;
    Ok(restorer.lost)
}

struct Restorer<'a> {
    root: &'a Root,
    entries: &'a [Entry],
    linked: Linked,
    present: &'a [Entry],
    /// By index: was the entry right before the transfer?
    right: Vec<bool>,
    buffer: xattrs::Buffer,
    lost: Unpreserved,
}

/// An entry and where it belongs.
struct Item<'a> {
    want: &'a Entry,
    folder: BorrowedFd<'a>,
    name: &'a [u8],
}

impl Item<'_> {
    fn failed(&self, action: &'static str) -> impl Fn(Errno) -> Failure {
        let path = shown(&self.want.path);
        move |source| Failure {
            action,
            path: path.clone(),
            source,
        }
    }

    /// What is there now.
    fn have(&self) -> Result<Option<Entry>, Failure> {
        let found = look(self.folder, self.name, self.want.path.clone());
        Ok(found
            .map_err(self.failed("looking at"))?
            .map(|found| found.entry))
    }
}

impl Restorer<'_> {
    /// Folders are never right: a transfer into them changes their times.
    fn find_what_is_right(&mut self) {
        let mut places = Vec::with_capacity(self.entries.len());
        for (index, want) in self.entries.iter().enumerate() {
            let place = position(self.present, &want.path);
            places.push(place);
            let have = place.and_then(|at| self.present.get(at));
            let mut right = have.is_some_and(|have| !want.is_folder() && is_right(want, have));
            if let Some(first) = self.linked.first(index).filter(|_| right) {
                let first_place = places.get(first).copied().flatten();
                let first_have = first_place.and_then(|at| self.present.get(at));
                let was_linked = have.map(|have| have.inode) == first_have.map(|have| have.inode);
                right = was_linked && self.is_right(first);
            }
            if let Some(slot) = self.right.get_mut(index) {
                *slot = right;
            }
        }
    }

    fn is_right(&self, index: usize) -> bool {
        self.right.get(index).copied().unwrap_or_default()
    }

    /// Makes the folders that are missing, from above.
    fn folders(&mut self) -> Result<(), Failure> {
        let mut parents = Parents::new(self.root);
        for want in self.entries.iter().filter(|entry| entry.is_folder()) {
            let item = item(want, &mut parents)?;
            let have = item.have()?;
            if have.as_ref().is_some_and(Entry::is_folder) {
                // In somebody else's folder: what cannot be done there shows.
                let _ = self.root.open_up(&want.path);
                continue;
            }
            if have.is_some() {
                super::remove::remove(self.root, &want.path)?;
            }
            make::folder(&item)?;
        }
        Ok(())
    }

    /// Makes and dresses everything but folders.
    fn contents(&mut self) -> Result<(), RestoreError> {
        let entries = self.entries;
        let mut parents = Parents::new(self.root);
        let mut firsts = Parents::new(self.root);
        for (index, want) in entries.iter().enumerate() {
            if want.is_folder() || self.is_right(index) {
                continue;
            }
            let item = item(want, &mut parents)?;
            let first = self.linked.first(index).and_then(|at| entries.get(at));
            if let Some(first) = first {
                let original = self::item(first, &mut firsts)?;
                if self.is_linked(&item, &original)? {
                    continue;
                }
            }
            let have = make::entry(self, &item)?;
            let Some(have) = have else { continue };
            self.dress(&item, have)?;
        }
        Ok(())
    }

    /// Makes `item` another name of `original`. `false` when that cannot be and it has to be a file by itself.
    fn is_linked(&mut self, item: &Item<'_>, original: &Item<'_>) -> Result<bool, Failure> {
        let Some(first) = original.have()? else {
            // It could not be made, a device without the right to it for instance.
            return Ok(false);
        };
        let have = item.have()?;
        if have.as_ref().is_some_and(|have| have.inode == first.inode) {
            return Ok(true);
        }
        make::link(self, item, original, have.as_ref())
    }

    /// Dresses folders, from below: what is done in a folder changes its time, and its mode can forbid the doing.
    fn dress_folders(&mut self) -> Result<(), Failure> {
        let mut parents = Parents::new(self.root);
        for want in self.entries.iter().rev().filter(|entry| entry.is_folder()) {
            let item = item(want, &mut parents)?;
            let have = item
                .have()?
                .ok_or_else(|| item.failed("looking at the folder")(Errno::NOENT))?;
            self.dress(&item, have)?;
        }
        Ok(())
    }
}

fn item<'a>(want: &'a Entry, parents: &'a mut Parents<'_>) -> Result<Item<'a>, Failure> {
    let (folder, name) = parents
        .of(&want.path)
        .map_err(|error| Failure::new("opening the folder of", &want.path, error))?;
    Ok(Item { want, folder, name })
}

/// Is everything as it should be, as far as anybody can set it? Holes are dug in what a transfer wrote, and not sought in
/// what is there: on a file system that has none that would mean to read everything in every run.
fn is_right(want: &Entry, have: &Entry) -> bool {
    want.looks_like(have)
        && (want.mode, want.uid, want.gid) == (have.mode, have.uid, have.gid)
        && want.xattrs == have.xattrs
}
