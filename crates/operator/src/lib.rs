//! The operator: observe, validate, plan, apply, status.
//!
//! [`run`] watches `ReplicationSource` and `ReplicationDestination` through a Kubernetes API and brings about what they
//! ask for. It only ever talks to that API. Start reading at `reconcile.rs`.

pub mod apply;
pub mod backoff;
pub mod business;
pub mod clock;
pub mod concerns;
pub mod crowd;
pub mod events;
pub mod failures;
pub mod follow;
pub mod guard;
pub mod http;
pub mod images;
pub mod keys;
pub mod kinds;
pub mod leader;
pub mod metrics;
pub mod observe;
pub mod options;
pub mod permissions;
pub mod plan;
mod populator;
pub mod preview;
pub mod quantity;
pub mod queue;
pub mod reconcile;
pub mod rights;
pub mod rivals;
pub mod runtime;
pub mod slots;
pub mod status;
pub mod subject;
pub mod validate;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kube::Client;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use clock::{Clock, SystemClock};
pub use options::Options;

use crate::metrics::Metrics;
use crate::rights::Rights;
use crate::worker::Worker;

/// Why the operator could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port for metrics is not to be had.
    #[error("the address {address} for metrics and health could not be opened; choose another one")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The certificate for metrics is not usable.
    #[error("metrics cannot be served over TLS")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Serving metrics ended.
    #[error("metrics and health are not served any more")]
    Serve(#[source] std::io::Error),
    /// A part of the operator ended that must not.
    #[error("a part of the operator ended unexpectedly; this is a bug")]
    Ended,
}

/// An operator that has opened its port and is ready to run.
pub struct Operator {
    client: Client,
    options: Options,
    clock: Arc<dyn Clock>,
    listener: Option<(TcpListener, SocketAddr)>,
    health: Option<(TcpListener, SocketAddr)>,
    metrics: Option<(TcpListener, SocketAddr)>,
}

/// Runs an operator until `stop`: [`Operator::bind`] and [`Operator::run`] in one.
pub async fn run(
    client: Client,
    options: Options,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Result<(), Error> {
    Operator::bind(client, options, clock)
        .await?
        .run(stop)
        .await
}

impl Operator {
    /// Opens the port for metrics, if one is wanted.
    pub async fn bind(
        client: Client,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let listener = bind(options.http).await?;
        let health = bind(options.health).await?;
        let metrics = bind(options.metrics.as_ref().map(|metrics| metrics.address)).await?;
        Ok(Self {
            client,
            options,
            clock,
            listener,
            health,
            metrics,
        })
    }

    /// Where metrics and health are served.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().map(|(_, address)| *address)
    }

    /// Where metrics are served alone.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|(_, address)| *address)
    }

    /// Where health is served alone.
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.health.as_ref().map(|(_, address)| *address)
    }

    /// Serves metrics and health, and works until `stop`: at once, or whenever the lease is held.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let stop = stop.child_token();
        let ready = Arc::new(AtomicBool::new(false));
        let metrics = Arc::new(Metrics::default());
        let rights = Arc::new(Rights::default());
        let mut parts: JoinSet<Result<(), Error>> = JoinSet::new();
        let shown = http::Shown {
            metrics: Arc::clone(&metrics),
            ready: Arc::clone(&ready),
            clock: Arc::clone(&self.clock),
            rights: Arc::clone(&rights),
        };
        if let Some((listener, address)) = self.listener.take() {
            tracing::info!(%address, "serving metrics and health");
            let serve = http::serve(listener, shown.clone(), stop.clone());
            parts.spawn(async move { serve.await.map_err(Error::Serve) });
        }
        if let Some((listener, address)) = self.health.take() {
            tracing::info!(%address, "serving health");
            let serve = http::serve_health(listener, shown.clone(), stop.clone());
            parts.spawn(async move { serve.await.map_err(Error::Serve) });
        }
        self.serve_metrics(&mut parts, shown, &stop)?;
        if self.options.checks_permissions {
            self.client = rights.around(&self.client);
            let looking = Arc::clone(&rights).look_after(
                self.client.clone(),
                self.options.clone(),
                Arc::clone(&self.clock),
                stop.clone(),
            );
            parts.spawn(async move {
                looking.await;
                Ok(())
            });
        }
        let worker = Worker {
            client: self.client,
            options: self.options,
            clock: self.clock,
            metrics,
            ready,
            rights,
        };
        parts.spawn(worker.run(stop.clone()));
        supervise(parts, &stop).await
    }
}

impl Operator {
    /// Serves metrics on a port of their own, if one is wanted.
    fn serve_metrics(
        &mut self,
        parts: &mut JoinSet<Result<(), Error>>,
        shown: http::Shown,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let (Some((listener, address)), Some(options)) =
            (self.metrics.take(), &self.options.metrics)
        else {
            return Ok(());
        };
        let access = http::Access::new(self.client.clone(), Arc::clone(&self.clock));
        let secured = http::Secured::new(options, access)
            .map_err(|error| Error::Certificate(Box::new(error)))?;
        tracing::info!(%address, tls = options.secure, "serving metrics");
        let serve = http::serve_metrics(listener, shown, secured, stop.clone());
        parts.spawn(async move { serve.await.map_err(Error::Serve) });
        Ok(())
    }
}

/// Opens a port, if one is wanted.
async fn bind(address: Option<SocketAddr>) -> Result<Option<(TcpListener, SocketAddr)>, Error> {
    match address {
        Some(address) => http::bind(address)
            .await
            .map(Some)
            .map_err(|source| Error::Bind { address, source }),
        None => Ok(None),
    }
}

/// Waits for all parts. That one ends before it was asked to ends the others.
async fn supervise(
    mut parts: JoinSet<Result<(), Error>>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let mut outcome = Ok(());
    while let Some(ended) = parts.join_next().await {
        if !stop.is_cancelled() && outcome.is_ok() {
            outcome = match ended {
                Ok(Err(error)) => Err(error),
                Ok(Ok(())) | Err(_) => Err(Error::Ended),
            };
        }
        stop.cancel();
    }
    outcome
}
