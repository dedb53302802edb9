//! The rsync mover over TLS with a pre-shared key.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DestinationVolumeOptions, MoverConfig, SourceVolumeOptions};

/// Replication by rsync over TLS, sending side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncTlsSourceSpec {
    /// How the point-in-time image is made.
    #[serde(flatten)]
    pub volume: SourceVolumeOptions,
    /// A `Secret` with the pre-shared key under `psk.txt`. Without it, one is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_secret: Option<String>,
    /// Address of the destination's server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Port of the destination's server. By default 8000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0, "maximum" = 65535))]
    pub port: Option<i32>,
    /// How the mover's pod is to run.
    #[serde(flatten)]
    pub mover: MoverConfig,
}

/// Replication by rsync over TLS, receiving side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncTlsDestinationSpec {
    /// Which volume is written to, and how its images are kept.
    #[serde(flatten)]
    pub volume: DestinationVolumeOptions,
    /// `Filesystem` or `Block`. By default `Filesystem`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<String>,
    /// A `Secret` with the pre-shared key under `psk.txt`. Without it, one is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_secret: Option<String>,
    /// Type of the Service that the source connects to. By default `ClusterIP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
    /// Annotations of that Service. Absent means the default annotation, an empty map none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_annotations: Option<BTreeMap<String, String>>,
    /// How the mover's pod is to run.
    #[serde(flatten)]
    pub mover: MoverConfig,
}
