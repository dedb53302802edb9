//! Waiting for a version: while one is uploaded, and, for a destination without a trigger, until there is a new one.

use std::time::Duration;

use syncline_api::report::Progress;
use tokio::time::Instant;

use super::stock::foreign_label;
use super::{Destination, Found};
use crate::rclone::facl;
use crate::rclone::generation::{Marker, State, described};
use crate::rclone::listing::Digest;
use crate::rclone::outcome::Setback;
use crate::rclone::store::{Evidence, Listed};
use crate::report::{Fault, reason};

/// How long an upload, or a marker that cannot be read, is waited for that shows no sign of life, in units of waiting.
const UPLOAD_LIMIT: u32 = 600;
/// The longest time between two looks at a running upload, in the same units.
pub(super) const UPLOAD_PAUSE: u32 = 15;

/// What it does when the wait is over.
pub(super) const TRANSFERRING: &str = "Transferring";

/// What a round is to fetch.
pub(super) enum Version {
    /// The version that a marker calls complete, or what somebody who keeps none left there after its source.
    Complete(Box<Marker>),
    /// What lies under a path without a marker.
    Unmarked,
}

impl Destination<'_> {
    /// Waits for a version that is worth fetching.
    pub(super) async fn version(&self) -> Result<Version, Setback> {
        let began = Instant::now();
        let version = self.worthwhile().await;
        if self.settings.poll {
            self.waited.set(self.waited.get() + began.elapsed());
        }
        let version = version?;
        self.say_phase(TRANSFERRING);
        Ok(version)
    }

    /// Says what it does now.
    pub(super) fn say_phase(&self, phase: &str) {
        let stats = *self.stats.borrow();
        let done = |count: u64| i64::try_from(count).ok().filter(|count| *count > 0);
        let progress = Progress {
            phase: Some(phase.to_owned()),
            bytes_done: done(stats.bytes),
            files_done: done(stats.files),
            ..Progress::default()
        };
        self.console.machine(&progress.to_line());
    }

    async fn worthwhile(&self) -> Result<Version, Setback> {
        let unit = self.settings.wait_unit;
        let mut pause = unit;
        let mut said = "";
        let mut patience = Patience::default();
        loop {
            let (what, longest) = match self.marker().await? {
                Found::Marker(marker) if marker.state == State::Complete => {
                    if !self.is_known_version(&marker).await? {
                        return Ok(Version::Complete(marker));
                    }
                    if self.is_rewritten(&marker).await? && self.is_still(Some(&marker)).await? {
                        return Ok(Version::Complete(marker));
                    }
                    ("a new version", self.settings.poll_limit)
                }
                Found::None => {
                    // What a listing shows may be of a source that has announced itself since.
                    if !self.settings.poll
                        || (self.is_new_listing().await? && self.is_still(None).await?)
                    {
                        return Ok(Version::Unmarked);
                    }
                    (self.what_may_come(), self.settings.poll_limit)
                }
                Found::Marker(marker) => {
                    let why = format!(
                        "an upload began at {} there and has not ended",
                        marker.since
                    );
                    let source = described(&marker.source);
                    if patience.is_over(*marker, self.upload_limit()) {
                        return Err(self.no_whole_version(&why, &source));
                    }
                    ("the end of an upload", unit * UPLOAD_PAUSE)
                }
                Found::Garbled(why) => {
                    if patience.is_over(why.clone(), self.upload_limit()) {
                        let why = format!("the marker beside it cannot be read: {why}");
                        return Err(self.no_whole_version(&why, "its source"));
                    }
                    ("a marker that can be read", unit * UPLOAD_PAUSE)
                }
            };
            if said != what {
                self.console.say(&format!(
                    "waiting for {what} at {}",
                    self.rclone.remote().data()
                ));
                self.say_phase(Progress::WAITING);
                said = what;
            }
            pause = pause.min(longest).max(Duration::from_millis(1));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                fault = self.rclone.stopped() => return Err(fault.into()),
            }
            self.has_rested.set(self.settings.poll);
            pause = pause.saturating_mul(2);
        }
    }

    /// What is waited for where no marker is.
    fn what_may_come(&self) -> &'static str {
        match self.settings.last_generation {
            Some(_) => "a change in the store",
            None => "a first version",
        }
    }

    /// Does a destination without a trigger have the marker's version already, or what lies there in its stead? What the
    /// volume holds says nothing about that: with cleanupTempPVC it is empty in each run, and the last version is in an image.
    async fn is_known_version(&self, marker: &Marker) -> Result<bool, Setback> {
        if self.is_last(marker) {
            return Ok(true);
        }
        let last = self.settings.last_generation.as_deref().unwrap_or_default();
        if !self.settings.poll || !last.starts_with(&foreign_label(marker, "")) {
            return Ok(false);
        }
        let listing = self.listing().await?;
        Ok(listing.is_some_and(|listing| last == foreign_label(marker, &listing.label())))
    }

    /// Are the permissions in the store others than when `marker`'s version was fetched?
    async fn is_rewritten(&self, marker: &Marker) -> Result<bool, Setback> {
        let Some((_, seen)) = self.last().filter(|_| self.is_last(marker)) else {
            return Ok(false);
        };
        let of_source = marker.permissions.as_deref().map(Look::Stamp);
        let Some(expected) = seen.map(Look::Sum).or(of_source) else {
            return Ok(false);
        };
        let found = self.stamp_of_permissions().await?;
        Ok(found.is_some_and(|found| !expected.is(&found)))
    }

    /// What the store tells of the permissions now; `None` where there are none.
    ///
    /// VolSync's source replaces them at the end of each run, so one question tells of it, where a listing costs one for
    /// each thousand files.
    pub(super) async fn stamp_of_permissions(&self) -> Result<Option<String>, Setback> {
        let spot = self.rclone.remote().data_file(facl::FILE_NAME);
        let found = self.rclone.look_at(&spot).await?;
        Ok(found.as_ref().map(Listed::stamp))
    }

    /// What a destination without a trigger fetched last, see [`seen_apart`].
    fn last(&self) -> Option<(&str, Option<&str>)> {
        let last = self.settings.last_generation.as_deref();
        last.filter(|_| self.settings.poll).map(seen_apart)
    }

    /// Is `marker`'s version what it fetched last?
    fn is_last(&self, marker: &Marker) -> bool {
        self.last()
            .is_some_and(|(label, _)| label == marker.label())
    }

    /// The word for `marker`'s version, of which this end saw the permissions so. The way to the store may be another than
    /// the source's, and show other times.
    pub(super) fn label_as_seen(&self, marker: &Marker, permissions: Option<&Listed>) -> String {
        let (label, stamp) = (marker.label(), permissions.map(Listed::stamp));
        match stamp {
            Some(stamp) if self.settings.poll && marker.permissions.as_ref() != Some(&stamp) => {
                format!("{label}{SEEN}{}", sum(&stamp))
            }
            _ => label,
        }
    }

    /// Does a destination without a trigger have this already?
    fn is_known(&self, label: &str) -> bool {
        self.settings.poll && self.settings.last_generation.as_deref() == Some(label)
    }

    /// Does a listing show something, and not what was there last time?
    async fn is_new_listing(&self) -> Result<bool, Setback> {
        let Some(digest) = self.listing().await? else {
            return Ok(false);
        };
        Ok(!self.is_known(&digest.label()))
    }

    /// The sum of a listing; `None` when nothing is there.
    pub(super) async fn listing(&self) -> Result<Option<Digest>, Setback> {
        let mut digest = Digest::default();
        let data = self.rclone.remote().data();
        self.rclone
            .list(&data, Evidence::Cheap, &mut |listed| digest.add(&listed))
            .await?;
        Ok((digest.files > 0).then_some(digest))
    }

    fn upload_limit(&self) -> Duration {
        self.settings.wait_unit * UPLOAD_LIMIT
    }

    /// `source` is who wrote there last, as people call it.
    fn no_whole_version(&self, why: &str, source: &str) -> Setback {
        let message = format!(
            "{} holds no whole version: {why}; look at the status of {source}, whose next complete run ends this",
            self.rclone.remote().data()
        );
        Fault::new(reason::SOURCE_UPLOADING, message).into()
    }
}

/// What stands between a version's label and the sum of what a destination saw of the permissions.
const SEEN: &str = "+permissions:";

/// The label of a version, and the sum of what was seen of its permissions, if that stands in `label`.
pub(super) fn seen_apart(label: &str) -> (&str, Option<&str>) {
    match label.split_once(SEEN) {
        Some((label, sum)) => (label, Some(sum)),
        None => (label, None),
    }
}

fn sum(stamp: &str) -> String {
    let hash = blake3::hash(stamp.as_bytes()).to_hex();
    hash.get(..16).unwrap_or_default().to_owned()
}

/// How the permissions looked.
enum Look<'a> {
    Stamp(&'a str),
    Sum(&'a str),
}

impl Look<'_> {
    fn is(&self, found: &str) -> bool {
        match self {
            Self::Stamp(stamp) => *stamp == found,
            Self::Sum(known) => *known == sum(found),
        }
    }
}

/// What lies where the marker should, and since when it has been the same.
#[derive(Default)]
struct Patience {
    seen: Option<(Sight, Instant)>,
}

#[derive(PartialEq, Eq)]
enum Sight {
    Marker(Box<Marker>),
    Garbled(String),
}

impl From<Marker> for Sight {
    fn from(marker: Marker) -> Self {
        Self::Marker(Box::new(marker))
    }
}

impl From<String> for Sight {
    fn from(garbled: String) -> Self {
        Self::Garbled(garbled)
    }
}

impl Patience {
    /// Has the same been there for so long? A source at work renews its marker. No clock but this machine's is asked.
    fn is_over(&mut self, sight: impl Into<Sight>, limit: Duration) -> bool {
        let sight = sight.into();
        match &self.seen {
            Some((seen, since)) if *seen == sight => since.elapsed() >= limit,
            _ => {
                self.seen = Some((sight, Instant::now()));
                false
            }
        }
    }
}
