//! The arguments as typed; what they mean is settled in `settings` and in each command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands;

/// Replicate volumes: between clusters, between namespaces, or on one machine without a cluster.
#[derive(Debug, Parser)]
#[command(
    name = "syncline",
    version,
    max_term_width = 100,
    propagate_version = true
)]
#[command(
    after_help = "Exit codes: 0 success, 1 failure, 2 wrong usage, 3 no such object, 4 no cluster answers, 5 the data folder is in use."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Global {
    /// Folder of the embedded cluster; the default is syncline in the user's data folder
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "SYNCLINE_DATA",
        hide_env_values = true
    )]
    #[arg(
        help = "Folder of the embedded cluster [default: $XDG_DATA_HOME/syncline or ~/.local/share/syncline]"
    )]
    pub(crate) data: Option<PathBuf>,
    /// Kubeconfig of the cluster to talk to [default: $KUBECONFIG, else the embedded cluster's]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Tell more on standard error; can be repeated
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a cluster on this machine, with the operator, until stopped
    Up(commands::up::Arguments),
    /// Create or change objects from YAML or JSON
    Apply(commands::apply::Arguments),
    /// Show objects
    Get(commands::get::Arguments),
    /// Delete objects
    Delete(commands::delete::Arguments),
    /// Show what a pod, or the latest mover of a replication, has printed
    Logs(commands::logs::Arguments),
    /// Show all replications at a glance
    Status(commands::status::Arguments),
    /// Use folders of this machine as volumes of the embedded cluster
    Volume(commands::volume::Arguments),
    /// Run the operator against a Kubernetes cluster
    Operator(Box<commands::operator::Arguments>),
    /// Show what the operator would do with the replications there are, without doing it
    Plan(commands::plan::Arguments),
    /// Print a completion script for a shell
    Completions(commands::completions::Arguments),
    /// Print the version
    Version,
    /// Run inside a mover pod
    #[command(hide = true)]
    Mover(commands::mover::Arguments),
    /// Set up a pod's root and become its process
    #[command(hide = true)]
    EmbeddedPodLauncher(commands::pod_launcher::Arguments),
}

impl Command {
    /// Whether the command stays and logs what it does.
    pub(crate) fn is_server(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Operator(_))
    }

    /// VolSync's flags for the log, where they are taken.
    pub(crate) fn zap(&self) -> Option<&commands::operator::Zap> {
        match self {
            Self::Operator(arguments) => Some(&arguments.zap),
            _ => None,
        }
    }
}

/// Which namespace a command acts in.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Scope {
    /// Namespace [default: the kubeconfig's]
    #[arg(long, short, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

/// Which namespaces an overview is of: all, unless one is named.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Overview {
    /// Namespace [default: all]
    #[arg(
        long,
        short,
        value_name = "NAMESPACE",
        conflicts_with = "all_namespaces"
    )]
    pub(crate) namespace: Option<String>,
    /// All namespaces, as without -n
    #[arg(long, short = 'A')]
    all_namespaces: bool,
}

/// Which namespaces a command looks at.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct WideScope {
    #[command(flatten)]
    pub(crate) scope: Scope,
    /// All namespaces
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
}
