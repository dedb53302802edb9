//! Everything observable of a tree, for comparing two of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One entry; what two equal trees share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    mode: u32,
    owner: (u32, u32),
    size: u64,
    modified: (i64, i64),
    device: u64,
    content: u64,
    link: Option<PathBuf>,
    attributes: BTreeMap<OsString, Vec<u8>>,
    /// The first path in order that names the same inode.
    same_as: PathBuf,
}

/// The facts of every entry, the root included under the empty path.
pub(crate) fn manifest(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        let path = root.join(&relative);
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            for entry in fs::read_dir(&path).unwrap() {
                waiting.push(relative.join(entry.unwrap().file_name()));
            }
        }
        found.insert(relative, (meta.dev(), meta.ino(), facts(&path, &meta)));
    }
    let mut first: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    found
        .into_iter()
        .map(|(path, (dev, ino, facts))| {
            let same_as = first
                .entry((dev, ino))
                .or_insert_with(|| path.clone())
                .clone();
            (path, Facts { same_as, ..facts })
        })
        .collect()
}

fn facts(path: &Path, meta: &fs::Metadata) -> Facts {
    let mut hasher = DefaultHasher::new();
    if meta.is_file() {
        fs::read(path).unwrap().hash(&mut hasher);
    }
    let attributes = xattr::list(path)
        .map(|names| {
            names
                .filter_map(|name| Some((name.clone(), xattr::get(path, name).ok()??)))
                .collect()
        })
        .unwrap_or_default();
    Facts {
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        size: if meta.is_dir() { 0 } else { meta.size() },
        modified: (meta.mtime(), meta.mtime_nsec()),
        device: meta.rdev(),
        content: hasher.finish(),
        link: fs::read_link(path).ok(),
        attributes,
        same_as: PathBuf::new(),
    }
}

/// Fails with the entries that differ.
#[track_caller]
pub(crate) fn assert_same(wanted: &BTreeMap<PathBuf, Facts>, copy: &Path) {
    let got = manifest(copy);
    let mut differences = Vec::new();
    for (path, facts) in wanted {
        if got.get(path) != Some(facts) {
            differences.push(format!(
                "{}: wanted {facts:?}\n   got {:?}",
                path.display(),
                got.get(path)
            ));
        }
    }
    differences.extend(
        got.keys()
            .filter(|path| !wanted.contains_key(*path))
            .map(|path| format!("extra {}", path.display())),
    );
    assert!(
        differences.is_empty(),
        "{} entries differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
