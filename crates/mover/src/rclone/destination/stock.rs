//! What lies under a path without a marker: a stock source's objects, as VolSync's mover takes them.
//!
//! rclone only copies. What goes from the volume is decided here, after two equal listings and a look at the volume, so that
//! no listing of rclone's own, which nobody sees, can delete anything.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use syncline_api::report::Progress;
use tokio::time::Instant;

use super::accompanied::too_small;
use super::rest::{Sight, rest};
use super::wait::{TRANSFERRING, UPLOAD_PAUSE};
use super::{Destination, Done, Instead, Lost, NOTED, Round};
use crate::rclone::facl::{self, Facl, Names};
use crate::rclone::generation::Marker;
use crate::rclone::listing::{Comparison, Digest, Found};
use crate::rclone::names;
use crate::rclone::outcome::{Next, Setback};
use crate::rclone::passes;
use crate::rclone::settings::Held;
use crate::rclone::store::{Evidence, Listed};
use crate::report::{Fault, reason};
use crate::tree::{self, Entry, Kind, Scan, Time, shown};

/// The largest file of permissions that is fetched, in bytes: two million entries and more. It lies in memory.
const LARGEST_PERMISSIONS: u64 = 512 << 20;

/// What a listing shows.
#[derive(Default)]
struct Stock {
    digest: Digest,
    /// All files but `permissions.facl`.
    files: Vec<Listed>,
    /// Paths of folders in a volume.
    folders: HashSet<Vec<u8>>,
    permissions: Option<Listed>,
}

impl Stock {
    fn take(&mut self, listed: Listed) {
        if listed.is_folder {
            self.folders.insert(names::local_by_stock(&listed.name));
            return;
        }
        self.digest.add(&listed);
        if listed.name == facl::FILE_NAME.as_bytes() {
            self.permissions = Some(listed);
        } else {
            self.files.push(listed);
        }
    }
}

/// What `permissions.facl` says, or why that is not known.
type Permissions = Result<Facl, String>;

/// The user's own choice among files.
struct Choice {
    /// Names of files in the volume that go by it.
    goes: HashSet<Vec<u8>>,
    /// Names of files in the store that come by it, where it is known.
    comes: Option<HashSet<Vec<u8>>>,
}

/// A file of a listing, as far as a listing tells.
fn file_of(listed: &Listed) -> Entry {
    Entry {
        path: names::local_by_stock(&listed.name),
        kind: Kind::File,
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        ctime: Time::default(),
        inode: 0,
        device_links: 1,
        size: listed.size.unwrap_or_default(),
        sparse: false,
        sent: 0,
        xattrs: Vec::new(),
    }
}

impl Destination<'_> {
    /// Makes the volume what the store holds.
    pub(super) async fn stock(&self, instead: &Instead<'_>) -> Result<Round, Setback> {
        let marker = instead.marker();
        let data = self.rclone.remote().data();
        let mut before = Stock::default();
        self.rclone
            .list(&data, Evidence::Folders, &mut |listed| before.take(listed))
            .await?;
        if before.digest.files == 0 {
            let message = format!(
                "nothing lies at {data}, so the volume was left as it is; check rcloneConfigSection and rcloneDestPath, and \
                 whether the source has run"
            );
            let fault = Fault::new(reason::NOTHING_AT_PATH, message);
            return Err(fault.into());
        }
        let seen = Instant::now();
        let permissions = self.permissions(before.permissions.as_ref()).await?;
        let rest = self.rest(&before, &permissions).await?;
        let is_fresh = self.make_way(&before).await?;
        let copied = self.copy_whole(&before.digest, is_fresh).await;
        if copied.is_ok() {
            self.wait_until(seen + rest, marker, before.permissions.as_ref())
                .await?;
        }
        let is_still = self.is_still(marker).await?;
        let after = self.listing().await?;
        if !is_still || after.as_ref() != Some(&before.digest) {
            return Ok(Round::Changed);
        }
        copied?;
        let choice = self.choice().await?;
        let (digest, files) = (before.digest.clone(), before.files.len() as u64);
        let mut lost = self.align(before, permissions, choice).await?;
        lost.sentences.splice(0..0, self.lost_with_notes(instead));
        let label = match marker {
            Some(marker) => foreign_label(marker, &digest.label()),
            None => digest.label(),
        };
        Ok(Round::Done(Done {
            generation: label,
            files,
            bytes: digest.bytes,
            lost,
        }))
    }

    /// What is lost where no notes help, and why none do, in so few words that a report has room for them.
    fn lost_with_notes(&self, instead: &Instead<'_>) -> Vec<String> {
        let why = match instead {
            Instead::Of(_, why) => Some(format!("cause: {why}")),
            Instead::OfNone => self.refused.borrow().clone(),
        };
        match why {
            Some(why) => vec![NOTED.to_owned(), why],
            None => vec![format!("{NOTED}: the path has none")],
        }
    }

    /// How long the store has to show what it showed `before`. What it showed at the end of the last run has rested.
    async fn rest(&self, before: &Stock, permissions: &Permissions) -> Result<Duration, Setback> {
        let label = before.digest.label();
        let last = self.settings.last_generation.as_deref();
        if last.is_some_and(|last| last.ends_with(&label)) {
            return Ok(Duration::ZERO);
        }
        let sight = Sight {
            files: &before.files,
            line: before.permissions.as_ref(),
            permissions: permissions.as_ref().ok(),
            is_dated: self.rclone.features().await?.slow_times,
        };
        Ok(rest(&sight, self.settings.wait_unit, Timestamp::now()))
    }

    /// Waits until `at`, or until the marker is another than `marker`, or the permissions are others than those of the listing:
    /// whoever writes one of them has more to say than a rest.
    async fn wait_until(
        &self,
        at: Instant,
        marker: Option<&Marker>,
        permissions: Option<&Listed>,
    ) -> Result<(), Setback> {
        let left = at.saturating_duration_since(Instant::now()).as_secs();
        if left == 0 {
            return self.look_until(at, marker, permissions).await;
        }
        self.console.say(&format!(
            "all is here; looking in {left} s, or when {} is written, whether the store still shows the same",
            facl::FILE_NAME
        ));
        self.say_phase(Progress::RESTING);
        self.look_until(at, marker, permissions).await?;
        self.say_phase(TRANSFERRING);
        Ok(())
    }

    async fn look_until(
        &self,
        at: Instant,
        marker: Option<&Marker>,
        permissions: Option<&Listed>,
    ) -> Result<(), Setback> {
        let pause = self.settings.wait_unit * UPLOAD_PAUSE;
        let listed = permissions.map(Listed::stamp);
        loop {
            let next = at.min(Instant::now() + pause);
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                fault = self.rclone.stopped() => return Err(fault.into()),
            }
            if next == at {
                return Ok(());
            }
            let (is_still, written) =
                tokio::join!(self.is_still(marker), self.stamp_of_permissions());
            // A store that does not answer now is asked again at the end.
            let is_written = matches!(written, Ok(Some(stamp)) if listed.as_ref() != Some(&stamp));
            if is_written || matches!(is_still, Ok(false)) {
                return Ok(());
            }
        }
    }

    /// Copies. Nothing is compared that is to be trusted where the volume `is_fresh`.
    async fn copy_whole(&self, expected: &Digest, is_fresh: bool) -> Result<(), Setback> {
        let mut features = self.rclone.features().await?;
        let is_ours = self.is_ours.get().unwrap_or(is_fresh);
        self.is_ours.set(Some(is_ours));
        // Else a time says nothing there, as where a store keeps none.
        features.keeps_times &= is_ours || self.settings.held != Held::OfThisRun;
        let filter = self.rclone.selective().unwrap_or_default();
        let from = self.rclone.remote().data().to_string();
        let places = (OsStr::new(&from), self.root.as_os_str());
        let mut copies = vec![passes::whole("copy", places, filter, features)];
        if !is_fresh && self.rclone.has_hashless(filter).await? {
            copies.push(passes::whole_by_time("copy", places, filter, features));
        }
        let copies = copies.into_iter();
        let copies = copies.map(|copy| copy.expect(expected.files, expected.bytes));
        self.run_all(copies.collect()).await?;
        self.is_ours.set(Some(true));
        Ok(())
    }

    /// Which files come and would go if rclone chose, where the Secret's keys choose among them.
    async fn choice(&self) -> Result<Option<Choice>, Setback> {
        let Some(filter) = self.rclone.selective() else {
            return Ok(None);
        };
        let features = self.rclone.features().await?;
        let from = self.rclone.remote().data().to_string();
        let places = (OsStr::new(&from), self.root.as_os_str());
        let file = self.folder.file("gone");
        let command = passes::whole("sync", places, filter, features)
            .args(["--dry-run", "--missing-on-src"])
            .arg(&file);
        self.rclone.quietly(command).await?;
        let names = std::fs::read(&file).map_err(|error| {
            let message = format!("rclone left no list of what would go: {error}; run it again");
            Fault::new(reason::POD_INCOMPLETE, message)
        })?;
        let names = names.split(|byte| *byte == b'\n');
        Ok(Some(Choice {
            goes: names.map(<[u8]>::to_vec).collect(),
            comes: self.rclone.chosen(filter).await?,
        }))
    }

    /// Removes links that would lead a transfer outside, and refuses what cannot fit. Does the volume hold nothing that looks
    /// like a file of the store?
    async fn make_way(&self, stock: &Stock) -> Result<bool, Setback> {
        let root = self.root.clone();
        let files: Vec<Entry> = stock.files.iter().map(file_of).collect();
        // A folder is made way for as for a file in it. No file has this name.
        let within = |folder: &Vec<u8>| [folder, &b"/."[..]].concat();
        let within: Vec<Vec<u8>> = stock.folders.iter().map(within).collect();
        let room = self.beside(move || {
            let paths = files.iter().map(|file| file.path.as_slice());
            let paths = paths.chain(within.iter().map(Vec::as_slice));
            let present = tree::prepare_for_files(&root, paths)
                .map_err(|error| Fault::new(reason::DESTINATION_UNWRITABLE, error.to_string()))?;
            let is_missing = |file: &&Entry| {
                present
                    .at(&file.path)
                    .is_none_or(|here| here.size != file.size)
            };
            let missing = files.iter().filter(is_missing);
            let room = tree::room(&root, missing, &present).ok();
            Ok((room, files.iter().all(|file| is_missing(&file))))
        });
        match room.await? {
            (Some(room), _) if !room.fits() => Err(too_small(room)),
            (_, is_fresh) => Ok(is_fresh),
        }
    }

    /// What `permissions.facl` says.
    async fn permissions(&self, listed: Option<&Listed>) -> Result<Permissions, Setback> {
        let file = match self.fetch_permissions(listed).await? {
            Ok(file) => file,
            Err(why) => return Ok(Err(why)),
        };
        self.beside(move || {
            let parsed = File::open(&file).and_then(|opened| facl::parse(BufReader::new(opened)));
            let _ = std::fs::remove_file(&file);
            Ok(parsed.map_err(|error| error.to_string()))
        })
        .await
    }

    /// Fetches `permissions.facl`, or says why not.
    pub(super) async fn fetch_permissions(
        &self,
        listed: Option<&Listed>,
    ) -> Result<Result<PathBuf, String>, Setback> {
        let name = facl::FILE_NAME;
        if listed
            .and_then(|listed| listed.size)
            .is_some_and(|size| size > LARGEST_PERMISSIONS)
        {
            let most = LARGEST_PERMISSIONS >> 20;
            return Ok(Err(format!("{name} is larger than {most} MiB")));
        }
        let file = self.folder.file("permissions");
        // A round before this one may have left it.
        let _ = std::fs::remove_file(&file);
        let spot = self.rclone.remote().data_file(name);
        // A listing that lacks files may lack this one, too.
        if !self.rclone.fetch(&spot, &file, LARGEST_PERMISSIONS).await? {
            return Ok(Err(format!("the store has no {name}")));
        }
        Ok(Ok(file))
    }

    /// Holds the volume against the listing, removes what that lacks, and restores permissions. Gives what could not be.
    async fn align(
        &self,
        stock: Stock,
        permissions: Permissions,
        choice: Option<Choice>,
    ) -> Result<Lost, Setback> {
        let root = self.root.clone();
        let aligned = self.beside(move || {
            let tree = tree::scan(&root)
                .map_err(|error| Fault::new(reason::DESTINATION_UNWRITABLE, error.to_string()))?;
            let keep = match keep(&tree, &stock, (&permissions, choice.as_ref())) {
                Ok(keep) => keep,
                Err(words) => return Ok(Err(words)),
            };
            let removed = tree::prune(&root, &keep)
                .map_err(|error| Fault::new(reason::DESTINATION_UNWRITABLE, error.to_string()))?;
            Ok(Ok((removed, restored(&root, permissions))))
        });
        let aligned = aligned.await?.map_err(|words| {
            let message = format!(
                "{}: {words}; nothing was deleted in the volume. The source's next run puts it right",
                self.rclone.remote().data()
            );
            Setback {
                fault: Fault::new(reason::LISTING_INCOMPLETE, message),
                next: Next::Wait,
            }
        });
        let (removed, lost) = aligned?;
        self.stats.borrow_mut().deletes += removed;
        Ok(lost)
    }
}

/// Restores what `permissions.facl` says. VolSync passes over what cannot be restored, too; here it is said.
fn restored(root: &Path, permissions: Permissions) -> Lost {
    let applied = permissions.and_then(|permissions| {
        facl::apply(root, &permissions, &Names::of_volsync()).map_err(|error| error.to_string())
    });
    match applied {
        Ok(unpreserved) => Lost::from(&unpreserved),
        Err(why) => Lost {
            sentences: vec![format!("owners and permissions: {why}")],
            ..Lost::default()
        },
    }
}

/// What of the volume's tree stays, or why nothing may go.
fn keep(
    tree: &Scan,
    stock: &Stock,
    (permissions, choice): (&Permissions, Option<&Choice>),
) -> Result<Vec<Entry>, String> {
    let mut comparison = Comparison::with_stock(&tree.entries);
    for listed in &stock.files {
        comparison.take(listed);
    }
    let found = comparison.found();
    let must_come = |name: &[u8]| {
        choice.is_none_or(|choice| {
            let comes = choice.comes.as_ref();
            comes.is_some_and(|comes| comes.contains(name))
        })
    };
    if let Some(words) = not_come(&found, tree, &must_come) {
        return Err(words);
    }
    let named: HashSet<&[u8]> = match permissions {
        Ok(permissions) => permissions.paths().collect(),
        Err(_) => HashSet::new(),
    };
    let mut goes = vec![false; tree.entries.len()];
    for index in found.missing {
        let (Some(entry), Some(goes)) = (tree.entries.get(index), goes.get_mut(index)) else {
            continue;
        };
        *goes = entry.path != facl::FILE_NAME.as_bytes()
            && choice
                .is_none_or(|choice| choice.goes.contains(&names::listed_by_stock(&entry.path)));
        if *goes && named.contains(entry.path.as_slice()) {
            return Err(format!(
                "its listing lacks {}, which {} names",
                shown(&entry.path),
                facl::FILE_NAME
            ));
        }
    }
    let stays = |entry: &Entry| {
        entry.is_root()
            || named.contains(entry.path.as_slice())
            || stock.folders.contains(&entry.path)
    };
    Ok(without(&tree.entries, goes, &stays))
}

/// The entries but those that go, and but folders that hold nothing any more and need not stay.
fn without(entries: &[Entry], goes: Vec<bool>, stays: &dyn Fn(&Entry) -> bool) -> Vec<Entry> {
    let mut filled: HashSet<&[u8]> = HashSet::new();
    let mut keep = Vec::new();
    // From the end: what lies in a folder comes after it.
    for (entry, goes) in entries.iter().zip(goes).rev() {
        let is_void = entry.is_folder() && !stays(entry) && !filled.contains(entry.path.as_slice());
        if goes || is_void {
            continue;
        }
        filled.insert(tree::split(&entry.path).0);
        keep.push(entry.clone());
    }
    keep.reverse();
    keep
}

/// What was listed, had to come, and is not in the volume: rclone passes over some files without an error.
fn not_come(found: &Found, tree: &Scan, must_come: &dyn Fn(&[u8]) -> bool) -> Option<String> {
    let differing = found.differing.iter().filter_map(|index| {
        let path = &tree.entries.get(*index)?.path;
        must_come(&names::listed_by_stock(path)).then(|| shown(path))
    });
    let extra = found.extra.iter().filter(|name| must_come(name));
    let mut names = extra.map(|name| shown(name)).chain(differing);
    let first = names.next()?;
    Some(format!(
        "{} file(s) of the listing did not come (first: {first})",
        names.count() + 1,
    ))
}

/// The word for what lies under a path beside a marker that does not fit.
pub(super) fn foreign_label(marker: &Marker, listing: &str) -> String {
    format!("{}+{listing}", marker.label())
}
