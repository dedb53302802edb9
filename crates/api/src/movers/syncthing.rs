//! The Syncthing mover.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MoverConfig;

/// Live synchronization with other devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncthingSpec {
    /// The devices to synchronize with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<SyncthingPeer>>,
    /// Type of the Service that other devices connect to. By default `ClusterIP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
    /// Size of the volume for Syncthing's configuration. By default 1Gi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_capacity: Option<Quantity>,
    /// Storage class of the volume for Syncthing's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_storage_class_name: Option<String>,
    /// Access modes of the volume for Syncthing's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_access_modes: Option<Vec<String>>,
    /// How the mover's pod is to run.
    #[serde(flatten)]
    pub mover: MoverConfig,
}

/// A device to synchronize with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncthingPeer {
    /// Address of the device, such as `tcp://192.0.2.7:22000`.
    pub address: String,
    /// Device id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Whether that device may introduce further ones.
    pub introducer: bool,
}
