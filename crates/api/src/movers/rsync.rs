//! The rsync mover over ssh.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DestinationVolumeOptions, MoverConfig, SourceVolumeOptions};

/// Replication by rsync over ssh, sending side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncSourceSpec {
    /// How the point-in-time image is made.
    #[serde(flatten)]
    pub volume: SourceVolumeOptions,
    /// A `Secret` with the keys `source`, `source.pub` and `destination.pub`. Without it, keys are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_keys: Option<String>,
    /// Type of the Service that is made when `address` is absent. By default `ClusterIP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
    /// Address of the destination's ssh server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Port of the destination's ssh server. By default 22.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0, "maximum" = 65535))]
    pub port: Option<i32>,
    /// Folder in the destination's volume that is written to. By default `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Name to log in with at the destination. By default `root`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_user: Option<String>,
    /// How the mover's pod is to run. `moverSecurityContext`, `moverAffinity` and `moverVolumes` are additions of ours:
    /// `VolSync`'s definition drops them here, and annotations can stand for them, see [`crate::labels::MOVER_SECURITY_CONTEXT`].
    #[serde(flatten)]
    pub mover: MoverConfig,
}

/// Replication by rsync over ssh, receiving side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncDestinationSpec {
    /// Which volume is written to, and how its images are kept.
    #[serde(flatten)]
    pub volume: DestinationVolumeOptions,
    /// `Filesystem` or `Block`. By default `Filesystem`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<String>,
    /// A `Secret` with the keys `destination`, `destination.pub` and `source.pub`. Without it, keys are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_keys: Option<String>,
    /// Type of the Service that the source connects to. By default `ClusterIP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
    /// Annotations of that Service. Absent means the default annotation, an empty map none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_annotations: Option<BTreeMap<String, String>>,
    /// Address of a remote that this side connects to. Unused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Port of that Service. By default 22.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0, "maximum" = 65535))]
    pub port: Option<i32>,
    /// Folder in the volume that is written to. By default `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Name that the source logs in with. By default `root`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_user: Option<String>,
    /// How the mover's pod is to run. `moverSecurityContext`, `moverAffinity` and `moverVolumes` are additions of ours:
    /// `VolSync`'s definition drops them here, and annotations can stand for them, see [`crate::labels::MOVER_SECURITY_CONTEXT`].
    #[serde(flatten)]
    pub mover: MoverConfig,
}
