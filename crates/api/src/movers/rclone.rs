//! The rclone mover.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CustomCa, DestinationVolumeOptions, MoverConfig, SourceVolumeOptions};

/// Which rclone remote is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RcloneRemote {
    /// Section of `rclone.conf` that describes the remote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone_config_section: Option<String>,
    /// Path at the remote, bucket included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone_dest_path: Option<String>,
    /// A `Secret` that holds `rclone.conf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone_config: Option<String>,
    /// Certificate authority of the remote.
    #[serde(rename = "customCA", skip_serializing_if = "Option::is_none")]
    pub custom_ca: Option<CustomCa>,
}

impl RcloneRemote {
    /// Section and path as rclone writes them, `s3:bucket/db`; `None` where one of them is not given.
    pub fn address(&self) -> Option<String> {
        let (section, path) = (&self.rclone_config_section, &self.rclone_dest_path);
        Some(format!("{}:{}", section.as_ref()?, path.as_ref()?))
    }
}

/// Replication to an rclone remote.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RcloneSourceSpec {
    /// How the point-in-time image is made.
    #[serde(flatten)]
    pub volume: SourceVolumeOptions,
    /// Which remote is written to.
    #[serde(flatten)]
    pub remote: RcloneRemote,
    /// How the mover's pod is to run.
    #[serde(flatten)]
    pub mover: MoverConfig,
}

/// Replication from an rclone remote.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RcloneDestinationSpec {
    /// Which volume is written to, and how its images are kept.
    #[serde(flatten)]
    pub volume: DestinationVolumeOptions,
    /// Which remote is read from.
    #[serde(flatten)]
    pub remote: RcloneRemote,
    /// How the mover's pod is to run.
    #[serde(flatten)]
    pub mover: MoverConfig,
}
