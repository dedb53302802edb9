//! What a mover tells the operator: one report at its end, and lines of progress before.
//!
//! The report is the termination message of the mover's container, which Kubernetes cuts off at 4096 bytes; a report
//! that was cut would be no JSON any more, so [`Report::to_termination_message`] keeps within the limit whatever the
//! logs contain. Progress goes to standard output, one JSON object a line, amid lines for people.

use serde::{Deserialize, Serialize};

pub use crate::status::{MoverResult, Progress};

/// Where a container leaves its termination message.
pub const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";
/// Largest termination message that Kubernetes keeps, in bytes.
pub const LONGEST_TERMINATION_MESSAGE: usize = 4096;
/// Most of a log that a report and a status keep, in bytes; it is the end that is kept.
pub const LONGEST_LOGS: usize = 1024;
/// The version of reports that this crate writes and reads.
pub const VERSION: u32 = 1;

/// Largest explanation, in bytes; it is the beginning that is kept.
const LONGEST_MESSAGE: usize = 1024;
/// Most of what was not preserved that a report lists.
pub const MOST_UNPRESERVED: usize = 8;
/// Largest entry of that list, in bytes.
const LONGEST_UNPRESERVED: usize = 96;
/// Largest word, in bytes.
const LONGEST_WORD: usize = 64;

/// Reasons for a failure that the operator and its users act on.
pub mod reason {
    /// The source is empty and was not at the last successful run.
    pub const SOURCE_UNEXPECTEDLY_EMPTY: &str = "SourceUnexpectedlyEmpty";
    /// The destination showed another host key than the one it is known by.
    pub const HOST_KEY_MISMATCH: &str = "HostKeyMismatch";
    /// The destination did not accept the source's key.
    pub const AUTHENTICATION_REFUSED: &str = "AuthenticationRefused";
    /// The destination could not be reached.
    pub const PEER_UNREACHABLE: &str = "PeerUnreachable";
    /// The destination's volume has no room left.
    pub const DESTINATION_FULL: &str = "DestinationFull";
    /// The transfer itself failed.
    pub const TRANSFER_FAILED: &str = "TransferFailed";
    /// The mover was told something that it cannot work with.
    pub const INVALID_SETTINGS: &str = "InvalidSettings";
    /// rclone's configuration has no section of the name that it was told.
    pub const SECTION_MISSING: &str = "SectionMissing";
    /// rclone's configuration, or a key beside it, cannot be used.
    pub const CONFIG_INVALID: &str = "ConfigInvalid";
    /// The store has no such bucket, and none may be made.
    pub const BUCKET_MISSING: &str = "BucketMissing";
    /// Another source writes to the path in the store.
    pub const PATH_IN_USE: &str = "PathInUse";
    /// The store holds nothing at the path.
    pub const NOTHING_AT_PATH: &str = "NothingAtPath";
    /// The store did not list all that is there; nothing is deleted after such a listing.
    pub const LISTING_INCOMPLETE: &str = "ListingIncomplete";
    /// The source was still uploading when the time to wait for it was over.
    pub const SOURCE_UPLOADING: &str = "SourceUploading";
    /// The store refused the keys, or what was asked with them.
    pub const STORE_REFUSED: &str = "StoreRefused";
    /// The credentials for the store have expired.
    pub const CREDENTIALS_EXPIRED: &str = "CredentialsExpired";
    /// The store and the mover do not agree on the time.
    pub const CLOCK_SKEWED: &str = "ClockSkewed";
    /// The store's certificate is not to be trusted.
    pub const CERTIFICATE_REFUSED: &str = "CertificateRefused";
    /// The store could not be reached, or the connection broke.
    pub const STORE_UNREACHABLE: &str = "StoreUnreachable";
    /// The store asks for fewer requests, or fails inside.
    pub const STORE_OVERLOADED: &str = "StoreOverloaded";
}

/// Which end of the transfer a mover was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The end that sends.
    Source,
    /// The end that receives.
    Destination,
}

/// How a mover's run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of this form, [`VERSION`].
    pub version: u32,
    /// Which mover wrote it, as the field of `spec` that chooses it: `rsync`.
    pub mover: String,
    /// Which end it was.
    pub role: Role,
    /// Whether everything was transferred.
    pub result: MoverResult,
    /// Why not, in one word; see [`reason`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why not, in a sentence that names cause, object and cure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The end of the log, filtered.
    #[serde(default)]
    pub logs: String,
    /// Entries (files, folders, links, …) in the source, `lost+found` apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<i64>,
    /// Bytes that went over the network to the other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<i64>,
    /// Bytes that came over the network from the other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<i64>,
    /// Regular files whose content was transferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_transferred: Option<i64>,
    /// Bytes that all files of the source have together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<i64>,
    /// Tries that were needed, 1 for none in vain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// What the transfer could not preserve, because a mover ran without the rights for it. At most [`MOST_UNPRESERVED`]
    /// entries are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unpreserved: Vec<String>,
    /// Whether some of that is what a mover without rights may not give back, such as owners.
    #[serde(default, skip_serializing_if = "is_false")]
    pub for_want_of_rights: bool,
    /// The version of the data in the store that the run ended with; whoever is given it again knows what has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// Milliseconds for which the mover did nothing but wait for a new version: they are no part of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited: Option<i64>,
    /// Whether everything was compared with the store, and not only what had changed since the last run.
    #[serde(default, skip_serializing_if = "is_false")]
    pub full_check: bool,
    /// Whether a source wrote to a path without having been let see whose it is.
    #[serde(default, skip_serializing_if = "is_false")]
    pub blind: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes references to such functions"
)]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Why a termination message is not a report.
#[derive(Debug, thiserror::Error)]
pub enum ParseReportError {
    /// It is not the JSON of a report.
    #[error(
        "the mover's termination message is not a report ({source}); the mover's log says how its run ended"
    )]
    NotAReport {
        /// What the JSON parser found.
        source: serde_json::Error,
    },
    /// It is a report of another version.
    #[error(
        "the mover's report has version {found}, this operator reads version {VERSION}; give both the same release"
    )]
    OtherVersion {
        /// The version it has.
        found: u32,
    },
}

impl Report {
    /// A report of success with nothing counted yet.
    pub fn successful(mover: &str, role: Role) -> Self {
        Self::new(mover, role, MoverResult::Successful)
    }

    /// A report of failure with its reason, see [`reason`], and a sentence that names cause, object and cure.
    pub fn failed(mover: &str, role: Role, reason: &str, message: &str) -> Self {
        let mut report = Self::new(mover, role, MoverResult::Failed);
        report.reason = Some(reason.to_owned());
        report.message = Some(message.to_owned());
        report
    }

    fn new(mover: &str, role: Role, result: MoverResult) -> Self {
        Self {
            version: VERSION,
            mover: mover.to_owned(),
            role,
            result,
            reason: None,
            message: None,
            logs: String::new(),
            entries: None,
            bytes_sent: None,
            bytes_received: None,
            files_transferred: None,
            total_bytes: None,
            attempts: None,
            unpreserved: Vec::new(),
            for_want_of_rights: false,
            generation: None,
            waited: None,
            full_check: false,
            blind: false,
        }
    }

    /// The report as JSON of at most [`LONGEST_TERMINATION_MESSAGE`] bytes. Of the logs the end is kept, of the message
    /// the beginning; both give way when their escapes would not fit.
    pub fn to_termination_message(&self) -> String {
        let start_of = |text: &String, most| head(text, most).to_owned();
        let mut report = Self {
            mover: start_of(&self.mover, LONGEST_WORD),
            reason: self
                .reason
                .as_ref()
                .map(|reason| start_of(reason, LONGEST_WORD)),
            message: self
                .message
                .as_ref()
                .map(|message| start_of(message, LONGEST_MESSAGE)),
            logs: tail(&self.logs, LONGEST_LOGS).to_owned(),
            unpreserved: self
                .unpreserved
                .iter()
                .take(MOST_UNPRESERVED)
                .map(|entry| start_of(entry, LONGEST_UNPRESERVED))
                .collect(),
            generation: self
                .generation
                .as_ref()
                .map(|generation| start_of(generation, LONGEST_WORD)),
            ..self.clone()
        };
        loop {
            let text = serde_json::to_string(&report).unwrap_or_default();
            if text.len() <= LONGEST_TERMINATION_MESSAGE {
                return text;
            }
            report.give_way();
        }
    }

    /// Takes an eighth off the longer of the log, at its beginning, and the message, at its end; off what could not be
    /// preserved when nothing is left of these.
    fn give_way(&mut self) {
        let message = self.message.take().unwrap_or_default();
        if self.logs.is_empty() && message.is_empty() {
            for entry in &mut self.unpreserved {
                *entry = head(entry, entry.len() * 7 / 8).to_owned();
            }
        } else if self.logs.len() > message.len() {
            self.logs = tail(&self.logs, self.logs.len() * 7 / 8).to_owned();
            self.message = (!message.is_empty()).then_some(message);
        } else {
            self.message = Some(head(&message, message.len() * 7 / 8).to_owned());
        }
    }

    /// Reads a termination message.
    pub fn parse(text: &str) -> Result<Self, ParseReportError> {
        let report: Self = serde_json::from_str(text.trim())
            .map_err(|source| ParseReportError::NotAReport { source })?;
        if report.version == VERSION {
            Ok(report)
        } else {
            Err(ParseReportError::OtherVersion {
                found: report.version,
            })
        }
    }
}

/// The word by which a line with a report is known.
const REPORT: &str = "report";

/// A report as it stands in the mover's output.
#[derive(Serialize, Deserialize)]
struct ReportLine {
    syncline: String,
    #[serde(default)]
    last: bool,
    report: Report,
}

/// A report that a mover printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrintedReport {
    /// What it says.
    pub report: Report,
    /// Whether nothing is left to do for the mover but to exit. Before that it may still take leave of its peer.
    pub last: bool,
}

impl Report {
    /// The line, without a line break, by which a mover says early what its termination message will say: whoever follows
    /// the log knows it before the kubelet has seen the container's end. `last` as in [`PrintedReport`].
    pub fn to_line(&self, last: bool) -> String {
        // As the termination message has it, in the same bounds.
        let report = Self::parse(&self.to_termination_message()).unwrap_or_else(|_| self.clone());
        let line = ReportLine {
            syncline: REPORT.to_owned(),
            last,
            report,
        };
        serde_json::to_string(&line).unwrap_or_default()
    }
}

/// Reads a line of a mover's output; `None` for the lines that hold no report of this version.
pub fn parse_report_line(line: &str) -> Option<PrintedReport> {
    let line = line.trim();
    if !line.starts_with('{') {
        return None;
    }
    let line: ReportLine = serde_json::from_str(line).ok()?;
    let ReportLine {
        syncline,
        last,
        report,
    } = line;
    (syncline == REPORT && report.version == VERSION).then_some(PrintedReport { report, last })
}

/// The word by which a line of progress is known.
const PROGRESS: &str = "progress";

/// A line of progress as it stands in the mover's output.
#[derive(Serialize, Deserialize)]
struct ProgressLine {
    syncline: String,
    #[serde(flatten)]
    progress: Progress,
}

impl Progress {
    /// The line, without a line break, that a mover prints.
    pub fn to_line(&self) -> String {
        let line = ProgressLine {
            syncline: PROGRESS.to_owned(),
            progress: self.clone(),
        };
        serde_json::to_string(&line).unwrap_or_default()
    }
}

/// Reads a line of a mover's output; `None` for the lines that are not progress.
pub fn parse_line(line: &str) -> Option<Progress> {
    let line = line.trim();
    if !line.starts_with('{') {
        return None;
    }
    let line: ProgressLine = serde_json::from_str(line).ok()?;
    (line.syncline == PROGRESS).then_some(line.progress)
}

/// The beginning of a text, at most so many bytes, cut between characters.
pub fn head(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The end of a text, at most so many bytes, cut between characters.
pub fn tail(text: &str, most: usize) -> &str {
    let mut start = text.len().saturating_sub(most);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default()
}
