//! Controllers of the embedded cluster: what makes objects come true, over an ordinary client of the API.
//!
//! Invariant: nothing here polls. Watches name what changed; only a failed attempt is repeated on time, with a growing
//! pause. Nothing is remembered that a restart would miss.

mod defaults;
mod garbage;
pub(crate) mod job;
mod namespaces;
mod objects;
mod queue;
mod services;
mod snapshots;
#[cfg(test)]
mod tests;
mod volumes;

use std::sync::Arc;

use kube::Client;
use syncline_volumes::Volumes;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

pub(crate) use defaults::InstallError;

/// Driver and provisioner of the embedded cluster's volumes and snapshots.
pub(crate) const DRIVER: &str = "embedded.syncline.dev";
/// How consistent the data of a snapshot or of a claim made from something is: `atomic`, `per-file` or `none`.
pub(crate) const CONSISTENCY: &str = "embedded.syncline.dev/consistency";
/// Present where the source would not hold still while it was copied: how many entries changed during the last pass,
/// and some of them.
pub(crate) const UNSETTLED: &str = "embedded.syncline.dev/unsettled";
/// Marks volumes whose folder belongs to somebody else.
pub(crate) const ADOPTED: &str = "embedded.syncline.dev/adopted";

/// What the controllers work with.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) volumes: Volumes,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stop: CancellationToken,
    /// The certificate of the API server's authority in PEM, for the ConfigMap `kube-root-ca.crt`.
    pub(crate) authority: String,
}

/// Makes the default classes. To be called before users come and before [`run`]; the snapshot kinds must be served.
pub(crate) async fn install(client: &Client) -> Result<(), InstallError> {
    defaults::install(client).await
}

/// Runs all controllers until the stop; copies under way are then abandoned without a trace and made again next time.
pub(crate) async fn run(context: Context) {
    let (left, leaving) = tokio::sync::mpsc::unbounded_channel();
    let stopper = async {
        context.stop.cancelled().await;
        context.volumes.stop();
    };
    tokio::join!(
        stopper,
        volumes::run(&context),
        snapshots::run(&context),
        services::run(&context),
        garbage::run(&context, left),
        namespaces::run(&context, leaving),
        job::run(
            context.client.clone(),
            Arc::clone(&context.clock),
            context.stop.clone()
        ),
    );
}
