//! `syncline embedded-pod-launcher …`: the embedded node starts itself with this to become a pod. Hidden.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

/// Set up a pod's root and become its process.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub(crate) struct Arguments {
    /// What the node says
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    syncline_embedded::launcher_main(&arguments.words)
}
