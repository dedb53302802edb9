//! Making way for a transfer: what stands where something of another kind will come is removed before any program writes
//! there. A symbolic link in the place of a folder would lead that program out of the volume.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::beneath::Root;
use super::entry::{Entry, split};
use super::linked::Linked;
use super::remove::remove;
use super::scan::{Scan, scan_and_open_up};
use super::{Failure, Kind, find, position};

/// What will stand at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Folder,
    File,
    Other,
}

impl Want {
    fn of(entry: &Entry) -> Self {
        match entry.kind {
            Kind::Folder => Self::Folder,
            Kind::File => Self::File,
            _ => Self::Other,
        }
    }

    /// Can the transfer or the restoration deal with `present` in this place?
    fn takes(self, present: &Entry) -> bool {
        match self {
            Self::Folder => present.is_folder(),
            Self::File => present.is_file(),
            Self::Other => !present.is_folder(),
        }
    }
}

/// Removes from the tree at `root` what is of another kind than the entry of that path in `entries` (sorted by path), and
/// names of files that `entries` has apart; makes all folders writable for their owner. Returns what is there then.
pub(crate) fn prepare(root: &Path, entries: &[Entry]) -> Result<Scan, Failure> {
    let present = scan_and_open_up(root)?;
    let mut doomed: Vec<Vec<u8>> = present
        .entries
        .iter()
        .filter(|entry| {
            find(entries, &entry.path).is_some_and(|wanted| !Want::of(wanted).takes(entry))
        })
        .map(|entry| entry.path.clone())
        .collect();
    doomed.extend(wrongly_linked(&present.entries, entries));
    clear(root, present, &doomed)
}

/// The same for a transfer of which only the files' paths are known.
pub(crate) fn prepare_for_files<'a>(
    root: &Path,
    files: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Scan, Failure> {
    let mut wanted: HashMap<&[u8], Want> = HashMap::new();
    for file in files {
        let (mut folder, _) = split(file);
        while !folder.is_empty() && wanted.insert(folder, Want::Folder) != Some(Want::Folder) {
            folder = split(folder).0;
        }
        wanted.entry(file).or_insert(Want::File);
    }
    let present = scan_and_open_up(root)?;
    let doomed: Vec<Vec<u8>> = present
        .entries
        .iter()
        .filter(|entry| {
            wanted
                .get(entry.path.as_slice())
                .is_some_and(|want| !want.takes(entry))
        })
        .map(|entry| entry.path.clone())
        .collect();
    clear(root, present, &doomed)
}

/// Names of one file that will be names of several.
fn wrongly_linked(present: &[Entry], entries: &[Entry]) -> Vec<Vec<u8>> {
    let here = Linked::of(present);
    if here.len() == 0 {
        return Vec::new();
    }
    let there = Linked::of(entries);
    let mut files: HashMap<usize, usize> = HashMap::new();
    let mut wrong = Vec::new();
    for (index, entry) in present.iter().enumerate() {
        if !entry.is_file() || !entry.has_other_names() {
            continue;
        }
        let Some(wanted) = position(entries, &entry.path).map(|at| there.file(at)) else {
            continue;
        };
        if *files.entry(here.file(index)).or_insert(wanted) != wanted {
            wrong.push(entry.path.clone());
        }
    }
    wrong
}

fn clear(root: &Path, present: Scan, doomed: &[Vec<u8>]) -> Result<Scan, Failure> {
    if doomed.is_empty() {
        return Ok(present);
    }
    let root = Root::open(root).map_err(|error| Failure::new("opening", b"", error))?;
    for path in doomed {
        remove(&root, path)?;
    }
    let gone: HashSet<&[u8]> = doomed.iter().map(Vec::as_slice).collect();
    let mut left = present.entries;
    left.retain(|entry| !is_below(&entry.path, &gone));
    Ok(Scan::of(left))
}

/// Is `path`, or a folder above it, among `gone`?
fn is_below(path: &[u8], gone: &HashSet<&[u8]>) -> bool {
    let mut path = path;
    while !path.is_empty() {
        if gone.contains(path) {
            return true;
        }
        path = split(path).0;
    }
    false
}
