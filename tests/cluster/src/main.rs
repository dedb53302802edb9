//! A single-node Kubernetes for tests, in namespaces of its own on this machine.
//!
//! All programs come from pinned Go modules ([`programs`]). A first process ([`init`]) holds the namespaces in which
//! the parts ([`parts`]) run, so that nothing of a cluster is left once its processes have ended. `README.md` in this
//! folder tells how to look around in there.

mod cgroups;
mod cluster;
mod commands;
mod config;
mod control;
mod init;
mod parts;
mod pki;
mod place;
mod programs;
mod say;
mod shell;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};

use crate::cluster::Cluster;
use crate::commands::{down, import, prove_down, up};
use crate::control::Kind;
use crate::parts::Part;
use crate::place::Place;

/// A single-node Kubernetes for tests. `SYNCLINE_CLUSTER_DIR` says where it lives, `SYNCLINE_CACHE` where its programs are kept.
#[derive(Parser)]
#[command(name = "test-cluster")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the programs, unless they are in the cache.
    Build,
    /// Start the cluster, or what is missing of it; prints the path of its kubeconfig.
    Up,
    /// End the cluster and remove all of it.
    Down,
    /// Import images from tar archives (docker's layout), unless their tags are there.
    Import {
        /// The archives.
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Print the folder of the built programs: kubectl, helm, ctr, csi-sanity and all others.
    Tools,
    /// Print the path of the S3 server, which is built if it is not there. It needs no cluster.
    S3,
    /// Print the path of the kubeconfig.
    Kubeconfig,
    /// Stop a part and wait for its end.
    Stop {
        /// Which one.
        part: Part,
    },
    /// Start a part.
    Start {
        /// Which one.
        part: Part,
    },
    /// Freeze a part: it keeps its connections and answers nobody.
    Pause {
        /// Which one.
        part: Part,
    },
    /// Let a frozen part go on.
    Resume {
        /// Which one.
        part: Part,
    },
    /// Print the path of the API server's audit log.
    AuditLog,
    /// Print the path of the file that tells the CSI driver how to misbehave; files in the folder beside it, named
    /// after it with `.d`, count as well.
    Faults,
    /// Print where the cluster's file system is seen from the host.
    Root,
    /// Print the processes and how they are.
    Status,
    /// Run a command in the cluster's namespaces, a shell by default.
    Exec {
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Print what there is of the cluster outside its folder.
    Leftovers,
    /// Start and end clusters in all ways, in a folder of their own, and see that nothing is left.
    ProveDown,
    /// Become the first process's parent.
    #[command(hide = true)]
    Enter {
        /// Its control groups.
        group: String,
    },
    /// Become the first process.
    #[command(hide = true)]
    Init {
        /// Its control groups.
        group: String,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::note(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Enter { group } => return init::enter(&group),
        Task::Init { group } => return init::run(&group),
        Task::Build => return programs::build().map(drop),
        Task::Tools => {
            say::answer(&programs::build()?.folder.to_string_lossy());
            return Ok(());
        }
        Task::S3 => {
            say::answer(&programs::build_s3()?.to_string_lossy());
            return Ok(());
        }
        _ => {}
    }
    let place = Place::of_environment()?;
    match task {
        Task::Up => {
            prepare_machine()?;
            up::run(&place, programs::build()?)
        }
        Task::Down => down::run(&place),
        Task::ProveDown => prove_down::run(&place),
        Task::Kubeconfig => {
            Cluster::running(&place)?;
            say::answer(&place.kubeconfig().to_string_lossy());
            Ok(())
        }
        Task::Leftovers => {
            for line in down::leftovers(&place)? {
                say::answer(&line);
            }
            Ok(())
        }
        task => with_cluster(task, &Cluster::running(&place)?),
    }
}

/// The commands that need a running cluster.
fn with_cluster(task: Task, cluster: &Cluster) -> Result<()> {
    match task {
        Task::Import { archives } => import::run(cluster, &archives),
        Task::Stop { part } => cluster.stop(part),
        Task::Start { part } => cluster.start(part),
        Task::Pause { part } => cluster.signal_part(part, Kind::Pause),
        Task::Resume { part } => cluster.signal_part(part, Kind::Resume),
        Task::Exec { command } => exec(cluster, &command),
        Task::AuditLog => {
            say::answer(&cluster.setup.audit_log().to_string_lossy());
            Ok(())
        }
        Task::Faults => {
            say::answer(&cluster.setup.place.text("faults.json"));
            Ok(())
        }
        Task::Root => {
            say::answer(&format!("/proc/{}/root", cluster.first_process()?));
            Ok(())
        }
        _ => {
            for (name, state) in cluster.processes()? {
                say::answer(&format!("{name}: {state:?}"));
            }
            Ok(())
        }
    }
}

fn exec(cluster: &Cluster, command: &[String]) -> Result<()> {
    let shell = ["bash".to_owned()];
    let command = if command.is_empty() { &shell } else { command };
    let error = cluster.inside()?.args(command).exec();
    Err(error).context("cannot run nsenter: install util-linux")
}

/// What the cluster takes from Debian.
const PACKAGES: [&str; 10] = [
    "btrfs-progs",
    "conntrack",
    "containernetworking-plugins",
    "curl",
    "iproute2",
    "iptables",
    "mount",
    "nftables",
    "runc",
    "util-linux",
];

fn prepare_machine() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a cluster needs root, for its namespaces and containers: use sudo"
    );
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/ensure-tools");
    let installed = Command::new(tool).args(PACKAGES).status();
    ensure!(
        installed
            .with_context(|| format!("cannot run {tool}"))?
            .success(),
        "the cluster's packages are not there"
    );
    Ok(())
}
