//! Reading a tree in which somebody moves things meanwhile.
//!
//! What goes from a folder that was not read yet into one that was is in neither listing, although it was there all the
//! time. So folders that changed since they were read are read again, until none has: then the names are those of one
//! moment. What changes faster than that is at the last place where it was seen.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use super::super::beneath::Parents;
use super::super::entry::{Entry, Look, Time, look, shown, split};
use super::super::xattrs;
use super::{Reader, Scan, ScanError, look_at};

/// How often folders that changed are read again.
const MOST_PASSES: u32 = 8;
/// Two changes that are closer together may have the same time: the slowest clock of a kernel ticks a hundred times in a second.
const TICK: Duration = Duration::from_millis(10);

/// Reads the tree as [`super::scan`] does, with all that was moved within it meanwhile. Of a tree that never rests a file
/// that was seen may be gone, as it may be gone from any.
pub(crate) fn scan_moving(root: &Path) -> Result<Scan, ScanError> {
    let mut settled = a_tick_ago();
    let reader = Reader::of(root, false)?;
    let mut scan = reader.read_all()?;
    let mut missing = Vec::new();
    for _ in 0..MOST_PASSES {
        let changed = reader.changed(&scan, settled);
        if changed.is_empty() {
            return Ok(scan);
        }
        std::thread::sleep(TICK);
        settled = a_tick_ago();
        let (fresh, gone) = reader.read_again(scan, changed)?;
        scan = fresh;
        missing.extend(gone);
        drop_found(&mut missing, &scan);
    }
    Ok(with_missing(scan, missing))
}

/// Leaves those of the files that the tree has under no name.
fn drop_found(missing: &mut Vec<Entry>, scan: &Scan) {
    let files = scan.entries.iter().filter(|entry| entry.is_file());
    let found: HashSet<u64> = files.map(|file| file.inode).collect();
    missing.retain(|file| !found.contains(&file.inode));
}

/// The tree with files that are missing, since they went or are moved before every look, at the last place where they were seen.
fn with_missing(scan: Scan, missing: Vec<Entry>) -> Scan {
    let last: HashMap<u64, Entry> = missing.into_iter().map(|file| (file.inode, file)).collect();
    let has_room = |file: &Entry| {
        let folder = scan.at(split(&file.path).0);
        folder.is_some_and(Entry::is_folder) && scan.at(&file.path).is_none()
    };
    let files = last.into_values().filter(has_room);
    let files: HashMap<Vec<u8>, Entry> = files.map(|file| (file.path.clone(), file)).collect();
    let mut entries = scan.entries;
    entries.extend(files.into_values());
    Scan::of(entries)
}

/// Of a folder that changed later than this a second change may not show.
fn a_tick_ago() -> Time {
    let since = (SystemTime::now() - TICK)
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time {
        sec: since.as_secs().try_into().unwrap_or(i64::MAX),
        nanos: since.subsec_nanos(),
    }
}

/// The old and new entries of a tree of which folders are read again.
#[derive(Default)]
struct Again {
    /// Folders that were read again, those that are gone among them.
    read: HashSet<Vec<u8>>,
    /// What is in them, without the folders of [`Self::kept`].
    found: Vec<Entry>,
    /// Folders in them to which nothing happened.
    kept: HashSet<Vec<u8>>,
}

impl Again {
    /// Takes up what a folder holds, by `known` before. Gives the folders that are to be read, among those that can be (`below`).
    fn take(
        &mut self,
        children: Vec<Entry>,
        below: &HashSet<Vec<u8>>,
        known: &Scan,
    ) -> Vec<Vec<u8>> {
        let mut unread = Vec::new();
        for child in children {
            let is_known = |known: &Entry| known.is_folder() && known.is_untouched(&child);
            if !child.is_folder() {
                self.found.push(child);
            } else if known.at(&child.path).is_some_and(is_known) {
                self.kept.insert(child.path);
            } else if below.contains(&child.path) {
                unread.push(child.path);
            } else {
                self.found.push(child);
            }
        }
        unread
    }

    /// The tree: what was found, and what lies elsewhere in the old one. Also the files that were elsewhere, or are not at all.
    fn merged(self, old: Scan) -> (Scan, Vec<Entry>) {
        let (read, kept, mut entries) = (self.read, self.kept, self.found);
        let (mut alive, mut gone) = (HashSet::new(), Vec::new());
        // A folder comes before what is in it.
        for entry in old.entries {
            let (folder, _) = split(&entry.path);
            let is_alive = !read.contains(&entry.path)
                && (entry.is_root() || kept.contains(&entry.path) || alive.contains(folder));
            if is_alive && entry.is_folder() {
                alive.insert(entry.path.clone());
            }
            if is_alive {
                entries.push(entry);
            } else if entry.is_file() {
                gone.push(entry);
            }
        }
        (Scan::of(entries), gone)
    }
}

impl Reader {
    /// The folders that are not what they were when they were read, or that changed later than they are `settled`.
    fn changed(&self, scan: &Scan, settled: Time) -> BTreeSet<Vec<u8>> {
        let mut parents = Parents::new(&self.root);
        let folders = scan.entries.iter().filter(|entry| entry.is_folder());
        let changed = folders.filter(|folder| {
            let found = parents
                .of(&folder.path)
                .and_then(|(parent, name)| look(parent, name, Vec::new()));
            let is_untouched = |found: &Entry| found.is_folder() && folder.is_untouched(found);
            // What cannot be looked at tells why when it is read again.
            folder.ctime >= settled
                || !matches!(found, Ok(Some(found)) if is_untouched(&found.entry))
        });
        changed.map(|folder| folder.path.clone()).collect()
    }

    /// Reads the `changed` folders anew, and what is new in them. Also gives the files that were in them, or beneath what is gone.
    fn read_again(
        &self,
        old: Scan,
        mut changed: BTreeSet<Vec<u8>>,
    ) -> Result<(Scan, Vec<Entry>), ScanError> {
        let mut again = Again::default();
        let mut buffer = xattrs::Buffer::new();
        // From above to below: a folder is looked at, and then read. What changes in between shows the next time.
        while let Some(folder) = changed.pop_first() {
            if let Some(Look { entry, device }) = self.itself(&folder, &mut buffer)? {
                again.found.push(entry);
                let (mut children, mut below) = (Vec::new(), Vec::new());
                if device == self.device {
                    self.read(&folder, &mut buffer, &mut children, &mut below)?;
                }
                // Folders among them get their own turn.
                children.retain(|child| !child.is_folder() || !changed.contains(&child.path));
                changed.extend(again.take(children, &below.into_iter().collect(), &old));
            }
            again.read.insert(folder);
        }
        Ok(again.merged(old))
    }

    /// The entry of a folder and its file system, if it is there.
    fn itself(
        &self,
        folder: &[u8],
        buffer: &mut xattrs::Buffer,
    ) -> Result<Option<Look>, ScanError> {
        match self.open(folder) {
            Ok(handle) => look_at(handle.as_fd(), folder.to_vec(), buffer).map(Some),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(source) => Err(ScanError::Folder {
                path: shown(folder),
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rstest::rstest;

    /// What a tree says of names, and which file each one is.
    fn names(scan: &Scan) -> Vec<(String, u64)> {
        let entries = scan.entries.iter();
        entries
            .map(|entry| (shown(&entry.path), entry.inode))
            .collect()
    }

    fn volume() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a/deep/er", "b/deep", "c"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        for name in ["a/1", "a/deep/2", "a/deep/er/3", "a-file", "b/deep/4"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        folder
    }

    #[rstest]
    #[case::file_into_a_folder(|root: &Path| fs::rename(root.join("b/deep/4"), root.join("a/4")).unwrap())]
    #[case::file_out_of_a_folder(|root: &Path| fs::rename(root.join("a/1"), root.join("c/1")).unwrap())]
    #[case::folder_beside(|root: &Path| fs::rename(root.join("a"), root.join("old")).unwrap())]
    #[case::folder_deeper(|root: &Path| fs::rename(root.join("a"), root.join("c/a")).unwrap())]
    #[case::folders_change_places(|root: &Path| {
        fs::rename(root.join("a"), root.join("x")).unwrap();
        fs::rename(root.join("b"), root.join("a")).unwrap();
        fs::rename(root.join("x"), root.join("b")).unwrap();
    })]
    #[case::folder_and_what_is_in_it(|root: &Path| {
        fs::write(root.join("a/deep/er/new"), "").unwrap();
        fs::rename(root.join("a/deep/er"), root.join("a/er")).unwrap();
        fs::remove_file(root.join("a/1")).unwrap();
    })]
    #[case::file_where_a_folder_was(|root: &Path| {
        fs::remove_dir_all(root.join("a")).unwrap();
        fs::write(root.join("a"), "").unwrap();
    })]
    #[case::folder_where_a_file_was(|root: &Path| {
        fs::remove_file(root.join("a-file")).unwrap();
        fs::create_dir_all(root.join("a-file/in/it")).unwrap();
    })]
    #[case::link_where_a_folder_was(|root: &Path| {
        fs::rename(root.join("a"), root.join("z")).unwrap();
        std::os::unix::fs::symlink("z", root.join("a")).unwrap();
    })]
    #[case::all_goes(|root: &Path| {
        for name in ["a", "b", "c"] {
            fs::remove_dir_all(root.join(name)).unwrap();
        }
    })]
    #[case::nothing(|_: &Path| {})]
    fn what_moved_since_it_was_read_is_where_it_is_now(
        #[case] turn: impl Fn(&Path),
        #[values(false, true)] is_at_once: bool,
    ) {
        let folder = volume();
        let settled = a_tick_ago();
        let reader = Reader::of(folder.path(), false).unwrap();
        let before = reader.read_all().unwrap();
        if !is_at_once {
            // Times tell what happened, too.
            std::thread::sleep(2 * TICK);
        }
        turn(folder.path());
        let settled = if is_at_once {
            settled
        } else {
            Time {
                sec: i64::MAX,
                nanos: 0,
            }
        };
        let changed = reader.changed(&before, settled);
        let (again, _) = reader.read_again(before, changed).unwrap();
        let fresh = super::super::scan(folder.path()).unwrap();
        assert_eq!(names(&again), names(&fresh));
        assert_eq!((again.files, again.bytes), (fresh.files, fresh.bytes));
    }

    #[test]
    fn a_tree_that_is_at_rest_is_read_once() {
        let folder = volume();
        std::thread::sleep(2 * TICK);
        let settled = a_tick_ago();
        let reader = Reader::of(folder.path(), false).unwrap();
        let scan = reader.read_all().unwrap();
        assert_eq!(reader.changed(&scan, settled), BTreeSet::new());
        assert_eq!(scan_moving(folder.path()).unwrap(), scan);
    }

    #[test]
    fn a_file_that_moves_before_every_look_is_where_it_was_seen_and_one_that_was_found_is_not() {
        let folder = volume();
        let settled = a_tick_ago();
        let reader = Reader::of(folder.path(), false).unwrap();
        let before = reader.read_all().unwrap();
        fs::remove_file(folder.path().join("a/1")).unwrap();
        fs::remove_dir_all(folder.path().join("b")).unwrap();
        fs::rename(folder.path().join("a-file"), folder.path().join("c/file")).unwrap();
        let changed = reader.changed(&before, settled);
        let (after, mut missing) = reader.read_again(before, changed).unwrap();
        drop_found(&mut missing, &after);
        let left: Vec<String> = missing.iter().map(|file| shown(&file.path)).collect();
        assert_eq!(left, ["a/1", "b/deep/4"]);
        let with = with_missing(after.clone(), missing);
        // There is no folder for the other one.
        assert_eq!(with.entries.len(), after.entries.len() + 1);
        assert!(with.at(b"a/1").is_some());
    }

    #[test]
    fn a_file_that_goes_from_folder_to_folder_is_in_every_scan() {
        let volume = volume();
        let folders: Vec<_> = (0..40)
            .map(|number| volume.path().join(format!("f{number}")))
            .collect();
        for folder in &folders {
            fs::create_dir(folder).unwrap();
        }
        fs::write(folders[0].join("mail"), "mail").unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let place = |turn: usize| folders[turn * 7 % 40].join("mail");
                for turn in (0..).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                    fs::rename(place(turn), place(turn + 1)).unwrap();
                    std::thread::sleep(3 * TICK);
                }
            });
            for _ in 0..20 {
                let scan = scan_moving(volume.path()).unwrap();
                let mut entries = scan.entries.iter();
                let is_there = entries.any(|entry| entry.path.ends_with(b"/mail"));
                is_over.store(!is_there, Ordering::Relaxed);
                assert!(is_there);
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
}
