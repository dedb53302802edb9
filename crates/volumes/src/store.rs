//! A folder of volumes and images.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::disk::{self, DISK};
use crate::tree::{self, Copier};
use crate::{Consistency, Copied, Error, Settled, Unkept, Usage, btrfs};

pub(crate) const VOLUMES: &str = "volumes";
pub(crate) const SNAPSHOTS: &str = "snapshots";
pub(crate) const DATA: &str = "data";
const ABOUT: &str = "about.json";
/// Prefix of what is being made or removed; such entries are never listed and are swept at the next start.
const WORKING: &str = ".tmp-";

/// Told after each pass of a copy: the number of the pass, from 1.
pub type PassHook = Arc<dyn Fn(u32) + Send + Sync>;

/// How copies are made.
#[derive(Clone)]
pub struct Options {
    /// A copy that is not atomic walks its source at most this often; at least 2.
    pub pass_limit: u32,
    /// The best that may be used; tests ask for less than the file system can do.
    pub best: Consistency,
    /// Told after each pass.
    pub after_pass: Option<PassHook>,
    /// What is finished survives a loss of power, not only the end of the process.
    pub durable: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pass_limit: 5,
            best: Consistency::Atomic,
            after_pass: None,
            durable: true,
        }
    }
}

/// Where a copy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// A volume of this folder.
    Volume(&'a str),
    /// An image of this folder.
    Image(&'a str),
    /// A directory elsewhere, owned by somebody else.
    Folder(&'a Path),
}

/// The volumes and images of one folder. Cheap to clone; all methods may be called from several threads at once.
/// The methods block; call them where blocking is allowed.
#[derive(Clone)]
pub struct Volumes {
    pub(crate) root: Arc<Path>,
    pub(crate) options: Options,
    pub(crate) stopped: Arc<AtomicBool>,
    serial: Arc<AtomicU64>,
    readers: Arc<Readers>,
}

/// Which volumes and images are being copied from now; they are not removed meanwhile.
#[derive(Default)]
struct Readers {
    counts: Mutex<HashMap<PathBuf, u32>>,
    changed: Condvar,
}

/// Holds a source until it goes out of scope.
struct Reading<'a> {
    readers: &'a Readers,
    path: PathBuf,
}

impl Readers {
    fn hold(&self, path: &Path) -> Reading<'_> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(path.to_owned()).or_default() += 1;
        Reading {
            readers: self,
            path: path.to_owned(),
        }
    }

    /// Runs `act` at a moment when nobody reads below `path`.
    fn when_free<T>(&self, path: &Path, act: impl FnOnce() -> T) -> T {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |counts: &mut HashMap<PathBuf, u32>| {
            counts.keys().any(|reading| reading.starts_with(path))
        };
        let _free = self
            .changed
            .wait_while(counts, read)
            .unwrap_or_else(PoisonError::into_inner);
        act()
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut counts = self
            .readers
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.path) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.path);
                self.readers.changed.notify_all();
            }
        }
    }
}

impl Volumes {
    /// Opens the folder, makes it when it is not there, and removes what an interrupted run left half-made.
    pub fn open(root: &Path) -> Result<Self, Error> {
        Self::open_with(root, Options::default())
    }

    /// As [`Self::open`], with options.
    pub fn open_with(root: &Path, options: Options) -> Result<Self, Error> {
        let folder = Self {
            root: root.into(),
            options,
            stopped: Arc::new(AtomicBool::new(false)),
            serial: Arc::new(AtomicU64::new(0)),
            readers: Arc::default(),
        };
        for part in [VOLUMES, SNAPSHOTS] {
            let path = folder.root.join(part);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|error| Error::io("create", &path, error))?;
            Self::sweep(&path)?;
        }
        Ok(folder)
    }

    fn sweep(part: &Path) -> Result<(), Error> {
        for entry in fs::read_dir(part).map_err(|error| Error::io("list", part, error))? {
            let entry = entry.map_err(|error| Error::io("list", part, error))?;
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(WORKING.as_bytes())
            {
                tracing::info!(path = %entry.path().display(), "removing what an interrupted run left");
                remove_path(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Ends copies under way with [`Error::Stopped`], and refuses further ones.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The directory of a volume, whether it exists or not.
    pub fn volume_path(&self, name: &str) -> PathBuf {
        self.root.join(VOLUMES).join(name).join(DATA)
    }

    /// The directory of an image, whether it exists or not.
    pub fn image_path(&self, name: &str) -> PathBuf {
        self.root.join(SNAPSHOTS).join(name).join(DATA)
    }

    /// The directory of a source, or its file when it is a disk; it must exist.
    pub fn source_path(&self, source: Source<'_>) -> Result<PathBuf, Error> {
        let (part, name, path) = match source {
            Source::Volume(name) => ("volume", name, self.volume_path(name)),
            Source::Image(name) => ("image", name, self.image_path(name)),
            Source::Folder(path) => return self.outside(path).map(Path::to_owned),
        };
        check_name(name)?;
        if path.is_dir() {
            return Ok(path);
        }
        let disk = path.with_file_name(DISK);
        if disk.is_file() {
            return Ok(disk);
        }
        Err(Error::Missing {
            what: part,
            name: name.to_owned(),
            folder: self.root.to_path_buf(),
        })
    }

    /// A folder that does not hold this store: its copy would have to hold itself, and never end.
    fn outside<'a>(&self, folder: &'a Path) -> Result<&'a Path, Error> {
        let inside = match (folder.canonicalize(), self.root.canonicalize()) {
            (Ok(folder), Ok(root)) => root.starts_with(folder),
            // What cannot be found is told when it is opened.
            _ => false,
        };
        if inside {
            return Err(Error::HoldsStore {
                path: folder.to_owned(),
                store: self.root.to_path_buf(),
            });
        }
        Ok(folder)
    }

    /// Names of all volumes, sorted.
    pub fn volumes(&self) -> Result<Vec<String>, Error> {
        self.list(VOLUMES)
    }

    /// Names of all images, sorted.
    pub fn images(&self) -> Result<Vec<String>, Error> {
        self.list(SNAPSHOTS)
    }

    fn list(&self, part: &str) -> Result<Vec<String>, Error> {
        let path = self.root.join(part);
        let entries = fs::read_dir(&path).map_err(|error| Error::io("list", &path, error))?;
        let mut names: Vec<String> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Makes an empty volume and gives its directory; one that exists already is left as it is.
    ///
    /// Its root may be written by any user, as volumes of Kubernetes' host-path driver may; the folder around it is
    /// closed to others.
    pub fn create(&self, name: &str) -> Result<PathBuf, Error> {
        check_name(name)?;
        let path = self.volume_path(name);
        if path.is_dir() {
            return Ok(path);
        }
        let work = self.begin(VOLUMES)?;
        let data = new_directory(&work)?;
        fs::set_permissions(&data, fs::Permissions::from_mode(0o777))
            .map_err(|error| Error::io("set the mode of", &data, error))?;
        self.publish(&work, &self.root.join(VOLUMES).join(name))?;
        Ok(path)
    }

    /// Removes a volume and all data in it; none of that name is no error. Waits for copies of it under way.
    pub fn delete(&self, name: &str) -> Result<(), Error> {
        self.discard(VOLUMES, name)
    }

    /// Removes an image; none of that name is no error.
    pub fn delete_image(&self, name: &str) -> Result<(), Error> {
        self.discard(SNAPSHOTS, name)
    }

    fn discard(&self, part: &str, name: &str) -> Result<(), Error> {
        check_name(name)?;
        let path = self.root.join(part).join(name);
        let doomed = self.root.join(part).join(self.working_name());
        match self.readers.when_free(&path, || fs::rename(&path, &doomed)) {
            Ok(()) => remove_path(&doomed),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io("remove", &path, error)),
        }
    }

    /// Makes an image of a source. An image of that name that exists already is left, and its record given back.
    pub fn snapshot(&self, source: Source<'_>, image: &str) -> Result<Copied, Error> {
        self.copy(source, SNAPSHOTS, image)
    }

    /// Makes a new volume from an image (restore), a volume or a folder (clone). A volume of that name that exists
    /// already is left, and its record given back.
    pub fn provision(&self, source: Source<'_>, volume: &str) -> Result<Copied, Error> {
        self.copy(source, VOLUMES, volume)
    }

    /// The record of an image.
    pub fn about_image(&self, image: &str) -> Result<Copied, Error> {
        self.source_path(Source::Image(image))?;
        read_about(&self.root.join(SNAPSHOTS).join(image))
    }

    /// How much is in a source now.
    pub fn usage(&self, source: Source<'_>) -> Result<Usage, Error> {
        let path = self.source_path(source)?;
        if path.is_file() {
            return disk::usage(&path);
        }
        tree::usage(&path)
    }

    /// Bytes that may still be written to the folder's file system.
    pub fn free_bytes(&self) -> Result<u64, Error> {
        let facts = rustix::fs::statvfs(&*self.root)
            .map_err(|error| Error::io("measure", &self.root, error))?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }

    fn copy(&self, source: Source<'_>, part: &str, name: &str) -> Result<Copied, Error> {
        check_name(name)?;
        let home = self.root.join(part).join(name);
        if home.join(ABOUT).is_file() {
            return read_about(&home);
        }
        let from = self.source_path(source)?;
        // Held first, looked for again then: it may have been removed in between.
        let _held = self.readers.hold(&from);
        let from = self.source_path(source)?;
        let work = self.begin(part)?;
        let copied = self
            .fill(source, &from, &work, part == SNAPSHOTS)
            .and_then(|copied| {
                write_about(&work, &copied)?;
                self.publish(&work, &home)?;
                Ok(copied)
            });
        if copied.is_err() {
            // What cannot be removed now is swept at the next start.
            let _ = remove_path(&work);
        }
        copied.map(|copied| Copied {
            path: content_of(&home),
            ..copied
        })
    }

    /// Puts the copy at `work/data`.
    fn fill(
        &self,
        source: Source<'_>,
        from: &Path,
        work: &Path,
        read_only: bool,
    ) -> Result<Copied, Error> {
        let origin = match source {
            Source::Image(image) => Some(self.about_image(image)?),
            Source::Volume(_) | Source::Folder(_) => None,
        };
        if from.is_file() {
            return self.fill_disk(from, work, origin, read_only);
        }
        if self.options.best == Consistency::Atomic && snapshot_subvolume(from, work, read_only)? {
            let settled = Settled::Yes;
            let fresh = Copied {
                path: work.join(DATA),
                consistency: Consistency::Atomic,
                passes: 0,
                settled,
                unkept: Unkept::default(),
            };
            return Ok(match origin {
                Some(origin) => Copied {
                    passes: 0,
                    path: fresh.path,
                    ..origin
                },
                None => fresh,
            });
        }
        self.fill_by_copying(from, work, origin)
    }

    fn fill_by_copying(
        &self,
        from: &Path,
        work: &Path,
        origin: Option<Copied>,
    ) -> Result<Copied, Error> {
        let path = new_directory(work)?;
        let stopped = &self.stopped;
        let outcome = Copier {
            shown: from,
            source: tree::open_root(from)?,
            target: tree::open_root(&path)?,
            share: self.options.best >= Consistency::PerFile,
            pass_limit: if origin.is_some() {
                1
            } else {
                self.options.pass_limit.max(2)
            },
            after_pass: &|pass| {
                if let Some(hook) = &self.options.after_pass {
                    hook(pass);
                }
            },
            stop: &|| stopped.load(Ordering::Relaxed),
        }
        .run()?;
        // Nobody writes to an image, so a copy of one is worth what the image is worth, however it is made.
        let (consistency, settled) = match origin {
            Some(_) if outcome.settled != Settled::Yes => {
                return Err(Error::ImageChanged {
                    path: from.to_owned(),
                });
            }
            Some(origin) => (origin.consistency, origin.settled),
            None => (outcome.consistency, outcome.settled),
        };
        Ok(Copied {
            path,
            consistency,
            passes: outcome.passes,
            settled,
            unkept: outcome.unkept,
        })
    }

    fn working_name(&self) -> String {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        format!("{WORKING}{}-{serial}", std::process::id())
    }

    pub(crate) fn begin(&self, part: &str) -> Result<PathBuf, Error> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        let work = self.root.join(part).join(self.working_name());
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&work)
            .map_err(|error| Error::io("create", &work, error))?;
        Ok(work)
    }

    /// Makes finished work durable, then visible.
    pub(crate) fn publish(&self, work: &Path, home: &Path) -> Result<(), Error> {
        let sync = |path: &Path| -> Result<(), Error> {
            if !self.options.durable {
                return Ok(());
            }
            let dir = tree::open_root(path)?;
            rustix::fs::syncfs(&dir).map_err(|error| Error::io("flush", path, error))
        };
        sync(work)?;
        fs::rename(work, home).map_err(|error| Error::io("publish", home, error))?;
        let parent = home.parent().unwrap_or(&self.root);
        if !self.options.durable {
            return Ok(());
        }
        let dir = tree::open_root(parent)?;
        rustix::fs::fsync(&dir).map_err(|error| Error::io("flush", parent, error))
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let fits = (1..=200).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if fits {
        Ok(())
    } else {
        Err(Error::BadName(name.to_owned()))
    }
}

/// Makes `work/data`: a subvolume where that is possible, so that it can be snapshotted as a whole later.
fn new_directory(work: &Path) -> Result<PathBuf, Error> {
    let path = work.join(DATA);
    let parent = tree::open_root(work)?;
    if btrfs::is_btrfs(&parent) && btrfs::create(&parent, c"data").is_ok() {
        return Ok(path);
    }
    fs::DirBuilder::new()
        .mode(0o755)
        .create(&path)
        .map_err(|error| Error::io("create", &path, error))?;
    Ok(path)
}

/// Tries a subvolume snapshot to `work/data`; false when the source or the folder does not allow one.
fn snapshot_subvolume(from: &Path, work: &Path, read_only: bool) -> Result<bool, Error> {
    let source = tree::open_root(from)?;
    let parent = tree::open_root(work)?;
    if !btrfs::is_subvolume(source.as_fd()) || !btrfs::is_btrfs(&parent) || holds_mounts(from) {
        return Ok(false);
    }
    if btrfs::has_children(&source).unwrap_or(true) {
        return Ok(false);
    }
    // Refused for a subvolume of somebody else or of another file system: then the files are copied.
    Ok(btrfs::snapshot(&source, &parent, c"data", read_only).is_ok())
}

/// Whether something else is mounted below the directory; a snapshot would not hold it.
fn holds_mounts(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else {
        return true;
    };
    let Ok(table) = fs::read("/proc/self/mountinfo") else {
        return true;
    };
    table.split(|byte| *byte == b'\n').any(|line| {
        let point = line
            .split(|byte| *byte == b' ')
            .nth(4)
            .map(unescape)
            .unwrap_or_default();
        let point = PathBuf::from(std::ffi::OsString::from(
            String::from_utf8_lossy(&point).into_owned(),
        ));
        point != path && point.starts_with(&path)
    })
}

/// Undoes the octal escapes of the mount table.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let code = tail
            .get(..3)
            .and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                plain.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

fn remove_path(path: &Path) -> Result<(), Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let name = CString::new(name.as_encoded_bytes())
        .map_err(|_| Error::BadName(path.display().to_string()))?;
    tree::remove(tree::open_root(parent)?, &name, path)
}

/// The directory of a volume or image, or its file when it is a disk.
fn content_of(home: &Path) -> PathBuf {
    let disk = home.join(DISK);
    if disk.is_file() {
        disk
    } else {
        home.join(DATA)
    }
}

fn read_about(home: &Path) -> Result<Copied, Error> {
    let path = home.join(ABOUT);
    let text = fs::read(&path).map_err(|error| Error::io("read", &path, error))?;
    let record: Copied = serde_json::from_slice(&text).map_err(|source| Error::Record {
        path: path.clone(),
        source,
    })?;
    Ok(Copied {
        path: content_of(home),
        ..record
    })
}

fn write_about(work: &Path, copied: &Copied) -> Result<(), Error> {
    let path = work.join(ABOUT);
    let text = serde_json::to_vec_pretty(copied).map_err(|source| Error::Record {
        path: path.clone(),
        source,
    })?;
    let written = fs::File::create(&path).and_then(|mut file| file.write_all(&text));
    written.map_err(|error| Error::io("write", &path, error))
}
