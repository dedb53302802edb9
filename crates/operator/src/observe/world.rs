//! What was seen of the cluster, for one resource at one moment.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use syncline_api::status::Progress;

use super::{PullSecret, Store};
use crate::follow::Reported;
use crate::kinds::VolumeSnapshot;

/// Whether a class that a spec names exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Found {
    /// The spec names none.
    #[default]
    NotNamed,
    /// It exists.
    Present,
    /// It does not.
    Missing,
}

/// The Secrets with ssh keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Secrets {
    /// The user's, if the spec names one.
    pub given: Option<Secret>,
    /// The one that keys are made in.
    pub main: Option<Secret>,
    /// The source's part of it.
    pub source: Option<Secret>,
    /// The destination's part of it.
    pub destination: Option<Secret>,
}

/// Objects that carry this resource's cleanup label.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labelled {
    /// Jobs.
    pub jobs: Vec<Job>,
    /// Claims.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Snapshots.
    pub snapshots: Vec<VolumeSnapshot>,
}

/// What the cluster says is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The event's reason.
    pub reason: String,
    /// Its words.
    pub message: String,
}

/// What the user's further volumes of the mover's pod hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Further {
    /// The claims that exist.
    pub claims: Vec<PersistentVolumeClaim>,
    /// The names of the Secrets that exist.
    pub secrets: BTreeSet<String>,
}

impl Further {
    /// The claim of a name.
    pub fn claim(&self, name: &str) -> Option<&PersistentVolumeClaim> {
        self.claims
            .iter()
            .find(|claim| claim.metadata.name.as_deref() == Some(name))
    }
}

/// Everything that a plan may depend on, apart from the resource itself and the moment.
///
/// Objects are found by their deterministic names; that one has the name does not mean that it is ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// The resource's namespace. Only where the mover's rights depend on it; `None` also when it may not be read.
    pub namespace: Option<Namespace>,
    /// What tells this cluster from others: the uid of `kube-system`. Only for sources that write to a store; `None` also
    /// when it may not be read.
    pub cluster: Option<String>,
    /// The mover's service account: the user's, or ours.
    pub service_account: Option<ServiceAccount>,
    /// Its role, if it is ours.
    pub role: Option<Role>,
    /// Its role binding, if it is ours.
    pub role_binding: Option<RoleBinding>,
    /// The Secrets that movers' images are pulled with.
    pub pull_secrets: Vec<PullSecret>,
    /// What the user's further volumes of the mover's pod hold.
    pub further: Further,
    /// The Secrets with ssh keys.
    pub secrets: Secrets,
    /// What rclone's configuration and certificate have, where the spec has rclone.
    pub store: Store,
    /// The mover's Service.
    pub service: Option<Service>,
    /// The mover's Job.
    pub job: Option<Job>,
    /// That Job's pods.
    pub pods: Vec<Pod>,
    /// The end of the mover's log, read only when the Job has ended and no pod left a report that holds what is asked for.
    pub log: Option<String>,
    /// What the running mover last said of its progress.
    pub progress: Option<Progress>,
    /// What the mover reported in its log, which is earlier than its termination message.
    pub reported: Option<Reported>,
    /// The user's claim: a source's, or the one a destination is to write to.
    pub given_claim: Option<PersistentVolumeClaim>,
    /// Our claim: a source's image, or the volume of a destination.
    pub own_claim: Option<PersistentVolumeClaim>,
    /// The claim that the Job mounts, if it is neither of these any more.
    pub job_claim: Option<PersistentVolumeClaim>,
    /// The snapshot of a source's image; at a destination, the one whose name its volume bears.
    pub snapshot: Option<VolumeSnapshot>,
    /// All snapshots in the namespace that were made by an operator of this API. Destinations only.
    pub images: Vec<VolumeSnapshot>,
    /// What the cleanup label is on.
    pub labelled: Labelled,
    /// The storage class that the spec names.
    pub storage_class: Found,
    /// The snapshot class that the spec names.
    pub snapshot_class: Found,
    /// Whether the cluster knows snapshots.
    pub snapshots_known: bool,
    /// Pods that use the volume, other than movers. Only where the volume itself is used and no Job runs yet.
    pub users: Vec<Pod>,
    /// The nodes of those pods.
    pub nodes: Vec<Node>,
    /// What the cluster complains of among what a run waits for, by the uid of the object.
    pub complaints: BTreeMap<String, Complaint>,
    /// Until when the movers' image is not to be tried, because it turned out to be somebody else's.
    pub image_distrusted_until: Option<Timestamp>,
    /// Whether another transfer may start now.
    pub may_start: bool,
    /// How many resources keep failing, this one among them if it does.
    pub failing: usize,
    /// Whether to try again before the time that a failure set, because another resource has come through.
    pub called: bool,
    /// What the operator may not do at all, in a sentence.
    pub forbidden: Option<String>,
    /// What the API server refused when the resource was looked at last.
    pub refusal: Option<String>,
}

impl World {
    /// What the cluster complains of about an object.
    pub fn complaint(&self, metadata: &ObjectMeta) -> Option<&Complaint> {
        self.complaints.get(metadata.uid.as_ref()?)
    }

    /// The claim named `name` among those that were read.
    pub fn claim(&self, name: &str) -> Option<&PersistentVolumeClaim> {
        [&self.given_claim, &self.own_claim, &self.job_claim]
            .into_iter()
            .flatten()
            .find(|claim| claim.metadata.name.as_deref() == Some(name))
    }
}
