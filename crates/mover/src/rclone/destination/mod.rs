//! The receiving end: the volume becomes one version of what the store holds, whole.
//!
//! Invariant: success means that the marker, or its absence, was the same before the first and after the last object was
//! read, and that the volume holds what the manifest says; without a marker, that two listings around the transfer are
//! equal, and that a look at the volume found what they show.
//! Invariant: nothing in the volume is deleted on behalf of a listing that is empty, or that lacks what the marker or
//! `permissions.facl` names, and nothing by rclone's own judgement.

mod accompanied;
mod rest;
mod stock;
mod wait;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::time::Duration;

use syncline_api::report::{Progress, Report, Role, reason as api_reason};

use crate::console::Console;
use crate::fs::PrivateFolder;
use crate::rclone::generation::{LARGEST_MARKER, MARKER, Marker, State, Unreadable, described};
use crate::rclone::listing::LISTING;
use crate::rclone::outcome::Setback;
use crate::rclone::program::{Command, Rclone};
use crate::rclone::settings::{Settings, Spot};
use crate::rclone::stats::{Stats, summary};
use crate::rclone::{MOVER, signed};
use crate::report::{Fault, failed, reason};
use crate::tree::Unpreserved;
use crate::tries::Tries;
use wait::Version;

/// How often in a row the store may change while it is read.
const ROUNDS: u32 = 20;

/// Fetches a version. The report is that of a success, or of a failure with the number of tries.
pub(crate) async fn run(settings: &Settings, console: &Console) -> Result<Report, Fault> {
    let root = prepare_root(settings)?;
    let folder = PrivateFolder::make(&settings.places.scratch)?;
    let rclone = Rclone::prepare(settings, &folder, console)?;
    let destination = Destination {
        settings,
        console,
        rclone: &rclone,
        folder: &folder,
        root,
        stats: RefCell::default(),
        refused: RefCell::default(),
        waited: Cell::default(),
        has_rested: Cell::default(),
        is_ours: Cell::default(),
        is_marked: Cell::new(
            settings
                .last_generation
                .as_deref()
                .is_some_and(|label| !label.starts_with(LISTING)),
        ),
    };
    let (attempts, outcome) = destination.until_done().await;
    let mut report = match outcome {
        Ok(done) => destination.finish(done),
        Err(fault) => {
            console.say(&format!("{}: {}", fault.reason, fault.message));
            failed(MOVER, Role::Destination, &fault)
        }
    };
    report.attempts = i32::try_from(attempts).ok();
    Ok(report)
}

struct Destination<'a> {
    settings: &'a Settings,
    console: &'a Console,
    rclone: &'a Rclone,
    folder: &'a PrivateFolder,
    /// The volume.
    root: PathBuf,
    /// What rclone did, all tries together.
    stats: RefCell<Stats>,
    /// Why the marker cannot be read, when nobody lets this destination.
    refused: RefCell<Option<String>>,
    /// This path has had a marker.
    is_marked: Cell<bool>,
    /// How long a destination without a trigger has waited for versions.
    waited: Cell<Duration>,
    /// The store has answered since the last try that failed, and had nothing new.
    has_rested: Cell<bool>,
    /// All that lies in the volume like a file of the store was fetched, or compared, by this very mover. Unknown before the
    /// first look.
    is_ours: Cell<Option<bool>>,
}

/// How a run ended well.
struct Done {
    generation: String,
    files: u64,
    bytes: u64,
    lost: Lost,
}

/// What was not preserved.
#[derive(Default)]
struct Lost {
    /// As a report lists it.
    sentences: Vec<String>,
    for_want_of_rights: bool,
}

impl From<&Unpreserved> for Lost {
    fn from(unpreserved: &Unpreserved) -> Self {
        Self {
            sentences: unpreserved.sentences(),
            for_want_of_rights: unpreserved.is_for_want_of_rights(),
        }
    }
}

/// How a round ended.
enum Round {
    Done(Done),
    /// The store changed meanwhile.
    Changed,
    /// Somebody who keeps no marker wrote under the path.
    Foreign(String),
}

impl Destination<'_> {
    /// Tries as often as it makes sense. Gives the number of tries and how the last one ended.
    async fn until_done(&self) -> (u32, Result<Done, Fault>) {
        let mut tries = Tries::new(self.settings.wait_unit);
        loop {
            let setback = match self.once().await {
                Ok(done) => return (tries.made() + 1, Ok(done)),
                Err(setback) => setback,
            };
            if self.has_rested.take() {
                // A run without a trigger may wait for months, and what failed last winter is no part of this trouble.
                tries = Tries::new(self.settings.wait_unit);
            }
            let Some(wait) = tries.wait_after(setback.next.again()) else {
                return (tries.made(), Err(setback.fault));
            };
            if let Err(stopped) = self.rclone.rest(&setback.fault, wait, self.console).await {
                return (tries.made(), Err(stopped));
            }
        }
    }

    async fn once(&self) -> Result<Done, Setback> {
        self.rclone.check_place(&self.settings.places)?;
        for _ in 0..ROUNDS {
            // What the store can is asked for meanwhile; an error is told by whoever needs to know.
            let (version, _) = tokio::join!(self.version(), self.rclone.features());
            let round = match version? {
                Version::Complete(marker) => self.marked(&marker).await?,
                Version::Unmarked => self.stock(&Instead::OfNone).await?,
            };
            if let Round::Done(done) = round {
                self.sync_volume().await?;
                return Ok(done);
            }
            self.console
                .say("the store changed while it was read; once more");
        }
        let message = format!(
            "{} changed {ROUNDS} times while it was read; let the source run less often than a run here takes",
            self.rclone.remote().data()
        );
        Err(Fault::new(reason::SOURCE_UPLOADING, message).into())
    }

    /// What `marker` tells of, or what lies there in its stead.
    async fn marked(&self, marker: &Marker) -> Result<Round, Setback> {
        match self.accompanied(marker).await? {
            Round::Foreign(why) => {
                self.console.say(&format!(
                    "the store holds something else than its marker says ({why}); it is taken as it is, without what only the \
                     manifest knows"
                ));
                self.stock(&Instead::Of(marker, why)).await
            }
            round => Ok(round),
        }
    }

    /// The marker as it is now.
    async fn marker(&self) -> Result<Found, Setback> {
        let Some(spot) = self.rclone.remote().state_file(MARKER) else {
            return Ok(Found::None);
        };
        let bytes = match self.rclone.read_small(&spot, LARGEST_MARKER).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Found::None),
            // Where there was a marker there is one, whoever hides it.
            Err(setback)
                if setback.fault.reason == reason::STORE_REFUSED && !self.is_marked.get() =>
            {
                let why = format!(
                    "{spot} may not be read, so nothing tells a version that is being uploaded from a whole one"
                );
                if self.refused.replace(Some(why.clone())).is_none() {
                    self.console
                        .say(&format!("{why}: {}", setback.fault.message));
                }
                return Ok(Found::None);
            }
            Err(setback) => return Err(setback),
        };
        match Marker::parse(&bytes) {
            Ok(marker) if self.is_anothers(&spot).await? => {
                self.console.say(&format!(
                    "{spot} ({}) lies in a bucket of another account and is passed over",
                    marker.label()
                ));
                Ok(Found::None)
            }
            Ok(marker) if marker.state == State::Retired => self.retired(&spot, &marker),
            Ok(marker) => {
                self.is_marked.set(true);
                Ok(Found::Marker(Box::new(marker)))
            }
            Err(newer @ Unreadable::Newer(_)) => {
                let message = format!(
                    "{spot} cannot be read: {newer}; give this mover the release of the source's"
                );
                let fault = Fault::new(api_reason::INVALID_SETTINGS, message);
                Err(fault.into())
            }
            // Half a marker, in a store without atomic writes: the other half comes, or the source's next run.
            Err(error) => Ok(Found::Garbled(error.to_string())),
        }
    }

    /// Nobody keeps `marker` up any more. Where the notes went nobody may do without them: objects change, and nothing here
    /// says so.
    fn retired(&self, spot: &Spot, marker: &Marker) -> Result<Found, Setback> {
        let remote = self.rclone.remote();
        let is_of_other = if remote.passed_by_state().is_some() {
            marker.is_of_other_path(&remote.path)
        } else {
            marker.is_of_neighbour(&remote.path)
        };
        let Some(notes) = marker.notes.as_ref().filter(|_| !is_of_other) else {
            return Ok(Found::None);
        };
        let message = format!(
            "{} keeps its notes on {} in {notes} now ({spot} tells), and without them nobody can tell a whole version from half of \
             one; give this destination the annotation syncline.dev/rclone-state-path: {notes}",
            described(&marker.source),
            remote.data()
        );
        Err(Fault::new(api_reason::INVALID_SETTINGS, message).into())
    }

    /// Beside a bucket lies another bucket, whose name anybody may have taken. What led to a success before is trusted.
    async fn is_anothers(&self, marker: &Spot) -> Result<bool, Setback> {
        if self.is_marked.get() || !self.rclone.remote().has_bucket_for_state() {
            return Ok(false);
        }
        Ok(self.rclone.features().await?.bucket_based
            && self.rclone.is_not_among_ours(&marker.folder()).await?)
    }

    /// Is the marker still `seen`, or still absent?
    async fn is_still(&self, seen: Option<&Marker>) -> Result<bool, Setback> {
        Ok(match (self.marker().await?, seen) {
            (Found::Marker(now), Some(seen)) => now.is_same_version(seen),
            (Found::None, None) => true,
            _ => false,
        })
    }

    async fn run_all(&self, commands: Vec<Command>) -> Result<(), Setback> {
        for command in commands {
            let stats = self.rclone.run(command, self.console).await?;
            *self.stats.borrow_mut() += stats;
        }
        Ok(())
    }

    /// Runs `work`, which may take long, beside the event loop. Its error is in words.
    async fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Setback> {
        let done = tokio::select! {
            done = tokio::task::spawn_blocking(work) => done,
            fault = self.rclone.stopped() => return Err(fault.into()),
        };
        let done = done.map_err(|error| {
            let message = format!("the mover's own work broke off: {error}; run it again");
            Fault::new(api_reason::TRANSFER_FAILED, message)
        });
        Ok(done.and_then(|done| done)?)
    }

    async fn sync_volume(&self) -> Result<(), Setback> {
        self.console
            .say("the transfer is complete; bringing the volume to disk");
        let root = self.root.clone();
        self.beside(move || {
            std::fs::File::open(&root)
                .and_then(|volume| Ok(rustix::fs::syncfs(&volume)?))
                .map_err(|error| {
                    let message = format!(
                        "the volume could not be brought to disk: {error}; check its storage"
                    );
                    Fault::new(reason::DESTINATION_UNWRITABLE, message)
                })
        })
        .await
    }

    fn finish(&self, done: Done) -> Report {
        let stats = *self.stats.borrow();
        let mut report = Report::successful(MOVER, Role::Destination);
        report.bytes_received = signed(stats.bytes);
        report.files_transferred = signed(stats.files);
        report.total_bytes = signed(done.bytes);
        report.generation = Some(done.generation);
        report.unpreserved = done.lost.sentences;
        report.for_want_of_rights = done.lost.for_want_of_rights;
        let waited = self.settings.poll.then(|| self.waited.get().as_millis());
        report.waited = waited.and_then(|waited| i64::try_from(waited).ok());
        let last = Progress {
            phase: Some("Transferred".to_owned()),
            bytes_done: signed(done.bytes),
            bytes_total: signed(done.bytes),
            files_done: signed(done.files),
            files_total: signed(done.files),
        };
        self.console.machine(&last.to_line());
        summary(&stats, self.console);
        report
    }
}

/// What the content of the store is taken for, as it is, instead of for a version with notes.
enum Instead<'a> {
    /// There is no marker.
    OfNone,
    /// There is this one, and why what it names cannot be had.
    Of(&'a Marker, String),
}

impl Instead<'_> {
    fn marker(&self) -> Option<&Marker> {
        match self {
            Self::OfNone => None,
            Self::Of(marker, _) => Some(marker),
        }
    }
}

/// What bare objects do not carry.
const NOTED: &str = "what only Syncline's notes carry (links, xattrs, sparse files, …)";

/// What lies where the marker should.
enum Found {
    Marker(Box<Marker>),
    /// Something that is none.
    Garbled(String),
    None,
}

/// The volume, if it can be written to.
fn prepare_root(settings: &Settings) -> Result<PathBuf, Fault> {
    let data = &settings.places.data;
    let unwritable = |why: std::io::Error| {
        let message = format!(
            "the destination's volume at {} cannot be written to: {why}{}",
            data.display(),
            crate::tree::cure_of(&why)
        );
        Fault::new(reason::DESTINATION_UNWRITABLE, message)
    };
    let root = data.canonicalize().map_err(unwritable)?;
    let wanted = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(&root, wanted).map_err(|error| unwritable(error.into()))?;
    Ok(root)
}
