//! Processes of this machine, as `/proc` shows them.

use std::collections::HashMap;
use std::fs;

use anyhow::Result;
use rustix::process::{Pid, test_kill_process};

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

/// All processes.
pub(crate) fn all() -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw);
        found.extend(pid);
    }
    Ok(found)
}

/// The control groups of a process, as the kernel lists them.
pub(crate) fn cgroups_of(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap_or_default()
}
