//! Both ends ours.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;

use rstest::rstest;

use crate::pair::{As, Pair, is_root, run};
use crate::tree;

fn sync(pair: &Pair) -> (crate::pair::Ended, crate::pair::Ended) {
    let destination = pair.destination(&[]);
    let source = pair.source(&[]);
    source.succeeded();
    let destination = destination.end();
    destination.succeeded();
    (source, destination)
}

#[rstest]
#[case::with_syncline_keys("ed25519")]
#[case::with_volsync_keys("rsa")]
#[case::with_other_keys("ecdsa")]
fn a_volume_arrives_whole_and_later_runs_send_what_changed(#[case] key_type: &str) {
    let pair = Pair::of(As::Caller, key_type);
    tree::fill(&pair.src());
    let (source, _) = sync(&pair);
    tree::assert_same(&pair.src(), &pair.dst());
    assert!(!pair.dst().join("lost+found").exists());
    let files = source.report.files_transferred.unwrap();
    let entries = i64::try_from(tree::manifest(&pair.src()).len()).unwrap() - 1;
    assert_eq!(source.report.entries, Some(entries));
    assert_eq!(source.report.attempts, Some(1));
    assert!(files > 200);

    tree::change(&pair.src());
    let (source, _) = sync(&pair);
    tree::assert_same(&pair.src(), &pair.dst());
    assert!(
        source.report.files_transferred.unwrap() <= 4,
        "{}",
        source.log
    );
    assert!(source.report.bytes_sent.unwrap() < 40_000, "{}", source.log);
}

#[test]
fn reports_and_logs_say_what_users_look_for() {
    let pair = Pair::new();
    tree::fill(&pair.src());
    let (source, destination) = sync(&pair);
    let logs = &source.report.logs;
    assert!(
        logs.lines()
            .any(|line| line.starts_with("sent ") && line.contains(" bytes  received ")),
        "{logs}"
    );
    assert!(
        logs.contains("total size is ") && logs.contains("Rsync completed in "),
        "{logs}"
    );
    assert_eq!(logs.lines().count(), 3);
    assert!(destination.report.logs.contains("Rsync completed in "));
    let progress: Vec<_> = source
        .log
        .lines()
        .filter_map(syncline_api::report::parse_line)
        .collect();
    let last = progress.last().unwrap();
    assert_eq!(last.files_done, source.report.entries);
    assert_eq!(last.bytes_done, last.bytes_total);
    assert!(source.log.contains("shutdown 0 acknowledged"));
    for text in [&source.log, &destination.log] {
        assert!(!text.contains("PRIVATE KEY"));
    }
    let left: Vec<PathBuf> = std::fs::read_dir(pair.path("tmp"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(left.is_empty(), "copies of keys are left behind: {left:?}");
}

#[test]
fn what_is_only_at_the_destination_goes_but_lost_and_found_stays() {
    let pair = Pair::new();
    tree::fill(&pair.src());
    std::fs::create_dir_all(pair.dst().join("lost+found/stray")).unwrap();
    std::fs::create_dir_all(pair.dst().join("old/stuff")).unwrap();
    sync(&pair);
    tree::assert_same(&pair.src(), &pair.dst());
    assert!(pair.dst().join("lost+found/stray").exists());
}

#[test]
fn paths_of_source_and_destination_lie_beneath_one_another() {
    let pair = Pair::new();
    tree::fill(&pair.src());
    std::fs::write(pair.dst().join("neighbour"), "untouched").unwrap();
    let destination = pair.destination(&[("DESTINATION_PATH", "/tenants/one")]);
    pair.source(&[("DESTINATION_PATH", "/with space/deep/")])
        .succeeded();
    destination.end().succeeded();
    tree::compare(
        &pair.src(),
        &pair.dst().join("tenants/one/with space/deep"),
        |_| {},
    );
    assert!(pair.dst().join("neighbour").exists());
}

#[test]
fn an_ordinary_user_with_the_name_root_replicates_what_is_its_own() {
    let pair = if is_root() {
        Pair::of(As::Ordinary, "ed25519")
    } else {
        Pair::new()
    };
    let fill = || {
        for (name, content) in [("one", "1"), ("two", "22"), ("sub/three", "333")] {
            let path = pair.src().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        xattr::set(pair.src().join("one"), "user.note", b"kept").unwrap();
        if is_root() {
            pair.give_away();
        }
    };
    fill();
    sync(&pair);
    tree::assert_same(&pair.src(), &pair.dst());
}

#[test]
fn both_ends_speak_ipv6() {
    // A machine without IPv6 has nobody to speak it with.
    let Ok(free) = std::net::TcpListener::bind("[::1]:0") else {
        return;
    };
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let mut pair = Pair::new();
    "::1".clone_into(&mut pair.address);
    std::fs::write(pair.src().join("file"), "content").unwrap();
    let destination = pair.destination(&[("SYNCLINE_SSH_PORT", &port)]);
    pair.source(&[("DESTINATION_PORT", &port)]).succeeded();
    destination.end().succeeded();
    tree::assert_same(&pair.src(), &pair.dst());
}

#[test]
fn an_empty_source_is_sent_when_it_always_was_empty_or_may_be_for_once() {
    let pair = Pair::new();
    sync(&pair);
    std::fs::write(pair.dst().join("precious"), "data").unwrap();
    let source = pair.source(&[("LAST_SYNCED_ENTRIES", "5")]);
    source.failed("SourceUnexpectedlyEmpty");
    assert!(pair.dst().join("precious").exists());
    let destination = pair.destination(&[]);
    let source = pair.source(&[("LAST_SYNCED_ENTRIES", "5"), ("ALLOW_EMPTY_SOURCE", "1")]);
    source.succeeded();
    assert_eq!(source.report.entries, Some(0));
    destination.end().succeeded();
    assert!(!pair.dst().join("precious").exists());
}

#[test]
fn an_empty_source_that_was_never_sent_empties_no_copy_unless_it_may() {
    let pair = Pair::new();
    std::fs::create_dir(pair.src().join("lost+found")).unwrap();
    std::fs::create_dir_all(pair.dst().join("lost+found/stray")).unwrap();
    let (source, _) = sync(&pair);
    assert_eq!(source.report.entries, Some(0));

    std::fs::create_dir(pair.dst().join("folder")).unwrap();
    std::fs::write(pair.dst().join("folder/precious"), "data").unwrap();
    let mut destination = pair.destination(&[]);
    let source = pair.source(&[]);
    source.failed("SourceUnexpectedlyEmpty");
    assert_eq!(source.report.attempts, Some(1), "{}", source.log);
    let message = source.report.message.unwrap();
    for words in [
        "2 entries",
        "`folder/precious`",
        "syncline.dev/allow-empty-source=yes",
    ] {
        assert!(message.contains(words), "{message}");
    }
    assert!(!source.log.contains("*deleting"), "{}", source.log);
    assert!(pair.dst().join("folder/precious").exists());

    assert!(destination.is_running(), "the next run finds it there");
    pair.source(&[("ALLOW_EMPTY_SOURCE", "1")]).succeeded();
    destination.end().succeeded();
    assert!(!pair.dst().join("folder").exists());
    assert!(pair.dst().join("lost+found/stray").exists());
}

#[test]
fn an_empty_source_that_was_never_sent_asks_about_its_own_folder_of_the_destination() {
    let pair = Pair::new();
    std::fs::write(pair.dst().join("neighbour"), "untouched").unwrap();
    let destination = pair.destination(&[]);
    pair.source(&[("DESTINATION_PATH", "/not/yet/there")])
        .succeeded();
    destination.end().succeeded();
    std::fs::write(pair.dst().join("not/yet/there/precious"), "data").unwrap();
    let _destination = pair.destination(&[]);
    pair.source(&[("DESTINATION_PATH", "/not/yet/there")])
        .failed("SourceUnexpectedlyEmpty");
    assert!(pair.dst().join("not/yet/there/precious").exists());
    assert!(pair.dst().join("neighbour").exists());
}

#[test]
fn attributes_that_the_destination_may_not_set_are_left_out_and_named() {
    let mut pair = Pair::new();
    std::fs::write(pair.src().join("file"), "content").unwrap();
    xattr::set(pair.src().join("file"), "user.note", b"kept").unwrap();
    if is_root() {
        xattr::set(pair.src().join("file"), "trusted.mark", b"root only").unwrap();
        run(Command::new("chown")
            .arg("4711:4712")
            .arg(pair.src().join("file")));
        pair.before_destination = rights_of_the_container();
    }
    let (source, _) = sync(&pair);
    let copy = pair.dst().join("file");
    if is_root() {
        assert!(
            source.log.contains("users' extended attributes only"),
            "{}",
            source.log
        );
        let metadata = std::fs::metadata(&copy).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (4711, 4712));
    }
    assert_eq!(xattr::get(&copy, "user.note").unwrap().unwrap(), b"kept");
    assert_eq!(xattr::get(&copy, "trusted.mark").unwrap_or_default(), None);
}

/// Words that run a program with the capabilities of VolSync's rsync movers, and no way to more.
fn rights_of_the_container() -> Vec<String> {
    let rights = "-all,+audit_write,+chown,+dac_override,+fowner,+setgid,+setuid,+sys_chroot";
    [
        "setpriv",
        "--no-new-privs",
        "--inh-caps=-all",
        &format!("--bounding-set={rights}"),
        "--",
    ]
    .map(str::to_owned)
    .to_vec()
}
