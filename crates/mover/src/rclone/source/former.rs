//! Places that had the notes on this path before: the usual one, where this source was told another, and those where markers
//! say that the notes went.
//!
//! Invariant: before the first object is touched no marker in such a place says that a version lies under the path; whoever
//! had the path before finds there whose it is now.

use jiff::Timestamp;

use super::Source;
use super::hold::SETTLE;
use crate::rclone::generation::{
    self, LARGEST_MARKER, MARKER, Marker, Standing, State, Unreadable,
};
use crate::rclone::outcome::{Next, Setback};
use crate::rclone::settings::Spot;
use crate::report::{Fault, reason};

/// So many places are looked at, one after the other.
const MOST_PLACES: usize = 8;

/// A place that had the notes on this path, of this source or of one that it replaces.
#[derive(Clone)]
pub(super) struct Former {
    folder: Spot,
    /// The marker as this run found it; none where it is half of one, of this source.
    seen: Option<Marker>,
    /// This run's claim lies there, or may.
    is_claimed: bool,
    /// This run has ended its word, and no other that began on it is at work any more.
    is_settled: bool,
}

/// What lies in the marker's place there.
enum Lying {
    Nothing,
    Said(Box<Marker>),
    Garbled,
}

/// A place to look at.
struct Lead {
    folder: Spot,
    /// Whoever may not look there may not go on.
    is_needed: bool,
}

impl Source<'_> {
    /// Refuses a path of which another source keeps its notes in the usual place, where this one was told another.
    pub(super) async fn check_usual_place(&self) -> Result<(), Setback> {
        match self.rclone.remote().passed_by_state() {
            Some(folder) => {
                // Keys that may not look there have no business there.
                let is_needed = false;
                self.follow(Lead { folder, is_needed }).await
            }
            None => Ok(()),
        }
    }

    /// Looks where the notes went of which `marker`, in this source's own place, was left.
    pub(super) async fn check_where_notes_went(&self, marker: &Marker) -> Result<(), Setback> {
        match self.lead(marker) {
            Some(lead) => self.follow(lead).await,
            None => Ok(()),
        }
    }

    /// Where `marker` says that the notes are, if that is another place than this source's.
    fn lead(&self, marker: &Marker) -> Option<Lead> {
        let remote = self.rclone.remote();
        let notes = marker.notes.as_ref()?;
        let is_here = remote.state_path.as_ref() == Some(notes);
        let leads_on = !marker.is_of_other_path(&remote.path) && !is_here;
        let standing = marker.standing(&self.me);
        leads_on.then(|| Lead {
            folder: remote.folder_at(notes),
            // Another that is at work there would notice nothing.
            is_needed: !matches!(standing, Standing::Own | Standing::Inherited),
        })
    }

    async fn follow(&self, first: Lead) -> Result<(), Setback> {
        let mut visited = Vec::new();
        let mut next = Some(first);
        while let Some(lead) = next.take()
            && visited.len() < MOST_PLACES
            && !visited.contains(&lead.folder)
        {
            next = self.look_at_former(&lead).await?;
            visited.push(lead.folder);
        }
        Ok(())
    }

    /// Gives where the notes went from there.
    async fn look_at_former(&self, lead: &Lead) -> Result<Option<Lead>, Setback> {
        let (remote, folder) = (self.rclone.remote(), &lead.folder);
        let spot = folder.file(MARKER);
        let is_usual = remote.passed_by_state().as_ref() == Some(folder);
        let is_bucket = is_usual && remote.is_bucket();
        let bytes = match self.rclone.read_by_name(&spot, LARGEST_MARKER).await {
            Ok(Some(bytes)) => bytes,
            Err(setback) if setback.next == Next::Wait || lead.is_needed => return Err(setback),
            Ok(None) => return Ok(None),
            Err(setback) => {
                // Said once, by the run that comes from there, if this source does.
                let is_new_here = self.settings.last_generation.is_none() && !is_bucket;
                if is_new_here && setback.fault.reason == reason::STORE_REFUSED {
                    self.unread.borrow_mut().insert(spot.to_string());
                }
                return Ok(None);
            }
        };
        if is_bucket
            && self.rclone.features().await?.bucket_based
            && self.rclone.is_not_among_ours(folder).await?
        {
            return Ok(None);
        }
        let holder = match Marker::parse(&bytes) {
            Ok(marker) if is_usual && marker.is_of_neighbour(&remote.path) => return Ok(None),
            Ok(marker) if !is_usual && marker.is_of_other_path(&remote.path) => return Ok(None),
            // It is this run's own place, spelled otherwise.
            Ok(marker) if self.is_own_word(&marker) => return Ok(None),
            Ok(marker) if self.is_replaced_by_this(&marker) => {
                self.check_standing(&marker)?;
                let next = self.lead(&marker);
                if !marker.is_retired_by(&self.me, remote.state_path.as_deref()) {
                    self.remember_former(folder.clone(), Some(marker));
                }
                return Ok(next);
            }
            Ok(marker) => generation::described(&marker.source),
            // Half of what this run wrote; and for one that is at home elsewhere it tells of nobody.
            Err(Unreadable::Foreign(_) | Unreadable::OddManifest)
                if self.is_former(folder) || self.settings.last_generation.is_some() =>
            {
                return Ok(None);
            }
            // Half of what a run of this source wrote that died there.
            Err(Unreadable::Foreign(_) | Unreadable::OddManifest)
                if self.has_claims_of_ours_alone(folder).await? =>
            {
                self.remember_former(folder.clone(), None);
                return Ok(None);
            }
            Err(error) => format!("a source that cannot be told ({error})"),
        };
        let message = format!(
            "{} is written by {holder} ({spot} tells); give this source another path; only if that source is gone for good, let \
             this one take the path over with the annotation syncline.dev/rclone-take-over and the uid that stands there, or \
             remove {spot}",
            remote.data()
        );
        Err(Fault::new(reason::PATH_IN_USE, message).into())
    }

    fn is_former(&self, folder: &Spot) -> bool {
        let formers = self.formers.borrow();
        formers.iter().any(|former| former.folder == *folder)
    }

    /// Is `marker` what this run says in its own place? In others it ends what they say.
    fn is_own_word(&self, marker: &Marker) -> bool {
        marker.run == self.run && marker.state != State::Retired
    }

    /// Notes that `marker` lies in a place that is none of the notes' any more.
    fn remember_former(&self, folder: Spot, marker: Option<Marker>) {
        let mut formers = self.formers.borrow_mut();
        match formers.iter_mut().find(|former| former.folder == folder) {
            Some(_) if (marker.as_ref()).is_none_or(|marker| marker.run == self.run) => {}
            Some(former) => {
                former.seen = marker;
                former.is_settled = false;
            }
            None => formers.push(Former {
                folder,
                seen: marker,
                is_claimed: false,
                is_settled: false,
            }),
        }
    }

    /// Passes over what is this source's own place, spelled so that nobody sees it. `own` is the marker in that.
    pub(super) fn sort_formers(&self, own: Option<&Marker>) {
        let is_own = |seen: &Marker| {
            self.is_own_word(seen) || own.is_some_and(|own| own.is_same_version(seen))
        };
        let mut formers = self.formers.borrow_mut();
        formers.retain(|former| former.is_claimed || !former.seen.as_ref().is_some_and(is_own));
        if !formers.is_empty() {
            // What their markers told of may have changed since.
            self.doubt.set(true);
        }
    }

    /// Notes that `marker` lies where the notes would be if this source could keep any.
    pub(super) fn remember_own_place(&self, marker: Option<Marker>) {
        let marker = marker.filter(|marker| !marker.is_retired_by(&self.me, None));
        if let (Some(marker), Some(folder)) = (marker, self.rclone.remote().state()) {
            self.remember_former(folder, Some(marker));
        }
    }

    /// Announces the version after that of `marker`, by a source that follows all who had the path.
    pub(super) fn announcement(&self, marker: Option<&Marker>) -> Marker {
        let next = Marker::announcing(marker, &self.me, &self.run, Timestamp::now())
            .of_path(&self.settings.remote.path);
        let formers = self.formers.borrow();
        let seen = formers.iter().filter_map(|former| former.seen.as_ref());
        seen.fold(next, Marker::following)
    }

    /// Ends the word of the markers in former places. `notes` is where versions are told of now, if anywhere. Gives whether
    /// other runs had, or have, a claim there.
    pub(super) async fn retire_formers(&self, notes: Option<&str>) -> Result<bool, Setback> {
        let formers = self.formers.borrow().clone();
        let mut is_claimed = false;
        for former in &formers {
            is_claimed |= self.retire(former, notes).await?;
        }
        if is_claimed {
            self.bare.set(false);
            self.console.say(&format!(
                "run(s) with notes in another place, on {}, did not end properly, or still go on; waiting until they have noticed \
                 this one",
                self.rclone.remote().data()
            ));
            tokio::select! {
                () = tokio::time::sleep(self.settings.wait_unit * SETTLE) => {}
                fault = self.rclone.stopped() => return Err(fault.into()),
            }
            for former in &formers {
                self.check_still_retired(former).await?;
            }
        }
        for former in self.formers.borrow_mut().iter_mut() {
            former.is_settled = true;
        }
        Ok(is_claimed)
    }

    /// Changes what is known of `former`.
    fn note(&self, former: &Former, change: impl FnOnce(&mut Former)) {
        let mut formers = self.formers.borrow_mut();
        let known = formers
            .iter_mut()
            .find(|known| known.folder == former.folder);
        if let Some(known) = known {
            change(known);
        }
    }

    /// Gives whether other runs have a claim there.
    async fn retire(&self, former: &Former, notes: Option<&str>) -> Result<bool, Setback> {
        let spot = former.folder.file(MARKER);
        let seen = former.seen.as_ref();
        let retired = Marker::announcing(seen, &self.me, &self.run, Timestamp::now())
            .of_path(&self.settings.remote.path)
            .retired(notes);
        let own = generation::claim_name(&self.run);
        if !former.is_claimed {
            // As in the own place: of two that end the same word at least one sees the other.
            self.note(former, |former| former.is_claimed = true);
            let claim = former.folder.file(&own);
            let claimed = self.rclone.write_small(&claim, &retired.to_bytes()).await;
            claimed.map_err(|setback| self.unretired(&spot, &setback))?;
        }
        let is_contested = !former.is_settled && {
            let names = self.names_in(&former.folder).await?;
            let mut names = names.iter();
            names.any(|name| generation::is_claim(name) && *name != own)
        };
        if is_contested {
            // It may have changed objects since the marker was read.
            self.note(former, |former| {
                former.seen = former.seen.as_ref().map(Marker::unsure);
            });
        }
        let now = match self.lying(&spot).await? {
            Lying::Said(now) => Some(*now),
            Lying::Nothing | Lying::Garbled => None,
        };
        // That the run which it is about is still at work changes nothing.
        let is_known = |marker: &Marker| {
            marker.run == self.run || seen.is_some_and(|seen| marker.is_same_version(seen))
        };
        if let Some(now) = now.as_ref().filter(|now| !is_known(now)) {
            self.check_standing(now)?;
            return Err(self.began_too(&spot));
        }
        if !(now.as_ref()).is_some_and(|now| now.is_retired_by(&self.me, notes)) {
            (self.write_in_time(&spot, &retired).await)
                .map_err(|setback| self.unretired(&spot, &setback))?;
            self.console.say(&format!(
                "{spot} tells of no version any more: {}",
                notes.map_or_else(
                    || "no notes are kept".to_owned(),
                    |notes| format!(
                        "the notes are in {notes} now, and destinations need the annotation syncline.dev/rclone-state-path too"
                    )
                )
            ));
        }
        Ok(is_contested)
    }

    /// Fails when another run has ended, in its own name, what this one has ended.
    async fn check_still_retired(&self, former: &Former) -> Result<(), Setback> {
        let spot = former.folder.file(MARKER);
        match self.lying(&spot).await? {
            Lying::Said(now) if now.run != self.run => {
                self.check_standing(&now)?;
                Err(self.began_too(&spot))
            }
            _ => Ok(()),
        }
    }

    async fn lying(&self, spot: &Spot) -> Result<Lying, Setback> {
        let bytes = self.rclone.read_by_name(spot, LARGEST_MARKER).await?;
        Ok(bytes.map_or(Lying::Nothing, |bytes| {
            Marker::parse(&bytes).map_or(Lying::Garbled, |marker| Lying::Said(Box::new(marker)))
        }))
    }

    /// Removes what lies beside the markers that have ended, after a run that succeeded. What stays harms nobody.
    pub(super) async fn sweep_formers(&self) {
        for former in self.formers.take() {
            let lying = self.lying(&former.folder.file(MARKER)).await;
            if matches!(lying, Ok(Lying::Said(now)) if self.is_own_word(&now)) {
                // It is the own place, spelled so that nobody saw it.
                continue;
            }
            let names = self.names_in(&former.folder).await.unwrap_or_default();
            let is_ours =
                |name: &&String| generation::is_claim(name) || generation::is_manifest(name);
            self.remove_in(&former.folder, names.iter().filter(is_ours))
                .await;
        }
    }

    /// Leaves the places that had the notes before, after a run that failed.
    pub(super) async fn leave_formers(&self) {
        let formers = self.formers.take();
        let claimed = formers.iter().filter(|former| former.is_claimed);
        if !formers.is_empty() && !self.has_begun.get() {
            // What was given up on its way must not come over what is said now. Who is stopped says nothing more.
            let _ = self.outlast_late_ones().await;
        }
        for former in claimed {
            if self.has_begun.get() || self.hand_back(former).await {
                let own = generation::claim_name(&self.run);
                self.remove_in(&former.folder, [&own].into_iter()).await;
            }
        }
    }

    /// Gives a former marker its word back, where nothing was changed under the path. Gives whether a marker is there that says
    /// whose that is.
    async fn hand_back(&self, former: &Former) -> bool {
        let spot = former.folder.file(MARKER);
        let given = match (self.lying(&spot).await, &former.seen) {
            (Ok(Lying::Said(now)), _) if now.run != self.run => return true,
            // Another may be writing it, or this run's half is all that is left.
            (Ok(Lying::Garbled), _) | (Ok(Lying::Nothing), None) => return false,
            (Ok(Lying::Said(_)), None) => return true,
            (Ok(Lying::Nothing | Lying::Said(_)), Some(seen)) => {
                self.write_in_time(&spot, seen).await
            }
            (Err(setback), _) => Err(setback),
        };
        if let Err(setback) = &given {
            self.console.say(&format!(
                "{spot} may not tell of the version under the path any more, although nothing was changed there: {}",
                setback.fault.message
            ));
        }
        given.is_ok()
    }

    fn began_too(&self, spot: &Spot) -> Setback {
        let message = format!(
            "another run on {} began at the same time as this one ({spot} tells); it is tried again. If it goes on, two sources \
             write there: give each a path of its own",
            self.rclone.remote().data()
        );
        Setback::new(reason::PATH_IN_USE, message, Next::Wait)
    }

    /// That a marker goes on to vouch for what is about to change.
    fn unretired(&self, spot: &Spot, setback: &Setback) -> Setback {
        let message = format!(
            "{spot} tells of a version of {} that is about to change, and cannot be put right: {}; let the keys write and delete \
             there, or remove that file",
            self.rclone.remote().data(),
            setback.fault.message
        );
        Setback::new(setback.fault.reason, message, setback.next)
    }
}
