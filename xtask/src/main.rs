//! Tasks of the house with logic in them: CRDs, permissions, checks of layers and documentation, demo.

mod crds;
mod demo;
mod docs;
mod layers;
mod rbac;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

/// Tasks of the house with logic in them.
#[derive(Parser)]
#[command(name = "xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write the custom resource definitions to deploy/crds.
    Crds(crds::Options),
    /// Write what the operator may do to the chart and to docs/permissions.md.
    GenRbac(rbac::Options),
    /// Check who depends on whom against the house plan.
    CheckLayers,
    /// Check the documentation: links, examples, and that every field is told of.
    CheckDocs,
    /// Replicate real data on the embedded cluster and show it.
    Demo(demo::Options),
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Crds(options) => crds::run(&options, &root()?),
        Task::GenRbac(options) => rbac::run(&options, &root()?),
        Task::CheckLayers => layers::run(&root()?),
        Task::CheckDocs => docs::run(&root()?),
        Task::Demo(options) => demo::run(&options),
    }
}

/// The folder of the workspace.
fn root() -> Result<PathBuf> {
    let member = Path::new(env!("CARGO_MANIFEST_DIR"));
    member.parent().map(Path::to_path_buf).with_context(|| {
        format!(
            "{} has no folder above it; build xtask inside the workspace",
            member.display()
        )
    })
}
