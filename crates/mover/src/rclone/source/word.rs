//! The marker's word: what lies in its place, what lay there before this run, and half of one.
//!
//! A store that cannot write in one step shows half of a marker while it is written, and keeps it when the writing broke off.
//! Claims tell then whose the path is: each run leaves its own before it writes anything else.

use tokio::time::Instant;

use super::Source;
use crate::rclone::generation::{self, LARGEST_MARKER, MARKER, Marker, Unreadable};
use crate::rclone::outcome::{Next, Setback};
use crate::rclone::settings::Spot;
use crate::report::{Fault, reason};
use syncline_api::report::reason as api_reason;

/// How often a marker that cannot be understood is read: a store without atomic writes may show half of one.
const LOOKS: u32 = 3;
/// How often a marker is written that the store does not take.
const WRITES: u32 = 4;
/// The part of the time for which a run may trust what it saw that one try of writing a marker may take.
const PART_OF_LEASE: u32 = 3;

/// What lies in the marker's place.
pub(super) enum Word {
    Nothing,
    Said(Box<Marker>),
    /// Half of a marker, or none of Syncline's: however often it was read, it could not be understood.
    Garbled(Unreadable),
}

/// What lay in the marker's place before this run announced itself.
#[derive(Default)]
pub(super) enum Before {
    /// This run has announced nothing.
    #[default]
    Unseen,
    Nothing,
    Said(Box<Marker>),
    /// Nobody knows what it said.
    Void,
}

impl Source<'_> {
    /// The marker. One that cannot be understood, however often it is read, counts as none for a source that has written here
    /// before, or whose claims alone lie there; another cannot know whose it is.
    pub(super) async fn marker(&self) -> Result<Option<Marker>, Setback> {
        let error = match self.word().await? {
            Word::Nothing => return Ok(None),
            Word::Said(marker) => return Ok(Some(*marker)),
            Word::Garbled(error) => error,
        };
        let place = self.marker_place();
        if !self.has_been_here().await? {
            let message = format!(
                "{place} cannot be understood ({error}), so nobody can tell whose the path is; if no other source writes here, \
                 remove that file"
            );
            return Err(Fault::new(reason::PATH_IN_USE, message).into());
        }
        self.console
            .say(&format!("{place} is passed over: {error}"));
        self.doubt.set(true);
        // It keeps others from what a run left half done, and goes for nothing but the next version.
        self.before.replace(Before::Void);
        Ok(None)
    }

    /// What lies in the marker's place. Half of one is read again: somebody may be writing it.
    pub(super) async fn word(&self) -> Result<Word, Setback> {
        let Some(spot) = self.rclone.remote().state_file(MARKER) else {
            return Ok(Word::Nothing);
        };
        let mut looks = 0;
        loop {
            looks += 1;
            let Some(bytes) = self.rclone.read_by_name(&spot, LARGEST_MARKER).await? else {
                return Ok(Word::Nothing);
            };
            match Marker::parse(&bytes) {
                Ok(marker) => return Ok(Word::Said(Box::new(marker))),
                Err(newer @ Unreadable::Newer(_)) => {
                    let message = format!(
                        "{spot} cannot be read: {newer}; give this mover the release of the newer one"
                    );
                    let fault = Fault::new(api_reason::INVALID_SETTINGS, message);
                    return Err(fault.into());
                }
                Err(error) if looks == LOOKS => return Ok(Word::Garbled(error)),
                Err(_) => tokio::time::sleep(self.settings.wait_unit).await,
            }
        }
    }

    /// Has this source written here before? A run that died in its first upload has left its claim, which says whose it is.
    async fn has_been_here(&self) -> Result<bool, Setback> {
        if self.settings.last_generation.is_some() || self.claimed.get() {
            return Ok(true);
        }
        match self.rclone.remote().state() {
            Some(folder) => self.has_claims_of_ours_alone(&folder).await,
            None => Ok(false),
        }
    }

    /// Are there claims in `folder`, and all of this source?
    pub(super) async fn has_claims_of_ours_alone(&self, folder: &Spot) -> Result<bool, Setback> {
        let names = self.names_in(folder).await?;
        let claims: Vec<&String> = names
            .iter()
            .filter(|name| generation::is_claim(name))
            .collect();
        for claim in &claims {
            let bytes = self
                .rclone
                .read_by_name(&folder.file(claim), LARGEST_MARKER)
                .await?;
            let claim = bytes.and_then(|bytes| Marker::parse(&bytes).ok());
            if !claim.is_some_and(|claim| self.is_replaced_by_this(&claim)) {
                return Ok(false);
            }
        }
        Ok(!claims.is_empty())
    }

    /// Fails unless the marker is this run's, or what is left of it where the store lost some. Gives whether it is whole.
    pub(super) async fn still_ours(&self) -> Result<bool, Setback> {
        let marker = match self.word().await? {
            Word::Said(marker) if marker.run == self.run => return Ok(true),
            Word::Said(marker) => marker,
            // A writing that broke off leaves half on some stores, and nothing on others.
            Word::Nothing if !self.is_unwritten.get() => return Err(self.removed().into()),
            Word::Nothing | Word::Garbled(_) if self.is_undisturbed().await? => return Ok(false),
            Word::Nothing | Word::Garbled(_) => {
                return Err(Setback {
                    fault: self.rivalled("came while this one was at work"),
                    next: Next::Wait,
                });
            }
        };
        self.check_standing(&marker)?;
        Err(self.rivalled("took the path over from this one").into())
    }

    /// Has no run come since this one took the path?
    async fn is_undisturbed(&self) -> Result<bool, Setback> {
        let own = generation::claim_name(&self.run);
        let names = self.state_names().await?;
        let before = self.beside.borrow();
        let is_known = |name: &String| *name == own || before.contains(name);
        let mut claims = names.iter().filter(|name| generation::is_claim(name));
        Ok(claims.all(is_known))
    }

    /// Writes a marker, as long as the one that lies there is this run's.
    pub(super) async fn write_marker(&self, place: &Spot, marker: &Marker) -> Result<(), Setback> {
        self.outlast_late_ones().await?;
        let mut tries = 0;
        loop {
            tries += 1;
            let lease = self.settings.lease;
            let written = async {
                self.still_ours().await?;
                self.write_in_time(place, marker).await
            };
            // An answer that took long says nothing of who has the path now.
            let in_time = tokio::time::timeout(lease, written).await;
            match in_time.unwrap_or_else(|_| Err(self.unseen(lease))) {
                Err(setback) if setback.next == Next::Wait && tries < WRITES => {
                    tokio::time::sleep(self.settings.wait_unit).await;
                }
                written => return written,
            }
        }
    }

    /// Writes a marker in so short a time that it cannot come over that of a run which waits for this one.
    pub(super) async fn write_in_time(&self, place: &Spot, marker: &Marker) -> Result<(), Setback> {
        let time = self.settings.lease / PART_OF_LEASE;
        let bytes = marker.to_bytes();
        let write = self.rclone.write_small(place, &bytes);
        let in_time = tokio::time::timeout(time, write).await;
        if in_time.is_err() {
            self.late.set(Some(Instant::now()));
        }
        let written = in_time.unwrap_or_else(|_| Err(self.unseen(time)));
        self.is_unwritten.set(written.is_err());
        written
    }

    /// Waits until a marker that was given up on its way, if there is one, must have come: a store with much to do may take it
    /// after the one that is written next.
    pub(super) async fn outlast_late_ones(&self) -> Result<(), Setback> {
        let Some(given_up) = self.late.take() else {
            return Ok(());
        };
        tokio::select! {
            () = tokio::time::sleep_until(given_up + self.settings.lease) => Ok(()),
            fault = self.rclone.stopped() => Err(fault.into()),
        }
    }

    /// Keeps what the marker said, `seen`, before this run writes its own.
    pub(super) fn note_before(&self, seen: Option<&Marker>) {
        let is_own = seen.is_some_and(|seen| seen.run == self.run);
        let mut before = self.before.borrow_mut();
        if !is_own && !matches!(*before, Before::Void) {
            let said = seen.map(|seen| Before::Said(Box::new(seen.clone())));
            *before = said.unwrap_or(Before::Nothing);
        }
    }

    /// Another run had, or has, a claim: it may have changed objects since the marker was read.
    pub(super) fn doubt_before(&self) {
        let mut before = self.before.borrow_mut();
        *before = match std::mem::take(&mut *before) {
            Before::Said(said) => Before::Said(Box::new(said.unsure())),
            Before::Nothing => Before::Void,
            other => other,
        };
    }

    /// Lets the marker say what it said before, as long as that is still true: the announcement of a version that never began
    /// would keep destinations from the last one, and a source whose path this one was to take over from its own.
    pub(super) async fn take_back(&self) {
        if self.has_begun.get() {
            return;
        }
        let before = self.before.take();
        let taken_back = match &before {
            Before::Unseen | Before::Void => None,
            Before::Nothing => Some(self.withdraw().await),
            Before::Said(marker) => Some(self.say_again(marker).await),
        };
        if !matches!(taken_back, Some(Ok(()))) {
            // If the announcement stays, the next try may yet take it back, and the next run goes on from it.
            self.before.replace(before);
        }
    }

    async fn withdraw(&self) -> Result<(), Setback> {
        self.outlast_late_ones().await?;
        self.still_ours().await?;
        self.forget_marker().await
    }

    async fn say_again(&self, marker: &Marker) -> Result<(), Setback> {
        match self.rclone.remote().state_file(MARKER) {
            Some(place) => self.write_marker(&place, marker).await,
            None => Ok(()),
        }
    }
}
