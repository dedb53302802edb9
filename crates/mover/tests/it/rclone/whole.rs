//! A volume goes through the store and arrives as it was.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use syncline_api::report::{Progress, parse_line};

use super::shop::{Kind, Shop, replace};
use crate::pair::run;
use crate::tree;

/// Everything arrives.
#[track_caller]
fn same(shop: &Shop) {
    tree::assert_same(&shop.src(), &shop.dst());
}

fn there_and_back(kind: Kind) {
    let shop = Shop::new(kind);
    tree::fill(&shop.src());
    let source = shop.source(&[]);
    source.succeeded();
    assert!(source.report.full_check);
    assert_eq!(source.report.unpreserved, [] as [&str; 0]);
    let first = source.report.generation.unwrap();
    let destination = shop.destination(&[]);
    destination.succeeded();
    assert_eq!(
        destination.report.generation.as_deref(),
        Some(first.as_str())
    );
    same(&shop);

    tree::change(&shop.src());
    let source = shop.source(&[("LAST_GENERATION", &first), ("LAST_SYNCED_ENTRIES", "100")]);
    source.succeeded();
    assert!(!source.report.full_check);
    assert!(
        source.report.files_transferred.unwrap() < 10,
        "{:?}",
        source.report
    );
    let second = source.report.generation.unwrap();
    assert_ne!(first, second);
    let destination = shop.destination(&[("LAST_GENERATION", &first)]);
    destination.succeeded();
    assert_eq!(
        destination.report.generation.as_deref(),
        Some(second.as_str())
    );
    assert!(
        destination.report.files_transferred.unwrap() < 10,
        "{:?}",
        destination.report
    );
    same(&shop);
    for log in [&source.log, &destination.log] {
        let told: Vec<Progress> = log.lines().filter_map(parse_line).collect();
        let is_under_way = |told: &Progress| {
            told.phase.as_deref() == Some("Transferring") && told.files_total.is_some()
        };
        assert!(told.iter().any(is_under_way), "{log}");
        assert_eq!(told.last().unwrap().phase.as_deref(), Some("Transferred"));
        for words in [
            "Transferred:",
            "Checks:",
            "Elapsed time:",
            "Rclone completed in",
        ] {
            assert!(log.contains(words), "{words}\n{log}");
        }
    }
    assert!(
        source.report.logs.contains("Transferred:"),
        "{}",
        source.report.logs
    );
}

#[test]
fn a_volume_arrives_whole_by_a_folder_and_so_do_its_changes() {
    there_and_back(Kind::Local);
}

#[test]
fn a_volume_arrives_whole_by_an_encrypted_store_and_so_do_its_changes() {
    there_and_back(Kind::Crypt);
}

#[test]
fn a_volume_arrives_whole_by_an_sftp_server_and_so_do_its_changes() {
    there_and_back(Kind::Sftp);
}

#[test]
fn names_that_rclone_writes_otherwise_arrive_as_they_were() {
    use std::os::unix::ffi::OsStrExt as _;
    for kind in [Kind::Local, Kind::Crypt, Kind::Sftp] {
        let shop = Shop::new(kind);
        let names: [&[u8]; 18] = [
            "quoted \u{201b} name".as_bytes(),
            "\u{201b}FF".as_bytes(),
            "\u{201b}\u{240a}".as_bytes(),
            "picture \u{240a}".as_bytes(),
            "\u{201b}\u{ff0f} and \u{2400}".as_bytes(),
            "\u{201b}\u{201b}".as_bytes(),
            "\u{ff0e}\u{ff0e}".as_bytes(),
            b"line\n\xe2\x80\x9blatin \xe9",
            b"line\nbreak",
            b"return\rhere",
            b"escape\x1b[31m",
            b"delete\x7f",
            b"latin \xe9",
            "full \u{ff0f} width \u{ff0e}".as_bytes(),
            " blanks around ".as_bytes(),
            "composed \u{e9}".as_bytes(),
            "composed e\u{301}".as_bytes(),
            b"back\\slash:colon|pipe\"quote*star?<>",
        ];
        for (number, name) in names.iter().enumerate() {
            let folder = shop.src().join(std::ffi::OsStr::from_bytes(name));
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(
                folder.join(std::ffi::OsStr::from_bytes(name)),
                format!("{number}"),
            )
            .unwrap();
        }
        shop.source(&[]).succeeded();
        shop.destination(&[]).succeeded();
        same(&shop);
        for (number, name) in names.iter().enumerate() {
            let folder = shop.src().join(std::ffi::OsStr::from_bytes(name));
            if number % 2 == 0 {
                std::fs::write(folder.join(std::ffi::OsStr::from_bytes(name)), "changed").unwrap();
            } else {
                std::fs::remove_dir_all(folder).unwrap();
            }
        }
        shop.source(&[]).succeeded();
        shop.source(&[("RUNS_SINCE_FULL_CHECK", "9")]).succeeded();
        shop.destination(&[]).succeeded();
        same(&shop);
    }
}

#[test]
fn a_stranger_in_the_store_whose_name_is_no_utf8_is_told_with_what_to_do() {
    use std::os::unix::ffi::OsStrExt as _;
    let shop = Shop::new(Kind::Local);
    std::fs::write(shop.src().join("file"), "x").unwrap();
    shop.source(&[]).succeeded();
    let stranger = std::ffi::OsStr::from_bytes(b"latin \xe9");
    let stranger = shop.objects().join(stranger);
    std::fs::write(&stranger, "x").unwrap();
    std::fs::write(shop.src().join("another"), "x").unwrap();
    shop.source(&[]).failed_saying(
        "ListingIncomplete",
        "1 that should not be there (first: latin \u{fffd}); remove there what has a \u{fffd} in its name",
    );
    std::fs::remove_file(&stranger).unwrap();
    shop.source(&[]).succeeded();
    shop.destination(&[]).succeeded();
    same(&shop);
}

#[test]
fn a_run_without_changes_writes_nothing() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    let first = shop.source(&[]);
    first.succeeded();
    let generation = first.report.generation.unwrap();
    let before = snapshot(&shop.path("store"));
    let again = shop.source(&[("LAST_GENERATION", &generation)]);
    again.succeeded();
    assert_eq!(
        again.report.generation.as_deref(),
        Some(generation.as_str())
    );
    assert_eq!(again.report.files_transferred, Some(0));
    assert_eq!(again.report.bytes_sent, Some(0));
    assert_eq!(again.report.entries, first.report.entries);
    assert_eq!(snapshot(&shop.path("store")), before);
}

#[test]
fn the_manifest_that_is_fetched_before_the_marker_is_read_counts_only_when_the_marker_names_it() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    let first = shop.source(&[]).report.generation.unwrap();
    let old = shop.state().join("manifest-1.zst");
    let kept = std::fs::read(&old).unwrap();
    std::fs::write(shop.src().join("later"), "of the second version").unwrap();
    let second = shop.source(&[("LAST_GENERATION", &first)]);
    let second = second.report.generation.unwrap();
    assert_ne!(second, first);
    std::fs::write(&old, &kept).unwrap();
    for label in [&first, &second] {
        let again = shop.source(&[("LAST_GENERATION", label)]);
        again.succeeded();
        assert_eq!(again.report.files_transferred, Some(0), "{label}");
        assert!(!again.report.full_check);
        assert_eq!(again.report.generation.as_ref(), Some(&second));
    }
}

/// Names, inodes and times of everything beneath `root`.
fn snapshot(root: &Path) -> Vec<String> {
    let output = Command::new("find")
        .arg(root)
        .args(["-printf", "%p %i %C@ %s\n"])
        .output()
        .unwrap();
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

#[test]
fn a_full_check_that_finds_nothing_keeps_the_version() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    let first = shop.source(&[]);
    let generation = first.report.generation.unwrap();
    // When the permissions were written is no part of the version.
    let marker = || {
        let mut marker = shop.marker();
        marker
            .as_object_mut()
            .unwrap()
            .remove("permissions")
            .unwrap();
        marker
    };
    let before = marker();
    let check = shop.source(&[
        ("RUNS_SINCE_FULL_CHECK", "9"),
        ("LAST_GENERATION", &generation),
    ]);
    check.succeeded();
    assert!(check.report.full_check);
    assert_eq!(
        check.report.generation.as_deref(),
        Some(generation.as_str())
    );
    assert_eq!(marker(), before);
    assert_eq!(shop.state_names().len(), 2);
}

#[test]
fn a_full_check_heals_what_somebody_changed_in_the_store() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    shop.source(&[]).succeeded();
    let first = shop.destination(&[]);
    first.succeeded();
    let known = first.report.generation.unwrap();
    let rewritten = "a/b/100";
    spoil(&shop.objects().join(rewritten), &shop.src().join(rewritten));
    std::fs::write(shop.objects().join("surplus"), "x").unwrap();
    std::fs::remove_file(shop.objects().join("a/b/101")).unwrap();
    let check = shop.source(&[("RUNS_SINCE_FULL_CHECK", "9")]);
    check.succeeded();
    assert_ne!(check.report.generation.as_deref(), Some(known.as_str()));
    assert!(!shop.objects().join("surplus").exists());
    // This destination fetched the wrong content, which looks right.
    spoil(&shop.dst().join(rewritten), &shop.src().join(rewritten));
    shop.destination(&[("LAST_GENERATION", &known)]).succeeded();
    same(&shop);
}

#[test]
fn what_a_crash_left_in_a_volume_that_goes_with_its_run_is_held_against_its_checksum() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    shop.source(&[]).succeeded();
    let first = shop.destination(&[]);
    first.succeeded();
    let known = first.report.generation.unwrap();
    // Another pod of the same run finds what the one before fetched, and the node lost power before that was on its disk.
    let torn = "a/b/100";
    spoil(&shop.dst().join(torn), &shop.src().join(torn));
    shop.destination(&[("LAST_GENERATION", &known), ("PASSING_VOLUME", "1")])
        .succeeded();
    same(&shop);
}

/// Gives a file another content of the size and the time that `original` has.
pub(super) fn spoil(file: &Path, original: &Path) {
    let length = std::fs::metadata(original).unwrap().len();
    std::fs::write(file, "x".repeat(usize::try_from(length).unwrap())).unwrap();
    run(Command::new("touch").arg("-r").arg(original).arg(file));
}

#[test]
fn a_file_rewritten_with_its_old_size_and_time_arrives() {
    // Where there are checksums the Secret's key would have them passed over.
    let all = ["a", "b", "c"];
    for (kind, key, names) in [
        (Kind::Crypt, "true", &all[..]),
        (Kind::Local, "false", &all[..]),
        (Kind::Local, "false", &all[..1]),
    ] {
        let shop = Shop::new(kind);
        std::fs::write(shop.path("config/RCLONE_CHECKSUM"), key).unwrap();
        for name in names {
            std::fs::write(shop.src().join(name), "first").unwrap();
        }
        let source = shop.source(&[]);
        let words = "the key RCLONE_CHECKSUM of the Secret is passed over";
        assert!(source.log.contains(words), "{}", source.log);
        let first = source.report.generation.unwrap();
        shop.destination(&[]).succeeded();
        let old = std::fs::metadata(shop.src().join("a")).unwrap();
        std::fs::write(shop.src().join("a"), "later").unwrap();
        let time = format!("@{}.{:09}", old.mtime(), old.mtime_nsec());
        run(Command::new("touch")
            .args(["-d", &time])
            .arg(shop.src().join("a")));
        shop.source(&[("LAST_GENERATION", &first)]).succeeded();
        shop.destination(&[("LAST_GENERATION", &first)]).succeeded();
        same(&shop);
        assert_eq!(std::fs::read(shop.dst().join("a")).unwrap(), b"later");
    }
}

#[test]
fn what_the_volume_held_before_goes_and_what_stands_in_the_way_leads_nowhere() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    shop.source(&[]).succeeded();
    let outside = shop.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::create_dir(shop.dst().join("lost+found")).unwrap();
    std::fs::write(shop.dst().join("lost+found/mine"), "the file system's").unwrap();
    std::os::unix::fs::symlink(&outside, shop.dst().join("a")).unwrap();
    std::fs::create_dir_all(shop.dst().join("linked/as/folder")).unwrap();
    std::fs::write(shop.dst().join("old"), "old").unwrap();
    shop.destination(&[]).succeeded();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(shop.dst().join("lost+found/mine").exists());
    same(&shop);
}

#[test]
fn five_destinations_get_the_same() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    shop.source(&[]).succeeded();
    let volumes: Vec<String> = (0..5).map(|number| format!("dst-{number}")).collect();
    let running: Vec<_> = volumes
        .iter()
        .map(|volume| {
            std::fs::create_dir(shop.path(volume)).unwrap();
            shop.start("destination", volume, &[])
        })
        .collect();
    for one in running {
        one.end().succeeded();
    }
    for volume in &volumes {
        tree::assert_same(&shop.src(), &shop.path(volume));
    }
}

#[test]
fn a_destination_without_a_trigger_waits_for_the_next_version() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    let first = shop.source(&[]).report.generation.unwrap();
    shop.destination(&[]).succeeded();
    let waiting = shop.start(
        "destination",
        "dst",
        &[("POLL", "1"), ("LAST_GENERATION", &first)],
    );
    waiting.wait_for("waiting for a new version");
    tree::change(&shop.src());
    shop.source(&[]).succeeded();
    waiting.end().succeeded();
    same(&shop);
}

#[test]
fn a_destination_without_a_trigger_waits_for_the_first_version() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    let waiting = shop.start("destination", "dst", &[("POLL", "1")]);
    waiting.wait_for("waiting for");
    shop.source(&[]).succeeded();
    waiting.end().succeeded();
    same(&shop);
}

#[test]
fn a_destination_without_a_trigger_takes_no_listing_for_news_once_a_source_has_announced_itself() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    let version = shop.source(&[]).report.generation;
    let marker = shop.state().join("generation.json");
    let [complete, announced] = ["complete", "announced"].map(|name| shop.path(name));
    let mut said = shop.marker();
    said["state"] = "uploading".into();
    std::fs::write(&announced, said.to_string()).unwrap();
    std::fs::rename(&marker, &complete).unwrap();
    // The source begins just when the first look at its objects has ended.
    let stage = shop.path("stage");
    std::fs::create_dir(&stage).unwrap();
    let program = stage.join("rclone");
    let script = format!(
        "#!/bin/bash\nif [[ $1 = lsjson && \" $* \" = *\" --recursive \"* ]] && mkdir {stage}/begun; then\n\
         {real} \"$@\"; code=$?; cp {announced} {marker}; exit $code; fi\nexec {real} \"$@\"\n",
        stage = stage.display(),
        real = super::shop::rclone().display(),
        announced = announced.display(),
        marker = marker.display(),
    );
    std::fs::write(&program, script).unwrap();
    run(Command::new("chmod").arg("755").arg(&program));
    let path = format!("{}:/usr/bin:/bin", stage.display());
    let waiting = shop.start("destination", "dst", &[("POLL", "1"), ("PATH", &path)]);
    waiting.wait_for("waiting for the end of an upload");
    assert_eq!(std::fs::read_dir(shop.dst()).unwrap().count(), 0);
    std::fs::rename(&complete, &marker).unwrap();
    let ended = waiting.end();
    ended.succeeded();
    assert_eq!(ended.report.generation, version);
    same(&shop);
}

#[test]
fn a_copy_of_the_volume_with_new_inodes_sends_nothing_again() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    let first = shop.source(&[]).report.generation.unwrap();
    let copy = shop.path("copy");
    replace(&shop.src(), &copy);
    let again = shop
        .start("source", "copy", &[("LAST_GENERATION", &first)])
        .end();
    again.succeeded();
    assert_eq!(again.report.files_transferred, Some(0), "{}", again.log);
    assert_eq!(
        again.report.generation.as_deref(),
        Some(first.as_str()),
        "{}",
        again.log
    );
}

#[test]
fn a_destination_without_a_trigger_waits_for_news_although_its_volume_is_emptied_after_each_run() {
    // As with cleanupTempPVC: whoever made the volume anew does not name a last generation.
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    let first = shop.source(&[]).report.generation.unwrap();
    let waiting = shop.start(
        "destination",
        "dst",
        &[("POLL", "1"), ("LAST_GENERATION", &first)],
    );
    waiting.wait_for("waiting for a new version");
    assert_eq!(std::fs::read_dir(shop.dst()).unwrap().count(), 0);
    tree::change(&shop.src());
    shop.source(&[]).succeeded();
    waiting.end().succeeded();
    same(&shop);
}
