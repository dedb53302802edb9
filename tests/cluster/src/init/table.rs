//! The processes of the cluster, as its first process knows them.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitStatus, kill_process};

use crate::control::{Kind, Process, State};

#[derive(Default)]
pub(super) struct Table {
    /// What was started and not told to end.
    wanted: BTreeMap<String, Process>,
    running: BTreeMap<String, Pid>,
    /// How each one ended, and how often it did by itself.
    ended: BTreeMap<String, (String, u32)>,
}

impl Table {
    /// Starts a process, unless one of its name runs.
    pub(super) fn start(&mut self, process: Process) -> Result<()> {
        let name = process.name.clone();
        if !self.running.contains_key(&name) {
            self.ended.remove(&name);
        }
        self.wanted.insert(name.clone(), process);
        self.start_again(&name)
    }

    /// Starts a process that is wanted and does not run.
    pub(super) fn start_again(&mut self, name: &str) -> Result<()> {
        if let Some(process) = self.wanted.get(name)
            && !self.running.contains_key(name)
        {
            self.running.insert(name.to_owned(), spawn(process)?);
        }
        Ok(())
    }

    pub(super) fn signal(&mut self, name: &str, signal: Kind) -> Result<()> {
        if matches!(signal, Kind::Stop | Kind::Kill) {
            self.wanted.remove(name);
        }
        let Some(pid) = self.running.get(name) else {
            return Ok(());
        };
        let signal = match signal {
            Kind::Stop => Signal::TERM,
            Kind::Kill => Signal::KILL,
            Kind::Pause => Signal::STOP,
            Kind::Resume => Signal::CONT,
        };
        match kill_process(*pid, signal) {
            // It has just ended by itself: the driver's sidecars do when the driver goes.
            Err(Errno::SRCH) => Ok(()),
            other => other.with_context(|| format!("cannot signal {name}")),
        }
    }

    /// Notes the end of a process; its name, if it should run.
    pub(super) fn bury(&mut self, pid: Pid, status: WaitStatus) -> Option<String> {
        let found = self.running.iter().find(|(_, running)| **running == pid);
        let name = found?.0.clone();
        self.running.remove(&name);
        let wanted = self.wanted.contains_key(&name);
        let (how, times) = self.ended.entry(name.clone()).or_default();
        *how = verdict(status);
        *times += u32::from(wanted);
        wanted.then_some(name)
    }

    pub(super) fn states(&self) -> BTreeMap<String, State> {
        let ended = self.ended.iter();
        let ended =
            ended.map(|(name, (how, times))| (name.clone(), State::Ended(how.clone(), *times)));
        let running = self.running.keys();
        let running = running.map(|name| (name.clone(), State::Running));
        // One that was started again runs.
        ended.chain(running).collect()
    }
}

fn verdict(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (_, Some(signal)) => format!("ended by signal {signal}"),
        _ => "ended".to_owned(),
    }
}

fn spawn(process: &Process) -> Result<Pid> {
    ensure!(
        process.program.exists(),
        "{} is not there: run `test-cluster build`",
        process.program.display()
    );
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&process.log)
        .with_context(|| format!("cannot write {}", process.log.display()))?;
    let child = Command::new(&process.program)
        .args(&process.arguments)
        .envs(process.environment.iter().cloned())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", process.program.display()))?;
    // It is waited for with all others.
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.context("a process without a number")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rustix::process::{WaitOptions, waitpid};

    use super::*;

    fn process(folder: &std::path::Path, program: &str, argument: &str) -> Process {
        Process {
            name: "one".to_owned(),
            program: PathBuf::from(program),
            arguments: vec![argument.to_owned()],
            environment: Vec::new(),
            log: folder.join("one.log"),
        }
    }

    /// Waits for the end of the only process; whether it is to be started again.
    fn bury(table: &mut Table) -> Option<String> {
        let pid = table.running["one"];
        let (pid, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        table.bury(pid, status)
    }

    #[test]
    fn what_ends_by_itself_is_started_again_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut table = Table::default();
        table
            .start(process(folder.path(), "/bin/sleep", "0"))
            .unwrap();
        assert_eq!(bury(&mut table).as_deref(), Some("one"));
        table.start_again("one").unwrap();
        assert_eq!(table.states()["one"], State::Running);
        bury(&mut table);
        let how = "ended with code 0".to_owned();
        assert_eq!(table.states()["one"], State::Ended(how, 2));
    }

    #[test]
    fn what_was_told_to_end_stays_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut table = Table::default();
        table
            .start(process(folder.path(), "/bin/sleep", "1000"))
            .unwrap();
        table.signal("one", Kind::Pause).unwrap();
        table.signal("one", Kind::Kill).unwrap();
        assert_eq!(bury(&mut table), None);
        table.start_again("one").unwrap();
        let how = "ended by signal 9".to_owned();
        assert_eq!(table.states()["one"], State::Ended(how, 0));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut table = Table::default();
        let error = table
            .start(process(folder.path(), "/nowhere", "0"))
            .unwrap_err();
        assert!(error.to_string().contains("/nowhere"), "{error}");
    }
}
