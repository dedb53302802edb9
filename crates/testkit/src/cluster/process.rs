//! Processes of this machine, as `/proc` shows them.

use std::collections::HashMap;
use std::fs;

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Some processes of pods, as they were found.
#[derive(Clone, Debug)]
pub struct Processes(Vec<Pid>);

impl Processes {
    pub(super) fn chosen(found: Vec<Pid>, chosen: impl Fn(&str) -> bool) -> Self {
        let chosen = |pid: &Pid| chosen(&command_line_of(*pid));
        Self(found.into_iter().filter(chosen).collect())
    }

    /// Sends them a signal; tells how many there were still to get it.
    pub fn signal(&self, signal: Signal) -> usize {
        let reached = |pid: &&Pid| is_alive(**pid) && kill_process(**pid, signal).is_ok();
        self.0.iter().filter(reached).count()
    }
}

/// Whether a process exists and is no zombie.
pub(crate) fn is_alive(pid: Pid) -> bool {
    if test_kill_process(pid).is_err() {
        return false;
    }
    let stat =
        fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    !stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .trim_start()
        .starts_with('Z')
}

/// All processes that stem from this one, found by walking each process's line of parents.
pub(crate) fn descendants(ancestor: Pid) -> Result<Vec<Pid>> {
    let mut parents = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything; state and parent follow it.
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        parents.insert(pid, parent.unwrap_or(0));
    }
    let ancestor: i32 = ancestor.as_raw_nonzero().get();
    let stems = |pid: i32| {
        let mut line =
            std::iter::successors(parents.get(&pid), |parent| parents.get(*parent)).take(64);
        line.any(|parent| *parent == ancestor)
    };
    Ok(parents
        .keys()
        .copied()
        .filter(|pid| stems(*pid))
        .filter_map(Pid::from_raw)
        .collect())
}

pub(crate) fn command_line_of(pid: Pid) -> String {
    let raw = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    String::from_utf8_lossy(&raw).replace('\0', " ")
}

/// All processes of pods with these uids: the kubelet names a pod's control group after its uid.
pub(crate) fn of_pods(uids: &[String]) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let in_pod = |uid: &String| groups.contains(uid) || groups.contains(&uid.replace('-', "_"));
        if uids.iter().any(in_pod) {
            found.extend(Pid::from_raw(pid));
        }
    }
    Ok(found)
}
