//! The sending end: what has changed since the last run goes to the store, under a marker that says so.
//!
//! Invariant: from before the first object is touched until all is in place, the marker beside the path says `uploading`;
//! a run that breaks off leaves it so, and the next one compares everything.
//! Invariant: nothing is deleted from the store on behalf of a source that cannot be read to its end, or is empty when it
//! was not before.

mod former;
mod hold;
mod look;
mod memory;
mod permissions;
mod restless;
mod send;
mod way;
mod whole;
mod word;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashSet};

use crate::console::Console;
use crate::fs::{PrivateFolder, has_nothing};
use crate::rclone::changes::{self, Changes};
use crate::rclone::generation::{Left, Marker, Standing, State};
use crate::rclone::manifest::{Manifest, Source as Holder};
use crate::rclone::outcome::{Next, Setback};
use crate::rclone::program::Rclone;
use crate::rclone::settings::Settings;
use crate::rclone::stats::{Stats, summary};
use crate::rclone::{MOVER, signed};
use crate::report::{Fault, failed, reason};
use crate::tree::{Entry, Scan, entries_in_words};
use crate::tries::Tries;
use former::Former;
use look::{Ground, Lack};
use memory::Ahead;
use send::Sent;
use syncline_api::report::{Progress, Report, Role, reason as api_reason};
use tokio::time::Instant;
use word::Before;

/// Sends the volume. The report is that of a success, or of a failure with the number of tries.
pub(crate) async fn run(settings: &Settings, console: &Console) -> Result<Report, Fault> {
    guard_against_emptiness(settings)?;
    let folder = PrivateFolder::make(&settings.places.scratch)?;
    let rclone = Rclone::prepare(settings, &folder, console)?;
    let source = Source {
        settings,
        console,
        rclone: &rclone,
        folder: &folder,
        me: Holder::from(&settings.owner),
        run: uuid::Uuid::new_v4().simple().to_string(),
        claimed: Cell::default(),
        doubt: Cell::default(),
        bare: Cell::default(),
        is_doubtful: Cell::default(),
        before: RefCell::default(),
        is_unwritten: Cell::default(),
        late: Cell::default(),
        formers: RefCell::default(),
        unread: RefCell::default(),
        has_begun: Cell::default(),
        has_put_permissions: Cell::default(),
        touched: RefCell::default(),
        beside: RefCell::default(),
        ahead: RefCell::default(),
        beats: tokio::sync::watch::Sender::new(false),
        stats: RefCell::default(),
    };
    let (attempts, outcome) = source.until_done().await;
    source.leave_formers().await;
    source.let_go().await;
    let mut report = match outcome {
        Ok(done) => source.finish(done),
        Err(fault) => {
            console.say(&format!("{}: {}", fault.reason, fault.message));
            failed(MOVER, Role::Source, &fault)
        }
    };
    report.attempts = i32::try_from(attempts).ok();
    Ok(report)
}

struct Source<'a> {
    settings: &'a Settings,
    console: &'a Console,
    rclone: &'a Rclone,
    folder: &'a PrivateFolder,
    me: Holder,
    /// Names this run and no other.
    run: String,
    /// This run's claim lies in the state path.
    claimed: Cell<bool>,
    /// Something showed that the store may hold other objects than the manifest says.
    doubt: Cell<bool>,
    /// Before this try wrote anything a listing of the path showed nothing.
    bare: Cell<bool>,
    /// Listings of the path showed less than lies there.
    is_doubtful: Cell<bool>,
    /// What lay in the marker's place before this run announced itself.
    before: RefCell<Before>,
    /// The store did not take a marker of this run, and may have half of it, or none.
    is_unwritten: Cell<bool>,
    /// When a marker was given up that was on its way to the store, which may yet take it.
    late: Cell<Option<Instant>>,
    /// Places that had the notes on this path before.
    formers: RefCell<Vec<Former>>,
    /// Markers of earlier times that nobody let this source read.
    unread: RefCell<BTreeSet<String>>,
    /// This run may have changed something under the path.
    has_begun: Cell<bool>,
    /// A try of this run may have left other permissions than the last version has.
    has_put_permissions: Cell<bool>,
    /// Paths that earlier tries of this run may have changed in the store.
    touched: RefCell<HashSet<Vec<u8>>>,
    /// What lay in the state path when this run took it.
    beside: RefCell<Vec<String>>,
    ahead: RefCell<Ahead>,
    /// A sign of life is on its way to the store.
    beats: tokio::sync::watch::Sender<bool>,
    /// What rclone did, all tries together.
    stats: RefCell<Stats>,
}

/// How a run ended well.
struct Done {
    generation: Option<String>,
    full_check: bool,
    left: Left,
    unpreserved: Vec<String>,
    /// Nobody let this source see whose the path is.
    blind: bool,
}

/// What one try is going to do.
#[expect(
    clippy::struct_excessive_bools,
    reason = "a list of what is to be done, each or not"
)]
struct Plan {
    /// Indices of files that are sent whatever the store holds.
    sent: Vec<usize>,
    /// Indices of files that are sent unless the store shows by a hash that it has them.
    suspected: Vec<usize>,
    /// Indices of files that are compared with the store.
    checked: Vec<usize>,
    /// Files of the store that go.
    removed: Vec<Vec<u8>>,
    /// Folders are brought in line, where the store keeps folders.
    folders: bool,
    /// All is looked at.
    full: bool,
    /// What comes was nobody's to know: no manifest tells what the store held.
    from_nothing: bool,
    /// The store may hold what no manifest tells of.
    is_unsure: bool,
    /// A marker may lie beside the path that nobody lets this source see, and goes before anything changes.
    hides_marker: bool,
    /// What changes in the middle of it is not sent once more.
    is_last: bool,
}

/// What is known of the store before anything is compared with it.
#[derive(Clone, Copy)]
struct Stand {
    /// The marker calls what is there complete.
    is_whole: bool,
    /// It is this source's, with its manifest: where nothing changes it can stay as it is.
    is_kept_up: bool,
    /// Nothing casts doubt on what the manifest tells of the store.
    is_known: bool,
}

impl Source<'_> {
    /// Tries as often as it makes sense. Gives the number of tries and how the last one ended.
    async fn until_done(&self) -> (u32, Result<Done, Fault>) {
        let mut tries = Tries::new(self.settings.wait_unit);
        loop {
            let setback = match self.once().await {
                Ok(done) => return (tries.made() + 1, Ok(done)),
                Err(setback) => setback,
            };
            self.take_back().await;
            let Some(wait) = tries.wait_after(setback.next.again()) else {
                return (tries.made(), Err(setback.fault));
            };
            if let Err(stopped) = self.rclone.rest(&setback.fault, wait, self.console).await {
                return (tries.made(), Err(stopped));
            }
        }
    }

    async fn once(&self) -> Result<Done, Setback> {
        let ground = async {
            self.rclone.check_place(&self.settings.places)?;
            self.fetch_ahead().await;
            self.look().await
        };
        let (tree, ground, ()) = tokio::join!(self.scan(), ground, self.ask_ahead());
        let (tree, unpreserved) = tree?;
        let ground = ground?;
        let told = self.if_of_this_path(ground.marker());
        self.guard(&tree, told).await?;
        let mut done = match ground {
            Ground::Accompanied(marker) => self.accompanied(tree, marker).await?,
            Ground::Alone { lack, marker } => self.alone(tree, lack, marker).await?,
            Ground::Blind(refusal) => {
                let lack = self.check_blind(&tree, &refusal).await?;
                Done {
                    blind: true,
                    ..self.alone(tree, lack, None).await?
                }
            }
        };
        done.unpreserved.extend(unpreserved);
        let unread = self.unread.take().into_iter();
        done.unpreserved
            .splice(0..0, unread.map(|spot| look::may_stay(&spot)));
        Ok(done)
    }

    /// With a marker and a manifest beside the path.
    async fn accompanied(&self, mut tree: Scan, marker: Option<Marker>) -> Result<Done, Setback> {
        let told = self.if_of_this_path(marker.as_ref());
        let recalled = self.recall(told).await?;
        let memory = recalled.as_ref();
        let mut changes = changes::compare(&tree.entries, entries_of(memory));
        let stand = self.stand(marker.as_ref(), memory.is_some());
        if let Some(marker) = marker
            .as_ref()
            .filter(|_| stand.is_whole && stand.is_known && !self.is_due() && !changes.any)
        {
            self.console.say("nothing has changed since the last run");
            return Ok(Done {
                generation: Some(marker.label()),
                full_check: false,
                left: left(&tree, &Sent::default()),
                unpreserved: Vec::new(),
                blind: false,
            });
        }
        if memory.is_some() {
            self.again_what_was_touched(&tree.entries, &mut changes);
        }
        let next = self.announce(marker.as_ref());
        let notes = self.settings.remote.state_path.as_deref();
        let was_at_work = self.retire_formers(notes).await?;
        // What the store can is asked for meanwhile; an error is told by whoever needs to know.
        let (taken, _) = tokio::join!(self.take(marker.as_ref(), &next), self.rclone.features());
        let is_unsure = match taken {
            Ok(is_contested) => !stand.is_known || is_contested || was_at_work,
            Err(setback) if marker.is_none() && self.may_go_alone(&setback) => {
                let lack = self.refused(&setback);
                return self.alone(tree, lack, None).await;
            }
            Err(setback) => return Err(setback),
        };
        let full = is_unsure || self.is_due();
        // Until that is done, another try has to do it too.
        self.doubt.set(full);
        let any = changes.any;
        let mut plan = self.plan(&tree, changes, (full, memory.is_none()));
        plan.is_unsure = is_unsure;
        let sent = self.send_watched(&mut tree, plan, (memory, &next)).await?;
        if let Some(mut before) = marker.filter(|_| stand.is_kept_up && !any && !sent.changed) {
            // The check found all as it should be: what was complete before is so again, under its old number.
            before.listing = Some(sent.listing.clone());
            before.permissions.clone_from(&sent.permissions);
            self.put_back(&before).await?;
            return Ok(Done {
                generation: Some(before.label()),
                full_check: full,
                left: left(&tree, &sent),
                unpreserved: Vec::new(),
                blind: false,
            });
        }
        changes::carry(
            &mut tree.entries,
            entries_of(memory),
            &sent.files,
            next.generation,
        );
        drop(recalled);
        let left = left(&tree, &sent);
        let marker = self.complete(next, tree, left.clone()).await?;
        Ok(Done {
            generation: Some(marker.label()),
            full_check: full,
            left,
            unpreserved: sent.restless(),
            blind: false,
        })
    }

    /// Sends while the path is this run's. When it is not, rclone is told to end, so that it leaves no half of an upload.
    async fn send_watched(
        &self,
        tree: &mut Scan,
        plan: Plan,
        (memory, announced): (Option<&Manifest>, &Marker),
    ) -> Result<Sent, Setback> {
        let mut sending = std::pin::pin!(self.send(tree, plan, memory));
        let mut watching = std::pin::pin!(self.watch(announced));
        tokio::select! {
            sent = &mut sending => {
                let mut beats = self.beats.subscribe();
                tokio::select! {
                    _ = &mut watching => {}
                    // A marker that is on its way must not arrive after the one that comes next.
                    _ = beats.wait_for(|beats| !*beats) => {}
                }
                sent
            }
            setback = &mut watching => {
                self.rclone.halt();
                // It ends soon, and what it has to say of that is known.
                let _ = sending.await;
                self.rclone.go_on();
                Err(setback)
            }
        }
    }

    /// `marker`, if it tells of this path. Of what lies here another path's tells nothing, whoever sent it.
    fn if_of_this_path<'m>(&self, marker: Option<&'m Marker>) -> Option<&'m Marker> {
        marker.filter(|marker| !marker.is_of_other_path(&self.rclone.remote().path))
    }

    /// Announces the version after that of `marker`, which may tell of another path.
    fn announce(&self, marker: Option<&Marker>) -> Marker {
        let mut next = self.announcement(marker);
        if self.if_of_this_path(marker).is_none() {
            // A run that breaks off leaves this, and what another path held would pass for what this one held.
            next.base = None;
            (next.entries, next.files, next.bytes) = (0, 0, 0);
        }
        next
    }

    /// What the marker and the manifest that it names are worth.
    fn stand(&self, marker: Option<&Marker>, remembers: bool) -> Stand {
        let is_whole = marker.is_some_and(|marker| marker.state == State::Complete);
        let is_of_this_run = marker.is_some_and(|marker| marker.run == self.run);
        let is_own = marker.is_some_and(|marker| marker.standing(&self.me) == Standing::Own);
        let is_known = remembers && is_own && (is_whole || is_of_this_run) && !self.doubt.get();
        Stand {
            is_whole,
            is_kept_up: is_whole && is_own && remembers,
            is_known,
        }
    }

    /// Without anything beside the path: every run is a full one.
    async fn alone(
        &self,
        mut tree: Scan,
        lack: Lack,
        marker: Option<Marker>,
    ) -> Result<Done, Setback> {
        self.console.say(&format!(
            "nothing is kept beside the path, so everything is compared in every run: {}; cure: {}",
            lack.why, lack.cure
        ));
        // Markers that nobody keeps up would vouch for what is about to change.
        self.remember_own_place(marker);
        self.retire_formers(None).await?;
        let changes = changes::compare(&tree.entries, &[]);
        let mut plan = self.plan(&tree, changes, (true, true));
        plan.hides_marker = lack.hides_marker;
        let sent = self.send(&mut tree, plan, None).await?;
        self.sweep_formers().await;
        let mut unpreserved = sent.restless();
        unpreserved.extend(
            [
                "symbolic links, hard links, pipes, devices",
                "extended attributes, sparse files, times of folders",
            ]
            .map(str::to_owned),
        );
        unpreserved.push(format!("cure: {}", lack.cure));
        Ok(Done {
            generation: None,
            full_check: true,
            left: left(&tree, &sent),
            unpreserved,
            blind: false,
        })
    }

    fn plan(&self, tree: &Scan, changes: Changes, (full, from_nothing): (bool, bool)) -> Plan {
        let files = || {
            (0..tree.entries.len())
                .filter(|index| tree.entries.get(*index).is_some_and(Entry::is_file))
        };
        let (sent, checked) = match (full, from_nothing) {
            (true, true) => {
                // No memory: what is there already need not go again.
                (Vec::new(), files().collect())
            }
            (true, false) => {
                let sure: HashSet<usize> = changes.sent.iter().copied().collect();
                let checked = files().filter(|index| !sure.contains(index)).collect();
                (changes.sent, checked)
            }
            (false, _) => (changes.sent, Vec::new()),
        };
        let suspected = if full { Vec::new() } else { changes.suspected };
        if full {
            self.console.say("everything is compared with the store");
        }
        Plan {
            sent,
            suspected,
            checked,
            removed: changes.removed,
            folders: full || changes.folders,
            full,
            from_nothing,
            is_unsure: from_nothing,
            hides_marker: false,
            is_last: false,
        }
    }

    /// Adds to `changes` what earlier tries of this run may have changed in the store.
    fn again_what_was_touched(&self, entries: &[Entry], changes: &mut Changes) {
        let touched = self.touched.borrow();
        if !touched.is_empty() {
            let again = entries.iter().enumerate();
            let again = again.filter(|(_, entry)| entry.is_file() && touched.contains(&entry.path));
            changes.sent.extend(again.map(|(index, _)| index));
            changes.sent.sort_unstable();
            changes.sent.dedup();
            let files: HashSet<&[u8]> = entries
                .iter()
                .filter(|entry| entry.is_file())
                .map(|entry| entry.path.as_slice())
                .collect();
            let gone = touched
                .iter()
                .filter(|path| !files.contains(path.as_slice()));
            changes.removed.extend(gone.cloned());
            changes.removed.sort_unstable();
            changes.removed.dedup();
            changes.folders = true;
            changes.any = true;
        }
        drop(touched);
        self.remember_touched(entries, changes);
    }

    /// Notes what `changes` are about to change in the store, for the next try.
    fn remember_touched(&self, entries: &[Entry], changes: &Changes) {
        let mut touched = self.touched.borrow_mut();
        touched.extend(changes.removed.iter().cloned());
        let sent = changes.sent.iter().chain(&changes.suspected);
        touched.extend(sent.filter_map(|index| Some(entries.get(*index)?.path.clone())));
    }

    /// Is a full check due by the number of runs?
    fn is_due(&self) -> bool {
        let every = self.settings.full_check_every;
        every > 0 && self.settings.runs_since_full_check.saturating_add(1) >= every
    }

    /// Did somebody refuse what lies beside the path, where this source never had anything there? What keeps a run from
    /// the data, too, is told.
    fn may_go_alone(&self, setback: &Setback) -> bool {
        let stops_all = match setback.fault.reason {
            reason::INTERRUPTED
            | reason::PATH_IN_USE
            | reason::POD_INCOMPLETE
            | reason::SECTION_MISSING
            | reason::CONFIG_INVALID
            | reason::CERTIFICATE_REFUSED
            | reason::CREDENTIALS_EXPIRED
            | reason::CLOCK_SKEWED => true,
            reason::BUCKET_MISSING => self.rclone.remote().shares_bucket(),
            _ => false,
        };
        setback.next == Next::GiveUp && self.settings.last_generation.is_none() && !stops_all
    }

    fn finish(&self, done: Done) -> Report {
        let stats = *self.stats.borrow();
        let mut report = Report::successful(MOVER, Role::Source);
        report.entries = signed(done.left.entries);
        report.total_bytes = signed(done.left.bytes);
        report.bytes_sent = signed(stats.bytes);
        report.files_transferred = signed(stats.files);
        report.generation = done.generation;
        report.full_check = done.full_check;
        report.blind = done.blind;
        report.unpreserved = done.unpreserved;
        let last = Progress {
            phase: Some("Transferred".to_owned()),
            bytes_done: report.total_bytes,
            bytes_total: report.total_bytes,
            files_done: signed(done.left.files),
            files_total: signed(done.left.files),
        };
        self.console.machine(&last.to_line());
        summary(&stats, self.console);
        report
    }
}

fn entries_of(memory: Option<&Manifest>) -> &[Entry] {
    memory.map_or(&[], |manifest| &manifest.entries)
}

fn left(tree: &Scan, sent: &Sent) -> Left {
    Left {
        listing: sent.listing.clone(),
        permissions: sent.permissions.clone(),
        surprises: sent.surprises,
        entries: tree.held(),
        files: tree.files,
        bytes: tree.bytes,
    }
}

/// Refuses a source that cannot be read, or that is empty but for `lost+found` and was not when it was last sent: the
/// store would be emptied too.
fn guard_against_emptiness(settings: &Settings) -> Result<(), Fault> {
    let is_empty = has_nothing(&settings.places.data).map_err(|error| {
        let message = format!(
            "the source volume at {} cannot be read: {error}{}",
            settings.places.data.display(),
            crate::tree::cure_of(&error)
        );
        Fault::new(reason::SOURCE_UNREADABLE, message)
    })?;
    if !is_empty || settings.last_entries == 0 || settings.allow_empty {
        return Ok(());
    }
    Err(unexpectedly_empty(&format!(
        "held {} when it was last sent",
        entries_in_words(settings.last_entries)
    )))
}

fn unexpectedly_empty(but: &str) -> Fault {
    Fault::new(
        api_reason::SOURCE_UNEXPECTEDLY_EMPTY,
        format!(
            "the source volume is empty, but {but}, so nothing was touched in the store; check that the right volume is \
             mounted, or allow it once with the annotation {}",
            syncline_api::labels::ALLOW_EMPTY_SOURCE_ONCE
        ),
    )
}
