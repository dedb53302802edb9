//! rclone and any store it knows: `spec.rclone`.
//!
//! A source brings a path of the store in line with its volume, destinations fetch it from there: any number of them, at
//! any time. Objects lie under the path one to one with files, so that stock rclone and VolSync's movers read and write
//! the same. Beside the path lies what only we read: the [`generation`] marker, which says whether the objects are a whole
//! version, and the [`manifest`], which holds what objects cannot carry and is the source's memory of its last run.

use std::process::ExitCode;

mod changes;
mod config;
mod destination;
mod facl;
mod generation;
mod hashless;
mod listing;
mod manifest;
mod names;
mod obscured;
mod outcome;
mod passes;
mod place;
mod program;
mod redact;
mod settings;
mod source;
mod stats;
mod store;
mod tuning;

use syncline_api::report::{Report, Role};

use crate::console::{Console, complain};
use crate::report::{Fault, deliver, failed, reason};
use settings::{Places, Settings};

/// The mover's name in reports.
const MOVER: &str = "rclone";

/// Runs one role of the mover: `source` or `destination`.
pub fn main(args: &[String]) -> ExitCode {
    match args.split_first().map(|(role, rest)| (role.as_str(), rest)) {
        Some(("source", [])) => run(Role::Source),
        Some(("destination", [])) => run(Role::Destination),
        _ => {
            complain("usage: mover rclone source|destination");
            ExitCode::from(2)
        }
    }
}

fn read_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn run(role: Role) -> ExitCode {
    let console = Console::for_rclone();
    let places = Places::read(&read_variable);
    let outcome = Settings::read(role, &read_variable).and_then(|settings| {
        in_runtime(async {
            match role {
                Role::Source => source::run(&settings, &console).await,
                Role::Destination => destination::run(&settings, &console).await,
            }
        })
    });
    let report: Report = outcome.unwrap_or_else(|fault| {
        console.say(&format!("{}: {}", fault.reason, fault.message));
        failed(MOVER, role, &fault)
    });
    let code = if report.reason.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    deliver(report, &console, &places.report);
    code
}

fn in_runtime<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            let message = format!("the mover cannot start its event loop: {error}");
            Fault::new(reason::POD_INCOMPLETE, message)
        })?;
    let result = runtime.block_on(work);
    // A scan of a huge tree may still run; nobody waits for it any more.
    runtime.shutdown_background();
    result
}

/// A count for the API, whose integers are signed.
fn signed(count: u64) -> Option<i64> {
    i64::try_from(count).ok()
}
