//! Everything about an entry but its content: holes, owner, attributes, mode, times.

use rustix::fs::{
    AtFlags, Gid, Timespec, Timestamps, UTIME_OMIT, Uid, chownat, fstatvfs, utimensat,
};
use rustix::io::Errno;

use super::super::Failure;
use super::super::entry::{Entry, Kind};
use super::super::unpreserved::Loss;
use super::super::{beneath, sparse, xattrs};
use super::{Item, Restorer};

/// What an owner needs to write to a file's attributes and to dig in it.
const OWNERS_ACCESS: u32 = 0o600;
const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;

/// What is still being changed about an entry.
struct Change {
    have: Entry,
    /// Something was changed that can clear bits of the mode or move the time.
    touched: bool,
    lost_owner: bool,
    lost_group: bool,
}

impl Restorer<'_> {
    /// Gives the entry that is there (`have`) everything that `item` wants. The order matters: digging and attributes take
    /// the right to write; a change of owner clears set-id bits and capabilities; the mode can take away the right to the
    /// rest; and everything moves the time.
    pub(super) fn dress(&mut self, item: &Item<'_>, have: Entry) -> Result<(), Failure> {
        let mut change = Change {
            have,
            touched: false,
            lost_owner: false,
            lost_group: false,
        };
        let is_link = matches!(item.want.kind, Kind::Link { .. });
        change.have.xattrs = xattrs::read(item.folder, item.name, &mut self.buffer)
            .map_err(item.failed("reading the attributes of"))?;
        dig(item, &mut change)?;
        self.own(item, &mut change)?;
        self.attributes(item, &mut change)?;
        if !is_link {
            set_mode(item, &change)?;
        }
        let is_time_off = change.have.mtime != item.want.mtime;
        let is_mode_off = !is_link && change.have.mode != item.want.mode;
        if !change.touched && !is_time_off && !is_mode_off {
            return Ok(());
        }
        set_time(item)?;
        self.check(item, is_link)
    }

    fn own(&mut self, item: &Item<'_>, change: &mut Change) -> Result<(), Failure> {
        let (want, have) = (item.want, &change.have);
        if (want.uid, want.gid) == (have.uid, have.gid) {
            return Ok(());
        }
        change.touched = true;
        let set = |uid: Option<u32>| {
            chownat(
                item.folder,
                item.name,
                uid.map(Uid::from_raw),
                Some(Gid::from_raw(want.gid)),
                AtFlags::SYMLINK_NOFOLLOW,
            )
        };
        let refused = |error| matches!(error, Errno::PERM | Errno::INVAL);
        match set(Some(want.uid)) {
            Ok(()) => return Ok(()),
            Err(error) if refused(error) => {}
            Err(error) => return Err(item.failed("changing the owner of")(error)),
        }
        self.lost.note(Loss::Owner, &want.path);
        change.lost_owner = want.uid != have.uid;
        // A group that the caller is a member of can still be kept.
        match set(None) {
            Ok(()) => Ok(()),
            Err(error) if refused(error) => {
                change.lost_group = want.gid != have.gid;
                Ok(())
            }
            Err(error) => Err(item.failed("changing the group of")(error)),
        }
    }

    fn attributes(&mut self, item: &Item<'_>, change: &mut Change) -> Result<(), Failure> {
        let want = &item.want.xattrs;
        let have = std::mem::take(&mut change.have.xattrs);
        // A change of owner cleared these.
        let is_cleared = |name: &[u8]| change.touched && name == b"security.capability";
        let missing: Vec<_> = want
            .iter()
            .filter(|pair| xattrs::is_carried(&pair.0))
            .filter(|pair| !have.contains(pair) || is_cleared(&pair.0))
            .collect();
        let surplus: Vec<_> = have
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !want.iter().any(|(wanted, _)| wanted == *name))
            .collect();
        if missing.is_empty() && surplus.is_empty() {
            return Ok(());
        }
        gain_access(item, change);
        change.touched = true;
        for name in surplus {
            let done = xattrs::remove(item.folder, item.name, name);
            self.tolerate(item, name, done)?;
        }
        for (name, value) in missing {
            let done = xattrs::set(item.folder, item.name, (name, value));
            self.tolerate(item, name, done)?;
        }
        Ok(())
    }

    fn tolerate(
        &mut self,
        item: &Item<'_>,
        name: &[u8],
        done: Result<(), Errno>,
    ) -> Result<(), Failure> {
        let Err(error) = done else { return Ok(()) };
        let is_refused = matches!(
            error,
            Errno::PERM
                | Errno::ACCESS
                | Errno::OPNOTSUPP
                | Errno::INVAL
                | Errno::TOOBIG
                | Errno::RANGE
        );
        // ext4 says "no room" of an attribute that is too large for an inode, however empty the volume is.
        let is_too_large = error == Errno::NOSPC && self.has_room();
        if !is_refused && !is_too_large {
            return Err(item.failed("setting an attribute of")(error));
        }
        let loss = if xattrs::is_acl(name) {
            Loss::Acl
        } else {
            Loss::Attribute
        };
        self.lost.note(loss, &item.want.path);
        Ok(())
    }

    fn has_room(&self) -> bool {
        fstatvfs(self.root.itself()).is_ok_and(|volume| volume.f_bavail > 0)
    }

    /// The kernel drops a set-group-id bit, and a file system the fine part of a time, without a word.
    fn check(&mut self, item: &Item<'_>, is_link: bool) -> Result<(), Failure> {
        let Some(have) = item.have()? else {
            return Ok(());
        };
        if !is_link && have.mode != item.want.mode {
            self.lost.note(Loss::Mode, &item.want.path);
        }
        if have.mtime != item.want.mtime {
            self.lost.note(Loss::Time, &item.want.path);
        }
        Ok(())
    }
}

fn dig(item: &Item<'_>, change: &mut Change) -> Result<(), Failure> {
    if !item.want.sparse || change.have.sparse {
        return Ok(());
    }
    gain_access(item, change);
    match sparse::dig(item.folder, item.name) {
        // Where there are no holes, the content is as good without.
        Ok(_) => {}
        Err(error) => match Errno::from_io_error(&error).unwrap_or(Errno::IO) {
            Errno::ACCESS | Errno::PERM => {}
            other => return Err(item.failed("digging holes into")(other)),
        },
    }
    change.touched = true;
    Ok(())
}

/// Lets the owner read and write for a while; where that is refused, what needs it shows.
fn gain_access(item: &Item<'_>, change: &mut Change) {
    let mode = change.have.mode;
    let is_link = matches!(change.have.kind, Kind::Link { .. });
    if is_link || mode & OWNERS_ACCESS == OWNERS_ACCESS {
        return;
    }
    let _ = beneath::set_mode(item.folder, item.name, mode | OWNERS_ACCESS);
    change.touched = true;
}

fn set_mode(item: &Item<'_>, change: &Change) -> Result<(), Failure> {
    let mut mode = item.want.mode;
    if item.want.is_file() {
        // A program that changes its user must not do so to another one than was meant.
        if change.lost_owner {
            mode &= !SET_USER;
        }
        if change.lost_group {
            mode &= !SET_GROUP;
        }
    }
    if !change.touched && change.have.mode == mode {
        return Ok(());
    }
    match beneath::set_mode(item.folder, item.name, mode) {
        // What is lost shows in the check.
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(error) => Err(item.failed("changing the permissions of")(error)),
    }
}

fn set_time(item: &Item<'_>) -> Result<(), Failure> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: item.want.mtime.sec,
            tv_nsec: item.want.mtime.nanos.into(),
        },
    };
    let set = utimensat(item.folder, item.name, &times, AtFlags::SYMLINK_NOFOLLOW);
    match set {
        Ok(()) | Err(Errno::PERM | Errno::ACCESS) => Ok(()),
        Err(error) => Err(item.failed("setting the time of")(error)),
    }
}
