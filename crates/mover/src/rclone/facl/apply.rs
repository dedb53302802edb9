//! Giving entries what `permissions.facl` says of them, as `setfacl --restore` does, without following any link.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Uid, chownat};
use rustix::io::Errno;

use crate::tree::{ACCESS_ACL, DEFAULT_ACL, Entry, Failure, Kind, Loss, Root, Unpreserved};
use crate::tree::{Parents, look, remove_attribute, set_attribute, set_mode};

use super::acl::{Acl, Record, Tag};
use super::names::Names;
use super::parse::{Block, Facl, Line, Who};

const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;

/// Gives the entries below `root` their owners, modes and ACLs. What is not there, not understood or not allowed is noted.
pub(crate) fn apply(root: &Path, facl: &Facl, names: &Names) -> Result<Unpreserved, Failure> {
    let root = Root::open(root).map_err(|error| Failure::new("opening", b"", error))?;
    let mut applier = Applier {
        names,
        lost: Unpreserved::default(),
    };
    for path in &facl.ignored {
        applier.lost.note(Loss::Permissions, path);
    }
    for _ in 1..facl.ignored_count {
        applier.lost.note(Loss::Permissions, b"");
    }
    // From below: what a folder's permissions forbid must not hinder what lies in it.
    let mut order: Vec<&Block> = facl.blocks.iter().collect();
    order.sort_by(|one, other| other.path.cmp(&one.path));
    let mut parents = Parents::new(&root);
    for block in order {
        let place = match parents.of(&block.path) {
            Ok(place) => place,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {
                applier.lost.note(Loss::Permissions, &block.path);
                continue;
            }
            Err(error) => return Err(Failure::new("opening the folder of", &block.path, error)),
        };
        applier.apply(block, place)?;
    }
    Ok(applier.lost)
}

struct Applier<'a> {
    names: &'a Names,
    lost: Unpreserved,
}

/// An open folder and a name in it.
type Place<'a> = (BorrowedFd<'a>, &'a [u8]);

impl Applier<'_> {
    fn apply(&mut self, block: &Block, place: Place<'_>) -> Result<(), Failure> {
        let (folder, name) = place;
        let found = look(folder, name, Vec::new())
            .map_err(|error| Failure::new("looking at", &block.path, error))?;
        let Some(have) = found.map(|found| found.entry) else {
            self.lost.note(Loss::Permissions, &block.path);
            return Ok(());
        };
        if matches!(have.kind, Kind::Link { .. }) {
            self.lost.note(Loss::Permissions, &block.path);
            return Ok(());
        }
        let kept = self.own(block, place, &have)?;
        let flags = if have.is_folder() {
            block.flags
        } else {
            block.flags & kept
        };
        let access = self.acl(&block.access, block);
        let mode = self.access(block, place, access.as_ref())?;
        let mode = mode.unwrap_or(have.mode & 0o777) | flags;
        match set_mode(folder, name, mode) {
            // The kernel drops a set-group-id bit without a word.
            Ok(()) if flags == block.flags && has_flags(block, place)? => {}
            Ok(()) | Err(Errno::PERM) => self.lost.note(Loss::Mode, &block.path),
            Err(error) => {
                return Err(Failure::new(
                    "changing the permissions of",
                    &block.path,
                    error,
                ));
            }
        }
        if have.is_folder() {
            self.default(block, place, access.as_ref())?;
        }
        Ok(())
    }

    /// Returns the flags that the entry can be given: a program must not change its user to another than was meant.
    fn own(&mut self, block: &Block, place: Place<'_>, have: &Entry) -> Result<u32, Failure> {
        let (folder, name) = place;
        let mut kept = u32::MAX;
        // Of whom nothing is said keeps the entry.
        let uid = (block.owner.as_ref()).map_or(Some(have.uid), |who| self.id(who, Names::user));
        let gid = (block.group.as_ref()).map_or(Some(have.gid), |who| self.id(who, Names::group));
        let (Some(uid), Some(gid)) = (uid, gid) else {
            self.lost.note(Loss::Owner, &block.path);
            return Ok(!(SET_USER | SET_GROUP));
        };
        if (uid, gid) == (have.uid, have.gid) {
            return Ok(kept);
        }
        let set = |uid: Option<u32>| {
            let (uid, gid) = (uid.map(Uid::from_raw), Some(Gid::from_raw(gid)));
            chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        };
        let failed = |error| Failure::new("changing the owner of", &block.path, error);
        match set(Some(uid)) {
            Ok(()) => return Ok(kept),
            Err(Errno::PERM | Errno::INVAL) => self.lost.note(Loss::Owner, &block.path),
            Err(error) => return Err(failed(error)),
        }
        if uid != have.uid {
            kept &= !SET_USER;
        }
        // A group that the caller is a member of can still be kept.
        match set(None) {
            Ok(()) => {}
            Err(Errno::PERM | Errno::INVAL) => kept &= !SET_GROUP,
            Err(error) => return Err(failed(error)),
        }
        Ok(kept)
    }

    /// The number of an owner; `None` when nobody has the name.
    fn id(&self, who: &Who, look_up: impl Fn(&Names, &[u8]) -> Option<u32>) -> Option<u32> {
        match who {
            Who::Id(id) => Some(*id),
            Who::Name(name) => look_up(self.names, name),
        }
    }

    /// The ACL of these lines; `None` when there are none, or when they make none. Whoever has no number here is left out:
    /// the permission must not go to somebody else.
    fn acl(&mut self, lines: &[Line], block: &Block) -> Option<Acl> {
        let mut records = Vec::with_capacity(lines.len());
        let mut is_short = false;
        for line in lines {
            let id = match (&line.who, line.tag) {
                (None, _) => Some(u32::MAX),
                (Some(who), Tag::User) => self.id(who, Names::user),
                (Some(who), _) => self.id(who, Names::group),
            };
            match id {
                Some(id) => records.push(Record {
                    tag: line.tag,
                    id,
                    permissions: line.permissions,
                }),
                None => is_short = true,
            }
        }
        let acl = Acl::new(records);
        if is_short || (acl.is_none() && !lines.is_empty()) {
            self.lost.note(Loss::Acl, &block.path);
        }
        acl
    }

    /// Sets the ACL, and returns the permission bits that belong to it.
    fn access(
        &mut self,
        block: &Block,
        (folder, name): Place<'_>,
        acl: Option<&Acl>,
    ) -> Result<Option<u32>, Failure> {
        let Some(acl) = acl else { return Ok(None) };
        let done = if acl.is_mode() {
            remove_attribute(folder, name, ACCESS_ACL)
        } else {
            set_attribute(folder, name, (ACCESS_ACL, &acl.to_kernel()))
        };
        match done {
            Ok(()) => Ok(Some(acl.mode())),
            Err(Errno::OPNOTSUPP) if acl.is_mode() => Ok(Some(acl.mode())),
            Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => {
                self.lost.note(Loss::Acl, &block.path);
                Ok(Some(acl.mode_without_acls()))
            }
            Err(error) => Err(Failure::new("setting the ACL of", &block.path, error)),
        }
    }

    /// The ACL of what will be made in a folder. What it says nothing of is as in the folder's own.
    fn default(
        &mut self,
        block: &Block,
        (folder, name): Place<'_>,
        access: Option<&Acl>,
    ) -> Result<(), Failure> {
        let done = if block.default.is_empty() {
            remove_attribute(folder, name, DEFAULT_ACL)
        } else {
            let mut lines = block.default.clone();
            for record in access.map(Acl::records).unwrap_or_default() {
                let is_base = matches!(record.tag, Tag::Owner | Tag::OwningGroup | Tag::Other);
                if is_base && !lines.iter().any(|line| line.tag == record.tag) {
                    lines.push(Line {
                        tag: record.tag,
                        who: None,
                        permissions: record.permissions,
                    });
                }
            }
            let Some(acl) = self.acl(&lines, block) else {
                return Ok(());
            };
            set_attribute(folder, name, (DEFAULT_ACL, &acl.to_kernel()))
        };
        match done {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) if block.default.is_empty() => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => {
                self.lost.note(Loss::Acl, &block.path);
                Ok(())
            }
            Err(error) => Err(Failure::new(
                "setting the default ACL of",
                &block.path,
                error,
            )),
        }
    }
}

fn has_flags(block: &Block, (folder, name): Place<'_>) -> Result<bool, Failure> {
    if block.flags & SET_GROUP == 0 {
        return Ok(true);
    }
    let found = look(folder, name, Vec::new())
        .map_err(|error| Failure::new("looking at", &block.path, error))?;
    Ok(found.is_some_and(|found| found.entry.mode & SET_GROUP != 0))
}
