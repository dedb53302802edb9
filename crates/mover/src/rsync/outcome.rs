//! What went wrong, from exit codes and from the words of ssh and rsync.
//!
//! The words are those that both programs have printed for many years (in the C locale); what is not recognised keeps its
//! exit code and the last words as they are.

use syncline_api::report::reason as api_reason;

use crate::report::{Fault, reason};
use crate::tries::Again;

/// What to do after a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// End: another try of this run would end the same way.
    GiveUp,
    /// Try again after a wait.
    Wait,
    /// Try again at once: the source changed underneath.
    AtOnce,
    /// Try again at once, asking less of the peer.
    AskLess(Less),
}

impl Next {
    /// When another try can help.
    pub(crate) fn again(self) -> Again {
        match self {
            Self::GiveUp | Self::AskLess(_) => Again::Never,
            Self::Wait => Again::Later,
            Self::AtOnce => Again::AtOnce,
        }
    }
}

/// What the peer does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Less {
    /// Extended attributes.
    Attributes,
    /// Options.
    Options,
    /// Times and mode of the volume's root folder, which is not the peer's to change.
    Root,
    /// Device files, which the peer may not make.
    Devices,
}

/// A failed try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setback {
    pub(crate) fault: Fault,
    pub(crate) next: Next,
}

impl Setback {
    pub(crate) fn new(reason: &'static str, message: String, next: Next) -> Self {
        Self {
            fault: Fault::new(reason, message),
            next,
        }
    }
}

impl From<Fault> for Setback {
    /// That ends the run.
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            next: Next::GiveUp,
        }
    }
}

/// The last words of a program: what it printed on standard error, newest lines last.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastWords {
    lines: std::collections::VecDeque<String>,
}

/// More than ssh prints about a changed host key, and enough of what rsync prints.
const LINES_KEPT: usize = 40;

impl LastWords {
    pub(crate) fn hear(&mut self, line: &[u8]) {
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(crate::console::printable(line));
    }

    fn has(&self, words: &[&str]) -> bool {
        self.lines
            .iter()
            .any(|line| words.iter().any(|word| line.contains(word)))
    }

    fn with(&self, words: &[&str]) -> Option<&str> {
        self.lines
            .iter()
            .find(|line| words.iter().any(|word| line.contains(word)))
            .map(String::as_str)
    }

    /// What to leave out, when nothing failed but what can be left out.
    fn only_failed(&self) -> Option<Less> {
        let failures = self.lines.iter().filter(|line| line.starts_with("rsync: "));
        let kinds: Option<Vec<Less>> = failures.map(|line| not_the_peers(line)).collect();
        kinds?.first().copied()
    }

    fn last(&self) -> &str {
        self.lines.back().map_or("no words", String::as_str)
    }
}

/// What `line` says that the peer's mover may not do, where a copy without that is still worth having.
fn not_the_peers(line: &str) -> Option<Less> {
    let what = line.strip_suffix(" failed: Operation not permitted (1)");
    if what.is_some_and(|what| what.contains("] mknod \"")) {
        return Some(Less::Devices);
    }
    let is_root = line.ends_with("/.\": Operation not permitted (1)");
    (line.contains("failed to set ") && is_root).then_some(Less::Root)
}

/// Why ssh did not connect to `peer`.
pub(crate) fn of_connection(words: &LastWords, peer: &str) -> Setback {
    if words.has(&[
        "Host key verification failed",
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "no matching host key type",
    ]) {
        return Setback::new(
            api_reason::HOST_KEY_MISMATCH,
            format!(
                "{peer} shows another host key than `destination.pub` in the Secret that the source's spec.rsync.sshKeys \
                 names, or that Syncline made when it names none; if that is not an attack, copy the Secret that the \
                 destination's status.rsync.sshKeys names to the source's namespace and name it in spec.rsync.sshKeys"
            ),
            Next::GiveUp,
        );
    }
    if words.has(&["Permission denied", "Too many authentication failures"]) {
        return Setback::new(
            api_reason::AUTHENTICATION_REFUSED,
            format!(
                "{peer} does not accept the key `source` of the source's Secret (or its login name); \
                 copy the keys that the destination's status.rsync.sshKeys names"
            ),
            Next::GiveUp,
        );
    }
    if words.has(&[
        "invalid format",
        "error in libcrypto",
        "incorrect passphrase",
        "UNPROTECTED PRIVATE KEY",
    ]) {
        return Setback::new(
            reason::KEY_INVALID,
            format!(
                "ssh cannot use the key `source` of the source's Secret: {}",
                words.last()
            ),
            Next::GiveUp,
        );
    }
    if words.has(&["No user exists for uid"]) {
        return Setback::new(
            reason::POD_INCOMPLETE,
            "ssh needs an entry in /etc/passwd for the uid that this pod runs as; add one to the image".to_owned(),
            Next::GiveUp,
        );
    }
    if words.has(&["Could not resolve hostname"]) {
        return unresolvable(peer, words.last());
    }
    if words.has(&[
        "no matching cipher",
        "no matching key exchange",
        "no matching MAC",
    ]) {
        return Setback::new(
            api_reason::PEER_UNREACHABLE,
            format!(
                "{peer} and this source have no ssh algorithm in common: {}; update the older one",
                words.last()
            ),
            Next::GiveUp,
        );
    }
    unreachable(peer, words.last())
}

/// The name service does not know the peer.
pub(crate) fn unresolvable(peer: &str, why: &str) -> Setback {
    Setback::new(
        reason::ADDRESS_UNRESOLVABLE,
        format!("the address of {peer} cannot be resolved ({why}); correct spec.rsync.address"),
        Next::Wait,
    )
}

/// Nobody answers at the peer's address.
pub(crate) fn unreachable(peer: &str, why: &str) -> Setback {
    Setback::new(
        api_reason::PEER_UNREACHABLE,
        format!(
            "{peer} cannot be reached ({why}); \
             check that the destination runs, and spec.rsync.address and port against its status"
        ),
        Next::Wait,
    )
}

/// Why rsync ended with `code`; `None` after a clean end.
pub(crate) fn of_rsync(code: Option<i32>, words: &LastWords, peer: &str) -> Option<Setback> {
    if code == Some(0) {
        return None;
    }
    Some(known_trouble(words, peer).unwrap_or_else(|| by_code(code, words, peer)))
}

/// Why the connection broke over which a device was sent.
pub(crate) fn of_device(error: &std::io::Error, words: &LastWords, peer: &str) -> Setback {
    if let Some(known) = known_trouble(words, peer).filter(|known| known.next != ASK_LESS) {
        return known;
    }
    let Some(line) = words.with(&["Invalid command", "command not found", "not supported"]) else {
        return Setback::new(
            reason::CONNECTION_LOST,
            format!(
                "the connection to {peer} broke ({error}; {}); the next try sends what still differs",
                words.last()
            ),
            Next::Wait,
        );
    };
    Setback::new(
        reason::COMMAND_REFUSED,
        format!(
            "{peer} does not receive block volumes from Syncline ({line}): VolSync's destinations take `diskrsync` only; let \
             Syncline of the same release run the destination too"
        ),
        Next::GiveUp,
    )
}

/// What does not help where no options are asked for.
const ASK_LESS: Next = Next::AskLess(Less::Options);

fn known_trouble(words: &LastWords, peer: &str) -> Option<Setback> {
    if let Some(line) = words.with(&["volume is a block device", "volume is a file system"]) {
        return Some(Setback::new(
            reason::VOLUME_MODE_MISMATCH,
            format!("{peer} cannot take this source: {line}"),
            Next::GiveUp,
        ));
    }
    if let Some(line) = words.with(&["No space left on device", "Disk quota exceeded"]) {
        return Some(Setback::new(
            api_reason::DESTINATION_FULL,
            format!(
                "the volume of {peer} is full ({line}); enlarge it or make room, the next run goes on from here"
            ),
            Next::GiveUp,
        ));
    }
    if let Some(line) = words.with(&["Read-only file system"]) {
        return Some(Setback::new(
            reason::DESTINATION_UNWRITABLE,
            format!("the volume of {peer} is read-only ({line}); check it and the storage beneath"),
            Next::GiveUp,
        ));
    }
    if words.has(&["another transfer is running", "Another instance of rrsync"]) {
        return Some(Setback::new(
            reason::DESTINATION_BUSY,
            format!(
                "another transfer is running into {peer}; give each source a destination of its own"
            ),
            Next::Wait,
        ));
    }
    if words.has(&["rsync_xal_set", "setxattr"]) && !words.has(&["Input/output error"]) {
        return Some(Setback::new(
            reason::PARTIAL_TRANSFER,
            format!(
                "{peer} cannot keep all extended attributes: {}",
                words.with(&["xattr"]).unwrap_or_default()
            ),
            Next::AskLess(Less::Attributes),
        ));
    }
    let refusals = [
        "is not allowed",
        "has been disabled",
        "not supported on this",
        "unknown option",
        "invalid rsync-command syntax or options",
        "Invalid command",
    ];
    words.with(&refusals).map(|line| {
        Setback::new(
            reason::COMMAND_REFUSED,
            format!("{peer} does not take the transfer's options: {line}"),
            Next::AskLess(Less::Options),
        )
    })
}

fn by_code(code: Option<i32>, words: &LastWords, peer: &str) -> Setback {
    let last = words
        .with(&["rsync: ", "rsync error: "])
        .unwrap_or_else(|| words.last());
    match code {
        Some(24) => Setback::new(
            reason::SOURCE_CHANGING,
            "files vanished while they were read; with copyMethod Snapshot or Clone the source keeps still".to_owned(),
            Next::AtOnce,
        ),
        Some(23) => partial(words, last, peer),
        Some(1 | 2 | 4) => Setback::new(
            reason::COMMAND_REFUSED,
            format!("rsync at {peer} does not take the transfer's options: {last}"),
            Next::AskLess(Less::Options),
        ),
        Some(10 | 12 | 30 | 35 | 255) => Setback::new(
            reason::CONNECTION_LOST,
            format!("the connection to {peer} broke ({last}); the transfer goes on where it was"),
            Next::Wait,
        ),
        Some(127) => Setback::new(
            reason::POD_INCOMPLETE,
            format!("rsync is missing at {peer}: {last}"),
            Next::GiveUp,
        ),
        code => {
            let code = code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
            Setback::new(api_reason::TRANSFER_FAILED, format!("rsync to {peer} ended with {code}: {last}"), Next::Wait)
        }
    }
}

/// Some files did not arrive.
fn partial(words: &LastWords, last: &str, peer: &str) -> Setback {
    let (message, next) = match words.only_failed() {
        Some(Less::Root) => (
            format!("the root folder of the volume of {peer} is not its mover's own: {last}"),
            Next::AskLess(Less::Root),
        ),
        Some(Less::Devices) => (
            format!("the mover of {peer} may not make device files: {last}"),
            Next::AskLess(Less::Devices),
        ),
        _ => {
            let cure = if last.contains("[sender]") && last.ends_with("Permission denied (13)") {
                "; this end's mover may not read it: run it without moverSecurityContext, or as a user who may"
            } else {
                ""
            };
            (
                format!("some files could not be transferred to {peer}: {last}{cure}"),
                Next::Wait,
            )
        }
    };
    Setback::new(reason::PARTIAL_TRANSFER, message, next)
}

/// Why the destination did not acknowledge the end.
pub(crate) fn of_confirmation(code: Option<i32>, words: &LastWords, peer: &str) -> Setback {
    let message = if code == Some(255) || code.is_none() {
        format!(
            "the connection to {peer} broke before the destination said that the data is safe ({}); \
             the transfer is repeated to be sure",
            words.last()
        )
    } else {
        format!(
            "{peer} does not call the transfer complete: {}",
            words.last()
        )
    };
    Setback::new(reason::NOT_CONFIRMED, message, Next::Wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn words(text: &str) -> LastWords {
        let mut words = LastWords::default();
        text.lines().for_each(|line| words.hear(line.as_bytes()));
        words
    }

    #[rstest]
    #[case(
        "@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
        "HostKeyMismatch",
        Next::GiveUp
    )]
    #[case(
        "Unable to negotiate with 127.0.0.1 port 22: no matching host key type found. Their offer: ssh-rsa",
        "HostKeyMismatch",
        Next::GiveUp
    )]
    #[case(
        "root@h: Permission denied (publickey).",
        "AuthenticationRefused",
        Next::GiveUp
    )]
    #[case(
        "ssh: Could not resolve hostname nowhere: Name or service not known",
        "AddressUnresolvable",
        Next::Wait
    )]
    #[case(
        "ssh: connect to host 127.0.0.1 port 1: Connection refused",
        "PeerUnreachable",
        Next::Wait
    )]
    #[case(
        "kex_exchange_identification: Connection closed by remote host",
        "PeerUnreachable",
        Next::Wait
    )]
    #[case(
        "Load key \"/tmp/x/source\": error in libcrypto",
        "KeyInvalid",
        Next::GiveUp
    )]
    #[case("No user exists for uid 1234", "PodIncomplete", Next::GiveUp)]
    #[case("", "PeerUnreachable", Next::Wait)]
    fn ssh_says_why_it_does_not_connect(
        #[case] text: &str,
        #[case] reason: &str,
        #[case] next: Next,
    ) {
        let setback = of_connection(&words(text), "h:22");
        assert_eq!((setback.fault.reason, setback.next), (reason, next));
        assert!(
            setback.fault.message.contains("h:22")
                || reason == "PodIncomplete"
                || reason == "KeyInvalid"
        );
    }

    #[rstest]
    #[case(
        11,
        "rsync: [receiver] write failed on \"/data/big\": No space left on device (28)",
        "DestinationFull",
        Next::GiveUp
    )]
    #[case(
        23,
        "rsync: [receiver] mkstemp \"/data/.x\" failed: Read-only file system (30)",
        "DestinationUnwritable",
        Next::GiveUp
    )]
    #[case(
        23,
        "rsync: [receiver] rsync_xal_set: fsetxattr(\"/d/.f\",\"security.foo\") failed: Operation not permitted (1)",
        "PartialTransfer",
        Next::AskLess(Less::Attributes)
    )]
    #[case(
        12,
        "/usr/bin/rrsync error: option -X has been disabled on this server.",
        "CommandRefused",
        Next::AskLess(Less::Options)
    )]
    #[case(
        12,
        "Invalid command: option --foo is not allowed",
        "CommandRefused",
        Next::AskLess(Less::Options)
    )]
    #[case(
        12,
        "refused: another transfer is running into this destination; try again when it has ended",
        "DestinationBusy",
        Next::Wait
    )]
    #[case(
        4,
        "rsync: extended attributes are not supported on this server",
        "CommandRefused",
        Next::AskLess(Less::Options)
    )]
    #[case(
        23,
        "rsync: [sender] send_files failed to open \"/data/x\": Permission denied (13)",
        "PartialTransfer",
        Next::Wait
    )]
    #[case(
        23,
        "rsync: [generator] mknod \"/data/dev\" failed: Operation not permitted (1)",
        "PartialTransfer",
        Next::AskLess(Less::Devices)
    )]
    #[case(
        23,
        "rsync: [generator] failed to set times on \"/data/.\": Operation not permitted (1)",
        "PartialTransfer",
        Next::AskLess(Less::Root)
    )]
    #[case(24, "file has vanished: \"/data/x\"", "SourceChanging", Next::AtOnce)]
    #[case(
        255,
        "client_loop: send disconnect: Broken pipe",
        "ConnectionLost",
        Next::Wait
    )]
    #[case(
        12,
        "rsync: connection unexpectedly closed (0 bytes received so far) [sender]",
        "ConnectionLost",
        Next::Wait
    )]
    #[case(14, "rsync error: error in IPC code", "TransferFailed", Next::Wait)]
    fn rsync_says_why_it_fails(
        #[case] code: i32,
        #[case] text: &str,
        #[case] reason: &str,
        #[case] next: Next,
    ) {
        let setback = of_rsync(Some(code), &words(text), "h:22").unwrap();
        assert_eq!((setback.fault.reason, setback.next), (reason, next));
    }

    #[test]
    fn whoever_may_not_read_is_told_the_cure_and_nothing_is_left_out_for_it() {
        let mut words = words("rsync: [sender] opendir \"/data/x\" failed: Permission denied (13)");
        words.hear(b"rsync: [generator] mknod \"/data/dev\" failed: Operation not permitted (1)");
        let setback = of_rsync(Some(23), &words, "h:22").unwrap();
        assert_eq!(setback.next, Next::Wait);
        assert!(setback.fault.message.contains("moverSecurityContext"));
    }

    #[test]
    fn a_clean_end_is_no_setback() {
        assert_eq!(of_rsync(Some(0), &words("rsync: whatever"), "h:22"), None);
    }

    #[test]
    fn only_the_newest_words_are_kept() {
        let mut words = LastWords::default();
        (0..1000).for_each(|number| words.hear(format!("line {number}").as_bytes()));
        assert_eq!((words.lines.len(), words.last()), (LINES_KEPT, "line 999"));
    }
}
