//! What can go wrong with volumes.

use std::io;
use std::path::{Path, PathBuf};

/// A failed operation: what was tried, on what, why, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name could leave the folder or collide with a temporary name.
    #[error(
        "`{0}` cannot name a volume or image: use 1 to 200 letters, digits, `-`, `_` or `.`, not starting with `.`"
    )]
    BadName(String),
    /// There is nothing of that name.
    #[error("there is no {what} `{name}` in {folder}")]
    Missing {
        /// `volume` or `image`.
        what: &'static str,
        /// Its name.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The source directory is not there or is not a directory.
    #[error(
        "{path} is not a directory that can be read ({source}): name one that exists, and that the user of this cluster may read"
    )]
    BadSource {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The source directory holds the volumes and images themselves.
    #[error(
        "{path} holds {store}, where its copies are kept, so a copy would have to hold itself: keep the data folder elsewhere, or use a folder that does not hold it"
    )]
    HoldsStore {
        /// The directory.
        path: PathBuf,
        /// The folder of volumes and images.
        store: PathBuf,
    },
    /// The file system is full.
    #[error(
        "no space left while writing {path} ({free} bytes free): free some space or use a larger file system"
    )]
    Full {
        /// What was being written.
        path: PathBuf,
        /// Bytes free for this user at that moment.
        free: u64,
    },
    /// A tree deeper than any program can name by path.
    #[error("{path} lies deeper than {limit} directories: flatten the tree")]
    TooDeep {
        /// The directory at the limit.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// An image changed while a volume was made from it, which nothing but another program can have done.
    #[error(
        "{path} changed while it was copied: find out what writes to images, and make the volume again"
    )]
    ImageChanged {
        /// The image's directory.
        path: PathBuf,
    },
    /// The volume is a directory where a disk is needed.
    #[error("{path} is a directory and no disk: its size is not kept by the file system")]
    NoDisk {
        /// The directory.
        path: PathBuf,
    },
    /// A disk cannot be made smaller, since its end may hold data.
    #[error("{path} has {size} bytes, which {wanted} would cut off: ask for {size} bytes or more")]
    Shrinks {
        /// The disk.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The smaller size that was asked for.
        wanted: u64,
    },
    /// The operation was told to stop.
    #[error("the copy was stopped before it was complete; nothing of it was kept")]
    Stopped,
    /// Any other failure of the system.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// For instance `read`.
        action: &'static str,
        /// The object.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The record beside a volume or image cannot be read.
    #[error("{path} is damaged ({source}): delete the volume or image and make it again")]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        match source.raw_os_error() {
            Some(code)
                if code == rustix::io::Errno::NOSPC.raw_os_error()
                    || code == rustix::io::Errno::DQUOT.raw_os_error() =>
            {
                Self::Full {
                    path: path.to_owned(),
                    free: free_bytes(path),
                }
            }
            _ => Self::Io {
                action,
                path: path.to_owned(),
                source,
            },
        }
    }
}

/// Bytes that an ordinary user may still write near this path; 0 when it cannot be told.
fn free_bytes(path: &Path) -> u64 {
    path.ancestors()
        .find_map(|near| rustix::fs::statvfs(near).ok())
        .map_or(0, |facts| facts.f_bavail.saturating_mul(facts.f_frsize))
}
