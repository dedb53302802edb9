//! VolSync's source, which is stock ssh and rsync, against our destination.

use crate::pair::Pair;
use crate::tree;

#[test]
fn volsyncs_source_never_notices() {
    let pair = Pair::new();
    tree::fill(&pair.src());
    std::fs::remove_dir_all(pair.src().join("lost+found")).unwrap();
    let destination = pair.destination(&[]);
    let rsync = pair.volsync_rsync(&[], ".");
    assert!(
        rsync.status.success(),
        "{}",
        String::from_utf8_lossy(&rsync.stderr)
    );
    let shutdown = pair.say(&["shutdown", "0"]);
    assert!(
        shutdown.status.success(),
        "{}",
        String::from_utf8_lossy(&shutdown.stderr)
    );
    destination.end().succeeded();
    // VolSync sends no extended attributes.
    tree::compare(&pair.src(), &pair.dst(), tree::as_volsync_keeps);
}

#[test]
fn absolute_and_quoted_paths_mean_folders_of_the_volume() {
    let pair = Pair::new();
    std::fs::write(pair.src().join("file"), "content").unwrap();
    let _destination = pair.destination(&[]);
    for (target, place) in [
        ("/one", "one"),
        ("two words", "two words"),
        ("./three/", "three"),
        ("deep/er/", "deep/er"),
    ] {
        let rsync = pair.volsync_rsync(&["--mkpath"], target);
        assert!(
            rsync.status.success(),
            "{target}: {}",
            String::from_utf8_lossy(&rsync.stderr)
        );
        assert!(pair.dst().join(place).join("file").exists(), "{target}");
    }
}

#[test]
fn the_end_is_refused_before_data_came_after_a_dry_run_and_after_a_failure() {
    let pair = Pair::new();
    std::fs::write(pair.src().join("file"), "content").unwrap();
    let mut destination = pair.destination(&[]);
    let refused = |why: &str| {
        let said = pair.say(&["shutdown", "0"]);
        assert_eq!(said.status.code(), Some(1));
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(text.contains(why), "{text}");
    };
    refused("nothing has been received yet");
    assert!(pair.volsync_rsync(&["--dry-run"], ".").status.success());
    refused("nothing has been received yet");
    // The sender dies in the middle: its receiver ends with an error.
    assert!(
        !pair
            .volsync_rsync(
                &["--rsync-path=rsync", "--remote-option=--no-such-option"],
                "."
            )
            .status
            .success()
    );
    refused("nothing has been received yet");
    assert!(destination.is_running());
    assert!(pair.volsync_rsync(&[], ".").status.success());
    assert!(pair.say(&["shutdown", "0"]).status.success());
    destination.end().succeeded();
}

#[test]
fn a_source_that_gives_up_ends_the_destination_with_its_code() {
    let pair = Pair::new();
    let destination = pair.destination(&[]);
    assert!(pair.say(&["shutdown", "23"]).status.success());
    let ended = destination.end();
    ended.failed("AbortedBySource");
    assert_eq!(ended.code, Some(23));
}
