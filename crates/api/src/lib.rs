//! Syncline's API: custom resources, status, conditions, labels, derived names and the movers' report. Data and pure functions only.
//!
//! The two kinds, [`ReplicationSource`] and [`ReplicationDestination`], are those of `VolSync`
//! (`volsync.backube/v1alpha1`): every field of theirs is here under its own name, so that a manifest written for
//! `VolSync` is accepted and nothing in it is pruned. What Syncline adds is optional and marked "Syncline:" in its
//! description.
//!
//! Invariant: nothing in this crate reads a clock, a file, the network or a random number.

pub mod conditions;
mod crd;
pub mod destination;
pub mod duration;
pub mod env;
pub mod keys;
pub mod labels;
pub mod movers;
pub mod names;
pub mod report;
mod resource;
mod schema;
pub mod source;
pub mod status;

pub use crd::crds;
pub use destination::{
    ReplicationDestination, ReplicationDestinationSpec, ReplicationDestinationStatus,
};
pub use duration::GoDuration;
pub use source::{ReplicationSource, ReplicationSourceSpec, ReplicationSourceStatus};

/// API group of both kinds.
pub const GROUP: &str = "volsync.backube";
/// The only version of both kinds, served and stored.
pub const VERSION: &str = "v1alpha1";
/// Group and version as `apiVersion` carries them.
pub const API_VERSION: &str = "volsync.backube/v1alpha1";
