//! The socket and all services on it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::authority;
use crate::controller::Controlled;
use crate::driver::{Driver, NAME};
use crate::identity::Identified;
use crate::node::OnNode;
use crate::proto::csi::controller_server::ControllerServer;
use crate::proto::csi::identity_server::IdentityServer;
use crate::proto::csi::node_server::NodeServer;
use crate::proto::registration::registration_server::RegistrationServer;
use crate::registration::Registered;

/// One line for whoever reads the driver's output.
pub(crate) fn say(line: &str) {
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Where the driver listens.
pub(crate) struct Sockets {
    pub(crate) own: PathBuf,
    /// The kubelet's folder `plugins_registry`.
    pub(crate) registration: Option<PathBuf>,
}

impl Sockets {
    /// The second name of the socket, when the first one is not where the kubelet looks.
    fn second(&self) -> Option<PathBuf> {
        let folder = self.registration.as_deref()?;
        let same = |one: &Path, other: &Path| match (one.canonicalize(), other.canonicalize()) {
            (Ok(one), Ok(other)) => one == other,
            _ => one == other,
        };
        let at_home = self.own.parent().is_some_and(|home| same(home, folder));
        (!at_home).then(|| folder.join(format!("{NAME}-reg.sock")))
    }

    /// Listens, under a hidden name at first: whoever sees the socket can connect to it.
    fn listen(&self) -> anyhow::Result<UnixListener> {
        let name = self.own.file_name().context("--socket names no file")?;
        let hidden = self
            .own
            .with_file_name(format!(".{}", name.to_string_lossy()));
        let _ = fs::remove_file(&hidden);
        let listener = UnixListener::bind(&hidden).with_context(|| {
            format!(
                "cannot listen at {}: use a path of less than 100 bytes in a folder that exists",
                self.own.display()
            )
        })?;
        if let Some(second) = self.second() {
            let _ = fs::remove_file(&second);
            fs::hard_link(&hidden, &second).with_context(|| {
                format!(
                    "cannot give the socket the name {}: use folders of one file system",
                    second.display()
                )
            })?;
        }
        fs::rename(&hidden, &self.own)
            .with_context(|| format!("cannot name the socket {}", self.own.display()))?;
        Ok(listener)
    }

    fn remove(&self) {
        let _ = fs::remove_file(&self.own);
        if let Some(second) = self.second() {
            let _ = fs::remove_file(second);
        }
    }
}

/// Serves until SIGTERM or SIGINT, then ends at once: callers come again.
pub(crate) async fn serve(driver: Arc<Driver>, sockets: &Sockets) -> anyhow::Result<()> {
    let listener = sockets.listen()?;
    let endpoint = std::path::absolute(&sockets.own)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let registered = Registered {
        endpoint: endpoint.to_string_lossy().into_owned(),
    };
    let connections = UnixListenerStream::new(listener).map(|stream| stream.map(authority::mended));
    let serving = Server::builder()
        .add_service(IdentityServer::new(Identified))
        .add_service(ControllerServer::new(Controlled(Arc::clone(&driver))))
        .add_service(NodeServer::new(OnNode(Arc::clone(&driver))))
        .add_service(RegistrationServer::new(registered))
        .serve_with_incoming(connections);
    say(&format!("listening at {}", endpoint.display()));
    tokio::select! {
        served = serving => served.context("the server ended")?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    sockets.remove();
    driver.volumes.stop();
    Ok(())
}
