//! `down`: nothing of the cluster is left, whatever state it was in.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::address::Link;
use crate::command::{note, run as run_program, wait_until};
use crate::control::{Request, ask, supervisor};
use crate::folders::State;
use crate::mounts;

const CAP: Duration = Duration::from_secs(20);

/// Stops the cluster and removes what it left.
pub(crate) fn run(state: &State) -> Result<()> {
    if let Some(pid) = supervisor(state) {
        if ask(state, Request::End).is_err() {
            note("the supervisor does not answer, it is killed");
        }
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
        wait_until("the end of the cluster", CAP, || {
            ensure!(supervisor(state).is_none(), "its first process still runs");
            Ok(())
        })?;
    }
    if !state.folder().exists() {
        return Ok(());
    }
    let link = Link::name(state);
    wait_until("the end of the link", CAP, || {
        let gone = run_program("ip", &["link", "show", &link]).is_err();
        ensure!(gone, "{link} is still there");
        Ok(())
    })?;
    mounts::remove_cgroups(state)?;
    wait_until("the end of the loop devices", CAP, || {
        mounts::detach_loops(state)
    })?;
    fs::remove_dir_all(state.folder())?;
    Ok(())
}
