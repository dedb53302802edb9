//! The servers behind the doors. One of each kind serves a whole test program: stores have places of their own in it.

mod s3;
mod sftp;
mod webdav;

use std::ffi::OsString;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::door::Way;
use super::guard::Guarded;
use super::{Backend, Keys, tools};
use crate::wait::{Look, wait_for};

/// How long a server may take to answer, on a machine that is busy with other tests.
const START_CAP: Duration = Duration::from_secs(60);
/// A name that no store knows.
const NOBODY: &str = "AKIANOBODYKNOWSTHIS1";

/// The servers of this process: S3, SFTP, `WebDAV`.
static SHARED: tokio::sync::Mutex<[Weak<Server>; 3]> =
    tokio::sync::Mutex::const_new([Weak::new(), Weak::new(), Weak::new()]);

/// A server, its files, and who it lets in.
pub(super) struct Server {
    way: Way,
    login: Login,
    // The process ends before its files go.
    _process: Option<Guarded>,
    _folder: TempDir,
}

/// Whom a server lets in.
enum Login {
    /// An access key and its secret.
    S3 {
        name: String,
        secret: String,
        /// It writes names in listings as rclone asks for with `list_url_encode`.
        encodes_listings: bool,
        /// The version of `ListObjects` that it is asked in, so that movers speak both.
        list_version: u8,
    },
    /// A user, and private keys as `key_pem` has them: the right one and another.
    Sftp {
        user: String,
        key: String,
        wrong: String,
    },
    /// A user, and passwords as rclone obscures them: the right one and another.
    WebDav {
        user: String,
        password: String,
        wrong: String,
    },
}

impl Server {
    /// The server of this kind: started by the first who needs it, ended with the last.
    pub(super) async fn of(backend: Backend) -> Result<Arc<Self>> {
        let mut shared = SHARED.lock().await;
        let [s3, sftp, webdav] = &mut *shared;
        let slot = match backend {
            Backend::S3 => s3,
            Backend::Sftp => sftp,
            Backend::WebDav => webdav,
        };
        if let Some(server) = slot.upgrade() {
            return Ok(server);
        }
        let server = match backend {
            Backend::S3 => s3::start().await?,
            Backend::Sftp => sftp::prepare()?,
            Backend::WebDav => webdav::start().await?,
        };
        let server = Arc::new(server);
        *slot = Arc::downgrade(&server);
        Ok(server)
    }

    /// How it is reached from the door.
    pub(super) fn way(&self) -> Way {
        self.way.clone()
    }

    /// What a section of `rclone.conf` says below its name.
    pub(super) fn section(&self, address: SocketAddr, endpoint: &str, keys: Keys) -> String {
        let known = |name: &String| match keys {
            Keys::Unknown => NOBODY.to_owned(),
            _ => name.clone(),
        };
        let right = |right: &String, wrong: &String| match keys {
            Keys::Right => right.clone(),
            _ => wrong.clone(),
        };
        match &self.login {
            // In XML alone a carriage return in a name would come back as another character.
            Login::S3 {
                name,
                secret,
                encodes_listings,
                list_version,
            } => format!(
                "type = s3\nprovider = Other\nendpoint = {endpoint}\nregion = us-east-1\nlist_url_encode = \
                 {encodes_listings}\nlist_version = {list_version}\naccess_key_id = {}\nsecret_access_key = {}\n",
                known(name),
                right(secret, &"x".repeat(secret.len()))
            ),
            Login::Sftp { user, key, wrong } => format!(
                "type = sftp\nhost = {}\nport = {}\nuser = {}\nkey_pem = {}\nshell_type = none\n",
                address.ip(),
                address.port(),
                known(user),
                right(key, wrong)
            ),
            Login::WebDav {
                user,
                password,
                wrong,
            } => format!(
                "type = webdav\nvendor = other\nurl = {endpoint}\nuser = {}\npass = {}\n",
                known(user),
                right(password, wrong)
            ),
        }
    }
}

/// A folder for a server's files, with a short name: a socket's path may have 107 bytes.
fn folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new()
        .prefix("syncline-server-")
        .tempdir()?)
}

/// Starts a server whose files are all in its folder, and waits until it listens.
async fn listening(
    line: &[OsString],
    folder: &Path,
    environment: &[(&str, &str)],
    way: &Way,
) -> Result<Guarded> {
    let process = Guarded::start(line, folder, environment)?;
    wait_for("the store's server to listen", START_CAP, || async {
        let reached = match way {
            Way::Socket(socket) => UnixStream::connect(socket).map(drop),
            Way::Address(address) => TcpStream::connect(address).map(drop),
            Way::Program(_) => Ok(()),
        };
        Ok(match reached {
            Ok(()) => Look::Done(()),
            Err(error) => {
                let log = std::fs::read(folder.join("log")).unwrap_or_default();
                let said = String::from_utf8_lossy(&log);
                let end: Vec<&str> = said.lines().rev().take(20).collect();
                Look::NotYet(format!("{error}; it said, last line first: {end:#?}"))
            }
        })
    })
    .await?;
    Ok(process)
}

/// What a program that must succeed prints.
fn said(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{} ended with {}: {}",
        command.get_program().display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A password as `rclone.conf` has it.
fn obscured(password: &str) -> Result<String> {
    said(Command::new(tools::rclone()?).args(["--config", "/dev/null", "obscure", password]))
}

/// A secret for this run.
fn secret() -> String {
    format!("{:032x}", rand::random::<u128>())
}
