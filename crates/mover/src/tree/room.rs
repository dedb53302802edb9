//! Whether files will fit.

use std::path::Path;

use rustix::fs::{statfs, statvfs};
use rustix::process::geteuid;

use super::{Entry, Scan};

/// What most file systems round files up to, in bytes.
const BLOCK: u64 = 4096;

/// File systems (`statfs`'s `f_type`) on which a byte of data takes a byte of room: ext2 to ext4, XFS, tmpfs. Others
/// compress or share, or are a server's, whose word on free room means little.
const PLAIN: [u64; 3] = [0xEF53, 0x5846_5342, 0x0102_1994];

/// Room that is needed and room that there is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// What the files take, less what those take that they replace.
    pub(crate) needed: u64,
    /// What is free for this process; `None` where that tells nothing about what fits.
    pub(crate) free: Option<u64>,
}

impl Room {
    /// Can it fit? A no is certain.
    pub(crate) fn fits(self) -> bool {
        self.free.is_none_or(|free| self.needed <= free)
    }
}

/// Compares the room that the files of `wanted` need with what is free at `root`, which holds `present`.
pub(crate) fn room<'a>(
    root: &Path,
    wanted: impl IntoIterator<Item = &'a Entry>,
    present: &Scan,
) -> std::io::Result<Room> {
    let (mut comes, mut goes) = (0_u64, 0_u64);
    for entry in wanted.into_iter().filter(|entry| entry.is_file()) {
        comes = comes.saturating_add(rounded(entry.size));
        let replaced = present.at(&entry.path).filter(|entry| entry.is_file());
        goes = goes.saturating_add(replaced.map_or(0, |entry| rounded(entry.size)));
    }
    Ok(Room {
        needed: comes.saturating_sub(goes),
        free: free(root)?,
    })
}

fn rounded(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

fn free(root: &Path) -> std::io::Result<Option<u64>> {
    let kind = u64::try_from(statfs(root)?.f_type).unwrap_or_default();
    if !PLAIN.contains(&kind) {
        return Ok(None);
    }
    let volume = statvfs(root)?;
    // Root may use what file systems reserve.
    let blocks = if geteuid().is_root() {
        volume.f_bfree
    } else {
        volume.f_bavail
    };
    Ok(Some(blocks.saturating_mul(volume.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replaces_something_needs_only_the_difference() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), vec![1; 10_000]).unwrap();
        std::fs::write(folder.path().join("b"), vec![1; 5000]).unwrap();
        let scan = super::super::scan(folder.path()).unwrap();
        let none = Scan::default();
        let of = |present| room(folder.path(), &scan.entries, present).unwrap().needed;
        assert_eq!(of(&none), 12_288 + 8192);
        assert_eq!(of(&scan), 0);
    }

    #[test]
    fn what_is_larger_than_all_free_room_does_not_fit() {
        let room = |needed, free| Room { needed, free };
        assert!(room(10, Some(10)).fits());
        assert!(!room(11, Some(10)).fits());
        assert!(room(u64::MAX, None).fits());
    }
}
