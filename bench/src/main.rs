//! Measurements. Not tests: nothing here passes or fails, and every figure stands beside what it is compared with.

mod cluster;
mod control_plane;
mod figures;
mod rclone;
mod requests;
mod timeline;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measure Syncline.
#[derive(Parser, Debug)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// The operator on a real Kubernetes (that of $KUBECONFIG), where it is installed by its chart
    ControlPlane(ControlPlane),
    /// The rclone mover, beside what VolSync's calls
    Rclone(rclone::Rclone),
}

/// What to measure, and on how much.
#[derive(clap::Args, Clone, Debug)]
struct ControlPlane {
    /// The API server's audit log; without it no requests are counted
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,
    /// Where the operator is installed, as NAMESPACE/DEPLOYMENT
    #[arg(long, value_name = "NAME", default_value = "syncline-system/syncline")]
    operator: String,
    /// How often each sync and each step of the floor is repeated
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    repeat: usize,
    /// How many resources are idle, and how many fail
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    resources: usize,
    /// How many schedules fire in the same minute
    #[arg(long, value_name = "NUMBER", default_value_t = 200)]
    schedules: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::ControlPlane(what) => control_plane::run(&what).await,
        Command::Rclone(what) => rclone::run(&what).await,
    }
}
