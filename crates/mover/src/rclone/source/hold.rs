//! Holding a path: of two runs that write to it at the same time one is told, and stops.
//!
//! A store offers no locks. Each run first writes a claim of its own and then looks for others'; of two that begin
//! together at least one sees the other. Whoever sees a claim writes the marker and waits until a run that still lives
//! has found its own marker gone and stopped; whoever sees none goes on at once, which is the common case.
//!
//! A run that cannot see for a while that the marker is its own (the store is slow or overloaded) ends its uploads before that
//! wait is over, and writes no marker after such a time: what it began could arrive after another run's.
//!
//! Not promised: a run that is frozen for longer than the wait, in the middle of an upload, still ends that upload.

use std::time::Duration;

use tokio::time::Instant;

use super::Source;
use super::word::Word;
use crate::rclone::generation::{self, MARKER, Marker};
use crate::rclone::outcome::{Next, Setback};
use crate::rclone::program::Command;
use crate::rclone::settings::Spot;
use crate::rclone::store::Evidence;
use crate::report::{Fault, reason};

/// How often a run looks whether the marker is still its own, in units of waiting.
const WATCH: u32 = 5;
/// How long a run waits after it took a path that another run claims, in the same units.
pub(super) const SETTLE: u32 = 45;
/// How often a run shows that it is at work, in the same units.
const HEARTBEAT: u32 = 60;

impl Source<'_> {
    /// Announces the version `next`, if nothing happened since `seen` was read. Gives whether another run had, or has, a
    /// claim: it may have changed the store after the marker that this run saw.
    pub(super) async fn take(&self, seen: Option<&Marker>, next: &Marker) -> Result<bool, Setback> {
        let remote = self.rclone.remote();
        let (Some(place), Some(claim)) = (
            remote.state_file(MARKER),
            remote.state_file(&generation::claim_name(&self.run)),
        ) else {
            return Ok(false);
        };
        if !self.claimed.get() {
            self.rclone.write_small(&claim, &next.to_bytes()).await?;
            self.claimed.set(true);
        }
        // In this order: a run whose claim has gone has left its marker before.
        let names = self.state_names().await?;
        let is_there = names.iter().any(|name| name == MARKER);
        // It was asked for by its name when this try began: where nothing lies to be lost, a listing's word is enough now.
        let now = if seen.is_some() || is_there || !self.bare.get() {
            self.marker().await?
        } else {
            None
        };
        if now.as_ref() != seen {
            let fault = match &now {
                Some(now) => {
                    self.check_standing(now)?;
                    self.rivalled("began at the same time as this one")
                }
                None => self.removed(),
            };
            let next = Next::Wait;
            return Err(Setback { fault, next });
        }
        self.note_before(seen);
        let own = generation::claim_name(&self.run);
        let rivals = names
            .iter()
            .filter(|name| generation::is_claim(name) && **name != own);
        let rivals = rivals.count();
        if rivals > 0 {
            self.doubt_before();
        }
        self.write_in_time(&place, next).await?;
        self.beside.replace(names);
        if rivals == 0 {
            return Ok(false);
        }
        // What lies there is theirs, whatever was seen before.
        self.bare.set(false);
        self.console.say(&format!(
            "{rivals} run(s) before this one did not end properly, or still go on; waiting until they have noticed this one"
        ));
        self.tell_of_leftovers().await?;
        tokio::select! {
            () = tokio::time::sleep(self.settings.wait_unit * SETTLE) => {}
            fault = self.rclone.stopped() => return Err(fault.into()),
        }
        self.still_ours().await?;
        Ok(true)
    }

    /// Says what runs that died may have left where no listing shows it.
    async fn tell_of_leftovers(&self) -> Result<(), Setback> {
        let data = self.rclone.remote().data();
        let is_in_buckets = self.rclone.features().await?.bucket_based;
        let count = if is_in_buckets {
            self.rclone.unfinished_uploads(&data).await?
        } else {
            0
        };
        if count > 0 {
            self.console.say(&format!(
                "{count} upload(s) in parts to {data} have not ended and take room in the store; those of runs that died go with \
                 `rclone backend cleanup` or by a rule of the bucket (AbortIncompleteMultipartUpload)"
            ));
        }
        Ok(())
    }

    /// What lies in the state path.
    pub(super) async fn state_names(&self) -> Result<Vec<String>, Setback> {
        match self.rclone.remote().state() {
            Some(folder) => self.names_in(&folder).await,
            None => Ok(Vec::new()),
        }
    }

    /// What lies in `folder`.
    pub(super) async fn names_in(&self, folder: &Spot) -> Result<Vec<String>, Setback> {
        let mut names = Vec::new();
        let mut each = |listed: crate::rclone::store::Listed| {
            names.extend(String::from_utf8(listed.name).ok());
        };
        self.rclone.list(folder, Evidence::Sizes, &mut each).await?;
        Ok(names)
    }

    /// Ends when another run has taken the path, or could have without this one having seen it. Shows meanwhile, in the marker
    /// `announced`, that this one is at work.
    pub(super) async fn watch(&self, announced: &Marker) -> Setback {
        let lease = self.settings.lease;
        let mut seen = Instant::now();
        let mut shown = Instant::now();
        loop {
            tokio::time::sleep(self.settings.wait_unit * WATCH).await;
            let asked = Instant::now();
            let left = lease.saturating_sub(seen.elapsed());
            let mut is_due = shown.elapsed() >= self.settings.wait_unit * HEARTBEAT;
            match tokio::time::timeout(left, self.still_ours()).await {
                Ok(Ok(is_whole)) => {
                    seen = asked;
                    is_due |= !is_whole;
                }
                Ok(Err(setback)) if setback.fault.reason == reason::PATH_IN_USE => return setback,
                // That the store does not answer is said by the uploads.
                Ok(Err(_)) | Err(_) => {}
            }
            if seen.elapsed() >= lease {
                return self.unseen(lease);
            }
            if is_due && let Some(place) = self.rclone.remote().state_file(MARKER) {
                shown = Instant::now();
                let alive = announced.alive_at(jiff::Timestamp::now());
                self.beats.send_replace(true);
                // One that is not taken is followed by another.
                let _ = self.write_in_time(&place, &alive).await;
                self.beats.send_replace(false);
            }
        }
    }

    /// Removes what `marker` does not name of what lay beside the path when this run began, and this run's claim: nothing of
    /// it writes to the store any more. What stays is removed by a later run.
    pub(super) async fn sweep(&self, marker: &Marker) {
        let current = marker.manifest.as_ref().map(|stored| stored.name.as_str());
        let is_old = |name: &String| {
            generation::is_claim(name)
                || (generation::is_manifest(name) && Some(name.as_str()) != current)
        };
        let mut old: Vec<String> = self.beside.take().into_iter().filter(is_old).collect();
        old.push(generation::claim_name(&self.run));
        if self.remove_beside(old.iter()).await {
            self.claimed.set(false);
        }
    }

    /// Removes the marker, where this source goes on without one.
    pub(super) async fn forget_marker(&self) -> Result<(), Setback> {
        match self.rclone.remote().state_file(MARKER) {
            Some(spot) => self.rclone.remove(&spot).await,
            None => Ok(()),
        }
    }

    /// Removes files of the state path by their names; those that stay are named.
    async fn remove_beside(&self, names: impl Iterator<Item = &String>) -> bool {
        match self.rclone.remote().state() {
            Some(folder) => self.remove_in(&folder, names).await,
            None => true,
        }
    }

    /// The same in `folder`.
    pub(super) async fn remove_in(
        &self,
        folder: &Spot,
        names: impl Iterator<Item = &String>,
    ) -> bool {
        let list: Vec<u8> = names.flat_map(|name| name.bytes().chain([0])).collect();
        if list.is_empty() {
            return true;
        }
        let command = Command::new("delete").arg(folder).names(list);
        let removed = self.rclone.run(command, self.console).await;
        if let Err(setback) = &removed {
            self.console.say(&format!(
                "old files stay at {folder}: {}",
                setback.fault.message
            ));
        }
        removed.is_ok()
    }

    /// Withdraws this run's claim: nothing of it writes to the store any more. Beside a marker that nobody can understand it
    /// stays, since nothing else says then whose the path is.
    pub(super) async fn let_go(&self) {
        let own = generation::claim_name(&self.run);
        let claim = self.rclone.remote().state_file(&own);
        let Some(spot) = claim.filter(|_| self.claimed.get()) else {
            return;
        };
        let removed = match self.word().await {
            Ok(Word::Garbled(error)) => {
                let place = self.marker_place();
                Err(format!("{place} cannot be understood: {error}"))
            }
            Ok(Word::Nothing | Word::Said(_)) => {
                let removed = self.rclone.remove(&spot).await;
                removed.map_err(|setback| setback.fault.message)
            }
            Err(setback) => Err(setback.fault.message),
        };
        if let Err(why) = removed {
            self.console.say(&format!("{spot} stays: {why}"));
        }
    }
}

impl Source<'_> {
    pub(super) fn unseen(&self, time: Duration) -> Setback {
        Setback::new(
            reason::STORE_UNREACHABLE,
            format!(
                "for {} s the store did not show or take {}, so this run stopped before another could write to the same path; it \
                 is tried again",
                time.as_secs(),
                self.marker_place()
            ),
            Next::Wait,
        )
    }

    /// That another run, of this source as far as its marker tells, did `what`.
    pub(super) fn rivalled(&self, what: &str) -> Fault {
        let message = format!(
            "another run on {} {what} ({} tells); it is tried again. If it goes on, two sources of one name write there, of two \
             clusters perhaps: give each a path of its own",
            self.rclone.remote().data(),
            self.marker_place()
        );
        Fault::new(reason::PATH_IN_USE, message)
    }

    pub(super) fn removed(&self) -> Fault {
        let message = format!(
            "{} was removed while this run was at work on {}; it is tried again. If it goes on, find out what deletes there, such as a \
             lifecycle rule of the bucket",
            self.marker_place(),
            self.rclone.remote().data()
        );
        Fault::new(reason::PATH_IN_USE, message)
    }

    pub(super) fn marker_place(&self) -> String {
        let spot = self.rclone.remote().state_file(MARKER);
        spot.map_or_else(|| MARKER.to_owned(), |spot| spot.to_string())
    }
}
