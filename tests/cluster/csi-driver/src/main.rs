//! The CSI driver of the cluster for tests: the volumes room behind CSI's services, on the only node there is.
//!
//! It shares its hands with the embedded cluster, so that both make snapshots and clones in the same way. One socket
//! serves CSI's Identity, Controller and Node services and the kubelet's plugin registration. All it knows lies in its
//! data folder: it may be killed at any moment and started again. For tests it can be told to misbehave, see
//! [`faults`].

mod authority;
mod busy;
mod controller;
mod driver;
mod error;
mod faults;
mod identity;
mod limits;
mod loops;
mod mounts;
mod node;
mod proto;
mod records;
mod registration;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;

use crate::driver::Driver;
use crate::server::Sockets;

/// CSI driver for tests: folders and sparse files of one node as volumes.
#[derive(Parser)]
struct Options {
    /// Where to listen; best in the kubelet's folder `plugins_registry`, where the kubelet then finds it.
    #[arg(long, required_unless_present = "detach_all")]
    socket: Option<PathBuf>,
    /// Where volumes, snapshots and their records lie; best on btrfs or XFS, which share what copies have in common.
    #[arg(long)]
    data: PathBuf,
    /// The name of the node.
    #[arg(long, default_value = "node")]
    node: String,
    /// The kubelet's folder `plugins_registry`; the socket gets a second name there if it lies elsewhere.
    #[arg(long)]
    kubelet_registration: Option<PathBuf>,
    /// A JSON file with the faults to inject, beside it perhaps a folder FILE.d of such files; read anew at each call.
    #[arg(long)]
    faults: Option<PathBuf>,
    /// Detach all loop devices that a driver with this data folder, dead by now, has left; then end.
    #[arg(long)]
    detach_all: bool,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            server::say(&format!("csi-driver: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    if options.detach_all {
        let label = loops::label(&options.data);
        return loops::detach_all(&label).context("cannot detach the loop devices");
    }
    let socket = options.socket.context("--socket is missing")?;
    let driver = Driver::open(&options.data, options.node, options.faults)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let sockets = Sockets {
        own: socket,
        registration: options.kubelet_registration,
    };
    let outcome = runtime.block_on(server::serve(Arc::new(driver), &sockets));
    // A call that hangs on purpose must not hold up the end.
    runtime.shutdown_background();
    outcome
}
