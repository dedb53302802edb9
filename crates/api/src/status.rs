//! The parts of which both kinds' status is made.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a mover's run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MoverResult {
    /// Everything was transferred.
    Successful,
    /// The run ended without having transferred everything.
    Failed,
}

crate::schema::plain_string!(MoverResult);

/// Outcome and log of a mover's run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MoverStatus {
    /// `Successful` or `Failed`.
    #[serde(
        default,
        deserialize_with = "known_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub result: Option<MoverResult>,
    /// The last lines of the mover's log, filtered; at most 1024 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<String>,
}

/// Reads a value that the schema admits as any text; a text that means nothing here is taken for absent. An error would
/// make the whole object unreadable, and with it the list it is in.
pub(crate) fn known_or_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    let value = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(value.and_then(|value| serde_json::from_value(value).ok()))
}

/// How far a running transfer has come. Totals are absent while the mover does not know them yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What the mover is doing, one `CamelCase` word such as `Transferring`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Bytes dealt with so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_done: Option<i64>,
    /// Bytes to be dealt with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<i64>,
    /// Files dealt with so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_done: Option<i64>,
    /// Files to be dealt with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_total: Option<i64>,
}

impl Progress {
    /// What a mover says that it does while it waits for a new version, which nothing is lost by ending.
    pub const WAITING: &str = "Waiting";

    /// What a mover says that it does while it looks whether what it has fetched stays the same in the store.
    pub const RESTING: &str = "Resting";

    /// Does the mover do nothing but wait?
    pub fn waits(&self) -> bool {
        self.phase.as_deref() == Some(Self::WAITING)
    }

    /// Does the mover let the store rest?
    pub fn rests(&self) -> bool {
        self.phase.as_deref() == Some(Self::RESTING)
    }
}

/// Failures in a row, why the last of them failed, and when the next try is due.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Failed tries since the last success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<i32>,
    /// Why the last of them failed, until the spec or the configuration of its store changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// When the next try begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Time>,
}

/// State of the rsync mover at a source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncSourceStatus {
    /// Secret with the keys for the other side, if this side made them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_keys: Option<String>,
    /// Address to connect to for the other side's mover, if this side listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Port to connect to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Syncline: entries the volume held at the last successful run, `lost+found` apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_synced_entries: Option<i64>,
    /// Syncline: the value of the annotation `syncline.dev/allow-empty-source` that was last used up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_empty_source: Option<String>,
}

/// State of the rsync mover at a destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncDestinationStatus {
    /// Secret with the keys for the source, if this side made them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_keys: Option<String>,
    /// Address that the source connects to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Port that the source connects to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// State of the rsync over TLS mover at a source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncTlsSourceStatus {
    /// Secret with the pre-shared key, if this side made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_secret: Option<String>,
}

/// State of the rsync over TLS mover at a destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncTlsDestinationStatus {
    /// Secret with the pre-shared key, if this side made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_secret: Option<String>,
    /// Address that the source connects to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Port that the source connects to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// State of the rclone mover at a source. All of it is Syncline's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RcloneSourceStatus {
    /// Syncline: the version of the data in the store that the last successful run ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// Syncline: which volume it was sent from, as a checksum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Syncline: entries the volume held at the last successful run, `lost+found` apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_synced_entries: Option<i64>,
    /// Syncline: the value of the annotation `syncline.dev/allow-empty-source` that was last used up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_empty_source: Option<String>,
    /// Syncline: the value of the annotation `syncline.dev/rclone-take-over` that was used up. It counts again once the
    /// annotation was gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_over: Option<String>,
    /// Syncline: the last successful run wrote to the path without having been let see whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blind: Option<bool>,
    /// Syncline: successful runs since everything was last compared with the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs_since_full_check: Option<i32>,
    /// Syncline: the versions of the configuration that the last failed run was made with; others are tried at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tried_with: Option<String>,
}

/// State of the rclone mover at a destination. All of it is Syncline's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RcloneDestinationStatus {
    /// Syncline: the version of the data in the store that the last successful run received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// Syncline: which volume it was received into, as a checksum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Syncline: the versions of the configuration that the last failed run was made with; others are tried at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tried_with: Option<String>,
}

/// State of the restic mover at a source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResticSourceStatus {
    /// When the repository was last pruned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_pruned: Option<Time>,
    /// The last `spec.restic.unlock` that was acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_unlocked: Option<String>,
}

/// State of the Syncthing mover.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncthingStatus {
    /// The device id of this Syncthing.
    #[serde(rename = "ID", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Address that other devices connect to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The devices that this one knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<SyncthingPeerStatus>>,
}

/// What is known of another device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncthingPeerStatus {
    /// Address of the device.
    pub address: String,
    /// Device id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Whether the device is connected now.
    pub connected: bool,
    /// Id of the device that introduced this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub introduced_by: Option<String>,
    /// The name the device gives itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
