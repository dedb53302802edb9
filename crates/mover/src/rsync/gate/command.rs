//! The gate's grammar: the few commands that a key holder may run at a destination.
//!
//! ```text
//! command  = rsync | block | shutdown
//! rsync    = "rsync" "--server" option* "." path
//! block    = "syncline" "receive-block" "--proto" "1"
//! shutdown = "shutdown" 0..255
//! ```
//!
//! Everything else is refused, commands that other versions know by name so that the refusal can say why.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::options::{self, Noted};
use super::words;

/// A command that the gate lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Receive a transfer.
    Receive(Receive),
    /// Receive a block device.
    ReceiveBlock,
    /// End the destination with this code; 0 means that the transfer is complete.
    Shutdown(u8),
}

/// A stock client's push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receive {
    /// The options as the client sent them, each of them known and admitted.
    pub(crate) options: Vec<OsString>,
    /// Where in the volume, from its root: names only, never `.` or `..`.
    pub(crate) components: Vec<OsString>,
    /// The path ended in a slash: it means a folder.
    pub(crate) is_folder: bool,
    /// Missing folders on the way are to be made.
    pub(crate) make_path: bool,
    /// Nothing will be written.
    pub(crate) dry_run: bool,
}

/// Why a command is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("this key gives no shell; send data with rsync")]
    Interactive,
    #[error("the command line is too long")]
    TooLong,
    #[error("the command line contains a control character")]
    ControlCharacter,
    #[error("the command line ends in a backslash")]
    DanglingBackslash,
    #[error(
        "an unquoted `{0}` would mean something to a shell, and no shell runs here; rsync since 3.2.4 quotes it"
    )]
    ShellCharacter(char),
    #[error(
        "`{0}` is not a command of this destination; it has `rsync --server …` and `shutdown N`"
    )]
    Unknown(String),
    #[error(
        "`diskrsync`, with which VolSync sends block volumes, is not spoken here; let Syncline run the source too, or \
         replicate a volume with volumeMode Filesystem"
    )]
    Diskrsync,
    #[error("the native engine is not spoken here; fall back to rsync")]
    Native,
    #[error(
        "block volumes are received here with version {} of the protocol only; give both ends the same release",
        crate::rsync::block::PROTOCOL
    )]
    OtherProtocol,
    #[error(
        "this destination's volume is a block device and the source's is a file system; give both claims the same \
         volumeMode (spec.rsync.volumeMode at the destination)"
    )]
    BlockDevice,
    #[error(
        "this destination's volume is a file system and the source's is a block device; give both claims the same \
         volumeMode (spec.rsync.volumeMode at the destination)"
    )]
    FileSystem,
    #[error("`shutdown` takes one number from 0 to 255")]
    ExitCode,
    #[error("rsync must be started as a server by an rsync client")]
    NotAServer,
    #[error("this destination only receives; reading from it is not allowed")]
    Pull,
    #[error(
        "arguments sent after the command (-s, --secluded-args) cannot be checked; call rsync with --no-s"
    )]
    SecludedArguments,
    #[error("option {0} is not allowed")]
    Option(String),
    #[error("the value of option {0} is not allowed")]
    Value(String),
    #[error("`{0}` stands where an option was expected")]
    UnexpectedWord(String),
    #[error("rsync's command line must end in `.` and one path")]
    Paths,
    #[error("the path must not contain `..`")]
    ParentInPath,
    #[error("the path is too long")]
    LongPath,
}

/// Reads the command line that a client sent.
pub(crate) fn parse(line: &[u8]) -> Result<Command, Refusal> {
    let words = words::split(line)?;
    let Some((program, rest)) = words.split_first() else {
        return Err(Refusal::Interactive);
    };
    match program.as_slice() {
        b"rsync" => receive(rest).map(Command::Receive),
        b"shutdown" => shutdown(rest).map(Command::Shutdown),
        b"diskrsync" => Err(Refusal::Diskrsync),
        b"syncline" => native(rest),
        other => Err(Refusal::Unknown(options::text(other))),
    }
}

fn native(words: &[Vec<u8>]) -> Result<Command, Refusal> {
    match words {
        [verb, option, version] if verb == b"receive-block" && option == b"--proto" => {
            if *version == crate::rsync::block::PROTOCOL.to_string().as_bytes() {
                Ok(Command::ReceiveBlock)
            } else {
                Err(Refusal::OtherProtocol)
            }
        }
        _ => Err(Refusal::Native),
    }
}

fn shutdown(words: &[Vec<u8>]) -> Result<u8, Refusal> {
    let [number] = words else {
        return Err(Refusal::ExitCode);
    };
    if number.is_empty() || number.len() > 3 || !number.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::ExitCode);
    }
    let number = number
        .iter()
        .fold(0_u16, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    u8::try_from(number).map_err(|_| Refusal::ExitCode)
}

fn receive(words: &[Vec<u8>]) -> Result<Receive, Refusal> {
    let Some((first, words)) = words.split_first() else {
        return Err(Refusal::NotAServer);
    };
    if first != b"--server" {
        return Err(Refusal::NotAServer);
    }
    let mut noted = Noted::default();
    let mut admitted = Vec::new();
    for (index, word) in words.iter().enumerate() {
        if word == b"." {
            let [path] = words.get(index + 1..).unwrap_or_default() else {
                return Err(Refusal::Paths);
            };
            return Ok(Receive {
                options: admitted,
                components: components(path)?,
                is_folder: path.ends_with(b"/") || path.ends_with(b"/."),
                make_path: noted.make_path,
                dry_run: noted.dry_run,
            });
        }
        options::check(word, &mut noted)?;
        admitted.push(OsString::from_vec(word.clone()));
    }
    Err(Refusal::Paths)
}

/// The names in a path. A leading slash means the volume's root, as it does for VolSync's destinations.
fn components(path: &[u8]) -> Result<Vec<OsString>, Refusal> {
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(Refusal::ParentInPath),
            long if long.len() > 255 => return Err(Refusal::LongPath),
            name => names.push(OsString::from_vec(name.to_vec())),
        }
    }
    if names.len() > 128 {
        Err(Refusal::LongPath)
    } else {
        Ok(names)
    }
}
