//! Why a command ended without success, and with which exit code.

use std::error::Error;
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

/// Said when a request gets no answer.
const SILENT: &str = "the cluster does not answer";
/// How a TLS library begins to tell of bytes that are not TLS.
const NOT_TLS: &str = "received corrupt message";

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

    /// Says what to do about a thing that is not there, where nothing better is said yet.
    #[must_use]
    pub(crate) fn or_hint(self, hint: &str) -> Self {
        if self.kind == Kind::NotFound && self.hint.is_none() {
            self.hint(hint)
        } else {
            self
        }
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

    /// Names the cluster, if it is its silence that is told.
    #[must_use]
    pub(crate) fn of_cluster(self, cluster: &str) -> Self {
        if self.error.to_string() == SILENT {
            // The shorter sentence is part of this one, so it is not shown again.
            self.context(format!("{SILENT} at {cluster}"))
        } else {
            self
        }
    }

    /// No answer, and the innermost reason for that: the outer ones only tell through which libraries the request went.
    fn silence(error: &(dyn Error + 'static)) -> Self {
        let root = std::iter::successors(Some(error), |&error| error.source()).last();
        let root = root.map_or_else(String::new, ToString::to_string);
        let (why, hint) = if root.starts_with(NOT_TLS) {
            (
                "something else answers there, not in TLS",
                "correct `server` in the kubeconfig, or name another kubeconfig with --kubeconfig FILE",
            )
        } else {
            (
                root.split(" (os error").next().unwrap_or_default(),
                "is it running? `syncline up` starts one on this machine",
            )
        };
        Self::from(anyhow::Error::msg(why.to_owned()).context(SILENT))
            .of_kind(Kind::Unreachable)
            .hint(hint)
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
            error @ (kube::Error::Service(_) | kube::Error::HyperError(_)) => Self::silence(&error),
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
    fn a_cluster_that_does_not_answer_is_named_with_the_shortest_reason() {
        let silent = |why: io::Error| {
            Failure::from(kube::Error::Service(Box::new(why)))
                .of_cluster("https://127.0.0.1:1 (kubeconfig /k)")
        };
        let refused = silent(io::Error::from_raw_os_error(
            rustix::io::Errno::CONNREFUSED.raw_os_error(),
        ));
        let told = "the cluster does not answer at https://127.0.0.1:1 (kubeconfig /k)";
        assert_eq!(refused.causes(), [told, "Connection refused"]);
        assert_eq!(refused.kind.exit_code(), 4);
        let other = silent(io::Error::other(rustls::Error::InvalidMessage(
            rustls::InvalidMessage::InvalidContentType,
        )));
        assert_eq!(
            other.causes(),
            [told, "something else answers there, not in TLS"]
        );
        let unconcerned = Failure::new("there is no x").of_cluster("https://127.0.0.1:1");
        assert_eq!(unconcerned.causes(), ["there is no x"]);
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
