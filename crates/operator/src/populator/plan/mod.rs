//! What is to be done for one claim. Pure.

mod begin;
mod end;
mod fill;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::look::Settings;
use super::observe::World;
use super::{ClaimKey, volume_of};
use crate::plan::{Change, Existing, Kind, Note};

/// The action of every event; `VolSync`'s.
const ACTION: &str = "Provision Volume";
/// `VolSync`'s reasons.
mod reason {
    pub(super) const FINISHED: &str = "VolSyncPopulatorFinished";
    pub(super) const ERROR: &str = "VolSyncPopulatorError";
    pub(super) const NO_DESTINATION: &str = "VolSyncPopulatorReplicationDestinationMissing";
    pub(super) const NO_IMAGE: &str = "VolSyncPopulatorReplicationDestinationNoLatestImage";
    pub(super) const CLAIM_MADE: &str = "VolSyncPopulatorPVCCreated";
    pub(super) const CLAIM_NOT_MADE: &str = "VolSyncPopulatorPVCCreationError";
    pub(super) const NOT_BOUND: &str = "PersistentVolumeClaimNotBound";
}

/// Everything that a plan depends on.
pub(super) struct Input<'a> {
    pub(super) key: &'a ClaimKey,
    pub(super) world: &'a World,
    pub(super) settings: &'a Settings,
    pub(super) now: Timestamp,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    /// A claim or a snapshot in the claim's namespace.
    Change(Change),
    /// The temporary claim.
    Create(Box<PersistentVolumeClaim>),
    /// The temporary claim's volume is to be the claim's.
    Move {
        /// The volume.
        volume: String,
        /// The merge patch, with preconditions.
        patch: Value,
    },
    /// The temporary claim, or an image that nobody else looks after.
    Delete(Existing),
}

/// What is to be done, in this order: the writes, then the events.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) writes: Vec<Write>,
    pub(super) events: Vec<Note>,
    /// When to look again, if nothing happens before.
    pub(super) wake: Option<Timestamp>,
}

impl Plan {
    /// The event that tells of a write which the API server refuses. What time mends needs none.
    pub(super) fn complaint(&self, error: &crate::apply::Error) -> Option<Note> {
        let crate::apply::Error::Refused { .. } = error else {
            return None;
        };
        let makes_claim = self
            .writes
            .iter()
            .any(|write| matches!(write, Write::Create(_)));
        let reason = if makes_claim {
            reason::CLAIM_NOT_MADE
        } else {
            reason::ERROR
        };
        Some(note(true, reason, error.to_string(), None))
    }

    fn warn(&mut self, reason: &'static str, text: String, related: Option<ObjectReference>) {
        self.events.push(note(true, reason, text, related));
    }

    fn tell(&mut self, reason: &'static str, text: String, related: Option<ObjectReference>) {
        self.events.push(note(false, reason, text, related));
    }
}

/// Plans the next steps.
pub(super) fn plan(input: &Input<'_>) -> Plan {
    let mut plan = Plan::default();
    let world = input.world;
    let claim = world
        .claim
        .as_ref()
        .filter(|claim| claim.metadata.deletion_timestamp.is_none());
    let Some(claim) = claim else {
        end::give_up(&mut plan, input);
        return plan;
    };
    if super::destination_of(claim).is_none() {
        // A mark of somebody else's, for a claim that is none of ours.
        return plan;
    }
    match (volume_of(claim), &world.temporary) {
        (Some(volume), _) => end::finish(&mut plan, input, volume),
        (None, _) if input.settings.namespace.is_some() => forbid(&mut plan, input),
        (None, Some(temporary)) => fill::go_on(&mut plan, input, claim, temporary),
        (None, None) => begin::begin(&mut plan, input, claim),
    }
    plan
}

/// What an operator of one namespace cannot do.
fn forbid(plan: &mut Plan, input: &Input<'_>) {
    let text = format!(
        "this operator watches namespace {} only and may not touch PersistentVolumes and StorageClasses, which filling a \
         claim takes; run it for all namespaces, or make the claim with dataSourceRef VolumeSnapshot and the name in the \
         ReplicationDestination's status.latestImage",
        input.key.namespace
    );
    plan.warn(reason::ERROR, text, None);
}

fn note(
    warning: bool,
    reason: &'static str,
    text: String,
    related: Option<ObjectReference>,
) -> Note {
    Note {
        warning,
        reason,
        action: ACTION,
        text,
        related,
    }
}

/// An object as it was seen: a write to it fails if it has changed since.
fn seen(kind: Kind, metadata: &ObjectMeta) -> Existing {
    Existing {
        kind,
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone(),
    }
}

fn related(kind: &str, api_version: &str, metadata: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

fn has_label(metadata: &ObjectMeta, label: &str) -> bool {
    metadata
        .labels
        .as_ref()
        .is_some_and(|all| all.contains_key(label))
}
