//! The server for metrics alone, over TLS and for some readers only.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_util::sync::CancellationToken;

use super::certificate::Error;
use super::{Access, Certificates, Shown, metrics};
use crate::options::MetricsServer;

/// Connections at once; scrapers need a few.
const CONNECTIONS: usize = 64;
/// How long a peer may take for its handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// A pause when the process can take no further connection.
const PAUSE: Duration = Duration::from_millis(100);

/// How metrics are protected.
#[derive(Clone)]
pub struct Secured {
    tls: Option<TlsAcceptor>,
    access: Option<Access>,
    http2: bool,
}

impl Secured {
    /// As the options say. Readers are asked about with `access` where they need a right.
    pub fn new(options: &MetricsServer, access: Access) -> Result<Self, Error> {
        let tls = if options.secure {
            Some(acceptor(options)?)
        } else {
            None
        };
        Ok(Self {
            tls,
            access: options.require_rbac.then_some(access),
            http2: options.http2,
        })
    }
}

fn acceptor(options: &MetricsServer) -> Result<TlsAcceptor, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificates = Certificates::load(options.certificate.clone(), &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if options.http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `stop`.
pub async fn serve_metrics(
    listener: TcpListener,
    shown: Shown,
    secured: Secured,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = router(shown, secured.access.clone());
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let Ok((connection, _)) = accepted else {
            // Out of file descriptors, or a peer that went away: neither is an end.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // One too many is closed at once.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let (secured, router, stop) = (secured.clone(), router.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = secured.converse(connection, router) => {}
            }
            drop(place);
        });
    }
}

impl Secured {
    async fn converse(self, connection: TcpStream, router: Router) {
        match &self.tls {
            None => self.answer(connection, router).await,
            Some(tls) => match tokio::time::timeout(PATIENCE, tls.accept(connection)).await {
                Ok(Ok(connection)) => self.answer(connection, router).await,
                Ok(Err(error)) => tracing::debug!(%error, "no TLS with a reader of metrics"),
                Err(_) => tracing::debug!("a reader of metrics took too long for its handshake"),
            },
        }
    }

    async fn answer(
        &self,
        connection: impl AsyncRead + AsyncWrite + Unpin + 'static,
        router: Router,
    ) {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE);
        if !self.http2 {
            builder = builder.http1_only();
        }
        let service = TowerToHyperService::new(router);
        if let Err(error) = builder
            .serve_connection(TokioIo::new(connection), service)
            .await
        {
            tracing::debug!(error, "a reader of metrics went away");
        }
    }
}

fn router(shown: Shown, access: Option<Access>) -> Router {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .with_state(shown);
    match access {
        Some(access) => router.layer(middleware::from_fn_with_state(access, admit)),
        None => router,
    }
}

async fn admit(State(access): State<Access>, request: Request, next: Next) -> Response {
    match access.of(request.headers()).await {
        StatusCode::OK => next.run(request).await,
        refusal => {
            let words = refusal.canonical_reason().unwrap_or_default();
            (refusal, words).into_response()
        }
    }
}
