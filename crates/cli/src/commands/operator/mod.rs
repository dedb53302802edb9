//! `syncline operator`: the operator alone, against a Kubernetes cluster.
//!
//! It takes VolSync's flags and environment variables under their names, so that a Deployment made for VolSync needs
//! another image and nothing else.

mod flags;
mod options;
#[cfg(test)]
mod tests;
mod zap;

use std::sync::Arc;

use kube::Client;
use syncline_operator::SystemClock;
use tokio_util::sync::CancellationToken;

use crate::args::Global;
use crate::connection::connect;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::settings::Target;
use crate::stop;
use options::Surroundings;

pub(crate) use flags::Arguments;
pub(crate) use options::movers;
pub(crate) use zap::Zap;

pub(crate) async fn run(
    arguments: &Arguments,
    global: &Global,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let surroundings = Surroundings::of_process();
    let (options, remarks) = options::options(arguments, &surroundings)?;
    for remark in &remarks {
        tracing::info!("{remark}");
    }
    let client = match &global.kubeconfig {
        Some(path) => connect(&Target::Kubeconfig(path.clone())).await?,
        None => Client::try_default().await?,
    };
    let stop = CancellationToken::new();
    let _watch = stop::on_signal(&stop)?;
    let greeting = options::greeting(&options);
    if arguments.zap.json() {
        // Whoever collects lines of JSON wants nothing else among them.
        tracing::info!("{greeting}");
    } else {
        printer.note(&greeting);
    }
    syncline_operator::run(client, options, Arc::new(SystemClock), stop)
        .await
        .map_err(|error| Failure::from(anyhow::Error::new(error)))
}
