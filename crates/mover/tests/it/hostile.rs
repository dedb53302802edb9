//! Key holders that try more than they may.

use std::process::Stdio;

use crate::pair::{Pair, make_key};

/// Commands that are not the destination's; `touch` and `log` would leave the canary.
fn forbidden<'a>(touch: &'a str, log: &'a str) -> Vec<Vec<&'a str>> {
    let receive = ["rsync", "--server", "-logDtpre.iLsfxCIvu"];
    vec![
        vec![],
        vec!["sh"],
        vec!["sh", "-c", touch],
        vec!["shutdown 0; ", touch],
        vec!["shutdown", "99999999999"],
        vec!["scp", "-t", "/"],
        vec![
            "rsync",
            "--server",
            "--sender",
            "-logDtpre.iLsfxCIvu",
            ".",
            "/etc",
        ],
        [&receive[..], &[log, ".", "."]].concat(),
        [&receive[..], &[".", "../src"]].concat(),
        [&receive[..], &[".", "a\x1b[2Jb"]].concat(),
        vec!["rsync", "--server", "--daemon", "."],
        vec!["diskrsync", "--target", "/dev/block"],
        vec!["syncline", "receive", "--proto", "1"],
    ]
}

#[test]
fn a_key_holder_gets_no_shell_and_no_files() {
    let pair = Pair::new();
    std::fs::write(pair.src().join("file"), "content").unwrap();
    let canary = pair.path("canary");
    let touch = format!("touch {}", canary.display());
    let log_file = format!("--log-file={}", canary.display());
    let mut destination = pair.destination(&[]);
    for words in forbidden(&touch, &log_file) {
        let output = pair.say(&words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("Invalid command: "), "{words:?}: {text}");
    }
    assert!(!canary.exists());
    assert!(destination.is_running());
    let log = destination.log();
    assert!(log.contains("Invalid command: `sh`"), "{log}");
    assert!(!log.contains('\u{1b}'));
    // The true source is served all the same.
    pair.source(&[]).succeeded();
    destination.end().succeeded();
}

#[test]
fn a_key_holder_gets_no_subsystem_and_no_tunnel() {
    let pair = Pair::new();
    let _destination = pair.destination(&[]);
    let calls: [&[&str]; 3] = [
        &["-s", &pair.address, "sftp"],
        &[
            "-N",
            "-o",
            "ExitOnForwardFailure=yes",
            "-R",
            "0:127.0.0.1:22",
            &pair.address,
        ],
        &["-W", "127.0.0.1:22", &pair.address],
    ];
    for call in calls {
        let output = pair
            .ssh("source")
            .args(call)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(!output.status.success(), "{call:?}");
    }
    let terminal = pair
        .ssh("source")
        .args(["-tt", &pair.address])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&terminal.stderr).contains("PTY allocation request failed"));
}

#[test]
fn a_link_that_was_sent_before_does_not_lead_out() {
    let pair = Pair::new();
    let outside = pair.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, pair.src().join("way out")).unwrap();
    std::os::unix::fs::symlink("..", pair.src().join("up")).unwrap();
    let _destination = pair.destination(&[]);
    assert!(pair.volsync_rsync(&[], ".").status.success());
    assert!(pair.dst().join("way out").is_symlink());
    std::fs::write(pair.src().join("file"), "content").unwrap();
    for target in [
        "way out",
        "way out/",
        "way out/new/",
        "up/outside/",
        "up",
        "way out/../x",
    ] {
        let rsync = pair.volsync_rsync(&["--mkpath"], target);
        assert!(!rsync.status.success(), "{target}");
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!pair.path("file").exists());
}

#[test]
fn another_key_is_not_let_in() {
    let pair = Pair::new();
    make_key(&pair.path("keys/stranger"), "ed25519");
    std::fs::set_permissions(
        pair.path("keys/stranger"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let _destination = pair.destination(&[]);
    let output = pair
        .ssh("stranger")
        .arg(&pair.address)
        .arg("shutdown 0")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"));
}

#[test]
fn a_second_transfer_waits_for_the_first_or_is_refused() {
    let pair = Pair::new();
    std::fs::write(pair.src().join("file"), "content").unwrap();
    let destination = pair.destination(&[]);
    // A server that is started and then hears nothing.
    let mut idle = pair
        .ssh("source")
        .args([&pair.address, "rsync --server -logDtpre.iLsfxCIvu . ."])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    destination.wait_for("a transfer begins");
    let rsync = pair.volsync_rsync(&[], ".");
    assert!(String::from_utf8_lossy(&rsync.stderr).contains("another transfer is running"));
    let early = pair.say(&["shutdown", "0"]);
    assert!(String::from_utf8_lossy(&early.stderr).contains("another transfer is running"));
    drop(idle.stdin.take());
    idle.wait().unwrap();
    pair.source(&[]).succeeded();
    destination.end().succeeded();
}

#[test]
fn a_merge_rule_does_not_read_files_outside_of_the_volume() {
    let pair = Pair::new();
    let secret = pair.path("keys/words");
    std::fs::write(&secret, "told\n").unwrap();
    std::os::unix::fs::symlink(&secret, pair.src().join("rules")).unwrap();
    let _destination = pair.destination(&[]);
    assert!(pair.volsync_rsync(&[], ".").status.success());
    let rules = [
        format!("--filter=dir-merge,- {}", secret.display()),
        "--filter=dir-merge,- ../keys/words".to_owned(),
        "--filter=dir-merge,- rules".to_owned(),
    ];
    for rule in rules {
        // A line that was read as a rule would keep the file of that name from being deleted.
        std::fs::write(pair.dst().join("told"), "").unwrap();
        let rsync = pair.volsync_rsync(&[&rule], ".");
        assert!(
            !rsync.status.success() || !pair.dst().join("told").exists(),
            "{rule}: {rsync:?}"
        );
    }
}

#[test]
fn many_sessions_at_once_do_not_deafen_the_destination() {
    let pair = Pair::new();
    std::fs::write(pair.src().join("file"), "content").unwrap();
    let mut destination = pair.destination(&[]);
    let calls: Vec<_> = (0..60)
        .map(|_| {
            pair.ssh("source")
                .args([&pair.address, "sh"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut call in calls {
        assert!(!call.wait().unwrap().success());
    }
    assert!(destination.is_running());
    pair.source(&[]).succeeded();
    destination.end().succeeded();
}
