//! Digging holes: giving back the room that zeros take in a file.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom, fallocate, openat, seek};
use rustix::io::Errno;

/// Smallest hole: what most file systems can dig.
const BLOCK: usize = 4096;
/// Bytes read at a time.
const PIECE: usize = 1024 * 1024;

/// Has the file a hole? That it takes less room than its size can also mean that the file system compresses.
///
/// A file that cannot be opened has none that anybody could see.
pub(super) fn has_hole(folder: BorrowedFd<'_>, name: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let Ok(file) = openat(folder, name, flags, Mode::empty()).map(File::from) else {
        return false;
    };
    let length = file.metadata().map_or(0, |found| found.len());
    // Behind the last byte there always is one.
    seek(&file, SeekFrom::Hole(0)).is_ok_and(|found| found < length)
}

/// Digs holes wherever the file has whole blocks of zeros. Its content stays the same.
///
/// Returns `false` where the file system has no holes.
pub(super) fn dig(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat(folder, name, flags, Mode::empty())?);
    let length = file.metadata()?.len();
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while let Some(data) = next_data(&file, at)? {
        // Blocks are dug whole, so reading begins at a block.
        at = data - data % BLOCK as u64;
        let end = length.min(at.saturating_add(PIECE as u64));
        let piece = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
        let Some(bytes) = buffer.get_mut(..piece) else {
            break;
        };
        file.read_exact_at(bytes, at)?;
        if !dig_piece(&file, at, bytes)? {
            return Ok(false);
        }
        at = end;
        if at >= length {
            break;
        }
    }
    Ok(true)
}

/// Where data follows, from `at` on; `None` when only a hole does.
fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NXIO) => Ok(None),
        // A file system that knows no holes has data everywhere.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok((at < file.metadata()?.len()).then_some(at)),
        Err(error) => Err(error.into()),
    }
}

fn dig_piece(file: &File, offset: u64, bytes: &[u8]) -> io::Result<bool> {
    let mut begun: Option<u64> = None;
    let mut at = offset;
    for block in bytes.chunks(BLOCK) {
        let is_empty = block.iter().all(|byte| *byte == 0);
        if is_empty {
            begun.get_or_insert(at);
        } else if let Some(from) = begun.take()
            && !punch(file, from, at - from)?
        {
            return Ok(false);
        }
        at += block.len() as u64;
    }
    match begun {
        Some(from) => punch(file, from, at - from),
        None => Ok(true),
    }
}

fn punch(file: &File, from: u64, length: u64) -> io::Result<bool> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fallocate(file, flags, from, length) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;

    fn dug(content: &[u8]) -> (Vec<u8>, u64) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, content).unwrap();
        let handle = File::open(folder.path()).unwrap();
        assert!(dig(handle.as_fd(), b"file").unwrap());
        let blocks = std::fs::metadata(&path).unwrap().blocks();
        (std::fs::read(&path).unwrap(), blocks * 512)
    }

    #[test]
    fn zeros_give_their_room_back() {
        let mut content = vec![0; 8 << 20];
        content[..4].copy_from_slice(b"head");
        content[4 << 20..(4 << 20) + 8192].fill(7);
        let (after, taken) = dug(&content);
        assert!(after == content);
        assert!(taken <= 32 * 1024, "{taken} bytes are still taken");
        let (after, taken) = dug(&vec![0; (3 << 20) + 17]);
        assert_eq!(after.len(), (3 << 20) + 17);
        assert!(taken <= 4096, "{taken} bytes are still taken");
    }

    #[test]
    fn a_hole_is_told_from_data() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("data"), vec![0; 1 << 20]).unwrap();
        let hole = File::create(folder.path().join("hole")).unwrap();
        hole.set_len(1 << 20).unwrap();
        std::fs::write(folder.path().join("empty"), "").unwrap();
        let handle = File::open(folder.path()).unwrap();
        let found = ["data", "hole", "empty", "missing"]
            .map(|name| has_hole(handle.as_fd(), name.as_bytes()));
        assert_eq!(found, [false, true, false, false]);
    }

    #[test]
    fn an_empty_file_has_nothing_to_dig() {
        assert_eq!(dug(b"").0, b"");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn no_byte_changes(runs in proptest::collection::vec((any::<bool>(), 0_usize..40_000), 0..80)) {
            let content: Vec<u8> = runs
                .iter()
                .flat_map(|(zero, length)| std::iter::repeat_n(u8::from(!zero) * 9, *length))
                .collect();
            prop_assert!(dug(&content).0 == content);
        }
    }
}
