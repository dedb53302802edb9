//! The inner stage: pid 1 of the container.

use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, wait,
};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use super::error::LaunchError;
use super::privileges::{self, Caller};
use super::root;
use super::spec::{Report, Spec};

/// The signals that are passed on to the container's program.
const PASSED_ON: [i32; 7] = [1, 2, 3, 10, 12, 15, 28];

/// Runs the inner stage; gives the exit code of the container's program.
pub(super) fn run() -> Result<u8, LaunchError> {
    let control = privileges::control_socket().map_err(LaunchError::Description)?;
    let control = std::fs::File::from(control);
    die_with_supervisor(control.as_fd())?;
    let spec = Spec::read_from(&control).map_err(LaunchError::Description)?;
    let caller = Caller::from_arguments(std::env::args());
    root::build(&spec, &caller)?;
    privileges::become_container_user(&spec.identity, &caller)?;
    // A change of credentials clears it.
    die_with_supervisor(control.as_fd())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|source| LaunchError::Launcher {
        what: "prepared pid 1",
        source,
    })?;
    runtime.block_on(serve(&spec, &control))
}

/// Lets the kernel kill this process, and with it the container, when the outer stage dies.
fn die_with_supervisor(control: BorrowedFd<'_>) -> Result<(), LaunchError> {
    let failed = |source: rustix::io::Errno| LaunchError::Launcher {
        what: "bound its life to its supervisor",
        source: source.into(),
    };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
    // It may have died before: then its end of the socket is closed.
    let mut watched = [PollFd::from_borrowed_fd(control, PollFlags::empty())];
    poll(&mut watched, Some(&Timespec::default())).map_err(failed)?;
    let [entry] = watched;
    if entry.revents().contains(PollFlags::HUP) {
        return Err(failed(rustix::io::Errno::PIPE));
    }
    Ok(())
}

/// Starts the program, passes signals on and reaps whatever ends, until the program ends.
async fn serve(spec: &Spec, control: &std::fs::File) -> Result<u8, LaunchError> {
    let failed = |source| LaunchError::Launcher {
        what: "listened for signals",
        source,
    };
    let mut ended = signal(SignalKind::child()).map_err(failed)?;
    let mut asked = Forwarded::listen().map_err(failed)?;
    let program = start(spec)?;
    drop(Report::Started.send(control));
    loop {
        tokio::select! {
            _ = ended.recv() => {
                if let Some(code) = reap(program) {
                    return Ok(code);
                }
            }
            raised = asked.next() => {
                if let Some(raised) = raised.and_then(Signal::from_named_raw) {
                    // It may have ended a moment ago, or have become another user.
                    let _ = kill_process(program, raised);
                }
            }
        }
    }
}

/// Starts the container's program.
fn start(spec: &Spec) -> Result<Pid, LaunchError> {
    let mut words = spec.argv.iter();
    let program = words.next().cloned().unwrap_or_default();
    let failed = |source| LaunchError::Exec {
        program: program.clone(),
        source,
    };
    std::env::set_current_dir(&spec.working_dir).map_err(failed)?;
    let mut command = Command::new(&program);
    command
        .args(words)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null());
    let child = command.spawn().map_err(failed)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| failed(std::io::Error::other("it has no process id")))
}

/// Reaps every process that has ended; gives the exit code of `program` when it was among them.
fn reap(program: Pid) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == program {
            let number = status
                .exit_status()
                .or_else(|| status.terminating_signal().map(|signal| 128 + signal));
            code = number.and_then(|number| u8::try_from(number).ok());
        }
    }
    code
}

/// The signals that are passed on, as one stream.
struct Forwarded(Vec<(i32, SignalStream)>);

impl Forwarded {
    fn listen() -> std::io::Result<Self> {
        let listen = |number| signal(SignalKind::from_raw(number)).map(|stream| (number, stream));
        PASSED_ON
            .into_iter()
            .map(listen)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    async fn next(&mut self) -> Option<i32> {
        futures::future::poll_fn(|context| {
            for (number, stream) in &mut self.0 {
                if stream.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(Some(*number));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
