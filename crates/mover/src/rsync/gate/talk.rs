//! What the gate and the destination's supervisor say to each other, over a socket in their private folder.
//!
//! The gate opens one connection for each command and sends one line; the supervisor answers with one line. After a
//! transfer the gate sends how it ended. The programs of the transfer inherit the connection, so that its end tells the
//! supervisor that really none of them is left.

/// The socket's name in the private folder.
pub(crate) const SOCKET: &str = "gate.sock";
/// The gate's settings, in the same folder.
pub(crate) const SETTINGS: &str = "gate.json";

/// What a gate needs to know; the supervisor writes it before sshd starts.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Settings {
    /// The folder that peers write to: the volume's root, or the folder in it that the destination names.
    pub(crate) root: std::path::PathBuf,
    /// The rsync program.
    pub(crate) rsync: std::path::PathBuf,
    /// Whether that program knows `--confine-root` (rsync 3.5).
    pub(crate) confine_root: bool,
    /// The device that is received into, where the volume is one instead of a file system.
    pub(crate) block: Option<std::path::PathBuf>,
}

/// A line from a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A transfer wants to start. A dry run proves nothing about the data.
    Begin {
        /// Whether it will write.
        writes: bool,
    },
    /// The transfer ended with this exit code.
    End(i32),
    /// The peer wants the destination to end with this code.
    Shutdown(u8),
    /// A command was refused; for the log.
    Refused(String),
    /// What became of a transfer, in words; for the log.
    Noted(String),
}

impl Request {
    /// The line, with its line break.
    pub(crate) fn to_line(&self) -> String {
        match self {
            Self::Begin { writes: true } => "begin write\n".to_owned(),
            Self::Begin { writes: false } => "begin dry\n".to_owned(),
            Self::End(code) => format!("end {code}\n"),
            Self::Shutdown(code) => format!("shutdown {code}\n"),
            Self::Refused(why) => format!("refused {why}\n"),
            Self::Noted(what) => format!("noted {what}\n"),
        }
    }

    /// Reads a line, its line break removed.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ')?;
        match (word, rest) {
            ("begin", "write") => Some(Self::Begin { writes: true }),
            ("begin", "dry") => Some(Self::Begin { writes: false }),
            ("end", code) => code.parse().ok().map(Self::End),
            ("shutdown", code) => code.parse().ok().map(Self::Shutdown),
            ("refused", why) => Some(Self::Refused(why.to_owned())),
            ("noted", what) => Some(Self::Noted(what.to_owned())),
            _ => None,
        }
    }
}

/// The supervisor's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Go on.
    Yes,
    /// Do not, and tell the peer why.
    No(String),
}

impl Answer {
    /// The line, with its line break.
    pub(crate) fn to_line(&self) -> String {
        match self {
            Self::Yes => "yes\n".to_owned(),
            Self::No(why) => format!("no {why}\n"),
        }
    }

    /// Reads a line, its line break removed.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ') {
            None => (line == "yes").then_some(Self::Yes),
            Some((word, why)) => (word == "no").then(|| Self::No(why.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for request in [
            Request::Begin { writes: true },
            Request::Begin { writes: false },
            Request::End(-1),
            Request::Shutdown(255),
            Request::Refused("option --x is not allowed".to_owned()),
            Request::Noted("12 bytes received".to_owned()),
        ] {
            assert_eq!(Request::parse(request.to_line().trim_end()), Some(request));
        }
        for answer in [Answer::Yes, Answer::No("not yet".to_owned())] {
            assert_eq!(Answer::parse(answer.to_line().trim_end()), Some(answer));
        }
        for nonsense in ["", "begin", "shutdown 256", "shutdown -1", "hello world"] {
            assert_eq!(Request::parse(nonsense), None);
        }
    }
}
