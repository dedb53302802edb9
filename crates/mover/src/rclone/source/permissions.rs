//! `permissions.facl`: owners, modes and ACLs in VolSync's form, for whoever fetches without Syncline.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::send::broken;
use super::{Source, entries_of};
use crate::rclone::facl;
use crate::rclone::manifest::Manifest;
use crate::rclone::outcome::Setback;
use crate::tree::{Entry, Scan};

impl Source<'_> {
    /// Leaves VolSync's form of owners, modes and ACLs at the root of the path, unless `memory` says that it is there and that
    /// `is_sure`.
    pub(super) async fn send_permissions(
        &self,
        tree: &Scan,
        (memory, is_sure): (Option<&Manifest>, bool),
    ) -> Result<(), Setback> {
        let file = self.folder.file(facl::FILE_NAME);
        let hash =
            write_permissions(&tree.entries, &file).map_err(|error| broken(&error.to_string()))?;
        let known = memory.map(|memory| permissions_hash(entries_of(Some(memory))));
        let is_known = known.and_then(Result::ok) == Some(hash);
        if is_known && is_sure && !self.has_put_permissions.get() {
            return Ok(());
        }
        self.has_put_permissions.set(true);
        let spot = self.rclone.remote().data_file(facl::FILE_NAME);
        let put = self.rclone.put(&file, &spot).await;
        self.has_begun
            .set(self.has_begun.get() || !is_known || put.is_err());
        put
    }
}

fn write_permissions(entries: &[Entry], file: &Path) -> io::Result<blake3::Hash> {
    // A try before this one may have left it.
    let _ = std::fs::remove_file(file);
    let mut hashing = Hashing {
        hasher: blake3::Hasher::new(),
        to: File::create(file)?,
    };
    let mut to = BufWriter::new(&mut hashing);
    facl::write(entries, &mut to)?;
    to.flush()?;
    drop(to);
    Ok(hashing.hasher.finalize())
}

fn permissions_hash(entries: &[Entry]) -> io::Result<blake3::Hash> {
    let mut hashing = Hashing {
        hasher: blake3::Hasher::new(),
        to: io::sink(),
    };
    facl::write(entries, &mut hashing)?;
    Ok(hashing.hasher.finalize())
}

/// Writes on, and hashes what passes.
struct Hashing<W> {
    hasher: blake3::Hasher,
    to: W,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
