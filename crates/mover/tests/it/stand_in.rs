//! Our source against a destination that behaves like VolSync's: sshd, a forced command that lets rsync through rrsync,
//! and `shutdown N`.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::pair::{PORT, Pair, is_root, until};
use crate::tree;

pub(crate) struct StandIn {
    server: Child,
    code: PathBuf,
}

impl StandIn {
    /// Starts the server; `before` is shell that runs at the start of each command.
    pub(crate) fn start(pair: &Pair, before: &str) -> Self {
        if is_root() {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let code = pair.path("code");
        let script = pair.path("command");
        let text = format!(
            "#!/bin/bash\n{before}\nset -- $SSH_ORIGINAL_COMMAND\ncase \"$1\" in\n\
             rsync) exec /usr/bin/rrsync {dst} ;;\n\
             shutdown) echo \"$2\" > {code}; kill $(cat {pid}); exit 0 ;;\n\
             *) echo 'Invalid command' >&2; exit 1 ;;\nesac\n",
            dst = pair.dst().display(),
            code = code.display(),
            pid = pair.path("pid").display(),
        );
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let key = pair.path("host_key");
        std::fs::copy(pair.path("keys/destination"), &key).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let public = std::fs::read_to_string(pair.path("keys/source.pub")).unwrap();
        let authorized = pair.path("authorized_keys");
        std::fs::write(
            &authorized,
            format!("command=\"{}\",restrict {public}", script.display()),
        )
        .unwrap();
        let config = pair.path("sshd_config");
        let text = format!(
            "ListenAddress {}:{PORT}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile {}\n",
            pair.address,
            key.display(),
            authorized.display(),
            pair.path("pid").display(),
        );
        std::fs::write(&config, text).unwrap();
        let log = pair.path("sshd.log");
        let server = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        until("sshd listens", || {
            std::fs::read_to_string(&log)
                .unwrap()
                .contains("Server listening")
        });
        Self { server, code }
    }

    fn ended_with(mut self) -> String {
        until("sshd was told to end", || self.code.exists());
        self.server.wait().unwrap();
        std::fs::read_to_string(&self.code)
            .unwrap()
            .trim()
            .to_owned()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn volsyncs_destination_never_notices() {
    let pair = Pair::new();
    tree::fill(&pair.src());
    without_devices(&pair);
    let stand_in = StandIn::start(&pair, "");
    let source = pair.source(&[]);
    source.succeeded();
    assert!(
        source.log.contains("asking for less: times by the second"),
        "{}",
        source.log
    );
    assert_eq!(stand_in.ended_with(), "0");
    tree::compare(&pair.src(), &pair.dst(), tree::by_the_second);
}

#[test]
fn a_destination_that_takes_only_volsyncs_options_gets_those() {
    let pair = Pair::new();
    tree::fill(&pair.src());
    without_devices(&pair);
    let refuse = "case \"$SSH_ORIGINAL_COMMAND\" in *--numeric-ids*) \
                  echo 'rrsync error: option --numeric-ids has been disabled' >&2; exit 1;; esac";
    let stand_in = StandIn::start(&pair, refuse);
    let source = pair.source(&[]);
    source.succeeded();
    assert!(
        source
            .log
            .contains("no extended attributes, owners by name"),
        "{}",
        source.log
    );
    assert_eq!(stand_in.ended_with(), "0");
    tree::compare(&pair.src(), &pair.dst(), tree::as_volsync_keeps);
}

#[test]
fn an_empty_source_empties_volsyncs_destination_only_when_it_may() {
    let pair = Pair::new();
    let stand_in = StandIn::start(&pair, "");
    pair.source(&[]).succeeded();
    assert_eq!(stand_in.ended_with(), "0");

    std::fs::remove_file(pair.path("code")).unwrap();
    std::fs::write(pair.dst().join("precious"), "data").unwrap();
    let stand_in = StandIn::start(&pair, "");
    let source = pair.source(&[]);
    source.failed("SourceUnexpectedlyEmpty");
    let message = source.report.message.unwrap();
    assert!(message.contains("`precious`"), "{message}");
    assert!(pair.dst().join("precious").exists());

    pair.source(&[("ALLOW_EMPTY_SOURCE", "1")]).succeeded();
    assert_eq!(stand_in.ended_with(), "0");
    assert!(!pair.dst().join("precious").exists());
}

#[test]
fn a_lost_acknowledgment_is_no_success_and_the_transfer_is_repeated() {
    let pair = Pair::new();
    tree::fill(&pair.src());
    without_devices(&pair);
    let mark = pair.path("lost once");
    let lose = format!(
        "case \"$SSH_ORIGINAL_COMMAND\" in shutdown*) [ -e '{0}' ] || {{ touch '{0}'; kill -9 $PPID; exit 1; }};; esac",
        mark.display()
    );
    let stand_in = StandIn::start(&pair, &lose);
    let source = pair.source(&[]);
    source.succeeded();
    assert_eq!(source.report.attempts, Some(2), "{}", source.log);
    assert!(source.log.contains("NotConfirmed"), "{}", source.log);
    assert_eq!(stand_in.ended_with(), "0");
    tree::compare(&pair.src(), &pair.dst(), tree::by_the_second);
}

/// rrsync since 3.5 keeps devices and pipes out.
fn without_devices(pair: &Pair) {
    for name in ["fifo", "null"] {
        let path = pair.src().join(name);
        if path.symlink_metadata().is_ok() {
            std::fs::remove_file(path).unwrap();
        }
    }
}
