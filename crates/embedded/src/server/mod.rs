//! The API server: one tower service over a store and a clock.
//!
//! [`ApiService`] answers HTTP requests in process; the HTTPS shell around it adds nothing but who asks. A request is routed
//! to a resource that the registry knows, its verb is carried out on the store, and the answer is written in the
//! representation that was asked for.
//!
//! Invariant: no other module writes to the store.

mod answer;
mod change;
mod crds;
mod create;
mod delete;
mod dispatch;
mod expiry;
mod forms;
mod lists;
pub(crate) mod logs;
mod managed;
mod metadata;
mod namespaces;
mod options;
mod patches;
mod query;
mod reviews;
mod route;
mod selectors;
pub(crate) mod shell;
mod status;
mod watches;

#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::kinds::{Registry, Resource};
use crate::store::Store;

/// What is sent back: one piece, or a stream of watch events or log lines.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, Infallible>;

/// The state behind every request.
pub(crate) struct Server {
    pub(crate) store: Arc<Store>,
    registry: RwLock<Registry>,
    clock: Arc<dyn Clock>,
    logs: OnceLock<Arc<dyn logs::PodLogs>>,
    /// Ends watches and log streams.
    stop: CancellationToken,
}

impl Server {
    /// A server of the built-in kinds and those of the definitions in the store.
    pub(crate) fn new(store: Arc<Store>, clock: Arc<dyn Clock>, stop: CancellationToken) -> Self {
        Self {
            store,
            registry: RwLock::new(Registry::built_in()),
            clock,
            logs: OnceLock::new(),
            stop,
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Looks at what is served.
    pub(crate) fn with_registry<T>(&self, look: impl FnOnce(&Registry) -> T) -> T {
        look(&self.registry.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<dyn Resource>> {
        self.with_registry(|registry| registry.find(group, version, plural))
    }
}

/// The in-process service; clones share the server.
#[derive(Clone)]
pub(crate) struct ApiService {
    server: Arc<Server>,
    /// Who writes, when a request names neither a field manager nor a user agent.
    manager: &'static str,
}

impl ApiService {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self {
            server,
            manager: "unknown",
        }
    }

    /// The same for a part of the cluster, known by its name.
    pub(crate) fn named(self, manager: &'static str) -> Self {
        Self { manager, ..self }
    }
}

impl<B> tower::Service<Request<B>> for ApiService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (server, manager) = (Arc::clone(&self.server), self.manager);
        Box::pin(async move { Ok(dispatch::answer(&server, request, manager).await) })
    }
}
