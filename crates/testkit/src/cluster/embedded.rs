//! The embedded cluster as a child process: started, killed, restarted and cleaned up for tests.
//!
//! A small shell stands between the test and `syncline up`: it stops the cluster when its standard input ends, so
//! that nothing outlives a test run, however that ends.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use kube::api::ListParams;
use kube::core::Request;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::process::is_alive;
use super::{OUR_KINDS, Who, binary, client_of, last_lines};
use crate::store::rclone;
use crate::wait::{Look, wait_for, wait_for_blocking};

/// User and group of "an ordinary user" when the tests run as root.
const ORDINARY_ID: u32 = 1000;
/// How long a cluster may take to answer.
const START_CAP: Duration = Duration::from_secs(60);
/// How long a cluster may take to stop in good order.
const STOP_CAP: Duration = Duration::from_secs(40);
/// Starts `$@`, writes its process id to the file `$PID_FILE`, and stops it when standard input ends. When that comes
/// without the word `keep`, the test has ended without tidying up, and the shell does it.
const GUARD: &str = r#"
"$@" </dev/null & child=$!
echo "$child" > "$PID_FILE.new" && mv "$PID_FILE.new" "$PID_FILE"
trap '' INT TERM HUP
read -r word
kill -TERM "$child" 2>/dev/null
wait "$child"
[ "$word" = keep ] || { chmod -R u+rwX "$FOLDER"; rm -rf "$FOLDER"; }
"#;
/// The folder beside the data with the stock programs that pods are given.
const PROGRAMS: &str = "programs";
/// What the guard is told when the cluster's folder is still needed.
const KEEP: &[u8] = b"keep\n";

/// A running `syncline up` with a data folder of its own.
#[derive(Debug)]
pub struct Embedded {
    folder: TempDir,
    who: Who,
    binary: PathBuf,
    guard: Mutex<Option<Child>>,
    manifests: Vec<PathBuf>,
    /// Programs by the names of the images that hold them, for a cluster without an operator.
    alone: Option<Vec<(&'static str, PathBuf)>>,
}

impl Embedded {
    /// A cluster of one's own, answering.
    pub async fn start(who: Who) -> Result<Self> {
        let parent = std::env::temp_dir();
        Self::start_with(binary()?, &parent, who, Some(rclone()?)).await
    }

    /// The same with this `syncline`, its data in a new folder under `parent`, and this rclone for its pods, if any.
    pub async fn start_with(
        binary: PathBuf,
        parent: &Path,
        who: Who,
        rclone: Option<&Path>,
    ) -> Result<Self> {
        let cluster = Self::prepare(binary, parent, who, rclone)?;
        cluster.launch()?;
        cluster.ready().await?;
        Ok(cluster)
    }

    /// One that applies these manifests when it starts, every time.
    pub async fn start_applying(who: Who, manifests: Vec<PathBuf>) -> Result<Self> {
        let mut cluster = Self::prepare(binary()?, &std::env::temp_dir(), who, Some(rclone()?))?;
        cluster.manifests = manifests;
        cluster.launch()?;
        cluster.ready().await?;
        Ok(cluster)
    }

    /// One without an operator, whose pods can have these images beside Syncline's: a name, and the program in it.
    pub async fn start_alone(images: Vec<(&'static str, PathBuf)>) -> Result<Self> {
        let parent = std::env::temp_dir();
        let mut cluster = Self::prepare(binary()?, &parent, Who::Caller, Some(rclone()?))?;
        cluster.alone = Some(images);
        cluster.launch()?;
        cluster.ready().await?;
        Ok(cluster)
    }

    fn prepare(
        mut binary: PathBuf,
        parent: &Path,
        who: Who,
        rclone: Option<&Path>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("syncline-test-")
            .tempdir_in(parent)?;
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        if who == Who::Ordinary && is_root() {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
            chown(&data, Some(ORDINARY_ID), Some(ORDINARY_ID))?;
            // The checkout may lie where an ordinary user cannot reach it.
            let copy = folder.path().join("syncline");
            fs::copy(&binary, &copy)
                .with_context(|| format!("cannot copy {}", binary.display()))?;
            binary = copy;
        }
        give_programs(&folder.path().join(PROGRAMS), rclone)?;
        Ok(Self {
            folder,
            who,
            binary,
            guard: Mutex::new(None),
            manifests: Vec::new(),
            alone: None,
        })
    }

    /// Starts the process; returns before it answers.
    pub fn launch(&self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let _ = fs::remove_file(self.pid_path());
        let mut command = Command::new("sh");
        command
            .args(["-c", GUARD, "guard"])
            .args(self.command_line(&self.up_arguments()));
        command
            .env("PID_FILE", self.pid_path())
            .env("FOLDER", self.folder.path())
            .env("HOME", self.data())
            .env_remove("KUBECONFIG");
        command.env(
            "SYNCLINE_LOG",
            "debug,hyper=info,kube=info,rustls=info,h2=info,tower=info",
        );
        command
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        *self.guard() = Some(command.spawn().context("cannot start sh")?);
        Ok(())
    }

    fn up_arguments(&self) -> Vec<OsString> {
        let mut arguments = vec![OsString::from("up")];
        match &self.alone {
            Some(images) => {
                arguments.push("--without-operator".into());
                for (name, program) in images {
                    let image = format!("{name}={}", program.display());
                    arguments.extend(["--image".into(), image.into()]);
                }
            }
            None => arguments.extend(["--http", "127.0.0.1:0"].map(OsString::from)),
        }
        arguments.extend(["--programs".into(), self.programs().into()]);
        arguments.push("--data".into());
        arguments.push(self.data().into());
        for manifest in &self.manifests {
            arguments.extend(["--filename".into(), manifest.into()]);
        }
        arguments
    }

    /// Asks the operator's own HTTP server for a page: status line, headers and body as they come.
    pub fn operator_page(&self, path: &str) -> Result<String> {
        let log = self.log_tail(usize::MAX);
        let line = log.lines().rev().find(|line| line.starts_with("metrics "));
        let address = line.and_then(|line| line.rsplit("http://").next());
        let mut stream = TcpStream::connect(address.context("no address for metrics in the log")?)?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    }

    /// Waits until the API answers and serves our kinds.
    pub async fn ready(&self) -> Result<()> {
        let look = || async {
            if !self.runs()? {
                return Ok(Look::NotYet(format!(
                    "`syncline up` ended:\n{}",
                    self.log_tail(60)
                )));
            }
            let client = client_of(&self.kubeconfig()).await?;
            for kind in OUR_KINDS {
                let path = format!("/apis/volsync.backube/v1alpha1/{kind}");
                let request = Request::new(path).list(&ListParams::default())?;
                client.request_text(request).await?;
            }
            Ok(Look::Done(()))
        };
        wait_for("the cluster to answer", START_CAP, look)
            .await
            .with_context(|| format!("the log of `syncline up` ends with\n{}", self.log_tail(60)))
    }

    /// Kills `syncline up` as a power failure would (SIGKILL), and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        let pid = self.pid()?;
        kill_process(pid, Signal::KILL)?;
        self.await_end(pid)?;
        self.close_guard()
    }

    /// Stops `syncline up` in good order and waits until it is gone.
    pub fn stop(&self) -> Result<()> {
        let pid = self.pid()?;
        kill_process(pid, Signal::TERM)?;
        self.await_end(pid)?;
        self.close_guard()
    }

    /// Starts again on the same data, and waits until it answers.
    pub async fn restart(&self) -> Result<()> {
        self.launch()?;
        self.ready().await
    }

    /// The process id of `syncline up`.
    pub fn pid(&self) -> Result<Pid> {
        wait_for_blocking(
            "the process id of `syncline up`",
            Duration::from_secs(10),
            || {
                let Ok(text) = fs::read_to_string(self.pid_path()) else {
                    return Ok(Look::NotYet(format!("no {}", self.pid_path().display())));
                };
                let pid = Pid::from_raw(text.trim().parse()?)
                    .ok_or_else(|| anyhow!("process id {text:?}"))?;
                Ok(Look::Done(pid))
            },
        )
    }

    /// Whether `syncline up` runs.
    pub fn runs(&self) -> Result<bool> {
        Ok(is_alive(self.pid()?))
    }

    /// The generated kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data().join("kubeconfig")
    }

    /// The folder with the stock programs that the machine may lack.
    fn programs(&self) -> PathBuf {
        self.folder.path().join(PROGRAMS)
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder beside the data folder, removed with the cluster.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// The user and group that own what the cluster's pods write.
    pub fn owner(&self) -> (u32, u32) {
        if self.who == Who::Ordinary && is_root() {
            (ORDINARY_ID, ORDINARY_ID)
        } else {
            (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            )
        }
    }

    /// A `syncline` command for this cluster, run by the cluster's user.
    pub fn syncline<S: Into<OsString>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let mut line = self.command_line(&arguments).into_iter();
        let mut command = Command::new(line.next().unwrap_or_default());
        command
            .args(line)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.data())
            .env("NO_COLOR", "1");
        command
    }

    fn command_line(&self, arguments: &[OsString]) -> Vec<OsString> {
        let mut line: Vec<OsString> = Vec::new();
        if self.who == Who::Ordinary && is_root() {
            let id = ORDINARY_ID.to_string();
            line.extend(
                ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"].map(OsString::from),
            );
        }
        line.push(self.binary.clone().into());
        line.extend(arguments.iter().cloned());
        line
    }

    /// The last lines that `syncline up` wrote.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read(self.log_path()).unwrap_or_default();
        last_lines(&String::from_utf8_lossy(&text), lines, |_| true)
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("up.log")
    }

    fn pid_path(&self) -> PathBuf {
        self.folder.path().join("up.pid")
    }

    fn guard(&self) -> MutexGuard<'_, Option<Child>> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_end(&self, pid: Pid) -> Result<()> {
        wait_for_blocking("`syncline up` to end", STOP_CAP, || {
            Ok(if is_alive(pid) {
                Look::NotYet(format!(
                    "{} lives; its log ends\n{}",
                    pid.as_raw_nonzero(),
                    self.log_tail(20)
                ))
            } else {
                Look::Done(())
            })
        })
    }

    fn close_guard(&self) -> Result<()> {
        if let Some(mut child) = self.guard().take() {
            if let Some(mut input) = child.stdin.take() {
                // When the shell is gone already there is nobody left to tell.
                let _ = input.write_all(KEEP);
            }
            child.wait()?;
        }
        Ok(())
    }

    fn tear_down(&self) -> Result<()> {
        if self.guard().is_none() {
            return Ok(());
        }
        let pid = self.pid()?;
        if is_alive(pid) {
            kill_process(pid, Signal::TERM)?;
            if self.await_end(pid).is_err() {
                kill_process(pid, Signal::KILL)?;
            }
        }
        self.close_guard()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Best effort: the test has its result, and the guard's shell ends the cluster in any case.
        let _ = self.tear_down();
        let _ = Command::new("chmod")
            .args(["-R", "u+rwX"])
            .arg(self.folder.path())
            .stderr(Stdio::null())
            .status();
    }
}

/// Makes a folder with this rclone, if any, where an ordinary user finds it, too.
fn give_programs(folder: &Path, rclone: Option<&Path>) -> Result<()> {
    fs::create_dir(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    let Some(stock) = rclone else {
        return Ok(());
    };
    let given = folder.join("rclone");
    // One that lies on another file system cannot be linked.
    fs::hard_link(stock, &given)
        .or_else(|_| fs::copy(stock, &given).map(drop))
        .with_context(|| format!("cannot copy {}", stock.display()))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
