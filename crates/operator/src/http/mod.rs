//! `/metrics`, `/healthz` and `/readyz`: together on a port of a developer's machine, or apart, with TLS and with a look
//! at who asks, as in a cluster.

mod access;
mod certificate;
mod secure;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::rights::Rights;

pub use access::Access;
pub use certificate::Certificates;
pub use secure::{Secured, serve_metrics};

/// What the endpoints show.
#[derive(Clone)]
pub struct Shown {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Set once the watches have listed what there is.
    pub ready: Arc<AtomicBool>,
    /// For the metrics' window.
    pub clock: Arc<dyn Clock>,
    /// What the operator may not do.
    pub rights: Arc<Rights>,
}

/// Opens the port. Port 0 means any; the address that was taken is returned with the listener.
pub async fn bind(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Serves until `stop`.
pub async fn serve(
    listener: TcpListener,
    shown: Shown,
    stop: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router(shown))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

/// Serves health alone until `stop`.
pub async fn serve_health(
    listener: TcpListener,
    shown: Shown,
    stop: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, health(shown))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

fn health(shown: Shown) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(readiness))
        .with_state(shown)
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(readiness))
        .with_state(shown)
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let text = shown.metrics.render(shown.clock.now());
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
        .into_response()
}

async fn readiness(State(shown): State<Shown>) -> Response {
    if let Some(missing) = shown.rights.keeps_from_working() {
        return (StatusCode::SERVICE_UNAVAILABLE, missing).into_response();
    }
    if shown.ready.load(Ordering::Acquire) {
        "ok".into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the resources have not been listed yet",
        )
            .into_response()
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;
    use crate::clock::SystemClock;

    async fn status(ready: bool, path: &str) -> StatusCode {
        let shown = Shown {
            metrics: Arc::default(),
            ready: Arc::new(AtomicBool::new(ready)),
            clock: Arc::new(SystemClock),
            rights: Arc::default(),
        };
        let request = axum::http::Request::get(path)
            .body(axum::body::Body::empty())
            .unwrap();
        router(shown).oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn the_operator_is_alive_at_once_and_ready_when_it_has_listed() {
        assert_eq!(status(false, "/healthz").await, StatusCode::OK);
        assert_eq!(
            status(false, "/readyz").await,
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(status(true, "/readyz").await, StatusCode::OK);
        assert_eq!(status(true, "/metrics").await, StatusCode::OK);
    }
}
