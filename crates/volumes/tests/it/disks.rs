//! Volumes that are one sparse file.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use syncline_volumes::{Consistency, Error, Options, Settled, Source, Volumes};

use crate::fixture::Disk;

const SIZE: u64 = 64 << 20;

fn write(disk: &Path, at: u64, text: &[u8]) {
    let file = OpenOptions::new().write(true).open(disk).unwrap();
    file.write_all_at(text, at).unwrap();
}

fn read(disk: &Path, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fs::File::open(disk)
        .unwrap()
        .read_exact_at(&mut bytes, at)
        .unwrap();
    bytes
}

fn disks_are_copied(volumes: &Volumes, expected: Consistency) {
    let disk = volumes.create_disk("disk", SIZE).unwrap();
    assert_eq!(volumes.create_disk("disk", SIZE).unwrap(), disk);
    write(&disk, 0, b"first");
    write(&disk, SIZE - 4, b"last");

    let image = volumes.snapshot(Source::Volume("disk"), "image").unwrap();
    assert_eq!(
        (image.consistency, &image.settled),
        (expected, &Settled::Yes)
    );
    assert_eq!(image.path, volumes.disk_image_path("image"));
    let mode = fs::metadata(&image.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o400, "an image is not written to");
    write(&disk, 0, b"later");

    let clone = volumes.provision(Source::Volume("disk"), "clone").unwrap();
    assert_eq!(clone.consistency, expected);
    let restored = volumes
        .provision(Source::Image("image"), "restored")
        .unwrap();
    assert_eq!(restored.consistency, expected);
    assert_eq!(restored.path, volumes.disk_path("restored"));
    assert_eq!(read(&clone.path, 0, 5), b"later");
    assert_eq!(read(&restored.path, 0, 5), b"first");
    assert_eq!(read(&restored.path, SIZE - 4, 4), b"last");
    write(&restored.path, 0, b"alone");
    assert_eq!(read(&image.path, 0, 5), b"first");

    let facts = fs::metadata(&restored.path).unwrap();
    assert_eq!(facts.len(), SIZE);
    assert!(facts.blocks() * 512 < 1 << 20, "holes stay holes");
    assert_eq!(volumes.about_image("image").unwrap(), image);
    assert_eq!(
        volumes.usage(Source::Image("image")).unwrap().bytes,
        SIZE,
        "a disk counts with its size"
    );
    volumes.delete("disk").unwrap();
    volumes.delete_image("image").unwrap();
    assert_eq!(volumes.volumes().unwrap(), ["clone", "restored"]);
    assert_eq!(read(&restored.path, 0, 5), b"alone");
}

#[test]
fn a_disk_is_copied_with_its_holes_where_nothing_can_be_shared() {
    let disk = Disk::plain();
    let best = Consistency::None;
    disks_are_copied(
        &disk.volumes_with(Options {
            best,
            ..Options::default()
        }),
        best,
    );
}

#[test]
fn a_disk_is_shared_and_atomic_on_btrfs() {
    if let Some(disk) = Disk::mount("btrfs") {
        disks_are_copied(&disk.volumes(), Consistency::Atomic);
    }
}

#[test]
fn a_disk_is_shared_and_atomic_on_xfs() {
    if let Some(disk) = Disk::mount("xfs") {
        disks_are_copied(&disk.volumes(), Consistency::Atomic);
    }
}

#[test]
fn a_disk_grows_and_never_shrinks() {
    let disk = Disk::plain();
    let volumes = disk.volumes();
    let path = volumes.create_disk("disk", SIZE).unwrap();
    write(&path, SIZE - 4, b"last");
    assert_eq!(volumes.grow_disk("disk", 2 * SIZE).unwrap(), 2 * SIZE);
    assert_eq!(volumes.grow_disk("disk", 2 * SIZE).unwrap(), 2 * SIZE);
    assert_eq!(volumes.disk_size(Source::Volume("disk")).unwrap(), 2 * SIZE);
    assert_eq!(read(&path, SIZE - 4, 4), b"last");
    assert_eq!(read(&path, 2 * SIZE - 4, 4), [0; 4]);

    let refused = volumes.grow_disk("disk", SIZE).unwrap_err();
    assert!(matches!(refused, Error::Shrinks { .. }), "{refused}");
    volumes.create("folder").unwrap();
    let refused = volumes.grow_disk("folder", SIZE).unwrap_err();
    assert!(matches!(refused, Error::NoDisk { .. }), "{refused}");
    let refused = volumes.grow_disk("none", SIZE).unwrap_err();
    assert!(matches!(refused, Error::Missing { .. }), "{refused}");
}

/// Copies a disk that is written to after each of the first `busy` passes.
fn copy_while_written(busy: u32) -> (Settled, u32, Vec<u8>) {
    let disk = Disk::plain();
    let path = disk.volumes().create_disk("disk", SIZE).unwrap();
    let written = path.clone();
    let volumes = disk.volumes_with(Options {
        best: Consistency::None,
        pass_limit: 3,
        after_pass: Some(Arc::new(move |pass| {
            if pass <= busy {
                write(&written, u64::from(pass), b"x");
            }
        })),
        ..Options::default()
    });
    let copied = volumes.snapshot(Source::Volume("disk"), "image").unwrap();
    (copied.settled, copied.passes, read(&copied.path, 0, 4))
}

#[test]
fn a_disk_written_to_during_the_copy_is_copied_again_and_otherwise_said_to_be_unsettled() {
    let (settled, passes, bytes) = copy_while_written(1);
    assert_eq!((settled, passes), (Settled::Yes, 2));
    assert_eq!(bytes, b"\0x\0\0");

    let (settled, passes, _) = copy_while_written(3);
    assert!(
        matches!(settled, Settled::No { count: 1, .. }),
        "{settled:?}"
    );
    assert_eq!(passes, 3);
}
