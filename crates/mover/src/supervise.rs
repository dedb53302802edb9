//! Child programs: their output as lines, their end, and the signals that end a mover.

use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

/// A line longer than this is handed on in pieces.
const LONGEST_LINE: usize = 16 * 1024;

/// How long a child may take between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// Reads `stream` to its end and hands every line to `each`, without its ending (`\n` or `\r`). Empty lines are dropped.
pub(crate) async fn each_line<R: AsyncRead + Unpin>(stream: R, each: impl FnMut(&[u8])) {
    each_line_within(stream, LONGEST_LINE, each).await;
}

/// As [`each_line`], with lines of up to `longest` bytes in one piece.
pub(crate) async fn each_line_within<R: AsyncRead + Unpin>(
    mut stream: R,
    longest: usize,
    mut each: impl FnMut(&[u8]),
) {
    let mut chunk = vec![0_u8; 8 * 1024];
    let mut line = Vec::new();
    // A stream that fails has no more lines; the child's exit code says what happened.
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        for byte in chunk.iter().take(count) {
            let is_end = matches!(byte, b'\n' | b'\r');
            if !is_end {
                line.push(*byte);
            }
            if (is_end && !line.is_empty()) || line.len() >= longest {
                each(&line);
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        each(&line);
    }
}

/// Ends `child` and waits for it: SIGTERM, then SIGKILL after a grace period.
pub(crate) async fn end(child: &mut Child) {
    signal_child(child, Signal::TERM);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        // A child that is gone already needs no signal.
        let _ = child.kill().await;
    }
}

/// Sends `signal` to `child`, unless it has been waited for.
pub(crate) fn signal_child(child: &Child, signal: Signal) {
    if let Some(pid) = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
    {
        // A child that is gone already needs no signal.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Waits for SIGTERM or SIGINT and gives its name.
pub(crate) async fn told_to_stop() -> &'static str {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        // Without handlers the default action ends the process, which is what a signal asks for.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn lines_end_in_newlines_or_carriage_returns() {
        let mut lines = Vec::new();
        run(each_line(
            &b"one\r\n  50%\r 100%\rtwo\n\nthree"[..],
            |line| lines.push(line.to_vec()),
        ));
        assert_eq!(lines, [&b"one"[..], b"  50%", b" 100%", b"two", b"three"]);
    }

    #[test]
    fn an_endless_line_comes_in_pieces() {
        let mut lengths = Vec::new();
        run(each_line(&vec![b'x'; LONGEST_LINE * 2 + 1][..], |line| {
            lengths.push(line.len());
        }));
        assert_eq!(lengths, [LONGEST_LINE, LONGEST_LINE, 1]);
    }

    #[test]
    fn a_child_that_ignores_its_end_is_killed_after_the_grace_period() {
        run(async {
            let mut child = tokio::process::Command::new("sleep")
                .arg("1000")
                .spawn()
                .unwrap();
            end(&mut child).await;
            assert!(child.try_wait().unwrap().is_some());
        });
    }
}
