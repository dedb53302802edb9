//! `make demo`: the main job, done on real data in front of whoever watches.
//!
//! Two namespaces of one embedded cluster play two sites. A volume with real files and a database in use is replicated
//! three times (the first time whole, then after a change, then by the schedule), and an application starts from the
//! copy. Every run is checked: the image must equal the point-in-time copy that was sent, entry by entry.

mod disk;
mod input;
mod runs;
mod show;
mod sites;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use syncline_testkit::{Cluster, Who};
use tokio::signal::unix::{SignalKind, signal};

use disk::Disk;
use runs::Demo;

/// Replicates real data on the embedded cluster and shows it.
#[derive(Args)]
pub(crate) struct Options {
    /// The `syncline` to show.
    #[arg(long)]
    binary: PathBuf,
    /// Leaves the cluster running at the end, for a look with kubectl, until Enter is pressed.
    #[arg(long)]
    keep: bool,
}

/// Runs the whole demo; an error means that something did not work, or that a copy differed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let binary = options
        .binary
        .canonicalize()
        .with_context(|| format!("cannot find {}", options.binary.display()))?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            tokio::select! {
                outcome = play(binary, options.keep) => outcome,
                () = interrupted() => bail!("interrupted; the demo cleans up"),
            }
        })
}

/// Ends with Ctrl-C or SIGTERM: what the demo made is then dropped in good order.
async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => (),
        outcome = tokio::signal::ctrl_c() => if outcome.is_err() {
            std::future::pending::<()>().await;
        },
    }
}

async fn play(binary: PathBuf, keep: bool) -> Result<()> {
    let start = Instant::now();
    let disk = Disk::prepare()?;
    show::step("A place to play");
    show::say(&disk.describe());

    show::step("The embedded cluster");
    let cluster = Cluster::start_with(binary, disk.path(), Who::Caller)
        .await
        .map(Arc::new)?;
    show::say(&format!(
        "`syncline up` answers; KUBECONFIG={}",
        cluster.kubeconfig().display()
    ));

    let demo = Demo::set_up(Arc::clone(&cluster), disk.atomic()).await?;
    let rows = demo.play().await?;
    show::table(&rows);
    let seconds = start.elapsed().as_secs();
    let failed = rows.iter().any(|row| !row.verified);
    if !failed {
        show::say(&format!(
            "Everything was verified. {seconds} s in all, reading and comparing included."
        ));
    }
    if keep {
        show::wait_for_enter(&cluster.kubeconfig());
    }
    demo.finish()?;
    cluster.embedded()?.stop()?;
    if failed {
        bail!("a copy differs from what was sent");
    }
    Ok(())
}
