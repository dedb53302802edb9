//! Files that never keep still: the store has them as they were at some moment, or not at all where they went before they could
//! be read.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Source;
use super::send::{LISTINGS, Sent};
use crate::rclone::listing::Found;
use crate::rclone::names;
use crate::rclone::outcome::{Next, Setback};
use crate::rclone::passes::Pass;
use crate::rclone::store::Features;
use crate::report::reason;
use crate::tree::{Entry, Scan, Time, shown};

/// The longest sentence of a report, in bytes.
const LONGEST_SENTENCE: usize = 96;

impl Sent {
    /// What is to be said of files that never kept still, or went before they could be read.
    pub(super) fn restless(&self) -> Vec<String> {
        let changed = "changed while they were read";
        let unnamed = self
            .is_unsettled
            .then(|| format!("files that {changed}"))
            .filter(|_| self.restless.is_empty());
        let named = [
            (&self.restless, changed),
            (&self.gone, "went before they could be read"),
        ];
        let named = named.into_iter().filter_map(|(paths, what)| {
            let name = shown(paths.first()?);
            let words = format!("{} file(s) that {what}, such as /{name}", paths.len());
            Some(syncline_api::report::head(&words, LONGEST_SENTENCE).to_owned())
        });
        named.chain(unnamed).collect()
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
            if self.is_renamed(tree, &gone).await? {
                return Err(renamed_too_often());
            }
            self.copy(tree, &back, (Pass::Restless, features)).await?;
            self.forget(tree, &gone);
            self.guard(tree, None).await?;
            sent.restless.retain(|path| !gone.contains(path));
            sent.gone.extend(gone);
            // They name what the tree has.
            self.send_permissions(tree, (None, false)).await?;
        }
    }

    /// The `restless` files that a listing lacks: indices of those that are there now, and paths of those that are not. What is
    /// there is never given up for a listing, and neither is what a listing may show under the name of another.
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
            if self.is_there(&entry.path) {
                back.push(*index);
            } else if !names::is_unnameable(&entry.path) {
                gone.insert(entry.path.clone());
            }
        }
        (back, gone)
    }

    /// Is there a file, or may there be one?
    pub(super) fn is_there(&self, path: &[u8]) -> bool {
        let place = self.settings.places.data.join(OsStr::from_bytes(path));
        match std::fs::symlink_metadata(place) {
            Ok(found) => found.is_file(),
            // What cannot be looked at is not gone.
            Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        }
    }

    /// Does one of the files that are `gone` lie in the volume under another name, which the tree does not have? Without that
    /// its content would be in no version, although it was there all the time.
    pub(super) async fn is_renamed(
        &self,
        tree: &Scan,
        gone: &BTreeSet<Vec<u8>>,
    ) -> Result<bool, Setback> {
        if gone.is_empty() {
            return Ok(false);
        }
        let (fresh, _) = self.scan().await?;
        let renamed = renamed(&tree.entries, gone, &fresh.entries);
        if let Some((before, now)) = &renamed {
            let (before, now) = (shown(before), shown(now));
            self.console.say(&format!(
                "{before} was renamed to {now} before it could be read"
            ));
        }
        Ok(renamed.is_some())
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

/// Makes sure that the next run sends the files at `paths` again: what was sent of them has a time that nobody knows. Nor is
/// what was sent of several names of a file surely the same.
pub(super) fn unsettle(tree: &mut Scan, paths: &BTreeSet<Vec<u8>>) {
    let mut entries = std::mem::take(&mut tree.entries);
    for path in paths {
        let found = crate::tree::position(&entries, path);
        if let Some(entry) = found.and_then(|index| entries.get_mut(index)) {
            entry.mtime.nanos ^= 1;
            entry.ctime = Time::default();
            entry.device_links = 1;
        }
    }
    *tree = Scan::of(entries);
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

/// The first file that is `gone` from the tree and lies in a `fresh` one under a name that the tree does not have for it, with
/// that name. A new file may have got the number of one that was removed, but not its time.
fn renamed<'a>(
    tree: &'a [Entry],
    gone: &BTreeSet<Vec<u8>>,
    fresh: &'a [Entry],
) -> Option<(&'a [u8], &'a [u8])> {
    // The last sign of a time is no matter: see [`unsettle`].
    let content = |entry: &Entry| {
        let Time { sec, nanos } = entry.mtime;
        (entry.inode, entry.size, sec, nanos | 1)
    };
    let known = |path: &[u8]| tree.get(crate::tree::position(tree, path)?);
    let lost = gone.iter().filter_map(|path| known(path));
    let lost: HashMap<_, &Entry> = lost.map(|entry| (content(entry), entry)).collect();
    fresh.iter().find_map(|now| {
        let before = lost.get(&content(now)).filter(|_| now.is_file())?;
        let is_known = known(&now.path).is_some_and(|known| content(known) == content(now));
        (!is_known).then_some((before.path.as_slice(), now.path.as_slice()))
    })
}

/// Files got other names each time that they were looked for.
pub(super) fn renamed_too_often() -> Setback {
    let message = "files are renamed faster than they can be sent, as the log names them; take copyMethod Snapshot or Clone, or \
                   let the application rest";
    Setback::new(reason::SOURCE_CHANGING, message.to_owned(), Next::Wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Kind;
    use crate::tree::tests::entry;

    fn file(path: &str, inode: u64, nanos: u32) -> Entry {
        Entry {
            inode,
            mtime: Time { sec: 1, nanos },
            ..entry(path, Kind::File)
        }
    }

    #[test]
    fn a_file_that_is_gone_is_renamed_where_the_same_lies_under_a_name_that_the_tree_does_not_have()
    {
        let mut tree = Scan::of(vec![
            file("a", 7, 10),
            file("link", 7, 10),
            file("new", 8, 20),
        ]);
        let gone = BTreeSet::from([b"new".to_vec()]);
        unsettle(&mut tree, &gone);
        let renamed = |fresh: &[Entry]| {
            let found = renamed(&tree.entries, &gone, fresh);
            found.map(|(before, now)| (shown(before), shown(now)))
        };
        assert_eq!(
            renamed(&[file("a", 7, 10), file("cur", 8, 20)]),
            Some(("new".to_owned(), "cur".to_owned()))
        );
        // Another file got its number.
        assert_eq!(renamed(&[file("cur", 8, 30)]), None);
        assert_eq!(renamed(&[file("a", 7, 10)]), None);
        // Under its other name it is sent all the same.
        let gone = BTreeSet::from([b"link".to_vec()]);
        assert_eq!(
            super::renamed(&tree.entries, &gone, &[file("a", 7, 10)]),
            None
        );
    }
}
