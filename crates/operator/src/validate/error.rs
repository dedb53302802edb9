//! What can be wrong with a spec. Each message names cause, object and cure.

use syncline_api::names::{self, LONGEST_OBJECT_NAME, Mover};
use syncline_schedule::ParseError;

use crate::subject::Subject;

/// A mistake in a spec that only its author can correct.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No mover is chosen.
    #[error(
        "a replication method must be specified - enabled movers: [{built}]; add one of them to spec"
    )]
    NoMover {
        /// The movers that could be chosen.
        built: String,
    },
    /// More than one mover is chosen.
    #[error(
        "only one replication method can be supplied, but spec has {chosen}; keep one of them and remove the others"
    )]
    ManyMovers {
        /// The movers that are chosen.
        chosen: String,
    },
    /// A mover is chosen that this version does not have.
    #[error(
        "the mover spec.{mover} is not available in this version of Syncline - enabled movers: [{built}]; use one of them, or an operator that has spec.{mover}"
    )]
    MoverNotBuilt {
        /// The mover.
        mover: &'static str,
        /// The movers that could be chosen.
        built: String,
    },
    /// The schedule cannot be read.
    #[error("spec.trigger.schedule: {0}")]
    Schedule(ParseError),
    /// The schedule never comes due. The words leave out when that was found, or each look would have others.
    #[error(
        "spec.trigger.schedule: the schedule {expression:?} never comes due; give it a day that its months have, such as \"0 3 28 2 *\""
    )]
    NeverFires {
        /// The schedule.
        expression: String,
    },
    /// A field that the mover cannot do without is missing.
    #[error("{field} must be provided: {purpose}")]
    Missing {
        /// The field.
        field: String,
        /// What it is for.
        purpose: &'static str,
    },
    /// A field that describes the volume to make is missing, and there is no volume.
    #[error(
        "{field} must be provided: without {claim}, capacity and accessModes describe the volume to make"
    )]
    NoVolume {
        /// The field.
        field: String,
        /// The field that would name a volume instead.
        claim: String,
    },
    /// A field that has no default is not set.
    #[error("{field} is not set; it must be one of {values}")]
    NotChosen {
        /// The field.
        field: String,
        /// What it may be.
        values: &'static str,
    },
    /// The other side's port stands in its address.
    #[error("spec.rsync.address {address:?} holds a port; write the port into spec.rsync.port")]
    PortInAddress {
        /// What the user wrote.
        address: String,
    },
    /// A field holds something it must not.
    #[error("{field} {value:?} cannot be used: {expected}")]
    Field {
        /// The field.
        field: String,
        /// What the user wrote.
        value: String,
        /// What it should be instead.
        expected: &'static str,
    },
    /// An annotation holds something it must not.
    #[error("the annotation {annotation} {value:?} cannot be used: {expected}")]
    Note {
        /// The annotation.
        annotation: &'static str,
        /// What the user wrote.
        value: String,
        /// What it should be instead.
        expected: String,
    },
    /// An annotation that stands for a field cannot be read.
    #[error(
        "the annotation {annotation} cannot be used: {problem}; write what the field would have, in JSON or YAML"
    )]
    Annotation {
        /// The annotation.
        annotation: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A further volume cannot be mounted.
    #[error("moverVolumes: the volume with mountPath {path:?} cannot be used: {problem}")]
    MoverVolume {
        /// Its path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The name leaves no room for the names derived from it.
    #[error(
        "metadata.name {name:?} is too long: the {kind} {derived:?} made for it would have {length} characters and {LONGEST_OBJECT_NAME} are allowed; choose a shorter name"
    )]
    NameTooLong {
        /// The resource's name.
        name: String,
        /// The kind of what has the longest name derived from it.
        kind: &'static str,
        /// That name.
        derived: String,
        /// How long that is.
        length: usize,
    },
}

/// Checks that all names derived from the resource's fit their kinds. Where there are Secrets with keys, `…-main-…` and
/// `…-dest-…` are the longest, and elsewhere that of the volume.
pub(super) fn check_names(subject: &Subject, mover: Mover) -> Result<(), Invalid> {
    let (side, name) = (subject.key.side, &subject.key.name);
    let (kind, derived) = match mover {
        Mover::Rsync => ("Secret", names::ssh_keys_destination(side, name)),
        _ => ("PersistentVolumeClaim", names::data_pvc(mover, side, name)),
    };
    let length = derived.len();
    if length <= LONGEST_OBJECT_NAME {
        return Ok(());
    }
    Err(Invalid::NameTooLong {
        name: name.clone(),
        kind,
        derived,
        length,
    })
}
