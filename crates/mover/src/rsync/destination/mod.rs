//! The receiving end: sshd with the gate, watched over until the source says that it is done.
//!
//! Invariant: the destination reports success only after a transfer that ended well here, a source that said so, and a
//! `syncfs` of the volume; and it acknowledges to the source only then.

mod control;
mod ledger;
mod sshd;

use std::path::{Path, PathBuf};
use std::time::Duration;

use syncline_api::report::{Report, Role, reason as api_reason};
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::console::Console;
use crate::fs;
use crate::programs;
use crate::report::{Fault, reason};
use crate::rsync::block::Device;
use crate::rsync::gate::talk::{self, Answer, Request};
use crate::rsync::keys::PrivateFolder;
use crate::rsync::preservation;
use crate::rsync::settings::{self, DestinationSettings};
use crate::supervise::{each_line, told_to_stop};
use control::Event;
use ledger::{Denial, Ending, Ledger};

/// How long a request waits for the programs of a transfer that is just ending. A client may ask for the end before the
/// supervisor has seen that the last of them is gone.
const SETTLING: Duration = Duration::from_secs(3);

/// How long the source's connection may stay after the acknowledgment; VolSync's sources keep theirs for five seconds.
const LINGERING: Duration = Duration::from_secs(6);

/// The exit code of a destination that ended without being told one, as VolSync's.
const NEVER_TOLD: u8 = 255;

/// A destination that failed, and its exit code.
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    pub(crate) code: u8,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { fault, code: 1 }
    }
}

/// Receives until the source says that it is done.
pub(crate) async fn run(
    settings: &DestinationSettings,
    console: &Console,
) -> Result<Report, Failure> {
    let root = match &settings.places.block {
        None => prepare_root(settings)?,
        Some(device) => prepare_device(device)?,
    };
    let folder = PrivateFolder::make(&settings.places.scratch)?;
    write_gate_settings(&root, settings.places.block.is_some(), (&folder, console)).await?;
    let stop = CancellationToken::new();
    let (sender, events) = mpsc::channel(16);
    control::listen(folder.path(), sender, stop.clone())?;
    let mut server = sshd::start(settings, &folder)?;
    let log = relay_log(&mut server, console);
    let mut supervisor = Supervisor {
        console,
        root,
        ledger: Ledger::default(),
        waiting: Vec::new(),
        closing: Closing::No,
        first_transfer: None,
    };
    let outcome = tokio::select! {
        ending = supervisor.supervise(events) => match ending {
            Ending::Complete => {
                sshd::drain(&server, LINGERING).await;
                Ok(())
            }
            Ending::Aborted(code) => {
                sshd::drain(&server, LINGERING).await;
                Err(aborted(code))
            }
        },
        status = server.wait() => Err(server_ended(status.ok(), log).await),
        signal = told_to_stop() => Err(Failure::from(Fault::new(
            reason::INTERRUPTED,
            format!("the destination was told to stop by {signal} before the source was done; it runs again by itself"),
        ))),
    };
    stop.cancel();
    sshd::stop(&mut server).await;
    outcome?;
    let took = supervisor
        .first_transfer
        .map(|began| began.elapsed())
        .unwrap_or_default();
    console.say(&format!("Rsync completed in {}s", took.as_secs()));
    let mut report = Report::successful("rsync", Role::Destination);
    if settings.places.block.is_none() {
        report.unpreserved = preservation::at_destination();
    }
    Ok(report)
}

struct Supervisor<'a> {
    console: &'a Console,
    root: PathBuf,
    ledger: Ledger,
    waiting: Vec<Waiting>,
    closing: Closing,
    /// When the first transfer began.
    first_transfer: Option<Instant>,
}

/// How far the destination's end has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// The gate on this connection has its answer; the peer may not have read it yet.
    Answered(u64, Ending),
    /// The gate is gone, so sshd has its words for the peer.
    Told(Ending),
}

struct Waiting {
    connection: u64,
    request: Request,
    answer: oneshot::Sender<Answer>,
    deadline: Instant,
}

impl Supervisor<'_> {
    /// Answers gates until one has been told that the destination ends.
    async fn supervise(&mut self, mut events: mpsc::Receiver<Event>) -> Ending {
        loop {
            let deadline = self.waiting.iter().map(|waiting| waiting.deadline).min();
            let expired = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.handle(event).await,
                    // Nobody can ask any more; sshd's end is watched elsewhere.
                    None => std::future::pending().await,
                },
                () = expired => self.retry_waiting(true).await,
            }
            if let Closing::Told(ending) = self.closing {
                return ending;
            }
        }
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Asked {
                connection,
                request,
                answer,
            } => {
                let deadline = Instant::now() + SETTLING;
                self.decide(
                    Waiting {
                        connection,
                        request,
                        answer,
                        deadline,
                    },
                    false,
                )
                .await;
            }
            Event::Told {
                connection,
                request: Request::End(code),
            } => self.ledger.end(connection, code),
            Event::Told {
                request: Request::Refused(why),
                ..
            } => self.console.say(&format!("Invalid command: {why}")),
            Event::Told {
                request: Request::Noted(what),
                ..
            } => self.console.say(&what),
            Event::Told { .. } => {}
            Event::Gone { connection } => {
                if let Some(code) = self.ledger.gone(connection) {
                    self.console.say(&describe_end(code));
                }
                match self.closing {
                    Closing::Answered(answered, ending) if answered == connection => {
                        self.closing = Closing::Told(ending);
                    }
                    _ => self.retry_waiting(false).await,
                }
            }
        }
    }

    async fn retry_waiting(&mut self, expire: bool) {
        for waiting in std::mem::take(&mut self.waiting) {
            let expired = expire && waiting.deadline <= Instant::now();
            self.decide(waiting, expired).await;
        }
    }

    async fn decide(&mut self, waiting: Waiting, expired: bool) {
        let decision = match waiting.request {
            Request::Begin { writes } => {
                self.ledger.begin(waiting.connection, writes).map(|()| None)
            }
            Request::Shutdown(code) => self.ledger.shutdown(code).map(Some),
            // Nothing else is asked.
            _ => return,
        };
        match decision {
            Err(Denial::Busy) if !expired => self.waiting.push(waiting),
            Err(denial) => {
                self.console.say(&format!("refused: {denial}"));
                answer(waiting.answer, Answer::No(denial.to_string()));
            }
            Ok(None) => {
                self.console.say("a transfer begins");
                self.first_transfer.get_or_insert_with(Instant::now);
                answer(waiting.answer, Answer::Yes);
            }
            Ok(Some(ending)) => self.close(waiting, ending).await,
        }
    }

    async fn close(&mut self, waiting: Waiting, ending: Ending) {
        if ending == Ending::Complete {
            self.console
                .say("the transfer is complete; bringing the volume to disk");
            if let Err(error) = sync_volume(self.root.clone()).await {
                self.console
                    .say(&format!("the volume could not be brought to disk: {error}"));
                self.ledger.reopen();
                answer(
                    waiting.answer,
                    Answer::No(format!("the volume could not be brought to disk: {error}")),
                );
                return;
            }
        }
        if ending == Ending::Complete {
            // Nothing changes the volume any more, so its image may be made while the peer takes its leave.
            let report = Report::successful("rsync", Role::Destination);
            self.console.machine(&report.to_line(false));
        }
        self.closing = Closing::Answered(waiting.connection, ending);
        answer(waiting.answer, Answer::Yes);
    }
}

fn answer(channel: oneshot::Sender<Answer>, answer: Answer) {
    // A gate that is gone needs no answer; its connection's end is an event of its own.
    let _ = channel.send(answer);
}

async fn sync_volume(root: PathBuf) -> std::io::Result<()> {
    let synced = tokio::task::spawn_blocking(move || {
        let volume = std::fs::File::open(root)?;
        if volume.metadata()?.is_dir() {
            rustix::fs::syncfs(&volume)?;
        } else {
            volume.sync_all()?;
        }
        Ok(())
    });
    synced.await.map_err(std::io::Error::other)?
}

fn describe_end(code: i32) -> String {
    match code {
        0 => "the transfer ended well here".to_owned(),
        ledger::VANISHED => "the transfer broke off".to_owned(),
        code => format!("the transfer ended with exit code {code}"),
    }
}

fn aborted(code: u8) -> Failure {
    let message = format!("the source ended its transfer with code {code}; its status says why");
    Failure {
        fault: Fault::new(reason::ABORTED_BY_SOURCE, message),
        code,
    }
}

async fn server_ended(
    status: Option<std::process::ExitStatus>,
    log: JoinHandle<String>,
) -> Failure {
    let status = status.map_or_else(|| "unknown status".to_owned(), |status| status.to_string());
    // A connection that outlives the server keeps its log open; the reason has been said long before.
    let words = tokio::time::timeout(SETTLING, log).await;
    let words = words
        .ok()
        .and_then(Result::ok)
        .unwrap_or_else(|| "none, see the log".to_owned());
    let message =
        format!("sshd ended ({status}) before the source was done; its last words: {words}");
    Failure {
        fault: Fault::new(reason::SERVER_FAILED, message),
        code: NEVER_TOLD,
    }
}

/// Passes sshd's log on to its end, and gives its last line then.
fn relay_log(server: &mut Child, console: &Console) -> JoinHandle<String> {
    let (stream, console) = (server.stderr.take(), console.clone());
    tokio::spawn(async move {
        let mut last = String::new();
        if let Some(stream) = stream {
            each_line(stream, |line| {
                console.relay(line);
                last = crate::console::printable(line);
            })
            .await;
        }
        last
    })
}

/// The folder that peers write to, made when the destination names one that is not there yet.
fn prepare_root(settings: &DestinationSettings) -> Result<PathBuf, Fault> {
    let data = &settings.places.data;
    let unwritable = |path: &Path, why: &dyn std::fmt::Display| {
        Fault::new(
            reason::DESTINATION_UNWRITABLE,
            format!(
                "the destination's volume at {} cannot be written to: {why}",
                path.display()
            ),
        )
    };
    let data = data
        .canonicalize()
        .map_err(|error| unwritable(data, &error))?;
    let components = settings::components(&settings.path);
    let handle = fs::open_root(&data).map_err(|error| unwritable(&data, &error))?;
    let opened = fs::make_folders(&handle, &components)
        .and_then(|()| fs::resolve_beneath(&handle, &components, false));
    let why = match opened {
        Ok(fs::Place::Folder(_)) => None,
        Ok(fs::Place::Entry { .. }) => Some("it is not a folder".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(why) = why {
        return Err(Fault::new(
            api_reason::INVALID_SETTINGS,
            format!(
                "spec.rsync.path `{}` cannot be used in the destination's volume: {why}",
                settings.path
            ),
        ));
    }
    let root = components.iter().fold(data, |path, name| path.join(name));
    // Follows links: those inside the volume were admitted above.
    let root = root
        .canonicalize()
        .map_err(|error| unwritable(&root, &error))?;
    rustix::fs::access(
        &root,
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
    )
    .map_err(|error| unwritable(&root, &error))?;
    Ok(root)
}

/// A device that can be written to.
fn prepare_device(device: &Path) -> Result<PathBuf, Fault> {
    let opened = Device::open_to_write(device);
    opened.map(|_| device.to_owned()).map_err(|error| {
        let message = format!("the destination's device cannot be written to: {error}; check the volume's node and driver");
        Fault::new(reason::DESTINATION_UNWRITABLE, message)
    })
}

async fn write_gate_settings(
    root: &Path,
    is_device: bool,
    (folder, console): (&PrivateFolder, &Console),
) -> Result<(), Fault> {
    let rsync = programs::find("rsync")?;
    let help = tokio::process::Command::new(&rsync)
        .arg("--help")
        .output()
        .await;
    let confine_root =
        help.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("--confine-root"));
    if !confine_root {
        console.say("warning: rsync here is older than 3.5.0, which closed known ways out of a folder; update it");
    }
    let settings = talk::Settings {
        root: root.to_owned(),
        rsync,
        confine_root,
        block: is_device.then(|| root.to_owned()),
    };
    let text = serde_json::to_vec(&settings).unwrap_or_default();
    fs::write_private(&folder.file(talk::SETTINGS), &text).map_err(|error| {
        Fault::new(
            reason::POD_INCOMPLETE,
            format!("the gate's settings cannot be written: {error}"),
        )
    })
}
