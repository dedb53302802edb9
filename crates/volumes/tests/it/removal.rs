//! Removing, stopping, and what an interrupted run leaves.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::{Arc, OnceLock};

use syncline_volumes::{Consistency, Error, Options, Source, Volumes};

use crate::fixture::{Disk, rich_tree};

#[test]
fn what_an_interrupted_run_left_is_removed_and_never_listed() {
    let disk = Disk::plain();
    let volumes = disk.volumes();
    volumes.create("v").unwrap();
    let left = disk.path().join("store/snapshots/.tmp-99-1/data/deep");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("half"), "half").unwrap();
    assert!(volumes.images().unwrap().is_empty());
    let volumes = disk.volumes();
    assert!(!disk.path().join("store/snapshots/.tmp-99-1").exists());
    assert_eq!(volumes.volumes().unwrap(), ["v"]);
}

#[test]
fn a_stopped_copy_leaves_nothing() {
    let disk = Disk::plain();
    let running: Arc<OnceLock<Volumes>> = Arc::new(OnceLock::new());
    let stopper = Arc::clone(&running);
    let volumes = disk.volumes_with(Options {
        best: Consistency::None,
        after_pass: Some(Arc::new(move |_| stopper.get().unwrap().stop())),
        ..Options::default()
    });
    running.set(volumes.clone()).ok().unwrap();
    let source = volumes.create("v").unwrap();
    rich_tree(&source);
    let error = volumes.snapshot(Source::Volume("v"), "i").unwrap_err();
    assert!(matches!(error, Error::Stopped), "{error}");
    assert_eq!(
        fs::read_dir(disk.path().join("store/snapshots"))
            .unwrap()
            .count(),
        0
    );
    assert!(matches!(
        volumes.snapshot(Source::Volume("v"), "i"),
        Err(Error::Stopped)
    ));
}

#[test]
fn removing_a_volume_never_follows_a_link_out_of_it() {
    let disk = Disk::plain();
    let volumes = disk.volumes();
    let outside = disk.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    let source = volumes.create("v").unwrap();
    symlink(&outside, source.join("link")).unwrap();
    volumes.delete("v").unwrap();
    volumes.delete("v").unwrap();
    assert!(outside.join("kept").exists());
}

#[test]
fn a_tree_too_deep_for_any_path_is_refused_as_a_source_and_can_be_removed() {
    let disk = Disk::plain();
    let volumes = disk.volumes();
    let source = volumes.create("v").unwrap();
    let mut tower = source.join("t0");
    fs::create_dir(&tower).unwrap();
    for level in 1..3000 {
        let above = source.join(format!("t{level}"));
        fs::create_dir(&above).unwrap();
        fs::rename(&tower, above.join("d")).unwrap();
        tower = above;
    }
    let error = volumes.snapshot(Source::Volume("v"), "i").unwrap_err();
    assert!(matches!(error, Error::TooDeep { .. }), "{error}");
    assert!(volumes.images().unwrap().is_empty());
    volumes.delete("v").unwrap();
    assert_eq!(
        fs::read_dir(disk.path().join("store/volumes"))
            .unwrap()
            .count(),
        0
    );
}
