//! The outer stage: makes the namespaces, starts pid 1 in them, and stands between it and the node.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::error::LaunchError;
use super::privileges::{self, Caller};
use super::spec::Spec;
use super::{INSIDE, START_FAILED};

/// Runs the outer stage; gives the container's exit code.
pub(super) fn run(arguments: &[OsString]) -> Result<u8, LaunchError> {
    privileges::keep_stray_descriptors()
        .map_err(|source| failed("closed what it was left with", source))?;
    let caller = Caller::of_this_process();
    let control = privileges::control_socket().map_err(LaunchError::Description)?;
    let control = UnixStream::from(control);
    let spec = Spec::read_from(&control).map_err(LaunchError::Description)?;
    privileges::enter_namespaces(&caller)?;
    let (inner, theirs) =
        UnixStream::pair().map_err(|source| failed("made a socket for pid 1", source))?;
    let mut child = start_inside(arguments, &caller, theirs)
        .map_err(|source| failed("started pid 1", source))?;
    let frame = spec.to_frame().map_err(LaunchError::Description)?;
    drop(spec);
    (&inner)
        .write_all(&frame)
        .map_err(LaunchError::Description)?;
    let supervised =
        supervise(&control, &inner, &child).map_err(|source| failed("watched pid 1", source));
    if supervised.is_err() {
        // Nothing of the container may outlive its supervisor.
        drop(child.kill());
    }
    let status = child
        .wait()
        .map_err(|source| failed("waited for pid 1", source))?;
    supervised.map(|()| exit_code(status))
}

fn failed(what: &'static str, source: std::io::Error) -> LaunchError {
    LaunchError::Launcher { what, source }
}

/// Starts this program again as pid 1 of the new pid namespace.
fn start_inside(
    arguments: &[OsString],
    caller: &Caller,
    control: UnixStream,
) -> std::io::Result<Child> {
    let all: Vec<OsString> = std::env::args_os().collect();
    let verb = all
        .get(1..all.len().saturating_sub(arguments.len()))
        .unwrap_or_default();
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("syncline-pod")
        .args(verb)
        .arg(INSIDE)
        .args(caller.to_arguments());
    command
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(control)))
        .spawn()
}

/// Passes on what the node asks and what pid 1 reports, until pid 1 ends.
fn supervise(control: &UnixStream, inner: &UnixStream, child: &Child) -> std::io::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| std::io::Error::other("pid 1 has no process id"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let mut node_is_there = true;
    let mut inside_is_there = true;
    let readable = PollFlags::IN;
    loop {
        let of_node = if node_is_there {
            readable
        } else {
            PollFlags::empty()
        };
        let of_inside = if inside_is_there {
            readable
        } else {
            PollFlags::empty()
        };
        let mut watched = [
            PollFd::from_borrowed_fd(pidfd.as_fd(), readable),
            PollFd::from_borrowed_fd(
                if node_is_there {
                    control.as_fd()
                } else {
                    pidfd.as_fd()
                },
                of_node,
            ),
            PollFd::from_borrowed_fd(
                if inside_is_there {
                    inner.as_fd()
                } else {
                    pidfd.as_fd()
                },
                of_inside,
            ),
        ];
        match poll(&mut watched, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [exited, asked, reported] = watched.map(|entry| !entry.revents().is_empty());
        if inside_is_there && reported {
            inside_is_there = relay(inner, control);
        }
        if exited {
            return Ok(());
        }
        if node_is_there && asked {
            node_is_there = obey(control, pid)?;
        }
    }
}

/// Sends on what pid 1 reported. False when pid 1 will report no more.
fn relay(mut inner: &UnixStream, mut control: &UnixStream) -> bool {
    let mut buffer = [0; 4096];
    match inner.read(&mut buffer) {
        Ok(0) | Err(_) => false,
        Ok(length) => {
            // A node that is gone is noticed by the read on the control socket.
            drop(control.write_all(buffer.get(..length).unwrap_or_default()));
            true
        }
    }
}

/// Sends pid 1 the signals that the node asked for, one byte each; kills it when the node is gone.
fn obey(mut control: &UnixStream, pid: Pid) -> std::io::Result<bool> {
    let mut buffer = [0; 16];
    let length = control.read(&mut buffer).unwrap_or(0);
    if length == 0 {
        kill_process(pid, Signal::KILL)?;
        return Ok(false);
    }
    for signal in buffer
        .iter()
        .take(length)
        .filter_map(|byte| Signal::from_named_raw(i32::from(*byte)))
    {
        kill_process(pid, signal)?;
    }
    Ok(true)
}

/// As shells and container runtimes count: 128 and the signal's number for a killed process.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(START_FAILED)
}
