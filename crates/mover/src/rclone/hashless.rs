//! Objects of which a store knows no checksum, although it knows those of others: on S3 such as another program uploaded in
//! parts, or rclone itself with `disable_checksum`; on a Nextcloud such as a browser left there.
//!
//! Told to compare checksums, rclone takes such an object for the same as any file that is as large. So nothing is compared
//! by checksum before it is known that there is one.

use std::collections::HashSet;
use std::ffi::OsStr;

use crate::rclone::names;
use crate::rclone::outcome::Setback;
use crate::rclone::passes;
use crate::rclone::program::Rclone;
use crate::rclone::store::Listed;
use crate::tree::Entry;

impl Rclone {
    /// Parts the files at `indices` into those whose objects have a checksum, and others.
    pub(crate) async fn hashed(
        &self,
        entries: &[Entry],
        indices: &[usize],
    ) -> Result<(Vec<usize>, Vec<usize>), Setback> {
        let features = self.features().await?;
        if !features.hashes {
            return Ok((Vec::new(), indices.to_vec()));
        }
        // Where a checksum is made by reading the file, each has one.
        if indices.is_empty() || !features.cheap_hashes {
            return Ok((indices.to_vec(), Vec::new()));
        }
        let files: Vec<&Entry> = indices
            .iter()
            .filter_map(|index| entries.get(*index))
            .collect();
        let data = self.remote().data();
        let (store, of) = (data.to_string(), entries.len() as u64);
        let mut known: HashSet<Vec<u8>> = HashSet::new();
        let mut each = |listed: Listed| {
            if listed.has_hash() {
                known.insert(listed.name);
            }
        };
        for command in passes::checksums(&files, OsStr::new(&store), of, features) {
            self.read_listing(command, &data, &mut each).await?;
        }
        let is_hashed = |index: &usize| {
            let entry = entries.get(*index);
            entry.is_some_and(|entry| known.contains(&names::listed(&entry.path)))
        };
        Ok(indices.iter().copied().partition(is_hashed))
    }

    /// Are there files without a checksum under the path, where others have one? Of those that a transfer of everything would
    /// carry, `filter` being as for [`passes::whole`].
    pub(crate) async fn has_hashless(&self, filter: &str) -> Result<bool, Setback> {
        if !self.features().await?.cheap_hashes {
            return Ok(false);
        }
        let data = self.remote().data();
        let command = passes::chosen(OsStr::new(&data.to_string()), filter).arg("--hash");
        let mut is_any = false;
        let mut each = |listed: Listed| is_any |= !listed.has_hash();
        self.read_listing(command, &data, &mut each).await?;
        Ok(is_any)
    }

    /// The names, as a listing has them, of what a transfer of everything from the store would carry; `None` where the keys of
    /// the Secret do more than to pass over files.
    pub(crate) async fn chosen(&self, filter: &str) -> Result<Option<HashSet<Vec<u8>>>, Setback> {
        if !self.only_filters() {
            return Ok(None);
        }
        let data = self.remote().data();
        let command = passes::chosen(OsStr::new(&data.to_string()), filter);
        let mut names: HashSet<Vec<u8>> = HashSet::new();
        let mut each = |listed: Listed| {
            names.insert(listed.name);
        };
        self.read_listing(command, &data, &mut each).await?;
        Ok(Some(names))
    }
}
