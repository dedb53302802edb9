//! `ReplicationSource`: where data comes from, when it is sent and by which mover.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::movers::rclone::RcloneSourceSpec;
use crate::movers::restic::ResticSourceSpec;
use crate::movers::rsync::RsyncSourceSpec;
use crate::movers::rsync_tls::RsyncTlsSourceSpec;
use crate::movers::syncthing::SyncthingSpec;
use crate::movers::{ExternalSpec, TriggerSpec};
use crate::resource::custom_resource;
use crate::status::{MoverStatus, Progress, Retry};
use crate::status::{
    RcloneSourceStatus, ResticSourceStatus, RsyncSourceStatus, RsyncTlsSourceStatus,
    SyncthingStatus,
};

custom_resource! {
    /// A volume to be replicated from: which claim, when, and with which mover.
    ReplicationSource {
        spec: ReplicationSourceSpec,
        status: ReplicationSourceStatus,
        plural: "replicationsources",
        singular: "replicationsource",
        columns: crate::crd::SOURCE_COLUMNS
    }
}

/// The wanted state of a replication source. Exactly one mover is to be chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationSourceSpec {
    /// Name of the `PersistentVolumeClaim` to replicate, in the same namespace.
    #[serde(rename = "sourcePVC", skip_serializing_if = "Option::is_none")]
    pub source_pvc: Option<String>,
    /// When to synchronize. Without it, one run follows the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<TriggerSpec>,
    /// Replication by rsync over ssh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsync: Option<RsyncSourceSpec>,
    /// Replication by rsync over TLS with a pre-shared key.
    #[serde(rename = "rsyncTLS", skip_serializing_if = "Option::is_none")]
    pub rsync_tls: Option<RsyncTlsSourceSpec>,
    /// Replication to an object store or another rclone remote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone: Option<RcloneSourceSpec>,
    /// Backup to a restic repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restic: Option<ResticSourceSpec>,
    /// Live synchronization with other devices by Syncthing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syncthing: Option<SyncthingSpec>,
    /// Replication by a provider outside of this operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalSpec>,
    /// Holds the data transfer while true. Absent means false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// The observed state of a replication source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationSourceStatus {
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
    pub rsync: Option<RsyncSourceStatus>,
    /// State of the rsync over TLS mover.
    #[serde(rename = "rsyncTLS", skip_serializing_if = "Option::is_none")]
    pub rsync_tls: Option<RsyncTlsSourceStatus>,
    /// Syncline: state of the rclone mover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone: Option<RcloneSourceStatus>,
    /// State of the restic mover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restic: Option<ResticSourceStatus>,
    /// State of the Syncthing mover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syncthing: Option<SyncthingStatus>,
    /// Syncline: how far the running synchronization has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Syncline: failed tries since the last success and the time of the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}
