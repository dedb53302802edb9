//! What has changed in a tree since its last manifest. Pure.

use std::cmp::Ordering;

use crate::tree::Entry;

/// What a source has to do so that the store holds its tree, as far as its own memory tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Files whose content has to be sent: indices into the present entries, ascending.
    pub(crate) sent: Vec<usize>,
    /// Files that look as they did, but were touched: by a `chmod`, or by a writer who set the time back. Ascending, too.
    pub(crate) suspected: Vec<usize>,
    /// Paths that are files no more.
    pub(crate) removed: Vec<Vec<u8>>,
    /// Folders came or went.
    pub(crate) folders: bool,
    /// Anything at all is different, be it a mode.
    pub(crate) any: bool,
}

/// Compares `now` with `last`, both sorted by path.
///
/// A file is unchanged when type, size and time of last change are. The time of its last change of any kind (ctime) and its
/// inode say more, where the volume keeps them ([`Evidence`]).
pub(crate) fn compare(now: &[Entry], last: &[Entry]) -> Changes {
    let mut changes = Changes::default();
    let mut suspects = Vec::new();
    let mut evidence = Evidence::default();
    for (index, new, old) in pairs(now, last) {
        if let (Some(new), Some(old)) = (new, old) {
            evidence.take(new, old);
        }
        match (new, old) {
            (Some(new), Some(old)) if new.is_file() && old.is_file() => {
                if !new.looks_like(old) {
                    changes.sent.push(index);
                } else if !new.is_untouched(old) {
                    suspects.push(index);
                }
            }
            (new, old) => changes.of_kinds(index, new, old),
        }
        changes.any |=
            !matches!((new, old), (Some(new), Some(old)) if is_described_alike(new, old));
    }
    if evidence.counts() {
        changes.suspected = suspects;
    }
    changes.any |=
        !changes.sent.is_empty() || !changes.suspected.is_empty() || !changes.removed.is_empty();
    changes
}

/// Whether times of last change of any kind, and inodes, tell of what was done to files.
///
/// A copy of a volume that is made file by file has others throughout, and so has a volume whose files all were given to a
/// group when it was mounted (`fsGroup`): folders that look as they did are others, too. Nobody who writes files does that.
#[derive(Default)]
struct Evidence {
    /// Anything is the same to the last.
    is_kept: bool,
    /// What is no file, and looks as it did, is another.
    is_lost: bool,
}

impl Evidence {
    fn take(&mut self, new: &Entry, old: &Entry) {
        if new.looks_like(old) {
            let is_untouched = new.is_untouched(old);
            self.is_kept |= is_untouched;
            self.is_lost |= !is_untouched && !new.is_file();
        }
    }

    fn counts(&self) -> bool {
        self.is_kept || !self.is_lost
    }
}

impl Changes {
    /// Notes a path that is not a file on both sides.
    fn of_kinds(&mut self, index: usize, new: Option<&Entry>, old: Option<&Entry>) {
        let is_file = |entry: Option<&Entry>| entry.is_some_and(Entry::is_file);
        let is_folder = |entry: Option<&Entry>| entry.is_some_and(Entry::is_folder);
        if is_file(new) {
            self.sent.push(index);
        }
        if let Some(old) = old.filter(|old| old.is_file()) {
            self.removed.push(old.path.clone());
        }
        self.folders |= is_folder(new) != is_folder(old);
    }
}

/// Do both describe the same, content and what only the run of time changes apart?
fn is_described_alike(new: &Entry, old: &Entry) -> bool {
    let names = |entry: &Entry| {
        if entry.is_folder() {
            1
        } else {
            entry.device_links
        }
    };
    new.looks_like(old)
        && (new.mode, new.uid, new.gid) == (old.mode, old.uid, old.gid)
        && names(new) == names(old)
        && new.xattrs == old.xattrs
}

/// Gives each present file the generation in which it was sent: `generation` for those of `sent`, else the one it had.
pub(crate) fn carry(now: &mut [Entry], last: &[Entry], sent: &[usize], generation: u64) {
    let known: Vec<(usize, u64)> = pairs(now, last)
        .filter_map(|(index, new, old)| {
            let (new, old) = (new?, old?);
            (new.is_file() && old.is_file()).then_some((index, old.sent))
        })
        .collect();
    for entry in now.iter_mut().filter(|entry| entry.is_file()) {
        entry.sent = generation;
    }
    for (index, earlier) in known {
        if let Some(entry) = now.get_mut(index) {
            entry.sent = earlier;
        }
    }
    for index in sent {
        if let Some(entry) = now.get_mut(*index) {
            entry.sent = generation;
        }
    }
}

/// Both lists side by side, by path. The index is that of the entry of `now`, or of the one that would follow.
pub(crate) fn pairs<'a>(
    now: &'a [Entry],
    last: &'a [Entry],
) -> impl Iterator<Item = (usize, Option<&'a Entry>, Option<&'a Entry>)> {
    let (mut at, mut beside) = (0, 0);
    std::iter::from_fn(move || {
        let (new, old) = (now.get(at), last.get(beside));
        let order = match (new, old) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(new), Some(old)) => new.path.cmp(&old.path),
        };
        let index = at;
        at += usize::from(order.is_le());
        beside += usize::from(order.is_ge());
        Some((
            index,
            new.filter(|_| order.is_le()),
            old.filter(|_| order.is_ge()),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Kind;
    use crate::tree::tests::entry;
    use proptest::prelude::*;

    fn files(names: &[&str]) -> Vec<Entry> {
        names.iter().map(|name| entry(name, Kind::File)).collect()
    }

    #[test]
    fn an_untouched_tree_has_no_changes() {
        let tree = files(&["a", "b", "c"]);
        assert_eq!(compare(&tree, &tree), Changes::default());
    }

    #[test]
    fn new_files_other_sizes_and_other_times_are_sent_and_what_went_is_removed() {
        let last = files(&["a", "b", "c", "d"]);
        let mut now = files(&["a", "b", "c", "e"]);
        now[1].size = 9;
        now[2].mtime.nanos = 3;
        let changes = compare(&now, &last);
        assert_eq!(changes.sent, [1, 2, 3]);
        assert_eq!(changes.removed, [b"d".to_vec()]);
        assert!(changes.any && !changes.folders);
    }

    #[test]
    fn files_written_once_more_with_their_old_time_are_suspected_be_it_all_of_them() {
        let mut last = files(&["a", "b", "c"]);
        last.insert(0, entry("", Kind::Folder));
        for touched in 1..=3 {
            let mut now = last.clone();
            for entry in &mut now[1..=touched] {
                entry.ctime.sec = 99;
            }
            let changes = compare(&now, &last);
            let all: Vec<usize> = (1..=touched).collect();
            assert_eq!((changes.sent, changes.suspected), (vec![], all));
            // Put in the place of the old ones, which is a change of their folder.
            now[0].mtime.sec = 99;
            now[0].ctime.sec = 99;
            now[1].inode = 7;
            assert_eq!(compare(&now, &last).suspected.len(), touched);
        }
    }

    #[test]
    fn a_copy_of_the_volume_and_one_whose_files_were_all_given_to_a_group_say_nothing() {
        let mut last = files(&["a", "b", "c"]);
        last.insert(0, entry("", Kind::Folder));
        let mut now = last.clone();
        for entry in &mut now {
            entry.ctime.sec = 100;
        }
        assert_eq!(compare(&now, &last), Changes::default());
        for (entry, inode) in now.iter_mut().zip(100..) {
            entry.inode = inode;
        }
        assert_eq!(compare(&now, &last), Changes::default());
        // What was changed in it is seen all the same.
        now[2].mtime.sec = 100;
        assert_eq!(compare(&now, &last).sent, [2]);
    }

    #[test]
    fn a_mode_an_owner_an_attribute_and_a_links_target_are_changes_without_content() {
        let link = |target: &str| Kind::Link {
            target: target.into(),
        };
        let last = vec![entry("a", Kind::File), entry("l", link("x"))];
        let mut changed = vec![last.clone(); 4];
        changed[0][0].mode = 0o600;
        changed[1][0].uid = 7;
        changed[2][0]
            .xattrs
            .push((b"user.x".to_vec(), b"y".to_vec()));
        changed[3][1].kind = link("y");
        for now in changed {
            let changes = compare(&now, &last);
            assert!(changes.any && changes.sent.is_empty() && changes.removed.is_empty());
            assert!(changes.suspected.is_empty());
        }
    }

    #[test]
    fn what_changes_its_kind_is_removed_as_the_one_and_sent_as_the_other() {
        let last = vec![
            entry("a", Kind::File),
            entry("b", Kind::Folder),
            entry("c", Kind::File),
        ];
        let now = vec![
            entry("a", Kind::Folder),
            entry("b", Kind::File),
            entry("c", Kind::Pipe),
        ];
        let changes = compare(&now, &last);
        assert_eq!(changes.sent, [1]);
        assert_eq!(changes.removed, [b"a".to_vec(), b"c".to_vec()]);
        assert!(changes.folders);
    }

    #[test]
    fn files_keep_the_generation_in_which_they_were_sent() {
        let mut last = files(&["a", "b"]);
        last[0].sent = 3;
        last[1].sent = 4;
        let mut now = files(&["a", "b", "c"]);
        carry(&mut now, &last, &[1, 2], 9);
        let sent: Vec<u64> = now.iter().map(|entry| entry.sent).collect();
        assert_eq!(sent, [3, 9, 9]);
    }

    fn trees() -> impl Strategy<Value = Vec<Entry>> {
        let one = ("[a-e]{1,2}", any::<bool>(), 0_u64..3, 0_u32..3);
        prop::collection::btree_map(one.0, (one.1, one.2, one.3), 0..12).prop_map(|tree| {
            tree.into_iter()
                .map(|(path, (is_file, size, nanos))| {
                    let mut entry = entry(&path, if is_file { Kind::File } else { Kind::Folder });
                    entry.size = if is_file { size } else { 0 };
                    entry.mtime.nanos = nanos;
                    entry
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn after_the_changes_the_store_holds_the_tree(now in trees(), last in trees()) {
            let content = |tree: &[Entry]| -> std::collections::BTreeMap<Vec<u8>, (u64, u32)> {
                let files = tree.iter().filter(|entry| entry.is_file());
                files.map(|entry| (entry.path.clone(), (entry.size, entry.mtime.nanos))).collect()
            };
            let changes = compare(&now, &last);
            let mut store = content(&last);
            for path in &changes.removed {
                prop_assert!(store.remove(path).is_some());
            }
            for index in &changes.sent {
                store.insert(now[*index].path.clone(), (now[*index].size, now[*index].mtime.nanos));
            }
            prop_assert_eq!(store, content(&now));
            prop_assert_eq!(changes.any, now != last);
        }
    }
}
