//! `permissions.facl`, in which VolSync's rclone mover keeps owners, modes and ACLs: the text of `getfacl -P`, one block an
//! entry, paths as seen from `/` with the volume mounted at `/data`.
//!
//! What is written here is the output of `getfacl -P -n`: numbers for owners, because the names in one mover's image mean
//! other numbers in another's. What is read may hold names, see [`Names`].

mod acl;
mod apply;
mod names;
mod parse;
mod quote;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use crate::tree::{ACCESS_ACL, DEFAULT_ACL, Entry, Kind};

pub(crate) use apply::apply;
pub(crate) use names::Names;
pub(crate) use parse::{Facl, parse};

use acl::{Acl, Tag};

/// The object's name, at the root of a source's path.
pub(crate) const FILE_NAME: &str = "permissions.facl";
/// Where VolSync mounts the volume, as `getfacl` prints it.
const MOUNT: &[u8] = b"data";

/// Set-user-id, set-group-id and sticky: the bit, and its letter in a line of flags.
const FLAGS: [(u32, u8); 3] = [(0o4000, b's'), (0o2000, b's'), (0o1000, b't')];

/// Writes a block for each of `entries` but symbolic links, as `getfacl -P -n` does.
pub(crate) fn write<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    mut to: impl Write,
) -> io::Result<()> {
    let mut block = Vec::new();
    for entry in entries {
        if matches!(entry.kind, Kind::Link { .. }) {
            continue;
        }
        block.clear();
        write_block(entry, &mut block)?;
        to.write_all(&block)?;
    }
    to.flush()
}

fn write_block(entry: &Entry, to: &mut Vec<u8>) -> io::Result<()> {
    to.extend_from_slice(b"# file: ");
    to.extend_from_slice(MOUNT);
    if !entry.is_root() {
        to.push(b'/');
        quote::write(&entry.path, to);
    }
    write!(to, "\n# owner: {}\n# group: {}\n", entry.uid, entry.gid)?;
    if FLAGS.iter().any(|(bit, _)| entry.mode & bit != 0) {
        to.extend_from_slice(b"# flags: ");
        to.extend(FLAGS.map(|(bit, letter)| if entry.mode & bit == 0 { b'-' } else { letter }));
        to.push(b'\n');
    }
    let acl = |name: &[u8]| {
        let found = entry.xattrs.iter().find(|(known, _)| known == name);
        found.and_then(|(_, value)| Acl::from_kernel(value))
    };
    let access = acl(ACCESS_ACL).unwrap_or_else(|| Acl::from_mode(entry.mode));
    write_acl(&access, "", to)?;
    if let Some(default) = acl(DEFAULT_ACL).filter(|_| entry.is_folder()) {
        write_acl(&default, "default:", to)?;
    }
    to.push(b'\n');
    Ok(())
}

fn write_acl(acl: &Acl, prefix: &str, to: &mut Vec<u8>) -> io::Result<()> {
    let mask = acl.mask();
    for record in acl.records() {
        let (word, is_masked) = match record.tag {
            Tag::Owner => ("user", false),
            Tag::User => ("user", true),
            Tag::OwningGroup | Tag::Group => ("group", true),
            Tag::Mask => ("mask", false),
            Tag::Other => ("other", false),
        };
        write!(to, "{prefix}{word}:")?;
        if let Tag::User | Tag::Group = record.tag {
            write!(to, "{}", record.id)?;
        }
        to.push(b':');
        to.extend(letters(record.permissions));
        let effective = record.permissions & mask.unwrap_or(record.permissions);
        if is_masked && effective != record.permissions {
            to.extend_from_slice(b"\t#effective:");
            to.extend(letters(effective));
        }
        to.push(b'\n');
    }
    Ok(())
}

fn letters(permissions: u16) -> [u8; 3] {
    [(4, b'r'), (2, b'w'), (1, b'x')].map(
        |(bit, letter)| {
            if permissions & bit == 0 { b'-' } else { letter }
        },
    )
}
