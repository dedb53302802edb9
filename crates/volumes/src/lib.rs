//! Directories as volumes: create, snapshot, clone, restore; says of each copy how consistent it is.
//!
//! A volume is the directory `volumes/<name>/data` below the folder that was opened, an image (the result of a
//! snapshot) is `snapshots/<name>/data`; beside either, `about.json` records where it came from and how consistent it
//! is. A directory elsewhere may be read from ("adopted") and is never written to.
//!
//! How a copy is made depends on what the folder's file system can do:
//!
//! | file system | way | [`Consistency`] |
//! | --- | --- | --- |
//! | btrfs, source is a subvolume without further subvolumes or mounts below it | subvolume snapshot | `Atomic` |
//! | btrfs, XFS, bcachefs with shared extents | each file is a reflink (`FICLONE`) | `PerFile` |
//! | anything else | data is copied, holes stay holes | `None` |
//!
//! A copy that is not atomic is repeated, each time only where size, times, owner or inode of an entry changed, until a
//! pass sees no change; after a limit it says which paths would not settle ([`Settled::No`]).
//!
//! What is kept: contents, holes, owners, modes, access and modification times to the nanosecond (directories too),
//! symbolic links, hard links within the tree, devices, fifos, sockets, extended attributes and with them POSIX ACLs.
//! What is not: inode flags (`chattr`), birth times, inode numbers. An ordinary user cannot keep everything (foreign
//! owners, device nodes); such entries are counted and sampled in [`Unkept`].
//!
//! `lost+found` is copied like any other directory. The only exception: one at the root of the source that the caller
//! may not read is left out, because it belongs to `fsck` and not to the data.
//!
//! Volumes have no size limit of their own: they are directories of one file system. [`Volumes::usage`] tells what is
//! in one, so that a caller can compare it with a promised capacity.
//!
//! A volume may also be a disk ([`Volumes::create_disk`]): one sparse file, `volumes/<name>/disk`, of a size of its own,
//! for a block device on top of it. It is snapshotted, cloned and restored as directories are. Where the file system
//! shares extents the copy is `Atomic`, because the one file is all there is; else it is copied until it holds still.
//! What the kernel keeps in memory for a device on top and has not written to the file yet is not in the copy: flush
//! the device first.
//!
//! Invariants: no half-made volume or image is ever listed (work goes on under a temporary name, is flushed with
//! `syncfs`, then renamed); a source is never written to; no symbolic link of a source is ever followed, even when
//! another process swaps entries during the copy.

mod btrfs;
mod consistency;
mod disk;
mod error;
mod store;
mod tree;

pub use consistency::{Consistency, Copied, Settled, Unkept, Usage};
pub use error::Error;
pub use store::{Options, PassHook, Source, Volumes};
