//! Hard links: which entries are names of one file.

use std::collections::HashMap;

use super::Entry;

/// The names of files that have several, found by their inode numbers.
#[derive(Debug, Default)]
pub(crate) struct Linked {
    /// From the index of a further name to that of the first one.
    first: HashMap<usize, usize>,
}

impl Linked {
    /// Finds them in `entries`. Entries of one inode number that do not look alike are not taken for one file: whoever
    /// wrote the list saw them at different times, or made it up.
    pub(crate) fn of(entries: &[Entry]) -> Self {
        let mut seen: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut first = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            if !entry.has_other_names() {
                continue;
            }
            let groups = seen.entry(entry.inode).or_default();
            let alike = groups.iter().find(|at| {
                entries
                    .get(**at)
                    .is_some_and(|known| known.looks_like(entry))
            });
            match alike {
                Some(at) => {
                    first.insert(index, *at);
                }
                None => groups.push(index),
            }
        }
        Self { first }
    }

    /// The first name of the file, when the entry at `index` is a further one.
    pub(crate) fn first(&self, index: usize) -> Option<usize> {
        self.first.get(&index).copied()
    }

    /// The index that stands for the file: its first name's.
    pub(crate) fn file(&self, index: usize) -> usize {
        self.first(index).unwrap_or(index)
    }

    /// How many further names there are.
    pub(crate) fn len(&self) -> usize {
        self.first.len()
    }
}
