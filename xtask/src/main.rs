//! Tasks of the house with logic in them: CRDs, layer check, the demo.

mod demo;

use clap::{Parser, Subcommand};

/// Tasks of the house.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Replicates real data on the embedded cluster and shows it (`make demo`).
    Demo(demo::Options),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Demo(options) => demo::run(&options),
    }
}
