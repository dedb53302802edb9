//! The snapshot kinds, as far as their fields matter here (external-snapshotter, API `snapshot.storage.k8s.io/v1`).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};

/// What is to be snapshotted.
#[derive(CustomResource, Clone, Debug, Default, Serialize, Deserialize)]
#[kube(
    group = "snapshot.storage.k8s.io",
    version = "v1",
    kind = "VolumeSnapshot",
    namespaced,
    status = "VolumeSnapshotStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeSnapshotSpec {
    #[serde(default)]
    pub(crate) source: SnapshotSource,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) volume_snapshot_class_name: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SnapshotSource {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) persistent_volume_claim_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) volume_snapshot_content_name: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeSnapshotStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bound_volume_snapshot_content_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) creation_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ready_to_use: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restore_size: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<SnapshotError>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SnapshotError {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<Time>,
}

/// The image behind a snapshot.
#[derive(CustomResource, Clone, Debug, Default, Serialize, Deserialize)]
#[kube(
    group = "snapshot.storage.k8s.io",
    version = "v1",
    kind = "VolumeSnapshotContent",
    status = "VolumeSnapshotContentStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeSnapshotContentSpec {
    /// `Delete` or `Retain`.
    pub(crate) deletion_policy: String,
    pub(crate) driver: String,
    pub(crate) source: ContentSource,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_volume_mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) volume_snapshot_class_name: Option<String>,
    pub(crate) volume_snapshot_ref: ObjectReference,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContentSource {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) volume_handle: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot_handle: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeSnapshotContentStatus {
    /// Nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) creation_time: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ready_to_use: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restore_size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot_handle: Option<String>,
}

/// A class of snapshots; it has no `spec`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeSnapshotClass {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) driver: String,
    #[serde(default)]
    pub(crate) deletion_policy: String,
}

impl kube::Resource for VolumeSnapshotClass {
    type DynamicType = ();
    type Scope = kube::core::ClusterResourceScope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        "VolumeSnapshotClass".into()
    }

    fn group((): &()) -> std::borrow::Cow<'_, str> {
        "snapshot.storage.k8s.io".into()
    }

    fn version((): &()) -> std::borrow::Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        "volumesnapshotclasses".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl VolumeSnapshot {
    /// Whether the data is there to be restored from.
    pub(crate) fn is_ready(&self) -> bool {
        self.status
            .as_ref()
            .is_some_and(|status| status.ready_to_use == Some(true))
    }

    /// The claim that it is, or is to be, a snapshot of.
    pub(crate) fn claim(&self) -> Option<&str> {
        self.spec.source.persistent_volume_claim_name.as_deref()
    }

    /// The bound content's name.
    pub(crate) fn content(&self) -> Option<&str> {
        self.status
            .as_ref()?
            .bound_volume_snapshot_content_name
            .as_deref()
    }
}

impl VolumeSnapshotContent {
    /// The image's name in the folder of volumes.
    pub(crate) fn image(&self) -> Option<&str> {
        let made = self
            .status
            .as_ref()
            .and_then(|status| status.snapshot_handle.as_deref());
        made.or(self.spec.source.snapshot_handle.as_deref())
    }

    /// When the data was as it is in the image.
    pub(crate) fn made_at(&self) -> Option<Timestamp> {
        Timestamp::from_nanosecond(self.status.as_ref()?.creation_time?.into()).ok()
    }
}
