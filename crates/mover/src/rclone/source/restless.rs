//! Files that never keep still: the store has them as they were at some moment, or not at all where they went before they could
//! be read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::Source;
use super::send::{LISTINGS, Sent};
use crate::rclone::listing::Found;
use crate::rclone::manifest::Manifest;
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
            let absent = absent(tree, &found, &sent.restless);
            let (back, gone) = self.which_are_back(tree, &absent);
            looks += 1;
            if (back.is_empty() && gone.is_empty()) || looks > LISTINGS {
                return Ok(found);
            }
            sent.changed = true;
            if !self.renamed(tree, absent.keys()).await?.is_empty() {
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

    /// Which of the `absent` files are there now, by index, and which are not. What is there is never given up for a listing, and
    /// neither is what a listing may show under the name of another.
    fn which_are_back(
        &self,
        tree: &Scan,
        absent: &BTreeMap<Vec<u8>, usize>,
    ) -> (Vec<usize>, BTreeSet<Vec<u8>>) {
        let (mut back, mut gone) = (Vec::new(), BTreeSet::new());
        for (path, index) in absent {
            if self.is_there(path) {
                back.push(*index);
            } else if is_told_apart(&tree.entries, path) {
                gone.insert(path.clone());
            }
        }
        (back, gone)
    }

    /// Is there a file, or may there be one?
    fn is_there(&self, path: &[u8]) -> bool {
        match std::fs::symlink_metadata(self.place(path)) {
            Ok(found) => found.is_file(),
            // What cannot be looked at is not gone.
            Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        }
    }

    fn place(&self, path: &[u8]) -> PathBuf {
        self.settings.places.data.join(OsStr::from_bytes(path))
    }

    /// Did one of the files at `paths` get another name before it could be read? Without that its content would be in no
    /// version, although it was there all the time. What was sent before is in this one under its old name.
    pub(super) async fn is_renamed_unsent(
        &self,
        tree: &Scan,
        paths: &BTreeSet<Vec<u8>>,
        memory: Option<&Manifest>,
    ) -> Result<bool, Setback> {
        let renamed = self.renamed(tree, paths.iter()).await?;
        if renamed.is_empty() {
            return Ok(false);
        }
        let found = self.compare(tree).await?;
        let missing = absent(tree, &found, &renamed);
        let is_unsent = |path: &Vec<u8>| {
            // What has lain there since an earlier run says nothing of this one, nor does what came into its place.
            let is_old = match memory {
                Some(memory) => crate::tree::find(&memory.entries, path).is_some(),
                None => !self.bare.get(),
            };
            missing.contains_key(path) || is_old || self.is_there(path)
        };
        Ok(renamed.iter().any(is_unsent))
    }

    /// Those of the files at `paths` that lie in the volume under another name, which the tree does not have.
    async fn renamed(
        &self,
        tree: &Scan,
        paths: impl Iterator<Item = &Vec<u8>>,
    ) -> Result<BTreeSet<Vec<u8>>, Setback> {
        let entries = paths.filter_map(|path| tree.at(path));
        let left: HashMap<u64, &Entry> = entries
            .filter(|entry| self.has_left(entry))
            .map(|entry| (entry.inode, entry))
            .collect();
        if left.is_empty() {
            return Ok(BTreeSet::new());
        }
        let (fresh, _) = self.scan().await?;
        let is_same = |before: &Entry, now: &Entry| is_same(before, now, self.birth(&now.path));
        let renamed = renamed(&tree.entries, &left, &fresh.entries, is_same);
        if let Some((before, now)) = renamed.first() {
            let (before, now) = (shown(before), shown(now));
            self.console.say(&format!(
                "{before} was renamed to {now} while files were sent"
            ));
        }
        Ok(renamed
            .into_iter()
            .map(|(before, _)| before.to_vec())
            .collect())
    }

    /// Is there nothing any more where the file was, or another file?
    fn has_left(&self, entry: &Entry) -> bool {
        match std::fs::symlink_metadata(self.place(&entry.path)) {
            Ok(found) => found.ino() != entry.inode,
            Err(_) => !self.is_there(&entry.path),
        }
    }

    /// When the file at `path` was made, where the file system knows it.
    fn birth(&self, path: &[u8]) -> Option<Time> {
        let (flags, mask) = (AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME);
        let found = statx(CWD, self.place(path), flags, mask).ok()?;
        let knows = StatxFlags::from_bits_retain(found.stx_mask).contains(mask);
        knows.then_some(Time {
            sec: found.stx_btime.tv_sec,
            nanos: found.stx_btime.tv_nsec,
        })
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

/// Those of the files at `paths` that a listing lacks, with their indices.
fn absent(tree: &Scan, found: &Found, paths: &BTreeSet<Vec<u8>>) -> BTreeMap<Vec<u8>, usize> {
    let missing = found.missing.iter();
    let missing =
        missing.filter_map(|index| Some((tree.entries.get(*index)?.path.clone(), *index)));
    missing.filter(|(path, _)| paths.contains(path)).collect()
}

/// Does a listing show the file at `path` under a name that no other one of the tree has there?
fn is_told_apart(tree: &[Entry], path: &[u8]) -> bool {
    let name = names::listed(path);
    !names::is_unnameable(path)
        || !(tree.iter()).any(|other| other.path != path && names::listed(&other.path) == name)
}

/// The files that have `left` their places, by number, and lie in a `fresh` tree under names that the old one does not have for
/// them: both names of each.
fn renamed<'a>(
    tree: &[Entry],
    left: &HashMap<u64, &'a Entry>,
    fresh: &'a [Entry],
    is_same: impl Fn(&Entry, &Entry) -> bool,
) -> Vec<(&'a [u8], &'a [u8])> {
    let files = fresh.iter().filter(|now| now.is_file());
    let renamed = files.filter_map(|now| {
        let before = left.get(&now.inode)?;
        let is_known =
            crate::tree::find(tree, &now.path).is_some_and(|known| known.inode == now.inode);
        let is_renamed = !is_known && is_same(before, now);
        is_renamed.then_some((before.path.as_slice(), now.path.as_slice()))
    });
    renamed.collect()
}

/// Is a file the one that was seen `before`, and not a later one that got its number? One that was made no later than that
/// one was last changed is. Where nobody knows when it was made, its size and time tell, if it was not written to.
fn is_same(before: &Entry, now: &Entry, birth: Option<Time>) -> bool {
    match birth {
        Some(birth) => birth <= before.ctime,
        None => now.looks_like(before),
    }
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
            ctime: Time { sec: 1, nanos },
            ..entry(path, Kind::File)
        }
    }

    #[test]
    fn a_file_that_left_is_renamed_where_the_same_lies_under_a_name_that_the_tree_does_not_have() {
        let tree = [file("a", 7, 10), file("link", 7, 10), file("new", 8, 20)];
        let of = |left: &Entry, fresh: &[Entry], birth: Option<Time>| -> Vec<(String, String)> {
            let left = HashMap::from([(left.inode, left)]);
            let found = renamed(&tree, &left, fresh, |before, now| {
                is_same(before, now, birth)
            });
            let found = found.into_iter();
            found
                .map(|(before, now)| (shown(before), shown(now)))
                .collect()
        };
        let [a, _, new] = &tree;
        let moved = [("new".to_owned(), "cur".to_owned())];
        let at = |nanos| Some(Time { sec: 1, nanos });
        assert_eq!(
            of(new, &[file("a", 7, 10), file("cur", 8, 20)], None),
            moved
        );
        // Somebody wrote to it.
        assert_eq!(of(new, &[file("cur", 8, 30)], at(20)), moved);
        // Another file got its number.
        assert_eq!(of(new, &[file("cur", 8, 30)], at(21)), []);
        assert_eq!(of(new, &[file("cur", 8, 30)], None), []);
        // Over another one.
        assert_eq!(
            of(new, &[file("a", 8, 20)], None),
            [("new".to_owned(), "a".to_owned())]
        );
        // Under its other name it is sent all the same.
        assert_eq!(of(a, &[file("link", 7, 10)], at(5)), []);
    }

    #[test]
    fn a_name_that_is_no_utf8_is_told_apart_unless_another_is_listed_alike() {
        let named = |path: &[u8]| Entry {
            path: path.to_vec(),
            ..file("", 7, 10)
        };
        let tree = [
            named(b"a\xfe"),
            named(b"b\xfe"),
            named(b"b\xff"),
            named(b"c"),
        ];
        let told_apart = tree.iter().map(|entry| is_told_apart(&tree, &entry.path));
        assert_eq!(told_apart.collect::<Vec<_>>(), [true, false, false, true]);
    }
}
