//! How much a tree holds.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::walk;
use crate::{Error, Usage};

/// Measures the tree at `path`. Entries that vanish meanwhile do not count.
pub(crate) fn usage(path: &Path) -> Result<Usage, Error> {
    let root = walk::open_root(path)?;
    let mut total = Usage::default();
    let mut linked = HashSet::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        let failed = |error: Errno| Error::io("measure", &path.join(&relative), error);
        let dir = match walk::open_below(&root, &relative) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(error) => return Err(failed(error)),
        };
        for name in walk::names(&dir).map_err(failed)? {
            let Some(stat) = walk::look(&dir, &name).map_err(failed)? else {
                continue;
            };
            total.entries += 1;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                waiting.push(relative.join(walk::as_name(&name)));
            }
            if stat.st_nlink > 1
                && FileType::from_raw_mode(stat.st_mode) != FileType::Directory
                && !linked.insert((stat.st_dev, stat.st_ino))
            {
                continue;
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                total.bytes += u64::try_from(stat.st_size).unwrap_or(0);
            }
            total.allocated += u64::try_from(stat.st_blocks)
                .unwrap_or(0)
                .saturating_mul(512);
        }
    }
    Ok(total)
}
