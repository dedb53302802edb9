//! Bringing the store in line with the tree.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use super::restless::{is_as_seen, renamed_too_often, unsettle};
use super::way::in_the_way;
use super::{Plan, Source};
use crate::rclone::changes;
use crate::rclone::listing::{Comparison, Found};
use crate::rclone::manifest::Manifest;
use crate::rclone::names;
use crate::rclone::outcome::{Next, Setback};
use crate::rclone::passes::{self, Pass, Way};
use crate::rclone::program::Command;
use crate::rclone::stats::Stats;
use crate::rclone::store::{Evidence, Features, Listed};
use crate::report::{Fault, reason};
use crate::tree::{Entry, Scan};

/// How often files that change while they are sent are sent again.
const ROUNDS: u32 = 3;
/// The same where files have other names each time that they are looked for.
const MOST_ROUNDS: u32 = 8;
/// How often the store is brought in line with what a listing shows.
pub(super) const LISTINGS: u32 = 3;
/// What one round leaves to the next.
#[derive(Default)]
struct Rest {
    /// Files that are others now than when they were seen.
    moved: BTreeSet<Vec<u8>>,
    /// Files of which nobody knows whether they were sent: rclone met some that changed.
    doubtful: BTreeSet<Vec<u8>>,
    /// What it said of these.
    told: Option<Setback>,
}

impl Plan {
    /// Will the store be another after it, as far as is known beforehand?
    fn changes_the_store(&self) -> bool {
        !(self.sent.is_empty() && self.suspected.is_empty() && self.removed.is_empty())
    }

    /// Sends every file that would be compared.
    pub(super) fn send_all(&mut self) {
        self.sent.append(&mut self.checked);
        self.sent.sort_unstable();
    }

    /// Sends what a listing does not show without looking for it once more.
    pub(super) fn send_what_is_missing(&mut self, found: Found) {
        let wrong: BTreeSet<usize> = found.missing.into_iter().chain(found.differing).collect();
        self.checked.retain(|index| !wrong.contains(index));
        self.sent.extend(wrong);
        self.sent.sort_unstable();
        self.sent.dedup();
    }
}

/// What is known of files before they are held against the store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    ToHaveChanged,
    Suspected,
    Unchanged,
}

/// How much of the store a run looks at.
#[derive(Clone, Copy)]
struct Fullness {
    /// All of it.
    is_full: bool,
    /// No manifest tells what it held.
    is_first: bool,
}

/// What was done to the store.
#[derive(Default)]
pub(super) struct Sent {
    /// Indices of the files, in the tree as it is now, that were sent whatever the store held.
    pub(super) files: Vec<usize>,
    /// What a listing shows now.
    pub(super) listing: String,
    /// What it shows of the permissions.
    pub(super) permissions: Option<String>,
    /// Files that changed each time they were sent: what the store has of them is of some moment.
    pub(super) restless: BTreeSet<Vec<u8>>,
    /// Files that went before they could be read.
    pub(super) gone: BTreeSet<Vec<u8>>,
    /// There are restless ones, and nobody knows which.
    pub(super) is_unsettled: bool,
    /// Files were sent that were not known to have changed.
    pub(super) surprises: bool,
    /// Anything at all was done.
    pub(super) changed: bool,
}

impl Source<'_> {
    /// Does what `plan` says, until the store holds `tree`; the tree is read anew when it changes meanwhile.
    pub(super) async fn send(
        &self,
        tree: &mut Scan,
        mut plan: Plan,
        memory: Option<&Manifest>,
    ) -> Result<Sent, Setback> {
        if let Some(key) = self.rclone.selective() {
            return self.sync_whole(tree, key, plan.hides_marker).await;
        }
        let features = self.rclone.features().await?;
        let mut leftover = self.leftover(tree, &mut plan, features).await?;
        self.make_way(&leftover, plan.hides_marker).await?;
        let full = Fullness {
            is_full: plan.full,
            is_first: plan.from_nothing,
        };
        let mut sent = Sent {
            surprises: plan.from_nothing,
            changed: !leftover.is_empty(),
            ..Sent::default()
        };
        let mut paths: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut rounds = 0;
        loop {
            rounds += 1;
            plan.is_last = rounds >= ROUNDS;
            sent.changed |= plan.changes_the_store();
            let in_the_way = leftover.defer(tree, &mut plan, features);
            self.remove(&in_the_way).await?;
            let rest = self.one_round(tree, &plan, features, &mut sent).await?;
            if !plan.from_nothing {
                let sent = plan.sent.iter().chain(&plan.suspected);
                paths.extend(sent.filter_map(|index| path_of(tree, *index)));
            }
            let Some(first) = rest.moved.first() else {
                break;
            };
            if plan.is_last && !self.is_renamed_unsent(tree, &rest.moved, memory).await? {
                self.console.say(&format!(
                    "{} file(s) change faster than they can be sent; the store has them as they were at some moment",
                    rest.moved.len()
                ));
                sent.restless = rest.moved;
                break;
            }
            if rounds == MOST_ROUNDS {
                return Err(renamed_too_often());
            }
            self.console.say(&format!(
                "{} file(s) changed while they were sent (first: {}); they are sent again",
                rest.moved.len(),
                crate::tree::shown(first)
            ));
            (*tree, plan) = self.look_again(tree, &rest).await?;
        }
        self.clear(tree, leftover, (rounds > 1, full.is_first))
            .await?;
        // Nothing comes after them: whoever sees no marker takes them for the end of a run.
        self.send_permissions(tree, (memory, !full.is_full)).await?;
        self.settle(tree, features, full, &mut sent).await?;
        unsettle(tree, &sent.restless);
        sent.files = paths
            .iter()
            .filter_map(|path| {
                tree.entries
                    .binary_search_by(|entry| entry.path.cmp(path))
                    .ok()
            })
            .collect();
        Ok(sent)
    }

    /// Makes folders, sends and compares. Gives what has to be done once more.
    async fn one_round(
        &self,
        tree: &Scan,
        plan: &Plan,
        features: Features,
        sent: &mut Sent,
    ) -> Result<Rest, Setback> {
        if plan.folders && features.keeps_folders {
            self.align_folders(tree).await?;
        }
        let pass_of_sent = if plan.is_last {
            Pass::Restless
        } else {
            Pass::Always
        };
        let otherwise = if features.keeps_times {
            Pass::ByTime
        } else {
            Pass::Always
        };
        // A checksum tells what a time, which somebody may have set, does not.
        let parts = [
            (&plan.sent, pass_of_sent, Known::ToHaveChanged),
            (&plan.suspected, Pass::Always, Known::Suspected),
            (&plan.checked, otherwise, Known::Unchanged),
        ];
        let mut rest = Rest::default();
        let mut is_surprised = false;
        for (files, pass, known) in parts {
            let copied = match known {
                Known::ToHaveChanged => self.copy(tree, files, (pass, features)).await,
                _ => self.copy_by_hash(tree, files, (pass, features)).await,
            };
            match copied {
                Ok(stats) => is_surprised |= stats.files > 0 && known == Known::Unchanged,
                Err(told) if told.fault.reason == reason::SOURCE_CHANGING && !plan.is_last => {
                    rest.doubtful
                        .extend(files.iter().filter_map(|index| path_of(tree, *index)));
                    rest.told = Some(told);
                    is_surprised = true;
                }
                Err(setback) => return Err(setback),
            }
        }
        sent.surprises |= is_surprised;
        sent.changed |= is_surprised;
        let looked_at = plan.sent.iter().chain(&plan.suspected).chain(&plan.checked);
        rest.moved = self.moved(tree, looked_at);
        match rest.told.take() {
            // Nothing of the volume is to blame.
            Some(told) if rest.moved.is_empty() => Err(told),
            _ => Ok(rest),
        }
    }

    /// The paths of files of `tree` that are others now than when they were seen.
    fn moved<'t>(
        &self,
        tree: &Scan,
        indices: impl Iterator<Item = &'t usize>,
    ) -> BTreeSet<Vec<u8>> {
        // Nothing else waits for the event loop then, and a copy of the entries would double the memory.
        let data = &self.settings.places.data;
        let entries = indices.filter_map(|index| tree.entries.get(*index));
        let moved = entries.filter(|entry| !is_as_seen(data, entry));
        moved.map(|entry| entry.path.clone()).collect()
    }

    /// Reads the tree anew and plans what became necessary since, and what `rest` has above all.
    async fn look_again(&self, tree: &Scan, rest: &Rest) -> Result<(Scan, Plan), Setback> {
        let (fresh, _) = self.scan().await?;
        self.guard(&fresh, None).await?;
        let mut changes = changes::compare(&fresh.entries, &tree.entries);
        let among = |paths: &BTreeSet<Vec<u8>>| -> Vec<usize> {
            let entries = fresh.entries.iter().enumerate();
            let found = entries.filter(|(_, entry)| entry.is_file() && paths.contains(&entry.path));
            found.map(|(index, _)| index).collect()
        };
        changes.sent.extend(among(&rest.moved));
        changes.sent.sort_unstable();
        changes.sent.dedup();
        changes.suspected.extend(among(&rest.doubtful));
        changes.suspected.sort_unstable();
        changes.suspected.dedup();
        self.remember_touched(&fresh.entries, &changes);
        let sent = &changes.sent;
        changes
            .suspected
            .retain(|index| sent.binary_search(index).is_err());
        let plan = Plan {
            sent: changes.sent,
            suspected: changes.suspected,
            checked: Vec::new(),
            removed: changes.removed,
            folders: changes.folders,
            full: false,
            from_nothing: false,
            is_unsure: false,
            hides_marker: false,
            is_last: false,
        };
        Ok((fresh, plan))
    }

    /// Compares the store with the tree by a listing. In a full run what is wrong is put right; else it shows that somebody
    /// else was here, and leads to a full run.
    async fn settle(
        &self,
        tree: &mut Scan,
        features: Features,
        full: Fullness,
        sent: &mut Sent,
    ) -> Result<(), Setback> {
        let mut found = self.compare_with_restless(tree, features, sent).await?;
        for _ in 1..LISTINGS {
            if found.is_exact() {
                break;
            }
            let words = found.describe(&tree.entries);
            let data = self.rclone.remote().data();
            self.console
                .say(&format!("{data} is not as this source left it: {words}"));
            if !full.is_full {
                self.doubt.set(true);
                let message = format!(
                    "{data} is not as this source left it ({words}); everything is compared"
                );
                let fault = Fault::new(reason::LISTING_INCOMPLETE, message);
                return Err(Setback {
                    fault,
                    next: Next::Wait,
                });
            }
            if full.is_first && self.bare.get() && !found.extra.is_empty() {
                return Err(self.was_not_bare());
            }
            sent.changed = true;
            sent.surprises = true;
            self.put_right(tree, found, (features, full.is_first))
                .await?;
            found = self.compare_with_restless(tree, features, sent).await?;
        }
        if found.is_exact() {
            sent.listing = found.digest.label();
            sent.permissions = found.permissions.as_ref().map(Listed::stamp);
            return Ok(());
        }
        let is_unnameable = found.extra.iter().any(|name| names::is_unnameable(name));
        let cure = if is_unnameable {
            "remove there what has a \u{fffd} in its name: it is no UTF-8, and rclone cannot be told which file is meant"
        } else {
            "look whether somebody else writes to it, and whether the store's listings are complete"
        };
        let message = format!(
            "{} does not show what was sent there: {}; {cure}",
            self.rclone.remote().data(),
            found.describe(&tree.entries)
        );
        let fault = Fault::new(reason::LISTING_INCOMPLETE, message);
        Err(Setback {
            fault,
            next: Next::Wait,
        })
    }

    /// Does what a listing shows to be missing.
    async fn put_right(
        &self,
        tree: &Scan,
        found: Found,
        (features, is_first): (Features, bool),
    ) -> Result<(), Setback> {
        self.check_surplus(tree, &found.extra, is_first)?;
        let (first, last) = in_the_way(&tree.entries, found.extra, &names::listed);
        self.remove_listed(&first).await?;
        if features.keeps_folders {
            self.align_folders(tree).await?;
        }
        let wrong = found.missing.into_iter().chain(found.differing);
        let wrong: Vec<usize> = wrong.collect();
        self.copy(tree, &wrong, (Pass::Always, features)).await?;
        self.remove_listed(&last).await?;
        if features.keeps_folders && !last.is_empty() {
            self.align_folders(tree).await?;
        }
        self.send_permissions(tree, (None, false)).await
    }

    pub(super) async fn compare(&self, tree: &Scan) -> Result<Found, Setback> {
        let mut comparison = Comparison::with(&tree.entries);
        let data = self.rclone.remote().data();
        self.rclone
            .list(&data, Evidence::Cheap, &mut |listed| {
                comparison.take(&listed);
            })
            .await?;
        Ok(comparison.found())
    }

    /// Sends the files at `indices`.
    pub(super) async fn copy(
        &self,
        tree: &Scan,
        indices: &[usize],
        (pass, features): (Pass, Features),
    ) -> Result<Stats, Setback> {
        let files: Vec<&Entry> = indices
            .iter()
            .filter_map(|index| tree.entries.get(*index))
            .collect();
        let (data, remote) = (&self.settings.places.data, self.rclone.remote().data());
        let store = remote.to_string();
        let way = Way::Up {
            volume: data.as_os_str(),
            store: OsStr::new(&store),
        };
        let commands = passes::copies(&files, way, (pass, tree.files), features);
        match self.run_all(commands.clone()).await {
            Err(setback) if setback.fault.reason == reason::BUCKET_MISSING => {
                self.rclone.make_folder(&remote).await?;
                self.run_all(commands).await
            }
            result => result,
        }
    }

    /// Sends those of the files at `indices` whose objects have another checksum, and those whose objects have none as
    /// `otherwise` says.
    async fn copy_by_hash(
        &self,
        tree: &Scan,
        indices: &[usize],
        (otherwise, features): (Pass, Features),
    ) -> Result<Stats, Setback> {
        let (hashed, others) = self.rclone.hashed(&tree.entries, indices).await?;
        let mut stats = self.copy(tree, &hashed, (Pass::ByHash, features)).await?;
        stats += self.copy(tree, &others, (otherwise, features)).await?;
        Ok(stats)
    }

    /// Removes files of the store, named as in the volume.
    pub(super) async fn remove(&self, paths: &[Vec<u8>]) -> Result<(), Setback> {
        let remote = self.rclone.remote().data().to_string();
        self.run_all(passes::deletions(paths, OsStr::new(&remote)))
            .await
            .map(drop)
    }

    /// Removes files of the store, named as in a listing.
    pub(super) async fn remove_listed(&self, names: &[Vec<u8>]) -> Result<(), Setback> {
        let remote = self.rclone.remote().data().to_string();
        self.run_all(passes::deletions_of_listed(names, OsStr::new(&remote)))
            .await
            .map(drop)
    }

    async fn run_all(&self, commands: Vec<Command>) -> Result<Stats, Setback> {
        let mut all = Stats::default();
        for command in commands {
            let ran = self.rclone.run(command, self.console).await;
            // What only compared, and found nothing, changed nothing.
            let is_harmless =
                (ran.as_ref()).is_ok_and(|stats| stats.files == 0 && stats.deletes == 0);
            self.has_begun.set(self.has_begun.get() || !is_harmless);
            let stats = ran?;
            *self.stats.borrow_mut() += stats;
            all += stats;
        }
        Ok(all)
    }

    /// Makes the folders of the tree, empty ones too, and removes empty ones that it does not have.
    pub(super) async fn align_folders(&self, tree: &Scan) -> Result<(), Setback> {
        let (data, remote) = (&self.settings.places.data, self.rclone.remote().data());
        // No file is that large: all files are passed over, and folders are left.
        let mut command = Command::new("sync")
            .args([
                "--create-empty-src-dirs",
                "--one-file-system",
                "--min-size",
                "1P",
            ])
            .args(["--skip-links", "--exclude", "/lost+found/**"]);
        if tree.entries.iter().any(|entry| names::is_raw(&entry.path)) {
            // They would be read as other names, which are not there.
            command = command.args(["--exclude", "**\u{201b}**"]);
        }
        let command = command.arg(data).arg(remote.to_string());
        self.rclone.run(command, self.console).await.map(drop)
    }
}

fn path_of(tree: &Scan, index: usize) -> Option<Vec<u8>> {
    tree.entries.get(index).map(|entry| entry.path.clone())
}

pub(super) fn broken(why: &str) -> Setback {
    let message = format!("the mover's own files cannot be used: {why}; give its pod more memory");
    Fault::new(reason::POD_INCOMPLETE, message).into()
}
