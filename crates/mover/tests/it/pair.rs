//! Two ends with folders and keys of their own, on a loopback address that no other test uses.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use syncline_api::report::Report;

/// The mover's program.
pub(crate) const MOVER: &str = env!("CARGO_BIN_EXE_syncline-mover");
/// The port that destinations listen on, by contract.
pub(crate) const PORT: u16 = 8022;
/// Longer than anything here takes on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Whom the programs run as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// Whoever runs the tests.
    Caller,
    /// An ordinary user that has the login name `root` and the mover as login shell, as in pods. Needs root to set up.
    Ordinary,
}

/// The uid of the ordinary user. It needs no account on the machine.
pub(crate) const ORDINARY_UID: u32 = 54_321;

pub(crate) struct Pair {
    folder: tempfile::TempDir,
    pub(crate) address: String,
    pub(crate) user: String,
    who: As,
    /// Words before the destination's program.
    pub(crate) before_destination: Vec<String>,
}

pub(crate) struct Running {
    child: Child,
    log: PathBuf,
    report: PathBuf,
}

/// How a mover ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
    pub(crate) report: Report,
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::of(As::Caller, "ed25519")
    }

    pub(crate) fn of(who: As, key_type: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("m")
            .tempdir_in("/tmp")
            .unwrap();
        let user = if who == As::Ordinary || is_root() {
            "root".to_owned()
        } else {
            own_name()
        };
        let pair = Self {
            address: unused_address(),
            user,
            who,
            before_destination: Vec::new(),
            folder,
        };
        for name in ["src", "dst", "keys", "tmp"] {
            std::fs::create_dir(pair.path(name)).unwrap();
        }
        for name in ["source", "destination"] {
            make_key(&pair.path("keys").join(name), key_type);
        }
        if who == As::Ordinary {
            pair.give_away();
        }
        pair
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn src(&self) -> PathBuf {
        self.path("src")
    }

    pub(crate) fn dst(&self) -> PathBuf {
        self.path("dst")
    }

    /// Everything in the pair's folder to the ordinary user.
    pub(crate) fn give_away(&self) {
        let owner = format!("{ORDINARY_UID}:{ORDINARY_UID}");
        run(Command::new("chown")
            .args(["-hR", &owner])
            .arg(self.folder.path()));
    }

    /// The destination's process, once it listens.
    pub(crate) fn destination(&self, variables: &[(&str, &str)]) -> Running {
        let running = self.unready_destination(variables);
        running.wait_for("Server listening on");
        running
    }

    pub(crate) fn unready_destination(&self, variables: &[(&str, &str)]) -> Running {
        let (log, report) = (self.path("dst.log"), self.path("dst.report"));
        let mut command = self.mover("destination", &self.before_destination);
        self.environment(&mut command, "dst", &report);
        command
            .env("POD_IP", &self.address)
            .envs(variables.iter().copied());
        let output = File::create(&log).unwrap();
        let child = command
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Running { child, log, report }
    }

    /// The source, run to its end.
    pub(crate) fn source(&self, variables: &[(&str, &str)]) -> Ended {
        self.start_source(variables).end()
    }

    pub(crate) fn start_source(&self, variables: &[(&str, &str)]) -> Running {
        let (log, report) = (self.path("src.log"), self.path("src.report"));
        let mut command = self.mover("source", &[]);
        self.environment(&mut command, "src", &report);
        command
            .env("DESTINATION_ADDRESS", &self.address)
            .env("DESTINATION_PORT", PORT.to_string())
            .env("DESTINATION_USER", &self.user)
            .env("SYNCLINE_WAIT_UNIT_MS", "100")
            .envs(variables.iter().copied());
        let output = File::create(&log).unwrap();
        let child = command
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Running { child, log, report }
    }

    /// `ssh`, as a stock client with the source's key would call it.
    pub(crate) fn ssh(&self, key: &str) -> Command {
        let known = self.path("known_hosts");
        let public = std::fs::read_to_string(self.path("keys/destination.pub")).unwrap();
        std::fs::write(&known, format!("[{}]:{PORT} {public}", self.address)).unwrap();
        let mut command = Command::new("ssh");
        command.args([
            "-F",
            "/dev/null",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
        ]);
        command.args([
            "-o",
            "IdentitiesOnly=yes",
            "-p",
            &PORT.to_string(),
            "-l",
            &self.user,
        ]);
        command
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", known.display()));
        // ssh itself wants a key that is private.
        let own = self.path(&format!("private-{key}"));
        if !own.exists() {
            std::fs::copy(self.path("keys").join(key), &own).unwrap();
            std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        command.arg("-i").arg(own);
        command
    }

    /// Runs a command at the destination as a stock client would.
    pub(crate) fn say(&self, words: &[&str]) -> Output {
        self.ssh("source")
            .arg(&self.address)
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// VolSync's own call of rsync, and what it says afterwards.
    pub(crate) fn volsync_rsync(&self, more: &[&str], target: &str) -> Output {
        let ssh = self.ssh("source");
        let words: Vec<_> = std::iter::once(ssh.get_program())
            .chain(ssh.get_args())
            .map(|word| word.to_str().unwrap().to_owned())
            .collect();
        let mut command = Command::new("rsync");
        command
            .args([
                "-aAhHSxz",
                "--delete",
                "--itemize-changes",
                "--info=stats2,misc2",
            ])
            .args(more);
        command
            .arg("-e")
            .arg(words.join(" "))
            .arg(format!("{}/", self.src().display()));
        command
            .arg(format!("{}@{}:{target}", self.user, self.address))
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    fn mover(&self, role: &str, before: &[String]) -> Command {
        let mut words: Vec<String> = match self.who {
            As::Caller => Vec::new(),
            As::Ordinary => self.as_ordinary_user(),
        };
        words.extend(before.iter().cloned());
        words.extend([MOVER, "mover", "rsync", role].map(str::to_owned));
        let (program, arguments) = words.split_first().unwrap();
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .process_group(0);
        command
    }

    /// Words that run the following program with the ordinary user's uid and accounts of its own.
    fn as_ordinary_user(&self) -> Vec<String> {
        let line = format!(
            "root:x:{ORDINARY_UID}:{ORDINARY_UID}::/:{MOVER}\nsshd:x:102:65534::/:/bin/false\n"
        );
        std::fs::write(self.path("passwd"), line).unwrap();
        // sshd takes an account whose entry it cannot read for a locked one.
        std::fs::write(self.path("shadow"), "root:*:20000::::::\n").unwrap();
        let script = "mount --bind \"$1/passwd\" /etc/passwd && \
                      mount --bind \"$1/shadow\" /etc/shadow && \
                      exec setpriv --reuid \"$2\" --regid \"$2\" --clear-groups -- \"${@:3}\"";
        let folder = self.folder.path().to_str().unwrap();
        let uid = ORDINARY_UID.to_string();
        let words = [
            "unshare", "--mount", "bash", "-c", script, "bash", folder, &uid,
        ];
        words.map(str::to_owned).to_vec()
    }

    fn environment(&self, command: &mut Command, data: &str, report: &Path) {
        File::create(report)
            .unwrap()
            .set_permissions(std::fs::Permissions::from_mode(0o666))
            .unwrap();
        let variables: BTreeMap<&str, PathBuf> = BTreeMap::from([
            ("SYNCLINE_DATA_DIR", self.path(data)),
            ("SYNCLINE_KEYS_DIR", self.path("keys")),
            ("TMPDIR", self.path("tmp")),
            ("TERMINATION_LOG", report.to_owned()),
        ]);
        command.envs(variables);
    }
}

impl Running {
    /// Starts `command`, a mover that writes its report to `report`, with its output in `log`.
    pub(crate) fn start(mut command: Command, log: PathBuf, report: PathBuf) -> Self {
        File::create(&report)
            .unwrap()
            .set_permissions(std::fs::Permissions::from_mode(0o666))
            .unwrap();
        let output = File::create(&log).unwrap();
        let child = command
            .env("TERMINATION_LOG", &report)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0)
            .spawn()
            .unwrap();
        Self { child, log, report }
    }

    /// Waits for the end of a mover that may have been killed, and gives its exit code, and its report if it left one.
    pub(crate) fn end_somehow(mut self) -> (Option<i32>, Option<Report>, String) {
        let code = self.child.wait().unwrap().code();
        let text = std::fs::read_to_string(&self.report).unwrap();
        (code, Report::parse(&text).ok(), self.log())
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// Waits until the log contains `words`.
    pub(crate) fn wait_for(&self, words: &str) {
        until(&format!("`{words}` in\n{}", self.log.display()), || {
            self.log().contains(words)
        });
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Kills the mover and what it started, as the end of its pod would.
    pub(crate) fn kill_all(&self) {
        let group =
            rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    }

    /// Waits for the end and reads the report.
    pub(crate) fn end(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "the mover does not end:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        let text = std::fs::read_to_string(&self.report).unwrap();
        assert!(text.len() <= 4096);
        let report = Report::parse(&text).unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        Ended {
            code: status.code(),
            log: self.log(),
            report,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Its sshd too, which no pod's end takes along here.
            self.kill_all();
            let _ = self.child.wait();
        }
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn succeeded(&self) {
        assert_eq!(self.code, Some(0), "{}\n{:?}", self.log, self.report);
        assert_eq!(self.report.reason, None);
    }

    #[track_caller]
    pub(crate) fn failed(&self, reason: &str) {
        assert_ne!(self.code, Some(0), "{}", self.log);
        assert_eq!(self.report.reason.as_deref(), Some(reason), "{}", self.log);
        assert!(
            self.report
                .message
                .as_deref()
                .is_some_and(|message| message.len() > 20)
        );
        assert!(!self.log.contains("PRIVATE KEY"));
    }

    /// Failed for `reason`, with `part` in its message.
    #[track_caller]
    pub(crate) fn failed_saying(&self, reason: &str, part: &str) {
        self.failed(reason);
        let message = self.report.message.as_deref().unwrap_or_default();
        assert!(message.contains(part), "{message}");
    }
}

/// Looks again and again until `what` holds.
#[track_caller]
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(crate) fn make_key(path: &Path, key_type: &str) {
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-t", key_type, "-N", "", "-C", "", "-f"])
        .arg(path);
    if key_type == "rsa" {
        command.args(["-b", "2048"]);
    }
    run(&mut command);
    // As Kubernetes mounts Secrets of pods that have an fsGroup.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
}

fn own_name() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An address of 127.0.0.0/8 that no other test of this machine is likely to have.
pub(crate) fn unused_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let process = std::process::id();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(
        "127.{}.{}.{number}",
        128 + process / 256 % 100,
        process % 256
    )
}
