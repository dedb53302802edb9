//! Sources that change while they are copied.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use syncline_volumes::{Consistency, Copied, Options, Settled, Source, Volumes};

use crate::compare::{assert_same, manifest};
use crate::fixture::{Disk, rich_tree};

/// Sets the flag when it goes, also when an assertion fails, so that no thread waits for ever.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Copies a rich tree; `change` runs after each pass with its number.
fn copy_while(
    change: impl Fn(&std::path::Path, u32) + Send + Sync + 'static,
) -> (Disk, PathBuf, Copied) {
    let disk = Disk::plain();
    let source = disk.volumes().create("v").unwrap();
    rich_tree(&source);
    let place = source.clone();
    let volumes = disk.volumes_with(Options {
        best: Consistency::None,
        after_pass: Some(Arc::new(move |pass| change(&place, pass))),
        ..Options::default()
    });
    let image = volumes.snapshot(Source::Volume("v"), "i").unwrap();
    (disk, source, image)
}

#[test]
fn a_source_that_holds_still_is_walked_twice() {
    let (_disk, source, image) = copy_while(|_, _| {});
    assert!((2..=3).contains(&image.passes), "{} passes", image.passes);
    assert_eq!(image.settled, Settled::Yes);
    assert_same(&manifest(&source), &image.path);
}

#[test]
fn a_change_during_the_copy_is_carried_over_by_one_more_pass() {
    let (_disk, source, image) = copy_while(|root, pass| {
        if pass == 1 {
            fs::write(root.join("plain/file"), "other").unwrap();
            fs::remove_dir_all(root.join("plain/deep")).unwrap();
            fs::write(root.join("plain/deep"), "now a file").unwrap();
            fs::remove_file(root.join("plain/empty")).unwrap();
            fs::create_dir(root.join("plain/empty")).unwrap();
            fs::write(root.join("plain/empty/not any more"), "").unwrap();
            fs::rename(root.join("sparse"), root.join("moved")).unwrap();
            fs::hard_link(root.join("acl"), root.join("a name before")).unwrap();
        }
    });
    assert!((3..=4).contains(&image.passes), "{} passes", image.passes);
    assert_eq!(image.settled, Settled::Yes);
    assert_same(&manifest(&source), &image.path);
}

#[test]
fn a_change_of_content_with_its_times_set_back_is_seen() {
    let (_disk, source, image) = copy_while(|root, pass| {
        if pass == 1 {
            let file = root.join("plain/file");
            fs::write(&file, "HELLO").unwrap();
            crate::fixture::set_times(
                &file,
                (1_000_000_001, 123_456_789),
                (999_999_999, 987_654_321),
            );
        }
    });
    assert_eq!(
        fs::read_to_string(image.path.join("plain/file")).unwrap(),
        "HELLO"
    );
    assert_same(&manifest(&source), &image.path);
}

#[test]
fn a_source_that_never_holds_still_is_said_to() {
    let (_disk, _source, image) = copy_while(|root, pass| {
        fs::write(root.join("plain/restless"), pass.to_string()).unwrap();
    });
    assert_eq!(image.passes, 5);
    let Settled::No { count, sample } = image.settled else {
        panic!("{:?}", image.settled)
    };
    assert!(count >= 1);
    assert!(sample.contains(&"plain/restless".to_owned()), "{sample:?}");
}

#[test]
fn a_directory_swapped_for_a_link_to_elsewhere_never_leads_out() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "not yours").unwrap();
    let target = outside.path().to_owned();
    let (_disk, source, image) = copy_while(move |root, pass| {
        if pass == 1 {
            fs::rename(root.join("plain"), root.join("was plain")).unwrap();
            symlink(&target, root.join("plain")).unwrap();
        }
    });
    assert!(
        fs::symlink_metadata(image.path.join("plain"))
            .unwrap()
            .is_symlink()
    );
    assert_same(&manifest(&source), &image.path);
}

#[test]
fn swapping_entries_for_links_while_the_copy_runs_never_leads_out() {
    let disk = Disk::plain();
    let volumes = disk.volumes_with(Options {
        best: Consistency::None,
        ..Options::default()
    });
    let source = volumes.create("v").unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "not yours").unwrap();
    for number in 0..50 {
        fs::create_dir(source.join(format!("d{number}"))).unwrap();
        fs::write(source.join(format!("d{number}/secret")), "mine").unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            symlink(outside.path(), source.join("bait")).unwrap();
            while !done.load(Ordering::Relaxed) {
                for number in 0..50 {
                    let (dir, aside) = (source.join(format!("d{number}")), source.join("aside"));
                    fs::rename(&dir, &aside).unwrap();
                    fs::rename(source.join("bait"), &dir).unwrap();
                    fs::rename(&dir, source.join("bait")).unwrap();
                    fs::rename(&aside, &dir).unwrap();
                }
            }
        });
        let stop = Stop(&done);
        for round in 0..20 {
            let image = volumes
                .snapshot(Source::Volume("v"), &format!("i{round}"))
                .unwrap();
            for (path, _) in manifest(&image.path) {
                if path.ends_with("secret") {
                    assert_eq!(
                        fs::read_to_string(image.path.join(&path)).unwrap(),
                        "mine",
                        "{}",
                        path.display()
                    );
                }
            }
        }
        drop(stop);
    });
}

#[test]
fn a_writer_that_pauses_leaves_a_settled_copy_of_its_last_state() {
    let disk = Disk::plain();
    let volumes = disk.volumes();
    let source = volumes.create("v").unwrap();
    rich_tree(&source);
    let writing = Arc::new(AtomicBool::new(true));
    let rounds = Arc::new(AtomicU64::new(0));
    let writer = {
        let (go_on, count, place) = (Arc::clone(&writing), Arc::clone(&rounds), source.clone());
        std::thread::spawn(move || {
            while go_on.load(Ordering::SeqCst) {
                let round = count.fetch_add(1, Ordering::SeqCst);
                fs::write(
                    place.join("database"),
                    vec![u8::try_from(round % 251).unwrap(); 400_000],
                )
                .unwrap();
                fs::write(place.join("journal"), round.to_string()).unwrap();
            }
        })
    };
    let writer = Mutex::new(Some(writer));
    let hook = {
        let (writing, rounds) = (Arc::clone(&writing), Arc::clone(&rounds));
        move |pass| {
            let before = rounds.load(Ordering::SeqCst);
            if pass == 1 {
                // So that the second pass has something to find, however slow the machine.
                while rounds.load(Ordering::SeqCst) < before + 2 {
                    std::thread::yield_now();
                }
            } else if let Some(writer) = writer.lock().unwrap().take() {
                writing.store(false, Ordering::SeqCst);
                writer.join().unwrap();
            }
        }
    };
    let volumes: Volumes = disk.volumes_with(Options {
        best: Consistency::None,
        pass_limit: 8,
        after_pass: Some(Arc::new(hook)),
        ..Options::default()
    });
    let image = volumes.snapshot(Source::Volume("v"), "i").unwrap();
    assert!(rounds.load(Ordering::SeqCst) > 0);
    assert!(image.passes >= 3, "{} passes", image.passes);
    assert_eq!(image.settled, Settled::Yes);
    assert_same(&manifest(&source), &image.path);
}
