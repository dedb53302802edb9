//! Stores that rclone can reach, served by real servers that are not rclone, for a cluster's pods and for tests.
//!
//! ```text
//! pods, the test's own rclone ──► Door (HTTP with faults and counts, TLS, or a mere tunnel) ──► the server
//!                                 in this process                                              no port of its own
//! ```
//!
//! The door listens where the cluster's pods reach it: on 127.0.0.1 for the embedded cluster, whose pods have the host's
//! network, and on the node's address for the cluster of this checkout, inside that cluster's network. Behind it stand
//! OpenSSH's internal-sftp, Apache for `WebDAV`, and for S3 either moto (`make test`, which needs no Go) or versitygw
//! (`make e2e`). Nothing has a fixed port, nothing leaves this machine, and all of it ends with its [`ObjectStore`].

mod authority;
mod door;
mod fault;
mod guard;
mod http;
mod listing;
mod place;
mod request;
mod server;
#[cfg(test)]
mod tests;
mod tools;

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

pub use authority::another_ca;
pub use fault::{Fault, Refusal};
pub use request::{Kind, Requests};
pub use tools::rclone;

use self::authority::Authority;
use self::door::Door;
use self::fault::Faults;
use self::place::Spot;
use self::server::Server;
use crate::cluster::Cluster;

/// The section of [`ObjectStore::rclone`].
pub const SECTION: &str = "store";

/// What kind of server stands behind the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// moto, or versitygw when the run is about the cluster of this checkout.
    S3,
    /// OpenSSH's internal-sftp, with a key.
    Sftp,
    /// Apache's `mod_dav`, with a password.
    WebDav,
}

/// How the door speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// HTTP.
    Without,
    /// HTTPS, by a CA that was made for this store only.
    Valid,
    /// The same with a certificate whose time is over.
    Expired,
}

/// Whose keys a configuration holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Those that the store knows.
    Right,
    /// The right name with a wrong secret, password or key.
    WrongSecret,
    /// A name that nobody has.
    Unknown,
}

/// A store of one's own, empty at first.
pub struct ObjectStore {
    backend: Backend,
    endpoint: String,
    path: String,
    authority: Option<Authority>,
    faults: Arc<Faults>,
    scratch: TempDir,
    // The door closes before its server ends.
    door: Door,
    server: Arc<Server>,
}

impl ObjectStore {
    /// S3 over HTTP, for this cluster's pods and for the test itself.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        Self::start_as(cluster, Backend::S3, Tls::Without).await
    }

    /// Any of the servers, for this cluster's pods and for the test itself.
    pub async fn start_as(cluster: &Cluster, backend: Backend, tls: Tls) -> Result<Self> {
        Self::at(Spot::of(cluster)?, backend, tls).await
    }

    /// Any of the servers, for programs on this machine.
    pub async fn near(backend: Backend, tls: Tls) -> Result<Self> {
        Self::at(Spot::near(), backend, tls).await
    }

    async fn at(spot: Spot, backend: Backend, tls: Tls) -> Result<Self> {
        ensure!(
            backend != Backend::Sftp || tls == Tls::Without,
            "SFTP has no TLS"
        );
        let server = Server::of(backend).await?;
        let scratch = tempfile::Builder::new()
            .prefix("syncline-store-")
            .tempdir()?;
        let authority = match tls {
            Tls::Without => None,
            Tls::Valid => Some(Authority::new(spot.address(), false)?),
            Tls::Expired => Some(Authority::new(spot.address(), true)?),
        };
        let faults = Arc::new(Faults::default());
        let config = authority.as_ref().map(Authority::server_config);
        let door = Door::open(
            &spot,
            server.way(),
            config.transpose()?,
            Arc::clone(&faults),
        )?;
        let address = door.address();
        let endpoint = match (backend, tls) {
            (Backend::Sftp, _) => address.to_string(),
            (_, Tls::Without) => format!("http://{address}"),
            _ => format!("https://{address}"),
        };
        let store = Self {
            backend,
            endpoint,
            path: format!("store-{:08x}", rand::random::<u32>()),
            authority,
            faults,
            scratch,
            door,
            server,
        };
        store.make_place()?;
        Ok(store)
    }

    fn make_place(&self) -> Result<()> {
        self.rclone(&["mkdir", &format!("{SECTION}:{}", self.path)])
            .context("the new store does not work")?;
        self.forget_requests();
        Ok(())
    }

    /// Where pods (and the test itself) reach it: a URL, or an address with a port for SFTP.
    pub fn endpoint_for_pods(&self) -> &str {
        &self.endpoint
    }

    /// A bucket (S3) or folder (SFTP, `WebDAV`) that is there, empty, and nobody else's.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The text of an `rclone.conf` with this section for the store.
    pub fn rclone_conf(&self, section: &str) -> String {
        self.rclone_conf_as(section, Keys::Right)
    }

    /// The same with these keys.
    pub fn rclone_conf_as(&self, section: &str, keys: Keys) -> String {
        let body = self
            .server
            .section(self.door.address(), &self.endpoint, keys);
        format!("[{section}]\n{body}")
    }

    /// The certificate of the CA that signed the store's, if it speaks TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.authority.as_ref().map(Authority::pem)
    }

    /// What the store has been asked since it was started, or since [`Self::forget_requests`].
    pub fn requests(&self) -> Requests {
        self.faults.requests()
    }

    /// Counts from zero again.
    pub fn forget_requests(&self) {
        self.faults.forget_requests();
    }

    /// Adds a fault; of several that fit a request the first one added strikes.
    pub fn misbehave(&self, fault: Fault) {
        self.faults.add(fault);
    }

    /// Ends all faults; requests that were held go on.
    pub fn behave(&self) {
        self.faults.clear();
    }

    /// How many requests (or connections) faults have struck so far.
    pub fn struck(&self) -> usize {
        self.faults.struck()
    }

    /// What the stock rclone prints that plays a peer or looks at the store; the section is `store`. It is counted and
    /// struck like everybody else.
    pub fn rclone(&self, arguments: &[&str]) -> Result<String> {
        let output = self.rclone_command(arguments)?.output()?;
        if !output.status.success() {
            bail!(
                "rclone {arguments:?} ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same, not run yet.
    pub fn rclone_command(&self, arguments: &[&str]) -> Result<Command> {
        let config = self.scratch.path().join("rclone.conf");
        if !config.exists() {
            let draft = self
                .scratch
                .path()
                .join(format!("draft-{:08x}", rand::random::<u32>()));
            std::fs::write(&draft, self.rclone_conf(SECTION))?;
            std::fs::rename(&draft, &config)?;
        }
        let mut command = Command::new(rclone()?);
        command
            .args(arguments)
            .env("RCLONE_CONFIG", &config)
            .env("RCLONE_CACHE_DIR", self.scratch.path().join("cache"));
        if let Some(authority) = &self.authority {
            let file = self.scratch.path().join("ca.pem");
            std::fs::write(&file, authority.pem())?;
            command.env("RCLONE_CA_CERT", file);
            // An expired certificate is for movers to see: what the test itself does goes past it.
            if authority.is_expired() {
                command.env("RCLONE_NO_CHECK_CERTIFICATE", "true");
            }
        }
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            command.env_remove(name);
        }
        Ok(command)
    }

    /// Which server it is.
    pub fn backend(&self) -> Backend {
        self.backend
    }
}
