//! HTTPS around the service: TLS on loopback, who asks, and the kubeconfig that tells clients how to.
//!
//! Invariant: nobody is anybody here but the holder of the administrator's certificate.

mod pki;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{ApiService, dispatch::Anonymous};
use crate::clock::Clock;
use crate::cluster::Config;
use pki::{Pki, PkiError};

/// How long a client may take for its TLS handshake, and open requests to end at the stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why HTTPS is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShellError {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(
        "the cluster's certificates are not usable: {0}; delete the folder pki in the data folder and start again"
    )]
    Tls(String),
    #[error("cannot listen on {address}: {source}; choose another address")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error(
        "cannot write {path}: {source}; see that the data folder belongs to this user and has space"
    )]
    Kubeconfig {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// The HTTPS server.
pub(crate) struct Shell {
    address: SocketAddr,
    kubeconfig: PathBuf,
    authority: String,
    tasks: TaskTracker,
}

impl Shell {
    /// Listens and serves until the stop.
    pub(crate) async fn start(
        config: &Config,
        service: ApiService,
        clock: &Arc<dyn Clock>,
        stop: &CancellationToken,
    ) -> Result<Self, ShellError> {
        let pki = Pki::load_or_make(
            &config.data_dir.join("pki"),
            config.listen.ip(),
            clock.now(),
        )?;
        let tls = Arc::new(tls_config(&pki).map_err(ShellError::Tls)?);
        let listener = listen(config).await?;
        let fault = |source| ShellError::Listen {
            address: config.listen,
            source,
        };
        let address = listener.local_addr().map_err(fault)?;
        let kubeconfig = config.data_dir.join("kubeconfig");
        let fault = |source| ShellError::Kubeconfig {
            path: kubeconfig.clone(),
            source,
        };
        pki::write_private(&kubeconfig, &kubeconfig_text(address, &pki)).map_err(fault)?;
        pki::write_private(&port_file(config), &format!("{}\n", address.port())).map_err(fault)?;

        let tasks = TaskTracker::new();
        let acceptor = Acceptor {
            tls: TlsAcceptor::from(tls),
            service,
            clock: Arc::clone(clock),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(acceptor.run(listener));
        Ok(Self {
            address,
            kubeconfig,
            authority: pki.authority,
            tasks,
        })
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The certificate of the cluster's authority, in PEM.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Completes when every connection has ended, which the stop brings about.
    pub(crate) async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn port_file(config: &Config) -> PathBuf {
    config.data_dir.join("pki").join("port")
}

/// Any port means the last one, if it is still free: clients with an open kubeconfig find the cluster again.
async fn listen(config: &Config) -> Result<TcpListener, ShellError> {
    if config.listen.port() == 0
        && let Some(port) = std::fs::read_to_string(port_file(config))
            .ok()
            .and_then(|text| text.trim().parse().ok())
        && let Ok(listener) = TcpListener::bind(SocketAddr::new(config.listen.ip(), port)).await
    {
        return Ok(listener);
    }
    let fault = |source| ShellError::Listen {
        address: config.listen,
        source,
    };
    TcpListener::bind(config.listen).await.map_err(fault)
}

fn tls_config(pki: &Pki) -> Result<ServerConfig, String> {
    fn text(error: impl std::fmt::Display) -> String {
        error.to_string()
    }
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pki.authority.as_bytes()).map_err(text)?)
        .map_err(text)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(text)?;
    let certificate =
        CertificateDer::from_pem_slice(pki.server_certificate.as_bytes()).map_err(text)?;
    let key = PrivateKeyDer::from_pem_slice(pki.server_key.as_bytes()).map_err(text)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .map_err(text)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn kubeconfig_text(address: SocketAddr, pki: &Pki) -> String {
    let name = "syncline";
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {
            "server": format!("https://{address}"),
            "certificate-authority-data": STANDARD.encode(&pki.authority),
        }}],
        "users": [{"name": name, "user": {
            "client-certificate-data": STANDARD.encode(&pki.admin_certificate),
            "client-key-data": STANDARD.encode(&pki.admin_key),
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
        "current-context": name,
    });
    crate::wire::to_yaml(&config)
}

/// Takes connections.
#[derive(Clone)]
struct Acceptor {
    tls: TlsAcceptor,
    service: ApiService,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    self.tasks.spawn(self.clone().serve(stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    // Out of file descriptors, most likely: give the others a moment to end.
                    self.clock
                        .sleep_until(self.clock.now() + Duration::from_millis(100))
                        .await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream) {
        // Small answers should not wait for more; a socket that refuses works all the same.
        drop(stream.set_nodelay(true));
        let handshake = tokio::select! {
            handshake = self.tls.accept(stream) => handshake,
            () = self.clock.sleep_until(self.clock.now() + PATIENCE) => return,
            () = self.stop.cancelled() => return,
        };
        let stream = match handshake {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, "a TLS handshake failed"),
        };
        let admin = stream
            .get_ref()
            .1
            .peer_certificates()
            .is_some_and(|certificates| !certificates.is_empty());
        let service = self.service.clone().map_request(
            move |mut request: http::Request<hyper::body::Incoming>| {
                if !admin {
                    request.extensions_mut().insert(Anonymous);
                }
                request
            },
        );
        let builder = auto::Builder::new(TokioExecutor::new());
        let connection =
            builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = self.clock.sleep_until(self.clock.now() + PATIENCE) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}
