//! The wish of whoever started a server that it end.

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Cancels `stop` at the first SIGINT or SIGTERM. A second one has its ordinary effect only on the shell's side: an
/// orderly end is bounded in time by those who carry it out.
pub(crate) fn on_signal(stop: &CancellationToken) -> Result<JoinHandle<()>, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = stop.clone();
    Ok(tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    }))
}
