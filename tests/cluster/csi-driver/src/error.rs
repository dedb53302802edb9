//! Why a call is refused, and the code that the caller is told.

use std::path::{Path, PathBuf};

use tonic::Status;

/// A refused call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The request lacks something or contradicts itself.
    #[error("{0}")]
    Invalid(String),
    /// There is nothing of that id.
    #[error("there is no {what} `{id}`")]
    Missing {
        /// `volume`, `snapshot` or what lies at a path.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// The name is taken by something that differs from what is asked for.
    #[error("{what} `{id}` exists with other properties: {difference}")]
    Taken {
        /// `volume` or `snapshot`.
        what: &'static str,
        /// Its id.
        id: String,
        /// What differs.
        difference: String,
    },
    /// No volume of that size, here or at all.
    #[error("{0}")]
    OutOfRange(String),
    /// No room, or none where it is wanted.
    #[error("{0}")]
    NoSpace(String),
    /// Something else has to happen first.
    #[error("{0}")]
    Precondition(String),
    /// Another call works on the same object, or a token of a list is not one of ours.
    #[error("{0}")]
    Aborted(String),
    /// A failure of the volumes room.
    #[error(transparent)]
    Volumes(#[from] syncline_volumes::Error),
    /// Any other failure of the system.
    #[error("cannot {action} {path}: {source}")]
    System {
        /// For instance `mount`.
        action: &'static str,
        /// The object.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A record that cannot be read.
    #[error("{path} is damaged ({source}): delete the cluster's data folder and start it again")]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// What the faults file asked for.
    #[error("{}", .0.message())]
    Injected(Status),
}

impl Fault {
    pub(crate) fn system(
        action: &'static str,
        path: &Path,
        source: impl Into<std::io::Error>,
    ) -> Self {
        Self::System {
            action,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn missing(what: &'static str, id: &str) -> Self {
        Self::Missing {
            what,
            id: id.to_owned(),
        }
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        use syncline_volumes::Error as Volumes;
        let text = fault.to_string();
        match fault {
            Fault::Invalid(_) | Fault::Volumes(Volumes::BadName(_)) => Self::invalid_argument(text),
            Fault::Missing { .. } | Fault::Volumes(Volumes::Missing { .. }) => {
                Self::not_found(text)
            }
            Fault::Taken { .. } => Self::already_exists(text),
            Fault::OutOfRange(_) | Fault::Volumes(Volumes::Shrinks { .. }) => {
                Self::out_of_range(text)
            }
            Fault::NoSpace(_) | Fault::Volumes(Volumes::Full { .. }) => {
                Self::resource_exhausted(text)
            }
            Fault::Precondition(_) => Self::failed_precondition(text),
            Fault::Aborted(_) => Self::aborted(text),
            Fault::Injected(status) => status,
            Fault::Volumes(_) | Fault::System { .. } | Fault::Record { .. } => Self::internal(text),
        }
    }
}
