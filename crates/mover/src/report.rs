//! The mover's last word: the typed report in the pod's termination message.

use std::path::Path;

use syncline_api::report::{self, Report, Role};

use crate::console::Console;

/// A run that failed: one word for programs, one sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// A CamelCase word of [`syncline_api::report::reason`] or of [`reason`].
    pub(crate) reason: &'static str,
    /// Cause, object and cure.
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// Reasons that only movers give, and those of rclone's movers.
pub(crate) mod reason {
    pub(crate) use syncline_api::report::reason::{
        BUCKET_MISSING, CERTIFICATE_REFUSED, CLOCK_SKEWED, CONFIG_INVALID, CREDENTIALS_EXPIRED,
        LISTING_INCOMPLETE, NOTHING_AT_PATH, PATH_IN_USE, SECTION_MISSING, SOURCE_UPLOADING,
        STORE_OVERLOADED, STORE_REFUSED, STORE_UNREACHABLE,
    };

    /// The destination's address has no entry in the name service.
    pub(crate) const ADDRESS_UNRESOLVABLE: &str = "AddressUnresolvable";
    /// The connection broke after it had been made.
    pub(crate) const CONNECTION_LOST: &str = "ConnectionLost";
    /// Another transfer is running into the same destination.
    pub(crate) const DESTINATION_BUSY: &str = "DestinationBusy";
    /// The destination did not confirm that the data is safe.
    pub(crate) const NOT_CONFIRMED: &str = "NotConfirmed";
    /// Files kept vanishing while they were read.
    pub(crate) const SOURCE_CHANGING: &str = "SourceChanging";
    /// The source volume cannot be read.
    pub(crate) const SOURCE_UNREADABLE: &str = "SourceUnreadable";
    /// The destination's volume cannot be written to.
    pub(crate) const DESTINATION_UNWRITABLE: &str = "DestinationUnwritable";
    /// The destination's device is smaller than the source's.
    pub(crate) const DESTINATION_TOO_SMALL: &str = "DestinationTooSmall";
    /// One end is a block device and the other a file system.
    pub(crate) const VOLUME_MODE_MISMATCH: &str = "VolumeModeMismatch";
    /// Some files could not be transferred.
    pub(crate) const PARTIAL_TRANSFER: &str = "PartialTransfer";
    /// The peer does not take the command.
    pub(crate) const COMMAND_REFUSED: &str = "CommandRefused";
    /// A key is missing from the Secret.
    pub(crate) const KEY_MISSING: &str = "KeyMissing";
    /// A key in the Secret is no key.
    pub(crate) const KEY_INVALID: &str = "KeyInvalid";
    /// A program or an account that the mover needs is missing from the pod.
    pub(crate) const POD_INCOMPLETE: &str = "PodIncomplete";
    /// The ssh server ended or did not start.
    pub(crate) const SERVER_FAILED: &str = "ServerFailed";
    /// The source told the destination that its transfer failed.
    pub(crate) const ABORTED_BY_SOURCE: &str = "AbortedBySource";
    /// The pod was told to stop.
    pub(crate) const INTERRUPTED: &str = "Interrupted";
}

/// Completes `report` with what the console kept and leaves it where Kubernetes looks for it.
///
/// A report that cannot be written must not turn a finished transfer into a failed one, so that is only said.
pub(crate) fn deliver(mut report: Report, console: &Console, place: &Path) {
    let text = if report.reason.is_none() {
        console.summary()
    } else {
        console.tail()
    };
    report::tail(&text, report::LONGEST_LOGS).clone_into(&mut report.logs);
    report.message = report
        .message
        .map(|message| console.without_secrets(&message));
    for what in &mut report.unpreserved {
        *what = console.without_secrets(what);
    }
    // Whoever follows the log knows it a second before the kubelet has seen this container's end.
    console.machine(&report.to_line(true));
    if let Err(error) = std::fs::write(place, report.to_termination_message()) {
        console.say(&format!(
            "the report could not be written to {}: {error}",
            place.display()
        ));
    }
}

/// The report of a failure of `mover`.
pub(crate) fn failed(mover: &str, role: Role, fault: &Fault) -> Report {
    Report::failed(mover, role, fault.reason, &fault.message)
}
