//! The `syncline` command: argument parsing and printing only.
//!
//! A subcommand is read by `clap` into the arguments of its file in `commands/`, resolved against the environment
//! (`settings`), and run. What a command tells goes through one printer: data to standard output, everything else
//! to standard error.

mod args;
mod commands;
mod connection;
mod documents;
mod failure;
mod get_table;
mod hints;
mod kinds;
mod printer;
mod proxies;
mod settings;
mod stop;
mod telemetry;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::failure::{Failure, Kind};
use crate::printer::Printer;
use crate::settings::Environment;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .filter_map(|word| word.into_string().ok())
        .collect();
    // sshd in a mover's pod starts this program as login shell.
    if let Some(code) = commands::mover::login_shell(&words) {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.command {
        // These two become other programs: they need the process before it has threads, and print for themselves.
        Command::Mover(arguments) => commands::mover::run(&arguments),
        Command::EmbeddedPodLauncher(arguments) => commands::pod_launcher::run(&arguments),
        command => conclude(run(command, &cli.global)),
    }
}

/// Prints help and version (which are no failures) or what is wrong with the arguments.
fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    if error.use_stderr() || printed.is_err() {
        ExitCode::from(failure::USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

#[tokio::main]
async fn run(command: Command, global: &args::Global) -> Result<(), Failure> {
    let environment = Environment::of_process();
    telemetry::start(global.verbose, &command, &environment);
    let mut printer = Printer::of_process();
    let target = || settings::target(global, &environment);
    // These two do not ask the cluster of the target.
    let asks = !matches!(command, Command::Up(_) | Command::Operator(_));
    let result = match command {
        Command::Up(arguments) => {
            commands::up::run(&arguments, global, &environment, &mut printer).await
        }
        Command::Apply(arguments) => {
            commands::apply::run(&arguments, &target()?, &mut printer).await
        }
        Command::Get(arguments) => commands::get::run(&arguments, &target()?, &mut printer).await,
        Command::Delete(arguments) => {
            commands::delete::run(&arguments, &target()?, &mut printer).await
        }
        Command::Logs(arguments) => commands::logs::run(&arguments, &target()?, &mut printer).await,
        Command::Status(arguments) => {
            commands::status::run(&arguments, &target()?, &mut printer).await
        }
        Command::Volume(arguments) => {
            commands::volume::run(&arguments, &target()?, &mut printer).await
        }
        Command::Operator(arguments) => {
            commands::operator::run(&arguments, global, &mut printer).await
        }
        Command::Plan(arguments) => commands::plan::run(&arguments, &target()?, &mut printer).await,
        Command::Completions(arguments) => commands::completions::run(&arguments, &mut printer),
        Command::Version => commands::version::run(&mut printer),
        Command::Mover(_) | Command::EmbeddedPodLauncher(_) => Ok(()),
    };
    match (result, target()) {
        (Err(failure), Ok(target)) if asks => Err(connection::located(failure, &target)),
        (result, _) => result,
    }
}

fn conclude(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    if failure.kind == Kind::BrokenPipe {
        // The reader has seen enough: `syncline get … | head` is a success.
        return ExitCode::SUCCESS;
    }
    Printer::of_process().failure(&failure);
    ExitCode::from(failure.kind.exit_code())
}
