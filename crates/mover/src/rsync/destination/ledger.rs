//! What a destination has seen, and what follows from it. Pure.
//!
//! ```text
//!             begin            end 0            shutdown 0        synced
//!   waiting ─────────► receiving ─────► received ──────────► closing ─────► done
//!      ▲                   │ end ≠ 0, or gone                │ sync failed
//!      └───────────────────┘◄─────────────────────────────────┘
//! ```
//!
//! Invariant: `shutdown 0` is admitted only when the last transfer that wrote ended with rsync's exit code 0 and no
//! transfer is running. A peer that says so before it sent anything, or after a failure, is not believed.

/// Why the supervisor says no to a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    #[error("another transfer is running into this destination; try again when it has ended")]
    Busy,
    #[error("this destination is closing; start the transfer again when it is back")]
    Closing,
    #[error("nothing has been received yet, so there is nothing to complete")]
    NothingReceived,
    #[error("the last transfer did not end well at the destination (exit code {0}); repeat it")]
    NotComplete(i32),
}

/// The code that stands for a transfer whose programs vanished without a word.
pub(crate) const VANISHED: i32 = -1;

/// How the destination is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The data is complete; it ends well once it is on disk.
    Complete,
    /// The source gave up with this code.
    Aborted(u8),
}

/// Everything that decides about the next command.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    running: Option<Running>,
    last_written: Option<i32>,
    closing: bool,
}

#[derive(Debug)]
struct Running {
    connection: u64,
    writes: bool,
    ended: Option<i32>,
}

impl Ledger {
    /// A transfer on `connection` wants to start.
    pub(crate) fn begin(&mut self, connection: u64, writes: bool) -> Result<(), Denial> {
        if self.closing {
            return Err(Denial::Closing);
        }
        if self.running.is_some() {
            return Err(Denial::Busy);
        }
        self.running = Some(Running {
            connection,
            writes,
            ended: None,
        });
        Ok(())
    }

    /// The transfer on `connection` told its exit code; its programs may still be there.
    pub(crate) fn end(&mut self, connection: u64, code: i32) {
        if let Some(running) = self
            .running
            .as_mut()
            .filter(|running| running.connection == connection)
        {
            running.ended = Some(code);
        }
    }

    /// Nobody holds `connection` any more. Says how a transfer on it ended, if it was one.
    pub(crate) fn gone(&mut self, connection: u64) -> Option<i32> {
        let running = self
            .running
            .take_if(|running| running.connection == connection)?;
        let code = running.ended.unwrap_or(VANISHED);
        if running.writes {
            self.last_written = Some(code);
        }
        Some(code)
    }

    /// A peer wants the destination to end.
    pub(crate) fn shutdown(&mut self, code: u8) -> Result<Ending, Denial> {
        if self.closing {
            return Err(Denial::Closing);
        }
        if code != 0 {
            self.closing = true;
            return Ok(Ending::Aborted(code));
        }
        if self.running.is_some() {
            return Err(Denial::Busy);
        }
        match self.last_written {
            None => Err(Denial::NothingReceived),
            Some(0) => {
                self.closing = true;
                Ok(Ending::Complete)
            }
            Some(code) => Err(Denial::NotComplete(code)),
        }
    }

    /// The data could not be brought to disk: the destination stays open for another try.
    pub(crate) fn reopen(&mut self) {
        self.closing = false;
        self.last_written = Some(VANISHED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shutdown_is_believed_only_after_a_complete_transfer() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.shutdown(0), Err(Denial::NothingReceived));
        ledger.begin(1, true).unwrap();
        assert_eq!(ledger.shutdown(0), Err(Denial::Busy));
        ledger.end(1, 23);
        assert_eq!(ledger.gone(1), Some(23));
        assert_eq!(ledger.shutdown(0), Err(Denial::NotComplete(23)));
        ledger.begin(2, true).unwrap();
        ledger.end(2, 0);
        assert_eq!(
            ledger.shutdown(0),
            Err(Denial::Busy),
            "its programs still hold the connection"
        );
        assert_eq!(ledger.gone(2), Some(0));
        assert_eq!(ledger.shutdown(0), Ok(Ending::Complete));
        assert_eq!(ledger.begin(3, true), Err(Denial::Closing));
    }

    #[test]
    fn a_transfer_that_vanished_is_not_complete() {
        let mut ledger = Ledger::default();
        ledger.begin(1, true).unwrap();
        assert_eq!(ledger.gone(1), Some(VANISHED));
        assert_eq!(ledger.shutdown(0), Err(Denial::NotComplete(VANISHED)));
    }

    #[test]
    fn a_later_failure_withdraws_an_earlier_success() {
        let mut ledger = Ledger::default();
        for (connection, code) in [(1, 0), (2, 11)] {
            ledger.begin(connection, true).unwrap();
            ledger.end(connection, code);
            ledger.gone(connection);
        }
        assert_eq!(ledger.shutdown(0), Err(Denial::NotComplete(11)));
    }

    #[test]
    fn a_dry_run_completes_nothing() {
        let mut ledger = Ledger::default();
        ledger.begin(1, false).unwrap();
        ledger.end(1, 0);
        ledger.gone(1);
        assert_eq!(ledger.shutdown(0), Err(Denial::NothingReceived));
    }

    #[test]
    fn one_transfer_runs_at_a_time_and_only_its_own_connection_ends_it() {
        let mut ledger = Ledger::default();
        ledger.begin(1, true).unwrap();
        assert_eq!(ledger.begin(2, true), Err(Denial::Busy));
        ledger.end(2, 0);
        assert_eq!(ledger.gone(2), None);
        assert_eq!(ledger.gone(1), Some(VANISHED));
    }

    #[test]
    fn a_source_that_gives_up_is_always_believed() {
        let mut ledger = Ledger::default();
        ledger.begin(1, true).unwrap();
        assert_eq!(ledger.shutdown(7), Ok(Ending::Aborted(7)));
        assert_eq!(ledger.begin(2, true), Err(Denial::Closing));
    }

    #[test]
    fn data_that_did_not_reach_the_disk_must_be_sent_again() {
        let mut ledger = Ledger::default();
        ledger.begin(1, true).unwrap();
        ledger.end(1, 0);
        ledger.gone(1);
        ledger.shutdown(0).unwrap();
        ledger.reopen();
        assert_eq!(ledger.shutdown(0), Err(Denial::NotComplete(VANISHED)));
        assert_eq!(ledger.begin(2, true), Ok(()));
    }
}
