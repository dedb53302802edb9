//! What lies under the path and is none of the tree, and when it goes.
//!
//! Invariant: what stands in no way goes when all else has come. A run that breaks off, or a source that is lost in it, leaves
//! the store more than the volume has and never less: a file that was renamed lies there under one of its names at least.

use std::collections::HashSet;

use super::{Plan, Source};
use crate::rclone::generation::{self, MARKER};
use crate::rclone::names;
use crate::rclone::outcome::{Next, Setback};
use crate::rclone::store::Features;
use crate::report::reason;
use crate::tree::{Entry, Scan};

/// What lay in the store before anything was sent and is none of the tree.
#[derive(Default)]
pub(super) struct Leftover {
    /// Names, as a listing has them, of what goes before anything comes.
    in_the_way: Vec<Vec<u8>>,
    /// The same of what goes when all has been sent: until then whoever reads may need it.
    surplus: Vec<Vec<u8>>,
    /// Paths of files that went from the volume since the last run, and go from the store with `surplus`.
    gone: Vec<Vec<u8>>,
    /// The folders of such have to be brought in line then.
    folders: bool,
}

impl Leftover {
    pub(super) fn is_empty(&self) -> bool {
        self.in_the_way.is_empty() && self.surplus.is_empty()
    }

    /// Notes what `plan` removes, but for what stands in the way of `tree`, which is given.
    pub(super) fn defer(
        &mut self,
        tree: &Scan,
        plan: &mut Plan,
        features: Features,
    ) -> Vec<Vec<u8>> {
        let removed = std::mem::take(&mut plan.removed);
        let (first, last) = in_the_way(&tree.entries, removed, &<[u8]>::to_vec);
        self.gone.extend(last);
        self.folders |= plan.folders && features.keeps_folders;
        first
    }
}

impl Source<'_> {
    /// Looks, where the store may hold what no manifest tells of, at what lies there, and changes nothing yet. What is missing
    /// is sent without another look.
    pub(super) async fn leftover(
        &self,
        tree: &Scan,
        plan: &mut Plan,
        features: Features,
    ) -> Result<Leftover, Setback> {
        if plan.from_nothing && self.bare.get() && tree.files > 0 {
            // Nothing was seen there when this try began. What lies there all the same shows in the listing at the end.
            plan.send_all();
            return Ok(Leftover::default());
        }
        // What a manifest tells of is removed by it, and only where folders are real does more matter.
        let is_worthwhile = plan.full && (plan.is_unsure || !features.bucket_based);
        if !plan.from_nothing && !is_worthwhile {
            return Ok(Leftover::default());
        }
        let mut found = self.compare(tree).await?;
        self.check_surplus(tree, &found.extra, plan.from_nothing)?;
        let surplus = std::mem::take(&mut found.extra);
        if plan.from_nothing {
            plan.send_what_is_missing(found);
        } else {
            self.tell_of_strangers(&surplus, &plan.removed);
        }
        let (in_the_way, surplus) = in_the_way(&tree.entries, surplus, &names::listed);
        Ok(Leftover {
            in_the_way,
            surplus,
            ..Leftover::default()
        })
    }

    /// Begins to change things: a marker that may lie beside the path unseen goes, and what stands in the way of a file or a
    /// folder.
    pub(super) async fn make_way(
        &self,
        leftover: &Leftover,
        hides_marker: bool,
    ) -> Result<(), Setback> {
        if hides_marker {
            self.forget_hidden_marker().await;
        }
        self.remove_listed(&leftover.in_the_way).await
    }

    /// Removes what was left till all has been sent. Since then the tree may have been read anew (`is_anew`).
    pub(super) async fn clear(
        &self,
        tree: &Scan,
        mut leftover: Leftover,
        (is_anew, is_first): (bool, bool),
    ) -> Result<(), Setback> {
        if is_anew && !leftover.surplus.is_empty() {
            // Some of it may be a part of this tree.
            leftover.surplus = self.compare(tree).await?.extra;
            self.check_surplus(tree, &leftover.surplus, is_first)?;
        }
        let is_back = |path: &Vec<u8>| {
            let found = crate::tree::position(&tree.entries, path);
            found.is_some_and(|index| tree.entries.get(index).is_some_and(Entry::is_file))
        };
        leftover.gone.retain(|path| !is_back(path));
        if leftover.surplus.is_empty() && leftover.gone.is_empty() {
            return Ok(());
        }
        self.remove(&leftover.gone).await?;
        self.remove_listed(&leftover.surplus).await?;
        if leftover.folders {
            self.align_folders(tree).await?;
        }
        Ok(())
    }

    /// Says what of `surplus`, as a listing has it, is not just what the volume has no more.
    fn tell_of_strangers(&self, surplus: &[Vec<u8>], removed: &[Vec<u8>]) {
        let removed: HashSet<Vec<u8>> = removed.iter().map(|path| names::listed(path)).collect();
        let mut strangers = surplus.iter().filter(|name| !removed.contains(*name));
        let Some(first) = strangers.next() else {
            return;
        };
        self.console.say(&format!(
            "{} file(s) under {} were in no version that this source knows of, and go (first: {})",
            strangers.count() + 1,
            self.rclone.remote().data(),
            crate::tree::shown(first)
        ));
    }

    /// Listings showed nothing where something lay: whose it is has to be found out before any of it goes.
    pub(super) fn was_not_bare(&self) -> Setback {
        self.is_doubtful.set(true);
        let message = format!(
            "listings of {} showed nothing at first, and now what this run did not send; all is looked at once more",
            self.rclone.remote().data()
        );
        Setback::new(reason::LISTING_INCOMPLETE, message, Next::Wait)
    }
}

/// Parts `surplus` into what lies where the tree has a folder, or beneath what it has as a file, and all else; `named` gives
/// the name of a path there. Servers that keep objects as files take no object `x/y` beside one `x`.
pub(super) fn in_the_way(
    entries: &[Entry],
    surplus: Vec<Vec<u8>>,
    named: &dyn Fn(&[u8]) -> Vec<u8>,
) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    if surplus.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let files: HashSet<&[u8]> = surplus.iter().map(Vec::as_slice).collect();
    let folders: HashSet<&[u8]> = surplus.iter().flat_map(|name| folders_of(name)).collect();
    let (mut wrong_files, mut wrong_folders) = (HashSet::new(), HashSet::new());
    for entry in entries {
        let name = named(&entry.path);
        if entry.is_file() {
            wrong_folders.extend(folders.get(name.as_slice()).copied());
        } else if entry.is_folder() {
            wrong_files.extend(files.get(name.as_slice()).copied());
        }
    }
    let is_in_the_way = |name: &Vec<u8>| {
        wrong_files.contains(name.as_slice())
            || folders_of(name).any(|folder| wrong_folders.contains(folder))
    };
    let marked: Vec<bool> = surplus.iter().map(is_in_the_way).collect();
    let marked = surplus.into_iter().zip(marked);
    let (first, last): (Vec<_>, Vec<_>) = marked.partition(|(_, is_in_the_way)| *is_in_the_way);
    let names = |marked: Vec<(Vec<u8>, bool)>| marked.into_iter().map(|(name, _)| name).collect();
    (names(first), names(last))
}

/// The marker of a source whose notes are among `surplus`: one with a manifest or a claim in the same folder. Alone a file of
/// that name is anybody's.
pub(super) fn marker_of_notes<'a>(surplus: &[&'a [u8]]) -> Option<&'a [u8]> {
    let is_beside_it = |name: &str| generation::is_manifest(name) || generation::is_claim(name);
    let notes = surplus.iter().map(|name| in_folder(name));
    let notes = notes.filter(|(_, last)| std::str::from_utf8(last).is_ok_and(is_beside_it));
    let folders: HashSet<&[u8]> = notes.map(|(folder, _)| folder).collect();
    surplus.iter().copied().find(|name| {
        let (folder, last) = in_folder(name);
        last == MARKER.as_bytes() && folders.contains(folder)
    })
}

/// The folder of `name`, with the slash at its end, and its name there.
fn in_folder(name: &[u8]) -> (&[u8], &[u8]) {
    let slash = name.iter().rposition(|byte| *byte == b'/');
    name.split_at(slash.map_or(0, |at| at.saturating_add(1)))
}

/// The folders in which `name` lies, the uppermost first.
fn folders_of(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.filter_map(|(at, _)| name.get(..at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Kind;
    use crate::tree::tests::entry;

    #[test]
    fn what_lies_where_a_folder_or_a_file_has_to_be_goes_first() {
        let tree = [
            entry("deep", Kind::Folder),
            entry("deep/a", Kind::Folder),
            entry("deep/a/b", Kind::File),
            entry("empty", Kind::Folder),
            entry("new\nline", Kind::Folder),
            entry("new\nline/x", Kind::File),
            entry("x", Kind::File),
        ];
        let surplus = [
            "deep",
            "deep/a",
            "deep/ab",
            "deep/other",
            "empty",
            "new\u{240a}line",
            "x/y/z",
            "xy",
        ];
        let surplus = surplus.map(|name| name.as_bytes().to_vec()).to_vec();
        let (first, last) = in_the_way(&tree, surplus, &names::listed);
        let words = |names: Vec<Vec<u8>>| -> Vec<String> {
            let names = names.into_iter().map(String::from_utf8);
            names.map(Result::unwrap).collect()
        };
        assert_eq!(
            words(first),
            ["deep", "deep/a", "empty", "new\u{240a}line", "x/y/z"]
        );
        assert_eq!(words(last), ["deep/ab", "deep/other", "xy"]);
    }

    #[test]
    fn a_marker_is_anothers_where_a_manifest_or_a_claim_lies_in_its_folder() {
        let marker = |names: &[&str]| {
            let names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
            marker_of_notes(&names).map(|name| String::from_utf8(name.to_vec()).unwrap())
        };
        let found = |name: &str| Some(name.to_owned());
        assert_eq!(
            marker(&["generation.json", "manifest-1.zst"]),
            found("generation.json")
        );
        assert_eq!(
            marker(&[
                "generation.json",
                "x/notes/generation.json",
                "x/notes/run-0123456789abcdef0123456789abcdef.json"
            ]),
            found("x/notes/generation.json")
        );
        for names in [
            &["generation.json"][..],
            &["x/generation.json", "manifest-1.zst", "x/y/manifest-1.zst"],
            &["generation.json", "run-2026/result.json", "manifest-x.zst"],
            &["x/my-generation.json", "x/manifest-1.zst"],
        ] {
            assert_eq!(marker(names), None, "{names:?}");
        }
    }
}
