//! `ReplicationDestination`: where data arrives, and how its images are kept.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::movers::rclone::RcloneDestinationSpec;
use crate::movers::restic::ResticDestinationSpec;
use crate::movers::rsync::RsyncDestinationSpec;
use crate::movers::rsync_tls::RsyncTlsDestinationSpec;
use crate::movers::{ExternalSpec, TriggerSpec};
use crate::resource::custom_resource;
use crate::status::{
    MoverStatus, Progress, RcloneDestinationStatus, Retry, RsyncDestinationStatus,
    RsyncTlsDestinationStatus,
};

custom_resource! {
    /// A volume to be replicated into: with which mover, when, and how its images are kept.
    ReplicationDestination {
        spec: ReplicationDestinationSpec,
        status: ReplicationDestinationStatus,
        plural: "replicationdestinations",
        singular: "replicationdestination",
        columns: crate::crd::DESTINATION_COLUMNS
    }
}

/// The wanted state of a replication destination. Exactly one mover is to be chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationDestinationSpec {
    /// When to synchronize. Without it, one run follows the other, as a destination that is pushed to wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<TriggerSpec>,
    /// Replication by rsync over ssh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsync: Option<RsyncDestinationSpec>,
    /// Replication by rsync over TLS with a pre-shared key.
    #[serde(rename = "rsyncTLS", skip_serializing_if = "Option::is_none")]
    pub rsync_tls: Option<RsyncTlsDestinationSpec>,
    /// Replication from an object store or another rclone remote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone: Option<RcloneDestinationSpec>,
    /// Restore from a restic repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restic: Option<ResticDestinationSpec>,
    /// Replication by a provider outside of this operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalSpec>,
    /// Holds the data transfer while true. Absent means false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// The observed state of a replication destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationDestinationStatus {
    /// When the last successful synchronization ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<Time>,
    /// When the running synchronization began. Absent while none runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync_start_time: Option<Time>,
    /// How long the last successful synchronization took.
    #[serde(
        default,
        deserialize_with = "crate::status::known_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub last_sync_duration: Option<GoDuration>,
    /// When the next scheduled synchronization is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_sync_time: Option<Time>,
    /// The last `spec.trigger.manual` whose synchronization has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_manual_sync: Option<String>,
    /// The newest complete copy of the data: a `VolumeSnapshot`, or the `PersistentVolumeClaim` itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_image: Option<TypedLocalObjectReference>,
    /// Outcome and log of the mover's latest run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_mover_status: Option<MoverStatus>,
    /// What the operator has to say of this object's state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// What an external provider reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<BTreeMap<String, String>>,
    /// State of the rsync mover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsync: Option<RsyncDestinationStatus>,
    /// State of the rsync over TLS mover.
    #[serde(rename = "rsyncTLS", skip_serializing_if = "Option::is_none")]
    pub rsync_tls: Option<RsyncTlsDestinationStatus>,
    /// Syncline: state of the rclone mover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone: Option<RcloneDestinationStatus>,
    /// Syncline: how far the running synchronization has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Syncline: failed tries since the last success and the time of the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}
