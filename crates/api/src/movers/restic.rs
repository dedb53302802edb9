//! The restic mover.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CustomCa, DestinationVolumeOptions, MoverConfig, SourceVolumeOptions};

/// The volume that restic keeps its cache on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResticCache {
    /// Size of the cache volume. By default 1Gi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_capacity: Option<Quantity>,
    /// Storage class of the cache volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_storage_class_name: Option<String>,
    /// Access modes of the cache volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_access_modes: Option<Vec<String>>,
}

/// Which snapshots of a repository are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResticRetain {
    /// How many hourly snapshots are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hourly: Option<i32>,
    /// How many daily snapshots are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily: Option<i32>,
    /// How many weekly snapshots are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekly: Option<i32>,
    /// How many monthly snapshots are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly: Option<i32>,
    /// How many yearly snapshots are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yearly: Option<i32>,
    /// Every snapshot of this span of time is kept, such as `3w1d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// How many of the latest snapshots are kept. A string, as in `VolSync`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// What a backup leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResticExclude {
    /// Leaves out folders that are marked with a `CACHEDIR.TAG` file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caches: Option<bool>,
}

/// Backup to a restic repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResticSourceSpec {
    /// How the point-in-time image is made.
    #[serde(flatten)]
    pub volume: SourceVolumeOptions,
    /// A `Secret` that describes the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Certificate authority of the repository's server.
    #[serde(rename = "customCA", skip_serializing_if = "Option::is_none")]
    pub custom_ca: Option<CustomCa>,
    /// Days between two prunings of the repository. By default 7.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune_interval_days: Option<i32>,
    /// Which snapshots are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain: Option<ResticRetain>,
    /// What the backup leaves out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<ResticExclude>,
    /// Any text. Each change of it removes the repository's locks before the next backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlock: Option<String>,
    /// The cache's volume.
    #[serde(flatten)]
    pub cache: ResticCache,
    /// How the mover's pod is to run.
    #[serde(flatten)]
    pub mover: MoverConfig,
}

/// Restore from a restic repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResticDestinationSpec {
    /// Which volume is written to, and how its images are kept.
    #[serde(flatten)]
    pub volume: DestinationVolumeOptions,
    /// A `Secret` that describes the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Certificate authority of the repository's server.
    #[serde(rename = "customCA", skip_serializing_if = "Option::is_none")]
    pub custom_ca: Option<CustomCa>,
    /// The cache's volume.
    #[serde(flatten)]
    pub cache: ResticCache,
    /// Removes the cache's volume after each run.
    #[serde(rename = "cleanupCachePVC", skip_serializing_if = "Option::is_none")]
    pub cleanup_cache_pvc: Option<bool>,
    /// How many snapshots before the newest eligible one is restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<i32>,
    /// Only snapshots made at or before this time are eligible.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub restore_as_of: Option<String>,
    /// Deletes files that the snapshot does not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_file_deletion: Option<bool>,
    /// How the mover's pod is to run.
    #[serde(flatten)]
    pub mover: MoverConfig,
}
