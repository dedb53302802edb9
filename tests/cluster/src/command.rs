//! Programs that are run to their end, and what is said to the person in front.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A line on standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// A line on standard error: what is being done.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "cluster: {text}");
}

/// Runs a program; its error output is the error.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    output(&mut command)
}

/// Runs a command to its end and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{shown} could not be started; is the program installed?"))?;
    if !done.status.success() {
        bail!(
            "{shown} failed: {}",
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Waits until `look` says so; its last complaint is the error when that takes longer than `cap`.
pub(crate) fn wait_until(what: &str, cap: Duration, look: impl Fn() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    loop {
        match look() {
            Ok(()) => return Ok(()),
            Err(error) if start.elapsed() > cap => {
                return Err(error.context(format!("{what}: not within {} s", cap.as_secs())));
            }
            Err(_) => sleep(LOOK_EVERY),
        }
    }
}
