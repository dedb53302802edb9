//! What a listing of the store shows, held against what should be there. Pure.

use std::collections::HashMap;

use crate::rclone::facl;
use crate::rclone::names;
use crate::rclone::store::Listed;
use crate::tree::Entry;

/// How the word for a listing begins.
pub(crate) const LISTING: &str = "listing:";

/// The sum of a listing, whatever its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    sum: u128,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Digest {
    /// Adds a file of the listing: its name, its size, and what else the store told of it.
    pub(crate) fn add(&mut self, listed: &Listed) {
        let mut hasher = blake3::Hasher::new();
        for part in [listed.name.as_slice(), listed.evidence.as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.update(&listed.size.unwrap_or(u64::MAX).to_le_bytes());
        let mut half = [0_u8; 16];
        hasher.finalize_xof().fill(&mut half);
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(half));
        self.files += 1;
        self.bytes = self.bytes.saturating_add(listed.size.unwrap_or_default());
    }

    /// In one word.
    pub(crate) fn label(&self) -> String {
        format!("{LISTING}{:032x}", self.sum)
    }
}

/// A listing that is being compared with the files of `entries`.
pub(crate) struct Comparison<'a> {
    entries: &'a [Entry],
    /// Files that a listing names otherwise than the volume does.
    odd: HashMap<Vec<u8>, Vec<usize>>,
    seen: Vec<bool>,
    differing: Vec<usize>,
    sizes: Vec<u64>,
    extra: Vec<Vec<u8>>,
    digest: Digest,
    /// How a file's name stands in a listing.
    form: fn(&[u8]) -> Vec<u8>,
    /// The permissions' own line.
    permissions: Option<Listed>,
}

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Indices of files that are not in the store.
    pub(crate) missing: Vec<usize>,
    /// Indices of files of another size.
    pub(crate) differing: Vec<usize>,
    /// The sizes that these have in the store.
    pub(crate) sizes: Vec<u64>,
    /// Names in the store that should not be there, as the listing has them.
    pub(crate) extra: Vec<Vec<u8>>,
    pub(crate) digest: Digest,
    /// The line of `permissions.facl`.
    pub(crate) permissions: Option<Listed>,
}

impl<'a> Comparison<'a> {
    /// With the files of `entries`, which are sorted by path.
    pub(crate) fn with(entries: &'a [Entry]) -> Self {
        Self::in_form(entries, names::listed)
    }

    /// With files that stock rclone wrote.
    pub(crate) fn with_stock(entries: &'a [Entry]) -> Self {
        Self::in_form(entries, names::listed_by_stock)
    }

    fn in_form(entries: &'a [Entry], form: fn(&[u8]) -> Vec<u8>) -> Self {
        let mut odd: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            if entry.is_file() {
                let name = form(&entry.path);
                if name != entry.path {
                    odd.entry(name).or_default().push(index);
                }
            }
        }
        Self {
            entries,
            odd,
            seen: vec![false; entries.len()],
            differing: Vec::new(),
            sizes: Vec::new(),
            extra: Vec::new(),
            digest: Digest::default(),
            form,
            permissions: None,
        }
    }

    /// Takes a file of the listing.
    pub(crate) fn take(&mut self, listed: &Listed) {
        if listed.name == facl::FILE_NAME.as_bytes() {
            self.permissions = Some(listed.clone());
            return;
        }
        self.digest.add(listed);
        let Some(index) = self.find(listed) else {
            self.extra.push(listed.name.clone());
            return;
        };
        let is_as_large = self
            .entries
            .get(index)
            .is_none_or(|entry| is_as_large(entry, listed));
        if !is_as_large {
            self.differing.push(index);
            self.sizes.push(listed.size.unwrap_or_default());
        }
        if let Some(seen) = self.seen.get_mut(index) {
            *seen = true;
        }
    }

    fn find(&self, listed: &Listed) -> Option<usize> {
        if let Some(candidates) = self.odd.get(&listed.name) {
            let is_free = |index: &&usize| self.seen.get(**index) == Some(&false);
            let fits = |index: &&usize| {
                self.entries
                    .get(**index)
                    .is_some_and(|entry| is_as_large(entry, listed))
            };
            let free = || candidates.iter().filter(is_free);
            return free().find(fits).or_else(|| free().next()).copied();
        }
        let at = self
            .entries
            .binary_search_by(|entry| entry.path.as_slice().cmp(&listed.name))
            .ok()?;
        // A name that is listed in another form is not meant by this one.
        let is_meant = self
            .entries
            .get(at)
            .is_some_and(|entry| entry.is_file() && (self.form)(&entry.path) == listed.name);
        is_meant.then_some(at)
    }

    /// The result, once the listing is at its end.
    pub(crate) fn found(self) -> Found {
        let missing = self.entries.iter().zip(&self.seen).enumerate();
        let missing = missing.filter(|(_, (entry, seen))| entry.is_file() && !**seen);
        Found {
            missing: missing.map(|(index, _)| index).collect(),
            differing: self.differing,
            sizes: self.sizes,
            extra: self.extra,
            digest: self.digest,
            permissions: self.permissions,
        }
    }
}

fn is_as_large(entry: &Entry, listed: &Listed) -> bool {
    listed.size.is_none_or(|size| size == entry.size)
}

impl Found {
    /// Is the store as it should be, by names and sizes?
    pub(crate) fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.differing.is_empty() && self.extra.is_empty()
    }

    /// In words, with the first name of each kind.
    pub(crate) fn describe(&self, entries: &[Entry]) -> String {
        let name = |index: &usize| {
            entries
                .get(*index)
                .map(|entry| crate::tree::shown(&entry.path))
        };
        let kinds = [
            (
                "missing",
                self.missing.len(),
                self.missing.first().and_then(name),
            ),
            (
                "of another size",
                self.differing.len(),
                self.differing.first().and_then(name),
            ),
            (
                "that should not be there",
                self.extra.len(),
                self.extra.first().map(|name| crate::tree::shown(name)),
            ),
        ];
        let words: Vec<String> = kinds
            .into_iter()
            .filter(|(_, count, _)| *count > 0)
            .map(|(what, count, first)| {
                format!("{count} {what} (first: {})", first.unwrap_or_default())
            })
            .collect();
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Kind;
    use crate::tree::tests::entry;

    fn file(path: &str, size: u64) -> Entry {
        Entry {
            size,
            ..entry(path, Kind::File)
        }
    }

    fn listed(name: &str, size: u64) -> Listed {
        Listed {
            name: name.into(),
            size: Some(size),
            ..Listed::default()
        }
    }

    fn compare(entries: &[Entry], listing: &[Listed]) -> Found {
        let mut comparison = Comparison::with(entries);
        for listed in listing {
            comparison.take(listed);
        }
        comparison.found()
    }

    #[test]
    fn a_store_that_holds_the_tree_is_exact_in_any_order() {
        let tree = [file("a", 1), file("b", 2), file("c", 3)];
        let one = compare(&tree, &[listed("a", 1), listed("b", 2), listed("c", 3)]);
        let other = compare(
            &tree,
            &[
                listed("c", 3),
                listed("permissions.facl", 9),
                listed("a", 1),
                listed("b", 2),
            ],
        );
        assert!(one.is_exact());
        assert_eq!(one.digest, other.digest);
        assert!(other.is_exact() && other.permissions.is_some());
        assert_eq!((one.digest.files, one.digest.bytes), (3, 6));
    }

    #[test]
    fn what_is_missing_too_large_or_too_much_is_named() {
        let tree = [file("a", 1), file("b", 2), file("c", 3)];
        let found = compare(&tree, &[listed("b", 9), listed("c", 3), listed("d", 1)]);
        assert_eq!(
            (found.missing.as_slice(), found.differing.as_slice()),
            (&[0][..], &[1][..])
        );
        assert_eq!(found.extra, [b"d".to_vec()]);
        let words = found.describe(&tree);
        assert_eq!(
            words,
            "1 missing (first: a), 1 of another size (first: b), 1 that should not be there (first: d)"
        );
    }

    #[test]
    fn names_that_a_listing_spells_otherwise_are_found() {
        let tree = [file("a\nb", 1), file("a\u{240a}b", 2)];
        let listing: Vec<Listed> = tree
            .iter()
            .map(|entry| Listed {
                name: names::listed(&entry.path),
                size: Some(entry.size),
                ..Listed::default()
            })
            .collect();
        assert_ne!(listing[0].name, listing[1].name);
        assert!(compare(&tree, &listing).is_exact());
        assert_eq!(compare(&tree, &listing[..1]).missing, [1]);
    }

    #[test]
    fn evidence_changes_the_sum() {
        let mut later = listed("a", 1);
        later.evidence = "2026-11-21".to_owned();
        let (mut one, mut other) = (Digest::default(), Digest::default());
        one.add(&listed("a", 1));
        other.add(&later);
        assert_ne!(one.label(), other.label());
    }
}
