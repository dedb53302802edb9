//! One command of one client, from its check to its end.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, ExitCode};

use rustix::io::FdFlags;
use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::command::{self, Command, Receive, Refusal};
use super::talk::{self, Answer, Request, Settings};
use crate::console::{complain, printable};
use crate::fs::{self, Place, PlaceError};
use crate::rsync::preservation;

/// rsync's default limit for one allocation, stated so that a client's own number cannot raise it.
const ALLOCATION_LIMIT: &str = "--max-alloc=1G";
/// What rsync needs are a handful.
const OPEN_FILES: u64 = 1024;

#[derive(Debug, thiserror::Error)]
pub(super) enum GateError {
    #[error("Invalid command: {0}")]
    Refused(#[from] Refusal),
    #[error("Invalid command: {0}")]
    Place(#[from] PlaceError),
    #[error("refused: {0}")]
    Denied(String),
    #[error(
        "the destination's supervisor does not answer ({0}); it has probably ended, so start the transfer again"
    )]
    Supervisor(std::io::Error),
    #[error("the destination is not set up ({0}); start it again")]
    Settings(String),
    #[error("the session cannot be confined ({0})")]
    Confine(rustix::io::Errno),
    #[error("rsync cannot be started at the destination ({0}); its image must contain rsync")]
    Spawn(std::io::Error),
}

/// Runs the command in `SSH_ORIGINAL_COMMAND` under the supervision that `folder` belongs to.
pub(super) fn run(folder: &Path) -> ExitCode {
    keep_stray_descriptors();
    let line = std::env::var_os("SSH_ORIGINAL_COMMAND")
        .unwrap_or_default()
        .into_vec();
    let outcome =
        command::parse(&line)
            .map_err(GateError::from)
            .and_then(|command| match command {
                Command::Shutdown(code) => shut_down(folder, code),
                Command::Receive(receive) => transfer(folder, &receive),
                Command::ReceiveBlock => super::block::transfer(folder),
            });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let text = error.to_string();
            complain(&text);
            // The log is a courtesy here: the client has been told, and nothing was started.
            if let Ok(mut supervisor) = connect(folder) {
                let shown = printable(line.get(..line.len().min(512)).unwrap_or(&line));
                let _ = send(
                    &mut supervisor,
                    &Request::Refused(format!("`{shown}`: {}", printable(text.as_bytes()))),
                );
            }
            ExitCode::from(1)
        }
    }
}

fn shut_down(folder: &Path, code: u8) -> Result<ExitCode, GateError> {
    let mut supervisor = connect(folder)?;
    send(&mut supervisor, &Request::Shutdown(code))?;
    let mut answers = BufReader::new(supervisor.try_clone().map_err(GateError::Supervisor)?);
    permitted(&mut answers)?;
    let said = if code == 0 {
        "the data is safe on the destination's volume"
    } else {
        "the destination ends as failed"
    };
    // A client that reads nothing still gets the exit code.
    let _ = writeln!(std::io::stdout(), "shutdown {code} acknowledged: {said}");
    if let Some(line) = preservation::line().filter(|_| code == 0) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    Ok(ExitCode::SUCCESS)
}

fn transfer(folder: &Path, receive: &Receive) -> Result<ExitCode, GateError> {
    let settings = settings(folder)?;
    if settings.block.is_some() {
        return Err(Refusal::BlockDevice.into());
    }
    let (mut supervisor, answers) = begin(folder, !receive.dry_run)?;
    let root =
        fs::open_root(&settings.root).map_err(|errno| GateError::Settings(errno.to_string()))?;
    let place = fs::resolve_beneath(&root, &receive.components, receive.make_path)?;
    let target = enter(place, receive.is_folder).map_err(GateError::Confine)?;
    confine().map_err(GateError::Confine)?;
    // rsync and its children hold the connection open as long as any of them lives.
    let held = supervisor.try_clone().map_err(GateError::Supervisor)?;
    rustix::io::fcntl_setfd(&held, FdFlags::empty()).map_err(GateError::Confine)?;
    let mut child = start_rsync(&settings, receive, target).map_err(GateError::Spawn)?;
    drop(held);
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    end_with_supervisor(answers, move || {
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, Signal::TERM);
        }
    });
    let status = child.wait().map_err(GateError::Spawn)?;
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    send(&mut supervisor, &Request::End(code))?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Asks the supervisor for a transfer; gives the way to it and what it will say.
pub(super) fn begin(
    folder: &Path,
    writes: bool,
) -> Result<(UnixStream, BufReader<UnixStream>), GateError> {
    let mut supervisor = connect(folder)?;
    send(&mut supervisor, &Request::Begin { writes })?;
    let mut answers = BufReader::new(supervisor.try_clone().map_err(GateError::Supervisor)?);
    permitted(&mut answers)?;
    Ok((supervisor, answers))
}

fn start_rsync(settings: &Settings, receive: &Receive, target: OsString) -> std::io::Result<Child> {
    let mut command = std::process::Command::new(&settings.rsync);
    command
        .arg0("rsync")
        .arg("--server")
        .args(&receive.options)
        .arg(ALLOCATION_LIMIT);
    if settings.confine_root {
        let mut confine = OsString::from("--confine-root=");
        confine.push(&settings.root);
        command.arg(confine);
    }
    command.arg(".").arg(target);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C");
    command.process_group(0).spawn()
}

/// Makes the place the working folder and gives the name that rsync is to write to from there.
fn enter(place: Place, is_folder: bool) -> rustix::io::Result<OsString> {
    match place {
        Place::Folder(folder) => {
            rustix::process::fchdir(&folder)?;
            Ok(OsString::from("."))
        }
        Place::Entry { parent, name } => {
            rustix::process::fchdir(&parent)?;
            let mut target = OsString::from("./");
            target.push(name);
            if is_folder {
                target.push("/");
            }
            Ok(target)
        }
    }
}

pub(super) fn confine() -> rustix::io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let files = Some(
        limit
            .maximum
            .map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES)),
    );
    rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: files,
            maximum: files,
        },
    )?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}

/// When the supervisor ends or says so, the transfer ends too.
pub(super) fn end_with_supervisor(
    mut answers: BufReader<UnixStream>,
    end: impl FnOnce() + Send + 'static,
) {
    std::thread::spawn(move || {
        let mut line = String::new();
        // Whatever comes, an end or a word, means stop; nothing comes while all is well.
        let _ = answers.read_line(&mut line);
        end();
    });
}

pub(super) fn settings(folder: &Path) -> Result<Settings, GateError> {
    let text = std::fs::read(folder.join(talk::SETTINGS))
        .map_err(|error| GateError::Settings(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| GateError::Settings(error.to_string()))
}

fn connect(folder: &Path) -> Result<UnixStream, GateError> {
    UnixStream::connect(folder.join(talk::SOCKET)).map_err(GateError::Supervisor)
}

pub(super) fn send(supervisor: &mut UnixStream, request: &Request) -> Result<(), GateError> {
    supervisor
        .write_all(request.to_line().as_bytes())
        .map_err(GateError::Supervisor)
}

fn permitted(answers: &mut BufReader<UnixStream>) -> Result<(), GateError> {
    let mut line = String::new();
    answers
        .read_line(&mut line)
        .map_err(GateError::Supervisor)?;
    match Answer::parse(line.trim_end()) {
        Some(Answer::Yes) => Ok(()),
        Some(Answer::No(why)) => Err(GateError::Denied(why)),
        None => Err(GateError::Supervisor(
            std::io::ErrorKind::UnexpectedEof.into(),
        )),
    }
}

/// Keeps descriptors that sshd may have left open from reaching rsync.
fn keep_stray_descriptors() {
    let Ok(listing) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<i32> = listing
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
        })
        .collect();
    for number in open.into_iter().filter(|number| *number > 2) {
        #[expect(
            unsafe_code,
            reason = "only the flag of a number that is or was open is set; a closed one gives EBADF"
        )]
        // SAFETY: the descriptor is used for one fcntl that neither reads, writes nor closes it.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC);
    }
}
