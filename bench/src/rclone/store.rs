//! The object store of both sides: versitygw on this machine's disk, with nothing in between.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::distance::Distance;
use super::side::SECTION;

/// The name and the secret of its only user.
const KEY: (&str, &str) = ("AKIATHEBENCHSOWNKEY1", "a secret of no worth to anybody");
/// How long it may take to start.
const START_CAP: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A store that runs, with a configuration for it.
#[derive(Debug)]
pub(super) struct Store {
    /// What rclone reads.
    pub(super) config: PathBuf,
    /// Where the server keeps buckets, each as a folder.
    data: PathBuf,
    address: SocketAddr,
    process: Child,
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Store {
    /// Starts the server with its files in `folder`.
    pub(super) fn start(program: &Path, folder: &Path) -> Result<Self> {
        let (data, log) = (folder.join("data"), folder.join("log"));
        fs::create_dir_all(&data)?;
        // Given back at once, so that the server can take it.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let process = Command::new(program)
            // S3 itself keeps connections, too.
            .args(["--quiet", "--keep-alive", "--port", &address.to_string()])
            .arg("posix")
            .arg(&data)
            .env("ROOT_ACCESS_KEY", KEY.0)
            .env("ROOT_SECRET_KEY", KEY.1)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let store = Self {
            config: folder.join("rclone.conf"),
            data,
            address,
            process,
        };
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            if begin.elapsed() > START_CAP {
                bail!(
                    "{} does not listen on {address}: {}",
                    program.display(),
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
            sleep(LOOK_EVERY);
        }
        fs::write(&store.config, section(&format!("http://{address}")))?;
        Ok(store)
    }

    /// A way to the store that takes so long there and back, and the configuration of who goes it.
    pub(super) fn away(&self, round_trip: Duration) -> Result<(Distance, PathBuf)> {
        let way = Distance::to(self.address, round_trip)?;
        let config = self.config.with_extension("away");
        fs::write(&config, section(&format!("http://{}", way.address)))?;
        Ok((way, config))
    }

    /// Makes a bucket.
    pub(super) fn make_bucket(&self, name: &str) -> Result<()> {
        let made = Command::new(syncline_testkit::store::rclone()?)
            .args(["mkdir", &format!("{SECTION}:{name}")])
            .env("RCLONE_CONFIG", &self.config)
            .output()?;
        ensure!(
            made.status.success(),
            "no bucket can be made: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        Ok(())
    }

    /// Where the server keeps what is in a bucket.
    pub(super) fn folder_of(&self, bucket: &str) -> PathBuf {
        self.data.join(bucket)
    }

    /// Removes a bucket and all that is in it.
    pub(super) fn drop_bucket(&self, name: &str) -> Result<()> {
        Ok(fs::remove_dir_all(self.folder_of(name))?)
    }
}

fn section(endpoint: &str) -> String {
    format!(
        "[{SECTION}]\ntype = s3\nprovider = Other\nendpoint = {endpoint}\nregion = us-east-1\naccess_key_id = {}\n\
         secret_access_key = {}\n",
        KEY.0, KEY.1
    )
}
