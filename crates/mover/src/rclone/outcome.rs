//! What went wrong, from rclone's exit codes and from its words.
//!
//! The words are those of rclone 1.75 and of the libraries in it, names apart ([`words`]); what is not recognised keeps its
//! exit code and the last words as they are.

mod words;

use syncline_api::report::{Role, reason as api_reason};

use crate::rclone::place::{Folder, Refused};
use crate::report::{Fault, reason};
use crate::tries::Again;
pub(crate) use words::LastWords;
use words::{LONGEST_BEFORE, Told, parted, quote, shortened};

/// rclone's exit code when a folder is not there.
pub(crate) const FOLDER_NOT_FOUND: i32 = 3;
/// rclone's exit code when a file is not there.
pub(crate) const FILE_NOT_FOUND: i32 = 4;

/// What to do after a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// End: another try of this run would end the same way.
    GiveUp,
    /// Try again after a wait.
    Wait,
}

impl Next {
    /// When another try can help.
    pub(crate) fn again(self) -> Again {
        match self {
            Self::GiveUp => Again::Never,
            Self::Wait => Again::Later,
        }
    }
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

impl From<Setback> for Fault {
    fn from(setback: Setback) -> Self {
        setback.fault
    }
}

impl From<Fault> for Setback {
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            next: Next::GiveUp,
        }
    }
}

/// Where rclone was at work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) role: Role,
    /// The store, as `section:path`.
    pub(crate) store: &'a str,
    /// The same as a folder of this machine, where it is one.
    pub(crate) folder: Option<&'a Folder>,
}

/// What a kind of trouble is called, what it means, and what helps.
struct Kind {
    words: &'static [&'static str],
    reason: &'static str,
    /// What is wrong; the store's name follows in brackets with rclone's words.
    what: &'static str,
    cure: &'static str,
    next: Next,
}

/// What a request to S3 is signed with, and where it goes.
const SETTINGS_OF_S3: &str =
    "check access_key_id, session_token, region and endpoint in the section of rclone.conf";

/// Kinds of trouble that read the same on both sides; the first that fits is told.
const KINDS: &[Kind] = &[
    Kind {
        words: &["didn't find section in config file"],
        reason: reason::SECTION_MISSING,
        what: "rclone.conf in the Secret lacks a section",
        cure: "add it, or correct spec.rclone.rcloneConfigSection and what the section's `remote` names",
        next: Next::GiveUp,
    },
    Kind {
        words: &[
            "failed to load config file",
            "didn't find backend called",
            "failed to decrypt password",
            "is it obscured?",
            "couldn't decrypt configuration",
            "unable to decrypt configuration",
            "couldn't parse config item",
            "password not set in config file",
        ],
        reason: reason::CONFIG_INVALID,
        what: "rclone cannot use the rclone.conf of the Secret",
        cure: "write it as `rclone config` does, with the type of a store and obscured passwords",
        next: Next::GiveUp,
    },
    Kind {
        words: &["unknown flag", "unknown command", "unknown shorthand flag"],
        reason: reason::POD_INCOMPLETE,
        what: "this rclone is too old",
        cure: "use the mover's image of this release, or install rclone 1.75 or newer",
        next: Next::GiveUp,
    },
    Kind {
        words: &["--ca-cert file"],
        reason: reason::CERTIFICATE_REFUSED,
        what: "spec.rclone.customCA holds no certificate that can be read",
        cure: "put certificates in PEM form under its key",
        next: Next::GiveUp,
    },
    Kind {
        words: &[
            "x509:",
            "tls: failed to verify",
            "tls: unknown certificate",
            "remote error: tls",
        ],
        reason: reason::CERTIFICATE_REFUSED,
        what: "the certificate of the store is not to be trusted",
        cure: "name the authority that signed it in spec.rclone.customCA, and check its dates and the endpoint's name",
        next: Next::GiveUp,
    },
    Kind {
        words: &[
            "requesttimetooskewed",
            "clock skew",
            "requestexpired",
            "requestinthefuture",
        ],
        reason: reason::CLOCK_SKEWED,
        what: "the clocks of the store and of this node differ too much",
        cure: "set the node's clock (NTP)",
        next: Next::GiveUp,
    },
    Kind {
        words: &[
            "expiredtoken",
            "expired token",
            "token has expired",
            "token expired",
            "token is expired",
            "tokenrefreshrequired",
            "expiredcredential",
            "credentials have expired",
            "invalid_grant",
        ],
        reason: reason::CREDENTIALS_EXPIRED,
        what: "the credentials for the store have expired",
        cure: "put new ones into the Secret",
        next: Next::GiveUp,
    },
    Kind {
        words: &[
            "nosuchbucket",
            "invalidbucketname",
            "containernotfound",
            "bucket does not exist",
            "bucket doesn't exist",
            "specified container does not exist",
        ],
        reason: reason::BUCKET_MISSING,
        what: "the store has no such bucket, and none can be made with these keys",
        cure: "make the bucket, or correct spec.rclone.rcloneDestPath",
        next: Next::GiveUp,
    },
    Kind {
        words: &[
            "knownhosts: key mismatch",
            "knownhosts: key is unknown",
            "host key mismatch",
        ],
        reason: api_reason::HOST_KEY_MISMATCH,
        what: "the store shows another host key than rclone.conf expects",
        cure: "if that is not an attack, correct the section's host_keys or known_hosts_file",
        next: Next::GiveUp,
    },
    Kind {
        words: &[
            "insufficientstorage",
            "quotaexceeded",
            "statuscode: 507",
            "insufficient storage",
            "ssh_fx_no_space",
        ],
        reason: api_reason::DESTINATION_FULL,
        what: "the store has no room left",
        cure: "enlarge it or make room; the next run goes on from here",
        next: Next::GiveUp,
    },
    Kind {
        words: &[
            "slowdown",
            "statuscode: 503",
            "statuscode: 429",
            "statuscode: 500",
            "statuscode: 502",
            "statuscode: 504",
            "toomanyrequests",
            "too many requests",
            "serviceunavailable",
            "service unavailable",
            "reduce your request rate",
            "internalerror",
            "internal server error",
            "bad gateway",
            "gateway timeout",
        ],
        reason: reason::STORE_OVERLOADED,
        what: "the store is overloaded or fails inside",
        cure: "it is tried again; fewer requests at once help (RCLONE_TRANSFERS, RCLONE_CHECKERS or RCLONE_TPSLIMIT in the Secret)",
        next: Next::Wait,
    },
    Kind {
        words: &[
            "statuscode: 403",
            "statuscode: 401",
            "accessdenied",
            "access denied",
            "signaturedoesnotmatch",
            "invalidaccesskeyid",
            "invalidtoken",
            "api error forbidden",
            "unauthorized",
            "403 forbidden",
            ": forbidden",
            "unable to authenticate",
            // OpenSSH's refusal of a password, which rclone's library did not expect.
            "unexpected message type 51",
            "permission_denied",
            "no credentials",
        ],
        reason: reason::STORE_REFUSED,
        what: "the store refuses the keys of the Secret, or what is asked with them",
        cure: "correct the keys in rclone.conf, or let them list, read, write and delete there",
        next: Next::GiveUp,
    },
    // Not as a refusal, without which a run may go on elsewhere: nothing that is asked with these settings will be answered.
    Kind {
        words: &["api error badrequest: bad request"],
        reason: reason::CONFIG_INVALID,
        what: "the store does not accept the request's credentials or region (S3 answers so, without words, to an access key, a \
               session token or a region that does not fit)",
        cure: SETTINGS_OF_S3,
        next: Next::GiveUp,
    },
    Kind {
        words: &["authorizationheadermalformed"],
        reason: reason::CONFIG_INVALID,
        what: "the store expects another region, or other keys",
        cure: SETTINGS_OF_S3,
        next: Next::GiveUp,
    },
    Kind {
        words: &[
            "server gave http response to https client",
            "malformed http response",
            "unsupported protocol scheme",
        ],
        reason: reason::CONFIG_INVALID,
        what: "the endpoint in rclone.conf does not speak the protocol that it is asked in",
        cure: "correct the endpoint's address, and http against https",
        next: Next::GiveUp,
    },
    Kind {
        words: &["source file is being updated"],
        reason: reason::SOURCE_CHANGING,
        what: "files changed while they were read",
        cure: "with copyMethod Snapshot or Clone the source keeps still",
        next: Next::Wait,
    },
    Kind {
        words: &[
            "max transfer limit reached",
            "max transfer duration reached",
            "max-delete threshold",
        ],
        reason: api_reason::TRANSFER_FAILED,
        what: "a limit of the Secret's RCLONE_MAX_* keys was reached before all was copied",
        cure: "raise or remove that key",
        next: Next::GiveUp,
    },
    Kind {
        words: &[
            "connection refused",
            "no such host",
            "i/o timeout",
            "no route to host",
            "network is unreachable",
            "connection reset",
            "broken pipe",
            "connection timed out",
            "context deadline exceeded",
            "request send failed",
            "couldn't connect ssh",
            "unexpected eof",
            "server misbehaving",
            "use of closed network connection",
            "connection lost",
            "proxyconnect",
        ],
        reason: reason::STORE_UNREACHABLE,
        what: "the store cannot be reached, or the connection broke",
        cure: "check that it runs, the endpoint in rclone.conf, network policies and proxies; it is tried again",
        next: Next::Wait,
    },
];

/// Why rclone ended with `code`.
pub(crate) fn of_rclone(code: Option<i32>, words: &LastWords, scene: Scene<'_>) -> Setback {
    let told = words.told(scene.store);
    let of_kind = || {
        let mut kinds = KINDS.iter();
        kinds.find_map(|kind| Some(setback(kind, line_with(&told, kind.words)?, scene)))
    };
    of_full_volume(&told, scene)
        .or_else(|| of_volume(&told, scene))
        .or_else(|| of_making_a_bucket(&told, scene))
        .or_else(of_kind)
        .or_else(|| of_content(&told, scene))
        .unwrap_or_else(|| by_code(code, words, scene))
}

/// The first line that tells of one of these causes.
fn line_with<'a>(told: &[Told<'a>], words: &[&str]) -> Option<&'a str> {
    let mut told = told.iter();
    told.find(|told| told.has(words)).map(|told| told.line)
}

/// What S3 gives as an object's hash is none where a key service encrypts, which rclone has to be told.
const OF_KEY_SERVICE: &str =
    "; on S3 that KMS encrypts, put server_side_encryption = aws:kms into the section";

/// What was read is not what arrived.
fn of_content(told: &[Told<'_>], scene: Scene<'_>) -> Option<Setback> {
    let corrupted = [
        "corrupted on transfer",
        "multipart upload corrupted",
        "baddigest",
    ];
    let line = line_with(told, &corrupted)?;
    let (reason, what, cure) = match scene.role {
        Role::Source => (
            reason::SOURCE_CHANGING,
            "what came to the store is not what was read before",
            "if files change meanwhile, copyMethod Snapshot or Clone keeps them still; if they do not, the store or the way to it \
             spoils data",
        ),
        Role::Destination => (
            api_reason::TRANSFER_FAILED,
            "an object of the store is not what its checksum or its size tells",
            "let the source run again, which sends what changed since, or remove that object and let the source compare \
             everything (syncline.dev/rclone-full-check-every: \"1\")",
        ),
    };
    let is_hash_of_s3 = line.contains("multipart upload corrupted: Etag differ")
        || line.contains("md5 hashes differ") && line.contains("(S3 bucket ");
    let besides = if is_hash_of_s3 { OF_KEY_SERVICE } else { "" };
    let store = scene.store;
    let message = format!("{what} (`{store}`: {}); {cure}{besides}", quote(line));
    Some(Setback::new(reason, message, Next::Wait))
}

fn setback(kind: &Kind, line: &str, scene: Scene<'_>) -> Setback {
    let (what, cure) = match (scene.role, kind.reason) {
        (Role::Destination, reason::BUCKET_MISSING) => NO_BUCKET_TO_READ,
        (Role::Destination, reason::STORE_REFUSED) => (kind.what, LET_READ),
        _ => (kind.what, kind.cure),
    };
    let store = scene.store;
    let message = match parted(line) {
        (before, Some(cause)) => {
            let (cause, before) = (quote(cause), shortened(before, LONGEST_BEFORE));
            format!("{what}: {cause} (`{store}`: {before}); {cure}")
        }
        (line, None) => format!("{what} (`{store}`: {}); {cure}", quote(line)),
    };
    Setback::new(kind.reason, message, kind.next)
}

/// A destination writes nothing to the store.
const LET_READ: &str = "correct the keys in rclone.conf, or let them list and read there";

/// A destination makes no buckets.
const NO_BUCKET_TO_READ: (&str, &str) = (
    "the store has no such bucket",
    "correct spec.rclone.rcloneDestPath, or let the source run first, which makes it",
);

/// A bucket that is not there is made, which many keys may not; the store names only that.
fn of_making_a_bucket(told: &[Told<'_>], scene: Scene<'_>) -> Option<Setback> {
    let mut lines = told.iter();
    let told = lines.find(|told| told.has(&["s3: createbucket"]))?;
    let is_refused = told.has(&["accessdenied", "forbidden", "statuscode: 405"]);
    is_refused.then(|| {
        Setback::new(
            reason::BUCKET_MISSING,
            format!(
                "the store has no such bucket, and none may be made with these keys (`{}`: {}); make the bucket, or correct \
                 spec.rclone.rcloneDestPath",
                scene.store,
                quote(told.line)
            ),
            Next::GiveUp,
        )
    })
}

/// A file system's words for a user without the rights.
const REFUSALS: [&str; 2] = ["permission denied", "operation not permitted"];

/// A file system that is full.
fn of_full_volume(told: &[Told<'_>], scene: Scene<'_>) -> Option<Setback> {
    let full = [
        "no space left on device",
        "disk quota exceeded",
        "file too big for remaining disk space",
    ];
    let line = line_with(told, &full)?;
    let place = match scene.role {
        Role::Source => format!("the store `{}`", scene.store),
        Role::Destination => "the volume of the destination".to_owned(),
    };
    Some(Setback::new(
        api_reason::DESTINATION_FULL,
        format!(
            "{place} is full ({}); enlarge it or make room, the next run goes on from here",
            quote(line)
        ),
        Next::GiveUp,
    ))
}

/// Trouble with the volume here, as opposed to the store there. rclone's words for both are the operating system's, so
/// what is read and what is written decides, and the path where the store is a folder.
fn of_volume(told: &[Told<'_>], scene: Scene<'_>) -> Option<Setback> {
    let refusal = line_with(told, &REFUSALS);
    let faults = ["read-only file system", "input/output error"];
    let line = refusal.or_else(|| line_with(told, &faults))?;
    let reads = line.contains("failed to open source object")
        || line.contains("failed to open directory")
        || line.contains("error reading source");
    let is_of_store = scene.folder.is_some_and(|folder| folder.is_in(line));
    let (reason, what, cure) = match (scene.role, reads) {
        (Role::Source, true) if !is_of_store => (
            reason::SOURCE_UNREADABLE,
            "the source volume cannot be read".to_owned(),
            cure_of_volume(
                refusal,
                "run it as the files' owner (spec.rclone.moverSecurityContext)",
            ),
        ),
        (Role::Destination, false) if !is_of_store => (
            reason::DESTINATION_UNWRITABLE,
            "the destination's volume cannot be written to".to_owned(),
            cure_of_volume(refusal, "give spec.rclone.moverSecurityContext an fsGroup"),
        ),
        (role, reads) => {
            let reads = reads || line.contains("error reading destination");
            let refused = match refusal {
                None => Refused::All,
                Some(_) if reads || role == Role::Destination => Refused::Reading,
                Some(_) => Refused::Writing,
            };
            let (what, cure) = of_closed_store(refused, scene);
            (reason::STORE_REFUSED, what, cure)
        }
    };
    let message = format!("{what} ({}); {cure}", quote(line));
    Some(Setback::new(reason, message, Next::GiveUp))
}

/// What helps where a volume refuses the mover, in the words of `refusal`, or fails; `instead` is for one that is to have no
/// rights.
fn cure_of_volume(refusal: Option<&str>, instead: &str) -> String {
    if refusal.is_some() {
        format!(
            "annotate the mover's namespace with volsync.backube/privileged-movers: \"true\", or {instead}"
        )
    } else {
        "check how it is mounted, and its storage".to_owned()
    }
}

/// What is wrong, and what helps, where the store refuses something in the words of a file system.
fn of_closed_store(refused: Refused, scene: Scene<'_>) -> (String, String) {
    match scene.folder {
        Some(folder) => folder.closed(scene.store, refused),
        None => (
            format!("the store `{}` refuses access", scene.store),
            "correct the login in rclone.conf and its rights there, or, where the store is a volume of spec.rclone.moverVolumes, \
             let the mover's user in"
                .to_owned(),
        ),
    }
}

fn by_code(code: Option<i32>, words: &LastWords, scene: Scene<'_>) -> Setback {
    let store = scene.store;
    let last = words
        .last()
        .map_or_else(String::new, |last| format!(" ({})", quote(last)));
    match code {
        Some(FOLDER_NOT_FOUND | FILE_NOT_FOUND) if scene.role == Role::Source => Setback::new(
            reason::BUCKET_MISSING,
            format!(
                "there is no `{store}`, and it could not be made{last}; make the bucket or folder, or correct \
                 spec.rclone.rcloneDestPath"
            ),
            Next::GiveUp,
        ),
        Some(FOLDER_NOT_FOUND | FILE_NOT_FOUND) => Setback::new(
            reason::NOTHING_AT_PATH,
            format!(
                "there is nothing at `{store}`{last}; check spec.rclone.rcloneDestPath, and that the source has run"
            ),
            Next::GiveUp,
        ),
        Some(5) => Setback::new(
            reason::STORE_UNREACHABLE,
            format!("`{store}` did not answer as it should{last}; it is tried again"),
            Next::Wait,
        ),
        Some(code) => Setback::new(
            api_reason::TRANSFER_FAILED,
            format!(
                "rclone ended with exit code {code} at `{store}`{last}; it is tried again, and if it goes on the key \
                 RCLONE_LOG_LEVEL=DEBUG in the Secret lets the mover's log tell more"
            ),
            Next::Wait,
        ),
        None => Setback::new(
            api_reason::TRANSFER_FAILED,
            format!(
                "rclone was killed at `{store}`{last}; if that was for want of memory, raise the mover's memory limit"
            ),
            Next::Wait,
        ),
    }
}

#[cfg(test)]
mod tests;
