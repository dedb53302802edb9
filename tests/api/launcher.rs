//! The launcher of the embedded cluster as a program of its own, for the table's pods.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    syncline_embedded::launcher_main(&arguments)
}
