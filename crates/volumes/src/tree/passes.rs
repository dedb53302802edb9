//! Copying a tree in passes: each walks the whole source and carries over what differs from what the pass before saw,
//! until nothing does.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::fs::{fstat, linkat, mkdirat, mknodat, openat, readlinkat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::metadata::{self, Entry};
use super::{content, remove, walk};
use crate::consistency::SAMPLE;
use crate::{Consistency, Error, Settled, Unkept};

/// What `stat` tells about an entry as far as it shows a change.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    inode: (u64, u64),
    mode: u32,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    #[expect(
        clippy::unnecessary_cast,
        clippy::cast_possible_wrap,
        reason = "the fields' types differ between platforms"
    )]
    fn of(stat: &Stat) -> Self {
        Self {
            inode: (stat.st_dev as u64, stat.st_ino as u64),
            mode: stat.st_mode,
            size: stat.st_size as i64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

/// An entry as it was when it was last carried over.
struct Known {
    look: Look,
    /// The pass that last saw it.
    pass: u32,
    /// It changed so shortly before it was read that a change during the reading could bear the same time.
    fresh: bool,
}

/// A copy under way.
pub(crate) struct Copier<'a> {
    /// The source as the caller named it, for messages.
    pub(crate) shown: &'a Path,
    pub(crate) source: OwnedFd,
    /// An existing, empty directory that nobody else knows.
    pub(crate) target: OwnedFd,
    /// Whether extents may be shared with the source.
    pub(crate) share: bool,
    pub(crate) pass_limit: u32,
    /// Told after each pass.
    pub(crate) after_pass: &'a dyn Fn(u32),
    /// Whether to give up.
    pub(crate) stop: &'a dyn Fn() -> bool,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) consistency: Consistency,
    pub(crate) passes: u32,
    pub(crate) settled: Settled,
    pub(crate) unkept: Unkept,
}

/// What one copy remembers between its passes.
struct State {
    known: HashMap<PathBuf, Known>,
    consistency: Consistency,
    share: bool,
    unkept: Unkept,
    pass: u32,
    /// The time that the file systems stamped on a change made when this pass began.
    began: (i64, i64),
    changes: u64,
    sample: Vec<String>,
    /// Inodes with several names met in this pass.
    linked: HashMap<(u64, u64), Linked>,
}

impl State {
    fn note_change(&mut self, path: &Path) {
        self.changes += 1;
        if self.sample.len() < SAMPLE {
            self.sample.push(path.display().to_string());
        }
    }
}

/// One directory being gone through.
struct Level<'a> {
    source: BorrowedFd<'a>,
    target: BorrowedFd<'a>,
}

/// One entry of it.
struct Item<'a> {
    level: &'a Level<'a>,
    name: &'a CStr,
    /// Its path within the tree.
    path: PathBuf,
    stat: Stat,
    look: Look,
}

impl Item<'_> {
    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    fn has_other_names(&self) -> bool {
        self.stat.st_nlink > 1
    }
}

/// An inode with several names, as one pass met it first.
struct Linked {
    path: PathBuf,
    look: Look,
    fresh: bool,
}

impl Copier<'_> {
    /// Copies until a pass sees no change or the limit is reached. A limit of 1 is for a source that cannot change.
    pub(crate) fn run(self) -> Result<Outcome, Error> {
        let mut state = State {
            known: HashMap::new(),
            consistency: Consistency::PerFile,
            share: self.share,
            unkept: Unkept::default(),
            pass: 0,
            began: (0, 0),
            changes: 0,
            sample: Vec::new(),
            linked: HashMap::new(),
        };
        loop {
            state.pass += 1;
            state.changes = 0;
            state.sample.clear();
            state.linked.clear();
            state.began = self.stamp(&state)?;
            self.pass(&mut state)?;
            (self.after_pass)(state.pass);
            if state.pass >= self.pass_limit || (state.pass > 1 && state.changes == 0) {
                break;
            }
        }
        self.finish_directories(&mut state)?;
        let settled = if state.changes == 0 {
            Settled::Yes
        } else {
            Settled::No {
                count: state.changes,
                sample: state.sample,
            }
        };
        Ok(Outcome {
            consistency: state.consistency,
            passes: state.pass,
            settled,
            unkept: state.unkept,
        })
    }

    fn failed(&self, action: &'static str, relative: &Path, error: Errno) -> Error {
        if error == Errno::CANCELED {
            return Error::Stopped;
        }
        Error::io(action, &self.shown.join(relative), error)
    }

    /// What time the kernel stamps on a change now, read off a file made for it. The kernel's file clock advances in
    /// steps of up to 10 ms; while entries bear the current step, the next step is awaited, because only then can a
    /// later change be told from them.
    fn stamp(&self, state: &State) -> Result<(i64, i64), Error> {
        let probe = c".syncline-clock";
        let latest = state
            .known
            .values()
            .filter(|known| known.fresh)
            .map(|known| known.look.changed)
            .max();
        let failed = |error| self.failed("write beside the copy of", Path::new(""), error);
        let mut tries = 0;
        loop {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = openat(&self.target, probe, flags, Mode::RUSR).map_err(failed)?;
            let now = Look::of(&fstat(&file).map_err(failed)?).changed;
            unlinkat(&self.target, probe, AtFlags::empty()).map_err(failed)?;
            tries += 1;
            if tries > 20 || latest.is_none_or(|latest| latest < now) {
                return Ok(now);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    fn pass(&self, state: &mut State) -> Result<(), Error> {
        let root =
            fstat(&self.source).map_err(|error| self.failed("read", Path::new(""), error))?;
        let look = Look::of(&root);
        if state
            .known
            .get(Path::new(""))
            .is_some_and(|known| known.look != look)
        {
            state.note_change(Path::new("."));
        }
        state.known.insert(
            PathBuf::new(),
            Known {
                look,
                pass: state.pass,
                fresh: false,
            },
        );
        let mut waiting = vec![PathBuf::new()];
        while let Some(relative) = waiting.pop() {
            if relative.components().count() > walk::DEEPEST {
                return Err(Error::TooDeep {
                    path: self.shown.join(relative),
                    limit: walk::DEEPEST,
                });
            }
            self.directory(&relative, state, &mut waiting)?;
        }
        self.drop_vanished(state)
    }

    fn directory(
        &self,
        relative: &Path,
        state: &mut State,
        waiting: &mut Vec<PathBuf>,
    ) -> Result<(), Error> {
        let source = match walk::open_below(&self.source, relative) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                // Swapped or removed since it was listed: the next pass sees what it is now.
                state.note_change(relative);
                return Ok(());
            }
            Err(error) => return Err(self.failed("open", relative, error)),
        };
        let target = walk::open_below(&self.target, relative)
            .map_err(|error| self.failed("open the copy of", relative, error))?;
        let level = Level {
            source: source.as_fd(),
            target: target.as_fd(),
        };
        for name in walk::names(&source).map_err(|error| self.failed("list", relative, error))? {
            if (self.stop)() {
                return Err(Error::Stopped);
            }
            let path = relative.join(walk::as_name(&name));
            let Some(stat) = walk::look(level.source, &name)
                .map_err(|error| self.failed("copy", &path, error))?
            else {
                state.note_change(&path);
                continue;
            };
            let item = Item {
                level: &level,
                name: &name,
                path,
                look: Look::of(&stat),
                stat,
            };
            if item.kind() != FileType::Directory {
                self.leaf(&item, state)?;
            } else if !(relative.as_os_str().is_empty()
                && name.as_c_str() == c"lost+found"
                && is_closed(&item))
            {
                self.branch(&item, state)?;
                waiting.push(item.path);
            }
        }
        Ok(())
    }

    /// Directories are gone through in any case; here one only comes to be.
    fn branch(&self, item: &Item<'_>, state: &mut State) -> Result<(), Error> {
        let known = state.known.get(&item.path).map(|known| known.look);
        let existed =
            known.is_some_and(|look| FileType::from_raw_mode(look.mode) == FileType::Directory);
        make_directory(item, existed)
            .map_err(|error| self.failed("create the copy of", &item.path, error))?;
        self.remember(item, false, state);
        Ok(())
    }

    /// Brings an entry that is no directory up to date.
    fn leaf(&self, item: &Item<'_>, state: &mut State) -> Result<(), Error> {
        let unchanged = state
            .known
            .get(&item.path)
            .is_some_and(|known| known.look == item.look && !known.fresh);
        if item.has_other_names() {
            let linked = self
                .link(item, state)
                .map_err(|error| self.failed("link the copy of", &item.path, error))?;
            if let Some(fresh) = linked {
                self.remember(item, fresh, state);
                return Ok(());
            }
        }
        if !unchanged {
            return self.replace(item, state);
        }
        if item.has_other_names() {
            state.linked.insert(
                item.look.inode,
                Linked {
                    path: item.path.clone(),
                    look: item.look,
                    fresh: false,
                },
            );
        }
        self.remember(item, false, state);
        Ok(())
    }

    fn replace(&self, item: &Item<'_>, state: &mut State) -> Result<(), Error> {
        let shown = self.shown.join(&item.path);
        remove(item.level.target, item.name, &shown)?;
        match self.copy_entry(item, state) {
            Ok(()) => {
                // A time far ahead of the clock (it was set back) says nothing about this moment.
                let fresh =
                    item.look.changed >= state.began && item.look.changed.0 < state.began.0 + 2;
                if item.has_other_names() {
                    let first = Linked {
                        path: item.path.clone(),
                        look: item.look,
                        fresh,
                    };
                    state.linked.insert(item.look.inode, first);
                }
                self.remember(item, fresh, state);
                Ok(())
            }
            // It vanished or became something else while it was read.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::STALE) => {
                remove(item.level.target, item.name, &shown)?;
                state.known.remove(&item.path);
                state.note_change(&item.path);
                Ok(())
            }
            Err(error) => Err(self.failed("copy", &item.path, error)),
        }
    }

    fn remember(&self, item: &Item<'_>, fresh: bool, state: &mut State) {
        let fresh = fresh && self.pass_limit > 1;
        let known = Known {
            look: item.look,
            pass: state.pass,
            fresh,
        };
        let before = state.known.insert(item.path.clone(), known);
        let differs = before.is_none_or(|before| before.look != item.look);
        // What is fresh did not change as far as can be told; but one more pass must look.
        if state.pass > 1 && (differs || fresh) {
            state.note_change(&item.path);
        }
    }

    /// Makes the entry a further name of an inode that this pass has met before, and says whether that one is fresh;
    /// `None` when it is the first name, or looks different by now.
    fn link(&self, item: &Item<'_>, state: &State) -> Result<Option<bool>, Errno> {
        let Some(first) = state
            .linked
            .get(&item.look.inode)
            .filter(|first| first.look == item.look)
        else {
            return Ok(None);
        };
        let parent = walk::open_below(&self.target, parent_of(&first.path))?;
        let Some(first_name) = name_of(&first.path) else {
            return Ok(None);
        };
        let Some(made) = walk::look(&parent, &first_name)? else {
            return Ok(None);
        };
        if let Some(present) = walk::look(item.level.target, item.name)? {
            if (present.st_dev, present.st_ino) == (made.st_dev, made.st_ino) {
                return Ok(Some(first.fresh));
            }
            remove(item.level.target, item.name, &item.path).map_err(|_| Errno::IO)?;
        }
        match linkat(
            &parent,
            &first_name,
            item.level.target,
            item.name,
            AtFlags::empty(),
        ) {
            Ok(()) => Ok(Some(first.fresh)),
            // The file system allows fewer names than the source's: a copy of its own then.
            Err(Errno::MLINK) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn copy_entry(&self, item: &Item<'_>, state: &mut State) -> Result<(), Errno> {
        let (level, name) = (item.level, item.name);
        match item.kind() {
            FileType::RegularFile => self.copy_file(item, state)?,
            FileType::Symlink => {
                // `INVAL` says that it is no link any more.
                let gone = |error| {
                    if error == Errno::INVAL {
                        Errno::STALE
                    } else {
                        error
                    }
                };
                let to = readlinkat(level.source, name, Vec::new()).map_err(gone)?;
                symlinkat(to, level.target, name)?;
            }
            kind => match mknodat(level.target, name, kind, Mode::RUSR, item.stat.st_rdev) {
                Err(Errno::PERM) => {
                    state.unkept.add(&item.path, "the device node itself");
                    return Ok(());
                }
                other => other?,
            },
        }
        let (source, target) = (
            Entry {
                dir: level.source,
                name,
            },
            Entry {
                dir: level.target,
                name,
            },
        );
        metadata::carry(source, target, &item.stat, &item.path, &mut state.unkept)
    }

    fn copy_file(&self, item: &Item<'_>, state: &mut State) -> Result<(), Errno> {
        // Non-blocking, so that a fifo put in the file's place does not hold the copy up.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = match openat(
            item.level.source,
            item.name,
            flags | OFlags::NOATIME,
            Mode::empty(),
        ) {
            Err(Errno::PERM) => openat(item.level.source, item.name, flags, Mode::empty()),
            other => other,
        }?;
        let opened = fstat(&from)?;
        if Look::of(&opened).inode != item.look.inode {
            return Err(Errno::STALE);
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let to = openat(item.level.target, item.name, flags, Mode::RUSR | Mode::WUSR)?;
        let size = u64::try_from(opened.st_size).unwrap_or(0);
        let got = content::copy(&from, &to, size, &mut state.share, self.stop)?;
        state.consistency = state.consistency.min(got);
        Ok(())
    }

    /// Removes from the copy what the last pass did not meet any more.
    fn drop_vanished(&self, state: &mut State) -> Result<(), Error> {
        let pass = state.pass;
        let mut vanished: Vec<PathBuf> = state
            .known
            .iter()
            .filter(|(_, known)| known.pass != pass)
            .map(|(path, _)| path.clone())
            .collect();
        vanished.sort_unstable();
        for path in vanished {
            state.known.remove(&path);
            state.note_change(&path);
            let Some(name) = name_of(&path) else { continue };
            match walk::open_below(&self.target, parent_of(&path)) {
                Ok(parent) => remove(&parent, &name, &self.shown.join(&path))?,
                // Its directory went with it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(self.failed("remove the copy of", &path, error)),
            }
        }
        Ok(())
    }

    /// Directories get their metadata last and deepest first: contents no longer touch their times, and a directory
    /// that its owner may not enter does not keep its content out.
    fn finish_directories(&self, state: &mut State) -> Result<(), Error> {
        let mut directories: Vec<PathBuf> = state
            .known
            .iter()
            .filter(|(_, known)| FileType::from_raw_mode(known.look.mode) == FileType::Directory)
            .map(|(path, _)| path.clone())
            .collect();
        directories.sort_unstable_by_key(|path| std::cmp::Reverse(path.components().count()));
        for path in directories {
            match self.finish_directory(&path, state) {
                Ok(()) => {}
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => state.note_change(&path),
                Err(error) => {
                    return Err(self.failed(
                        "set owner, mode and times of the copy of",
                        &path,
                        error,
                    ));
                }
            }
        }
        Ok(())
    }

    fn finish_directory(&self, path: &Path, state: &mut State) -> Result<(), Errno> {
        let source = walk::open_below(&self.source, path)?;
        let target = walk::open_below(&self.target, path)?;
        let stat = fstat(&source)?;
        metadata::carry(
            metadata::itself(&source),
            metadata::itself(&target),
            &stat,
            path,
            &mut state.unkept,
        )
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}

fn name_of(path: &Path) -> Option<CString> {
    path.file_name()
        .and_then(|name| CString::new(name.as_encoded_bytes()).ok())
}

/// Whether the caller may not read this directory of the source.
fn is_closed(item: &Item<'_>) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(item.level.source, item.name, flags, Mode::empty())
        .is_err_and(|error| error == Errno::ACCESS)
}

fn make_directory(item: &Item<'_>, existed: bool) -> Result<(), Errno> {
    if existed {
        return Ok(());
    }
    if walk::look(item.level.target, item.name)?.is_some() {
        unlinkat(item.level.target, item.name, AtFlags::empty())?;
    }
    mkdirat(item.level.target, item.name, Mode::RWXU)
}
