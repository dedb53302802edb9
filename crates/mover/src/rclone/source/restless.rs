//! Files that never keep still: the store has them as they were at some moment, or not at all where they went before they could
//! be read.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Source;
use super::send::{LISTINGS, Sent};
use crate::rclone::listing::Found;
use crate::rclone::outcome::Setback;
use crate::rclone::passes::Pass;
use crate::rclone::store::Features;
use crate::tree::{Entry, Scan, Time, shown};

/// The longest sentence of a report, in bytes.
const LONGEST_SENTENCE: usize = 96;

impl Sent {
    /// What is to be said of files that never kept still.
    pub(super) fn restless(&self) -> Vec<String> {
        let first = self.restless.first();
        let words = first.map(|first| {
            let count = self.restless.len();
            let name = shown(first);
            let words =
                format!("{count} file(s) that changed while they were read, such as /{name}");
            syncline_api::report::head(&words, LONGEST_SENTENCE).to_owned()
        });
        let unnamed = self
            .is_unsettled
            .then(|| "files that changed while they were read".to_owned());
        words.or(unnamed).into_iter().collect()
    }
}

impl Source<'_> {
    /// Compares the store with the tree, where restless files count as the store has them. One that it does not have, since it
    /// was gone when it was to be read, leaves the tree; one that is back is sent once more.
    pub(super) async fn compare_with_restless(
        &self,
        tree: &mut Scan,
        features: Features,
        sent: &mut Sent,
    ) -> Result<Found, Setback> {
        let mut looks = 1;
        loop {
            let mut found = self.compare(tree).await?;
            accept_sizes(tree, &mut found, &sent.restless);
            let (back, gone) = self.absent(tree, &found, &sent.restless);
            looks += 1;
            if (back.is_empty() && gone.is_empty()) || looks > LISTINGS {
                return Ok(found);
            }
            sent.changed = true;
            self.copy(tree, &back, (Pass::Restless, features)).await?;
            self.forget(tree, &gone);
            sent.restless.retain(|path| !gone.contains(path));
            // They name what the tree has.
            self.send_permissions(tree, (None, false)).await?;
        }
    }

    /// The `restless` files that a listing lacks: indices of those that are there now, and paths of those that are not. What is
    /// there is never given up for a listing.
    fn absent(
        &self,
        tree: &Scan,
        found: &Found,
        restless: &BTreeSet<Vec<u8>>,
    ) -> (Vec<usize>, BTreeSet<Vec<u8>>) {
        let (mut back, mut gone) = (Vec::new(), BTreeSet::new());
        for index in &found.missing {
            let entry = tree.entries.get(*index);
            let Some(entry) = entry.filter(|entry| restless.contains(&entry.path)) else {
                continue;
            };
            if is_file(&self.settings.places.data, &entry.path) {
                back.push(*index);
            } else {
                gone.insert(entry.path.clone());
            }
        }
        (back, gone)
    }

    /// Takes files that are gone out of the tree.
    fn forget(&self, tree: &mut Scan, gone: &BTreeSet<Vec<u8>>) {
        let Some(first) = gone.first() else {
            return;
        };
        self.console.say(&format!(
            "{} file(s) were gone before they could be read (first: {})",
            gone.len(),
            shown(first)
        ));
        let mut entries = std::mem::take(&mut tree.entries);
        entries.retain(|entry| !gone.contains(&entry.path));
        *tree = Scan::of(entries);
    }
}

/// Is the file still the one that was seen?
pub(super) fn is_as_seen(data: &Path, seen: &Entry) -> bool {
    let path: PathBuf = data.join(OsStr::from_bytes(&seen.path));
    let time = |sec: i64, nanos: i64| Time {
        sec,
        nanos: u32::try_from(nanos).unwrap_or_default(),
    };
    std::fs::symlink_metadata(path).is_ok_and(|found| {
        found.is_file()
            && found.len() == seen.size
            && found.ino() == seen.inode
            && time(found.mtime(), found.mtime_nsec()) == seen.mtime
            && time(found.ctime(), found.ctime_nsec()) == seen.ctime
    })
}

/// Makes sure that the next run sends the files at `paths` again: what was sent of them has a time that nobody knows.
pub(super) fn unsettle(tree: &mut Scan, paths: &BTreeSet<Vec<u8>>) {
    for path in paths {
        let found = crate::tree::position(&tree.entries, path);
        if let Some(entry) = found.and_then(|index| tree.entries.get_mut(index)) {
            entry.mtime.nanos ^= 1;
            entry.ctime = Time::default();
        }
    }
}

/// Takes the sizes of `restless` files as a listing has them.
fn accept_sizes(tree: &mut Scan, found: &mut Found, restless: &BTreeSet<Vec<u8>>) {
    let differing = std::mem::take(&mut found.differing);
    let sizes = std::mem::take(&mut found.sizes);
    for (index, size) in differing.into_iter().zip(sizes) {
        match tree.entries.get_mut(index) {
            Some(entry) if restless.contains(&entry.path) => entry.size = size,
            _ => {
                found.differing.push(index);
                found.sizes.push(size);
            }
        }
    }
}

/// Is there a file, or may there be one?
fn is_file(data: &Path, path: &[u8]) -> bool {
    match std::fs::symlink_metadata(data.join(OsStr::from_bytes(path))) {
        Ok(found) => found.is_file(),
        // What cannot be looked at is not gone.
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}
