//! The launcher as a program of its own, for this crate's tests; the product wires it as a hidden verb.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    syncline_embedded::launcher_main(&arguments)
}
