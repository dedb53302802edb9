//! The resource at hand, without the difference between its two kinds.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use syncline_api::movers::TriggerSpec;
use syncline_api::{
    ReplicationDestination, ReplicationDestinationSpec, ReplicationSource, ReplicationSourceSpec,
};

use crate::kinds::{Key, Side, kind_of};
use crate::status::{MEMORY, Memory, State};

/// Either kind's spec.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    /// Of a `ReplicationSource`.
    Source(Box<ReplicationSourceSpec>),
    /// Of a `ReplicationDestination`.
    Destination(Box<ReplicationDestinationSpec>),
}

/// One `ReplicationSource` or `ReplicationDestination` as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Kind, namespace and name.
    pub key: Key,
    /// The uid, by which everything it owns is known.
    pub uid: String,
    /// For the precondition of status writes.
    pub resource_version: Option<String>,
    /// The generation of the spec.
    pub generation: Option<i64>,
    /// Set when it is on its way out.
    pub deleting: bool,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// What the user asks for.
    pub spec: Spec,
    /// What its status says, and what is remembered elsewhere because its definition has no field for it.
    pub state: State,
}

impl Subject {
    /// Reads a source.
    pub fn of_source(source: &ReplicationSource) -> Self {
        let state = source.status.as_ref().map(State::of_source);
        Self::new(
            Side::Source,
            &source.metadata,
            Spec::Source(Box::new(source.spec.clone())),
            state,
        )
    }

    /// Reads a destination.
    pub fn of_destination(destination: &ReplicationDestination) -> Self {
        let state = destination.status.as_ref().map(State::of_destination);
        Self::new(
            Side::Destination,
            &destination.metadata,
            Spec::Destination(Box::new(destination.spec.clone())),
            state,
        )
    }

    fn new(side: Side, metadata: &ObjectMeta, spec: Spec, state: Option<State>) -> Self {
        let mut state = state.unwrap_or_default();
        if let Some(kept) = annotation(metadata, MEMORY) {
            Memory::read(kept).fill(&mut state);
        }
        Self {
            key: Key {
                side,
                namespace: metadata.namespace.clone().unwrap_or_default(),
                name: metadata.name.clone().unwrap_or_default(),
            },
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone(),
            generation: metadata.generation,
            deleting: metadata.deletion_timestamp.is_some(),
            annotations: metadata.annotations.clone().unwrap_or_default(),
            spec,
            state,
        }
    }

    /// When the user wants it to run.
    pub fn trigger(&self) -> Option<&TriggerSpec> {
        match &self.spec {
            Spec::Source(spec) => spec.trigger.as_ref(),
            Spec::Destination(spec) => spec.trigger.as_ref(),
        }
    }

    /// Whether the user holds the transfer.
    pub fn paused(&self) -> bool {
        let paused = match &self.spec {
            Spec::Source(spec) => spec.paused,
            Spec::Destination(spec) => spec.paused,
        };
        paused.unwrap_or(false)
    }

    /// The owner reference that everything made for it carries.
    pub fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: syncline_api::API_VERSION.to_owned(),
            kind: kind_of(self.key.side).to_owned(),
            name: self.key.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    /// The reference by which events name it.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(syncline_api::API_VERSION.to_owned()),
            kind: Some(kind_of(self.key.side).to_owned()),
            namespace: Some(self.key.namespace.clone()),
            name: Some(self.key.name.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }

    /// Whether `metadata` is of an object that this resource controls.
    pub fn owns(&self, metadata: &ObjectMeta) -> bool {
        owners(metadata).any(|owner| owner.uid == self.uid && owner.controller == Some(true))
    }
}

/// All owner references of an object.
pub fn owners(metadata: &ObjectMeta) -> impl Iterator<Item = &OwnerReference> {
    metadata.owner_references.iter().flatten()
}

/// Whether an object carries `label` with `value`.
pub fn has_label(metadata: &ObjectMeta, label: &str, value: &str) -> bool {
    metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(label))
        .is_some_and(|known| known == value)
}

/// The value of an object's annotation.
pub fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}
