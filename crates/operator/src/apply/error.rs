//! What can go wrong with a write, and what that means.

/// What was to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Apply,
    Change,
    Status,
    Delete,
}

impl std::fmt::Display for Action {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Apply => "applied",
            Self::Change => "changed",
            Self::Status => "given a new status",
            Self::Delete => "deleted",
        })
    }
}

/// A write that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object is not any more what the plan was made for.
    #[error("{object} has changed meanwhile and was not {action}")]
    Outdated {
        /// The object.
        object: String,
        /// What was to be done.
        action: String,
    },
    /// The API server has looked at it and says no.
    #[error(
        "{object} could not be {action}: the API server refuses it: {reason}; correct the spec, or what the message names, and it is tried again"
    )]
    Refused {
        /// The object.
        object: String,
        /// What was to be done.
        action: String,
        /// The server's words.
        reason: String,
    },
    /// The request did not get through; time helps.
    #[error("{object} could not be {action}")]
    Unavailable {
        /// The object.
        object: String,
        /// What was to be done.
        action: String,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
}

impl Error {
    pub(crate) fn new(action: Action, object: String, source: kube::Error) -> Self {
        let action_word = action.to_string();
        match source {
            kube::Error::Api(status)
                if status.code == 409 || (status.code == 404 && action != Action::Apply) =>
            {
                Self::Outdated {
                    object,
                    action: action_word,
                }
            }
            // Throttling and a namespace on its way out are nothing that the user could correct.
            kube::Error::Api(status)
                if (400..500).contains(&status.code)
                    && status.code != 429
                    && !status.message.contains("because it is being terminated") =>
            {
                Self::Refused {
                    object,
                    action: action_word,
                    reason: status.message.clone(),
                }
            }
            source => Self::Unavailable {
                object,
                action: action_word,
                source: Box::new(source),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use rstest::rstest;

    use super::*;

    fn answer(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status {
            code,
            message: message.to_owned(),
            ..Status::default()
        }))
    }

    #[rstest]
    #[case(Action::Status, 409, "changed", "has changed meanwhile")]
    #[case(Action::Delete, 404, "gone", "has changed meanwhile")]
    #[case(
        Action::Apply,
        422,
        "spec.resources: too small",
        "refuses it: spec.resources: too small"
    )]
    #[case(
        Action::Apply,
        403,
        "unable to create new content because it is being terminated",
        "could not be applied"
    )]
    #[case(Action::Apply, 429, "slow down", "could not be applied")]
    #[case(Action::Apply, 503, "away", "could not be applied")]
    fn an_answer_is_known_by_its_code(
        #[case] action: Action,
        #[case] code: u16,
        #[case] words: &str,
        #[case] expected: &str,
    ) {
        let error = Error::new(action, "Job ns/x".to_owned(), answer(code, words));
        assert!(error.to_string().contains(expected), "{error}");
    }
}
