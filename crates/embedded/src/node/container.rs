//! One start of one container: the launcher's process, its log, its end.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::watch;

use super::env::PATH;
use super::launcher::START_FAILED;
use super::launcher::spec::{Report, Spec};
use super::log::LogWriter;
use crate::clock::Clock;

const SIGTERM: u8 = 15;
const SIGKILL: u8 = 9;

/// The program that becomes a container's first process.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The program, usually this very one.
    pub program: PathBuf,
    /// The words before the launcher's own arguments, for instance its hidden verb.
    pub arguments: Vec<String>,
}

/// The hidden verb under which the command line calls the launcher.
const VERB: &str = "embedded-pod-launcher";

impl Launcher {
    /// This program's own binary, which answers the hidden verb `embedded-pod-launcher` with `launcher_main`.
    pub fn of_program(program: PathBuf) -> Self {
        Self {
            program,
            arguments: vec![VERB.to_owned()],
        }
    }
}

/// When a container has to be gone; `None` while it may run.
pub(crate) type Stop = watch::Receiver<Option<Timestamp>>;

/// How a start ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The program ran and gave this code; 128 and the signal's number when it was killed.
    Code(i32),
    /// The program was never started.
    NotStarted(String),
}

/// What a start needs beside its [`Spec`].
pub(crate) struct Start {
    pub(crate) launcher: Launcher,
    pub(crate) spec: Spec,
    pub(crate) log: LogWriter,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Start {
    /// Runs the container to its end, or until `stop` says so. `on_started` is called once its program runs.
    pub(crate) async fn run(
        self,
        mut stop: Stop,
        on_started: impl FnOnce() -> BoxFuture<'static, ()>,
    ) -> io::Result<Exit> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut child = self.spawn(theirs)?;
        let (reader, mut writer) = UnixStream::from_std(ours)?.into_split();
        // A launcher that dies before it has read everything is seen by its exit.
        let sent = writer.write_all(&self.spec.to_frame()?).await;
        if let Err(error) = sent {
            tracing::debug!(%error, "the launcher did not read its description");
        }
        let copy = copy_output(&self.log, child.stdout.take(), child.stderr.take());
        let control = Control {
            reports: BufReader::new(reader).lines(),
            writer,
            clock: Arc::clone(&self.clock),
        };
        let (copied, ended) =
            tokio::join!(copy, control.until_exit(&mut child, &mut stop, on_started));
        self.log.complete();
        copied?;
        ended
    }

    fn spawn(&self, control: std::os::unix::net::UnixStream) -> io::Result<Child> {
        let mut command = Command::new(&self.launcher.program);
        command
            .args(&self.launcher.arguments)
            .env_clear()
            .env("PATH", PATH)
            .current_dir("/");
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(control)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: an interrupt typed at the terminal is for the cluster, which stops its pods in order.
        command.process_group(0).kill_on_drop(true).spawn()
    }
}

async fn copy_output(
    log: &LogWriter,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
) -> io::Result<()> {
    let out = async {
        match stdout {
            Some(stdout) => log.copy("stdout", stdout).await,
            None => Ok(()),
        }
    };
    let err = async {
        match stderr {
            Some(stderr) => log.copy("stderr", stderr).await,
            None => Ok(()),
        }
    };
    let (out, err) = tokio::join!(out, err);
    out.and(err)
}

struct Control {
    reports: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    clock: Arc<dyn Clock>,
}

impl Control {
    async fn until_exit(
        mut self,
        child: &mut Child,
        stop: &mut Stop,
        on_started: impl FnOnce() -> BoxFuture<'static, ()>,
    ) -> io::Result<Exit> {
        let mut on_started = Some(on_started);
        let mut failure = None;
        let mut reporting = true;
        let mut asked = false;
        let mut stoppable = true;
        let status = loop {
            let deadline = *stop.borrow_and_update();
            if deadline.is_some() && !asked {
                asked = true;
                self.signal(SIGTERM).await;
            }
            tokio::select! {
                status = child.wait() => break status?,
                report = self.reports.next_line(), if reporting => match report.ok().flatten().as_deref().map(parse) {
                    Some(Some(Report::Started)) => {
                        if let Some(on_started) = on_started.take() {
                            on_started().await;
                        }
                    }
                    Some(Some(Report::Failed { message })) => failure = Some(message),
                    Some(None) => {}
                    None => reporting = false,
                },
                changed = stop.changed(), if stoppable => stoppable = changed.is_ok(),
                () = reached(self.clock.as_ref(), deadline) => self.signal(SIGKILL).await,
            }
        };
        // A container may have come and gone before its first report was read.
        while let Ok(Some(line)) = self.reports.next_line().await {
            match parse(&line) {
                Some(Report::Started) => {
                    if let Some(on_started) = on_started.take() {
                        on_started().await;
                    }
                }
                Some(Report::Failed { message }) => failure = Some(message),
                None => {}
            }
        }
        let code = exit_code(status);
        Ok(failure
            .filter(|_| code == i32::from(START_FAILED))
            .map_or(Exit::Code(code), Exit::NotStarted))
    }

    async fn signal(&mut self, number: u8) {
        if let Err(error) = self.writer.write_all(&[number]).await {
            tracing::debug!(%error, number, "a signal came after the container's end");
        }
    }
}

fn parse(line: &str) -> Option<Report> {
    serde_json::from_str(line).ok()
}

/// Waits for a moment, or for ever when there is none; kills again each second, should the first be lost.
async fn reached(clock: &dyn Clock, deadline: Option<Timestamp>) {
    match deadline {
        Some(deadline) if clock.now() >= deadline => {
            let soon = clock
                .now()
                .checked_add(jiff::SignedDuration::from_millis(200))
                .unwrap_or(deadline);
            clock.sleep_until(soon).await;
        }
        Some(deadline) => clock.sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(255)
}

/// The most bytes of a termination message, as Kubernetes has it.
const MESSAGE_LIMIT: usize = 4096;
/// The most bytes of a log that stand in for it.
const FALLBACK_LIMIT: usize = 2048;

/// Reads a termination message; an empty one of a failed container may fall back to the log's end.
pub(crate) async fn termination_message(
    file: &Path,
    log: &Path,
    code: i32,
    fall_back: bool,
) -> Option<String> {
    use tokio::io::AsyncReadExt as _;
    let mut bytes = Vec::new();
    let limit = u64::try_from(MESSAGE_LIMIT).unwrap_or(u64::MAX);
    if let Ok(opened) = tokio::fs::File::open(file).await {
        // What cannot be read is no message.
        drop(opened.take(limit).read_to_end(&mut bytes).await);
    }
    if bytes.is_empty() && fall_back && code != 0 {
        bytes = super::log::tail(log, FALLBACK_LIMIT).await.into_bytes();
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (!text.is_empty()).then_some(text)
}
