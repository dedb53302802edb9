//! The programs that run inside mover pods, their supervision and their report.
//!
//! A mover is told what to do by files (keys, configuration), environment variables (addresses) and two words on its command line
//! (`rsync source`, `rclone destination`). It talks to its peer or to a store, prints ordinary lines and progress lines on standard
//! output, and ends with one typed [`syncline_api::report::Report`] in the pod's termination message.
//!
//! Invariant: a mover holds no credentials for the Kubernetes API and never prints a key.

use std::process::ExitCode;

mod console;
mod fs;
mod programs;
pub mod rclone;
mod report;
pub mod rsync;
mod supervise;
mod tree;
mod tries;

pub use programs::rclone_of_pods;

/// Runs the mover `kind` with the words that follow it on the command line, for example `main("rsync", &["source"])`.
///
/// Returns the exit code of the pod's process: 0 only after a transfer that is complete for all who take part in it.
pub fn main(kind: &str, args: &[String]) -> ExitCode {
    match kind {
        "rclone" => rclone::main(args),
        "rsync" => rsync::main(args),
        other => {
            console::complain(&format!(
                "`{other}` is not a mover of this program; it has: rclone, rsync"
            ));
            ExitCode::from(2)
        }
    }
}
