//! The gate: the only program that a key holder can start at a destination.
//!
//! sshd runs it in place of whatever the client asked for. It reads that from `SSH_ORIGINAL_COMMAND`, compares it with
//! the grammar in [`command`], asks the destination's supervisor, and starts rsync in the volume's folder.
//!
//! Invariant: no byte from the client reaches a shell, and rsync starts only in a folder that was opened beneath the
//! volume's root.

mod block;
mod command;
mod login;
mod options;
mod session;
pub(crate) mod talk;
mod words;

#[cfg(test)]
mod tests;

pub(crate) use command::Refusal;
pub(crate) use login::command as forced_command;

use std::path::Path;
use std::process::ExitCode;

/// Runs the gate. `args` holds the folder that the destination's supervisor made.
pub(crate) fn main(args: &[String]) -> ExitCode {
    if let [folder] = args {
        session::run(Path::new(folder))
    } else {
        crate::console::complain("the gate is started by sshd, with the folder of its destination");
        ExitCode::from(2)
    }
}

/// Runs the gate as the login shell that sshd hands the forced command to.
pub(crate) fn log_in(line: &str) -> ExitCode {
    let program = std::env::current_exe().unwrap_or_default();
    let uid = rustix::process::geteuid().as_raw();
    let folder = login::folder(line, &program).filter(|folder| {
        std::fs::symlink_metadata(folder).is_ok_and(|found| login::is_private(&found, uid))
    });
    if let Some(folder) = folder {
        return session::run(&folder);
    }
    crate::console::complain(
        "this is no shell: it runs the gate of a destination, as sshd asks it to, and nothing else",
    );
    ExitCode::from(2)
}
