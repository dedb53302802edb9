//! `make demo`: the main job, done on real data in front of whoever watches.
//!
//! Two namespaces of one embedded cluster play two sites. A volume with real files and a database in use is replicated
//! three times over ssh (the first time whole, then after a change, then by the schedule), and an application starts from
//! the copy. Then it goes through a store to two sites. Every run is checked: each image must equal the point-in-time
//! copy that was sent, entry by entry.

mod disk;
mod input;
mod rclone;
mod replication;
mod runs;
mod show;
mod sites;
mod store;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use syncline_testkit::{Cluster, Who};
use tokio::signal::unix::{SignalKind, signal};

use disk::Disk;
use rclone::Rclone;
use runs::Demo;
use show::Row;

/// Replicates real data on the embedded cluster and shows it.
#[derive(Args)]
pub(crate) struct Options {
    /// The `syncline` to show.
    #[arg(long)]
    binary: PathBuf,
    /// The rclone for the part through a store, 1.75 or newer; without one that part is not shown.
    #[arg(long)]
    rclone: Option<PathBuf>,
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
                outcome = play(binary, options) => outcome,
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

async fn play(binary: PathBuf, options: &Options) -> Result<()> {
    let start = Instant::now();
    let rclone = Rclone::look_at(options.rclone.as_deref());
    let disk = Disk::prepare()?;
    show::step("A place to play");
    show::say(&disk.describe());

    show::step("The embedded cluster");
    let program = rclone.as_ref().ok().map(|rclone| rclone.path.as_path());
    let cluster = Cluster::start_with(binary, disk.path(), Who::Caller, program)
        .await
        .map(Arc::new)?;
    show::say(&format!(
        "`syncline up` answers; KUBECONFIG={}",
        cluster.kubeconfig().display()
    ));

    let demo = Demo::set_up(Arc::clone(&cluster), disk.atomic()).await?;
    let mut rows = demo.play().await?;
    rows.extend(through_a_store(&demo, &rclone).await?);
    show::table(&rows);
    let seconds = start.elapsed().as_secs();
    let failed = rows.iter().any(|row| !row.verified);
    if !failed {
        show::say(&format!(
            "Everything was verified. {seconds} s in all, reading and comparing included."
        ));
    }
    if rclone.is_err() {
        show::say("Not shown: the part through a store, for want of rclone (see above).");
    }
    if options.keep {
        show::wait_for_enter(&cluster.kubeconfig());
    }
    demo.finish()?;
    cluster.embedded()?.stop()?;
    if failed {
        bail!("a copy differs from what was sent");
    }
    Ok(())
}

/// The part that needs rclone; where there is none, one line says so.
async fn through_a_store(demo: &Demo, rclone: &Result<Rclone>) -> Result<Vec<Row>> {
    show::step("Through a store: one source, two destinations");
    match rclone {
        Ok(rclone) => {
            show::say(&format!("the movers have {}", rclone.version));
            demo.play_through_a_store().await
        }
        Err(why) => {
            show::say(&format!("not shown: {why:#}; {}", rclone::CURE));
            Ok(Vec::new())
        }
    }
}
