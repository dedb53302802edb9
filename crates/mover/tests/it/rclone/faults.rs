//! What goes wrong has a name, and nothing is lost by it.

use std::process::Command;

use super::shop::{Kind, Shop};
use crate::pair::{ORDINARY_UID, is_root, run, unused_address};
use crate::tree;

#[test]
fn an_empty_source_is_refused_once_it_held_something() {
    let shop = Shop::new(Kind::Local);
    std::fs::write(shop.src().join("file"), "content").unwrap();
    shop.source(&[]).succeeded();
    std::fs::remove_file(shop.src().join("file")).unwrap();
    shop.source(&[("LAST_SYNCED_ENTRIES", "1")])
        .failed("SourceUnexpectedlyEmpty");
    // The status was lost, but the store remembers.
    shop.source(&[]).failed("SourceUnexpectedlyEmpty");
    assert!(shop.objects().join("file").exists());
    std::fs::remove_dir_all(shop.state()).unwrap();
    shop.source(&[]).failed("SourceUnexpectedlyEmpty");
    assert!(shop.objects().join("file").exists());
    shop.source(&[("ALLOW_EMPTY_SOURCE", "1")]).succeeded();
    assert!(!shop.objects().join("file").exists());
    // An empty version that a marker vouches for is a version.
    std::fs::write(shop.dst().join("old"), "old").unwrap();
    shop.destination(&[]).succeeded();
    assert!(!shop.dst().join("old").exists());
}

#[test]
fn nothing_at_the_path_erases_no_volume() {
    let shop = Shop::new(Kind::Local);
    std::fs::write(shop.dst().join("precious"), "data").unwrap();
    shop.destination(&[]).failed("NothingAtPath");
    std::fs::create_dir(shop.objects()).unwrap();
    shop.destination(&[]).failed("NothingAtPath");
    assert!(shop.dst().join("precious").exists());
}

#[test]
fn a_listing_that_lacks_objects_deletes_nothing() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    shop.source(&[]).succeeded();
    shop.destination(&[]).succeeded();
    std::fs::remove_dir_all(shop.objects().join("a/b")).unwrap();
    shop.destination(&[]).failed("ListingIncomplete");
    tree::assert_same(&shop.src(), &shop.dst());
    std::fs::remove_dir_all(shop.objects()).unwrap();
    shop.destination(&[]).failed("ListingIncomplete");
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn a_path_of_another_source_is_refused_with_its_name() {
    let shop = Shop::new(Kind::Local);
    std::fs::write(shop.src().join("file"), "content").unwrap();
    shop.source(&[]).succeeded();
    let other = shop.source(&[("OWNER_NAME", "other"), ("OWNER_UID", "uid-2")]);
    other.failed("PathInUse");
    let message = other.report.message.unwrap();
    let whose = "space/source, of another cluster perhaps";
    assert!(message.contains(whose), "{message}");
    // One of the same name comes in its place, after which the first one is refused.
    shop.source(&[("OWNER_UID", "uid-3")]).succeeded();
    shop.source(&[]).failed("PathInUse");
    shop.source(&[("OWNER_UID", "uid-3")]).succeeded();
}

#[test]
fn a_manifest_that_was_exchanged_restores_nothing() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    shop.source(&[]).succeeded();
    let name = shop.marker()["manifest"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    std::fs::write(shop.state().join(&name), "something else").unwrap();
    shop.destination(&[]).failed("ListingIncomplete");
    assert_eq!(std::fs::read_dir(shop.dst()).unwrap().count(), 0);
    // The source's next run writes a new one.
    shop.source(&[]).succeeded();
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn a_marker_of_which_half_was_written_is_waited_for_and_replaced() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    shop.source(&[]).succeeded();
    let marker = shop.state().join("generation.json");
    let text = std::fs::read(&marker).unwrap();
    std::fs::write(&marker, &text[..text.len() / 2]).unwrap();
    shop.destination(&[("SYNCLINE_WAIT_UNIT_MS", "1")])
        .failed("SourceUploading");
    shop.source(&[("LAST_GENERATION", "1-0")]).succeeded();
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn a_marker_without_content_is_no_sign_that_there_is_none() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    shop.source(&[]).succeeded();
    std::fs::write(shop.state().join("generation.json"), "").unwrap();
    let refused = shop.source(&[("OWNER_NAME", "other"), ("OWNER_UID", "uid-2")]);
    refused.failed("PathInUse");
    shop.destination(&[("SYNCLINE_WAIT_UNIT_MS", "1")])
        .failed("SourceUploading");
    assert_eq!(std::fs::read_dir(shop.dst()).unwrap().count(), 0);
    shop.source(&[("LAST_GENERATION", "1-0")]).succeeded();
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
}

/// Lets the marker say `state`, and when its source last was at work.
fn say(shop: &Shop, state: &str, alive: &str) {
    let mut marker = shop.marker();
    marker["state"] = state.into();
    marker["alive"] = alive.into();
    // In one step, as the mover's own are.
    let (file, place) = (shop.path("marker"), shop.state().join("generation.json"));
    std::fs::write(&file, marker.to_string()).unwrap();
    std::fs::rename(file, place).unwrap();
}

#[test]
fn an_upload_is_waited_for_as_long_as_its_source_is_at_work_and_no_longer() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    shop.source(&[]).succeeded();
    // The limit is three seconds then.
    let hasty = ("SYNCLINE_WAIT_UNIT_MS", "5");
    for poll in ["0", "1"] {
        say(&shop, "uploading", "0");
        let waiting = shop.start("destination", "dst", &[hasty, ("POLL", poll)]);
        for beat in 1..=12 {
            std::thread::sleep(std::time::Duration::from_millis(500));
            say(&shop, "uploading", &beat.to_string());
        }
        say(&shop, "complete", "");
        waiting.end().succeeded();
        tree::assert_same(&shop.src(), &shop.dst());
        say(&shop, "uploading", "0");
        let ended = shop.destination(&[hasty, ("POLL", poll)]);
        ended.failed("SourceUploading");
        let message = ended.report.message.unwrap();
        let whose = "look at the status of ReplicationSource space/source";
        assert!(message.contains(whose), "{message}");
    }
    // A marker that stays half a one is no reason to wait for ever, either.
    std::fs::write(shop.state().join("generation.json"), "{").unwrap();
    shop.destination(&[hasty, ("POLL", "1")])
        .failed("SourceUploading");
}

#[test]
fn a_volume_that_is_too_small_is_refused_with_numbers_before_anything_is_written() {
    let shop = Shop::new(Kind::Local);
    std::fs::write(shop.dst().join("old"), "old").unwrap();
    // Larger than any disk here, and takes no room: a stock source's.
    std::fs::create_dir(shop.objects()).unwrap();
    std::fs::write(shop.objects().join("a"), "a").unwrap();
    let big = std::fs::File::create(shop.objects().join("big")).unwrap();
    big.set_len(8 << 40).unwrap();
    let refused = shop.destination(&[]);
    refused.failed_saying("DestinationTooSmall", "what comes needs 8.000 TiB");
    assert!(shop.dst().join("old").exists() && !shop.dst().join("a").exists());
}

#[test]
fn a_version_that_does_not_fit_is_refused_before_anything_is_written() {
    let shop = Shop::new(Kind::Local);
    std::fs::write(shop.src().join("big"), vec![b'x'; 3 << 20]).unwrap();
    shop.source(&[]).succeeded();
    let refused = shop.destination_with_a_megabyte();
    refused.failed("DestinationTooSmall");
    let message = refused.report.message.unwrap();
    assert!(
        message.contains("B free, and what comes needs 3.000 MiB"),
        "{message}"
    );
    assert!(refused.log.contains("old is there"), "{}", refused.log);
}

#[test]
fn a_store_that_is_not_there_is_told_as_such_whatever_its_bucket_is_called() {
    // Nobody else has this address, so its port stays closed.
    let address = unused_address();
    let listener = std::net::TcpListener::bind((address, 0)).unwrap();
    let endpoint = listener.local_addr().unwrap();
    drop(listener);
    let section = format!(
        "[store]\ntype = s3\nprovider = Other\nendpoint = http://{endpoint}\naccess_key_id = someone\nsecret_access_key = x\n"
    );
    let shop = Shop::of(&section, "nosuchbucket/db");
    for key in ["RCLONE_LOW_LEVEL_RETRIES", "RCLONE_RETRIES"] {
        std::fs::write(shop.path("config").join(key), "1").unwrap();
    }
    std::fs::write(shop.src().join("file"), "content").unwrap();
    for ended in [shop.source(&[]), shop.destination(&[])] {
        ended.failed_saying("StoreUnreachable", "connection refused");
    }
}

#[test]
fn a_folder_as_the_store_that_is_closed_to_the_mover_is_told_with_its_volume_or_that_it_is_in_none()
{
    let shop = Shop::new(Kind::Local);
    std::fs::write(shop.src().join("file"), "content").unwrap();
    let chmod = |mode: &str| run(Command::new("chmod").arg(mode).arg(shop.path("store")));
    chmod("555");
    let none = shop.ordinary("source", "src", &[]);
    chmod("755");
    none.failed_saying(
        "StoreRefused",
        "lies in no volume of spec.rclone.moverVolumes",
    );
    none.failed_saying("StoreRefused", "/mnt/<mountPath>/");
    if is_root() {
        let mut shop = Shop::new(Kind::Local);
        std::fs::write(shop.src().join("file"), "content").unwrap();
        shop.path = "/mnt/store/db".to_owned();
        let closed = shop.ordinary_source_beside_roots_volume();
        let words = format!(
            "the mover's user (uid {ORDINARY_UID}) may not write to `store:/mnt/store/db/` in the volume at /mnt/store"
        );
        closed.failed_saying("StoreRefused", &words);
    }
}

#[test]
fn a_source_that_cannot_be_read_to_its_end_sends_nothing() {
    let shop = Shop::new(Kind::Local);
    std::fs::write(shop.src().join("file"), "x").unwrap();
    std::fs::create_dir(shop.src().join("closed")).unwrap();
    run(Command::new("chmod")
        .arg("000")
        .arg(shop.src().join("closed")));
    shop.ordinary("source", "src", &[])
        .failed("SourceUnreadable");
    assert!(!shop.objects().exists());
    run(Command::new("chmod")
        .arg("700")
        .arg(shop.src().join("closed")));
}

/// What runs of an ordinary user with `variables` do where nothing can be kept, because `closed` is.
fn goes_alone(shop: &Shop, closed: Option<&std::path::Path>, variables: &[(&str, &str)]) {
    let run = |role, volume| {
        // The first run of each makes all of the shop that user's.
        if let Some(closed) = closed {
            run(Command::new("chmod").arg("555").arg(closed));
        }
        shop.ordinary(role, volume, variables)
    };
    let source = run("source", "src");
    source.succeeded();
    assert_eq!(source.report.generation, None);
    assert!(source.report.full_check);
    assert!(
        source
            .report
            .unpreserved
            .iter()
            .any(|words| words.contains("rclone-state-path")),
        "{:?}",
        source.report
    );
    let destination = run("destination", "dst");
    destination.succeeded();
    assert!(!destination.report.unpreserved.is_empty());
    let content = |root: &std::path::Path| std::fs::read(root.join("a/b/100")).unwrap();
    assert_eq!(content(&shop.dst()), content(&shop.src()));
    assert_eq!(run("source", "src").report.files_transferred, Some(0));
}

/// What an ordinary user can own.
fn fill(folder: &std::path::Path) {
    std::fs::create_dir_all(folder.join("a/b")).unwrap();
    for number in 0..120 {
        let file = folder.join(format!("a/b/{number}"));
        std::fs::write(file, format!("content {number}")).unwrap();
    }
}

#[test]
fn a_state_path_that_cannot_be_written_costs_the_sidecar_and_says_so() {
    let shop = Shop::new(Kind::Local);
    fill(&shop.src());
    std::fs::create_dir(shop.objects()).unwrap();
    goes_alone(&shop, Some(&shop.path("store")), &[]);
    assert!(!shop.state().exists());
    // With a place for the state all is kept.
    let place = shop.path("elsewhere").display().to_string();
    let there = [("STATE_PATH", place.as_str())];
    shop.ordinary("source", "src", &there).succeeded();
    shop.ordinary("destination", "dst", &there).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn nothing_is_kept_on_another_file_system_than_the_path() {
    let shop = Shop::new(Kind::Local);
    fill(&shop.src());
    // As beside a volume that is mounted there.
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(elsewhere.path(), everybody).unwrap();
    let notes = elsewhere.path().join("notes");
    goes_alone(&shop, None, &[("STATE_PATH", notes.to_str().unwrap())]);
    assert!(!shop.state().exists() && !notes.exists());
}

#[test]
fn a_file_that_changes_all_the_time_is_named_and_stops_no_other() {
    let shop = Shop::new(Kind::Local);
    std::fs::write(shop.src().join("still"), "x").unwrap();
    let log = shop.src().join("log");
    std::fs::write(&log, "x").unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = std::thread::spawn({
        let stop = std::sync::Arc::clone(&stop);
        move || {
            use std::io::Write as _;
            let mut file = std::fs::OpenOptions::new().append(true).open(log).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                file.write_all(b"more\n").unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    });
    let source = shop.source(&[]);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    source.succeeded();
    let words = source.report.unpreserved.join("; ");
    assert!(
        words.contains("changed while they were read, such as /log"),
        "{words}"
    );
    shop.destination(&[]).succeeded();
    assert_eq!(std::fs::read(shop.dst().join("still")).unwrap(), b"x");
    let log = std::fs::read_to_string(shop.dst().join("log")).unwrap();
    assert!(log.starts_with("xmore\nmore\n"), "{log}");
    // Once it keeps still it is sent as it is.
    let source = shop.source(&[]);
    source.succeeded();
    assert_eq!(source.report.unpreserved, [] as [&str; 0]);
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn keys_of_the_secret_that_choose_files_are_obeyed_and_nothing_vouches_for_the_rest() {
    let shop = Shop::new(Kind::Local);
    tree::fill(&shop.src());
    shop.source(&[]).succeeded();
    std::fs::write(shop.path("config/RCLONE_EXCLUDE"), "*.tmp").unwrap();
    std::fs::write(shop.src().join("scratch.tmp"), "x").unwrap();
    std::fs::write(shop.src().join("kept"), "x").unwrap();
    let source = shop.source(&[]);
    source.succeeded();
    assert!(!shop.objects().join("scratch.tmp").exists());
    assert!(shop.objects().join("kept").exists());
    assert_eq!(shop.marker()["state"], "retired");
    let cure = "cure: a Secret without RCLONE_EXCLUDE";
    assert!(
        source.report.unpreserved.iter().any(|words| words == cure),
        "{:?}",
        source.report
    );
    let destination = shop.destination(&[]);
    destination.succeeded();
    assert!(shop.dst().join("kept").exists());
}
