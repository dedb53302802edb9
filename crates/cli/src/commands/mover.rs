//! `syncline mover …`: what runs inside mover pods. Hidden: the operator calls it, not a person.

use std::process::ExitCode;

use clap::Args;

/// Run inside a mover pod.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub(crate) struct Arguments {
    /// The mover
    kind: String,
    /// Its own words
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    syncline_mover::main(&arguments.kind, &arguments.words)
}

/// What a login shell is to do, if that is what this program was started as: see [`syncline_mover::rsync::login_shell`].
pub(crate) fn login_shell(words: &[String]) -> Option<ExitCode> {
    syncline_mover::rsync::login_shell(words)
}
