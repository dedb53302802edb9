//! Extended attributes of entries, ACLs among them.
//!
//! The calls on them know no open folders, so an entry is named by way of `/proc/self/fd`; its last part is never followed.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lremovexattr, lsetxattr};
use rustix::io::Errno;

use super::entry::Attribute;

/// The attribute that holds an entry's POSIX ACL.
pub(crate) const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
/// The attribute that holds the POSIX ACL of what is made in a folder.
pub(crate) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// Linux's limits on the list of names and on a value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
pub(super) const LARGEST: usize = 64 * 1024;
/// Linux's limit on a name (`XATTR_NAME_MAX`).
pub(super) const LONGEST_NAME: usize = 255;

/// Room for lists and values, to be used again and again.
pub(super) struct Buffer {
    list: Vec<u8>,
    value: Vec<u8>,
}

impl Buffer {
    pub(super) fn new() -> Self {
        Self {
            list: vec![0; LARGEST],
            value: vec![0; LARGEST],
        }
    }
}

/// Is it an attribute of the data, and not of the machine or the file system?
///
/// Security labels and the kernel's signatures belong to the machine; of `system.` only POSIX ACLs can be carried elsewhere.
pub(super) fn is_carried(name: &[u8]) -> bool {
    let prefixes: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    let of_machine: [&[u8]; 2] = [b"security.selinux", b"security.evm"];
    let named = name.len() <= LONGEST_NAME && !name.contains(&0);
    named
        && (is_acl(name) || prefixes.iter().any(|prefix| name.starts_with(prefix)))
        && !of_machine.contains(&name)
}

/// Is it a POSIX ACL?
pub(super) fn is_acl(name: &[u8]) -> bool {
    name == ACCESS_ACL || name == DEFAULT_ACL
}

/// All attributes that are carried, sorted by name. What this process may not read is left out.
pub(super) fn read(
    folder: BorrowedFd<'_>,
    name: &[u8],
    buffer: &mut Buffer,
) -> Result<Vec<Attribute>, Errno> {
    let path = path(folder, name);
    let Buffer { list, value } = buffer;
    let length = match llistxattr(path.as_slice(), list.as_mut_slice()) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(length) => length,
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    let names = list.get(..length).unwrap_or_default();
    for attribute in names
        .split(|byte| *byte == 0)
        .filter(|name| is_carried(name))
    {
        match lgetxattr(path.as_slice(), attribute, value.as_mut_slice()) {
            Ok(length) => {
                let value = value.get(..length).unwrap_or_default();
                found.push((attribute.to_vec(), value.to_vec()));
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Sets an attribute.
pub(crate) fn set(
    folder: BorrowedFd<'_>,
    name: &[u8],
    (attribute, value): (&[u8], &[u8]),
) -> Result<(), Errno> {
    lsetxattr(
        path(folder, name).as_slice(),
        attribute,
        value,
        XattrFlags::empty(),
    )
}

/// Removes an attribute; that it is not there is no error.
pub(crate) fn remove(folder: BorrowedFd<'_>, name: &[u8], attribute: &[u8]) -> Result<(), Errno> {
    match lremovexattr(path(folder, name).as_slice(), attribute) {
        Err(Errno::NODATA) => Ok(()),
        other => other,
    }
}

fn path(folder: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}
