//! A version with a manifest: exactly that, whatever the volume held before.

use std::ffi::OsStr;
use std::fs::File;
use std::io::BufReader;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use super::wait::seen_apart;
use super::{Destination, Done, Lost, Round};
use crate::rclone::changes::pairs;
use crate::rclone::facl;
use crate::rclone::generation::{Marker, described};
use crate::rclone::listing::{Comparison, Digest, Found};
use crate::rclone::manifest::{self, Manifest};
use crate::rclone::outcome::{Next, Setback};
use crate::rclone::passes::{self, Pass, Way};
use crate::rclone::settings::Held;
use crate::rclone::stats::amount;
use crate::rclone::store::{Evidence, Features, Listed};
use crate::report::{Fault, reason};
use crate::tree::{self, Entry, Linked, Room, Scan, Unpreserved, shown};

/// How often a listing that lacks files is asked for again.
const LOOKS: u32 = 3;
/// What the times of a file and its object may differ by, in seconds: some stores keep two seconds' worth.
const TIMES_DIFFER: u64 = 2;

/// What has to be fetched.
#[derive(Default)]
struct Need {
    /// Indices of files that come from the store.
    fetch: Vec<usize>,
    /// Indices of files that look right, and whose hash is to say whether they are.
    verify: Vec<usize>,
}

impl Destination<'_> {
    /// Makes the volume the version that `marker` tells of.
    pub(super) async fn accompanied(&self, marker: &Marker) -> Result<Round, Setback> {
        if let Some(key) = self.rclone.selective() {
            return Ok(Round::Foreign(format!(
                "{key} of the Secret chooses among the files"
            )));
        }
        let Some(manifest) = self.manifest(marker).await? else {
            return Ok(Round::Changed);
        };
        let found = match self.compare(marker, &manifest).await? {
            Ok(found) => found,
            Err(round) => return Ok(round),
        };
        let is_untouched = marker.listing.as_deref() == Some(found.digest.label().as_str());
        let features = self.rclone.features().await?;
        let present = self.prepare(&manifest).await?;
        let known = self.known(marker).filter(|_| is_untouched);
        let need = need(&manifest.entries, &present.entries, &|entry| {
            known.is_some_and(|known| entry.sent <= known && marker.doubt <= known)
        });
        self.check_room(&manifest, &present, &need).await?;
        let need = self.fetch(&manifest, need, features).await?;
        if let Some(path) = self.first_wrong(&manifest, &need).await? {
            return if self.is_still(Some(marker)).await? {
                Err(self.incomplete(&format!("{path} did not come as the manifest has it")))
            } else {
                Ok(Round::Changed)
            };
        }
        // Both look at what is there after the last object was read; which of them looks first is of no meaning.
        let (is_still, is_as_listed) = tokio::join!(
            self.is_still(Some(marker)),
            self.is_as_listed(&found.digest, &need)
        );
        if !is_still? || !is_as_listed? {
            return Ok(Round::Changed);
        }
        if !is_untouched
            && features.keeps_times
            && let Some(path) = self.first_rewritten(&manifest, &need)
        {
            return Ok(Round::Foreign(format!(
                "{path} was written after the source's run"
            )));
        }
        let unpreserved = self.restore(&manifest, present, &need).await?;
        let files = manifest.entries.iter().filter(|entry| entry.is_file());
        Ok(Round::Done(Done {
            generation: self.label_as_seen(marker, found.permissions.as_ref()),
            files: files.count() as u64,
            bytes: marker.bytes,
            lost: Lost::from(&unpreserved),
        }))
    }

    /// The manifest; `None` when the marker has moved on meanwhile.
    async fn manifest(&self, marker: &Marker) -> Result<Option<Arc<Manifest>>, Setback> {
        let damaged = |why: &str| {
            let message = format!(
                "the manifest of {} cannot be used: {why}; the next run of {} writes a new one (where it has spec.trigger.manual, \
                 give that a new value)",
                self.rclone.remote().data(),
                described(&marker.source)
            );
            Setback {
                fault: Fault::new(reason::LISTING_INCOMPLETE, message),
                next: Next::Wait,
            }
        };
        let Some(stored) = marker.manifest.clone() else {
            return Err(damaged("its marker names none"));
        };
        let Some(spot) = self.rclone.remote().state_file(&stored.name) else {
            return Err(damaged("no folder can lie beside that path"));
        };
        let file = self.folder.file("manifest");
        if stored.seal.size > manifest::LARGEST_STORED {
            let most = manifest::LARGEST_STORED >> 30;
            return Err(damaged(&format!(
                "{spot} is larger than {most} GiB, so Syncline did not write it"
            )));
        }
        if !self.rclone.fetch(&spot, &file, stored.seal.size).await? {
            return if self.is_still(Some(marker)).await? {
                Err(damaged(&format!("{spot} is not there")))
            } else {
                Ok(None)
            };
        }
        let read = tokio::task::spawn_blocking(move || {
            let read = File::open(&file)
                .map_err(|error| error.to_string())
                .and_then(|opened| {
                    manifest::read(BufReader::new(opened), &stored.seal)
                        .map_err(|error| error.to_string())
                });
            // It is in memory now, and so is the folder.
            let _ = std::fs::remove_file(&file);
            read
        });
        match read
            .await
            .map_err(|error| error.to_string())
            .and_then(|read| read)
        {
            Ok(manifest) => Ok(Some(Arc::new(manifest))),
            Err(_) if !self.is_still(Some(marker)).await? => Ok(None),
            Err(why) => Err(damaged(&format!("{spot}: {why}"))),
        }
    }

    /// Compares a listing with the manifest. The round is over when the store holds something else.
    async fn compare(
        &self,
        marker: &Marker,
        manifest: &Arc<Manifest>,
    ) -> Result<Result<Found, Round>, Setback> {
        let data = self.rclone.remote().data();
        let mut looks = 0;
        loop {
            looks += 1;
            let mut comparison = Comparison::with(&manifest.entries);
            self.rclone
                .list(&data, Evidence::Cheap, &mut |listed| {
                    comparison.take(&listed);
                })
                .await?;
            let found = comparison.found();
            if self
                .has_others_permissions(&found, marker, manifest)
                .await?
            {
                if !self.is_still(Some(marker)).await? {
                    return Ok(Err(Round::Changed));
                }
                let words = format!("another source wrote its {} last", facl::FILE_NAME);
                return Ok(Err(Round::Foreign(words)));
            }
            if found.is_exact() {
                return Ok(Ok(found));
            }
            if !self.is_still(Some(marker)).await? {
                return Ok(Err(Round::Changed));
            }
            let words = found.describe(&manifest.entries);
            if found.missing.is_empty() {
                return Ok(Err(Round::Foreign(words)));
            }
            if looks == LOOKS {
                return Err(self.incomplete(&words));
            }
            tokio::time::sleep(self.settings.wait_unit).await;
        }
    }

    /// Are the permissions others than the marker's source wrote? VolSync's source writes its own at the end of each run.
    ///
    /// What a listing tells of them may depend on the way to the store, so their content decides.
    async fn has_others_permissions(
        &self,
        found: &Found,
        marker: &Marker,
        manifest: &Arc<Manifest>,
    ) -> Result<bool, Setback> {
        let Some(listed) = &found.permissions else {
            return Ok(false);
        };
        if marker.permissions.as_ref() == Some(&listed.stamp()) {
            return Ok(false);
        }
        let Ok(file) = self.fetch_permissions(Some(listed)).await? else {
            return Ok(false);
        };
        let manifest = Arc::clone(manifest);
        self.beside(move || {
            let (mut there, mut own) = (blake3::Hasher::new(), blake3::Hasher::new());
            let read = File::open(&file).and_then(|opened| {
                there.update_reader(opened)?;
                facl::write(&manifest.entries, &mut own)
            });
            // It is in memory, as all of the folder.
            let _ = std::fs::remove_file(&file);
            read.map_err(|error| {
                let message = format!(
                    "the mover's own files cannot be used: {error}; give its pod more memory"
                );
                Fault::new(reason::POD_INCOMPLETE, message)
            })?;
            Ok(there.finalize() != own.finalize())
        })
        .await
    }

    fn incomplete(&self, words: &str) -> Setback {
        let remote = self.rclone.remote();
        let state = remote
            .state()
            .map(|spot| spot.to_string())
            .unwrap_or_default();
        let message = format!(
            "{} does not hold what its manifest says: {words}; nothing was deleted in the volume. If another program writes \
             there now, remove {state}generation.json; else the source's next full check puts it right, which the annotation \
             syncline.dev/rclone-full-check-every: \"1\" at the source makes its next run",
            remote.data()
        );
        Setback {
            fault: Fault::new(reason::LISTING_INCOMPLETE, message),
            next: Next::Wait,
        }
    }

    /// The newest generation of the marker's history whose files the volume is known to hold.
    fn known(&self, marker: &Marker) -> Option<u64> {
        let Held::Version(held) = &self.settings.held else {
            return None;
        };
        let (label, _) = seen_apart(held);
        marker.number_of(label)
    }

    /// Clears the volume of what stands in the way, and sees what it holds.
    async fn prepare(&self, manifest: &Arc<Manifest>) -> Result<Scan, Setback> {
        let (root, manifest) = (self.root.clone(), Arc::clone(manifest));
        self.beside(move || {
            tree::prepare(&root, &manifest.entries)
                .map_err(|error| Fault::new(reason::DESTINATION_UNWRITABLE, error.to_string()))
        })
        .await
    }

    /// Refuses a version that cannot fit, before anything is written.
    async fn check_room(
        &self,
        manifest: &Arc<Manifest>,
        present: &Scan,
        need: &Need,
    ) -> Result<(), Setback> {
        let wanted = need
            .fetch
            .iter()
            .filter_map(|index| manifest.entries.get(*index));
        let Ok(room) = tree::room(&self.root, wanted, present) else {
            // A file system that does not say what is free says so when it is full.
            return Ok(());
        };
        if room.fits() {
            return Ok(());
        }
        let goes = pairs(&manifest.entries, &present.entries)
            .filter_map(|(_, wanted, here)| if wanted.is_none() { here } else { None });
        let goes = goes.map(|entry| entry.size).fold(0, u64::saturating_add);
        let with_room = Room {
            free: room.free.map(|free| free.saturating_add(goes)),
            ..room
        };
        if !with_room.fits() {
            return Err(too_small(with_room));
        }
        // What goes makes room for what comes.
        let (root, manifest) = (self.root.clone(), Arc::clone(manifest));
        self.beside(move || {
            tree::prune(&root, &manifest.entries)
                .map_err(|error| Fault::new(reason::DESTINATION_UNWRITABLE, error.to_string()))
        })
        .await
        .map(drop)
    }

    /// Fetches, and gives what was looked at as it was done.
    async fn fetch(
        &self,
        manifest: &Manifest,
        mut need: Need,
        features: Features,
    ) -> Result<Need, Setback> {
        let (verify, mut hashless) = self.rclone.hashed(&manifest.entries, &need.verify).await?;
        need.verify = verify;
        // Nothing but the content itself tells whether it is right.
        need.fetch.append(&mut hashless);
        need.fetch.sort_unstable();
        let of = manifest.entries.len() as u64;
        let from = self.rclone.remote().data().to_string();
        for (indices, pass) in [(&need.fetch, Pass::Always), (&need.verify, Pass::ByHash)] {
            let files: Vec<&Entry> = indices
                .iter()
                .filter_map(|index| manifest.entries.get(*index))
                .collect();
            let way = Way::Down {
                store: OsStr::new(&from),
                volume: self.root.as_os_str(),
            };
            self.run_all(passes::copies(&files, way, (pass, of), features))
                .await?;
        }
        Ok(need)
    }

    /// The first file that is not in the volume as the manifest has it: rclone passes over names that it does not find.
    async fn first_wrong(
        &self,
        manifest: &Arc<Manifest>,
        need: &Need,
    ) -> Result<Option<String>, Setback> {
        let (root, manifest) = (self.root.clone(), Arc::clone(manifest));
        let indices: Vec<usize> = need.fetch.iter().chain(&need.verify).copied().collect();
        self.beside(move || {
            let mut entries = indices
                .iter()
                .filter_map(|index| manifest.entries.get(*index));
            let wrong = entries.find(|entry| {
                let found = std::fs::symlink_metadata(at(&root, entry));
                !found.is_ok_and(|found| found.is_file() && found.len() == entry.size)
            });
            Ok(wrong.map(|entry| shown(&entry.path)))
        })
        .await
    }

    /// Does a listing still show what it showed before the transfer? Whoever keeps no marker may have written meanwhile.
    async fn is_as_listed(&self, before: &Digest, need: &Need) -> Result<bool, Setback> {
        if need.fetch.is_empty() && need.verify.is_empty() {
            return Ok(true);
        }
        let mut after = Digest::default();
        let mut each = |listed: Listed| {
            if listed.name != facl::FILE_NAME.as_bytes() {
                after.add(&listed);
            }
        };
        let data = self.rclone.remote().data();
        self.rclone.list(&data, Evidence::Cheap, &mut each).await?;
        Ok(after == *before)
    }

    /// The first file whose object has another time than the manifest: somebody wrote it later, by the same size.
    fn first_rewritten(&self, manifest: &Manifest, need: &Need) -> Option<String> {
        let looked_at = need.fetch.iter().chain(&need.verify);
        let mut entries = looked_at.filter_map(|index| manifest.entries.get(*index));
        let rewritten = entries.find(|entry| {
            use std::os::unix::fs::MetadataExt as _;
            let found = std::fs::symlink_metadata(at(&self.root, entry));
            found.is_ok_and(|found| found.mtime().abs_diff(entry.mtime.sec) > TIMES_DIFFER)
        })?;
        Some(shown(&rewritten.path))
    }

    /// Removes what the version does not have, and gives everything what objects do not carry.
    async fn restore(
        &self,
        manifest: &Arc<Manifest>,
        mut present: Scan,
        need: &Need,
    ) -> Result<Unpreserved, Setback> {
        // What was written since is to be looked at again, and so are folders, whose times go with their contents.
        let written: std::collections::HashSet<&[u8]> = need
            .fetch
            .iter()
            .chain(&need.verify)
            .filter_map(|index| Some(manifest.entries.get(*index)?.path.as_slice()))
            .collect();
        present
            .entries
            .retain(|entry| !entry.is_folder() && !written.contains(entry.path.as_slice()));
        let (root, manifest) = (self.root.clone(), Arc::clone(manifest));
        self.beside(move || {
            tree::prune(&root, &manifest.entries)
                .map_err(|error| Fault::new(reason::DESTINATION_UNWRITABLE, error.to_string()))?;
            tree::restore(&root, &manifest.entries, &present).map_err(|error| {
                let word = if error.is_full() {
                    syncline_api::report::reason::DESTINATION_FULL
                } else {
                    reason::DESTINATION_UNWRITABLE
                };
                Fault::new(word, error.to_string())
            })
        })
        .await
    }
}

/// Where an entry is in the volume. What leads there are folders: links in the way are gone.
fn at(root: &Path, entry: &Entry) -> std::path::PathBuf {
    root.join(OsStr::from_bytes(&entry.path))
}

pub(super) fn too_small(room: Room) -> Setback {
    let message = format!(
        "the volume has {} free, and what comes needs {}; make it larger (spec.rclone.capacity), or name a larger claim in \
         spec.rclone.destinationPVC",
        amount(room.free.unwrap_or_default()),
        amount(room.needed)
    );
    Fault::new(reason::DESTINATION_TOO_SMALL, message).into()
}

/// Which of the `wanted` files the volume lacks, and which only look right. Further names of a file are links, not files.
fn need(wanted: &[Entry], present: &[Entry], is_trusted: &dyn Fn(&Entry) -> bool) -> Need {
    let linked = Linked::of(wanted);
    let mut need = Need::default();
    for (index, wanted, here) in pairs(wanted, present) {
        let Some(wanted) =
            wanted.filter(|wanted| wanted.is_file() && linked.first(index).is_none())
        else {
            continue;
        };
        match here {
            Some(here) if here.looks_like(wanted) => {
                if !is_trusted(wanted) {
                    need.verify.push(index);
                }
            }
            _ => need.fetch.push(index),
        }
    }
    need
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Kind;
    use crate::tree::tests::entry;

    fn file(path: &str, seconds: i64) -> Entry {
        let mut file = entry(path, Kind::File);
        file.mtime.sec = seconds;
        file
    }

    #[test]
    fn files_that_differ_are_fetched_and_those_that_only_look_right_are_verified_unless_they_are_known()
     {
        let mut wanted = vec![file("a", 1), file("b", 1), file("c", 1), file("d", 1)];
        wanted[1].sent = 9;
        let present = vec![file("a", 1), file("b", 1), file("c", 2), file("e", 1)];
        let some = need(&wanted, &present, &|entry| entry.sent <= 5);
        assert_eq!((some.fetch, some.verify), (vec![2, 3], vec![1]));
        let all = need(&wanted, &present, &|_| false);
        assert_eq!((all.fetch, all.verify), (vec![2, 3], vec![0, 1]));
    }

    #[test]
    fn further_names_of_a_file_are_not_fetched() {
        let mut wanted = vec![file("a", 1), file("b", 1)];
        for entry in &mut wanted {
            entry.device_links = 2;
            entry.inode = 7;
        }
        assert_eq!(need(&wanted, &[], &|_| true).fetch, [0]);
    }
}
