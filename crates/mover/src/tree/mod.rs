//! A volume's tree as entries: read whole, compared, and given back what a transfer of bare files loses.
//!
//! The room knows nothing of rclone: it turns a folder into a list of [`Entry`] and such a list into the state of a folder.
//! The order of a destination's run is [`prepare`] (what stands in the way goes, links above all) → the transfer of files
//! → [`prune`] → [`restore`].
//!
//! Invariant: every call names an entry by an open folder beneath the root and its last part, and follows no link.
//! Whoever wrote a list of entries can make the volume hold anything, and can reach nothing outside.

mod beneath;
mod entry;
mod linked;
mod prepare;
mod prune;
mod remove;
mod restore;
mod room;
mod scan;
mod sparse;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod text;
mod unpreserved;
mod xattrs;

pub(crate) use beneath::{Parents, Root, set_mode};

pub(crate) use entry::{
    Attribute, Entry, Kind, PathFault, Time, check_path, entries_in_words, look, shown, split,
};
pub(crate) use linked::Linked;
pub(crate) use prepare::{prepare, prepare_for_files};
pub(crate) use prune::prune;
pub(crate) use restore::restore;
pub(crate) use room::{Room, room};
pub(crate) use scan::{Scan, scan, scan_moving};
pub(crate) use unpreserved::{Loss, Unpreserved};
pub(crate) use xattrs::{
    ACCESS_ACL, DEFAULT_ACL, remove as remove_attribute, set as set_attribute,
};

/// The entry at `path` among `entries`, which are sorted by their paths.
pub(crate) fn find<'a>(entries: &'a [Entry], path: &[u8]) -> Option<&'a Entry> {
    position(entries, path).and_then(|index| entries.get(index))
}

/// Where the entry at `path` is among `entries`, which are sorted by their paths.
pub(crate) fn position(entries: &[Entry], path: &[u8]) -> Option<usize> {
    entries
        .binary_search_by(|entry| entry.path.as_slice().cmp(path))
        .ok()
}

/// A step that failed on an entry.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path} failed: {source}{}", cure(*.source))]
pub(crate) struct Failure {
    /// What was tried, in words that precede a path: `removing`.
    pub(crate) action: &'static str,
    /// The entry, as people are shown it.
    pub(crate) path: String,
    /// What the kernel said.
    pub(crate) source: rustix::io::Errno,
}

impl Failure {
    pub(crate) fn new(action: &'static str, path: &[u8], source: rustix::io::Errno) -> Self {
        Self {
            action,
            path: shown(path),
            source,
        }
    }

    /// Is there no room left, of blocks, inodes or quota?
    pub(crate) fn is_full(&self) -> bool {
        use rustix::io::Errno;
        matches!(self.source, Errno::NOSPC | Errno::DQUOT)
    }
}

/// What helps against an error of a file system, as the end of a sentence; nothing where that is unknown.
pub(crate) fn cure_of(error: &std::io::Error) -> &'static str {
    let number = rustix::io::Errno::from_io_error(error);
    number.map_or("", cure)
}

/// What helps.
fn cure(error: rustix::io::Errno) -> &'static str {
    use rustix::io::Errno;
    match error {
        Errno::NOSPC | Errno::DQUOT => "; make the volume larger (spec: capacity)",
        Errno::ACCESS | Errno::PERM => {
            "; run the mover as the owner of the volume's files (spec: moverSecurityContext), or privileged \
             (annotation volsync.backube/privileged-movers on the namespace)"
        }
        Errno::ROFS => "; the volume is mounted read-only",
        Errno::NAMETOOLONG => "; give it a path of at most 4095 bytes below the volume's root",
        Errno::IO => "; the volume's storage has a fault",
        _ => "",
    }
}
