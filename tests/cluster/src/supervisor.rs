//! The first process of the cluster's namespaces: it mounts, starts the parts, answers requests and reaps.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, test_kill_process, wait};

use crate::command::wait_until;
use crate::control::Request;
use crate::folders::State;
use crate::mounts;
use crate::parts::{self, Name, Process};

/// How long a process may take to end before it is killed.
const END_CAP: Duration = Duration::from_secs(10);
/// How often processes that ended are reaped.
const REAP_EVERY: Duration = Duration::from_millis(50);
/// The file in the state folder that holds the node's address.
pub(crate) const ADDRESS: &str = "address";

/// Prepares the namespaces, and then does as it is asked until it is asked to end.
pub(crate) fn run(state: &State) -> Result<()> {
    mounts::prepare(state)?;
    let address = fs::read_to_string(state.path(ADDRESS))?.trim().parse()?;
    let mut node = Node {
        state: state.clone(),
        address,
        running: BTreeMap::new(),
    };
    let listener = UnixListener::bind(state.socket())?;
    // From here on nobody waits for a child but this thread: as the first process we also get those of others.
    thread::spawn(reap);
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let outcome = node.serve(&stream);
        let answer = match &outcome {
            Ok(_) => "ok".to_owned(),
            Err(error) => format!("{error:#}").replace('\n', " "),
        };
        let _ = writeln!(&stream, "{answer}");
        if matches!(outcome, Ok(Request::End)) {
            break;
        }
    }
    Ok(())
}

fn reap() {
    loop {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        thread::sleep(REAP_EVERY);
    }
}

/// The processes that run.
struct Node {
    state: State,
    address: Ipv4Addr,
    running: BTreeMap<Name, Vec<Pid>>,
}

impl Node {
    fn serve(&mut self, stream: &UnixStream) -> Result<Request> {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let request = Request::parse(&line)?;
        match request {
            Request::Start(name) => self.start(name)?,
            Request::Stop(name) => self.stop(name)?,
            Request::Pause(name) => self.signal(name, Signal::STOP)?,
            Request::Resume(name) => self.signal(name, Signal::CONT)?,
            Request::End => self.end()?,
        }
        Ok(request)
    }

    fn start(&mut self, name: Name) -> Result<()> {
        let alive = |pids: &Vec<Pid>| pids.iter().any(|pid| test_kill_process(*pid).is_ok());
        ensure!(
            !self.running.get(&name).is_some_and(alive),
            "{} runs already",
            name.word()
        );
        let processes = parts::processes(&self.state, name, self.address)?;
        let mut pids = Vec::new();
        for process in &processes {
            pids.push(self.spawn(process)?);
        }
        self.running.insert(name, pids);
        Ok(())
    }

    fn spawn(&self, process: &Process) -> Result<Pid> {
        let path = self.state.path("logs").join(format!("{}.log", process.log));
        let log = File::options().create(true).append(true).open(path)?;
        let child = Command::new(&process.program)
            .args(&process.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} could not be started", process.program.display()))?;
        Ok(Pid::from_child(&child))
    }

    fn stop(&mut self, name: Name) -> Result<()> {
        let pids = self
            .running
            .remove(&name)
            .with_context(|| format!("{} does not run", name.word()))?;
        for pid in &pids {
            // A frozen process hears nothing else.
            let _ = kill_process(*pid, Signal::CONT);
            let _ = kill_process(*pid, Signal::TERM);
        }
        let gone = |pid: Pid| {
            move || {
                ensure!(
                    test_kill_process(pid).is_err(),
                    "process {pid:?} still runs"
                );
                Ok(())
            }
        };
        for pid in pids {
            if wait_until("the end of a process", END_CAP, gone(pid)).is_err() {
                let _ = kill_process(pid, Signal::KILL);
                wait_until("the end of a killed process", END_CAP, gone(pid))?;
            }
        }
        Ok(())
    }

    fn signal(&self, name: Name, signal: Signal) -> Result<()> {
        let pids = self
            .running
            .get(&name)
            .with_context(|| format!("{} does not run", name.word()))?;
        for pid in pids {
            kill_process(*pid, signal)?;
        }
        Ok(())
    }

    /// Kills everything. The kernel would do so when we end; done here, the volumes can be unmounted.
    fn end(&mut self) -> Result<()> {
        for pids in self.running.values() {
            for pid in pids {
                let _ = kill_process(*pid, Signal::KILL);
            }
        }
        mounts::kill_everything()
    }
}
