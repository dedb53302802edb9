//! What goes wrong has a name, and nothing is called success that is none.

use std::process::Command;

use rustix::process::Signal;

use crate::pair::{Pair, is_root, make_key, run};
use crate::tree;

#[test]
fn another_host_key_is_named_and_nothing_is_sent() {
    let pair = Pair::new();
    std::fs::write(pair.src().join("file"), "content").unwrap();
    let destination = pair.destination(&[]);
    std::fs::remove_file(pair.path("keys/destination")).unwrap();
    make_key(&pair.path("keys/other"), "ed25519");
    std::fs::copy(
        pair.path("keys/other.pub"),
        pair.path("keys/destination.pub"),
    )
    .unwrap();
    let source = pair.source(&[]);
    source.failed("HostKeyMismatch");
    assert_eq!(source.report.attempts, Some(1));
    assert!(!pair.dst().join("file").exists());
    drop(destination);
}

#[test]
fn a_host_key_of_another_kind_is_a_mismatch_too() {
    let pair = Pair::new();
    let _destination = pair.destination(&[]);
    make_key(&pair.path("keys/other"), "ecdsa");
    std::fs::copy(
        pair.path("keys/other.pub"),
        pair.path("keys/destination.pub"),
    )
    .unwrap();
    pair.source(&[]).failed("HostKeyMismatch");
}

#[test]
fn a_key_that_the_destination_does_not_know_is_named() {
    let pair = Pair::new();
    let _destination = pair.destination(&[]);
    make_key(&pair.path("keys/other"), "ed25519");
    std::fs::copy(pair.path("keys/other"), pair.path("keys/source")).unwrap();
    pair.source(&[]).failed("AuthenticationRefused");
}

#[test]
fn keys_that_are_missing_or_broken_are_named_at_either_end() {
    let pair = Pair::new();
    std::fs::write(pair.path("keys/source"), "no key").unwrap();
    pair.source(&[]).failed("KeyInvalid");
    std::fs::remove_file(pair.path("keys/source")).unwrap();
    pair.source(&[]).failed("KeyMissing");
    std::fs::remove_file(pair.path("keys/destination")).unwrap();
    pair.unready_destination(&[]).end().failed("KeyMissing");
}

#[test]
fn an_address_where_nobody_listens_is_tried_five_times() {
    let pair = Pair::new();
    let source = pair.source(&[("SYNCLINE_WAIT_UNIT_MS", "1")]);
    source.failed("PeerUnreachable");
    assert_eq!(source.report.attempts, Some(5));
    assert!(source.report.message.unwrap().contains(&pair.address));
}

#[test]
fn an_address_that_nobody_knows_is_named() {
    let pair = Pair::new();
    let source = pair.source(&[
        ("DESTINATION_ADDRESS", "no-such-host.invalid"),
        ("SYNCLINE_WAIT_UNIT_MS", "1"),
    ]);
    source.failed("AddressUnresolvable");
    assert!(
        source
            .report
            .message
            .unwrap()
            .contains("no-such-host.invalid")
    );
}

#[test]
fn a_source_started_first_waits_for_its_destination() {
    let pair = Pair::new();
    tree::fill(&pair.src());
    let source = pair.start_source(&[]);
    source.wait_for("PeerUnreachable");
    let destination = pair.destination(&[]);
    let source = source.end();
    source.succeeded();
    assert!(source.report.attempts.unwrap() > 1);
    destination.end().succeeded();
    tree::assert_same(&pair.src(), &pair.dst());
}

#[test]
fn a_destination_killed_in_the_middle_is_continued_by_the_next_one() {
    let pair = Pair::new();
    tree::fill(&pair.src());
    big_file(&pair);
    let first = pair.destination(&[]);
    let source = pair.start_source(&[]);
    first.wait_for("a transfer begins");
    first.kill_all();
    source.wait_for("next try in");
    let second = pair.destination(&[]);
    source.end().succeeded();
    second.end().succeeded();
    tree::assert_same(&pair.src(), &pair.dst());
}

#[test]
fn a_source_killed_in_the_middle_leaves_a_destination_that_goes_on_waiting() {
    let pair = Pair::new();
    tree::fill(&pair.src());
    big_file(&pair);
    let destination = pair.destination(&[]);
    let source = pair.start_source(&[]);
    destination.wait_for("a transfer begins");
    source.kill_all();
    destination.wait_for("the transfer");
    pair.source(&[]).succeeded();
    destination.end().succeeded();
    tree::assert_same(&pair.src(), &pair.dst());
}

#[test]
fn a_mover_that_is_told_to_stop_says_so() {
    let pair = Pair::new();
    big_file(&pair);
    let destination = pair.destination(&[]);
    let source = pair.start_source(&[]);
    destination.wait_for("a transfer begins");
    source.signal(Signal::TERM);
    source.end().failed("Interrupted");
    destination.signal(Signal::TERM);
    let log_file = destination.log();
    destination.end().failed("Interrupted");
    assert!(!log_file.contains("complete"));
    // Nothing of either is left to hold the address.
    let again = pair.destination(&[]);
    pair.source(&[]).succeeded();
    again.end().succeeded();
    tree::assert_same(&pair.src(), &pair.dst());
}

#[test]
fn a_server_that_cannot_listen_says_why() {
    let pair = Pair::new();
    let _first = pair.destination(&[]);
    let second = pair.unready_destination(&[]).end();
    second.failed("ServerFailed");
    assert_eq!(second.code, Some(255));
    assert!(second.log.contains("Address already in use"));
}

#[test]
fn a_full_destination_is_named() {
    if !is_root() {
        // Only root can mount a volume that is small enough to fill.
        return;
    }
    let pair = Pair::new();
    big_file(&pair);
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none"])
        .arg(pair.dst()));
    let destination = pair.destination(&[]);
    let source = pair.source(&[]);
    destination.kill_all();
    drop(destination);
    run(Command::new("umount").arg("-l").arg(pair.dst()));
    source.failed("DestinationFull");
    assert_eq!(source.report.attempts, Some(1));
}

#[test]
fn a_source_that_cannot_be_read_and_settings_that_make_no_sense_are_named() {
    let pair = Pair::new();
    std::fs::remove_dir(pair.src()).unwrap();
    pair.source(&[]).failed("SourceUnreadable");
    pair.source(&[("DESTINATION_PORT", "none")])
        .failed("InvalidSettings");
    pair.source(&[("DESTINATION_ADDRESS", "-oProxyCommand=id")])
        .failed("InvalidSettings");
    pair.unready_destination(&[("DESTINATION_PATH", "../up")])
        .end()
        .failed("InvalidSettings");
    pair.unready_destination(&[("DESTINATION_USER", "nobody-of-that-name")])
        .end()
        .failed("PodIncomplete");
    std::fs::remove_dir(pair.dst()).unwrap();
    pair.unready_destination(&[])
        .end()
        .failed("DestinationUnwritable");
}

/// Takes a moment to send.
fn big_file(pair: &Pair) {
    let target = format!("of={}", pair.src().join("big").display());
    run(Command::new("dd").args([
        "if=/dev/urandom",
        "bs=1M",
        "count=200",
        "status=none",
        &target,
    ]));
}

#[test]
fn a_source_that_loses_its_volume_between_two_tries_empties_nothing() {
    let pair = Pair::new();
    std::fs::write(pair.src().join("file"), "content").unwrap();
    std::fs::write(pair.dst().join("file"), "content").unwrap();
    let source = pair.start_source(&[
        ("LAST_SYNCED_ENTRIES", "1"),
        ("SYNCLINE_WAIT_UNIT_MS", "1500"),
    ]);
    source.wait_for("next try in");
    std::fs::remove_file(pair.src().join("file")).unwrap();
    let _destination = pair.destination(&[]);
    source.end().failed("SourceUnexpectedlyEmpty");
    assert!(pair.dst().join("file").exists());
}
