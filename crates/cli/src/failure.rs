//! Why a command ended without success, and with which exit code.

use std::io;

use crate::hints;

/// Exit code of wrong usage, as `clap` has it.
pub(crate) const USAGE: u8 = 2;

/// What went wrong, as far as a script wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The command failed.
    Failed,
    /// The arguments make no sense together.
    Usage,
    /// The object is not there.
    NotFound,
    /// No cluster answers.
    Unreachable,
    /// Another process uses the data folder.
    InUse,
    /// Nobody reads the output any more.
    BrokenPipe,
}

impl Kind {
    /// The exit code; documented in `--help` and in the book.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => USAGE,
            Self::NotFound => 3,
            Self::Unreachable => 4,
            Self::InUse => 5,
            Self::BrokenPipe => 0,
        }
    }
}

/// A failure as it is shown: what, why, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Decides the exit code.
    pub(crate) kind: Kind,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// A failure of the ordinary kind.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Failed,
            error: anyhow::Error::msg(message.into()),
            hint: None,
        }
    }

    /// Says what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A refusal in the server's words, with what can be done about it where that is known.
    pub(crate) fn refusal(message: &str) -> Self {
        let failure = Self::new(message);
        match hints::of(message) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// Sets the kind.
    #[must_use]
    pub(crate) fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Says what was being done.
    #[must_use]
    pub(crate) fn context(mut self, doing: impl Into<String>) -> Self {
        self.error = self.error.context(doing.into());
        self
    }

    /// The message and its causes, outermost first, none twice.
    pub(crate) fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        for cause in self.error.chain() {
            let text = cause.to_string();
            // Some libraries repeat their cause in their own message.
            if !causes.iter().any(|earlier| earlier.contains(&text)) {
                causes.push(text);
            }
        }
        causes
    }

    /// What to do about it.
    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self {
            kind: Kind::Failed,
            error,
            hint: None,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let kind = if error.kind() == io::ErrorKind::BrokenPipe {
            Kind::BrokenPipe
        } else {
            Kind::Failed
        };
        Self {
            kind,
            error: error.into(),
            hint: None,
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::from(anyhow::Error::from(error).context("the cluster's answer could not be read"))
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 404 => {
                Self::refusal(&status.message).of_kind(Kind::NotFound)
            }
            kube::Error::Api(status) => Self::refusal(&message_of(&status)),
            error @ (kube::Error::Service(_) | kube::Error::HyperError(_)) => {
                Self::from(anyhow::Error::from(error).context("the cluster does not answer"))
                    .of_kind(Kind::Unreachable)
                    .hint("is it running? `syncline up` starts one on this machine")
            }
            error => Self::from(anyhow::Error::from(error)),
        }
    }
}

/// A refusal in the server's words; its code where it has none.
fn message_of(status: &kube::core::Status) -> String {
    if status.message.is_empty() {
        format!(
            "the cluster refused with status {} {}",
            status.code, status.reason
        )
    } else {
        status.message.clone()
    }
}

impl From<kube::core::request::Error> for Failure {
    fn from(error: kube::core::request::Error) -> Self {
        Self::from(anyhow::Error::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(
            (failure.kind, failure.kind.exit_code()),
            (Kind::BrokenPipe, 0)
        );
    }

    #[test]
    fn causes_are_listed_once() {
        let error = anyhow::anyhow!("deep")
            .context("middle: deep")
            .context("top");
        assert_eq!(Failure::from(error).causes(), ["top", "middle: deep"]);
    }

    #[test]
    fn what_is_not_there_has_an_exit_code_of_its_own() {
        let status = kube::core::Status {
            code: 404,
            message: "pods \"x\" not found".to_owned(),
            ..Default::default()
        };
        let failure = Failure::from(kube::Error::Api(Box::new(status)));
        assert_eq!(
            (failure.kind.exit_code(), failure.causes()),
            (3, vec!["pods \"x\" not found".to_owned()])
        );
    }
}
