//! Subvolumes of btrfs, through its ioctls (linux/btrfs.h). The only module with `unsafe` code.
#![expect(
    unsafe_code,
    reason = "btrfs has no other interface than ioctls; each call says why it is sound"
)]

use std::ffi::{CStr, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{fstat, fstatfs};
use rustix::ioctl::{Getter, Opcode, Setter, Updater, ioctl, opcode};

const MAGIC: u8 = 0x94;
/// `f_type` of btrfs (linux/magic.h).
const SUPER_MAGIC: u64 = 0x9123_683E;
/// Inode number of the root of every subvolume (`BTRFS_FIRST_FREE_OBJECTID`).
const SUBVOLUME_ROOT_INODE: u64 = 256;
const READ_ONLY: u64 = 1 << 1;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct NamedArgs {
    fd: i64,
    name: [c_char; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct FlaggedArgs {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [c_char; 4040],
}

/// `struct btrfs_ioctl_get_subvol_rootref_args`.
#[repr(C)]
struct RootRefs {
    min_treeid: u64,
    refs: [[u64; 2]; 255],
    count: u8,
    align: [u8; 7],
}

const SNAP_DESTROY: Opcode = opcode::write::<NamedArgs>(MAGIC, 15);
const SNAP_CREATE_V2: Opcode = opcode::write::<FlaggedArgs>(MAGIC, 23);
const SUBVOL_CREATE_V2: Opcode = opcode::write::<FlaggedArgs>(MAGIC, 24);
const SUBVOL_GETFLAGS: Opcode = opcode::read::<u64>(MAGIC, 25);
const SUBVOL_SETFLAGS: Opcode = opcode::write::<u64>(MAGIC, 26);
const GET_SUBVOL_ROOTREF: Opcode = opcode::read_write::<RootRefs>(MAGIC, 61);

fn fill(buffer: &mut [c_char], name: &CStr) -> io::Result<()> {
    let bytes = name.to_bytes_with_nul();
    if bytes.len() > buffer.len() {
        return Err(rustix::io::Errno::NAMETOOLONG.into());
    }
    for (to, from) in buffer.iter_mut().zip(bytes) {
        *to = c_char::from_ne_bytes([*from]);
    }
    Ok(())
}

fn flagged(fd: i64, flags: u64, name: &CStr) -> io::Result<FlaggedArgs> {
    let mut args = FlaggedArgs {
        fd,
        transid: 0,
        flags,
        unused: [0; 4],
        name: [0; 4040],
    };
    fill(&mut args.name, name)?;
    Ok(args)
}

/// Whether this open directory lies on btrfs.
pub(crate) fn is_btrfs(dir: impl AsFd) -> bool {
    fstatfs(dir).is_ok_and(|facts| u64::try_from(facts.f_type) == Ok(SUPER_MAGIC))
}

/// Whether this open directory is the root of a subvolume.
pub(crate) fn is_subvolume(dir: impl AsFd) -> bool {
    let dir = dir.as_fd();
    is_btrfs(dir) && fstat(dir).is_ok_and(|stat| stat.st_ino == SUBVOLUME_ROOT_INODE)
}

/// Whether further subvolumes lie below this subvolume; a snapshot would show them as empty directories.
pub(crate) fn has_children(subvolume: impl AsFd) -> io::Result<bool> {
    let mut args = RootRefs {
        min_treeid: 0,
        refs: [[0; 2]; 255],
        count: 0,
        align: [0; 7],
    };
    // SAFETY: the opcode is BTRFS_IOC_GET_SUBVOL_ROOTREF, whose argument is exactly `RootRefs` (4096 bytes, asserted
    // below); the kernel writes only within it.
    match unsafe {
        ioctl(
            subvolume,
            Updater::<GET_SUBVOL_ROOTREF, RootRefs>::new(&mut args),
        )
    } {
        Ok(()) => Ok(args.count > 0 || args.refs.first().is_some_and(|first| *first != [0, 0])),
        // More of them than fit into the answer.
        Err(rustix::io::Errno::OVERFLOW) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Creates an empty subvolume `name` in the open directory.
pub(crate) fn create(parent: impl AsFd, name: &CStr) -> io::Result<()> {
    let args = flagged(0, 0, name)?;
    // SAFETY: the opcode is BTRFS_IOC_SUBVOL_CREATE_V2, whose argument is exactly `FlaggedArgs`; the name in it ends
    // with a zero byte, which `fill` has checked.
    unsafe { ioctl(parent, Setter::<SUBVOL_CREATE_V2, FlaggedArgs>::new(args)) }?;
    Ok(())
}

/// Makes `name` in the open directory a snapshot of the open subvolume.
pub(crate) fn snapshot(
    subvolume: impl AsFd,
    parent: impl AsFd,
    name: &CStr,
    read_only: bool,
) -> io::Result<()> {
    let source = subvolume.as_fd();
    let args = flagged(
        i64::from(source.as_raw_fd()),
        if read_only { READ_ONLY } else { 0 },
        name,
    )?;
    // SAFETY: the opcode is BTRFS_IOC_SNAP_CREATE_V2, whose argument is exactly `FlaggedArgs`; its descriptor is
    // borrowed by `source` for the length of the call, and its name ends with a zero byte.
    unsafe { ioctl(parent, Setter::<SNAP_CREATE_V2, FlaggedArgs>::new(args)) }?;
    Ok(())
}

/// Deletes the subvolume `name` of the open directory with all its content.
pub(crate) fn destroy(parent: impl AsFd, name: &CStr) -> io::Result<()> {
    let mut args = NamedArgs {
        fd: 0,
        name: [0; 4088],
    };
    fill(&mut args.name, name)?;
    // SAFETY: the opcode is BTRFS_IOC_SNAP_DESTROY, whose argument is exactly `NamedArgs`; the name ends with a zero
    // byte.
    unsafe { ioctl(parent, Setter::<SNAP_DESTROY, NamedArgs>::new(args)) }?;
    Ok(())
}

/// Lets the open subvolume be written to again; its owner may ask for that.
pub(crate) fn make_writable(subvolume: impl AsFd) -> io::Result<()> {
    let subvolume = subvolume.as_fd();
    // SAFETY: the opcode is BTRFS_IOC_SUBVOL_GETFLAGS, which writes one u64.
    let flags = unsafe { ioctl(subvolume, Getter::<SUBVOL_GETFLAGS, u64>::new()) }?;
    if flags & READ_ONLY != 0 {
        // SAFETY: the opcode is BTRFS_IOC_SUBVOL_SETFLAGS, which reads one u64.
        unsafe {
            ioctl(
                subvolume,
                Setter::<SUBVOL_SETFLAGS, u64>::new(flags & !READ_ONLY),
            )
        }?;
    }
    Ok(())
}

const _: () = assert!(
    size_of::<NamedArgs>() == 4096,
    "struct btrfs_ioctl_vol_args is 4096 bytes"
);
const _: () = assert!(
    size_of::<FlaggedArgs>() == 4096,
    "struct btrfs_ioctl_vol_args_v2 is 4096 bytes"
);
const _: () = assert!(
    size_of::<RootRefs>() == 4096,
    "struct btrfs_ioctl_get_subvol_rootref_args is 4096 bytes"
);
