//! rsync over ssh: `spec.rsync`.
//!
//! The destination runs sshd with the [`gate`] as forced command; the source runs rsync through ssh and tells the
//! destination at the end, by `shutdown 0`, that all went well. Either end works with VolSync's other one.

use std::process::ExitCode;

mod accounts;
mod block;
mod cpu;
mod destination;
mod gate;
mod keys;
mod outcome;
mod preservation;
mod progress;
mod settings;
mod source;
mod ssh;

use syncline_api::report::Role;

use crate::console::{Console, complain};
use crate::report::{Fault, deliver, failed, reason};
use settings::{DestinationSettings, Places, SourceSettings};

/// Runs one role of the mover: `source`, `destination`, or `gate` with the folder of its destination.
pub fn main(args: &[String]) -> ExitCode {
    match args.split_first().map(|(role, rest)| (role.as_str(), rest)) {
        Some(("source", [])) => source(),
        Some(("destination", [])) => destination(),
        Some(("gate", rest)) => gate::main(rest),
        _ => {
            complain("usage: mover rsync source|destination");
            ExitCode::from(2)
        }
    }
}

/// Stands in for a login shell, so that sshd needs no other: `words` are what it was started with. `None` unless they are
/// those of a shell that is to run a command.
pub fn login_shell(words: &[String]) -> Option<ExitCode> {
    match words {
        [option, line] if option == "-c" => Some(gate::log_in(line)),
        _ => None,
    }
}

fn read_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn source() -> ExitCode {
    let console = Console::default();
    let places = Places::read(&read_variable);
    let outcome = SourceSettings::read(&read_variable)
        .and_then(|settings| in_runtime(source::run(&settings, &console)));
    let (report, code) = match outcome {
        Ok(report) => {
            let code = if report.reason.is_none() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
            (report, code)
        }
        Err(fault) => {
            console.say(&format!("{}: {}", fault.reason, fault.message));
            (failed("rsync", Role::Source, &fault), ExitCode::FAILURE)
        }
    };
    deliver(report, &console, &places.report);
    code
}

fn destination() -> ExitCode {
    let console = Console::default();
    let places = Places::read(&read_variable);
    let outcome = DestinationSettings::read(&read_variable)
        .map_err(destination::Failure::from)
        .and_then(|settings| {
            in_runtime(async { Ok(destination::run(&settings, &console).await) })
                .map_err(destination::Failure::from)
                .and_then(|result| result)
        });
    let (report, code) = match outcome {
        Ok(report) => (report, ExitCode::SUCCESS),
        Err(failure) => {
            console.say(&format!(
                "{}: {}",
                failure.fault.reason, failure.fault.message
            ));
            (
                failed("rsync", Role::Destination, &failure.fault),
                ExitCode::from(failure.code),
            )
        }
    };
    deliver(report, &console, &places.report);
    code
}

fn in_runtime<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Fault::new(
                reason::POD_INCOMPLETE,
                format!("the mover cannot start its event loop: {error}"),
            )
        })?;
    let result = runtime.block_on(work);
    // A count of a huge tree may still run; nobody waits for it any more.
    runtime.shutdown_background();
    result
}
