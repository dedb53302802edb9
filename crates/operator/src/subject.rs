//! The resource at hand, without the difference between its two kinds.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use syncline_api::movers::rclone::RcloneRemote;
use syncline_api::movers::{
    CopyMethod, DestinationVolumeOptions, MoverConfig, SourceVolumeOptions, TriggerSpec,
};
use syncline_api::names::Mover;
use syncline_api::{
    ReplicationDestination, ReplicationDestinationSpec, ReplicationSource, ReplicationSourceSpec,
};

use crate::kinds::{Key, Side, kind_of};
use crate::options::BUILT;
use crate::status::{MEMORY, Memory, State};

/// Either kind's spec.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    /// Of a `ReplicationSource`.
    Source(Box<ReplicationSourceSpec>),
    /// Of a `ReplicationDestination`.
    Destination(Box<ReplicationDestinationSpec>),
}

impl Spec {
    /// The movers that it chooses, in the order of the API.
    pub fn movers(&self) -> Vec<Mover> {
        let present = match self {
            Self::Source(spec) => [
                spec.rsync.is_some(),
                spec.rsync_tls.is_some(),
                spec.rclone.is_some(),
                spec.restic.is_some(),
                spec.syncthing.is_some(),
            ],
            Self::Destination(spec) => [
                spec.rsync.is_some(),
                spec.rsync_tls.is_some(),
                spec.rclone.is_some(),
                spec.restic.is_some(),
                false,
            ],
        };
        let chosen = Mover::ALL
            .into_iter()
            .zip(present)
            .filter_map(|(mover, present)| present.then_some(mover));
        chosen.collect()
    }

    /// The mover whose objects are looked for and named: the first of those chosen that this version has. Where none is, it
    /// is rsync, which stands for all that was ever made.
    pub fn acting_mover(&self) -> Mover {
        let mut chosen = self.movers().into_iter();
        chosen
            .find(|mover| BUILT.contains(mover))
            .unwrap_or(Mover::Rsync)
    }

    /// How the pod of a mover is to run.
    pub fn mover_config(&self, mover: Mover) -> Option<&MoverConfig> {
        match (self, mover) {
            (Self::Source(spec), Mover::Rsync) => spec.rsync.as_ref().map(|spec| &spec.mover),
            (Self::Source(spec), Mover::RsyncTls) => {
                spec.rsync_tls.as_ref().map(|spec| &spec.mover)
            }
            (Self::Source(spec), Mover::Rclone) => spec.rclone.as_ref().map(|spec| &spec.mover),
            (Self::Source(spec), Mover::Restic) => spec.restic.as_ref().map(|spec| &spec.mover),
            (Self::Source(spec), Mover::Syncthing) => {
                spec.syncthing.as_ref().map(|spec| &spec.mover)
            }
            (Self::Destination(spec), Mover::Rsync) => spec.rsync.as_ref().map(|spec| &spec.mover),
            (Self::Destination(spec), Mover::RsyncTls) => {
                spec.rsync_tls.as_ref().map(|spec| &spec.mover)
            }
            (Self::Destination(spec), Mover::Rclone) => {
                spec.rclone.as_ref().map(|spec| &spec.mover)
            }
            (Self::Destination(spec), Mover::Restic) => {
                spec.restic.as_ref().map(|spec| &spec.mover)
            }
            (Self::Destination(_), Mover::Syncthing) => None,
        }
    }

    /// The volume of a mover, if this version has the mover and the spec chooses it.
    pub fn volume(&self, mover: Mover) -> Option<VolumeOptions<'_>> {
        match (self, mover) {
            (Self::Source(spec), Mover::Rsync) => {
                let rsync = spec.rsync.as_ref()?;
                Some(VolumeOptions::Source(&rsync.volume))
            }
            (Self::Source(spec), Mover::Rclone) => {
                let rclone = spec.rclone.as_ref()?;
                Some(VolumeOptions::Source(&rclone.volume))
            }
            (Self::Destination(spec), Mover::Rsync) => {
                let rsync = spec.rsync.as_ref()?;
                Some(VolumeOptions::Destination(&rsync.volume))
            }
            (Self::Destination(spec), Mover::Rclone) => {
                let rclone = spec.rclone.as_ref()?;
                Some(VolumeOptions::Destination(&rclone.volume))
            }
            (_, Mover::RsyncTls | Mover::Restic | Mover::Syncthing) => None,
        }
    }

    /// The user's Secret with ssh keys.
    pub fn ssh_keys(&self) -> Option<&String> {
        match self {
            Self::Source(spec) => spec.rsync.as_ref()?.ssh_keys.as_ref(),
            Self::Destination(spec) => spec.rsync.as_ref()?.ssh_keys.as_ref(),
        }
    }

    /// rclone's remote.
    pub fn remote(&self) -> Option<&RcloneRemote> {
        match self {
            Self::Source(spec) => Some(&spec.rclone.as_ref()?.remote),
            Self::Destination(spec) => Some(&spec.rclone.as_ref()?.remote),
        }
    }

    /// The user's claim: a source's, or the one that a destination is to write to.
    pub fn given_claim(&self, mover: Mover) -> Option<&String> {
        match (self, self.volume(mover)) {
            (Self::Source(spec), _) => spec.source_pvc.as_ref(),
            (_, Some(VolumeOptions::Destination(options))) => options.destination_pvc.as_ref(),
            _ => None,
        }
    }
}

/// Either side's volume, as a spec has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum VolumeOptions<'a> {
    /// What is sent.
    Source(&'a SourceVolumeOptions),
    /// What is written to.
    Destination(&'a DestinationVolumeOptions),
}

impl<'a> VolumeOptions<'a> {
    /// The storage class of what is made.
    pub fn storage_class(self) -> Option<&'a String> {
        match self {
            Self::Source(options) => options.storage_class_name.as_ref(),
            Self::Destination(options) => options.storage_class_name.as_ref(),
        }
    }

    /// The class of snapshots.
    pub fn snapshot_class(self) -> Option<&'a String> {
        match self {
            Self::Source(options) => options.volume_snapshot_class_name.as_ref(),
            Self::Destination(options) => options.volume_snapshot_class_name.as_ref(),
        }
    }

    /// Whether the volume itself is used.
    pub fn is_direct(self) -> bool {
        let method = match self {
            Self::Source(options) => options.copy_method,
            Self::Destination(options) => options.copy_method,
        };
        method.is_some_and(CopyMethod::is_direct)
    }
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
