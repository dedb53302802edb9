//! Plan: from what is wanted and what was seen to what is to be done. Pure: no client, no clock, no async.
//!
//! ```text
//!          start                      Job made              Job succeeded
//!   idle ─────────► preparing ───────────────► transferring ─────────────► publishing (destinations)
//!    ▲                ▲  │ copy or volume                │ Job failed            │ snapshot ready
//!    │ all removed    │  │ not ready yet                 ▼                       ▼
//!    └── cleaning ◄───┼──┼── … ◄──────────────── waiting for the retry        finished ──► cleaning
//! ```
//!
//! Nothing of this is stored: `lastSyncStartTime` tells running from idle, and the objects tell the rest.
//! Invariant: a Job in flight is never applied again, only held and released.
//! Invariant: the copy that `status.latestImage` names is never deleted.
//! Invariant: the user's claim is never deleted; of it only annotations are ever written: `snapname`, and at a source whose
//! copies wait for their user the three that say how far that has come.

mod anew;
mod cleanup;
mod consistency;
mod copies;
mod cycle;
mod draft;
mod fault;
mod foreign;
mod images;
mod job;
mod keys;
mod lost;
mod outcome;
mod placement;
mod pod;
mod pull;
mod rclone;
mod rsync;
mod service;
mod standing;
mod stuck;
mod target;
#[cfg(test)]
mod tests;
mod trigger;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolumeClaim, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde_json::Value;
use syncline_api::names::Mover;

use crate::keys::Seed;
use crate::kinds::VolumeSnapshot;
use crate::metrics::Measure;
use crate::observe::World;
use crate::options::{MoverImages, MoverLog};
use crate::status::State;
use crate::subject::Subject;
use crate::validate::{Refusal, Validated};

pub use cycle::{plan, refused};
pub use fault::Fault;
pub use job::{is_of_volsync, mounted_claim};
pub use outcome::{container_of, has_ended, report_of};
pub use pod::RESOURCE;
pub(crate) use pod::lets_movers_be_root;

/// An object to be applied.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// The mover's identity.
    ServiceAccount(Box<ServiceAccount>),
    /// What it may do: nothing.
    Role(Box<Role>),
    /// The two together.
    RoleBinding(Box<RoleBinding>),
    /// ssh keys.
    Secret(Box<Secret>),
    /// The way to the mover.
    Service(Box<Service>),
    /// A volume.
    Claim(Box<PersistentVolumeClaim>),
    /// A copy of a volume.
    Snapshot(Box<VolumeSnapshot>),
    /// The mover.
    Job(Box<Job>),
}

/// The kinds whose objects are patched or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `batch/v1` Job.
    Job,
    /// `v1` `PersistentVolumeClaim`.
    Claim,
    /// `snapshot.storage.k8s.io/v1` `VolumeSnapshot`.
    Snapshot,
}

/// One existing object, and the state of it that a decision was made on.
#[derive(Clone, Debug, PartialEq)]
pub struct Existing {
    /// Its kind.
    pub kind: Kind,
    /// Its name, in the resource's namespace.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its version, when the decision depends on more than its identity.
    pub resource_version: Option<String>,
}

/// A change to an object that is not wholly ours to declare.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The object.
    pub target: Existing,
    /// The JSON merge patch, without preconditions.
    pub patch: Value,
}

/// An effect outside the API's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Follow the log of this pod's mover for progress.
    Follow {
        /// The pod's name.
        pod: String,
        /// Its uid.
        uid: String,
        /// The mover's container in it.
        container: String,
    },
    /// Do not try this image for a while: it is not Syncline's.
    Distrust {
        /// The image.
        image: String,
    },
}

/// An event to be emitted once.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// Whether something is wrong.
    pub warning: bool,
    /// `VolSync`'s reason.
    pub reason: &'static str,
    /// `VolSync`'s action.
    pub action: &'static str,
    /// A sentence for people.
    pub text: String,
    /// The other object concerned.
    pub related: Option<ObjectReference>,
}

/// What is to be done, in this order: patches, applies, the status, deletions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Changes to existing objects.
    pub changes: Vec<Change>,
    /// Objects to be applied, in this order.
    pub apply: Vec<Object>,
    /// The status to be recorded; `None` leaves it alone.
    pub status: Option<State>,
    /// Objects to be deleted, once the status is recorded.
    pub delete: Vec<Existing>,
    /// Whether all waits for something that the user is to do, so that other transfers may go first.
    pub waits_for_user: bool,
    /// Effects outside the API's objects.
    pub calls: Vec<Call>,
    /// Events.
    pub events: Vec<Note>,
    /// Facts for the metrics.
    pub measures: Vec<Measure>,
    /// When to look again, if nothing happens before.
    pub wake: Option<Timestamp>,
}

/// The moment of a plan: the time, and what chance it may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// The time.
    pub now: Timestamp,
    /// For backoff, in `0.0..1.0`.
    pub jitter: f64,
    /// For the two key pairs, should they be needed: the source's and the destination's.
    pub seeds: (Seed, Seed),
}

/// The Secrets that movers' images are pulled with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullSecrets {
    /// The operator's own namespace, where they are; without it there are none.
    pub namespace: Option<String>,
    /// Their names.
    pub names: Vec<String>,
}

/// The operator's settings that plans depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where schedules are read that name no zone.
    pub zone: TimeZone,
    /// The images of the movers' pods.
    pub images: MoverImages,
    /// The port that `spec.rsync.port` means when absent.
    pub rsync_port: u16,
    /// What of a mover's log is kept.
    pub mover_log: MoverLog,
    /// The Secrets that the image is pulled with.
    pub pull_secrets: PullSecrets,
    /// The proxies that movers which reach out of the cluster are given, by variable name.
    pub proxies: Vec<(String, String)>,
}

/// Everything that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The resource.
    pub subject: &'a Subject,
    /// Its spec, if there is nothing wrong with it.
    pub wish: Result<&'a Validated, &'a Refusal>,
    /// What was seen.
    pub world: &'a World,
    /// When.
    pub moment: &'a Moment,
    /// The operator's settings.
    pub settings: &'a Settings,
}

impl Input<'_> {
    /// The time.
    fn now(&self) -> Timestamp {
        self.moment.now
    }

    /// The mover whose objects the plan is about.
    fn mover(&self) -> Mover {
        self.subject.spec.acting_mover()
    }

    /// The image of its pods.
    fn image(&self) -> &str {
        self.settings.images.of(self.mover())
    }

    /// The resource's name.
    fn name(&self) -> &str {
        &self.subject.key.name
    }

    /// The resource's namespace.
    fn namespace(&self) -> &str {
        &self.subject.key.namespace
    }
}
