//! `prove-down`: starts clusters in a folder of its own, ends them in all the ways in which one can end, and compares
//! this machine with what it was before.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{down, up};
use crate::cgroups::{Groups, hierarchies};
use crate::cluster::Cluster;
use crate::place::Place;
use crate::{say, shell};

/// When a start is broken off: in the midst of each of its steps.
const BROKEN_OFF: [Duration; 6] = [
    Duration::from_millis(60),
    Duration::from_millis(200),
    Duration::from_millis(700),
    Duration::from_millis(1500),
    Duration::from_secs(4),
    Duration::from_secs(6),
];
/// What a second start may take.
const SECOND_START: Duration = Duration::from_secs(20);
const BURIED: Duration = Duration::from_secs(10);
const POD: &str = include_str!("../../manifests/prove-down.yaml");
const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];

pub(crate) fn run(place: &Place) -> Result<()> {
    let folder = place.folder.with_extension("prove-down");
    let place = &Place::at(&folder)?;
    down::run(place)?;
    let before = Machine::look(place)?;

    ends(place, &before, "a cluster that was told to end", |_| Ok(()))?;
    ends(
        place,
        &before,
        "a cluster whose first process was killed",
        |place| {
            let first = Cluster::running(place)?.first_process()?;
            kill(&first)
        },
    )?;
    ends(
        place,
        &before,
        "a cluster whose parts were all killed but for the first",
        |place| {
            let first = Cluster::running(place)?.first_process()?;
            let all = Groups::of(&place.cgroup())?.processes();
            all.iter()
                .map(ToString::to_string)
                .filter(|pid| *pid != first)
                .try_for_each(|pid| kill(&pid))
        },
    )?;
    for after in BROKEN_OFF {
        let what = format!("a start that was broken off after {} ms", after.as_millis());
        say::step(&what, || {
            let mut start = start(place)?;
            std::thread::sleep(after);
            start.kill()?;
            start.wait()?;
            down::run(place)?;
            before.must_equal(&Machine::look(place)?)
        })?;
    }
    say::answer("nothing is left");
    Ok(())
}

/// A cluster starts, something happens to it, and it is told to end.
fn ends(
    place: &Place,
    before: &Machine,
    what: &str,
    happens: impl FnOnce(&Place) -> Result<()>,
) -> Result<()> {
    say::step(what, || {
        let begun = Instant::now();
        let status = start(place)?.wait()?;
        ensure!(status.success(), "the cluster did not start");
        ensure!(
            begun.elapsed() < SECOND_START,
            "a start with built programs took {:.1} s",
            begun.elapsed().as_secs_f64()
        );
        let cluster = Cluster::running(place)?;
        let namespaces = namespaces(&cluster.first_process()?)?;
        let disk = run_pod(&cluster)?;
        let inhabitants = inhabitants(&namespaces);
        ensure!(devices(&disk) > 0, "the disk {disk} is no loop device");
        happens(place)?;
        down::run(place)?;
        ensure!(!place.folder.exists(), "its folder is still there");
        ensure!(devices(&disk) == 0, "the disk {disk} is still attached");
        // Who has ended holds its namespaces until its parent, by now the machine's first process, has seen it. Their
        // numbers are given anew at once, to other programs' namespaces too: so it is asked who lived in them.
        shell::wait_for("the end of the namespaces", BURIED, || {
            let alive = inhabitants.iter().filter(|one| one.lives());
            let left: Vec<_> = alive.map(|one| one.pid.as_str()).collect();
            ensure!(left.is_empty(), "processes {left:?} are left");
            Ok(Some(()))
        })?;
        before.must_equal(&Machine::look(place)?)
    })
}

/// The name of its disk.
fn run_pod(cluster: &Cluster) -> Result<String> {
    up::apply(cluster, POD)?;
    let ready = ["wait", "--for=condition=Ready", "--timeout=60s", "pod/pod"];
    shell::output(&mut cluster.kubectl(&ready))?;
    let disk = ["get", "pvc", "disk", "--output=jsonpath={.spec.volumeName}"];
    shell::output(&mut cluster.kubectl(&disk))
}

/// How many loop devices a disk has; the kubelet has one of its own on top of the driver's.
fn devices(disk: &str) -> usize {
    names(Path::new("/sys/block"))
        .map(|device| format!("/sys/block/{device}/loop/backing_file"))
        .filter(|file| fs::read_to_string(file).is_ok_and(|file| file.contains(disk)))
        .count()
}

fn start(place: &Place) -> Result<Child> {
    Command::new(std::env::current_exe()?)
        .arg("up")
        .env("SYNCLINE_CLUSTER_DIR", &place.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start a cluster")
}

fn kill(pid: &str) -> Result<()> {
    let pid = pid.parse().ok().and_then(Pid::from_raw);
    let pid = pid.context("a process without a number")?;
    // It may have ended with another one.
    let _ = kill_process(pid, Signal::KILL);
    Ok(())
}

/// The namespaces of a process that are not this one's.
fn namespaces(pid: &str) -> Result<BTreeSet<PathBuf>> {
    let of = |pid: &str| -> Result<BTreeSet<PathBuf>> {
        NAMESPACES
            .iter()
            .map(|kind| Ok(fs::read_link(format!("/proc/{pid}/ns/{kind}"))?))
            .collect()
    };
    let (its, ours) = (of(pid)?, of("self")?);
    ensure!(
        its.is_disjoint(&ours),
        "the cluster shares a namespace with the host"
    );
    Ok(its)
}

/// A process, told apart from a later one with its number.
struct Inhabitant {
    pid: String,
    started: String,
}

impl Inhabitant {
    fn lives(&self) -> bool {
        started(&self.pid).as_ref() == Some(&self.started)
    }
}

/// When a process was started: the twentieth field after its name in brackets.
fn started(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

/// All processes that live in one of these namespaces.
fn inhabitants(namespaces: &BTreeSet<PathBuf>) -> Vec<Inhabitant> {
    names(Path::new("/proc"))
        .filter(|pid| {
            let link = |kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
            let lives_in = |kind: &&str| link(kind).is_ok_and(|one| namespaces.contains(&one));
            NAMESPACES.iter().any(lives_in)
        })
        .filter_map(|pid| {
            let started = started(&pid)?;
            Some(Inhabitant { pid, started })
        })
        .collect()
}

/// What a cluster could leave behind on this machine, line by line.
struct Machine {
    lines: BTreeSet<String>,
}

impl Machine {
    fn look(place: &Place) -> Result<Self> {
        let mut lines = BTreeSet::new();
        lines.extend(down::leftovers(place)?);
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        // Without the numbers, which change.
        let mounted = mounts.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
        lines.extend(mounted.map(|line| format!("mount {line}")));
        lines.extend(names(Path::new("/sys/class/net")).map(|name| format!("link {name}")));
        for hierarchy in hierarchies()? {
            let at = hierarchy.mount_point;
            lines.extend(names(&at).map(|name| format!("group {}/{name}", at.display())));
        }
        for words in [
            ["nft", "list", "ruleset"],
            ["ip", "route", "show"],
            ["ip", "rule", "show"],
        ] {
            let said = shell::output(&mut shell::command(&words))?;
            lines.extend(
                said.lines()
                    .map(|line| format!("{}: {line}", words.join(" "))),
            );
        }
        for setting in [
            "vm/overcommit_memory",
            "kernel/panic",
            "kernel/panic_on_oops",
            "net/ipv4/ip_forward",
        ] {
            let value = fs::read_to_string(Path::new("/proc/sys").join(setting))?;
            lines.insert(format!("{setting}: {}", value.trim()));
        }
        // Other clusters come and go meanwhile.
        let (link, group) = (format!("{} ", place.link()), place.cgroup());
        lines.retain(|line| {
            let ours = format!("{line} ").contains(&link) || line.contains(&group);
            ours || !(line.contains("sync") || line.contains("198.1"))
        });
        Ok(Self { lines })
    }

    fn must_equal(&self, after: &Self) -> Result<()> {
        let more: Vec<_> = after.lines.difference(&self.lines).collect();
        let less: Vec<_> = self.lines.difference(&after.lines).collect();
        if !more.is_empty() || !less.is_empty() {
            bail!("the machine is not as before; more: {more:?}, less: {less:?}");
        }
        Ok(())
    }
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
}
