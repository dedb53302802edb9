//! What copies hold and what they say of themselves.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use syncline_volumes::{Consistency, Error, Options, Settled, Source};

use crate::compare::{assert_same, manifest};
use crate::fixture::{Disk, as_ordinary_user, is_root, rich_tree, run};

fn copies_are_exact(disk: &Disk, best: Consistency, expected: Consistency) {
    let volumes = disk.volumes_with(Options {
        best,
        ..Options::default()
    });
    let source = volumes.create("source").unwrap();
    rich_tree(&source);
    let wanted = manifest(&source);

    let image = volumes.snapshot(Source::Volume("source"), "image").unwrap();
    assert_eq!(
        (image.consistency, &image.settled),
        (expected, &Settled::Yes)
    );
    assert_eq!(image.unkept.count, 0, "{:?}", image.unkept);
    assert_same(&wanted, &image.path);

    let clone = volumes
        .provision(Source::Volume("source"), "clone")
        .unwrap();
    assert_eq!(clone.consistency, expected);
    assert_same(&wanted, &clone.path);

    let restored = volumes
        .provision(Source::Image("image"), "restored")
        .unwrap();
    assert_eq!(
        (restored.consistency, &restored.settled),
        (expected, &Settled::Yes)
    );
    assert_same(&wanted, &restored.path);
    fs::write(
        restored.path.join("new"),
        "a restored volume can be written to",
    )
    .unwrap();
    fs::remove_file(restored.path.join("plain/file")).unwrap();

    assert_same(&wanted, &source);
    assert_same(&wanted, &image.path);
    let sparse = fs::metadata(image.path.join("sparse")).unwrap();
    assert!(
        sparse.blocks() * 512 < 1 << 20,
        "holes stay holes: {} blocks",
        sparse.blocks()
    );
    assert_eq!(volumes.volumes().unwrap(), ["clone", "restored", "source"]);
    assert_eq!(volumes.images().unwrap(), ["image"]);
    assert_eq!(volumes.about_image("image").unwrap(), image);

    for name in ["clone", "restored", "source"] {
        volumes.delete(name).unwrap();
    }
    volumes.delete_image("image").unwrap();
    for part in ["volumes", "snapshots"] {
        assert_eq!(
            fs::read_dir(disk.path().join("store").join(part))
                .unwrap()
                .count(),
            0
        );
    }
}

#[test]
fn copies_on_the_temporary_folder_are_exact() {
    let disk = Disk::plain();
    copies_are_exact(&disk, Consistency::None, Consistency::None);
}

#[test]
fn copies_on_xfs_share_extents_and_are_consistent_per_file() {
    let Some(disk) = Disk::mount("xfs") else {
        return;
    };
    copies_are_exact(&disk, Consistency::Atomic, Consistency::PerFile);
}

#[test]
fn copies_on_btrfs_are_atomic() {
    let Some(disk) = Disk::mount("btrfs") else {
        return;
    };
    copies_are_exact(&disk, Consistency::Atomic, Consistency::Atomic);
}

#[test]
fn reflinks_on_btrfs_are_consistent_per_file() {
    let Some(disk) = Disk::mount("btrfs") else {
        return;
    };
    copies_are_exact(&disk, Consistency::PerFile, Consistency::PerFile);
}

#[test]
fn plain_copies_on_btrfs_promise_nothing() {
    let Some(disk) = Disk::mount("btrfs") else {
        return;
    };
    copies_are_exact(&disk, Consistency::None, Consistency::None);
}

#[test]
fn an_image_on_btrfs_cannot_be_changed_even_by_root() {
    let Some(disk) = Disk::mount("btrfs") else {
        return;
    };
    let volumes = disk.volumes();
    let source = volumes.create("v").unwrap();
    fs::write(source.join("a"), "1").unwrap();
    let image = volumes.snapshot(Source::Volume("v"), "i").unwrap();
    let refused = fs::write(image.path.join("a"), "2").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn a_subvolume_below_the_source_is_copied_and_not_left_empty() {
    let Some(disk) = Disk::mount("btrfs") else {
        return;
    };
    let volumes = disk.volumes();
    let source = volumes.create("v").unwrap();
    fs::write(source.join("a"), "1").unwrap();
    run(Command::new("btrfs")
        .args(["-q", "subvolume", "create"])
        .arg(source.join("inner")));
    fs::write(source.join("inner/b"), "2").unwrap();
    let image = volumes.snapshot(Source::Volume("v"), "i").unwrap();
    assert_eq!(image.consistency, Consistency::PerFile);
    assert_same(&manifest(&source), &image.path);
    volumes.delete("v").unwrap();
    assert!(volumes.volumes().unwrap().is_empty());
}

#[test]
fn a_mount_below_the_source_is_copied_and_not_left_empty() {
    let Some(disk) = Disk::mount("btrfs") else {
        return;
    };
    let Some(other) = Disk::mount("xfs") else {
        return;
    };
    let volumes = disk.volumes();
    let source = volumes.create("v").unwrap();
    fs::create_dir(source.join("inner")).unwrap();
    fs::write(other.path().join("b"), "2").unwrap();
    run(Command::new("mount")
        .arg("--bind")
        .arg(other.path())
        .arg(source.join("inner")));
    let image = volumes.snapshot(Source::Volume("v"), "i");
    run(Command::new("umount").arg(source.join("inner")));
    let image = image.unwrap();
    assert_eq!(
        image.consistency,
        Consistency::None,
        "nothing can be shared with another file system"
    );
    assert_eq!(fs::read_to_string(image.path.join("inner/b")).unwrap(), "2");
}

#[test]
fn a_folder_elsewhere_can_be_the_source_and_stays_untouched() {
    let disk = Disk::plain();
    let volumes = disk.volumes();
    let folder = disk.path().join("adopted");
    fs::create_dir(&folder).unwrap();
    rich_tree(&folder);
    let wanted = manifest(&folder);
    let image = volumes.snapshot(Source::Folder(&folder), "i").unwrap();
    assert_same(&wanted, &image.path);
    assert_same(&wanted, &folder);
    assert_eq!(
        volumes.usage(Source::Folder(&folder)).unwrap().entries,
        u64::try_from(wanted.len()).unwrap() - 1
    );
}

#[test]
fn reading_a_source_leaves_its_access_times_and_the_copy_bears_them() {
    let disk = Disk::plain();
    let volumes = disk.volumes();
    let source = volumes.create("v").unwrap();
    fs::write(source.join("a"), "text").unwrap();
    crate::fixture::set_times(&source.join("a"), (10_000, 17), (20_000, 18));
    let image = volumes.snapshot(Source::Volume("v"), "i").unwrap();
    let times = |path: &std::path::Path| {
        let meta = fs::metadata(path).unwrap();
        (
            meta.atime(),
            meta.atime_nsec(),
            meta.mtime(),
            meta.mtime_nsec(),
        )
    };
    assert_eq!(times(&source.join("a")), (10_000, 17, 20_000, 18));
    assert_eq!(times(&image.path.join("a")), (10_000, 17, 20_000, 18));
}

#[test]
fn an_image_made_again_under_its_name_is_the_first_one() {
    let disk = Disk::plain();
    let volumes = disk.volumes();
    let source = volumes.create("v").unwrap();
    fs::write(source.join("a"), "1").unwrap();
    let first = volumes.snapshot(Source::Volume("v"), "i").unwrap();
    fs::write(source.join("a"), "2").unwrap();
    assert_eq!(volumes.snapshot(Source::Volume("v"), "i").unwrap(), first);
    assert_eq!(fs::read_to_string(first.path.join("a")).unwrap(), "1");
}

#[test]
fn two_images_of_one_volume_can_be_made_at_once() {
    let disk = Disk::plain();
    let volumes = disk.volumes();
    let source = volumes.create("v").unwrap();
    rich_tree(&source);
    let wanted = manifest(&source);
    std::thread::scope(|scope| {
        for name in ["one", "two"] {
            let (volumes, wanted) = (&volumes, &wanted);
            scope.spawn(move || {
                let image = volumes.snapshot(Source::Volume("v"), name).unwrap();
                assert_same(wanted, &image.path);
            });
        }
    });
    assert_eq!(volumes.images().unwrap(), ["one", "two"]);
}

#[test]
fn an_ordinary_user_keeps_what_it_may_and_is_told_the_rest() {
    if !is_root() {
        println!("not run: only root can prepare files of other owners");
        return;
    }
    let disk = Disk::plain();
    fs::set_permissions(disk.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let folder = disk.path().join("adopted");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("foreign"), "of root").unwrap();
    fs::write(folder.join("own"), "mine").unwrap();
    fs::create_dir(folder.join("lost+found")).unwrap();
    fs::set_permissions(folder.join("lost+found"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(folder.join("closed")).unwrap();
    fs::write(folder.join("closed/in"), "mine").unwrap();
    for own in ["own", "closed", "closed/in", ""] {
        chown(folder.join(own), Some(1000), Some(1000)).unwrap();
    }
    fs::set_permissions(folder.join("closed"), fs::Permissions::from_mode(0o500)).unwrap();
    let copied = as_ordinary_user(|| {
        let volumes = disk.volumes();
        let copied = volumes.snapshot(Source::Folder(&folder), "i").unwrap();
        let restored = volumes.provision(Source::Image("i"), "v").unwrap();
        assert_same(&manifest(&copied.path), &restored.path);
        volumes.delete("v").unwrap();
        copied
    });
    assert_eq!(copied.unkept.count, 1);
    assert_eq!(copied.unkept.sample, ["foreign: owner 0:0"]);
    assert_eq!(
        fs::read_to_string(copied.path.join("closed/in")).unwrap(),
        "mine"
    );
    assert_eq!(
        fs::metadata(copied.path.join("closed")).unwrap().mode() & 0o777,
        0o500
    );
    assert!(!copied.path.join("lost+found").exists());
}

#[test]
fn an_ordinary_user_snapshots_and_deletes_subvolumes() {
    let Some(disk) = Disk::mount("btrfs") else {
        return;
    };
    fs::set_permissions(disk.path(), fs::Permissions::from_mode(0o777)).unwrap();
    as_ordinary_user(|| {
        let volumes = disk.volumes();
        let source = volumes.create("v").unwrap();
        fs::create_dir_all(source.join("a/b")).unwrap();
        fs::write(source.join("a/b/c"), "1").unwrap();
        fs::set_permissions(source.join("a/b"), fs::Permissions::from_mode(0o000)).unwrap();
        let image = volumes.snapshot(Source::Volume("v"), "i").unwrap();
        assert_eq!(image.consistency, Consistency::Atomic);
        let restored = volumes.provision(Source::Image("i"), "w").unwrap();
        assert_eq!(restored.consistency, Consistency::Atomic);
        volumes.delete_image("i").unwrap();
        volumes.delete("v").unwrap();
        volumes.delete("w").unwrap();
        assert!(volumes.images().unwrap().is_empty());
    });
    for part in ["volumes", "snapshots"] {
        assert_eq!(
            fs::read_dir(disk.path().join("store").join(part))
                .unwrap()
                .count(),
            0
        );
    }
}

#[test]
fn a_full_file_system_is_said_and_nothing_half_made_stays() {
    let Some(disk) = Disk::mount("ext4") else {
        return;
    };
    let volumes = disk.volumes();
    let source = volumes.create("v").unwrap();
    fs::write(source.join("half"), vec![1_u8; 300 << 20]).unwrap();
    let error = volumes.snapshot(Source::Volume("v"), "i").unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(volumes.images().unwrap().is_empty());
    assert!(
        volumes.free_bytes().unwrap() > 50 << 20,
        "what was copied is removed"
    );
}

#[test]
fn what_is_missing_or_misnamed_is_named() {
    let disk = Disk::plain();
    let volumes = disk.volumes();
    let missing = volumes
        .provision(Source::Image("no"), "v")
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("there is no image `no` in "),
        "{missing}"
    );
    let missing = volumes
        .snapshot(Source::Folder("/no/where".as_ref()), "i")
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("/no/where is not a directory that can be read"),
        "{missing}"
    );
    for name in ["", "..", "a/b", ".tmp-1", "a\nb"] {
        assert!(
            matches!(volumes.create(name), Err(Error::BadName(_))),
            "{name:?}"
        );
    }
}
