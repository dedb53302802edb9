//! Volumes that are one sparse file, for a block device on top of it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::store::{SNAPSHOTS, VOLUMES, check_name};
use crate::tree::content;
use crate::{Consistency, Copied, Error, Settled, Source, Unkept, Usage, Volumes};

pub(crate) const DISK: &str = "disk";

impl Volumes {
    /// The file of a disk, whether it exists or not.
    pub fn disk_path(&self, name: &str) -> PathBuf {
        self.root.join(VOLUMES).join(name).join(DISK)
    }

    /// The file of an image of a disk, whether it exists or not.
    pub fn disk_image_path(&self, name: &str) -> PathBuf {
        self.root.join(SNAPSHOTS).join(name).join(DISK)
    }

    /// Makes an empty disk of `size` bytes, which takes no room yet, and gives its file; one that exists already is
    /// left as it is.
    pub fn create_disk(&self, name: &str, size: u64) -> Result<PathBuf, Error> {
        check_name(name)?;
        let path = self.disk_path(name);
        if path.is_file() {
            return Ok(path);
        }
        let work = self.begin(VOLUMES)?;
        let file = new_file(&work.join(DISK))?;
        file.set_len(size)
            .map_err(|error| Error::io("set the size of", &path, error))?;
        drop(file);
        self.publish(&work, &self.root.join(VOLUMES).join(name))?;
        Ok(path)
    }

    /// The size of a disk or of an image of one, in bytes.
    pub fn disk_size(&self, source: Source<'_>) -> Result<u64, Error> {
        let path = self.source_path(source)?;
        let facts = fs::metadata(&path).map_err(|error| Error::io("measure", &path, error))?;
        if !facts.is_file() {
            return Err(Error::NoDisk { path });
        }
        Ok(facts.len())
    }

    /// Makes a disk `size` bytes long and gives that size; a disk that has it already is left as it is.
    /// The device on top of it has to be told by its owner.
    pub fn grow_disk(&self, name: &str, size: u64) -> Result<u64, Error> {
        let has = self.disk_size(Source::Volume(name))?;
        let path = self.disk_path(name);
        if size < has {
            return Err(Error::Shrinks {
                path,
                size: has,
                wanted: size,
            });
        }
        if size > has {
            let file = OpenOptions::new()
                .write(true)
                .open(&path)
                .map_err(|error| Error::io("open", &path, error))?;
            file.set_len(size)
                .and_then(|()| file.sync_all())
                .map_err(|error| Error::io("set the size of", &path, error))?;
        }
        Ok(size)
    }

    /// Puts the copy of a disk at `work/disk`.
    pub(crate) fn fill_disk(
        &self,
        from: &Path,
        work: &Path,
        origin: Option<Copied>,
        read_only: bool,
    ) -> Result<Copied, Error> {
        let path = work.join(DISK);
        let source = File::open(from).map_err(|error| Error::io("open", from, error))?;
        let target = new_file(&path)?;
        let made = self.copy_disk((from, &source), (&path, &target))?;
        let mode = if read_only { 0o400 } else { 0o600 };
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .map_err(|error| Error::io("set the mode of", &path, error))?;
        match origin {
            Some(_) if made.settled != Settled::Yes => Err(Error::ImageChanged {
                path: from.to_owned(),
            }),
            // Nobody writes to an image, so a copy of one is worth what the image is worth.
            Some(origin) => Ok(Copied {
                path,
                passes: made.passes,
                ..origin
            }),
            None => Ok(made),
        }
    }

    fn copy_disk(
        &self,
        (from, source): (&Path, &File),
        (to, target): (&Path, &File),
    ) -> Result<Copied, Error> {
        let stop = || self.stopped.load(Ordering::Relaxed);
        let state = || {
            let facts = source.metadata();
            facts.map_err(|error| Error::io("measure", from, error))
        };
        let copied = |consistency, passes, settled| Copied {
            path: to.to_owned(),
            consistency,
            passes,
            settled,
            unkept: Unkept::default(),
        };
        let mut share = self.options.best >= Consistency::PerFile;
        let limit = self.options.pass_limit.max(2);
        for pass in 1..=limit {
            let before = state()?;
            // What is a hole now may have held data in the pass before.
            target
                .set_len(0)
                .map_err(|error| Error::io("empty", to, error))?;
            let way = content::copy(source, target, before.len(), &mut share, &stop);
            let way = way.map_err(|error| match error {
                rustix::io::Errno::CANCELED => Error::Stopped,
                other => Error::io("copy to", to, other),
            })?;
            if before.len() > 0 && way == Consistency::PerFile {
                return Ok(copied(Consistency::Atomic, 0, Settled::Yes));
            }
            if let Some(hook) = &self.options.after_pass {
                hook(pass);
            }
            let after = state()?;
            let changes = |facts: &fs::Metadata| (facts.len(), facts.ctime(), facts.ctime_nsec());
            if changes(&before) == changes(&after) {
                return Ok(copied(Consistency::None, pass, Settled::Yes));
            }
        }
        let settled = Settled::No {
            count: 1,
            sample: vec![DISK.to_owned()],
        };
        Ok(copied(Consistency::None, limit, settled))
    }
}

fn new_file(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Error::io("create", path, error))
}

/// A disk is one entry; what is allocated of it is what was written to it.
pub(crate) fn usage(path: &Path) -> Result<Usage, Error> {
    let facts = fs::metadata(path).map_err(|error| Error::io("measure", path, error))?;
    Ok(Usage {
        entries: 1,
        bytes: facts.len(),
        allocated: facts.blocks().saturating_mul(512),
    })
}
