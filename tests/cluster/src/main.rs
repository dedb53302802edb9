//! A single-node Kubernetes for tests: real programs, built from pinned Go modules, in namespaces of their own.
//!
//! `up` starts one supervisor in new pid, mount, network, uts and ipc namespaces; everything else are its children. When
//! the supervisor ends, however it does, the kernel takes processes, mounts, links and rules away with the namespaces.

mod address;
mod command;
mod config;
mod control;
mod down;
mod folders;
mod image;
mod mounts;
mod parts;
mod pki;
mod programs;
mod supervisor;
mod up;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::control::Request;
use crate::folders::State;
use crate::parts::Name;

/// A single-node Kubernetes for tests.
#[derive(Parser, Debug)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Build the programs, unless they are in the cache
    Build,
    /// Start the cluster unless it runs; prints its kubeconfig
    Up,
    /// Stop the cluster and take everything of it away
    Down,
    /// Load images from docker archives
    Import {
        /// The archives
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Print the folder of the stock tools: kubectl, helm, csi-sanity, ctr
    Tools,
    /// Print the kubeconfig's path
    Kubeconfig,
    /// Print the path of the API server's audit log
    AuditLog,
    /// Print the path of the file that tells the CSI driver what to do wrong
    Faults,
    /// Print a path under which the cluster's own file system is seen from here
    Root,
    /// Stop a part of the cluster
    Stop {
        /// Which
        part: Name,
    },
    /// Start a part that was stopped
    Start {
        /// Which
        part: Name,
    },
    /// Freeze a part (SIGSTOP)
    Pause {
        /// Which
        part: Name,
    },
    /// Let a frozen part go on (SIGCONT)
    Resume {
        /// Which
        part: Name,
    },
    /// The first process of the cluster's namespaces
    #[command(hide = true)]
    Supervise,
}

fn main() -> Result<()> {
    let state = State::of_environment()?;
    match Arguments::parse().command {
        Command::Build => programs::build(),
        Command::Up => up::run(&state),
        Command::Down => down::run(&state),
        Command::Import { archives } => image::import(&state, &archives),
        Command::Tools => command::print(&programs::tools()?.display().to_string()),
        Command::Kubeconfig => command::print(&state.kubeconfig().display().to_string()),
        Command::AuditLog => command::print(&state.audit_log().display().to_string()),
        Command::Faults => command::print(&state.faults().display().to_string()),
        Command::Root => command::print(&control::root(&state)?.display().to_string()),
        Command::Stop { part } => control::ask(&state, Request::Stop(part)),
        Command::Start { part } => control::ask(&state, Request::Start(part)),
        Command::Pause { part } => control::ask(&state, Request::Pause(part)),
        Command::Resume { part } => control::ask(&state, Request::Resume(part)),
        Command::Supervise => supervisor::run(&state),
    }
}
