//! `syncline operator`: the operator alone, against a Kubernetes cluster.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use kube::Client;
use syncline_operator::options::MoverImages;
use syncline_operator::{Options, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::args::Global;
use crate::connection::connect;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::settings::Target;
use crate::stop;

/// Run the operator against a Kubernetes cluster: that of --kubeconfig, of $KUBECONFIG, or the one it runs in.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Image of the mover pods; it holds this program as /syncline
    #[arg(long, value_name = "IMAGE", env = "SYNCLINE_MOVER_IMAGE")]
    mover_image: String,
    /// The ssh port that is meant where spec.rsync names none
    #[arg(long, value_name = "PORT", default_value_t = 22)]
    rsync_port: u16,
    /// Watch this namespace only
    #[arg(long, value_name = "NAMESPACE")]
    watch_namespace: Option<String>,
    /// Run at most this many syncs at once
    #[arg(long, value_name = "NUMBER")]
    max_concurrent_syncs: Option<usize>,
    /// Where to serve /metrics, /healthz and /readyz
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080")]
    http: SocketAddr,
}

pub(crate) async fn run(
    arguments: &Arguments,
    global: &Global,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let client = match &global.kubeconfig {
        Some(path) => connect(&Target::Kubeconfig(path.clone())).await?,
        None => Client::try_default().await?,
    };
    let stop = CancellationToken::new();
    let _watch = stop::on_signal(&stop)?;
    printer.note(&format!(
        "operator: metrics and health on http://{}",
        arguments.http
    ));
    let defaults = Options::default();
    let options = Options {
        images: MoverImages::all(&arguments.mover_image),
        rsync_port: arguments.rsync_port,
        watch_namespace: arguments.watch_namespace.clone(),
        max_concurrent_syncs: arguments
            .max_concurrent_syncs
            .unwrap_or(defaults.max_concurrent_syncs),
        http: Some(arguments.http),
        ..defaults
    };
    syncline_operator::run(client, options, Arc::new(SystemClock), stop)
        .await
        .map_err(|error| Failure::from(anyhow::Error::new(error)))
}
