//! What the program prints: answers to standard output, what it is doing to standard error.

use std::io::Write as _;
use std::time::Instant;

use anyhow::Result;

/// One line of an answer.
pub(crate) fn answer(line: &str) {
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// One line about what is going on.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Does something and says how long it took.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let outcome = work();
    let verdict = if outcome.is_ok() { "" } else { " failed" };
    note(&format!(
        "{:6.1} s  {what}{verdict}",
        start.elapsed().as_secs_f64()
    ));
    outcome
}
