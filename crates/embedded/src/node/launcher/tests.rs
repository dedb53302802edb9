//! Real processes in real roots: as root where the tests run as root, and as an ordinary user in any case.

mod programs;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::watch;

use super::spec::{Capabilities, Identity, Mount, RootFile, Source, Spec, VolumeFile};
use crate::clock::Clock;
use crate::node::container::{Exit, Launcher, Start};
use crate::node::log::{LogWriter, OpenLogs, tail};

const ORDINARY: u32 = 1000;

struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let wait = at.duration_since(Timestamp::now()).unsigned_abs();
        let wait = if at > Timestamp::now() {
            wait
        } else {
            std::time::Duration::ZERO
        };
        tokio::time::sleep(wait).boxed()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runner {
    Root,
    Ordinary,
}

/// Both ways in which this machine can run pods now.
fn runners() -> Vec<Runner> {
    if rustix::process::geteuid().is_root() {
        vec![Runner::Root, Runner::Ordinary]
    } else {
        vec![Runner::Ordinary]
    }
}

struct Bench {
    folder: TempDir,
    runner: Runner,
    spec: Spec,
    deadline: watch::Sender<Option<Timestamp>>,
}

impl Bench {
    fn new(runner: Runner, script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let words = ["/bin/sh", "-c", script];
        let spec = Spec {
            root_mount_point: root,
            executable: PathBuf::from("/bin/cat"),
            executable_target: PathBuf::from("/image-program"),
            programs: None,
            argv: words.iter().map(ToString::to_string).collect(),
            env: vec![
                ("PATH".to_owned(), crate::node::env::PATH.to_owned()),
                ("HOME".to_owned(), "/root".to_owned()),
            ],
            working_dir: PathBuf::from("/"),
            hostname: "the-pod".to_owned(),
            root_files: vec![
                RootFile {
                    path: "/etc/hosts".into(),
                    content: "127.0.0.1 localhost\n".to_owned(),
                },
                RootFile {
                    path: "/etc/nsswitch.conf".into(),
                    content: "passwd: files\nhosts: files dns\n".to_owned(),
                },
            ],
            identity: Identity {
                capabilities: Capabilities::Only(
                    [
                        "AUDIT_WRITE",
                        "CHOWN",
                        "DAC_OVERRIDE",
                        "FOWNER",
                        "SETGID",
                        "SETUID",
                        "SYS_CHROOT",
                    ]
                    .map(str::to_owned)
                    .to_vec(),
                ),
                no_new_privileges: true,
                ..Identity::default()
            },
            login_names: vec!["root".to_owned()],
            ..Spec::default()
        };
        Self {
            folder,
            runner,
            spec,
            deadline: watch::channel(None).0,
        }
    }

    /// A folder of the host that the pod's user owns.
    fn folder(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        self.give(&path);
        path
    }

    fn give(&self, path: &Path) {
        if self.runner == Runner::Ordinary && rustix::process::geteuid().is_root() {
            chown(path, Some(ORDINARY), Some(ORDINARY)).unwrap();
        }
    }

    /// The image's program, which is also the pod's login shell.
    fn program(mut self, path: &str) -> Self {
        self.spec.executable = PathBuf::from(path);
        self
    }

    fn mount(mut self, target: &str, source: Source, read_only: bool) -> Self {
        self.spec.mounts.push(Mount {
            target: target.into(),
            source,
            read_only,
        });
        self
    }

    fn launcher(&self) -> Launcher {
        let own = std::env::current_exe().unwrap();
        let program = own
            .parent()
            .and_then(Path::parent)
            .unwrap()
            .join("examples/pod-launcher");
        assert!(
            program.exists(),
            "{} is built by `cargo test` without --lib",
            program.display()
        );
        if self.runner == Runner::Root || !rustix::process::geteuid().is_root() {
            return Launcher {
                program,
                arguments: Vec::new(),
            };
        }
        let words = [
            "--reuid",
            "1000",
            "--regid",
            "1000",
            "--clear-groups",
            program.to_str().unwrap(),
        ];
        Launcher {
            program: "/usr/bin/setpriv".into(),
            arguments: words.map(str::to_owned).to_vec(),
        }
    }

    async fn run(&self) -> (Exit, String) {
        self.run_by(self.launcher()).await
    }

    async fn run_by(&self, launcher: Launcher) -> (Exit, String) {
        let clock: Arc<dyn Clock> = Arc::new(WallClock);
        let path = self.folder.path().join("0.log");
        let log = LogWriter::create(&path, OpenLogs::default(), Arc::clone(&clock))
            .await
            .unwrap();
        let start = Start {
            launcher,
            spec: self.spec.clone(),
            log,
            clock,
        };
        let started = || futures::future::ready(()).boxed();
        let exit = start.run(self.deadline.subscribe(), started).await.unwrap();
        (exit, tail(&path, 100_000).await)
    }
}

async fn output(bench: &Bench) -> String {
    let (exit, text) = bench.run().await;
    assert_eq!(exit, Exit::Code(0), "{:?}: {text}", bench.runner);
    text
}

/// Processes of the machine with `word` among their arguments.
fn processes_with(word: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            line.split(|byte| *byte == 0)
                .any(|argument| argument == word.as_bytes())
        })
        .count()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{what} did not come true in 10 s");
}

#[tokio::test]
async fn a_pod_sees_nothing_of_the_host_but_its_programs() {
    for runner in runners() {
        let bench = Bench::new(
            runner,
            "ls / /etc /home /root /tmp /opt; ls -d /proc/[0-9]*; hostname; env; ls /dev",
        );
        let seen = output(&bench).await;
        let words: Vec<&str> = seen.split_whitespace().collect();
        for absent in [
            "sys",
            "boot",
            "work",
            "machine-id",
            "sudoers",
            "ssh_config",
            "sda",
            "kmsg",
            "CARGO_MANIFEST_DIR",
        ] {
            assert!(!words.contains(&absent), "{runner:?} {absent}: {seen}");
        }
        assert!(
            words.contains(&"/proc/1")
                && seen.contains("the-pod")
                && words.contains(&"image-program")
        );
        let count = words
            .iter()
            .filter(|word| word.starts_with("/proc/"))
            .count();
        assert!(count <= 4, "{runner:?}: {seen}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(bench.folder.path().to_str().unwrap()));
    }
}

#[tokio::test]
async fn what_the_node_was_started_with_open_does_not_reach_a_pod() {
    use rustix::fs::{Mode, OFlags, open};
    let kept = tempfile::tempdir().unwrap();
    // Without CLOEXEC, as a shell's redirection leaves it.
    let left_open = open(kept.path(), OFlags::RDONLY, Mode::empty()).unwrap();
    for runner in runners() {
        let seen = output(&Bench::new(runner, "ls -l /proc/self/fd /proc/1/fd")).await;
        let name = kept.path().file_name().unwrap().to_str().unwrap();
        assert!(!seen.contains(name), "{runner:?}: {seen}");
    }
    drop(left_open);
}

#[tokio::test]
async fn a_device_node_that_a_pod_makes_does_not_open() {
    for runner in runners() {
        let script =
            "for at in /dev/own /own; do mknod $at c 1 3 && cat $at && echo opened; done; true";
        let mut bench = Bench::new(runner, script);
        bench.spec.identity.capabilities = Capabilities::Only(vec!["MKNOD".to_owned()]);
        let seen = output(&bench).await;
        assert!(!seen.contains("opened"), "{runner:?}: {seen}");
    }
}

#[tokio::test]
async fn volumes_are_where_the_pod_wants_them() {
    for runner in runners() {
        let bench = Bench::new(
            runner,
            "cat /data/file; echo new >/data/new; stat -c '%a %s' /keys/key; cat /keys/deep/er; \
             echo x 2>/dev/null >/keys/no || echo keys-ro; echo x 2>/dev/null >/ro/no || echo volume-ro; \
             echo x >/mem/x; echo x 2>/dev/null >/no || echo root-ro; cat /sub/inner",
        );
        let data = bench.folder("data");
        fs::write(data.join("file"), "content\n").unwrap();
        fs::create_dir(data.join("below")).unwrap();
        fs::write(data.join("below/inner"), "inner\n").unwrap();
        let host = |sub_path: Option<&str>| Source::Host {
            path: data.clone(),
            sub_path: sub_path.map(PathBuf::from),
        };
        let files = vec![
            VolumeFile {
                path: "key".into(),
                mode: 0o600,
                data: b"secret".to_vec(),
            },
            VolumeFile {
                path: "deep/er".into(),
                mode: 0o400,
                data: b"deeper\n".to_vec(),
            },
        ];
        let mut bench = bench
            .mount("/data", host(None), false)
            .mount("/ro", host(None), true)
            .mount("/sub", host(Some("below")), true)
            .mount(
                "/mem",
                Source::Memory {
                    size: Some(1 << 20),
                },
                false,
            )
            .mount(
                "/keys",
                Source::Files {
                    files,
                    group: None,
                    sub_path: None,
                },
                true,
            );
        bench.spec.read_only_root = true;
        let seen = output(&bench).await;
        let wanted = [
            "content",
            "600 6",
            "deeper",
            "keys-ro",
            "volume-ro",
            "root-ro",
            "inner",
        ];
        assert_eq!(seen.lines().collect::<Vec<_>>(), wanted, "{runner:?}");
        assert_eq!(fs::read_to_string(data.join("new")).unwrap(), "new\n");
    }
}

#[tokio::test]
async fn a_sub_path_cannot_leave_its_volume() {
    for runner in runners() {
        let bench = Bench::new(runner, "cat /here/hostname || ls -a /here");
        let data = bench.folder("data");
        symlink("/etc", data.join("out")).unwrap();
        let bench = bench.mount(
            "/here",
            Source::Host {
                path: data,
                sub_path: Some("out".into()),
            },
            true,
        );
        let (exit, seen) = bench.run().await;
        assert!(!seen.contains("passwd"), "{exit:?} {seen}");
        let up = Bench::new(runner, "true");
        let data = up.folder("data");
        let up = up.mount(
            "/here",
            Source::Host {
                path: data,
                sub_path: Some("../..".into()),
            },
            true,
        );
        let (Exit::NotStarted(message), _) = up.run().await else {
            panic!("it started")
        };
        assert!(message.contains("must stay inside its volume"), "{message}");
    }
}

#[tokio::test]
async fn exit_codes_and_signals_are_told_as_container_runtimes_do() {
    for runner in runners() {
        assert_eq!(Bench::new(runner, "exit 3").run().await.0, Exit::Code(3));
        assert_eq!(
            Bench::new(runner, "kill -9 $$").run().await.0,
            Exit::Code(137)
        );
        let (Exit::NotStarted(message), _) = ({
            let mut bench = Bench::new(runner, "");
            bench.spec.argv = vec!["/nothing/there".to_owned()];
            bench
        })
        .run()
        .await
        else {
            panic!("it started")
        };
        assert!(message.contains("/nothing/there"), "{message}");
    }
}

#[tokio::test]
async fn a_pod_is_asked_to_end_and_then_made_to() {
    for runner in runners() {
        let polite = Bench::new(
            runner,
            "trap 'echo bye; exit 7' TERM; echo ready; sleep 1000 & wait",
        );
        let log = polite.folder.path().join("0.log");
        let ask = async {
            until("the script", || {
                fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"))
            })
            .await;
            polite
                .deadline
                .send_replace(Some(WallClock.now() + jiff::SignedDuration::from_secs(60)));
        };
        let ((exit, seen), ()) = tokio::join!(polite.run(), ask);
        assert_eq!(
            (exit, seen.as_str()),
            (Exit::Code(7), "ready\nbye\n"),
            "{runner:?}"
        );

        let deaf = Bench::new(
            runner,
            "trap '' TERM; echo ready; while :; do sleep 1000; done",
        );
        let log = deaf.folder.path().join("0.log");
        let ask = async {
            until("the script", || {
                fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"))
            })
            .await;
            deaf.deadline.send_replace(Some(
                WallClock.now() + jiff::SignedDuration::from_millis(300),
            ));
        };
        let ((exit, _), ()) = tokio::join!(deaf.run(), ask);
        assert_eq!(exit, Exit::Code(137), "{runner:?}");
    }
}

#[tokio::test]
async fn when_the_node_is_gone_so_is_every_process_of_its_pods() {
    for runner in runners() {
        let word = format!("9{}", rand::random::<u32>());
        let script =
            format!("setsid sh -c 'trap \"\" TERM HUP; sleep {word}' & sleep {word} & wait");
        let bench = Bench::new(runner, &script);
        {
            let running = bench.run();
            let seen = until("both sleep", || processes_with(&word) == 2);
            tokio::select! {
                (exit, text) = running => panic!("{exit:?} {text}"),
                () = seen => {}
            }
            // Dropping the future kills the launcher as `kill -9` of the node would end it.
        }
        until("all are gone", || processes_with(&word) == 0).await;
    }
}

#[tokio::test]
async fn orphans_are_reaped_and_a_daemon_ends_with_its_container() {
    for runner in runners() {
        let word = format!("8{}", rand::random::<u32>());
        let script = format!(
            "(sh -c 'exit 0' &); setsid sleep {word} & for try in 1 2 3 4 5 6 7 8 9; do \
             ps -eo stat | grep -q Z || exit 0; sleep 0.2; done; exit 1"
        );
        let bench = Bench::new(runner, &script);
        assert_eq!(bench.run().await.0, Exit::Code(0), "{runner:?}");
        until("the daemon is gone", || processes_with(&word) == 0).await;
    }
}

#[tokio::test]
async fn identity_and_capabilities_are_those_of_the_pod_or_of_the_ordinary_caller() {
    let script = "id -u; id -g; id -G; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; echo x 2>/dev/null >/proc/sys/kernel/hostname";
    for runner in runners() {
        let mut bench = Bench::new(runner, &format!("{script} || echo sealed"));
        bench.spec.identity.uid = 4321;
        bench.spec.identity.gid = 4322;
        bench.spec.identity.groups = vec![4323];
        bench.spec.identity.capabilities = Capabilities::Only(vec!["CHOWN".to_owned()]);
        let seen = output(&bench).await;
        let own = rustix::process::geteuid().as_raw();
        let ids = match runner {
            Runner::Root => "4321\n4322\n4322 4323\n".to_owned(),
            Runner::Ordinary if own == 0 => format!("{ORDINARY}\n{ORDINARY}\n{ORDINARY}\n"),
            Runner::Ordinary => format!("{own}\n"),
        };
        assert!(seen.starts_with(&ids), "{runner:?}: {seen}");
        for line in [
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000001",
            "NoNewPrivs:\t1",
            "sealed",
        ] {
            assert!(seen.contains(line), "{runner:?} {line}: {seen}");
        }
    }
}

/// Two key pairs and an sshd configuration, as a mover would have them.
fn ssh_files() -> Vec<VolumeFile> {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for name in ["host", "login"] {
        let path = folder.path().join(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&path)
            .status();
        assert!(made.unwrap().success());
        files.push(VolumeFile {
            path: name.into(),
            mode: 0o600,
            data: fs::read(&path).unwrap(),
        });
        let public = path.with_extension("pub");
        files.push(VolumeFile {
            path: format!("{name}.pub").into(),
            mode: 0o644,
            data: fs::read(public).unwrap(),
        });
    }
    files
}

#[tokio::test]
async fn sshd_serves_in_a_pod_and_takes_a_login_by_key() {
    for runner in runners() {
        let octets = rand::random::<u16>().to_be_bytes();
        let address = format!("127.95.{}.{}", octets[0], octets[1].clamp(1, 254));
        let script = format!(
            "mkdir -m 700 -p /root/.ssh && cp /keys/login.pub /root/.ssh/authorized_keys && chmod 600 /root/.ssh/authorized_keys; \
             echo \"{address} $(cut -d' ' -f1,2 /keys/host.pub)\" | sed 's/^/[/; s/ /]:8022 /' >/tmp/known; \
             /usr/sbin/sshd -D -e -f /dev/null -h /keys/host -o UsePAM=no -o PidFile=none -o ListenAddress={address}:8022 & \
             for try in 1 2 3 4 5 6 7 8 9; do \
             ssh -F /dev/null -p 8022 -i /keys/login -o UserKnownHostsFile=/tmp/known -o StrictHostKeyChecking=yes -o BatchMode=yes \
             root@{address} 'echo login as $(id -u); cat /proc/1/comm' && exit 0; sleep 0.3; done; exit 9"
        );
        let files = Source::Files {
            files: ssh_files(),
            group: None,
            sub_path: None,
        };
        let bench = Bench::new(runner, &script)
            .program("/bin/dash")
            .mount("/keys", files, true)
            .mount("/tmp", Source::Memory { size: None }, false);
        let (exit, seen) = bench.run().await;
        assert_eq!(exit, Exit::Code(0), "{runner:?}: {seen}");
        let uid = match runner {
            Runner::Root => 0,
            Runner::Ordinary if rustix::process::geteuid().is_root() => ORDINARY,
            Runner::Ordinary => rustix::process::geteuid().as_raw(),
        };
        assert!(
            seen.contains(&format!("login as {uid}")),
            "{runner:?}: {seen}"
        );
    }
}

#[tokio::test]
async fn where_user_namespaces_are_forbidden_the_error_names_the_switch_and_the_cure() {
    let bench = Bench::new(Runner::Ordinary, "true");
    let script = "echo 0 >/proc/sys/user/max_user_namespaces; \
                  exec setpriv --bounding-set -sys_admin --inh-caps -sys_admin \"$0\" \"$@\"";
    let program = Bench::new(Runner::Root, "true").launcher().program;
    let words = ["-Ur", "sh", "-c", script].map(str::to_owned).into_iter();
    let words = words.chain([program.to_string_lossy().into_owned()]);
    let inner = Launcher {
        program: "unshare".into(),
        arguments: words.collect(),
    };
    let (exit, _) = bench.run_by(inner).await;
    let Exit::NotStarted(message) = exit else {
        panic!("it started: {exit:?}")
    };
    for part in [
        "user.max_user_namespaces is 0",
        "sysctl -w user.max_user_namespaces",
        "run syncline as root",
    ] {
        assert!(message.contains(part), "{message}");
    }
}
