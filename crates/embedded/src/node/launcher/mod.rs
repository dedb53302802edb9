//! The launcher: a hidden verb of the program that turns itself into a container's first process.
//!
//! ```text
//! node ── control socket (stdin), log pipes (stdout, stderr) ──► outside: makes the namespaces, waits
//!                                                                  └─► inside: pid 1, makes the root, becomes the pod's
//!                                                                      user, starts the program, reaps, passes signals on
//! ```
//!
//! Both stages are single-threaded processes of their own (a user namespace cannot be entered otherwise, and nothing
//! needs to run between fork and exec). When the node dies, its end of the control socket closes and the outside stage
//! kills pid 1; when the outside stage dies, the kernel does. With pid 1 goes every process of the container, and with
//! the last of them its mounts.
//!
//! Invariant: nothing here talks to the API, and nothing of the host is changed.

mod accounts;
mod error;
mod inside;
mod mounts;
mod outside;
mod privileges;
mod root;
pub(crate) mod spec;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::process::ExitCode;

/// First argument of the inner stage.
const INSIDE: &str = "--inside";

/// Exit code of a container whose program was never started, as container runtimes have it.
pub(crate) const START_FAILED: u8 = 128;

/// Runs a stage of the launcher. `arguments` are those after the hidden verb; the process must still be
/// single-threaded.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let inside = arguments.first().is_some_and(|first| first == INSIDE);
    let result = if inside {
        inside::run()
    } else {
        outside::run(arguments)
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let failed = spec::Report::Failed {
                message: error.to_string(),
            };
            // When the other end is gone there is nobody left to tell.
            if let Ok(control) = privileges::control_socket() {
                drop(failed.send(std::fs::File::from(control)));
            }
            ExitCode::from(START_FAILED)
        }
    }
}

/// Whether containers of this process become the users they ask for.
pub(crate) fn is_privileged() -> bool {
    privileges::Caller::of_this_process() == privileges::Caller::Privileged
}
