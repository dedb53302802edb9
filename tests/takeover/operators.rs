//! Operators in this process, and what they send.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use syncline_operator::options::{MoverImages, Options};
use syncline_operator::{SystemClock, run};
use syncline_testkit::Cluster;
use syncline_testkit::cluster::Embedded;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The image of another project: a program that ends well and says nothing.
pub(crate) const STRANGER: &str = "stranger";

/// A cluster without an operator.
pub(crate) async fn cluster() -> Result<Arc<Cluster>> {
    let images = vec![(STRANGER, PathBuf::from("/bin/true"))];
    let cluster = Embedded::start_alone(images).await?;
    Ok(Arc::new(Cluster::Embedded(cluster)))
}

/// The settings of an operator on such a cluster.
pub(crate) fn options() -> Options {
    Options {
        images: MoverImages::all("syncline"),
        rsync_port: 2022,
        ..Options::default()
    }
}

/// Requests that were sent, as `METHOD path`.
#[derive(Clone, Default)]
pub(crate) struct Sent(Arc<Mutex<Vec<String>>>);

impl Sent {
    /// A client that writes down what it sends.
    pub(crate) fn through(&self, client: &Client) -> Client {
        let (inner, sent) = (client.clone(), self.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (inner, sent) = (inner.clone(), sent.clone());
            async move {
                let line = format!("{} {}", request.method(), request.uri().path());
                sent.lines(|lines| lines.push(line));
                inner.send(request).await
            }
        });
        Client::new(service, client.default_namespace())
    }

    /// All requests that change something, leases apart.
    pub(crate) fn writes(&self) -> Vec<String> {
        let reads = [Method::GET, Method::HEAD].map(|method| format!("{method} "));
        let is_read = |line: &String| reads.iter().any(|read| line.starts_with(read));
        self.lines(|lines| {
            let writes = lines
                .iter()
                .filter(|line| !is_read(line) && !line.contains("/leases"));
            writes.cloned().collect()
        })
    }

    /// How many requests there were.
    pub(crate) fn count(&self) -> usize {
        self.lines(|lines| lines.len())
    }

    fn lines<T>(&self, change: impl FnOnce(&mut Vec<String>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A running operator.
pub(crate) struct Operator {
    pub(crate) sent: Sent,
    stop: CancellationToken,
    task: JoinHandle<Result<(), syncline_operator::Error>>,
}

impl Operator {
    pub(crate) async fn start(cluster: &Cluster, options: Options) -> Result<Self> {
        Ok(Self::start_with(&cluster.client().await?, options))
    }

    /// The same with a client of the test's own.
    pub(crate) fn start_with(client: &Client, options: Options) -> Self {
        let (sent, stop) = (Sent::default(), CancellationToken::new());
        let client = sent.through(client);
        let task = tokio::spawn(run(client, options, Arc::new(SystemClock), stop.clone()));
        Self { sent, stop, task }
    }

    /// Ends it as a power failure would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        // It was aborted; there is nothing else that it could say.
        let _ = self.task.await;
    }

    /// Ends it in good order.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        Ok(self.task.await??)
    }
}
