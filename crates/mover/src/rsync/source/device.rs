//! One transfer of a block device at the source.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use syncline_api::report::{Progress, reason as api_reason};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::Instant;

use crate::console::Console;
use crate::report::{Fault, reason};
use crate::rsync::block::{self, Device, Geometry, Refused, SendError, Sent};
use crate::rsync::outcome::{LastWords, Next, Setback};
use crate::rsync::progress::{Totals, signed};
use crate::rsync::ssh::Client;
use crate::supervise::{each_line, end};

/// At most one progress line in this time.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Sends the device through the open connection.
pub(super) async fn send(
    device: &Path,
    client: &Client,
    console: &Console,
) -> Result<Totals, Setback> {
    let opened = Device::open(device).map_err(|error| unreadable(&error))?;
    let geometry = Geometry::of(opened.size());
    let version = block::PROTOCOL.to_string();
    let mut child = client.start(&["syncline", "receive-block", "--proto", &version])?;
    let (input, output) = pipes(child.stdout.take(), child.stdin.take()).map_err(|error| {
        let message = format!("ssh cannot be spoken to: {error}");
        Setback::new(reason::POD_INCOMPLETE, message, Next::GiveUp)
    })?;
    let mut heard = LastWords::default();
    let errors = child.stderr.take();
    let listening = async {
        if let Some(stream) = errors {
            each_line(stream, |line| {
                console.relay(line);
                heard.hear(line);
            })
            .await;
        }
    };
    let shown = console.clone();
    let sending = tokio::task::spawn_blocking(move || {
        let mut progress = Shown::new(shown, geometry.size());
        block::send(opened, geometry, (input, output), |done| {
            progress.show(done);
        })
    });
    let sending = async {
        let outcome = sending.await;
        // The peer may have more to say of its end; one that says nothing is not waited for.
        end_after_words(&mut child).await;
        outcome
    };
    let (outcome, ()) = tokio::join!(sending, listening);
    let broken = |error| SendError::Connection(std::io::Error::other(error));
    match outcome.map_err(broken).and_then(|outcome| outcome) {
        Ok(sent) => Ok(account(sent, console)),
        Err(error) => Err(setback(&error, &heard, client.peer())),
    }
}

/// Lets ssh end by itself for a moment.
async fn end_after_words(child: &mut tokio::process::Child) {
    const LAST_WORDS: Duration = Duration::from_secs(5);
    if tokio::time::timeout(LAST_WORDS, child.wait())
        .await
        .is_err()
    {
        end(child).await;
    }
}

/// ssh's pipes, for threads that wait on them.
fn pipes(output: Option<ChildStdout>, input: Option<ChildStdin>) -> std::io::Result<(File, File)> {
    let missing = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    let output = output.ok_or_else(missing)?.into_owned_fd()?;
    let input = input.ok_or_else(missing)?.into_owned_fd()?;
    Ok((blocking(output)?, blocking(input)?))
}

fn blocking(pipe: OwnedFd) -> std::io::Result<File> {
    let flags = rustix::fs::fcntl_getfl(&pipe)?;
    rustix::fs::fcntl_setfl(&pipe, flags.difference(OFlags::NONBLOCK))?;
    Ok(File::from(pipe))
}

/// What was sent, in the words that are looked for after a run.
fn account(sent: Sent, console: &Console) -> Totals {
    if sent.rest > 0 {
        console.say(&format!(
            "the destination's device is larger; its last {} bytes are left as they are",
            sent.rest
        ));
    }
    console.say(&format!("{} bytes differed and were sent", sent.changed));
    console.say(&format!(
        "sent {} bytes  received {} bytes",
        sent.out, sent.back
    ));
    console.say(&format!("total size is {}", sent.size));
    Totals {
        files_transferred: None,
        total_size: Some(sent.size),
        sent: Some(sent.out),
        received: Some(sent.back),
        entries: Some(sent.blocks_in_use),
    }
}

struct Shown {
    console: Console,
    total: u64,
    at: Option<Instant>,
}

impl Shown {
    fn new(console: Console, total: u64) -> Self {
        Self {
            console,
            total,
            at: None,
        }
    }

    fn show(&mut self, done: u64) {
        let now = Instant::now();
        let is_due = |at| now.duration_since(at) >= PROGRESS_INTERVAL;
        if !self.at.is_none_or(is_due) {
            return;
        }
        self.at = Some(now);
        let progress = Progress {
            phase: Some("Transferring".to_owned()),
            bytes_done: signed(done),
            bytes_total: signed(self.total),
            files_done: None,
            files_total: None,
        };
        self.console.machine(&progress.to_line());
    }
}

/// Refuses a device that has become all zeros: it would make the destination's zeros too.
pub(super) fn guard_against_emptiness(
    device: &Path,
    last_blocks: u64,
    allow_empty: bool,
) -> Result<(), Fault> {
    let unreadable = |error: &dyn std::fmt::Display| unreadable(error).fault;
    let opened = Device::open(device).map_err(|error| unreadable(&error))?;
    if last_blocks == 0 || allow_empty {
        return Ok(());
    }
    if !block::is_all_zero(&opened).map_err(|error| unreadable(&error))? {
        return Ok(());
    }
    Err(Fault::new(
        api_reason::SOURCE_UNEXPECTEDLY_EMPTY,
        format!(
            "the source device has nothing but zeros, but had data in {last_blocks} blocks when it was last sent, so nothing \
             was touched at the destination; check that the right volume is attached, or allow it once with the annotation {}",
            syncline_api::labels::ALLOW_EMPTY_SOURCE_ONCE
        ),
    ))
}

fn unreadable(error: &dyn std::fmt::Display) -> Setback {
    let message = format!(
        "the source device cannot be read: {error}; check the volume and the storage beneath it"
    );
    Setback::new(reason::SOURCE_UNREADABLE, message, Next::GiveUp)
}

fn setback(error: &SendError, heard: &LastWords, peer: &str) -> Setback {
    let (reason, message, next) = match error {
        SendError::Refused(refused) => of_refusal(refused, peer),
        SendError::Source(error) => return unreadable(error),
        SendError::Mismatch => (
            api_reason::TRANSFER_FAILED,
            format!("{peer}: {error}; the transfer is repeated"),
            Next::Wait,
        ),
        SendError::Silence(_) => (
            reason::CONNECTION_LOST,
            format!("{peer} does nothing: {error}; the next try sends what still differs"),
            Next::Wait,
        ),
        SendError::Connection(error) => {
            return crate::rsync::outcome::of_device(error, heard, peer);
        }
    };
    Setback::new(reason, message, next)
}

fn of_refusal(refused: &Refused, peer: &str) -> (&'static str, String, Next) {
    let message = format!("{peer}: {refused}");
    match refused {
        Refused::TooSmall(_) => (reason::DESTINATION_TOO_SMALL, message, Next::GiveUp),
        Refused::Device(_) => (reason::DESTINATION_UNWRITABLE, message, Next::Wait),
        Refused::Full(_) => (api_reason::DESTINATION_FULL, message, Next::GiveUp),
        Refused::Mismatch(_) => (api_reason::TRANSFER_FAILED, message, Next::Wait),
        Refused::Protocol(_) => (reason::COMMAND_REFUSED, message, Next::GiveUp),
    }
}
