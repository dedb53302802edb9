//! Running other programs to their end.

use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// How long to rest between two looks at something that will come.
const LOOK: Duration = Duration::from_millis(50);

/// A command from words.
pub(crate) fn command(words: &[&str]) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().copied().unwrap_or("false"));
    command.args(words).stdin(Stdio::null());
    command
}

/// Runs a command and returns what it printed; an error holds what it complained about.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().with_context(|| {
        format!(
            "cannot run {}: see that it is installed",
            command.get_program().display()
        )
    })?;
    ensure!(
        status.success(),
        "{} failed ({status}): {}",
        line_of(command),
        String::from_utf8_lossy(&stderr).trim()
    );
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// The same for words, when what is printed does not matter.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    output(&mut command(words)).map(drop)
}

fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Looks until something is there; an error of the look is remembered as the reason that it is not there yet.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let reason = match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => "it is not there yet".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > limit {
            bail!("waited {} s for {what}: {reason}", limit.as_secs());
        }
        sleep(LOOK);
    }
}
