//! What the movers' specs have in common; each mover's own fields are in a module of its own.

pub mod rclone;
pub mod restic;
pub mod rsync;
pub mod rsync_tls;
pub mod syncthing;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, NFSVolumeSource, PersistentVolumeClaimVolumeSource, PodSecurityContext,
    ResourceRequirements, SecretVolumeSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When to synchronize. `manual` takes precedence over `schedule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriggerSpec {
    /// A cron expression of five fields (minute, hour, day of month, month, day of week), or one of `@hourly`,
    /// `@daily`, `@weekly`, `@monthly`, `@yearly`; `CRON_TZ=<zone> ` may precede it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = crate::schema::SCHEDULE_PATTERN))]
    pub schedule: Option<String>,
    /// Any text. Each change of it asks for one run; once that has ended, `status.lastManualSync` has the same text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manual: Option<String>,
}

/// Replication by somebody else's controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalSpec {
    /// Name of the provider, such as `example.com/replicator`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Settings that only the provider understands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<BTreeMap<String, String>>,
}

/// How a point-in-time image of a volume is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyMethod {
    /// No image: the volume itself is read or written.
    Direct,
    /// The old name of `Direct`.
    None,
    /// A clone of the volume. Sources only.
    Clone,
    /// A snapshot of the volume.
    Snapshot,
}

impl CopyMethod {
    /// The names that the schema admits, in `VolSync`'s order.
    pub const NAMES: [&'static str; 4] = ["Direct", "None", "Clone", "Snapshot"];

    /// Whether the volume itself is used.
    pub fn is_direct(self) -> bool {
        matches!(self, Self::Direct | Self::None)
    }
}

impl JsonSchema for CopyMethod {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CopyMethod".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "enum": Self::NAMES })
    }
}

/// How a source's point-in-time image is made, and what it is stored on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceVolumeOptions {
    /// How the point-in-time image of the volume is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_method: Option<CopyMethod>,
    /// Size of the image's volume. By default that of the source volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Quantity>,
    /// Storage class of the image's volume. By default that of the source volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// Access modes of the image's volume. By default those of the source volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minItems" = 1))]
    pub access_modes: Option<Vec<String>>,
    /// Class of the snapshot. By default the cluster's default class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshot_class_name: Option<String>,
}

/// Which volume a destination writes to, and how its images are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationVolumeOptions {
    /// How the image is kept when the data has arrived. `Clone` is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_method: Option<CopyMethod>,
    /// Size of the volume to make. Needed unless `destinationPVC` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Quantity>,
    /// Storage class of the volume to make. By default the cluster's default class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// Access modes of the volume to make. Needed unless `destinationPVC` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minItems" = 1))]
    pub access_modes: Option<Vec<String>>,
    /// Class of the snapshot. By default the cluster's default class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshot_class_name: Option<String>,
    /// An existing `PersistentVolumeClaim` to write to, instead of one made for the purpose.
    #[serde(rename = "destinationPVC", skip_serializing_if = "Option::is_none")]
    pub destination_pvc: Option<String>,
    /// Removes the volume that was made for the purpose after each run.
    #[serde(rename = "cleanupTempPVC", skip_serializing_if = "Option::is_none")]
    pub cleanup_temp_pvc: Option<bool>,
}

/// How the mover's pod is to run. In `VolSync`'s `spec.rsync` only a part of it is there: the service account, the labels
/// and the resources.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MoverConfig {
    /// Security context of the mover's pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover_security_context: Option<PodSecurityContext>,
    /// An existing service account for the mover's pod, instead of one made for the purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover_service_account: Option<String>,
    /// Further labels of the mover's pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover_pod_labels: Option<BTreeMap<String, String>>,
    /// Compute resources of the mover's container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover_resources: Option<ResourceRequirements>,
    /// Where the mover's pod may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover_affinity: Option<Affinity>,
    /// Further volumes of the mover's pod, mounted below `/mnt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover_volumes: Option<Vec<MoverVolume>>,
}

/// A further volume of a mover's pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MoverVolume {
    /// Path below `/mnt` at which the volume is mounted.
    pub mount_path: String,
    /// What is mounted.
    pub volume_source: MoverVolumeSource,
}

/// What a further volume holds: one of the three.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MoverVolumeSource {
    /// A `Secret` of the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolumeSource>,
    /// An NFS export.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nfs: Option<NFSVolumeSource>,
    /// A `PersistentVolumeClaim` of the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
}

/// Where a certificate authority's certificate is found. The `Secret` wins when both are named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomCa {
    /// A `Secret` that holds the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// A `ConfigMap` that holds the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_name: Option<String>,
    /// The key under which the certificate is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}
