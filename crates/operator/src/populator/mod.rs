//! The volume populator: a claim whose `dataSourceRef` names a `ReplicationDestination` becomes a volume with its latest
//! image.
//!
//! ```text
//!   claim waits ──► image marked, temporary claim made ──► temporary claim has a volume
//!                                                                │ volume moved over
//!   marks and temporary claim removed ◄── claim bound, temporary claim Lost
//! ```
//!
//! Kubernetes fills no claim with a foreign data source, and lets nobody take a volume out of a claim. So a temporary
//! claim is filled in its place, and its volume then refers to the user's claim instead. Nothing of this is stored: the
//! objects tell how far it is, so that an operator may stop anywhere.
//!
//! Invariant: an image is marked before anything is made from it, and a marked image is never deleted.
//! Invariant: nothing of the user's claim is written but the annotation that says that its filling was given up.

mod apply;
mod look;
mod observe;
mod plan;
mod registration;
#[cfg(test)]
mod tests;
mod watch;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use syncline_api::{GROUP, labels};

use crate::events::Regarded;
use crate::subject::owners;

pub(crate) use look::{Populator, Settings};
pub(crate) use registration::register;

/// The kind of what claims are filled from.
const DESTINATION: &str = "ReplicationDestination";

/// One claim that is to be filled. Another claim of the same name is another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClaimKey {
    namespace: String,
    name: String,
    uid: String,
}

impl ClaimKey {
    fn of(metadata: &ObjectMeta) -> Self {
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
        }
    }

    /// The name of the temporary claim.
    fn temporary(&self) -> String {
        format!("vs-prime-{}", self.uid)
    }

    /// The label of the images that it is filled from.
    fn mark(&self) -> String {
        format!("{}{}", labels::POPULATING_PREFIX, self.uid)
    }

    /// Its name, as far as it fits into a label's value.
    fn label_value(&self) -> &str {
        syncline_api::report::head(&self.name, syncline_api::names::LONGEST_LABEL)
            .trim_end_matches(['-', '.'])
    }

    /// Whether a claim is the temporary one for this one.
    fn controls(&self, metadata: &ObjectMeta) -> bool {
        owners(metadata).any(|owner| owner.controller == Some(true) && owner.uid == self.uid)
    }
}

impl std::fmt::Display for ClaimKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "PersistentVolumeClaim {}/{}",
            self.namespace, self.name
        )
    }
}

impl Regarded for ClaimKey {
    type Key = Self;

    fn key(&self) -> &Self {
        self
    }

    fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }
}

/// The destination that a claim is to be filled from, if it is one of its own namespace.
fn destination_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    let source = claim.spec.as_ref()?.data_source_ref.as_ref()?;
    let near = source
        .namespace
        .as_ref()
        .is_none_or(|namespace| claim.metadata.namespace.as_ref() == Some(namespace));
    (source.api_group.as_deref() == Some(GROUP) && source.kind == DESTINATION && near)
        .then_some(source.name.as_str())
}

/// The volume that a claim has or wants.
fn volume_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    let name = claim.spec.as_ref()?.volume_name.as_deref()?;
    Some(name).filter(|name| !name.is_empty())
}

fn phase_of(claim: &PersistentVolumeClaim) -> &str {
    claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}
